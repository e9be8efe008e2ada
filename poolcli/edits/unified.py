"""Unified diffs as models write them: mended first, then read with unidiff, placed by what they say.

Line numbers are the part that models get wrong. They are trusted only where every hunk of a file fits
exactly at the line it names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from poolcli.edits.hunks import Marked, marked, replacement
from poolcli.edits.results import FileEdit, Refusal, Replacement

_HUNK = re.compile(r"@@+ *-(\d+)(?:,(\d+))? +\+(\d+)(?:,(\d+))? *@@+ ?(.*)")
_LOOSE = re.compile(r"@@+(.*?)(?:@@+(.*))?")
_EXTENDED = re.compile(
    r"(?:index |old mode |new mode |similarity index |dissimilarity index |copy from |copy to )"
)
_NOTHING = "/dev/null"


class _Hunk(Struct):
    lines: list[Marked]
    stated: int = 0
    sound: bool = False
    anchor: str = ""
    old_open: bool = False
    new_open: bool = False


class _File(Struct):
    old: str = ""
    new: str = ""
    created: bool = False
    deleted: bool = False
    renamed: bool = False
    binary: bool = False
    hunks: list[_Hunk] = []


def is_unified(text: str) -> bool:
    """Whether a text holds a unified diff."""
    return bool(
        (re.search(r"(?m)^@@.*$", text) and re.search(r"(?m)^[-+]", text))
        or re.search(r"(?m)^diff --git ", text)
        or re.search(r"(?m)^--- \S.*\n\+\+\+ \S", text)
    )


def parse(text: str, path: str = "") -> list[FileEdit] | Refusal:
    """The edits of a diff; `path` is the file that hunks without a header are for."""
    files = _sections(text.split("\n"), path)
    edits: list[FileEdit] = []
    for file in files:
        edit = _edit(file)
        if isinstance(edit, Refusal):
            return edit
        edits.append(edit)
    if not edits:
        return Refusal(
            "malformed", "the diff holds no hunk; give the changed lines below a line that begins with @@"
        )
    return edits


def _sections(lines: Sequence[str], path: str) -> list[_File]:
    """The files of a diff with their hunks, whatever else stands between them."""
    files: list[_File] = []
    file: _File | None = None
    fresh = False  # the current file has only seen its `diff --git` header so far
    at = 0
    while at < len(lines):
        line = lines[at].removesuffix("\r")
        if line.startswith("diff --git "):
            file, fresh = _File(*_git_names(line)), True
            files.append(file)
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            if file is None or not fresh:
                file = _File()
                files.append(file)
            fresh = False
            _name_files(file, _named(line[4:]), _named(lines[at + 1].removesuffix("\r")[4:]))
            at += 1
        elif line.startswith("@@"):
            if file is None:
                file = _File(path, path)
                files.append(file)
            fresh = False
            hunk, at = _hunk(lines, at)
            file.hunks = [*file.hunks, hunk]
            continue
        elif file is not None and fresh:
            _extended(file, line)
        elif file is not None and not file.hunks and line[:1] in ("-", "+", " ") and line.strip():
            # Changed lines right below the names, without a line that begins with @@.
            hunk, at = _hunk(lines, at - 1)
            file.hunks = [hunk]
            continue
        at += 1
    return [
        file for file in files if file.hunks or file.renamed or file.created or file.deleted or file.binary
    ]


def _git_names(line: str) -> tuple[str, str]:
    rest = line.removeprefix("diff --git ")
    if match := re.fullmatch(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)', rest):
        return _pair(_named(match[1]), _named(match[2]))
    # Names with blanks: both halves are the same but for a/ and b/.
    half = len(rest) // 2
    return _pair(rest[:half], rest[half + 1 :])


def _name_files(file: _File, old: str, new: str) -> None:
    file.created = file.created or old == _NOTHING
    file.deleted = file.deleted or new == _NOTHING
    old, new = _pair(old, new)
    if not file.renamed:
        file.old, file.new = old, new


def _pair(old: str, new: str) -> tuple[str, str]:
    """Both names without the `a/` and `b/` of git; one that is really in a folder called so keeps it."""
    prefixed = (old.startswith("a/") or old == _NOTHING) and (new.startswith("b/") or new == _NOTHING)
    if prefixed:
        old, new = old.removeprefix("a/"), new.removeprefix("b/")
    return old, new


def _extended(file: _File, line: str) -> None:
    if line.startswith("new file"):
        file.created = True
    elif line.startswith("deleted file"):
        file.deleted = True
    elif line.startswith("rename from "):
        file.old, file.renamed = _named(line.removeprefix("rename from ")), True
    elif line.startswith("rename to "):
        file.new, file.renamed = _named(line.removeprefix("rename to ")), True
    elif line.startswith(("Binary files ", "GIT binary patch")):
        file.binary = True


def _named(name: str) -> str:
    """A name as it stands in a header: without a time after a tab, unquoted."""
    name = name.split("\t")[0].strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        return _unquoted(name[1:-1])
    # Some write a time after blanks.
    return re.sub(r"\s+\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*$", "", name)


_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}


def _unquoted(name: str) -> str:
    plain = bytearray()
    for match in re.finditer(r"\\([0-7]{3}|.)|([^\\]+)", name):
        if match[2] is not None:
            plain += match[2].encode("utf-8", "surrogateescape")
        elif len(match[1]) == 3:
            plain.append(int(match[1], 8) & 0xFF)
        else:
            plain += bytes([_LETTERS[match[1]]]) if match[1] in _LETTERS else match[1].encode()
    return plain.decode("utf-8", "surrogateescape")


def _hunk(lines: Sequence[str], at: int) -> tuple[_Hunk, int]:
    """The hunk whose head is at a line, and the line after it."""
    head = lines[at].removesuffix("\r") if at >= 0 else ""
    match = _HUNK.fullmatch(head)
    if match is not None:
        old = int(match[2]) if match[2] is not None else 1
        new = int(match[4]) if match[4] is not None else 1
        # A range of no lines is named by the line before it.
        stated = int(match[1]) + (old == 0)
        counted = _counted(lines, at + 1, old, new)
        if counted is not None:
            hunk, end = counted
            hunk.stated, hunk.sound = stated, True
            return hunk, end
        hunk, end = _until_next(lines, at + 1)
        hunk.stated = stated
        return hunk, end
    hunk, end = _until_next(lines, at + 1)
    if loose := _LOOSE.fullmatch(head):
        anchor = (loose[2] or "").strip() or (loose[1] or "").strip()
        if anchor and not re.fullmatch(r"[-+\d,.\s…]*", anchor):
            hunk.anchor = anchor
    return hunk, end


def _counted(lines: Sequence[str], at: int, old: int, new: int) -> tuple[_Hunk, int] | None:
    """A hunk of as many lines as its head says; None when they do not work out."""
    hunk = _Hunk([])
    while old > 0 or new > 0:
        if at >= len(lines):
            return None
        line = lines[at]
        mark, text = marked(line) if line not in ("", "\r") else (" ", line)
        if mark == "" and line.startswith("\\") and hunk.lines:
            _ends_open(hunk)
            at += 1
            continue
        if mark == "":
            return None
        old -= mark != "+"
        new -= mark != "-"
        hunk.lines.append((mark, text))
        at += 1
    if old < 0 or new < 0:
        return None
    while at < len(lines) and lines[at].startswith("\\"):
        _ends_open(hunk)
        at += 1
    rest = at
    while rest < len(lines) and not lines[rest].strip():
        rest += 1
    follows = rest < len(lines) and not _is_end(lines, rest)
    # More marked lines follow: the counts were too small. Anything else is prose after the diff.
    if follows and (lines[rest][:1] in (" ", "-", "+") or rest == at):
        return None
    return hunk, at


def _ends_open(hunk: _Hunk) -> None:
    """`\\ No newline at end of file`: the line before it is the last and has no line end."""
    mark = hunk.lines[-1][0]
    hunk.old_open = hunk.old_open or mark != "+"
    hunk.new_open = hunk.new_open or mark != "-"


def _is_end(lines: Sequence[str], at: int) -> bool:
    line = lines[at]
    if line.startswith(("@@", "diff --git ", "```", "Index: ", "*** ")) or line.rstrip() == "-- ":
        return True
    if not (line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")):
        return False
    return at + 2 >= len(lines) or lines[at + 2].startswith(("@@", "-", "+", " "))


def _until_next(lines: Sequence[str], at: int) -> tuple[_Hunk, int]:
    """A hunk that ends where the next one, another file or nothing begins."""
    hunk = _Hunk([])
    while at < len(lines) and not _is_end(lines, at):
        line = lines[at]
        if line.startswith("\\ ") and hunk.lines:
            _ends_open(hunk)
        else:
            hunk.lines.append(marked(line))
        at += 1
    while hunk.lines and hunk.lines[-1][0] == "" and not hunk.lines[-1][1].strip():
        hunk.lines.pop()
    return hunk, at


def _edit(file: _File) -> FileEdit | Refusal:
    if file.binary:
        return Refusal(
            "malformed", f"{file.new or file.old} is a binary file in this diff; only text can be edited"
        )
    path = file.new if file.created or not file.old or file.old == _NOTHING else file.old
    replacements = _replacements(file.hunks)
    if isinstance(replacements, Refusal):
        return replacements
    if file.created:
        added = "".join(one.new for one in replacements)
        if any(one.old for one in replacements):
            return Refusal(
                "malformed", f"{path} is a new file in this diff, yet lines are removed or kept", path
            )
        is_open = bool(replacements) and replacements[-1].new_open
        return FileEdit(path, "create", content=added.removesuffix("\n") if is_open else added)
    numbered = bool(file.hunks) and all(hunk.sound for hunk in file.hunks)
    if file.deleted:
        return FileEdit(file.old, "delete", tuple(replacements), numbered=numbered)
    move = file.new if file.new != file.old and file.new and file.new != _NOTHING else ""
    return FileEdit(path, "update", tuple(replacements), move_to=move, numbered=numbered)


def _replacements(hunks: Sequence[_Hunk]) -> list[Replacement] | Refusal:
    """The hunks as replacements, read by unidiff from a diff whose counts and marks are right."""
    wanted = [hunk for hunk in hunks if any(mark in ("-", "+") for mark, _ in hunk.lines)]
    if not wanted:
        return []
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    mended = ["--- a/file\n", "+++ b/file\n"]
    for hunk in wanted:
        old = sum(mark != "+" for mark, _ in hunk.lines)
        new = sum(mark != "-" for mark, _ in hunk.lines)
        mended.append(f"@@ -{hunk.stated or 1},{old} +{hunk.stated or 1},{new} @@\n")
        mended += [(mark or " ") + text + "\n" for mark, text in hunk.lines]
    try:
        read = PatchSet(mended)[0]
    except (UnidiffParseError, IndexError) as error:
        return Refusal("malformed", f"the diff cannot be read: {str(error).strip()}")
    found = []
    for hunk, parsed in zip(wanted, read, strict=True):
        lines = [
            # A line that came without a mark is no other reading of a line with one.
            (mark if mark == "" else line.line_type, line.value.removesuffix("\n"))
            for (mark, _), line in zip(hunk.lines, parsed, strict=True)
        ]
        found.append(
            replacement(
                lines,
                stated=hunk.stated,
                anchors=(hunk.anchor,) if hunk.anchor else (),
                old_open=hunk.old_open,
                new_open=hunk.new_open,
            )
        )
    return found
