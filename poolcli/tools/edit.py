"""Replace exact text in a file; everything else of it stays as it is, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from poolcli.tools import files, marks
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.diffs import unified

#: Occurrences that an error names.
NAMED = 10

#: Characters of a new text that is not in the file by chance.
DISTINCT = 8

#: Lines in which the one nearest to a text that was not found is looked for: the search takes time per line.
COMPARED = 4000


class Replaced(Struct, frozen=True):
    """The text after a replacement, and the lines (of the text before, from 1) where old text began."""

    text: str
    lines: tuple[int, ...]


async def run(ctx: Ctx, path: str, old: str, new: str, all: bool = False) -> Output:
    """Replace the one occurrence of `old`, or every one with `all`."""
    place = files.locate(ctx, path)
    decoded = files.decode(files.load(place))
    marks.refuse(old, decoded.text, what="old")
    marks.refuse(new, decoded.text, what="new")
    done = replace(decoded.text, old, new, path=place.name, every=all)
    files.store(place, files.encode(done.text, decoded), ctx.outputs)
    diff = unified(place.name, files.printable(decoded.text), files.printable(done.text))
    return Output(edited_text(place.name, *done.lines), ({"type": "diff", "path": place.name, "diff": diff},))


def edited_text(path: str, *lines: int) -> str:
    """What the model reads after an edit that began at these lines."""
    if len(lines) == 1:
        return f"edited {path} at line {lines[0]}"
    return f"edited {path} in {len(lines)} places (lines {_listed(lines)})"


def replace(text: str, old: str, new: str, *, path: str = "the file", every: bool = False) -> Replaced:
    """Replace `old` by `new` where it is the only occurrence, or everywhere with `every`.

    Lines of `old` match lines that end in CRLF too; what replaces them takes over their line ends. Raises
    ToolError when nothing would change, when `old` is not there, or when it is there more than once.
    """
    if old == new:
        raise ToolError("old and new are the same")
    if not old:
        raise ToolError("old is empty; give the text to replace, or use write for a whole file")
    found = list(_spans(text, old))
    if not found and "\r\n" in old and "\r" not in text:
        # The model wrote CRLF for a file of LF.
        old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
        found = list(_spans(text, old))
    if not found:
        raise ToolError(f"old text not found in {path}{_advice(text, old, new)}")
    if len(found) > 1 and not every:
        lines = _line_numbers(text, [start for start, _ in found])
        where = f"{len(found)} times in {path} (lines {_listed(lines)})"
        raise ToolError(f"old text occurs {where}; give more lines around it")
    spans = list(_apart(found))
    changed = "".join(_replaced(text, spans, new))
    if changed == text:
        raise ToolError("old and new are the same")
    return Replaced(changed, tuple(_line_numbers(text, [start for start, _ in spans])))


def _spans(text: str, old: str) -> Iterator[tuple[int, int]]:
    """Where `old` occurs, occurrences that overlap included: a text that fits in two ways is not unique."""
    if "\r" in text and "\n" in old:
        lines = old.replace("\r\n", "\n").split("\n")
        pattern = re.compile(r"\r?\n".join(map(re.escape, lines)))
        at = 0
        while match := pattern.search(text, at):
            yield match.span()
            # Past the first character, and CRLF is one: else its LF alone would count once more.
            at = match.start() + (2 if text.startswith("\r\n", match.start()) else 1)
        return
    at = text.find(old)
    while at >= 0:
        yield at, at + len(old)
        at = text.find(old, at + 1)


def _apart(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans from the left that do not overlap an earlier one, as str.replace takes them."""
    end = 0
    for span in spans:
        if span[0] >= end:
            yield span
            end = span[1]


def _replaced(text: str, spans: Sequence[tuple[int, int]], new: str) -> Iterator[str]:
    at = 0
    for start, end in spans:
        yield text[at:start]
        yield _with_line_ends(new, text, text[start:end])
        at = end
    yield text[at:]


def _with_line_ends(new: str, text: str, old: str) -> str:
    """`new` with the line ends of what it replaces, else of most of the file."""
    if "\r\n" not in text or "\n" not in new:
        return new
    plain = new.replace("\r\n", "\n")
    sample = old if "\n" in old else text
    crlf = sample.count("\r\n")
    return plain.replace("\n", "\r\n") if crlf * 2 > sample.count("\n") else plain


def _line_numbers(text: str, starts: Sequence[int]) -> list[int]:
    lines, line, at = [], 1, 0
    for start in starts:
        line += text.count("\n", at, start)
        at = start
        lines.append(line)
    return lines


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:NAMED]))
    return shown if len(lines) <= NAMED else f"{shown}, …"


def _advice(text: str, old: str, new: str) -> str:
    """What to do about text that was not found."""
    if re.match(r"\s*\d+\t", old):
        return "; leave out the line numbers that read shows"
    if len(new.strip()) >= DISTINCT and (at := text.find(new)) >= 0:
        return f"; the new text is already there at line {_line_numbers(text, [at])[0]}"
    near = _nearest(text, old)
    return f"; {near}copy it exactly as read shows it"


def _nearest(text: str, old: str) -> str:
    """The line of the file nearest to the longest line of `old`, for the model to copy."""
    wanted = max((line.strip() for line in old.splitlines()), key=len, default="")
    lines = text.split("\n")
    if not wanted or len(lines) > COMPARED:
        return ""
    stripped = [line.strip() for line in lines]
    if wanted in stripped:
        at = stripped.index(wanted)
    else:
        import difflib

        close = difflib.get_close_matches(wanted, (s for s in stripped if s), n=1, cutoff=0.6)
        if not close:
            return ""
        at = stripped.index(close[0])
    shown = files.printable(lines[at].rstrip("\r"))
    return f"nearest is line {at + 1}: {shown[:200]!r}; "
