"""Where things lie: shipped data, the user's configuration, the state of runs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from poolcli.errors import ConfigError


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
    """Make a folder (and its parents) that only this user can enter; returns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
