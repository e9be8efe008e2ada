"""Bounds on what commands use: resource limits of each process, and control groups for all of them together.

Resource limits are set by a small program before the command (`prlimit`), never between fork and exec in
pool itself. Root is not held by the limit on processes: its commands go into a control group, where pool may
make one. Groups carry the id of the process that made them, so that those of a killed pool are found again.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from poolcli.sandbox.base import Limits

#: Where trusted programs lie. PATH is not asked: its first folder may be the worktree.
SYSTEM_BIN = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")

_PREFIX = "pool-"
_numbers = itertools.count(1)


def system_program(name: str) -> str:
    """The absolute path of a program of the system; '' where there is none."""
    for folder in SYSTEM_BIN:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    return ""


def prefix(limits: Limits) -> list[str]:
    """What goes before a command so that each of its processes is held to `limits`; [] without `prlimit`.

    Memory is the data segment: address space is reserved by the terabyte by node and sanitizers, used by none.
    """
    program = system_program("prlimit")
    if not program:
        return []
    return [
        program,
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_size}",
        f"--data={limits.memory}",
        "--core=0",
        "--",
    ]


def open_group(limits: Limits) -> tuple[Path, ...]:
    """Make control groups that hold commands together to `limits`; () where pool may make none.

    The result is for `Confinement.groups`; `close_group` ends them. With version 1 there is one for processes
    and one for memory, with version 2 one for both.
    """
    name = f"{_PREFIX}{_namespace()}-{os.getpid()}-{_started(os.getpid())}-{next(_numbers)}"
    made: list[Path] = []
    for parent, kinds in _parents():
        group = parent / name
        try:
            group.mkdir(0o755)
        except OSError:
            continue
        made.append(group)
        try:
            if "pids" in kinds:
                (group / "pids.max").write_text(str(limits.processes))
            if "memory" in kinds:
                _limit_memory(group, limits.memory)
        except OSError:  # a controller that was taken away meanwhile: a group without a bound helps nobody
            with contextlib.suppress(OSError):
                group.rmdir()
            made.remove(group)
    return tuple(made)


@functools.cache
def own_groups() -> tuple[Path, ...]:
    """The groups of this pool's commands, made at the first question and ended with pool; those of dead pools go."""
    collect()
    made = open_group(Limits())
    atexit.register(close_group, made)
    return made


def _limit_memory(group: Path, limit: int) -> None:
    version_1 = group / "memory.limit_in_bytes"
    (version_1 if version_1.exists() else group / "memory.max").write_text(str(limit))
    # Swapping instead of ending would only make a leak slow. Not every kernel has these.
    for name, value in (("memory.memsw.limit_in_bytes", str(limit)), ("memory.swap.max", "0")):
        with contextlib.suppress(OSError):
            if (group / name).exists():
                (group / name).write_text(value)


def out_of_memory(groups: Iterable[Path]) -> int:
    """How many processes the kernel ended in these groups because their memory was used up."""
    count = 0
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                for line in (group / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        count += int(line.split()[1])
    return count


def close_group(groups: Iterable[Path]) -> None:
    """End what still runs in the groups and remove them. What cannot be removed is left to `collect`."""
    for group in groups:
        for pause in (0, 0.001, 0.01, 0.1):  # the dead leave a group a moment after they end
            time.sleep(pause)
            with contextlib.suppress(OSError):
                group.rmdir()
            if not group.exists():
                break
            _kill(group)


def collect() -> int:
    """Remove the groups of pools that are gone; how many."""
    count = 0
    for parent, _ in _parents():
        with contextlib.suppress(OSError):
            for group in parent.glob(f"{_PREFIX}{_namespace()}-*"):
                if not _owner_lives(group.name):
                    close_group([group])
                    count += not group.exists()
    return count


def _kill(group: Path) -> None:
    with contextlib.suppress(OSError):
        if (group / "cgroup.kill").exists():
            (group / "cgroup.kill").write_text("1")
            return
    with contextlib.suppress(OSError, ValueError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if int(pid) > 0:  # 0 is a process that this namespace has no number for
                    os.kill(int(pid), signal.SIGKILL)


def _owner_lives(name: str) -> bool:
    try:
        pid, started = name.split("-")[2:4]
        return _started(int(pid)) == int(started)
    except (ValueError, IndexError):
        return True  # not a name of ours


def _started(pid: int) -> int:
    """When a process started, in ticks since boot: with it, its number means one process. 0: there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[19])


def _namespace() -> int:
    """Process numbers mean something only inside one namespace, and groups are seen from others."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _parents() -> Iterator[tuple[Path, frozenset[str]]]:
    """Folders that groups can be made in, below whatever holds pool itself, and what each can bound.

    Only for root: a user may make groups only where a session manager handed some over.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    try:
        own = _own_groups(Path("/proc/self/cgroup").read_text())
        mounts = _hierarchies(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return
    for place, kinds in mounts:
        if kinds is None:
            yield from _version_2(place, own.get("", "/"))
        elif found := kinds & {"pids", "memory"}:
            path = next((own[kind] for kind in found if kind in own), "/")
            folder = place / path.lstrip("/")
            # In a container the path may be one of the host's; the mount then begins at our own group.
            yield (folder if folder.is_dir() else place), found


def _version_2(place: Path, path: str) -> Iterator[tuple[Path, frozenset[str]]]:
    """A group with processes can have no child with controllers: the new one is made beside pool's own."""
    own = place / path.lstrip("/")
    parent = own.parent if own != place and own.is_dir() else place
    try:
        offered = set((parent / "cgroup.controllers").read_text().split()) & {"pids", "memory"}
        active = set((parent / "cgroup.subtree_control").read_text().split())
        if missing := offered - active:
            (parent / "cgroup.subtree_control").write_text(" ".join(f"+{kind}" for kind in sorted(missing)))
            active |= missing
    except OSError:
        return
    if found := frozenset(offered & active):
        yield parent, found


def _own_groups(text: str) -> dict[str, str]:
    """Controller -> path of /proc/self/cgroup; '' stands for version 2."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        _, kinds, path = line.split(":", 2)
        for kind in kinds.split(","):
            groups[kind] = path
    return groups


def _hierarchies(text: str) -> list[tuple[Path, frozenset[str] | None]]:
    """(mount point, controllers) of /proc/self/mountinfo; None for version 2."""
    found: list[tuple[Path, frozenset[str] | None]] = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split()[4])
        if kind == "cgroup2":
            found.append((place, None))
        elif kind == "cgroup":
            found.append((place, frozenset(options.split(","))))
    return found
