"""What every request of a conversation must be: append-only, its calls answered, its roles in order.

Servers punish each of these late and in their own words: a lost prefix cache, a template that raises, an
error 500 to a history they wrote themselves. The scripted model checks them on every request instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

#: Characters shown of each side where two requests differ.
SHOWN = 40


class Violation(Exception):
    """A request breaks a rule; the text says which, and where."""


class State(Struct, frozen=True):
    """Where a conversation stands: its number of messages, the last role, the calls without a result."""

    count: int = 0
    replies: int = 0
    role: str = ""
    open: tuple[str, ...] = ()


class Conversation:
    """The requests of one conversation, each checked against the one before. A bad one changes nothing.

    With `compaction` a request may begin anew: the same constants, tools and system message, and others behind them
    that keep the rules of a first request. `restarts` counts these.
    """

    def __init__(self, *, compaction: bool = False) -> None:
        self.body = b""
        self.state = State()
        self.compaction = compaction
        self.restarts = 0

    def accept(self, body: bytes) -> int:
        """Check the next request; how many of its bytes the one before began with. Raises Violation."""
        if body == self.body:
            return len(body)
        if not body.endswith(b"]}"):
            raise Violation("the request does not end with its messages, which have to be its last field")
        state, known = self.state, self.body[:-2]
        restarted = bool(self.body) and not body.startswith(known)
        if restarted:
            shared = _shared(known, body)
            if not self.compaction or shared < _beginning(self.body):
                raise Violation(_difference(known, body))
            state, known = State(), known[:shared]
        if self.body and not restarted:
            new = _messages(b"[" + body[len(known) :].removeprefix(b",")[:-1])
        else:
            new = _first(body)
        for message in new:
            state = follow(state, message)
        if state.open:
            raise Violation(f"calls without a result: {', '.join(state.open)}")
        if state.role not in ("user", "tool"):
            raise Violation(f"the last message is of the role {state.role or 'nobody'}; nothing is asked")
        self.body, self.state = body, state
        self.restarts += restarted
        return len(known)


def follow(state: State, message: Mapping[str, Any]) -> State:
    """The conversation after one more message. Raises Violation when it cannot follow."""
    role, where = message.get("role"), f"message {state.count + 1}"
    if role == "tool":
        id = message.get("tool_call_id")
        if id not in state.open:
            raise Violation(f"{where}: a result for {id!r}, which is no call that waits for one")
        return _next(state, message, where, tuple(call for call in state.open if call != id))
    if state.open:
        raise Violation(f"{where}: {role} before the results of {', '.join(state.open)}")
    allowed = {
        "system": ("",),
        "user": ("", "system", "assistant"),
        "assistant": ("user", "tool"),
    }
    if role not in allowed:
        raise Violation(f"{where}: the role {role!r} is none of system, user, assistant, tool")
    if state.role not in allowed[role]:
        raise Violation(f"{where}: {role} cannot follow {state.role or 'nothing'}")
    return _next(state, message, where, _calls(message, where) if role == "assistant" else ())


def _next(state: State, message: Mapping[str, Any], where: str, open: tuple[str, ...]) -> State:
    if not isinstance(message.get("content"), str):
        raise Violation(f"{where}: the content is not a string")
    role = str(message["role"])
    return State(state.count + 1, state.replies + (role == "assistant"), role, open)


def _calls(message: Mapping[str, Any], where: str) -> tuple[str, ...]:
    ids: list[str] = []
    for call in message.get("tool_calls", ()):
        id, function = call.get("id"), call.get("function", {})
        if not (isinstance(id, str) and id) or id in ids:
            raise Violation(f"{where}: a call without an id of its own ({id!r})")
        try:
            arguments = json.loads(function.get("arguments"))
        except (TypeError, ValueError):
            arguments = None
        if not isinstance(arguments, dict):
            raise Violation(f"{where}: the arguments of {id} are not a JSON object")
        ids.append(id)
    return tuple(ids)


def _first(body: bytes) -> list[Mapping[str, Any]]:
    request = _json(body)
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        raise Violation("the request holds no messages")
    if next(reversed(request)) != "messages":
        raise Violation("the messages are not the last field of the request")
    if request.get("stream") is not True:
        raise Violation("the request does not ask for a stream")
    return _objects(request["messages"])


def _beginning(body: bytes) -> int:
    """How far the constants, the tools and the system message go: what no request may change."""
    start = body.index(b'"messages":[') + len(b'"messages":[')
    decoder, text = json.JSONDecoder(), body[start:].decode("utf-8", "replace")
    message, end = decoder.raw_decode(text)
    return start + (len(text[:end].encode()) if message.get("role") == "system" else 0)


def _messages(text: bytes) -> list[Mapping[str, Any]]:
    return _objects(_json(text))


def _objects(found: object) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(message, dict) for message in found):
        raise Violation("a message is not an object")
    return found


def _json(text: bytes) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Violation(f"the request is not JSON: {error}") from None
    return found


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    short = min(len(one), len(other))
    return next((i for i in range(short) if one[i] != other[i]), short)


def _difference(known: bytes, body: bytes) -> str:
    at = _shared(known, body)
    part = "messages" if b'"messages":[' in known[:at] else "constants or tools"
    start = max(at - SHOWN // 2, 0)
    before, after = (text[start : at + SHOWN].decode("utf-8", "replace") for text in (known, body))
    where = f"{part} differ at byte {at}: {before!r}, now {after!r}"
    return f"the request does not begin with the one before: {where}"
