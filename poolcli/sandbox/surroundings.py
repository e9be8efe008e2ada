"""What bubblewrap meets on this machine, and what has to be done on the way to it.

Three things cannot be said with bubblewrap's options and are done by a shell before it: entering control
groups, mounting overlays, and, for root, becoming the owner of the worktree. The last two need a mount
namespace of their own, which ends with the command.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from poolcli.errors import RefusedError
from poolcli.sandbox import bubblewrap, limits, private
from poolcli.sandbox.base import Confinement, Overlay
from poolcli.sandbox.bubblewrap import Machine, Mounts

#: Folders that exist on every Linux and are empty on most: the place where root lays things out for the owner.
_STAGES = ("/mnt", "/media", "/srv", "/opt")
#: Sockets of services that are hidden one by one, at most; where there are more, a container host is meant
#: for something else than this.
_SOCKETS = 200
#: Seconds for asking bubblewrap for its version, and for the trial of an overlay: both take milliseconds.
_PATIENCE = 10.0


class Owner(Struct, frozen=True):
    """Who commands run as; `other` when that is not who pool runs as."""

    uid: int
    gid: int
    other: bool = False


class Staging(Struct, frozen=True):
    """What to mount before bubblewrap: lines of shell, and where their results are."""

    lines: tuple[str, ...] = ()
    mounts: Mounts = Mounts()
    #: A user namespace is made for it: without root's rights nothing can be mounted elsewhere.
    user: bool = False


def owner(root: Path) -> Owner:
    """Pool's own user; for root, the owner of the worktree."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        status = root.stat()
        if status.st_uid != 0:
            return Owner(status.st_uid, status.st_gid, True)
    return Owner(uid, gid)


def home() -> Path:
    """The user's home folder; / where there is none."""
    import pwd

    given = os.environ.get("HOME", "")
    if given.startswith("/"):
        return Path(given)
    with contextlib.suppress(KeyError):
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return Path("/")


def look(program: str, confinement: Confinement, who: Owner) -> Machine:
    """What of this machine shapes the arguments for one command."""
    folders = [*_masked(home()), *_account_home()]
    hidden = [Path(os.path.realpath(path)) for path in confinement.hidden]
    if confinement.root != confinement.seen:
        hidden.append(confinement.root)
    if confinement.objects is not None:
        # The user's .git: commands see its objects at another place, and nothing else of it.
        hidden.append(Path(os.path.realpath(confinement.objects)).parent)
    users = [*folders, *hidden, confinement.seen]
    folders += [path for path in (*hidden, *aliases(users, _mountinfo())) if path.is_dir()]
    files = [path for path in hidden if path.is_file()]
    if who.uid == 0:
        closed = [Path(path) for path in private.of_root()]
        folders += [path for path in closed if path.is_dir()]
        files += [path for path in closed if path.is_file()]
    files += [path for path in _sockets() if os.path.lexists(path)]
    return Machine(
        folders=tuple(dict.fromkeys(folders)),
        files=tuple(dict.fromkeys(files)),
        proc_read_only=_existing(bubblewrap.PROC_READ_ONLY),
        proc_hidden=_existing(bubblewrap.PROC_HIDDEN),
        uid=who.uid,
        gid=who.gid,
        disable_userns=version(program) >= (0, 8),
    )


@functools.cache
def version(program: str) -> tuple[int, ...]:
    """The version of bubblewrap; (0,) when it does not say one."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        out = subprocess.run(
            [program, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE
        ).stdout
        if found := re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", out[:200]):
            return tuple(int(part) for part in found.groups() if part)
    return (0,)


@functools.cache
def _existing(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for path in paths if os.path.exists(path))  # noqa: PTH110


@functools.cache
def _masked(home: Path) -> tuple[Path, ...]:
    return bubblewrap.masked(home)


@functools.cache
def _account_home() -> tuple[Path, ...]:
    """The home of the account, which may be another than HOME says."""
    import pwd

    with contextlib.suppress(KeyError):
        place = Path(os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir))
        if place.is_dir() and place != Path("/"):
            return (place,)
    return ()


@functools.cache
def _sockets() -> tuple[Path, ...]:
    """Sockets of services outside of the hidden folders: a read-only mount does not keep one from connecting.

    Asked once: a service that starts during a run is not one that a command finds by chance.
    """
    found: dict[Path, None] = {}
    with contextlib.suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            if path and len(found) < _SOCKETS:
                place = Path(os.path.realpath(f"/{path}"))
                if place.is_socket():
                    found[place] = None
    return tuple(found)


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _mounts(mountinfo: str) -> tuple[tuple[str, Path, Path], ...]:
    """(device, path inside its file system, mount point) in the order in which they were mounted."""
    found = []
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 5:
            found.append((fields[2], Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))))
    return tuple(found)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def aliases(paths: Iterable[Path], mountinfo: str) -> list[Path]:
    """Other paths at which the content of `paths` is seen, because it is mounted at more than one place."""
    return [alias for alias in _aliases(tuple(paths), mountinfo) if alias.exists()]


@functools.lru_cache(8)
def _aliases(paths: tuple[Path, ...], mountinfo: str) -> tuple[Path, ...]:
    # Remembered until something is mounted: asked for every command, this would be a millisecond of each.
    table = _mounts(mountinfo)
    found: dict[Path, None] = {}
    for path in paths:
        around = [entry for entry in table if path.is_relative_to(entry[2])]
        if not around:
            continue
        # The deepest mount around it; of several on one point the last, which covers the others.
        device, inner, point = max(
            enumerate(around), key=lambda numbered: (len(numbered[1][2].parts), numbered[0])
        )[1]
        real = inner / path.relative_to(point)
        for other_device, other_inner, other_point in table:
            if other_device != device or other_point == point:
                continue
            if real.is_relative_to(other_inner):
                alias = other_point / real.relative_to(other_inner)
            elif other_inner.is_relative_to(real):
                alias = other_point
            else:
                continue
            if not alias.is_relative_to(path) and alias != Path("/"):
                found[alias] = None
    return tuple(found)


def plan(confinement: Confinement, who: Owner) -> Staging:
    """What to mount before bubblewrap: overlays that this machine can mount, and for root all that the owner
    could not reach by its path."""
    root = os.geteuid() == 0
    overlays = [
        (overlay, options)
        for overlay in confinement.overlays
        if overlay.lower.is_dir()
        and (options := bubblewrap.overlay_options(overlay, user=not root))
        and overlays_work(overlay.upper)
    ]
    if not overlays and not who.other:
        return Staging()
    lines: list[str] = []
    merged: dict[Path, Path] = {}
    mount = _needed("mount")
    for overlay, options in overlays:
        place = overlay.upper / "merged"
        for folder in (overlay.upper / "data", overlay.upper / "work", place):
            folder.mkdir(parents=True, exist_ok=True)
        if who.other:
            # The folders are root's state; what commands write in them is the owner's.
            os.chown(overlay.upper / "data", who.uid, who.gid)
        lines.append(bubblewrap.quoted([mount, "-t", "overlay", "overlay", "-o", options, str(place)]))
        merged[overlay.seen] = place
    if not who.other:
        return Staging(tuple(lines), Mounts({}, merged), user=not root)
    staged, more = _stage(confinement, merged, mount)
    lines += more
    merged = {seen: staged[place] for seen, place in merged.items()}
    return Staging(tuple(lines), Mounts(staged, merged))


def _stage(
    confinement: Confinement, merged: dict[Path, Path], mount: str
) -> tuple[dict[Path, Path], list[str]]:
    """Bind what the owner needs below a folder that everybody can enter: pool's state is root's alone."""
    sources = [
        confinement.root,
        confinement.home,
        *merged.values(),
        *confinement.readable,
        *confinement.given,
    ]
    sources += [overlay.lower for overlay in confinement.overlays if overlay.seen not in merged]
    sources += confinement.writable
    sources += [
        path for path in (confinement.git_dir, confinement.objects, confinement.proxy) if path is not None
    ]
    stage = next(
        (
            Path(place)
            for place in _STAGES
            if os.path.isdir(place) and not any(source.is_relative_to(place) for source in sources)  # noqa: PTH112
        ),
        None,
    )
    if stage is None:
        raise RefusedError(
            f"no folder to lay out the worktree of another user in: {', '.join(_STAGES)} are used or missing",
            "run pool as the owner of the repository",
        )
    lines = [bubblewrap.quoted([mount, "-t", "tmpfs", "-o", "mode=0755,size=1m", "pool", str(stage)])]
    staged: dict[Path, Path] = {}
    for number, source in enumerate(dict.fromkeys(sources)):
        if not source.exists():
            continue
        place = stage / str(number)
        make = ["mkdir", str(place)] if source.is_dir() else ["touch", str(place)]
        lines += [bubblewrap.quoted(make), bubblewrap.quoted([mount, "--bind", str(source), str(place)])]
        staged[source] = place
    return staged, lines


def enter(command: list[str], staging: Staging, groups: Iterable[Path], who: Owner) -> list[str]:
    """The command, after what has to be done before it."""
    groups = tuple(groups)
    if who.other:
        user = ["--reuid", str(who.uid), "--regid", str(who.gid), "--clear-groups", "--"]
        command = [_needed("setpriv"), *user, *command]
    if staging.lines:
        unshare = [_needed("unshare"), *(["--user", "--map-root-user"] if staging.user else [])]
        unshare += ["--mount", "--propagation", "private", "--"]
        command = [*unshare, *_shell(staging.lines), *command]
    if groups:
        command = [
            *_shell(f"echo $$ > {bubblewrap.quoted([str(group / 'cgroup.procs')])}" for group in groups),
            *command,
        ]
    return command


def _shell(lines: Iterable[str]) -> list[str]:
    """A shell that does these lines, all of them or nothing, and becomes the words that come after."""
    return ["/bin/sh", "-c", "\n".join(["set -e", *lines, 'exec "$@"']), "sh"]


def _needed(name: str) -> str:
    if program := limits.system_program(name):
        return program
    raise RefusedError(
        f"the program {name} is not on this machine, and the sandbox needs it", f"install {name}"
    )


def overlays_work(folder: Path) -> bool:
    """Whether an overlay can be mounted with its upper folder on the file system of `folder`; tried once."""
    folder.mkdir(parents=True, exist_ok=True)
    return _overlays_work(folder.stat().st_dev, os.geteuid() == 0, str(folder))


_tried: dict[tuple[int, bool], bool] = {}


def _overlays_work(device: int, root: bool, folder: str) -> bool:
    if (device, root) not in _tried:
        _tried[device, root] = _try_overlay(Path(folder), root)
    return _tried[device, root]


def _try_overlay(folder: Path, root: bool) -> bool:
    import tempfile

    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="trial-", ignore_cleanup_errors=True) as name:
            place = Path(name)
            overlay = Overlay(place / "lower", place, place)
            for part in ("lower", "data", "work", "merged"):
                (place / part).mkdir()
            options = bubblewrap.overlay_options(overlay, user=not root)
            if not options:
                return False
            mount = [_needed("mount"), "-t", "overlay", "overlay", "-o", options, str(place / "merged")]
            target = place / "merged" / "file"
            argv = enter(
                ["/bin/sh", "-c", f"echo > {bubblewrap.quoted([str(target)])}"],
                Staging((bubblewrap.quoted(mount),), user=not root),
                (),
                Owner(os.geteuid(), os.getegid()),
            )
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=_PATIENCE,
            )  # fmt: skip
            return done.returncode == 0 and (place / "data" / "file").exists()
    except (OSError, subprocess.SubprocessError, RefusedError):
        return False
