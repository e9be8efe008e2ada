"""The person at the terminal: a question is shown whole, and answered by a word and Enter.

Questions go to standard error and answers come from standard input; without both being a terminal there is nobody.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TextIO

from msgspec import Struct

from poolcli import sanitize

Choice = Literal["once", "run", "project", "no"]

#: Rows of a terminal that does not say how many it has.
ROWS, COLUMNS = 24, 80
#: Rows that the question needs below a page of what it is about.
BELOW = 8
#: Bytes of an answer; a terminal gives no longer line.
ANSWER = 4096

_CHOICES: Mapping[str, Choice] = {
    "y": "once", "yes": "once", "r": "run", "run": "run", "p": "project", "project": "project",
    "n": "no", "no": "no",
}  # fmt: skip
_MESSAGE = ("m", "message")


class Question(Struct, frozen=True):
    """What a person is asked: a heading, the thing itself as (name, text) in full, and facts about it."""

    heading: str
    parts: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...] = ()


class Reply(Struct, frozen=True):
    """The answer, and words for the model that go with a `no`."""

    choice: Choice
    message: str = ""


def present(*, json: bool, environ: Mapping[str, str] | None = None) -> Terminal | None:
    """The person who can be asked; None where nobody can: no terminal, a program that reads JSON, CI."""
    environ = os.environ if environ is None else environ
    if json or environ.get("CI", "") not in ("", "0", "false"):
        return None
    if not (sys.stdin and sys.stderr and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    try:
        if os.tcgetpgrp(0) != os.getpgrp():
            return None  # a background job that reads from its terminal is stopped
    except OSError:
        return None
    return Terminal(0, sys.stderr)


class Terminal:
    """Asks at a terminal, one question at a time."""

    def __init__(self, fd: int, out: TextIO) -> None:
        self._fd, self._out = fd, out

    async def ask(self, question: Question) -> Reply:
        """Show the question and wait for its answer. Cancelling it leaves the terminal as it was."""
        try:
            return await self._ask(question)
        except asyncio.CancelledError:
            self.write("\n")
            raise

    async def _ask(self, question: Question) -> Reply:
        columns, height = self.size()
        rows = list(_rows(question, columns))
        room = max(4, height - BELOW)
        self.write(f"\n  ? {_one_line(question.heading)}\n")
        while len(rows) > room:
            page, rows = rows[:room], rows[room:]
            self.write("".join(page))
            typed = await self.line(f"  {len(rows)} more rows: Enter shows them, n refuses: ")
            if typed is None or typed.lower() in ("n", "no"):
                return Reply("no")
        self.write("".join(rows))
        while True:
            typed = await self.line(
                "  [y]es  yes for this [r]un  yes in this [p]roject  [n]o  no with a [m]essage: "
            )
            if typed is None:
                return Reply("no")
            if typed.lower() in _MESSAGE:
                return Reply("no", await self.line("  your message to the model: ") or "")
            if choice := _CHOICES.get(typed.lower()):
                return Reply(choice)
            self.write("  Type one of the letters, then Enter.\n")

    async def confirm(self, words: str) -> bool:
        """A plain question, yes or no."""
        while True:
            typed = await self.line(f"{words} [y]es  [n]o: ")
            if typed is None or typed.lower() in ("n", "no"):
                return False
            if typed.lower() in ("y", "yes"):
                return True

    async def line(self, prompt: str) -> str | None:
        """A line that was typed after the prompt; None at the end of input (Ctrl-D)."""
        # Whatever was typed before could not know the question.
        termios.tcflush(self._fd, termios.TCIFLUSH)
        self.write(prompt)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)
        try:
            data = os.read(self._fd, ANSWER)
        except OSError:
            return None  # the terminal is gone
        return data.decode("utf-8", "replace").strip() if data else None

    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except OSError:
            return COLUMNS, ROWS
        return size.columns or COLUMNS, size.lines or ROWS

    def write(self, text: str) -> None:
        """Show text that was made visible already."""
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._out.flush()


def _rows(question: Question, columns: int) -> Iterator[str]:
    """The rows of a question: what it is about behind a gutter, so that no text can pose as the question."""
    width = max(20, columns - 5)
    for name, text in question.parts:
        lines = visible(text)
        size = f" ({len(lines)} lines, {len(text)} characters)" if len(lines) > 1 or len(text) > width else ""
        yield f"    {name}{size}\n"
        for line in lines:
            for number, row in enumerate(broken(line, width)):
                # A row that goes on has another gutter: a broken line is not two.
                yield f"  {'|' if number == 0 else ':'} {row}\n"
    for name, text in question.facts:
        for number, row in enumerate(broken(_one_line(text), width - 8)):
            yield f"    {name if number == 0 else '':<6} {row}\n"


def broken(line: str, width: int) -> Iterator[str]:
    """A line in rows that no terminal breaks once more: a row of its own making would begin without the gutter."""
    if line.isascii():
        yield from (line[start : start + width] for start in range(0, len(line) or 1, width))
        return
    row, room = "", width
    for char in line:
        cells = 1 if char.isascii() else 2  # at most: no terminal gives a character more
        if cells > room:
            yield row
            row, room = "", width
        row, room = row + char, room - cells
    yield row


def _one_line(text: str) -> str:
    return "\\n".join(visible(text))


def visible(text: str) -> Sequence[str]:
    """The lines of a text, nothing of it hidden: what does not show as itself is written as an escape."""
    return [sanitize.shown(line, keep="") for line in text.split("\n")]
