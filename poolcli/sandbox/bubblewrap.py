"""One bubblewrap for each command: the whole system read-only, the private parts of it hidden, no network.

`arguments` is pure: what is on this machine comes in as `Machine`, what goes out is a list of arguments. The
order of mounts is the depth of their paths, so the deepest rule decides: a hidden HOME, in it a readable
toolchain, in that a hidden folder. The worktree and what belongs to it come where the user's checkout is.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from poolcli.errors import RefusedError
from poolcli.sandbox import limits, seccomp
from poolcli.sandbox.base import Confinement, Launch, Overlay, Sandbox, tools

#: Where commands see what belongs to the run. Nothing of the system is there: /run is private.
PLACE = Path("/run/pool")
HOME, GIT, OBJECTS, PROXY = PLACE / "home", PLACE / "git", PLACE / "objects", PLACE / "proxy"

#: Oldest version with all options used here but one (`--disable-userns`, 0.8, which the filter stands in for).
OLDEST = (0, 6)

#: What most machines keep private things and sockets of services in.
_MASKED = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media")
#: Settings of the host's kernel: root could change them without any capability, so they are read-only.
PROC_READ_ONLY = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs")
#: What /proc says of the whole machine.
PROC_HIDDEN = (
    "/proc/sysrq-trigger",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/sched_debug",
    "/proc/latency_stats",
)
#: Bytes of a folder that only hides: mount points and what a tool drops there by mistake.
_SMALL = 16 << 20


class Machine(Struct, frozen=True):
    """What is on this machine, as far as it shapes the arguments. All paths are real ones that exist."""

    #: Folders and files to hide, in any order.
    folders: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    #: Entries of /proc to make read-only, and to hide.
    proc_read_only: tuple[str, ...] = ()
    proc_hidden: tuple[str, ...] = ()
    uid: int = 1000
    gid: int = 1000
    #: Whether bubblewrap can forbid new user namespaces itself.
    disable_userns: bool = True


class Mounts(Struct, frozen=True):
    """Where the host keeps what is mounted: `source` of a path, and overlay -> where it is mounted."""

    sources: Mapping[Path, Path] = {}
    merged: Mapping[Path, Path] = {}

    def source(self, path: Path) -> str:
        return str(self.sources.get(path, path))


def masked(home: Path) -> tuple[Path, ...]:
    """The folders of this machine that commands never see as they are, as real paths."""
    places = dict.fromkeys(Path(os.path.realpath(path)) for path in (*_MASKED, str(home)))
    # A home that is the root of the machine (a container's user without one) cannot be hidden.
    return tuple(path for path in places if path.is_dir() and path != Path("/"))


def arguments(
    confinement: Confinement,
    machine: Machine,
    *,
    git_file: int | None = None,
    environment: int | None = None,
    seccomp_filter: int | None = None,
    mounts: Mounts | None = None,
) -> list[str]:
    """The options of bubblewrap, up to the `--` before the command.

    The numbers are descriptors: the content of the worktree's `.git` file, `--setenv` options, the filter.
    """
    mounts = mounts or Mounts()
    args = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    args += ["--unshare-net"]
    if machine.disable_userns:
        args.append("--disable-userns")
    args += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "localhost"]
    args += ["--uid", str(machine.uid), "--gid", str(machine.gid)]
    args += ["--ro-bind", "/", "/", "--dev", "/dev"]
    args += [*_tmpfs(Path("/dev/shm"), confinement.limits.tmp, "1777"), "--proc", "/proc"]
    for path in machine.proc_read_only:
        args += ["--ro-bind", path, path]
    for path in machine.proc_hidden:
        args += ["--ro-bind", "/dev/null", path]
    for _, options in sorted(_rules(confinement, machine, git_file, mounts), key=lambda rule: rule[0]):
        args += options
    args.append("--clearenv")
    if environment is not None:
        args += ["--args", str(environment)]
    if seccomp_filter is not None:
        args += ["--seccomp", str(seccomp_filter)]
    return [*args, "--chdir", str(confinement.seen)]


_Rule = tuple[tuple[int, str], list[str]]


def _rules(
    confinement: Confinement, machine: Machine, git_file: int | None, mounts: Mounts
) -> Iterable[_Rule]:
    """(what to sort by, options): depth first, so that every mount lies on those around it."""
    seen = confinement.seen
    masks = {*machine.folders, *machine.files}
    # A path that is to be shown and hidden is hidden.
    read = [*confinement.given, *(path for path in confinement.readable if path not in masks)]
    shown: dict[Path, list[str]] = {path: ["--ro-bind", mounts.source(path), str(path)] for path in read}
    shown |= {path: ["--bind", mounts.source(path), str(path)] for path in confinement.writable}
    # What is in the user's checkout is not there: the worktree takes its place.
    shown = {path: options for path, options in shown.items() if not path.is_relative_to(seen)}
    for overlay in confinement.overlays:
        merged = mounts.merged.get(overlay.seen)
        how = ["--bind", str(merged)] if merged else ["--ro-bind", mounts.source(overlay.lower)]
        shown[overlay.seen] = [*how, str(overlay.seen)]
    shown[seen] = ["--bind", mounts.source(confinement.root), str(seen)]
    shown[HOME] = ["--bind", mounts.source(confinement.home), str(HOME)]
    if git_file is not None:
        shown[seen / ".git"] = ["--ro-bind-data", str(git_file), str(seen / ".git")]
    if confinement.git_dir is not None:
        shown[GIT] = ["--bind", mounts.source(confinement.git_dir), str(GIT)]
    if confinement.objects is not None:
        shown[OBJECTS] = ["--ro-bind", mounts.source(confinement.objects), str(OBJECTS)]
    if confinement.proxy is not None:
        shown[PROXY] = ["--bind", mounts.source(confinement.proxy), str(PROXY)]
    hidden = _needed(masks, shown, seen)
    for path in hidden:
        if path in machine.files:
            shown[path] = ["--ro-bind", "/dev/null", str(path)]
        elif str(path) in ("/tmp", "/var/tmp"):
            shown[path] = _tmpfs(path, confinement.limits.tmp, "1777")
        else:
            shown[path] = _tmpfs(path, _SMALL, "0755")
    return (((len(path.parts), str(path)), options) for path, options in shown.items())


def _needed(hidden: set[Path], shown: Mapping[Path, object], seen: Path) -> list[Path]:
    """Of what is to be hidden, what is not so already: by a folder around it, or by the worktree."""
    needed: list[Path] = []
    # /dev and /proc are new for each command.
    around_all = {*hidden, Path("/dev"), Path("/proc")}
    for path in hidden:
        if path in shown or path.is_relative_to(seen):
            continue
        around = next((parent for parent in path.parents if parent in shown or parent in around_all), None)
        if around is None or around in shown:
            needed.append(path)
    return needed


def _tmpfs(path: Path, size: int, mode: str) -> list[str]:
    return ["--size", str(size), "--perms", mode, "--tmpfs", str(path)]


def settings(environment: Mapping[str, str]) -> bytes:
    """The environment as options for `--args`: not on the command line, which every user can read."""
    words = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def launch(
    sandbox: Sandbox, argv: Sequence[str], confinement: Confinement, environment: Mapping[str, str]
) -> Launch:
    """Start values for `argv` in a sandbox of its own.

    As root, a worktree that belongs to another user is worked on as that user: the caller gives it, the HOME
    of the run, its repository and the folders for overlays to that user before (`ownership.give`). Raises
    RefusedError when something the sandbox needs is missing.
    """
    from poolcli.sandbox import surroundings

    if not sandbox.program.startswith("/"):
        raise RefusedError("the path of bubblewrap is not known", "pool doctor says what is missing")
    _refuse_place(confinement.seen)
    for path in (confinement.home, confinement.root):
        if not path.is_dir():
            raise RefusedError(f"{path}, which commands need, is not a folder")
    confinement = msgspec.structs.replace(confinement, readable=tools(confinement))
    owner = surroundings.owner(confinement.root)
    for place in _mount_points(confinement):
        _refuse_links(confinement.root, place)
    staging = surroundings.plan(confinement, owner)
    machine = surroundings.look(sandbox.program, confinement, owner)
    fds: list[int] = []
    try:
        git_file = None
        if confinement.git_dir is not None:
            git_file = seccomp.memfd(f"gitdir: {GIT}\n".encode(), "gitfile")
            fds.append(git_file)
        variables = {**environment, "HOME": str(HOME)}
        fds.append(seccomp.memfd(settings(variables), "environment"))
        fds.append(seccomp.filter_fd())
        options = arguments(
            confinement,
            machine,
            git_file=git_file,
            environment=fds[-2],
            seccomp_filter=fds[-1],
            mounts=staging.mounts,
        )
        command = [sandbox.program, *options, "--", *limits.prefix(confinement.limits), *argv]
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    # The sandbox's own programs get nothing of the user's: only by `run` are their processes found again.
    kept = {name: environment[name] for name in ("POOL_RUN",) if name in environment}
    return Launch(
        surroundings.enter(command, staging, confinement.groups, owner),
        {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", **kept},
        tuple(fds),
    )


def _mount_points(confinement: Confinement) -> list[Path]:
    """What is mounted inside the worktree, relative to it."""
    places = [overlay.seen for overlay in confinement.overlays]
    if confinement.git_dir is not None:
        places.append(confinement.seen / ".git")
    return [place.relative_to(confinement.seen) for place in places if place.is_relative_to(confinement.seen)]


def _refuse_place(seen: Path) -> None:
    """A place where the worktree cannot take the checkout's: by a link the checkout would stay reachable."""
    if os.path.realpath(seen) != str(seen):
        raise RefusedError(f"{seen} is not a real path", "give the checkout by its path without links")
    if PLACE.is_relative_to(seen) or Path("/dev") == seen or Path("/proc") == seen:
        raise RefusedError(f"the sandbox cannot show a worktree at {seen}: the system itself is there")


def _refuse_links(root: Path, place: Path) -> None:
    """A link where something is to be mounted would be followed before the sandbox is closed."""
    path = root
    for part in place.parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError:
            return
        if stat.S_ISLNK(mode):
            raise RefusedError(
                f"{place} in the worktree is a link, and the sandbox mounts something there",
                "remove the link, or start the run again",
            )


def overlay_options(overlay: Overlay, *, user: bool) -> str:
    """The options of one overlay mount; '' when a path has a character that they give a meaning to."""
    paths = (str(overlay.lower), str(overlay.upper / "data"), str(overlay.upper / "work"))
    if any(character in path for path in paths for character in ',:\\"\n'):
        return ""
    options = "lowerdir={},upperdir={},workdir={}".format(*paths)
    # Inside a user namespace the kernel keeps its notes on deleted folders in attributes of users.
    return f"{options},userxattr" if user else options


def quoted(words: Iterable[str]) -> str:
    """Words as one line of shell."""
    return " ".join(shlex.quote(word) for word in words)
