"""Messages to the bytes of a chat-completions request: append-only, each message encoded once.

The body is `{constants…,"tools":[…],"messages":[m1,m2,…]}`, messages last: a request without its final `]}`
is the beginning of the next one, so that a server finds in its prefix cache all that it has read before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Message, Result, system

#: The server's messages for one of ours (`Dialect.render`).
Render = Callable[[Message], Iterator[dict[str, Any]]]

#: Put between two messages of the user when no reply came between them (a stopped turn): many chat templates
#: refuse a conversation whose roles do not alternate.
INTERRUPTED = "(interrupted)"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Wire:
    """One conversation's requests. Feeding it a list that grows costs what the list grew by."""

    def __init__(
        self, constants: Mapping[str, Any], render: Render, *, guide: str = "", system_role: bool = True
    ) -> None:
        """`constants` are the fields of every request, in this order. The rest is the dialect's."""
        self._constants = dict(constants)
        self._render = render
        self._guide = guide
        self._system_role = system_role
        self._heads: dict[tuple[str, int], bytes] = {}
        self._reset()

    def _reset(self) -> None:
        self._seen: list[Message] = []
        self._body = bytearray()
        self._open: dict[str, Result | None] = {}  # calls of the last reply, and the results so far
        self._role = ""
        self._before = ""  # what the next message of the user has to begin with
        #: Ids of all calls so far; a new call must have another one.
        self.ids: set[str] = set()

    def body(self, model: str, messages: Sequence[Message], *, max_tokens: int = 0) -> bytes:
        """The request for these messages. Other messages than last time at the front start anew.

        Raises AssertionError when a call has not exactly one result: the engine's fault, never the model's.
        """
        if self._seen != messages[: len(self._seen)]:
            self._reset()
        for message in messages[len(self._seen) :]:
            self._take(message)
            self._seen.append(message)
        assert not self._open, f"calls without a result: {self._missing()}"
        return b"".join((self._head(model, max_tokens), self._body, b"]}"))

    def _missing(self) -> list[str]:
        return sorted(id for id, result in self._open.items() if result is None)

    def _take(self, message: Message) -> None:
        if message.role == "tool":
            self._results(message)
            return
        assert not self._open, f"calls without a result before the next message: {self._missing()}"
        if not self._seen:
            if message.role == "system":
                self._begin(message.text)
                return
            self._begin("")
        for call in message.calls:
            assert call.id not in self._open, f"two calls with the id {call.id!r}"
            self._open[call.id] = None
            self.ids.add(call.id)
        for one in self._render(message):
            self._append(one)

    def _begin(self, text: str) -> None:
        """The system message: what we say, then what the dialect has to say of its tools."""
        text = "\n\n".join(part for part in (text, self._guide) if part)
        if not self._system_role:
            self._before = text
        elif text:
            for one in self._render(system(text)):
                self._append(one)

    def _results(self, message: Message) -> None:
        """Results wait for each other: they go out in the order of the calls, whichever was ready first."""
        for part in message.parts:
            if isinstance(part, Result):
                waits = part.id in self._open and self._open[part.id] is None
                assert waits, f"a result for {part.id!r}, which is no open call"
                self._open[part.id] = part
        results = tuple(result for result in self._open.values() if result is not None)
        if results and len(results) == len(self._open):
            self._open = {}
            for one in self._render(Message("tool", results)):
                self._append(one)

    def _append(self, one: dict[str, Any]) -> None:
        role = one["role"]
        if role == "user" and self._role in ("user", "tool"):
            self._write({"role": "assistant", "content": INTERRUPTED})
        if role == "user" and self._before:
            one = {**one, "content": f"{self._before}\n\n{one['content']}"}
            self._before = ""
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
