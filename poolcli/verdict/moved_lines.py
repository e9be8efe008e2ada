"""Where a line of the changed files stood before the change, by the patch alone."""

from __future__ import annotations

from msgspec import Struct, field

from poolcli.verdict.changed_lines import path_of, read


class _Block(Struct, frozen=True):
    """Lines that took the place of others: `after` (first, last) of the new file for `before` of the old one."""

    before: tuple[int, int]
    after: tuple[int, int]


class _File(Struct, frozen=True):
    """A file of the patch: its `path` before ('' for a new one), and what was exchanged, from its top."""

    path: str
    blocks: tuple[_Block, ...]


class Place(Struct, frozen=True):
    """A line before the change: of which file, and from which to which line (from 1) it may have been.

    A line that was kept has one, `first` and `last` alike. One that was rewritten has those that it and its
    neighbours took the place of; one that was only added has none, then `last` is smaller than `first`.
    """

    path: str
    first: int
    last: int


class Moved(Struct, frozen=True):
    """What a patch moved. Files that it does not name are as they were."""

    files: dict[str, _File] = field(default_factory=dict)

    def before(self, path: str, line: int) -> Place:
        """The place of a line of the new version of a file; line 0, the file as a whole, stays 0."""
        file = self.files.get(path)
        if file is None:
            return Place(path, line, line)
        offset = 0
        for block in file.blocks:
            if line < block.after[0]:
                break
            if line <= block.after[1]:
                return Place(file.path, *block.before)
            offset = block.before[1] - block.after[1]
        return Place(file.path, line + offset, line + offset)


def moved(patch: str) -> Moved:
    """What a git patch moved. Raises UsageError for a text that is no patch or one that was cut off."""
    files = {}
    for file in read(patch):
        if file.target_file == "/dev/null":
            continue
        blocks: list[_Block] = []
        for hunk in file:
            # git counts a stretch of no lines from the line before it.
            old = hunk.source_start + (hunk.source_length == 0)
            new = hunk.target_start + (hunk.target_length == 0)
            old_from, new_from = old, new
            for line in hunk:
                if line.is_context:
                    _close(blocks, old_from, old, new_from, new)
                    old_from, new_from = old + 1, new + 1
                old += line.is_context or line.is_removed
                new += line.is_context or line.is_added
            _close(blocks, old_from, old, new_from, new)
        before = "" if file.source_file == "/dev/null" else path_of(file.source_file, "a/")
        files[path_of(file.target_file)] = _File(before, tuple(blocks))
    return Moved(files)


def _close(blocks: list[_Block], old_from: int, old: int, new_from: int, new: int) -> None:
    if old > old_from or new > new_from:
        blocks.append(_Block((old_from, old - 1), (new_from, new - 1)))
