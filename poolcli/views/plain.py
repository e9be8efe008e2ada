"""The view for pipes, logs and CI: the terminal view's content as plain lines. Cheap: nothing but text."""

from __future__ import annotations

from typing import TextIO

from poolcli.events import LIVE, Event
from poolcli.views.blocks import (
    Block,
    Change,
    DiffRow,
    Fact,
    Header,
    Note,
    Prose,
    Quote,
    Said,
    Step,
    Thought,
    Verdict,
    gap,
)
from poolcli.views.output import fit, is_unicode
from poolcli.views.phrases import plural
from poolcli.views.wording import Wording

MARKS = {"ok": "·", "good": "✓", "bad": "✗", "skip": "·"}
LEVELS = {"info": "note: ", "warning": "warning: ", "error": "error: "}


class PlainView:
    """Writes blocks as lines to a text stream. `quiet` leaves out all but warnings, errors and the end."""

    def __init__(
        self,
        stream: TextIO,
        width: int | None = None,  # lines are as long as they are; a terminal or a log viewer wraps them
        *,
        verbose: bool = False,
        quiet: bool = False,
        next_steps: bool = True,
    ) -> None:
        self._stream, self._quiet = stream, quiet
        self._wording = Wording(verbose=verbose, next_steps=next_steps)
        self._unicode = is_unicode(stream)
        self._before: Block | None = None

    def __call__(self, event: Event) -> None:
        """Show one event. Raises OSError (BrokenPipeError) when the stream is gone."""
        if event.type not in LIVE:
            self._write(self._wording.blocks(event))

    def recall(self, event: Event) -> None:
        """Take an event into account that was shown before, by another process."""
        self._wording.blocks(event)

    def close(self, *, running: bool = False) -> None:
        """Say where a run stands that has not ended."""
        self._write(self._wording.rest(running=running))

    def _write(self, blocks: list[Block]) -> None:
        lines: list[str] = []
        for block in blocks:
            if self._quiet and not isinstance(block, Verdict) and getattr(block, "level", "info") == "info":
                continue
            if gap(self._before, block):
                lines.append("")
            lines += draw(block)
            self._before = block
        if lines:
            text = "\n".join(lines) + "\n"
            self._stream.write(text if self._unicode else fit(text, self._stream))
            self._stream.flush()


def draw(block: Block) -> list[str]:
    """One block as lines."""
    match block:
        case Header(task, facts):
            return ["pool  " + task.replace("\n", "\n      "), *_columns(facts)]
        case Note(level, text):
            return [LEVELS[level] + text]
        case Prose(text):
            return [text]
        case Thought(text, more):
            return [f"thinking: {text}" + (f" … ({plural(more, 'more line')})" if more else "")]
        case Said(text):
            return ["› " + text.replace("\n", "\n  ")]
        case Step(mark, label, subject, facts):
            return ["  ".join(filter(None, (f"{MARKS[mark]} {label:<5}", subject, *map(_fact, facts))))]
        case Change(_, rows, more):
            return [*map(_diff_row, rows), *_left_out(more)]
        case Quote(rows, above, below):
            return [*_left_out(above), *("    " + row for row in rows), *_left_out(below)]
        case Verdict(word, _, facts, steps):
            return [word, *_columns(facts), *_columns(steps)]


def _columns(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    wide = max((len(name) for name, _ in pairs), default=0)
    return [f"  {name:<{wide}}  {value}" for name, value in pairs]


def _fact(fact: Fact) -> str:
    return " ".join(text for text, _ in fact)


def _diff_row(row: DiffRow) -> str:
    return "    …" if row.kind == "…" else f"    {row.number:>4} {row.kind} {row.text}".rstrip()


def _left_out(number: int) -> list[str]:
    return [f"    … {plural(number, 'more line')}"] if number else []
