"""Give folders of a run to the user whose repository it is, where pool runs as root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def foreign_owner(checkout: Path) -> tuple[int, int] | None:
    """(uid, gid) of the checkout's owner where pool runs as root and the owner is another; else None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    status = checkout.stat()
    return (status.st_uid, status.st_gid) if status.st_uid != 0 else None


def give(folders: Iterable[Path], owner: tuple[int, int]) -> None:
    """Make everything in these folders the owner's; links themselves, never what they lead to.

    Raises OSError when the file system refuses.
    """
    for folder in folders:
        os.chown(folder, *owner, follow_symlinks=False)
        for _, names, files, descriptor in os.fwalk(folder):  # does not follow links either
            for name in (*names, *files):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(name, *owner, dir_fd=descriptor, follow_symlinks=False)
