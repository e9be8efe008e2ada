"""Which lines of which files a patch added or rewrote, by their numbers in the new file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolcli.errors import UsageError

if TYPE_CHECKING:
    from unidiff.patch import PatchedFile

#: What git writes for bytes in a quoted name: `\303\244`, `\t`, `\"`.
_ESCAPE = re.compile(r"\\([0-7]{3}|.)")
_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}


def read(patch: str) -> Iterable[PatchedFile]:
    """The files of a git patch with their hunks. Raises UsageError for no patch or one that was cut off."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    # Split here, at newlines only: a carriage return or form feed inside a line is no end of one.
    lines = [line + "\n" for line in patch.split("\n")]
    if lines[-1] == "\n":
        lines.pop()
    try:
        return PatchSet(lines)
    except (UnidiffParseError, ValueError) as error:
        raise UsageError(
            f"the patch cannot be read: {str(error).strip()}", "give it as `git diff` writes it, whole"
        ) from None


def changed_lines(patch: str) -> dict[str, frozenset[int]]:
    """The added lines of each file of a git patch; numbers begin at 1 and are those of the new file.

    Deleted and binary files, mere renames and files that only lost lines are left out: there is nothing in
    them that could be run. Raises UsageError for a text that is no patch or one that was cut off.
    """
    found: dict[str, set[int]] = {}
    for file in read(patch):
        added = {line.target_line_no or 0 for hunk in file for line in hunk if line.is_added}
        if added and file.target_file != "/dev/null":
            found.setdefault(path_of(file.target_file), set()).update(added)
    return {path: frozenset(numbers) for path, numbers in sorted(found.items())}


def path_of(name: str, prefix: str = "b/") -> str:
    """The path in the repository of a name as it stands in a patch: unquoted, without git's `b/` or `a/`."""
    if len(name) > 1 and name.startswith('"') and name.endswith('"'):
        name = _unquoted(name[1:-1])
    return name.removeprefix(prefix)


def _unquoted(name: str) -> str:
    plain = bytearray()
    end = 0
    for match in _ESCAPE.finditer(name):
        plain += name[end : match.start()].encode("utf-8", "surrogateescape")
        code = match[1]
        if len(code) == 3:
            plain.append(int(code, 8) & 0xFF)
        else:
            plain += bytes([_LETTERS[code]]) if code in _LETTERS else code.encode()
        end = match.end()
    plain += name[end:].encode("utf-8", "surrogateescape")
    return plain.decode("utf-8", "surrogateescape")
