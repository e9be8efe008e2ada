"""Line ranges, safe by a checksum of the lines as they were read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from poolcli.edits import teaching
from poolcli.edits.lines import COMPARISONS, Lines, lines_of
from poolcli.edits.merging import newline_for
from poolcli.edits.results import Landed, LineRange, Refusal, Span

#: Hexadecimal digits of a checksum: short enough to be copied by a model, one in four thousand million by chance.
DIGITS = 8


def checksum(lines: Sequence[str]) -> str:
    """The checksum of lines, whatever their line ends."""
    body = "\n".join(line.rstrip("\r\n") for line in lines)
    return hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=DIGITS // 2).hexdigest()


def checksum_of(text: str, first: int, last: int) -> str:
    """The checksum of lines `first` to `last` (from 1, both included) of a text."""
    return checksum(Lines(text).raw[first - 1 : last])


def apply_range(text: str, edit: LineRange, read: str | None = None) -> Landed | Refusal:
    """Replace a range of lines if they are still as they were read.

    `read`, the text as it was then, lets a refusal show what has changed.
    """
    lines = Lines(text)
    total = len(lines.raw)
    if edit.first < 1 or edit.last < edit.first - 1 or edit.first > total + 1:
        return teaching.refuse(
            "malformed", f"lines {edit.first}-{edit.last} are no range; the file has {total} lines"
        )
    there = lines.raw[edit.first - 1 : edit.last]
    if edit.last > total or checksum(there) != edit.checksum.strip().lower():
        return _stale(lines, edit, read)
    eol = newline_for(lines, edit.first - 1, edit.last)
    new = "".join(line + eol for line in lines_of(edit.new))
    start, end = lines.offsets[edit.first - 1], lines.offsets[edit.last]
    if end == len(text) and lines.open:
        new = (eol if start == end else "") + new.removesuffix(eol)
    if text[start:end] == new:
        return teaching.refuse(
            "no_change", f"lines {edit.first}-{edit.last} are already so; nothing was changed"
        )
    done = text[:start] + new + text[end:]
    count = len(lines_of(edit.new))
    return Landed(done, (Span(edit.first, edit.last, edit.first, edit.first + count - 1),), ("whole",))


def _stale(lines: Lines, edit: LineRange, read: str | None) -> Refusal:
    count = edit.last - edit.first + 1
    if count and count * len(lines.raw) <= COMPARISONS:
        moved = [
            at + 1
            for at in range(len(lines.raw) - count + 1)
            if checksum(lines.raw[at : at + count]) == edit.checksum.strip().lower()
        ]
        if len(moved) == 1:
            return teaching.refuse(
                "stale",
                f"the file has changed since it was read: lines {edit.first}-{edit.last} are now "
                f"{moved[0]}-{moved[0] + count - 1}; give these numbers",
                moved[0],
            )
    return stale(lines.text, read, edit.first, edit.last)


def stale(text: str, read: str | None, first: int = 1, last: int = 0) -> Refusal:
    """The refusal for a file that is no longer as it was read, with what has changed since."""
    lines = Lines(text)
    if read is None or read == text:
        now = "\n".join(f"{n:>6}   {line}" for n, line in enumerate(lines.raw[first - 1 : last], first))
        shown = f"; they are now:\n{now[:2000]}" if now else ""
        return teaching.refuse(
            "stale",
            f"lines {first}-{last} are not those that the checksum was given for{shown}\nread the file again",
            first,
        )
    diff, line = teaching.changed(Lines(read).raw, lines.raw)
    return teaching.refuse(
        "stale",
        f"the file has changed since it was read (- then, + now):\n{diff}\nread it again",
        line,
        diff=diff,
    )
