"""The Pythons of this machine: on PATH, or among those that pyenv keeps."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path


@functools.cache
def interpreter(version: str) -> str | None:
    """An interpreter of this version ("3.12"); None when there is none. A shim that starts another is not taken."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for found in (
        shutil.which(f"python{version}"),
        *(str(path) for path in sorted(kept.glob(f"{version}.*/bin/python{version}"))),
    ):
        if found is None:
            continue
        done = subprocess.run(
            [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0 and done.stdout.strip() == version:
            return found
    return None
