"""What a model is sent: the one projection from events to messages.

Append-only: the messages of a log are the first messages of every longer log (unless a `compacted` came
between), so that each request begins with the bytes of the one before and a server's prefix cache holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from poolcli.events import Event
from poolcli.messages import Message, Result, from_json, system, user


class Projection:
    """The messages so far; fed one event at a time, so that a turn costs what it adds."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        #: Ids of all calls so far; results are matched by id, so no two calls may share one.
        self.call_ids: set[str] = set()

    def feed(self, event: Event) -> None:
        """Take in the next event. Events that a model does not see change nothing."""
        data = event.data
        match event.type:
            case "run.started":
                self.messages.append(system(data["system"]))
            case "turn.started" | "steered":
                self.messages.append(user(data["text"]))
            case "model.replied":
                message = from_json(data["message"])
                self.messages.append(message)
                self.call_ids.update(call.id for call in message.calls)
            case "tool.done":
                self.messages.append(Message("tool", (Result(data["id"], data["name"], data["text"]),)))
            case "compacted":
                self.messages = compacted(self.messages, data)


def compacted(messages: Sequence[Message], data: Mapping[str, Any]) -> list[Message]:
    """The messages after a `compacted` with this data, which alone decides what they are.

    `dropped` replaces results by one line each; `text`, when there is one, replaces everything between the system
    message and the last `keep` messages (older logs have only `text`, and keep none).
    """
    dropped = data.get("dropped") or {}
    kept = [_thinner(message, dropped) for message in messages]
    text = data.get("text")
    if not text:
        return kept
    start = max(len(kept) - (data.get("keep") or 0), 1)
    return [*kept[:1], user(text), *kept[start:]]


def _thinner(message: Message, dropped: Mapping[str, str]) -> Message:
    """The message with results replaced; the same object when there is none in it."""
    if message.role != "tool" or not any(isinstance(p, Result) and p.id in dropped for p in message.parts):
        return message
    parts = (
        Result(p.id, p.name, dropped[p.id]) if isinstance(p, Result) and p.id in dropped else p
        for p in message.parts
    )
    return Message("tool", tuple(parts))


def project(events: Iterable[Event]) -> list[Message]:
    """The messages behind a log."""
    projection = Projection()
    for event in events:
        projection.feed(event)
    return projection.messages


def unanswered(messages: list[Message]) -> list[str]:
    """Ids of the calls of the last assistant message that have no result yet, in order."""
    done: set[str] = set()
    for message in reversed(messages):
        if message.role == "tool":
            done.update(p.id for p in message.parts if isinstance(p, Result))
        elif message.role == "assistant":
            return [call.id for call in message.calls if call.id not in done]
        else:
            return []
    return []
