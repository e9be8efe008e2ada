"""How a command is started behind the forwarder, inside its sandbox."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

#: The forwarder, and the folder that has to be readable in the sandbox for it.
PROGRAM = Path(__file__).resolve().with_name("forwarder.py")
#: Its port on the sandbox's own loopback, where nothing else listens when a command starts.
PORT = 3128


def inside(argv: Sequence[str], socket: Path, *, port: int = PORT) -> list[str]:
    """The process that runs `argv` with the proxy behind `socket` (as the sandbox sees it) as its way out."""
    # The interpreter itself, not a link in an environment: without `site` it needs nothing of that.
    python = getattr(sys, "_base_executable", "") or sys.executable
    return [python, "-I", "-S", str(PROGRAM), str(port), str(socket), "--", *argv]
