"""What a model is sent and what it replies: roles and parts, as frozen values.

The JSON forms here are what the event log stores; a server's dialect is made from them in `models/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True):
    """Plain text, as said to or by the model."""

    text: str


class Think(Struct, frozen=True):
    """Reasoning that the server reported apart from the text. `extra` holds what it wants back verbatim."""

    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class Call(Struct, frozen=True):
    """One tool call. `args` is None when the model's arguments were not a JSON object; `raw` is what it wrote."""

    id: str
    name: str
    args: Mapping[str, Any] | None
    raw: str = ""


class Result(Struct, frozen=True):
    """The one result of the call with this id, as the model reads it."""

    id: str
    name: str
    text: str


Part = Text | Think | Call | Result


class Message(Struct, frozen=True):
    """One message: a role and its parts, in order."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All plain text of the message, joined."""
        return "".join(p.text for p in self.parts if isinstance(p, Text))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The tool calls of the message, in order."""
        return tuple(p for p in self.parts if isinstance(p, Call))


def system(text: str) -> Message:
    """The system message."""
    return Message("system", (Text(text),))


def user(text: str) -> Message:
    """A user message of plain text."""
    return Message("user", (Text(text),))


def part_to_json(part: Part) -> dict[str, Any]:
    """One part as the event log stores it."""
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Think(text, extra):
            return {"type": "think", "text": text, **({"extra": dict(extra)} if extra else {})}
        case Call(id, name, args, raw):
            data: dict[str, Any] = {"type": "call", "id": id, "name": name}
            data["args"] = None if args is None else dict(args)
            # What the model really wrote is kept only when it could not be read as an object.
            return {**data, "raw": raw} if args is None else data
        case Result(id, name, text):
            return {"type": "result", "id": id, "name": name, "text": text}


def part_from_json(data: Mapping[str, Any]) -> Part | None:
    """The part behind its JSON form; None for a type that a newer version wrote."""
    match data.get("type"):
        case "text":
            return Text(data.get("text", ""))
        case "think":
            return Think(data.get("text", ""), data.get("extra", {}))
        case "call":
            return Call(data["id"], data["name"], data.get("args"), data.get("raw", ""))
        case "result":
            return Result(data["id"], data["name"], data.get("text", ""))
    return None


def to_json(message: Message) -> dict[str, Any]:
    """A message as the event log stores it: `{"role", "parts": [{"type", …}]}`."""
    return {"role": message.role, "parts": [part_to_json(p) for p in message.parts]}


def from_json(data: Mapping[str, Any]) -> Message:
    """The message behind its JSON form; unknown part types are skipped."""
    parts = (part_from_json(p) for p in data.get("parts", ()))
    return Message(data["role"], tuple(p for p in parts if p is not None))
