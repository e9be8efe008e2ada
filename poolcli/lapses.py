"""Replies that are no turn of work: empty, thought only, cut off, repeating. What the model is told, and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.events import Event
from poolcli.messages import Message, Think, from_json

EMPTY = "Your last reply held neither text nor a tool call. Make a tool call, or say what you did if the work is done."
THOUGHT = (
    "Your last reply was thought only: nothing in it was a tool call or an answer, so nothing happened. "
    "Make a tool call now, or say what you did if the work is done."
)
REPEATED = (
    "Your last reply repeated itself without end and was stopped. "
    "Do not go on with it. Make one tool call, or say what you did if the work is done."
)
CUT = "Your last reply was cut off at {limit}, its limit. Go on from where it stopped, and repeat nothing of it."
CUT_THOUGHT = (
    "Your last reply was cut off at {limit}, its limit, while you were still thinking. "
    "Think less: make a tool call, or say what you did if the work is done."
)
CUT_CALL = (
    "error: the reply was cut off at {limit}, its limit, in the middle of this call, and the call was not run. "
    "Do it in smaller pieces: several calls with a part each"
)
REPEATED_CALL = (
    "error: the arguments repeated themselves without end; the reply was stopped and the call was not run"
)

#: Lapses of any sort in a row that end a run.
MOST = 4


class Lapse(Struct, frozen=True):
    """What is wrong with a reply.

    `told` is the next message to the model, `torn` the result of the call in which the reply broke off, `why` says
    why the run ends when it happens more than `allowed` times in a row.
    """

    kind: str
    told: str
    why: str
    allowed: int
    torn: str = ""


def lapse(event: Event | None) -> Lapse | None:
    """What is wrong with the reply of a `model.replied`; None for a good one, and where there was none."""
    if event is None:
        return None
    data = event.data
    message, finish = from_json(data["message"]), data.get("finish", "")
    if finish == "repetition":
        # Once may be chance; a model that was told and does it again does not get out of it.
        why = "the model repeated itself without end, also after it was told"
        return Lapse("repetition", REPEATED, why, 1, REPEATED_CALL)
    if finish == "length":
        return _cut(message, data.get("usage") or {})
    if message.calls or message.text.strip():
        return None
    if any(isinstance(part, Think) and part.text.strip() for part in message.parts):
        return Lapse("thought", THOUGHT, "the model only thought: no reply held a call or an answer", 2)
    return Lapse("empty", EMPTY, "the model sent only empty replies", 2)


def _cut(message: Message, usage: Mapping[str, Any]) -> Lapse | None:
    if message.calls and all(call.args is not None for call in message.calls):
        return None  # all of them are whole, and what follows them is no loss
    counted = usage.get("completion")
    limit = f"{counted} tokens" if counted and not usage.get("estimated") else "a number of tokens"
    told = CUT if message.text.strip() else CUT_THOUGHT
    why = (
        f"every reply of the model was cut off at {limit}: allow longer ones (max_reply, or a larger context)"
    )
    return Lapse("cut", told.format(limit=limit), why, 3, CUT_CALL.format(limit=limit))


def last_reply(events: Sequence[Event]) -> Event | None:
    """The newest `model.replied`."""
    return next((event for event in reversed(events) if event.type == "model.replied"), None)


class Lapses:
    """Lapses in a row."""

    def __init__(self) -> None:
        self._kinds: list[str] = []

    def count(self, lapse: Lapse | None) -> bool:
        """Take in the next reply; whether it is one lapse too many."""
        if lapse is None:
            self._kinds.clear()
            return False
        self._kinds.append(lapse.kind)
        same = 0
        for kind in reversed(self._kinds):
            if kind != lapse.kind:
                break
            same += 1
        return same > lapse.allowed or len(self._kinds) > MOST
