"""A git patch in parts that can be taken one by one: bytes in, bytes out, nothing read or written.

A hunk is made of changes, each a run of removed and added lines between unchanged ones; that is as far as it can
be split. A patch of chosen changes keeps the removed lines of the others as context and leaves out what they add,
so every byte of it stands in the whole patch (or in what a person wrote) and only the numbers are new. New,
deleted, renamed and binary files, links and submodules are one part each, and so is a change of a file's mode.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

#: A mark (space, - or +) and the line's bytes, with its newline where the file has one.
Line = tuple[str, bytes]

#: Unchanged lines around a change, as git gives them.
CONTEXT = 3
#: Hexadecimal digits of an id: no two of a million parts share one by chance.
DIGITS = 16
_NO_NEWLINE = b"\\ No newline at end of file\n"
_HEAD = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)\n")


class Unreadable(ValueError):
    """The patch is not one that git writes."""


class EditError(ValueError):
    """Why a hunk as it was edited cannot be taken; one line."""


class Hunk(Struct, frozen=True):
    """A hunk; `start` is the number of lines of the file before it, `label` what stands behind the second @@."""

    start: int
    lines: tuple[Line, ...]
    label: bytes
    #: An id for each change, in order.
    ids: tuple[str, ...]

    @property
    def changes(self) -> list[tuple[int, int]]:
        """Where in `lines` each change begins and ends."""
        found: list[tuple[int, int]] = []
        for at, (mark, _) in enumerate(self.lines):
            if mark == " ":
                continue
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
        return found


class File(Struct, frozen=True):
    """What a patch does to one file."""

    path: str
    #: All of it, byte for byte.
    body: bytes
    #: Why it is one part, for people; '' when it has hunks.
    whole: str
    id: str
    #: The lines above the first hunk, without those about the mode.
    header: tuple[bytes, ...] = ()
    #: `old mode …` and `new mode …`.
    mode: bytes = b""
    hunks: tuple[Hunk, ...] = ()


class Unit(Struct, frozen=True):
    """One part that is offered: a whole file, a file's mode, or changes of a hunk that stand side by side."""

    id: str
    path: str
    kind: Literal["file", "mode", "hunk"]
    file: int
    hunk: int = -1
    #: Numbers of the changes in the hunk, and their ids.
    first: int = 0
    ids: tuple[str, ...] = ()


class Choice(Struct, frozen=True):
    """A part that is taken, as it is or as a person edited it."""

    unit: Unit
    edit: Edit | None = None


class Edit(Struct, frozen=True):
    """Which lines of a hunk's old text go, and what is put before which of them."""

    removed: frozenset[int]
    inserted: Mapping[int, tuple[bytes, ...]]


# Reading


def parse(patch: bytes) -> tuple[File, ...]:
    """The files of a patch as git writes it. Raises Unreadable."""
    starts = [match.start() for match in re.finditer(rb"^diff --git ", patch, re.M)]
    if patch.strip() and (not starts or patch[: starts[0]].strip()):
        raise Unreadable("this is not a patch as git writes it")
    files: list[File] = []
    for start, end in zip(starts, [*starts[1:], len(patch)], strict=False):
        file = _file(patch[start:end])
        if files and files[-1].path == file.path:
            # A file that becomes a link: removed and made again, which only makes sense together.
            files[-1] = _as_one(file.path, files[-1].body + file.body, "another kind of file")
        else:
            files.append(file)
    return tuple(files)


def _file(body: bytes) -> File:
    head = body
    if match := re.search(rb"^@@ ", body, re.M):
        head = body[: match.start()]
    lines = _lines(head)
    path, why = _path(lines), _why_whole(lines)
    hunks = body[len(head) :]
    mode = b"".join(line for line in lines if line.startswith((b"old mode ", b"new mode ")))
    if why or not hunks:
        return _as_one(path, body, why or ("mode" if mode else "no lines"))
    header = tuple(line for line in lines if not line.startswith((b"old mode ", b"new mode ")))
    return File(path, body, "", _id(path, mode), header, mode, _hunks(path, hunks))


def _as_one(path: str, body: bytes, why: str) -> File:
    return File(path, body, why, _id(path, body))


def _lines(data: bytes) -> list[bytes]:
    """The lines of git: they end at a newline and nowhere else."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _why_whole(header: Sequence[bytes]) -> str:
    for line in header:
        for start, why in (
            (b"new file", "new file"),
            (b"deleted file", "deleted file"),
            (b"rename from", "renamed file"),
            (b"copy from", "copied file"),
            (b"GIT binary patch", "binary file"),
            (b"Binary files ", "binary file"),
        ):
            if line.startswith(start):
                return why
        if re.match(rb"(?:index \S+|old mode|new mode) (?:12|16)0000$", line):
            return "link or submodule"
    return ""


def _path(header: Sequence[bytes]) -> str:
    for line in header:
        if line.startswith((b"rename to ", b"copy to ")):
            return os.fsdecode(unquoted(line.rstrip(b"\n").split(b" to ", 1)[1]))
    names = header[0].removeprefix(b"diff --git ").rstrip(b"\n")
    # Both names are the same but for their first letter, so each is half of it.
    name = unquoted(names[len(names) // 2 + 1 :])
    return os.fsdecode(name.removeprefix(b"b/"))


_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


def unquoted(name: bytes) -> bytes:
    """A file name as git quotes it in C style."""
    if not (name.startswith(b'"') and name.endswith(b'"') and len(name) > 1):
        return name

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8)]) if len(code) == 3 else _ESCAPES.get(code, code)

    return re.sub(rb"\\([0-7]{3}|.)", plain, name[1:-1])


def _hunks(path: str, data: bytes) -> tuple[Hunk, ...]:
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    # As Latin-1 every byte is one character and comes back as it was; lines are split here, at newlines only.
    text = [line.decode("latin-1") for line in _lines(data)]
    try:
        (parsed,) = PatchSet(["--- a\n", "+++ b\n", *text])
    except (UnidiffParseError, ValueError) as error:
        raise Unreadable(f"the hunks of {path} cannot be read: {error}") from error
    found = []
    for hunk in parsed:
        lines: list[Line] = []
        for line in hunk:
            if line.line_type == "\\":
                mark, content = lines[-1]
                lines[-1] = (mark, content.removesuffix(b"\n"))
            else:
                lines.append((line.line_type, line.value.encode("latin-1")))
        start = hunk.source_start - (1 if hunk.source_length else 0)
        label = hunk.section_header.encode("latin-1")
        found.append(_with_ids(path, Hunk(start, tuple(lines), b" " + label if label else b"", ())))
    return tuple(found)


def _with_ids(path: str, hunk: Hunk) -> Hunk:
    before = _old_before(hunk.lines)
    return replace(
        hunk,
        ids=tuple(
            _id(path, f"{hunk.start + before[begin]}\n".encode() + _text(hunk.lines[begin:end]))
            for begin, end in hunk.changes
        ),
    )


def _old_before(lines: Sequence[Line]) -> list[int]:
    """How many lines of the old text there are before each line, and before the end."""
    return [0, *accumulate(int(mark != "+") for mark, _ in lines)]


def _id(path: str, content: bytes) -> str:
    return hashlib.sha256(os.fsencode(path) + b"\0" + content).hexdigest()[:DIGITS]


# What is offered


def units(files: Sequence[File]) -> list[Unit]:
    """The parts of a patch in its order, hunks unsplit."""
    found = []
    for number, file in enumerate(files):
        if file.whole:
            found.append(Unit(file.id, file.path, "file", number, ids=(file.id,)))
            continue
        if file.mode:
            found.append(Unit(file.id, file.path, "mode", number, ids=(file.id,)))
        found += [_unit(file, number, at, 0, len(hunk.ids)) for at, hunk in enumerate(file.hunks)]
    return found


def _unit(file: File, number: int, at: int, first: int, last: int) -> Unit:
    ids = file.hunks[at].ids[first:last]
    id = ids[0] if len(ids) == 1 else _id(file.path, "\n".join(ids).encode())
    return Unit(id, file.path, "hunk", number, at, first, ids)


def split(files: Sequence[File], unit: Unit) -> list[Unit]:
    """The part as one for each of its changes; just itself when it has a single one."""
    if unit.kind != "hunk" or len(unit.ids) == 1:
        return [unit]
    file = files[unit.file]
    return [
        _unit(file, unit.file, unit.hunk, at, at + 1) for at in range(unit.first, unit.first + len(unit.ids))
    ]


def shown(files: Sequence[File], unit: Unit) -> bytes:
    """A part as lines of a patch: a hunk with its @@ line, else all that the patch says of the file."""
    file = files[unit.file]
    if unit.kind == "mode":
        return file.mode
    if unit.kind == "file":
        return file.body
    hunk = file.hunks[unit.hunk]
    begin, end = _span(hunk, unit)
    lines = hunk.lines[begin:end]
    start = hunk.start + sum(mark != "+" for mark, _ in hunk.lines[:begin])
    before = sum(_delta(h.lines) for h in file.hunks[: unit.hunk]) + _delta(hunk.lines[:begin])
    return _head(start, lines, before, hunk.label if begin == 0 else b"") + _text(lines)


def _span(hunk: Hunk, unit: Unit) -> tuple[int, int]:
    """The lines of a part: its changes with what is unchanged around them, up to the next change."""
    changes = hunk.changes
    last = unit.first + len(unit.ids)
    begin = 0 if unit.first == 0 else max(changes[unit.first - 1][1], changes[unit.first][0] - CONTEXT)
    if last == len(changes):
        return begin, len(hunk.lines)
    return begin, min(changes[last][0], changes[last - 1][1] + CONTEXT)


def remaining(
    files: Sequence[File], taken: Collection[str], edited: Collection[str] = ()
) -> tuple[File, ...]:
    """The patch that is left when the parts with these ids are in the files already.

    What `taken` changes did is context from now on. Of `edited` ones it is not known what they became: a hunk
    ends before such a change and another begins behind it.
    """
    gone = {*taken, *edited}
    found = []
    for file in files:
        if file.whole:
            if file.id not in gone:
                found.append(file)
            continue
        mode = b"" if file.id in gone else file.mode
        hunks: list[Hunk] = []
        moved = 0
        for hunk in file.hunks:
            hunks += _rest(hunk, moved, taken, edited)
            inside = zip(hunk.ids, hunk.changes, strict=True)
            moved += sum(_delta(hunk.lines[begin:end]) for id, (begin, end) in inside if id in gone)
        if mode or hunks:
            found.append(replace(file, mode=mode, hunks=tuple(hunks)))
    return tuple(found)


def _rest(hunk: Hunk, moved: int, taken: Collection[str], edited: Collection[str]) -> Iterator[Hunk]:
    if not {*hunk.ids} & {*taken, *edited}:
        yield replace(hunk, start=hunk.start + moved)
        return
    start = hunk.start + moved
    lines: list[Line] = []
    ids: list[str] = []
    position = 0
    for id, (begin, end) in zip(hunk.ids, hunk.changes, strict=True):
        lines += hunk.lines[position:begin]
        position = end
        change = hunk.lines[begin:end]
        if id in edited:
            yield from _pieces(start, lines, ids)
            start += sum(mark != "+" for mark, _ in lines) + sum(mark == "+" for mark, _ in change)
            lines, ids = [], []
        elif id in taken:
            lines += [(" ", text) for mark, text in change if mark == "+"]
        else:
            lines += change
            ids.append(id)
    yield from _pieces(start, [*lines, *hunk.lines[position:]], ids)


def _pieces(start: int, lines: Sequence[Line], ids: Sequence[str]) -> Iterator[Hunk]:
    """Hunks of these lines, with no more around a change than git gives."""
    left, before = iter(ids), _old_before(lines)
    for begin, end in _grouped(lines):
        hunk = Hunk(start + before[begin], tuple(lines[begin:end]), b"", ())
        yield replace(hunk, ids=tuple(next(left) for _ in hunk.changes))


# Editing


def edited(files: Sequence[File], unit: Unit, text: bytes) -> Edit:
    """A hunk as a person edited it, from the text that `shown` gave. Lines that begin with # do not count.

    The lines that stay and that go have to be those of the file; some may be missing at the ends. Raises EditError.
    """
    hunk = files[unit.file].hunks[unit.hunk]
    begin, end = _span(hunk, unit)
    wanted = _written(text)
    old = [content for mark, content in hunk.lines[begin:end] if mark != "+"]
    given = [content for mark, content in wanted if mark != "+"]
    offset = _offset(old, given)
    base = sum(mark != "+" for mark, _ in hunk.lines[:begin])
    found = _edit(wanted, base + offset)
    if not found.removed and not any(found.inserted.values()):
        raise EditError("nothing is changed by it")
    _result(_old(hunk), [found])
    return found


def _written(text: bytes) -> list[Line]:
    lines: list[Line] = []
    for number, line in enumerate(_lines(text), 1):
        if not line.endswith(b"\n"):
            line += b"\n"
        mark = line[:1].decode("latin-1")
        if mark == "#" or (not lines and line.startswith(b"@@")):
            continue
        if mark == "\\":
            if not lines:
                raise EditError(f"line {number} says that there is no newline, of no line")
            lines[-1] = (lines[-1][0], lines[-1][1].removesuffix(b"\n"))
        elif mark in (" ", "-", "+"):
            lines.append((mark, line[1:]))
        elif line in (b"\n", b"\r\n"):
            lines.append((" ", line))  # an editor took the blank at the end away
        else:
            raise EditError(f"line {number} begins with none of blank, - and +")
    if not lines:
        raise EditError("nothing is left of it")
    return lines


def _offset(old: list[bytes], given: list[bytes]) -> int:
    places = [at for at in range(len(old) - len(given) + 1) if old[at : at + len(given)] == given]
    if not places:
        raise EditError("its unchanged and removed lines are not those of the file")
    if len(places) > 1:
        raise EditError("it fits in more than one place; leave the unchanged lines in")
    return places[0]


def _edit(lines: Iterable[Line], at: int) -> Edit:
    removed: set[int] = set()
    inserted: dict[int, tuple[bytes, ...]] = {}
    for mark, text in lines:
        if mark == "+":
            inserted[at] = (*inserted.get(at, ()), text)
            continue
        if mark == "-":
            removed.add(at)
        at += 1
    return Edit(frozenset(removed), inserted)


def _old(hunk: Hunk) -> list[bytes]:
    return [text for mark, text in hunk.lines if mark != "+"]


def _result(old: Sequence[bytes], edits: Iterable[Edit]) -> list[Line]:
    """The lines of a hunk that makes all of these edits. Raises EditError."""
    removed: set[int] = set()
    inserted: dict[int, tuple[bytes, ...]] = {}
    for edit in edits:
        removed |= edit.removed
        for at, texts in edit.inserted.items():
            inserted[at] = (*inserted.get(at, ()), *texts)
    lines: list[Line] = []
    for at in range(len(old) + 1):
        lines += [("+", text) for text in inserted.get(at, ())]
        if at < len(old):
            lines.append(("-" if at in removed else " ", old[at]))
    new = [text for mark, text in lines if mark != "-"]
    if any(not text.endswith(b"\n") for text in new[:-1]):
        raise EditError("a line without a newline can only be the last of the file")
    return lines


# Putting together


def compose(files: Sequence[File], choices: Iterable[Choice]) -> bytes:
    """The patch that makes the chosen changes and no other; b'' for none. Raises EditError."""
    chosen: dict[int, list[Choice]] = {}
    for choice in choices:
        chosen.setdefault(choice.unit.file, []).append(choice)
    return b"".join(_patch(file, chosen[at]) for at, file in enumerate(files) if at in chosen)


def everything(files: Sequence[File]) -> bytes:
    """All of what is left of a patch."""
    return compose(files, [Choice(unit) for unit in units(files)])


def _patch(file: File, choices: Sequence[Choice]) -> bytes:
    if file.whole:
        return file.body
    mode = file.mode if any(choice.unit.kind == "mode" for choice in choices) else b""
    of: dict[int, list[Choice]] = {}
    for choice in choices:
        if choice.unit.kind == "hunk":
            of.setdefault(choice.unit.hunk, []).append(choice)
    body: list[bytes] = []
    moved = 0
    for at in sorted(of):
        text, more = _hunk(file.hunks[at], of[at], moved)
        body.append(text)
        moved += more
    head, *rest = file.header
    # A mode alone has no content to name.
    return head + mode + (b"".join([*rest, *body]) if body else b"")


def _hunk(hunk: Hunk, choices: Sequence[Choice], moved: int) -> tuple[bytes, int]:
    """A hunk's chosen part with its @@ line, and by how many lines it makes the file longer."""
    ids = {id for choice in choices if choice.edit is None for id in choice.unit.ids}
    if ids == {*hunk.ids}:
        lines = hunk.lines
        return _head(hunk.start, lines, moved, hunk.label) + _text(lines), _delta(lines)
    plain = _plain(hunk)
    edits: list[Edit] = []
    for choice in sorted(choices, key=lambda choice: choice.unit.first):
        own = plain[choice.unit.first : choice.unit.first + len(choice.unit.ids)]
        edits += own if choice.edit is None else [choice.edit]
    made = _result(_old(hunk), edits)
    parts: list[bytes] = []
    before, total = _old_before(made), 0
    for begin, end in _grouped(made):
        label = hunk.label if begin == 0 else b""
        parts.append(_head(hunk.start + before[begin], made[begin:end], moved + total, label))
        parts.append(_text(made[begin:end]))
        total += _delta(made[begin:end])
    return b"".join(parts), total


def _plain(hunk: Hunk) -> list[Edit]:
    """Each change of a hunk as an edit."""
    found: list[Edit] = []
    at = position = 0
    for begin, end in hunk.changes:
        at += begin - position
        found.append(_edit(hunk.lines[begin:end], at))
        at += sum(mark != "+" for mark, _ in hunk.lines[begin:end])
        position = end
    return found


def _grouped(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Where hunks of these lines begin and end, with no more unchanged lines than git puts around a change.

    More of them would keep a change from fitting where the user changed something further away.
    """
    spans: list[tuple[int, int]] = []
    for begin, end in Hunk(0, tuple(lines), b"", ()).changes:
        begin, end = max(0, begin - CONTEXT), min(len(lines), end + CONTEXT)
        if spans and spans[-1][1] >= begin:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _delta(lines: Iterable[Line]) -> int:
    return sum((mark == "+") - (mark == "-") for mark, _ in lines)


def _head(start: int, lines: Sequence[Line], moved: int, label: bytes) -> bytes:
    old = sum(mark != "+" for mark, _ in lines)
    new = sum(mark != "-" for mark, _ in lines)
    return b"@@ -%s +%s @@%s\n" % (_range(start, old), _range(start + moved, new), label)


def _range(start: int, length: int) -> bytes:
    # A range of no lines is named by the line before it.
    first = start + 1 if length else start
    return b"%d" % first if length == 1 else b"%d,%d" % (first, length)


def _text(lines: Iterable[Line]) -> bytes:
    return b"".join(
        mark.encode() + (text if text.endswith(b"\n") else text + b"\n" + _NO_NEWLINE) for mark, text in lines
    )
