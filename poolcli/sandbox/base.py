"""How commands are confined: a value that says which way, and a pure function from argv to argv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from poolcli.errors import RefusedError


class Sandbox(Struct, frozen=True):
    """One way to confine commands. `name` goes into the log; `note` says in one line what it does not do."""

    name: str
    note: str


#: Commands run with the user's own rights. Said plainly wherever a run is described.
NONE = Sandbox("none", "commands run with your rights and can reach your files and the network")


def default() -> Sandbox:
    """The strongest sandbox there is on this machine. For now there is none."""
    return NONE


def wrap(sandbox: Sandbox, argv: Sequence[str], *, root: Path) -> list[str]:
    """The command that runs `argv` confined to the worktree `root`.

    Raises RefusedError for a sandbox that this version does not know: it must never run unconfined instead.
    """
    if sandbox.name == NONE.name:
        return list(argv)
    raise RefusedError(f"this version of pool has no sandbox called {sandbox.name!r}")
