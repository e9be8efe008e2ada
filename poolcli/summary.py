"""What a log tells of a run, in the place of messages that had to go.

Taken from the log each time, never from an earlier summary, so that what a run is about survives any number of
them: the task, the model's plan, the failing evidence and the change so far.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.events import Event
from poolcli.messages import Call, Message, Result, Think, from_json
from poolcli.tools.bounds import ends
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.verdict.runner import section

#: How much of the room each part gets at most (the task is always whole), and the characters that it gets in any
#: case. In this order, what one leaves over goes to those that were cut.
SHARES: dict[str, tuple[float, int]] = {
    "evidence": (0.36, 600),
    "diff": (0.26, 400),
    "plan": (0.09, 200),
    "steps": (0.14, 160),
    "instructions": (0.07, 0),
    "input": (0.06, 0),
    "changes": (0.02, 0),
}
#: Of the newest calls that failed, the beginning of what came back is told as well: so many of them, so many
#: characters each.
DETAILED, DETAIL = 4, 160
#: Characters of the last result, when no message of its exchange stays.
LAST_RESULT = 800
#: A section with less room than this many characters would say nothing.
LEAST = 80

SHORTENED = "The conversation was shortened to save context. This is what happened so far."
NO_CHANGE = "No file has been changed yet."


class Story:
    """What happened in a run, for a summary that stands before the messages `tail`."""

    def __init__(self, events: Sequence[Event], tail: Sequence[Message]) -> None:
        replies = [from_json(e.data["message"]) for e in events if e.type == "model.replied"]
        kept = sum(message.role == "assistant" for message in tail)
        ids = {part.id for message in tail for part in message.parts if isinstance(part, Result)}
        done = [e.data for e in events if e.type == "tool.done" and e.data["id"] not in ids]
        #: Whether there is more to tell than the first message.
        self.begun = bool(replies)
        self._task = "\n\n".join(_tagged("task", order) for order in _orders(events))
        self._first = next((str(e.data["text"]) for e in events if e.type == "turn.started"), "")
        self._plan = _last_words(replies[: len(replies) - kept])
        self._steps = _steps(done, last=not tail)
        self._checks = None if evidence(events) and _says(tail, evidence(events)) else _last_checks(events)

    def told(self, size: int, diff: str) -> str:
        """The summary in about `size` characters; the task is whole however little that is."""
        texts = {
            "evidence": "" if self._checks is None else str(self._checks["text"]),
            "diff": diff,
            "plan": self._plan,
            "steps": "\n".join(step.text for step in self._steps),
            "instructions": _found("instructions", self._first),
            "input": _found("input", self._first),
            "changes": _found("changes", self._first),
        }
        room = allot({name: len(text) for name, text in texts.items()}, size - len(self._task))
        sections = [_cut(texts[name], room[name]) for name in ("instructions", "changes")]
        if self._checks is not None:
            sections.append(_checks_section(self._checks, ends(texts["evidence"], room["evidence"])))
        sections.append(_cut(texts["input"], room["input"]))
        if self.begun:
            sections.append(self._progress(diff, room))
        return "\n\n".join(filter(None, [*sections, self._task]))

    def _progress(self, diff: str, room: Mapping[str, int]) -> str:
        parts = [SHORTENED]
        if steps := _recent(self._steps, room["steps"]):
            parts.append("Calls made:\n" + "\n".join(steps))
        if self._plan:
            parts.append("Your last words before this:\n" + ends(self._plan, room["plan"]))
        changed = "All changes so far, as git diff shows them:\n" + ends(diff, room["diff"])
        parts.append(changed if diff else NO_CHANGE)
        return _tagged("progress", "\n\n".join(parts))


def allot(sizes: Mapping[str, int], room: int) -> dict[str, int]:
    """How many of `room` characters each part gets: at most its share, and then what others leave over."""
    given = {}
    for name, size in sizes.items():
        share, least = SHARES[name]
        given[name] = min(size, max(int(room * share), least))
    left = room - sum(given.values())
    for name, size in sizes.items():
        more = min(size - given[name], max(left, 0))
        given[name] += more
        left -= more
    return given


def _orders(events: Iterable[Event]) -> list[str]:
    """What the user asked for: the task, and what was said later."""
    orders: list[str] = []
    first = True
    for event in events:
        data = event.data
        if event.type == "run.started":
            orders.append(str(data.get("task", "")))
        elif event.type == "turn.started" or (event.type == "steered" and data.get("source") == "user"):
            # The first message says the task again, among much else.
            if not first or not any(orders):
                orders.append(str(data["text"]))
            first = False
    return [text.strip() for text in orders if text.strip()]


def _last_words(replies: Sequence[Message]) -> str:
    """The model's last text that says something, else the end of its last thought."""
    for message in reversed(replies):
        if text := message.text.strip():
            return text
    for message in reversed(replies):
        for part in message.parts:
            if isinstance(part, Think) and part.text.strip():
                return part.text.strip().rpartition("\n\n")[2]
    return ""


def _last_checks(events: Sequence[Event]) -> Mapping[str, Any] | None:
    done = (e.data for e in reversed(events) if e.type == "checks.done")
    return next((data for data in done if data["phase"] != "extra"), None)


def evidence(events: Sequence[Event]) -> str:
    """What fails, in the words of the last run of the checks; '' when they passed or never ran."""
    last = _last_checks(events)
    return "" if last is None or last.get("ok") else str(last["text"])


def _says(messages: Iterable[Message], text: str) -> bool:
    parts = (part for message in messages for part in message.parts)
    return any(not isinstance(part, Call) and text in part.text for part in parts)


class _Step(Struct, frozen=True):
    """A call in one line, and what is told of its result."""

    line: str
    detail: str = ""

    @property
    def text(self) -> str:
        return self.line + self.detail


def _steps(done: Sequence[Mapping[str, Any]], *, last: bool) -> list[_Step]:
    """The calls, the newest with some detail; with `last` the last result at length."""
    steps: list[_Step] = []
    for number, data in enumerate(done, 1):
        title = " ".join(str(data.get("title") or data.get("name", "")).split())
        text = str(data.get("text", "")).strip()
        line, detail = f"- {title}", ""
        if not data.get("ok", True):
            line += ": failed"
            if number > len(done) - DETAILED:
                detail = f" ({' '.join(text.split())[:DETAIL]})"
        if last and number == len(done):
            detail = "\n" + ends(text, LAST_RESULT)
        steps.append(_Step(line, detail))
    return steps


def _recent(steps: Iterable[_Step], room: int) -> list[str]:
    """The newest steps that fit, oldest first, the same one in a row once; the others as a number."""
    runs: list[tuple[_Step, int]] = []
    for step in steps:
        if runs and runs[-1][0] == step:
            runs[-1] = (step, runs[-1][1] + 1)
        else:
            runs.append((step, 1))
    shown: list[str] = []
    for number in range(len(runs) - 1, -1, -1):
        step, times = runs[number]
        line = step.line + (f" ({times} times)" if times > 1 else "") + step.detail
        if shown and len(line) + 1 > room:
            return [_earlier(runs[: number + 1]), *reversed(shown)]
        shown.append(ends(line, max(room, DETAIL)))
        room -= len(shown[-1]) + 1
    return list(reversed(shown))


def _earlier(runs: Iterable[tuple[_Step, int]]) -> str:
    verbs: Counter[str] = Counter()
    for step, times in runs:
        verbs[step.line.split()[1] if " " in step.line.strip() else "?"] += times
    kinds = ", ".join(f"{count} {verb}" for verb, count in verbs.most_common(4))
    return f"- … {verbs.total()} earlier: {kinds}"


#: What could begin or end a section within quoted text.
_TAGS = re.compile(r"<(/?\s*(?:repository|instructions|changes|checks|input|progress|task)\b)", re.IGNORECASE)


def _tagged(tag: str, body: str) -> str:
    inert = _TAGS.sub(r"<\\\1", body)
    return f"<{tag}>\n{inert}\n</{tag}>"


def _found(tag: str, text: str) -> str:
    """A section of the first message; '' when it has none. What it quotes cannot end it (`first_message`)."""
    match = re.search(rf"^<{tag}\b[^>\n]*>.*?</{tag}>$", text, re.DOTALL | re.MULTILINE)
    return match[0] if match else ""


def _cut(found: str, room: int) -> str:
    """A section with its body cut to about `room` characters in all; '' when there is no room for any of it."""
    if len(found) <= room:
        return found
    head, _, rest = found.partition(">")
    body, _, tag = rest.rpartition("</")
    room -= len(head) + len(tag) + 5
    return f"{head}>\n{ends(body.strip(chr(10)), room)}\n</{tag}" if room >= LEAST else ""


def _checks_section(data: Mapping[str, Any], text: str) -> str:
    report = Report(str(data["status"]), data.get("exit_code"), 0.0, None, text=text)
    return section(Checks(str(data.get("command", "")), "", ""), report)


_BINARY = re.compile(r"^GIT binary patch\n.*?(?=^diff --git |\Z)", re.DOTALL | re.MULTILINE)
_INDEX = re.compile(r"^index [0-9a-f]{40}.*\n", re.MULTILINE)


def without_noise(patch: str) -> str:
    """A git patch as people read it: no packed bytes, no hashes."""
    return _INDEX.sub("", _BINARY.sub("(binary content)\n", patch)).strip("\n")
