"""Messages to the bytes of a chat-completions request: append-only, each message encoded once.

The body is `{constants…,"tools":[…],"messages":[m1,m2,…]}`, messages last: a request without its final `]}`
is the beginning of the next one, so that a server finds in its prefix cache all that it has read before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Call, Message, Result, Think

#: Put between two messages of the user when no reply came between them (a stopped turn): many chat templates
#: refuse a conversation whose roles do not alternate.
INTERRUPTED = "(interrupted)"

#: Names under which servers report reasoning; it goes back under the one it came by (`Think.extra["field"]`).
REASONING = ("reasoning_content", "reasoning")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
# With spaces, as models write them: templates that print the string as it is then repeat the cached tokens.
_encode_arguments = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def arguments(call: Call) -> str:
    """The call's arguments as sent back; `{}` for ones that were no JSON object.

    Servers parse what they are sent: llama.cpp answers 500 to its own broken arguments at every later turn.
    """
    if call.args is None:
        return "{}"
    try:
        return _encode_arguments(call.args)
    except (ValueError, RecursionError):  # NaN or infinity, or nested too deep: no JSON that others can read
        return "{}"


def dialect(message: Message) -> Iterator[dict[str, Any]]:
    """The dialect's messages for one of ours: one each, but one per result for results."""
    match message.role:
        case "assistant":
            yield _assistant(message)
        case "tool":
            for part in message.parts:
                if isinstance(part, Result):
                    yield {"role": "tool", "tool_call_id": part.id, "content": part.text}
        case role:
            yield {"role": role, "content": message.text}


def _assistant(message: Message) -> dict[str, Any]:
    # Never null: templates of many models add to the content or search in it.
    body: dict[str, Any] = {"role": "assistant", "content": message.text}
    for part in message.parts:
        if isinstance(part, Think) and (name := part.extra.get("field")) in REASONING:
            body[name] = body.get(name, "") + part.text
    if message.calls:
        body["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": arguments(c)}}
            for c in message.calls
        ]
    return body


class Wire:
    """One conversation's requests. Feeding it a list that grows costs what the list grew by."""

    def __init__(self, constants: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> None:
        self._constants = dict(constants)
        self._tools = list(tools)
        self._heads: dict[tuple[str, int], bytes] = {}
        self._reset()

    def _reset(self) -> None:
        self._seen: list[Message] = []
        self._body = bytearray()
        self._open: set[str] = set()  # calls that have no result yet
        self._role = ""
        #: Ids of all calls so far; a new call must have another one.
        self.ids: set[str] = set()

    def body(self, model: str, messages: Sequence[Message], *, max_tokens: int = 0) -> bytes:
        """The request for these messages. Other messages than last time at the front start anew.

        Raises AssertionError when a call has not exactly one result: the engine's fault, never the model's.
        """
        if self._seen != messages[: len(self._seen)]:
            self._reset()
        for message in messages[len(self._seen) :]:
            for one in dialect(message):
                self._append(one)
            self._seen.append(message)
        assert not self._open, f"calls without a result: {sorted(self._open)}"
        return b"".join((self._head(model, max_tokens), self._body, b"]}"))

    def _append(self, one: dict[str, Any]) -> None:
        role = one["role"]
        if role == "tool":
            id = one["tool_call_id"]
            assert id in self._open, f"a result for {id!r}, which is no open call"
            self._open.remove(id)
        else:
            assert not self._open, f"calls without a result before the next message: {sorted(self._open)}"
        if role == "user" and self._role in ("user", "tool"):
            self._write({"role": "assistant", "content": INTERRUPTED})
        for call in one.get("tool_calls", ()):
            assert call["id"] not in self._open, f"two calls with the id {call['id']!r}"
            self._open.add(call["id"])
            self.ids.add(call["id"])
        self._write(one)
        self._role = role

    def _write(self, one: dict[str, Any]) -> None:
        if self._body:
            self._body += b","
        # A lone surrogate (from a file name, say) has no UTF-8 form, and servers refuse its escape.
        self._body += _encode(one).encode("utf-8", "replace")

    def _head(self, model: str, max_tokens: int) -> bytes:
        head = self._heads.get((model, max_tokens))
        if head is None:
            fields = {"model": model, **self._constants}
            if max_tokens:
                fields["max_tokens"] = max_tokens
            if self._tools:
                fields["tools"] = self._tools
            head = _encode(fields).encode("utf-8", "replace")[:-1] + b',"messages":['
            self._heads[(model, max_tokens)] = head
        return head
