"""How commands are confined: plain values that say what may be reached, and one function from argv to argv."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from poolcli.errors import RefusedError


class Sandbox(Struct, frozen=True):
    """One way to confine commands.

    `name` goes into the log; `note` says in one line what it does not do; `program` is the absolute path of
    the program that does it, where there is one.
    """

    name: str
    note: str
    program: str = ""


class Overlay(Struct, frozen=True):
    """A folder of the user's that commands see and may change without changing it.

    `lower` is the user's folder on the host, `seen` its path for commands, `upper` a folder of the run for
    what they write (`upper/data`, and `upper/work` for the kernel).
    """

    lower: Path
    seen: Path
    upper: Path


class Limits(Struct, frozen=True):
    """What commands may use. All in bytes but `processes`, which counts threads too."""

    #: Of one process, and of all together where there are control groups. A large test suite or a build needs
    #: 2 to 3 GB; a leak must end before a machine of 8 GB begins to swap.
    memory: int = 4 << 30
    #: `make -j`, test workers and browsers stay below some hundreds; a fork bomb reaches this at once.
    processes: int = 1024
    #: One file: build products and test databases are below 1 GB, and a runaway log is not.
    file_size: int = 2 << 30
    #: Each of /tmp and /dev/shm. It is memory: bubblewrap's own default is half of all there is.
    tmp: int = 2 << 30


class Confinement(Struct, frozen=True):
    """What one run's commands may reach."""

    #: The worktree on the host.
    root: Path
    #: Where commands see it: the main checkout's path under bubblewrap; `root` where nothing can be mounted.
    seen: Path
    #: Host folder of this run that commands have as HOME (seen at /run/pool/home under bubblewrap).
    home: Path
    #: The run's own repository on the host, seen at /run/pool/git.
    git_dir: Path | None = None
    #: The user's object store, read-only, seen at /run/pool/objects.
    objects: Path | None = None
    overlays: tuple[Overlay, ...] = ()
    #: Folders with tools below a hidden folder (HOME, /tmp …) that stay readable; see `tools`.
    readable: tuple[Path, ...] = ()
    #: What pool itself lays out for this run, read-only: borrowed object stores, the packages of a setup. These alone
    #: may lie inside `hidden`.
    given: tuple[Path, ...] = ()
    #: Caches of this project that commands may write.
    writable: tuple[Path, ...] = ()
    #: Unix socket of our proxy; None: no network at all.
    proxy: Path | None = None
    limits: Limits = Limits()
    #: More that commands must not see, wherever it lies: pool's state and settings, the user's .git.
    hidden: tuple[Path, ...] = ()
    #: Control groups that commands are put into (`limits.open_group`); they hold what one process cannot.
    groups: tuple[Path, ...] = ()


def tools(confinement: Confinement, hidden: Iterable[Path] = ()) -> tuple[Path, ...]:
    """What of `readable` may be shown: nothing that is hidden itself, or lies in something hidden.

    `hidden` is more than the confinement's own. What a link leads to counts: it is what would be mounted.
    """
    closed = [os.path.realpath(path) for path in (*confinement.hidden, *hidden)]

    def is_closed(path: Path) -> bool:
        names = (os.path.normpath(path), os.path.realpath(path))
        return any(Path(name).is_relative_to(place) for name in names for place in closed)

    return tuple(path for path in confinement.readable if not is_closed(path))


class Launch(Struct, frozen=True):
    """What to start. `fds` are for `pass_fds`, serve this one start, and are closed with `close` after it."""

    argv: list[str]
    env: dict[str, str]
    fds: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the descriptors; once, when the command was started or could not be."""
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)


#: Commands run with the user's own rights. Said plainly wherever a run is described.
NONE = Sandbox("none", "commands run with your rights and can reach your files and the network")

#: The container or machine that pool runs in is the sandbox: the user says so.
EXTERNAL = Sandbox("external", "commands are confined by the container around pool, not by pool")

#: Nothing confines commands, and a person is asked about each one before it runs.
ASK = Sandbox("ask", "commands run with your rights, and each one asks you first")


def default() -> Sandbox:
    """What is used where nobody chose."""
    return NONE


def wrap(sandbox: Sandbox, argv: Sequence[str], confinement: Confinement, env: Mapping[str, str]) -> Launch:
    """What to start so that `argv` runs confined, with `env` as its whole environment.

    Raises RefusedError for a sandbox that this version does not know or that cannot be used: a command must
    never run unconfined instead.
    """
    if sandbox.name in (NONE.name, EXTERNAL.name, ASK.name):
        return Launch(list(argv), dict(env))
    if sandbox.name == "bubblewrap":
        from poolcli.sandbox import bubblewrap

        return bubblewrap.launch(sandbox, argv, confinement, env)
    if sandbox.name == "landlock":
        from poolcli.sandbox import landlock

        return landlock.launch(sandbox, argv, confinement, env)
    if sandbox.name == "seatbelt":
        from poolcli.sandbox import seatbelt

        return seatbelt.launch(sandbox, argv, confinement, env)
    raise RefusedError(f"this version of pool has no sandbox called {sandbox.name!r}")
