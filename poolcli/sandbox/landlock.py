"""Confinement by Landlock: for machines where bubblewrap does not start. Reduced; `LIMITS` says what it lacks.

Landlock only allows: what is to be hidden is left out of a list of everything else. `rules` makes that list from
plain values and the folders of this machine, `launch` the command that applies it (`landlock_exec.py`).
"""

from __future__ import annotations

import binascii
import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from poolcli import paths
from poolcli.errors import RefusedError
from poolcli.sandbox import private
from poolcli.sandbox.base import Confinement, Launch, Sandbox, tools

#: Version 3 (Linux 6.2) is the first that keeps a command from truncating files outside.
LEAST = 3
#: Version 6 (Linux 6.12) keeps commands from abstract unix sockets and from signalling processes outside.
SCOPED = 6

#: What even the newest version does not do, for docs, doctor and announcements.
LIMITS = (
    "names of files and the command lines of processes can be seen",
    "sockets of services on this machine that are files (in /run or /tmp) can be reached",
    "/dev/shm is shared with your other programs",
    "there is no loopback network, so tests that start a server fail",
    "an editable install made in your checkout tests your code, not the changed one",
)
NOTE = (
    "reduced: no network at all, no reading of your home folder, no writing outside the worktree; "
    "but sockets of local services, /dev/shm, names of files and processes can be reached"
)
#: What is added below version 6.
NOTE_UNSCOPED = "your other processes can be signalled"

#: Folders that hold other people's or other programs' things. Nothing below them is read unless it is named.
HIDDEN = (
    "/home",
    "/root",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/mail",
    "/var/spool",
    "/mnt",
    "/media",
    "/boot",
    "/dev",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: For terminals of the command's own. They are in one folder with the user's, whose keys could be read there.
TERMINALS = Path("/dev/pts")
#: Names in one folder that has something hidden in it, each of which becomes a rule. A folder with more is left out.
LARGEST_FOLDER = 500

#: The number of the system call `socket`.
SOCKET = {"x86_64": 41, "aarch64": 198}

#: Variables that name folders of the user's: with HOME elsewhere they would lead to places that cannot be read.
OF_HOME = frozenset(
    {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "ZDOTDIR"}
)


class Rules(Struct, frozen=True):
    """What a command may reach: everything beneath these paths, and nothing else."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    device: tuple[str, ...]


@cache
def available() -> int:
    """The kernel's version of Landlock; 0 without it. Asked once, 3 ms for ctypes."""
    if sys.platform != "linux":
        return 0
    from poolcli.sandbox import landlock_exec

    return landlock_exec.abi()


def sandbox(version: int) -> Sandbox:
    """This sandbox as a value, with what the kernel's version of Landlock cannot do."""
    return Sandbox("landlock", NOTE if version >= SCOPED else f"{NOTE}; {NOTE_UNSCOPED}")


def rules(confinement: Confinement, *, home: Path, hidden: Iterable[Path] = ()) -> Rules:
    """What commands may reach. `home` is the user's; `hidden` is further folders of the user's."""
    hidden = tuple(hidden)
    places = [*map(Path, HIDDEN), home, *hidden, *confinement.hidden]
    away = {os.path.realpath(place) for place in places}
    # These matter only where this user can read them, as root can.
    closed = {path for path in private.of_root() if os.access(path, os.R_OK)}
    away |= closed
    shown = tools(confinement, (*hidden, *map(Path, closed)))
    named = [*shown, *confinement.given, *(overlay.lower for overlay in confinement.overlays)]
    if confinement.objects is not None:
        named.append(confinement.objects)
    read = [*_beneath("/", away)]
    for path in named:
        real = os.path.realpath(path)
        # What was named is meant, though it lies in a hidden folder; what is hidden inside it stays so.
        read += _beneath(real, {place for place in away if place == real or _is_inside(place, real)})
    write = [confinement.root, confinement.home, *confinement.writable, Path("/dev/shm")]
    if confinement.git_dir is not None:
        write.append(confinement.git_dir)
    device = [*DEVICES]
    if _has_no_terminals():
        device += ["/dev/ptmx", str(TERMINALS)]
    present = [str(path) for path in write if path.exists() or path == confinement.root]
    return Rules(tuple(dict.fromkeys(read)), tuple(dict.fromkeys(present)), tuple(device))


def _beneath(path: str, away: set[str]) -> Iterator[str]:
    """The fewest paths that cover `path` without anything in `away`."""
    if path in away:
        return
    if not any(_is_inside(place, path) for place in away):
        yield path
        return
    try:
        with os.scandir(path) as entries:
            # A link needs no rule: the kernel asks about where it leads.
            names = [entry.path for entry in entries if not entry.is_symlink()]
    except OSError:
        return
    if len(names) <= LARGEST_FOLDER:
        for name in names:
            yield from _beneath(name, away)


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _has_no_terminals() -> bool:
    """Whether there is no terminal here that a person might be typing at."""
    try:
        return not any(name.isdigit() for name in os.listdir(TERMINALS))  # noqa: PTH208 (names are wanted)
    except OSError:
        return False


def environment(env: Mapping[str, str], confinement: Confinement) -> dict[str, str]:
    """The command's environment: HOME of the run, and git led to the run's own repository."""
    own = f"{confinement.home}/"
    kept = {name: value for name, value in env.items() if name not in OF_HOME or value.startswith(own)}
    kept["HOME"] = str(confinement.home)
    git_dir = confinement.git_dir
    # By a variable only where the worktree's `.git` file does not lead there: it would also hold in every other
    # repository that a test makes.
    if git_dir is not None and not _leads_to(confinement.root / ".git", git_dir):
        kept |= {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(confinement.root)}
    if confinement.objects is not None:
        kept["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(confinement.objects)
    return kept


def _leads_to(file: Path, git_dir: Path) -> bool:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # One byte more than the line: a longer one is another.
        line = f"gitdir: {git_dir}\n".encode()
        return os.read(fd, len(line) + 1).rstrip(b"\n") == line.rstrip(b"\n")
    except OSError:  # a folder
        return False
    finally:
        os.close(fd)


def launch(sandbox: Sandbox, argv: Sequence[str], confinement: Confinement, env: Mapping[str, str]) -> Launch:
    """What to start so that `argv` runs confined. Raises RefusedError where this kernel cannot do it."""
    if available() < LEAST:
        raise RefusedError(
            f"Landlock cannot be used: this kernel has version {available()} of it, {LEAST} is needed",
            "Linux 6.2 or newer; `pool doctor` shows what else is here",
        )
    if confinement.proxy is not None:
        raise RefusedError(
            "the network cannot be opened for single hosts under Landlock",
            "install bubblewrap, or go without",
        )
    if os.geteuid() == 0 and confinement.root.exists() and confinement.root.stat().st_uid != 0:
        # Its owner could not reach it: the folders on the way belong to root, and nothing can be mounted elsewhere.
        raise RefusedError(
            "under Landlock, root cannot run commands in a worktree that belongs to another user",
            "run pool as the owner of the repository, or install bubblewrap",
        )
    own = (paths.state_dir(), paths.config_dir())
    allowed = rules(confinement, home=paths.home(), hidden=own)
    bounds = confinement.limits
    spec = [
        *(f"read={path}" for path in allowed.read),
        *(f"write={path}" for path in allowed.write),
        *(f"device={path}" for path in allowed.device),
        # A short path: unix sockets are made in it, whose paths have 107 bytes at most.
        *(f"temp={path}" for path in ("/tmp", confinement.home)),
        *(f"group={path}" for path in confinement.groups),
        f"parent={os.getpid()}",
        f"data={bounds.memory}",
        f"file={bounds.file_size}",
        f"processes={bounds.processes}",
        *(f"filter={binascii.b2a_base64(program, newline=False).decode()}" for program in _filters()),
    ]
    program = str(Path(__file__).with_name("landlock_exec.py"))
    start = [sys.executable, "-I", "-S", program, *spec, "--", *argv]
    return Launch(start, environment(env, confinement))


@cache
def _filters() -> tuple[bytes, ...]:
    """Programs for seccomp: the one of every sandbox, and no sockets but local ones, which Landlock cannot say.

    Raises RefusedError for a kind of machine that there are none for.
    """
    import platform

    from poolcli.sandbox import seccomp

    kind = platform.machine()
    return seccomp.program(kind), only_local_sockets(SOCKET[kind])


def only_local_sockets(number: int) -> bytes:
    """Instructions that refuse `socket`, the system call of this number, for all but AF_UNIX and AF_NETLINK."""
    # struct seccomp_data: the number at 0, the first argument at 16. Codes: load a word, jump if equal, return.
    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    code = (
        (load, 0, 0, 0),
        (equal, 0, 4, number),
        (load, 0, 0, 16),
        (equal, 2, 0, 1),
        (equal, 1, 0, 16),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in code)
