"""Whether a runner is really there: rustup puts a `cargo` on PATH that only says that there is no toolchain."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess


@functools.cache
def installed(name: str, path: str | None = None) -> str | None:
    """Where the program is; None when it is not there or cannot even tell its version."""
    found = shutil.which(name, path=path)
    if found is None or os.path.basename(name) != "cargo":
        return found
    done = subprocess.run([found, "--version"], capture_output=True, stdin=subprocess.DEVNULL)
    return found if done.returncode == 0 else None
