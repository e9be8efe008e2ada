"""Marked lines of a diff or patch as a replacement."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace as altered

from poolcli.edits.results import Replacement

#: A mark (" ", "-", "+", or "" for a line that came without one) and the text after it.
Marked = tuple[str, str]


def marked(line: str) -> Marked:
    """A line of a hunk. One without a mark is a line of the file that lost it."""
    if line[:1] in (" ", "-", "+"):
        return line[0], line[1:]
    return "", line


def replacement(
    lines: Sequence[Marked],
    *,
    stated: int = 0,
    anchors: tuple[str, ...] = (),
    at_end: bool = False,
    old_open: bool = False,
    new_open: bool = False,
) -> Replacement:
    """What a hunk replaces by what."""
    found = Replacement(
        "".join(text + "\n" for mark, text in lines if mark != "+"),
        "".join(text + "\n" for mark, text in lines if mark != "-"),
        whole_lines=True,
        stated=stated,
        anchors=anchors,
        at_end=at_end,
        old_open=old_open,
        new_open=new_open,
        changes=tuple(_changes(lines)),
    )
    # The blank before a context line may be its own: then its mark is missing.
    if not any(mark == " " and text[:1] in (" ", "\t") for mark, text in lines):
        return found
    bare = [("", " " + text) if mark == " " and text.strip() else (mark, text) for mark, text in lines]
    return altered(
        found,
        otherwise=(
            "".join(text + "\n" for mark, text in bare if mark != "+"),
            "".join(text + "\n" for mark, text in bare if mark != "-"),
        ),
    )


def _changes(lines: Sequence[Marked]) -> list[tuple[int, int, int, int]]:
    """Which lines of the old text become which of the new one, as the marks say."""
    found: list[tuple[int, int, int, int]] = []
    i = j = 0
    for mark, _ in lines:
        removed, added = int(mark == "-"), int(mark == "+")
        if removed or added:
            if found and (found[-1][1], found[-1][3]) == (i, j):
                i1, _, j1, _ = found.pop()
            else:
                i1, j1 = i, j
            found.append((i1, i + removed, j1, j + added))
        i += mark != "+"
        j += mark != "-"
    return found
