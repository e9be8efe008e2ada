"""Which file a program's name means, where a repository could have put one of that name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def find(name: str, *, not_in: Sequence[Path]) -> str:
    """The absolute path of a program on PATH; '' when there is none.

    Entries of PATH that depend on where one stands (`.`, `node_modules/.bin`) do not count, nor do programs
    that lie in one of the folders `not_in`: what a repository or a model wrote is never run by pool itself.
    """
    tops = tuple(os.path.realpath(top) + os.sep for top in not_in)
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        file = os.path.join(folder, name)  # noqa: PTH118
        if not os.path.isabs(folder) or not os.path.isfile(file) or not os.access(file, os.X_OK):  # noqa: PTH113, PTH117
            continue
        if not os.path.realpath(file).startswith(tops):
            return file
    return ""
