"""Asks a person at the terminal which parts of a patch to take, as `git add -p` does.

Every row of the patch begins with a mark (blank, -, +, @, \\) or, where a line goes on, with a colon: nothing in a
patch can look like the question.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from poolcli import hunks, sanitize
from poolcli.hunks import Choice, Edit, EditError, File, Unit
from poolcli.paths import write_private
from poolcli.person import Terminal, broken

Outcome = Literal["taken", "edited", "refused", "unanswered"]

#: Rows that the question needs below a page.
BELOW = 3
#: Bytes of an edited hunk that are read: far more than anybody types.
LARGEST = 16_000_000

HELP = {
    "y": "take this one",
    "n": "do not take it",
    "e": "edit it first, in your editor",
    "s": "split it into smaller ones",
    "a": "take it and all that follow in this file",
    "d": "take neither it nor any that follows in this file",
    "q": "quit: neither it nor what follows; what was taken so far is applied",
    "?": "this help",
}
_WORDS = {"yes": "y", "no": "n", "edit": "e", "split": "s", "all": "a", "quit": "q", "help": "?"}
_KINDS = {"mode": "mode change", "no lines": "change", "another kind of file": "change of what the file is"}

EDITING = b"""\
# Lines that begin with # do not count.
# To leave out an added line (+), delete it. To keep a removed line (-), make its - a blank.
# You may change and add lines with +. The other lines have to stay as they are.
# Delete everything to leave the hunk as it was.
"""


class Answer(Struct, frozen=True):
    """What was said to one part."""

    unit: Unit
    outcome: Outcome
    edit: Edit | None = None

    @property
    def choice(self) -> Choice | None:
        """The part as it is to be taken; None when it is not."""
        return Choice(self.unit, self.edit) if self.outcome in ("taken", "edited") else None


class Chooser:
    """Goes through the parts of a patch with a person. `folder` is where a hunk lies while it is edited."""

    def __init__(self, files: Sequence[File], terminal: Terminal, folder: Path) -> None:
        self._files, self._terminal, self._folder = files, terminal, folder
        self._waiting = deque(hunks.units(files))
        self._answers: list[Answer] = []
        self._colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._file = -1

    async def ask(self) -> list[Answer] | None:
        """The answer to each part, in the patch's order; None when the input ended: then nothing was decided."""
        while self._waiting:
            unit = self._waiting[0]
            self._heading(unit)
            key = await self._key(unit)
            if key is None:
                return None
            await self._do(key, unit)
        return self._answers

    async def _do(self, key: str, unit: Unit) -> None:
        match key:
            case "y":
                self._answer("taken")
            case "n":
                self._answer("refused")
            case "a" | "d":
                while self._waiting and self._waiting[0].file == unit.file:
                    self._answer("taken" if key == "a" else "refused")
            case "q":
                while self._waiting:
                    self._answer("unanswered")
            case "s":
                self._waiting.popleft()
                parts = hunks.split(self._files, unit)
                self._waiting.extendleft(reversed(parts))
                self._say(f"split into {len(parts)} hunks")
            case "e":
                if edit := await self._edited(unit):
                    self._answer("edited", edit)

    def _answer(self, outcome: Outcome, edit: Edit | None = None) -> None:
        self._answers.append(Answer(self._waiting.popleft(), outcome, edit))

    # Showing

    def _say(self, text: str) -> None:
        self._terminal.write(f"{text}\n")

    def _heading(self, unit: Unit) -> None:
        if unit.file != self._file:
            self._file = unit.file
            why = self._files[unit.file].whole
            what = f" ({why})" if why and why != "mode" else ""
            self._say("\n" + self._paint("1", f"{_one_line(unit.path)}{what}"))

    def _rows(self, unit: Unit) -> Iterator[str]:
        width = max(20, self._terminal.size()[0])
        for line in _readable(hunks.shown(self._files, unit), unit):
            colour = {"+": "32", "-": "31", "@": "36"}.get(line[:1], "")
            for number, row in enumerate(broken(line, width - 2)):
                yield self._paint(colour, row if number == 0 else f": {row}") + "\n"

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[m" if colour and self._colours else text

    async def _key(self, unit: Unit) -> str | None:
        """Show the part and ask until there is an answer that it can have."""
        keys = self._keys(unit)
        rows = list(self._rows(unit))
        kind = "hunk" if unit.kind == "hunk" else self._files[unit.file].whole or "mode"
        number = len(self._answers) + 1
        total = len(self._answers) + len(self._waiting)
        question = f"({number}/{total}) Take this {_KINDS.get(kind, kind)} [{','.join(keys)}]? "
        while True:
            room = max(4, self._terminal.size()[1] - BELOW)
            page, rows = rows[:room], rows[room:]
            self._terminal.write("".join(page))
            more = f"({len(rows)} more rows: Enter shows them)\n" if rows else ""
            typed = await self._terminal.line(more + self._paint("1;34", question.rstrip()) + " ")
            if typed is None:
                return None
            key = _WORDS.get(typed.lower(), typed.lower())
            if key in keys and key != "?":
                return key
            if rows and not key:
                continue
            if key in HELP and key not in keys:
                self._say("this one cannot be split" if key == "s" else "this one can only be taken as it is")
            elif key:
                self._say(
                    "".join(f"{name} - {text}\n" for name, text in HELP.items() if name in keys).rstrip()
                )

    def _keys(self, unit: Unit) -> list[str]:
        left = set()
        if unit.kind != "hunk":
            left.add("e")
        if len(unit.ids) == 1 or unit.kind != "hunk":
            left.add("s")
        return [key for key in HELP if key not in left]

    # Editing

    async def _edited(self, unit: Unit) -> Edit | None:
        """The hunk as the person makes it in their editor; None when it stays as it was."""
        text = hunks.shown(self._files, unit)
        while True:
            changed = self._in_editor(text + EDITING)
            if changed is None:
                return None
            if not _content(changed):
                self._say("the hunk stays as it was")
                return None
            try:
                edit = hunks.edited(self._files, unit, changed)
                taken = [c for answer in self._answers if (c := answer.choice) is not None]
                hunks.compose(self._files, [*taken, Choice(unit, edit)])
                return edit
            except EditError as error:
                if not await self._terminal.confirm(f"the edited hunk does not fit: {error}\nEdit it again?"):
                    return None
                text = _content(changed)

    def _in_editor(self, text: bytes) -> bytes | None:
        file = self._folder / "addp-hunk-edit.diff"
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            write_private(file, text)
            ended = subprocess.run([*shlex.split(editor), str(file)]).returncode
            if ended:
                self._say(f"the editor ended with {ended}; the hunk stays as it was")
                return None
            with file.open("rb") as edited:
                return edited.read(LARGEST)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self._say(f"{_one_line(editor)} cannot be run ({why}); set EDITOR to your editor")
            return None
        finally:
            file.unlink(missing_ok=True)


def _content(text: bytes) -> bytes:
    """An edited hunk without the lines that do not count."""
    lines = [line for line in text.split(b"\n") if not line.startswith(b"#")]
    return b"\n".join(lines) if any(line.strip() for line in lines) else b""


def _readable(patch: bytes, unit: Unit) -> Iterator[str]:
    """The lines of a part with all that a terminal would act on or hide made visible."""
    if unit.kind == "file":
        # The heading has the name; what is left begins as rows of a patch do.
        head, mark, body = patch.partition(b"\n@@ ")
        facts = [f"\\ {_text(line)}" for line in head.split(b"\n") if line.startswith(_FACTS)]
        yield from facts
        patch = mark[1:] + body if mark else b""
    elif unit.kind == "mode":
        yield from (f"\\ {_text(line)}" for line in patch.split(b"\n")[:-1])
        return
    for line in patch.split(b"\n")[:-1]:
        # A second file of the same name has its own head.
        yield _text(line) if line[:1] in _MARKS else f"\\ {_text(line)}"


_MARKS = (b" ", b"-", b"+", b"@", b"\\")
_FACTS = (
    b"new file",
    b"deleted file",
    b"old mode",
    b"new mode",
    b"rename ",
    b"copy ",
    b"similarity ",
    b"GIT binary",
)


def _text(line: bytes) -> str:
    return sanitize.shown(line.decode("utf-8", "backslashreplace"), keep="")


def _one_line(text: str) -> str:
    return sanitize.shown(text, keep="")
