"""The `*** Begin Patch` envelope: files added, updated, moved, deleted; places named by `@@` and by context."""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.edits.hunks import Marked, marked, replacement
from poolcli.edits.results import FileEdit, Refusal, Replacement

_FILE = re.compile(r"\*\*\* (Add|Update|Delete|Create|Modify) File: *(.+?) *")
_MOVE = re.compile(r"\*\*\* (?:Move|Rename) to: *(.+?) *")
_ACTIONS = {"Add": "create", "Create": "create", "Update": "update", "Modify": "update", "Delete": "delete"}


def is_envelope(text: str) -> bool:
    """Whether a text holds a patch of this kind, also one that lost its first line."""
    return bool(re.search(r"(?m)^ *\*\*\* (?:Begin Patch|(?:Add|Update|Delete) File: )", text))


def parse(text: str) -> list[FileEdit] | Refusal:
    """The edits of the patch."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    start = next((i for i, line in enumerate(lines) if line.strip() == "*** Begin Patch"), -1) + 1
    edits: list[FileEdit] = []
    at = start
    while at < len(lines) and lines[at].strip() != "*** End Patch":
        match = _FILE.fullmatch(lines[at].strip())
        if match is None:
            if start and lines[at].strip():
                return _unreadable(lines[at])
            at += 1
            continue
        end = _section_end(lines, at + 1)
        edit = _edit(_ACTIONS[match[1]], match[2], lines[at + 1 : end])
        if isinstance(edit, Refusal):
            return edit
        edits.append(edit)
        at = end
    if not edits:
        return Refusal(
            "malformed", "the patch names no file; begin each part with *** Add, Update or Delete File: PATH"
        )
    return edits


def _unreadable(line: str) -> Refusal:
    return Refusal(
        "malformed",
        f"`{line[:80]}` is no line of a patch here; a part begins with *** Add, Update or Delete File: PATH",
    )


def _section_end(lines: Sequence[str], at: int) -> int:
    while at < len(lines):
        line = lines[at].rstrip()
        if line == "*** End Patch" or _FILE.fullmatch(line) or line.startswith("```"):
            break
        at += 1
    return at


def _edit(action: str, path: str, lines: list[str]) -> FileEdit | Refusal:
    path = path.strip("`\"'")
    if action == "delete":
        return FileEdit(path, "delete")
    if action == "create":
        return _created(path, lines)
    move = ""
    if lines and (match := _MOVE.fullmatch(lines[0].strip())):
        move, lines = match[1], lines[1:]
    replacements = _replacements(lines)
    if isinstance(replacements, Refusal):
        return replacements
    if not replacements and not move:
        return Refusal("malformed", f"the patch changes nothing in {path}; mark lines with - and +", path)
    return FileEdit(path, "update", tuple(replacements), move_to=move)


def _created(path: str, lines: list[str]) -> FileEdit | Refusal:
    while lines and not lines[-1].strip():
        lines.pop()
    marks = [line.startswith("+") for line in lines if line.strip()]
    if not any(marks):
        # All marks forgotten: the lines are the file.
        return FileEdit(path, "create", content="".join(line + "\n" for line in lines))
    if not all(marks):
        return Refusal(
            "malformed", f"some lines of the new file {path} do not begin with +; mark all of them", path
        )
    return FileEdit(path, "create", content="".join(line[1:] + "\n" for line in lines))


def _replacements(lines: Sequence[str]) -> list[Replacement] | Refusal:
    found: list[Replacement] = []
    anchors: list[str] = []
    hunk: list[Marked] = []

    def close(at_end: bool = False) -> None:
        while hunk and hunk[-1] == ("", ""):
            hunk.pop()
        if any(mark in ("-", "+") for mark, _ in hunk):
            found.append(replacement(hunk, anchors=tuple(anchors), at_end=at_end or _appends(hunk, anchors)))
            anchors.clear()
        hunk.clear()

    for line in lines:
        if line.startswith("@@"):
            close()
            anchor = re.sub(r"^@@+|@@+$", "", line.rstrip()).strip()
            if anchor and not re.fullmatch(r"[-+\d,.\s…]*", anchor):
                numbers = re.match(r"-\d+(?:,\d+)? \+\d+(?:,\d+)? @@+ ?", anchor)
                anchors.append(anchor[numbers.end() :] if numbers else anchor)
        elif line.strip() == "*** End of File":
            close(at_end=True)
        elif line.startswith("*** "):
            return _unreadable(line)
        elif line.startswith("\\ "):
            continue
        else:
            hunk.append(marked(line))
    close()
    return found


def _appends(hunk: Sequence[Marked], anchors: Sequence[str]) -> bool:
    """Added lines with nothing around them and no place named go to the end of the file."""
    return not anchors and all(mark == "+" for mark, _ in hunk)
