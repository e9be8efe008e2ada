"""The files that a git patch touches, with their texts before and after."""

from __future__ import annotations

import re

from msgspec import Struct

from poolcli.verdict.tampering.findings import Read

_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


class Change(Struct, frozen=True):
    """One file of a patch: its path before ('' when it is new) and after ('' when it was deleted).

    The texts are None where there is no file, or one that is binary or too long to be read.
    """

    old: str
    new: str
    before: str | None = None
    after: str | None = None
    binary: bool = False

    @property
    def path(self) -> str:
        """The path to speak of."""
        return self.new or self.old


def changes(patch: str, base: Read, after: Read) -> list[Change]:
    """All files of a patch in its order, each with its texts."""
    found = []
    for old, new, binary in paths(patch):
        before = base(old) if old else None
        now = after(new) if new else None
        found.append(Change(old, new, before, now, binary))
    return found


def paths(patch: str) -> list[tuple[str, str, bool]]:
    """(old path, new path, whether it is binary) of each file; '' where there is none."""
    files: list[tuple[str, str, bool]] = []
    old = new = ""
    binary = open_ = headed = False
    left = right = 0  # lines of the present hunk that are still to come

    def close() -> None:
        if open_ and (old or new):
            files.append((old, new, binary))

    for line in patch.split("\n"):
        if left > 0 or right > 0:
            left -= line[:1] in (" ", "-", "")
            right -= line[:1] in (" ", "+", "")
            continue
        if line.startswith("diff --git "):
            close()
            old, new = _both(line[11:])
            binary, open_, headed = False, True, True
        elif line.startswith("new file mode"):
            old = ""
        elif line.startswith("deleted file mode"):
            new = ""
        elif line.startswith(("rename from ", "copy from ")):
            old = _plain(line.split(" ", 2)[2]) if line.startswith("rename") else ""
        elif line.startswith(("rename to ", "copy to ")):
            new = _plain(line.split(" ", 2)[2])
        elif line.startswith("--- "):
            if not headed:
                close()
                binary, open_ = False, True
            old = _side(line[4:])
        elif line.startswith("+++ "):
            new = _side(line[4:])
            headed = False
        elif line.startswith(("GIT binary patch", "Binary files ")):
            binary = True
        elif match := _HUNK.match(line):
            left, right = int(match[1] or 1), int(match[2] or 1)
    close()
    return files


def _both(text: str) -> tuple[str, str]:
    """The two paths behind `diff --git`; only right when they are the same, else other lines tell."""
    if text.startswith('"'):
        first = text[: text.find('" ') + 1]
        return _side(first), _side(text[len(first) + 1 :])
    half = (len(text) - 1) // 2
    return _side(text[:half]), _side(text[half + 1 :])


def _side(text: str) -> str:
    """The path of one side, without its prefix and what may follow after a tab."""
    name = _plain(text.rstrip("\r") if text.startswith('"') else text.split("\t")[0].rstrip("\r"))
    if name == "/dev/null":
        return ""
    return name[2:] if name[:2] in ("a/", "b/") else name


def _plain(name: str) -> str:
    if len(name) < 2 or not (name.startswith('"') and name.endswith('"')):
        return name

    def one(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else _LETTERS.get(code, code)

    inner = name[1:-1].encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(one, inner).decode("utf-8", "surrogateescape")
