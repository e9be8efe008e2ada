"""Messages to the bytes of a chat-completions request: append-only, each message encoded once.

The body is `{constants…,"tools":[…],"messages":[m1,m2,…]}`, messages last: a request without its final `]}`
is the beginning of the next one, so that a server finds in its prefix cache all that it has read before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Message

#: The server's messages for one of ours (`Dialect.render`).
Render = Callable[[Message], Iterator[dict[str, Any]]]

#: Put between two messages of the user when no reply came between them (a stopped turn): many chat templates
#: refuse a conversation whose roles do not alternate.
INTERRUPTED = "(interrupted)"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Wire:
    """One conversation's requests. Feeding it a list that grows costs what the list grew by."""

    def __init__(self, constants: Mapping[str, Any], render: Render) -> None:
        """`constants` are the fields of every request, in this order; `render` is the dialect's."""
        self._constants = dict(constants)
        self._render = render
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
            for one in self._render(message):
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
            if "tools" in fields:  # last, beside the messages: templates put both into the same place
                fields["tools"] = fields.pop("tools")
            head = _encode(fields).encode("utf-8", "replace")[:-1] + b',"messages":['
            self._heads[(model, max_tokens)] = head
        return head
