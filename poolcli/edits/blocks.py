"""SEARCH/REPLACE blocks, fenced or not, with the file's name wherever people put it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.edits.names import name_in
from poolcli.edits.results import FileEdit, Refusal, Replacement

# The markers have seven characters; models count badly.
_HEAD = re.compile(r"\s*(?:<{5,9}|-{5,9}) *(?:SEARCH|ORIGINAL|OLD|FIND)\b[ :>]*(.*?)\s*", re.IGNORECASE)
_DIVIDER = re.compile(r"\s*(={5,9})\s*")
_TAIL = re.compile(r"\s*(?:>{5,9}|\+{5,9}) *(?:REPLACE|UPDATED|NEW)?\b.*", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})(.*)")

#: Lines above a block in which its file is named: a name, a fence and a blank line.
ABOVE = 4


def is_blocks(text: str) -> bool:
    """Whether a text holds such a block."""
    return any(_HEAD.fullmatch(line) for line in text.split("\n"))


def parse(text: str, path: str = "") -> list[FileEdit] | Refusal:
    """The blocks by file, in order; `path` is the file of blocks without a name."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    by_file: dict[str, list[Replacement]] = {}
    current, at, done = path, 0, 0
    while at < len(lines):
        head = _HEAD.fullmatch(lines[at])
        if head is None:
            at += 1
            continue
        current = name_in(head[1]) or _name_above(lines, done, at) or current
        if not current:
            return Refusal(
                "malformed", f"the block at line {at + 1} names no file; put its path on the line above"
            )
        block = _block(lines, at)
        if isinstance(block, Refusal):
            return block
        replacement, at = block
        done = at
        by_file.setdefault(current, []).append(replacement)
    if not by_file:
        return Refusal("malformed", "there is no SEARCH/REPLACE block")
    return [FileEdit(name, "update", tuple(edits)) for name, edits in by_file.items()]


def _block(lines: Sequence[str], at: int) -> tuple[Replacement, int] | Refusal:
    """The block whose first marker is at a line, and the line after it."""
    tail = next((i for i in range(at + 1, len(lines)) if _ends(lines[i])), None)
    if tail is None or _HEAD.fullmatch(lines[tail]):
        return Refusal(
            "malformed", f"the block at line {at + 1} does not end with >>>>>>> REPLACE; write it whole"
        )
    dividers = [i for i in range(at + 1, tail) if _DIVIDER.fullmatch(lines[i])]
    if len(dividers) > 1:
        # A line of = may belong to the text; the marker is as long as the others, at the margin.
        length = len(re.match(r"\s*([<-]+)", lines[at])[1])  # type: ignore[index]
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        same = [i for i in dividers if lines[i].rstrip() == indent + "=" * length]
        dividers = same if len(same) == 1 else dividers
    if len(dividers) != 1:
        problem = "no line of =======" if not dividers else "several lines of ======="
        return Refusal("malformed", f"the block at line {at + 1} has {problem} between old and new text")
    (divider,) = dividers
    old, line = _without_head(list(lines[at + 1 : divider]))
    new = lines[divider + 1 : tail]
    return Replacement(_text(old), _text(new), whole_lines=True, line=line), tail + 1


def _ends(line: str) -> bool:
    return bool(_TAIL.fullmatch(line) or _HEAD.fullmatch(line))


def _without_head(lines: list[str]) -> tuple[list[str], int]:
    """The old text without a line number given above it (`:start_line:12`, then a rule)."""
    number = 0
    while lines and (match := re.fullmatch(r"\s*:(start_line|end_line):\s*(\d+)\s*", lines[0])):
        number = int(match[2]) if match[1] == "start_line" else number
        lines = lines[1:]
    if number and lines and re.fullmatch(r"\s*-{5,9}\s*", lines[0]):
        lines = lines[1:]
    return lines, number


def _text(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _name_above(lines: Sequence[str], done: int, at: int) -> str:
    """The name of the file on the lines above a block, or in the fence that opens there."""
    for number in range(at - 1, max(done, at - ABOVE) - 1, -1):
        line = lines[number]
        if fence := _FENCE.fullmatch(line):
            if name := in_fence(fence[1]):
                return name
            continue
        if name := name_in(line):
            return name
    return ""


def in_fence(info: str) -> str:
    """The file that is named where a fence opens: `python app.py`, `python:app.py`, `app.py`, `title="app.py"`."""
    for word in re.split(r"[\s:=]+", info.strip()):
        if name := name_in(word.strip("\"'{}"), commented=False):
            return name
    return ""
