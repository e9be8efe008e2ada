"""What files held before the tools changed them, in the memory of this process: an edit is taken back exactly.

Not on disk, because the folders of a run can be seen by commands, and what they put there must not become a file's
content. A run that is resumed begins without it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from msgspec import Struct

#: Bytes that are kept for a run; the oldest are forgotten first.
MOST = 64_000_000


class Earlier(Struct, frozen=True):
    """A file before one change. `before` is None when there was no file; `after` is a hash of what it became,
    empty when it is gone."""

    path: str
    before: bytes | None
    after: bytes


#: By the run's folder for outputs, oldest first.
_KEPT: dict[Path, list[Earlier]] = {}


def keep(run: Path, path: str, before: bytes | None, after: bytes | None) -> None:
    """Remember a change of the file at `path` (below the worktree, without links)."""
    kept = _KEPT.setdefault(run, [])
    kept.append(Earlier(path, before, b"" if after is None else digest(after)))
    size = sum(len(one.before or b"") for one in kept)
    while size > MOST:
        size -= len(kept.pop(0).before or b"")


def last(run: Path, path: str) -> Earlier | None:
    """The last change of a file that was not taken back; None when none is known."""
    return next((one for one in reversed(_KEPT.get(run, [])) if one.path == path), None)


def forget(run: Path, one: Earlier) -> None:
    """A change was taken back."""
    kept = _KEPT[run]
    del kept[next(at for at in range(len(kept) - 1, -1, -1) if kept[at] is one)]


def digest(data: bytes) -> bytes:
    """What `after` is compared with."""
    return hashlib.sha256(data).digest()
