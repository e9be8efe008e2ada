"""Carries a change over to lines that are not quite those it was written for.

What the edit leaves alone keeps the file's bytes, also where the model wrote it a little differently; what
the edit changes becomes what the model wrote, with the file's line ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from poolcli.edits.indentation import Shift
from poolcli.edits.lines import Lines, indent_of
from poolcli.edits.results import Step

#: Changed lines on both sides among which equal ones are looked for; the search is quadratic.
COMPARED = 400

#: Lines i1 to i2 of the old text become lines j1 to j2 of the new one.
Change = tuple[int, int, int, int]


class Place(Struct, frozen=True):
    """A stretch of a text, by offsets, what is to stand there instead, and how it was found."""

    start: int
    end: int
    new: str
    step: Step


def changes(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """What differs, from above to below; nothing when both are equal."""
    most = min(len(old), len(new))
    same = next((i for i in range(most) if old[i] != new[i]), most)
    ending = next((i for i in range(most - same) if old[-1 - i] != new[-1 - i]), most - same)
    i2, j2 = len(old) - ending, len(new) - ending
    if i2 == same and j2 == same:
        return []
    if i2 == same or j2 == same or max(i2 - same, j2 - same) > COMPARED:
        return [(same, i2, same, j2)]
    import difflib

    matcher = difflib.SequenceMatcher(None, old[same:i2], new[same:j2], autojunk=False)
    return [
        (same + a, same + b, same + c, same + d)
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]


class Ends(Struct, frozen=True):
    """How the end of a text without a last line end is to be treated: None leaves it as it is in the file."""

    open: bool | None = None


AS_FILE = Ends()


def carried(
    lines: Lines,
    start: int,
    old: Sequence[str],
    new: Sequence[str],
    shift: Shift,
    step: Step,
    *,
    ends: Ends = AS_FILE,
    verbatim: bool = False,
    known: Sequence[Change] = (),
) -> Place | None:
    """The change from `old` to `new` on the lines from `start` on, one for one; None when there is no change.

    `verbatim` writes the new lines as they are, with a bare newline each. `known` says what becomes what.
    """
    found = list(known) or changes(old, new)
    finish = start + len(old)
    last = finish == lines.count
    reopened = last and ends.open is not None and ends.open != lines.open and bool(lines.count)
    if reopened and (not found or found[-1][1] < len(old)) and old and new:
        found = [*found, (len(old) - 1, len(old), len(new) - 1, len(new))]
    if not found:
        return None
    first, end = start + found[0][0], start + found[-1][1]
    eol = "\n" if verbatim else newline_for(lines, start, finish)
    out: list[str] = []
    at = found[0][0]
    for i1, i2, j1, j2 in found:
        out += [line + "\n" for line in lines.between(start + at, start + i1)]
        if out and start + i1 == lines.count and lines.open:
            # Lines follow the last one, which had no line end.
            out[-1] = out[-1][:-1] + eol
        out += [shifted(line, shift) + eol for line in new[j1:j2]]
        at = i2
    return _ended(lines, first, end, "".join(out), eol, ends if last else AS_FILE, step)


def _ended(lines: Lines, first: int, end: int, out: str, eol: str, ends: Ends, step: Step) -> Place:
    """The place for these lines, minding a last line without a line end."""
    begins, stops = lines.begin(first), lines.begin(end)
    if end < lines.count or not (lines.open or ends.open):
        return Place(begins, stops, out, step)
    leave_open = lines.open if ends.open is None else ends.open
    if first == end and lines.open:
        # Lines after a last one without a line end: it needs one now.
        out = eol + out
    if leave_open and not out and begins:
        # The last lines go: the one before them is the last now, and has no line end either.
        begins -= 2 if eol == "\r\n" and lines.text.endswith(eol, 0, begins) else 1
    if leave_open and out:
        out = out.removesuffix("\n").removesuffix("\r" if eol == "\r\n" else "")
    return Place(begins, stops, out, step)


def newline_for(lines: Lines, start: int, finish: int) -> str:
    """The line end of what is replaced, else of most of the file."""
    there = lines.between(start, finish)
    if lines.open and finish == lines.count:
        there = there[:-1]
    if not there:
        return lines.newline
    crlf = sum(line.endswith("\r") for line in there)
    return "\r\n" if crlf * 2 > len(there) else "\n"


def shifted(line: str, shift: Shift) -> str:
    """A line with its indentation as it should be in the file."""
    if not line.strip():
        return line
    indent = indent_of(line)
    there = shift(indent)
    return line if there is None else there + line[len(indent) :]
