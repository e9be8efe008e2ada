"""The few kinds of things that a text view draws, as plain values. All text in them is clean."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: How a piece of text is meant; each view decides what that looks like.
Tone = Literal["", "dim", "good", "bad", "warn"]
Span = tuple[str, Tone]
#: Spans that belong together, such as `1 failed, 3 passed` in two tones.
Fact = tuple[Span, ...]


class Header(Struct, frozen=True):
    """The top: what was asked, and facts as (name, value)."""

    task: str
    facts: tuple[tuple[str, str], ...]


class Note(Struct, frozen=True):
    """One line that a person should know."""

    level: Literal["info", "warning", "error"]
    text: str


class Prose(Struct, frozen=True):
    """What the model said."""

    text: str


class Thought(Struct, frozen=True):
    """The model's reasoning, or its beginning; `more` lines of it are not shown."""

    text: str
    more: int = 0


class Said(Struct, frozen=True):
    """What a person said after the run began."""

    text: str


class Step(Struct, frozen=True):
    """One thing that was done: a call, a run of the checks. `facts` follow the subject."""

    mark: Literal["ok", "good", "bad", "skip"]
    label: str
    subject: str
    facts: tuple[Fact, ...] = ()


class DiffRow(Struct, frozen=True):
    """A line of a diff: kind "+", "-", " " or "…" (left out); `number` in the file it belongs to."""

    kind: str
    number: int
    text: str


class Change(Struct, frozen=True):
    """The diff of one file, below the step that made it; `more` rows of it are not shown."""

    path: str
    rows: tuple[DiffRow, ...]
    more: int = 0


class Quote(Struct, frozen=True):
    """Lines of output below a step; `above` and `below` count those left out."""

    rows: tuple[str, ...]
    above: int = 0
    below: int = 0
    tone: Tone = "dim"


class Verdict(Struct, frozen=True):
    """The end: one word, facts as (name, value), and what to type next as (command, what it does)."""

    word: str
    tone: Tone
    facts: tuple[tuple[str, str], ...]
    next: tuple[tuple[str, str], ...] = ()


Block = Header | Note | Prose | Thought | Said | Step | Change | Quote | Verdict

_BELOW = (Change, Quote)
_DONE = (Step, Change, Quote)


def gap(before: Block | None, block: Block) -> bool:
    """Whether an empty line separates two blocks: words stand apart, things done stand together."""
    if before is None or isinstance(block, _BELOW):
        return False
    together = isinstance(before, _DONE) and isinstance(block, Step)
    return not together and not (isinstance(before, Note) and isinstance(block, Note))
