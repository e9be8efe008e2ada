"""How a conversation is made shorter: pure planning, from a log and its messages to one `compacted` event.

No model is asked: that would need the room and the time that are missing. Results of old calls become one line
each (level 1); when that is not enough, all but the last exchanges is summed up from the log (level 2), and a
conversation that is only a first message loses its overview of the repository (level 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from poolcli.context import compacted
from poolcli.events import Event
from poolcli.messages import Call, Message, Result
from poolcli.summary import Story, evidence, without_noise

#: The tokens of a text.
Count = Callable[[str], int]

#: Making a conversation shorter by less than a tenth is no progress: the next request would be refused again.
PROGRESS = 0.9
#: Tokens that a message or a call costs beside its text: role, marks, id.
OVERHEAD = 8
#: Dropping a result for fewer tokens than this is not worth the line that replaces it.
WORTH = 32


def characters(text: str) -> int:
    """The tokens of a text by its length: four characters to one, which is near for code in all vocabularies."""
    return -(-len(text) // 4)


class Measure(Struct, frozen=True):
    """What messages cost. `fixed` is the cost of what is sent beside them (tools), `scale` the server's count of a
    conversation by ours."""

    count: Count = characters
    fixed: int = 0
    scale: float = 1.0

    def request(self, messages: Iterable[Message]) -> int:
        """The tokens of a request with these messages."""
        return int(self.scale * self.fixed) + self.messages(messages)

    def messages(self, messages: Iterable[Message]) -> int:
        """The tokens of these messages alone."""
        return int(self.scale * sum(map(self._message, messages)))

    def text(self, text: str) -> int:
        """The tokens of a text within a message."""
        return int(self.scale * self.count(text))

    def _message(self, message: Message) -> int:
        total = OVERHEAD
        for part in message.parts:
            if isinstance(part, Call):
                total += OVERHEAD + self.count(f"{part.name}{part.args}")
            else:
                total += self.count(part.text)
        return total


class Plan(Struct, frozen=True):
    """How a conversation is made shorter: what `compacted` says of it. Sizes in tokens, estimated."""

    level: int
    before: int
    after: int
    text: str = ""
    keep: int = 0
    dropped: Mapping[str, str] = field(default_factory=dict)


def plan(
    events: Sequence[Event],
    messages: Sequence[Message],
    *,
    target: int,
    measure: Measure,
    diff: Callable[[], str],
) -> Plan | None:
    """How to make these messages, the ones behind the events, fit into `target` tokens; None when nothing helps.

    `diff` gives the change so far as a git patch; it is asked for only where it is needed. The mildest level that
    reaches the target is taken, else the last one if it is a progress at all.
    """
    before = measure.request(messages)
    made = _thinner(events, messages, before, target, measure)
    if made is None or made.after > target:
        made = _summed_up(events, messages, before, target, measure, diff)
    return made if made.after <= before * PROGRESS else None


def _thinner(
    events: Sequence[Event], messages: Sequence[Message], before: int, target: int, measure: Measure
) -> Plan | None:
    """Level 1: lines for the oldest results. The last exchange and the evidence stay."""
    proof = _proof(events, messages)
    results = [part for part in _results(messages[: last_exchange(messages)]) if part.id != proof]
    dropped, _ = _drop(events, results, before - target, measure)
    if not dropped:
        return None
    return Plan(1, before, measure.request(compacted(messages, {"dropped": dropped})), dropped=dropped)


def last_exchange(messages: Sequence[Message]) -> int:
    """Where the last reply stands, the number of messages when there is none: it and what follows it is what the
    model is at."""
    return next(
        (n for n in range(len(messages) - 1, 0, -1) if messages[n].role == "assistant"), len(messages)
    )


def _results(messages: Iterable[Message]) -> list[Result]:
    return [part for message in messages for part in message.parts if isinstance(part, Result)]


def _proof(events: Sequence[Event], messages: Sequence[Message]) -> str:
    """Id of the result that shows what fails now; '' when a message of another kind does."""
    if not (failing := evidence(events)):
        return ""
    for message in reversed(messages):
        for part in message.parts:
            if not isinstance(part, Call) and failing in part.text:
                return part.id if isinstance(part, Result) else ""
    return ""


def _drop(
    events: Sequence[Event], results: Iterable[Result], excess: int, measure: Measure
) -> tuple[dict[str, str], int]:
    """Lines for the first of these results, until `excess` tokens are saved, and how many are still too many."""
    done = {e.data["id"]: e.data for e in events if e.type == "tool.done"}
    dropped: dict[str, str] = {}
    for part in results:
        if excess <= 0:
            break
        line = dropped_line(done.get(part.id, {"name": part.name}), part.text)
        if (saved := measure.text(part.text) - measure.text(line)) >= WORTH:
            dropped[part.id] = line
            excess -= saved
    return dropped, excess


_AGAIN = {
    "read": "read it again if needed",
    "search": "search again if needed",
    "list": "list it again if needed",
    "run_tests": "run_tests shows the present state",
    "shell": "run it again if its output is needed",
}
_SAVED = re.compile(r"^whole output: (@output/[\w.-]+) ", re.MULTILINE)


def dropped_line(done: Mapping[str, Any], text: str) -> str:
    """What stands in place of a result: what it was and how to see it again. `done` is the data of its event."""
    title = " ".join(str(done.get("title") or done.get("name", "")).split())
    title = title[:1].lower() + title[1:]
    again = _AGAIN.get(str(done.get("name")), "make the call again if needed")
    if saved := _SAVED.search(text):
        again = f"it is in {saved[1]}"
    failed = "" if done.get("ok", True) else ", which failed,"
    return f"(result of {title}{failed} dropped to save context; {again})"


def _summed_up(
    events: Sequence[Event],
    messages: Sequence[Message],
    before: int,
    target: int,
    measure: Measure,
    diff: Callable[[], str],
) -> Plan:
    """Levels 2 and 3: a summary, and the last exchanges within half of what is left beside the system message."""
    room = target - measure.request(messages[:1])
    start, dropped = _tail(events, messages, room // 2, measure)
    tail = compacted(messages, {"dropped": dropped})[start:]
    story = Story(events, tail)
    changes = without_noise(diff()) if story.begun else ""
    text = _fitted(story, changes, room - measure.messages(tail), measure)
    made = compacted(messages, {"text": text, "keep": len(tail), "dropped": dropped})
    return Plan(2 if story.begun else 3, before, measure.request(made), text, len(tail), dropped)


def _fitted(story: Story, changes: str, room: int, measure: Measure) -> str:
    """The summary in `room` tokens, or a little more when that is very little."""
    size, text = int(max(room, 0) * 4 / measure.scale), ""
    for _ in range(3):  # the first time by a rule of thumb, then by what came of it
        text = story.told(size, changes)
        if (needed := measure.text(text)) <= room or size <= 0:
            break
        size = int(size * max(room, 1) / needed)
    return text


def _tail(
    events: Sequence[Event], messages: Sequence[Message], room: int, measure: Measure
) -> tuple[int, dict[str, str]]:
    """Where the messages begin that stay: the last exchanges that fit into `room` tokens.

    When the last one alone does not, lines for its first results; when that is not enough, nothing stays.
    """
    start = len(messages)
    for number in range(len(messages) - 1, 1, -1):
        if messages[number].role != "assistant":
            continue
        excess = measure.messages(messages[number:]) - room
        if excess > 0:
            if start < len(messages):
                break
            # The newest result stays even at twice the room: without it the same call would come again.
            dropped, excess = _drop(events, _results(messages[number:])[:-1], excess, measure)
            return (number, dropped) if excess <= room else (len(messages), {})
        start = number
    return start, {}
