"""Replace text in a file, exactly or in the one way that it can be meant; all else stays as it is, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from poolcli.tools import files, marks, recalled, syntax
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.diffs import unified

if TYPE_CHECKING:
    from poolcli.edits.results import Landed, Refusal, Span, Step

#: Places that a result names.
NAMED = 10

#: Of lines that were not matched exactly: how many are shown at a place, at how many places, and characters of each.
LINES, PLACES, WIDTH = 12, 3, 200

#: In what the old text differed from the file, by the step that found it all the same.
DIFFERED = {
    "line_ends": "blanks at the ends of lines",
    "indentation": "indentation",
    "lookalikes": "signs that look alike",
    "escapes": "backslashes",
    "line_numbers": "line numbers",
    "blank_lines": "blank lines around it",
    "elided": "lines left out",
    "similar": "some words",
}

EMPTY = "old is empty; give the text to replace, or use write for a whole file"


class Replaced(Struct, frozen=True):
    """The text after a replacement, and the lines (of the text before, from 1) where old text began.

    `note` says to the model in what a match was not exact and shows the lines; "" when it was.
    """

    text: str
    lines: tuple[int, ...]
    note: str = ""


async def run(ctx: Ctx, path: str, old: str, new: str, all: bool = False) -> Output:
    """Replace the one occurrence of `old`, or every one with `all`.

    Without `old`, `new` may be a patch or blocks; or, after edits that missed, a whole function.
    """
    from poolcli.tools import patched

    if not old and (edits := patched.read(path, new)) is not None:
        if not isinstance(edits, list):
            raise patched.refused(ctx, edits.path or path, edits, "")
        return patched.run(ctx, edits)
    place = files.locate(ctx, path)
    decoded = files.decode(files.load(place))
    marks.refuse(old, decoded.text, what="old")
    marks.refuse(new, decoded.text, what="new")
    if not old:
        done = _without_old(ctx, place.name, decoded.text, new)
    else:
        _refuse_patch(path, decoded.text, new)
        found = _found(decoded.text, old, new, every=all)
        if not isinstance(found, Replaced):
            raise patched.refused(ctx, place.name, found, decoded.text, old, old.replace("\r\n", "\n"))
        done = found
    files.store(place, files.encode(done.text, decoded), ctx.outputs)
    recalled.landed(ctx.outputs, place.name, done.text)
    diff = unified(place.name, files.printable(decoded.text), files.printable(done.text))
    said = edited_text(place.name, *done.lines) + done.note
    if wrong := syntax.broken(place.name, decoded.text, done.text):
        said += f"\n{wrong}"
    return Output(said, ({"type": "diff", "path": place.name, "diff": diff},))


def edited_text(path: str, *lines: int) -> str:
    """What the model reads after an edit that began at these lines."""
    if len(lines) == 1:
        return f"edited {path} at line {lines[0]}"
    return f"edited {path} in {len(lines)} places (lines {_listed(lines)})"


def replace(text: str, old: str, new: str, *, path: str = "the file", every: bool = False) -> Replaced:
    """Replace `old` by `new` at the only place that it can mean, or everywhere with `every`.

    What replaces lines takes over their line ends. Raises ToolError when nothing would change, when `old` is not
    there, when it is there more than once, or when it is not clear what is meant.
    """
    if not old:
        raise ToolError(EMPTY)
    found = _found(text, old, new, every=every)
    if not isinstance(found, Replaced):
        raise ToolError(f"{path}: {files.printable(found.message)}")
    return found


def _found(text: str, old: str, new: str, *, every: bool) -> Replaced | Refusal:
    from poolcli.edits import replace as edits
    from poolcli.edits.results import Refusal

    landed = edits.replace(text, old, new, every=every)
    if isinstance(landed, Refusal):
        return landed
    if lines := _exact_lines(text, old, landed, every=every):
        return Replaced(landed.text, lines)
    note = inexact(landed.text, landed.spans, landed.steps)
    return Replaced(landed.text, tuple(span.first for span in landed.spans), note)


def _exact_lines(text: str, old: str, landed: Landed, *, every: bool) -> tuple[int, ...]:
    """The lines where the old text begins, when it is there exactly but perhaps for CRLF; else none."""
    if not set(landed.steps) <= {"exact", "line_ends"}:
        return ()
    if "\r" in text or "\r" in old:
        text, old = text.replace("\r\n", "\n"), old.replace("\r\n", "\n")
    lines: list[int] = []
    line, counted, at = 1, 0, text.find(old)
    while at >= 0:
        line, counted = line + text.count("\n", counted, at), at
        lines.append(line)
        at = text.find(old, at + len(old)) if every else -1
    return tuple(lines)


def inexact(text: str, spans: Sequence[Span], steps: Sequence[Step]) -> str:
    """What to say about edits that were not matched exactly, with the lines as they are now; "" when all were."""
    differed = list(dict.fromkeys(DIFFERED[step] for step in steps if step in DIFFERED))
    if not differed:
        return ""
    said = [f"(old was not there exactly: it differed in {' and '.join(differed)}; the lines are now:)"]
    lines = text.split("\n")
    for span in [span for span, step in zip(spans, steps, strict=True) if step in DIFFERED][:PLACES]:
        first, last = max(1, span.after_first - 1), min(span.after_last + 1, len(lines))
        shown = lines[first - 1 : min(last, first + LINES - 1)]
        said += [f"{number}\t{line.rstrip(chr(13))[:WIDTH]}" for number, line in enumerate(shown, first)]
        said += ["…"] * (last - first + 1 > LINES)
    return files.printable("\n" + "\n".join(said))


def _without_old(ctx: Ctx, name: str, text: str, new: str) -> Replaced:
    """Text for an empty file; or a whole function, which is what a refusal asks for after edits that missed."""
    if not text and new:
        return Replaced(new, (1,))
    if recalled.often(ctx.outputs, name) and name.endswith(".py"):
        from poolcli.tools import definition

        if (found := definition.replaced(text, new)) is not None and found[0] != text:
            return Replaced(found[0], (found[1],))
    raise ToolError(EMPTY)


def _refuse_patch(path: str, text: str, new: str) -> None:
    """Refuse to write a patch of a file into that file, where it would be in the place of code."""
    if "*** Begin Patch" not in new and "<<<<<<< SEARCH" not in new:
        return
    from poolcli.tools import patched

    if patched.read(path, new, own=True) is not None and new.lstrip()[:12] not in text:
        raise ToolError("new is a patch; to apply it leave old empty")


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:NAMED]))
    return shown if len(lines) <= NAMED else f"{shown}, …"
