"""Whole files: a fenced block with the file's name above it or in its first line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.edits import elided
from poolcli.edits.blocks import in_fence
from poolcli.edits.names import name_in
from poolcli.edits.results import FileEdit, Refusal

_OPEN = re.compile(r"( {0,3})(`{3,}|~{3,})(.*)")


def parse(text: str, path: str = "") -> list[FileEdit] | Refusal:
    """The files in a text; `path` names the only block when that has no name. No files: an empty list."""
    lines = text.split("\n")
    found: list[FileEdit] = []
    unnamed: list[str] = []
    at = 0
    while at < len(lines):
        fence = _OPEN.fullmatch(lines[at].removesuffix("\r"))
        if fence is None:
            at += 1
            continue
        end = _closing(lines, at, fence[2])
        if end is None:
            return Refusal(
                "malformed",
                f"the fence at line {at + 1} is not closed; the file may be cut off, write it whole",
            )
        content = "".join(line + "\n" for line in lines[at + 1 : end])
        name = in_fence(fence[3]) or _above(lines, at)
        if name:
            found.append(FileEdit(name, "write", content=content))
        else:
            unnamed.append(content)
        at = end + 1
    if not found and len(unnamed) == 1 and path:
        found.append(FileEdit(path, "write", content=unnamed[0]))
    return found


def _above(lines: Sequence[str], at: int) -> str:
    for number in range(at - 1, max(-1, at - 3), -1):
        if lines[number].strip():
            return name_in(lines[number])
    return ""


def _closing(lines: Sequence[str], at: int, fence: str) -> int | None:
    """The line that closes a fence; fences that open within (they name a language) close first."""
    depth = 0
    for number in range(at + 1, len(lines)):
        inner = _OPEN.fullmatch(lines[number].removesuffix("\r"))
        if inner is None or not inner[2].startswith(fence):
            continue
        if inner[3].strip():
            depth += 1
        elif depth:
            depth -= 1
        else:
            return number
    return None


def fitted(content: str, before: str | None) -> str | Refusal:
    """The new text of a file with the line ends of the old one; refused when it leaves code out."""
    from poolcli.edits.lines import Lines, lines_of

    mark = elided.placeholder(lines_of(before or ""), lines_of(content))
    if mark:
        return Refusal(
            "unclear",
            f"the file holds `{mark[:120]}`, which stands for code that is not written out; write all of it",
        )
    if before is None or not before:
        return content
    old = Lines(before)
    plain = content.replace("\r\n", "\n") if "\n" in before else content
    if old.open and plain.endswith("\n"):
        plain = plain[:-1]
    return plain.replace("\n", "\r\n") if old.newline == "\r\n" else plain
