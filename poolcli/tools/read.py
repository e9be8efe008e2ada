"""Read a part of a text file, with line numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from poolcli.tools import bounds, files, recalled
from poolcli.tools.base import Ctx, Output, ToolError

#: Lines of one call: about 4,000 tokens of ordinary code.
LINES = 400

#: Characters of one call: below the contract's limit, so that a result always ends with its own last line.
CHARACTERS = 19_000

#: Characters of one line: minified files have lines of megabytes.
LINE = 2000

#: Bytes above which a file is gone through in pieces instead of being held in memory.
HELD = 4_000_000

_PIECE = 1 << 18


async def run(ctx: Ctx, path: str, offset: int = 1, limit: int = LINES) -> Output:
    """Lines `offset` to `offset + limit - 1` of a file, and how to read on."""
    place = files.locate_readable(ctx, path)
    fd = files.open_regular(place)
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor)
        return Output(_shown(ctx, file, place.name, offset, limit))


def _shown(ctx: Ctx, file: BinaryIO, name: str, offset: int, limit: int) -> str:
    size = os.fstat(file.fileno()).st_size
    head = file.read(files.SNIFFED)
    if files.is_binary(head):
        raise ToolError(f"{name} is a binary file ({size:,} bytes); read shows text only")
    if size > HELD:
        return _from_large(file, head, name, offset, limit)
    decoded = files.decode(head + file.read(HELD))
    recalled.show(ctx.outputs, name, decoded.text)
    text = files.printable(decoded.text)
    note = "" if decoded.valid else "\n(not valid UTF-8: some bytes are shown as \N{REPLACEMENT CHARACTER})"
    return numbered(text, offset, limit, name=name) + note


def numbered(text: str, offset: int = 1, limit: int = LINES, *, name: str = "the file") -> str:
    """Lines of `text` from line `offset`, each as `number TAB line`, and how to read on if there are more.

    Raises ToolError when the text ends before line `offset`.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    start = max(offset, 1)
    return _lines(lines[start - 1 : start - 1 + max(limit, 1)], start, len(lines), name)


def _lines(lines: Sequence[str], start: int, total: int, name: str) -> str:
    """`lines`, which begin at line `start` of `total`."""
    if total == 0:
        return f"({name} is empty)"
    if not lines:
        raise ToolError(f"{name} has only {total} lines; offset {start} is past its end")
    shown: list[str] = []
    room = bounds.room(CHARACTERS)
    for number, line in enumerate(lines, start):
        piece = f"{number}\t{_cut(line.removesuffix(chr(13)))}"
        room -= len(piece) + 1
        if room < 0 and shown:
            break
        shown.append(piece)
    after = start + len(shown)
    if after <= total:
        shown.append(f"… {total - after + 1} more lines; read on with offset={after}")
    return "\n".join(shown)


def _cut(line: str) -> str:
    return line if len(line) <= LINE else f"{line[:LINE]}… ({len(line) - LINE} more characters in this line)"


def _from_large(file: BinaryIO, head: bytes, name: str, offset: int, limit: int) -> str:
    """As `numbered`, for a file of any size: only pieces with wanted lines are kept."""
    start, end = max(offset, 1), max(offset, 1) + max(limit, 1)
    number, first, kept, held = 1, 1, b"", True
    last = b""
    for piece in _pieces(file, head):
        breaks = piece.count(b"\n")
        if number + breaks >= start and number < end and held:
            if not kept:
                first = number
            kept += piece
            # More than can be shown is already here, unless the lines before `start` fill it.
            held = len(kept) < HELD
        number += breaks
        last = piece
    total = number - last.endswith(b"\n")
    lines = files.printable(files.decode(kept).text).split("\n")
    return _lines(lines[start - first : min(end, total + 1) - first], start, total, name)


def _pieces(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    yield head
    while piece := file.read(_PIECE):
        yield piece
