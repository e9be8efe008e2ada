"""Where things lie: shipped data, the user's configuration, the state of runs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

from poolcli.errors import ConfigError, StoreError


def data_dir(name: str) -> Path:
    """A shipped top-level data folder (`tools`, `prompts`, `models`): inside a wheel, else in the checkout."""
    packed = Path(__file__).parent / "_data" / name
    return packed if packed.is_dir() else Path(__file__).parent.parent / name


def state_dir() -> Path:
    """Root of everything `pool` writes: `$POOL_STATE`, else the platform's state directory."""
    if given := os.environ.get("POOL_STATE"):
        return expanded(given, "POOL_STATE").absolute()
    # platformdirs costs 3 ms to import; on Linux its answer is this one line of the XDG specification.
    if os.name == "posix" and os.uname().sysname == "Linux":
        base = os.environ.get("XDG_STATE_HOME", "")
        return (Path(base) if os.path.isabs(base) else home() / ".local" / "state") / "pool"  # noqa: PTH117
    import platformdirs

    return platformdirs.user_state_path("pool", appauthor=False)


def home() -> Path:
    """The user's home folder. Raises ConfigError where there is none: a container's user without a name."""
    return expanded("~", "HOME")


def expanded(text: str, where: str) -> Path:
    """A path that a person wrote, with `~` for a home folder. Raises ConfigError for one that nobody has.

    `where` says in the message which setting or argument it is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{where}: {Path(text).parts[0]} is no home folder here", "write the whole path"
        ) from None


def config_dir() -> Path:
    """The user's configuration folder: `$XDG_CONFIG_HOME/pool`, else `~/.config/pool` (on every platform)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else home() / ".config") / "pool"  # noqa: PTH117


def repository_state(common_git_dir: Path) -> Path:
    """The state folder of one repository, named for people, told apart by its git directory.

    Linked worktrees of one repository share a git directory and so share their runs.
    """
    path = common_git_dir.resolve()
    name = path.parent.name if path.name == ".git" else path.name
    return state_dir() / f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def private_dir(path: Path) -> Path:
    """Make a folder (and its parents) that only this user can enter; returns it.

    The state folder, and the folders of repositories and runs in it, have to be this user's own; they are closed to
    others, whatever the umask, and however they came to be there. Raises StoreError for one that somebody else owns,
    OSError for one that cannot be made.
    """
    top = state_dir()
    for folder in (*reversed(path.parents), path):
        if not os.path.lexists(folder):
            with contextlib.suppress(FileExistsError):  # another process of ours made it in between
                folder.mkdir(mode=0o700)
        # What lies deeper, in a run's folder, root may have given to the user whose commands it runs.
        if folder.is_relative_to(top) and len(folder.relative_to(top).parts) <= _CHECKED:
            _own(folder)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return path


#: How deep below the state folder a folder's owner is looked at: REPOSITORY/runs/RUN.
_CHECKED = 3


def _own(folder: Path) -> None:
    """Close a folder to others. Raises StoreError when it, or a link in its place, belongs to somebody else."""
    place, me = folder, os.geteuid()
    link = os.lstat(folder)
    if stat.S_ISLNK(link.st_mode) and link.st_uid == me:
        # A link of one's own, to another disk perhaps: what counts is where it leads.
        place = folder.resolve()
    owner = link.st_uid
    if owner == me:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            there = os.fstat(handle)
            owner = there.st_uid
            if owner == me and there.st_mode & 0o077:
                os.fchmod(handle, 0o700)
        finally:
            os.close(handle)
    if owner != me:
        raise StoreError(
            f"the state folder {folder} belongs to another user (uid {owner}), who could read or replace it",
            "set POOL_STATE to a folder of yours, or remove that one",
        )


def write_private(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file that only this user can read, whatever the umask; a link in its place is no file.

    With `durable` it survives a power cut. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 (a descriptor)
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
