"""Where installers fetch packages from, asked of the installers themselves: no registry is written down here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from poolcli import programs
from poolcli.beneath import read_regular

#: Seconds for one question: npm takes half of one.
_PATIENCE = 20.0
#: Bytes of a file of cargo's that names its registry; such a file has a hundred.
_LONGEST = 100_000

#: pip has no command that says where it looks by default, but it says so in its own words.
_PIP = "from pip._internal.models.index import PyPI as p; print(p.netloc, p.file_storage_domain)"

#: For each installer the program that is asked, and how.
_QUESTIONS = {
    "pip": ("python3", "-I", "-c", _PIP),
    "npm": ("npm", "config", "get", "registry"),
    "pnpm": ("pnpm", "config", "get", "registry"),
    "yarn": ("yarn", "config", "get", "registry"),
    "go": ("go", "env", "GOPROXY", "GOSUMDB"),
}


def hosts(installer: str, *, not_in: Sequence[Path]) -> tuple[str, ...]:
    """The hosts that an installer (pip, npm, pnpm, yarn, cargo, go) fetches from; () when it does not say.

    A program that lies in one of the folders `not_in` is not asked: a repository may hold one of that name.
    """
    if installer == "cargo":
        return tuple(dict.fromkeys(_of_cargo()))
    name, *question = _QUESTIONS[installer]
    program = programs.find(name, not_in=not_in)
    if not program:
        return ()
    try:
        # Not in the checkout: its settings are a stranger's, and could name another registry.
        answer = subprocess.run(
            [program, *question],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    words = answer.stdout.replace(",", " ").replace("|", " ").split() if answer.returncode == 0 else []
    return tuple(dict.fromkeys(host for word in words if (host := _host(word))))


def _host(word: str) -> str:
    """The host of a URL, with a port of its own, or of a bare name; '' for words such as `direct`."""
    with contextlib.suppress(ValueError):
        url = urlsplit(word if "//" in word else f"//{word}")
        host = url.hostname or ""
        if "." in host:
            return f"{host}:{url.port}" if url.port else host
    return ""


def _of_cargo() -> Iterator[str]:
    """cargo has no such question either; what it fetched before lies under the name of where it came from."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    with contextlib.suppress(OSError):
        for index in sorted((home / "registry" / "index").iterdir()):
            with contextlib.suppress(OSError, ValueError):
                data = json.loads(read_regular(index / "config.json", _LONGEST))
                yield from filter(
                    None, (_host(index.name.rpartition("-")[0]), _host(str(data.get("dl", ""))))
                )
