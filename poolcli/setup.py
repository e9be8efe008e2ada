"""Runs a recipe once and keeps what it made: the folders of packages, under what they were made from.

    STATE/setup/<key>/folders/.venv …   what the recipe made in the worktree, read-only for runs
    STATE/setup/<key>/stores/…          what cargo and go keep beside the project, read-only for runs
    STATE/setup/cache/…                 downloads of pip, uv and npm: written by setups, seen by no run

A setup is there whole or not at all: it is made under another name and gets its own last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from poolcli import beneath, registries
from poolcli.config import Config
from poolcli.errors import PoolError, StoreError, WorkspaceError
from poolcli.git import Repository, git
from poolcli.paths import private_dir
from poolcli.process import Finished
from poolcli.recipes import Recipe, configured, fingerprint, propose

#: Finished setups that a repository keeps: branches with other lock files go back and forth.
KEPT = 3
#: Characters of a failed command's output that the error repeats; the rest is in its file.
_QUOTED = 2000
#: Seconds after which what is unfinished, and held by no process, is of one that was killed.
_ABANDONED = 3600.0
#: Bytes of a key file that count: lock files of the largest projects have 10 to 20 MB.
_LONGEST = 64_000_000

#: Runs a shell command in the worktree, with the network of the recipe and write access to the given folders.
Runner = Callable[[str], Awaitable[Finished]]


class Ready(Struct, frozen=True):
    """A finished setup. `folders` maps a path in the worktree to the folder that belongs there."""

    folders: Mapping[str, Path]
    stores: Path

    @property
    def key(self) -> str:
        """What it is kept under."""
        return self.stores.parent.name

    @property
    def variables(self) -> dict[str, str]:
        """What runs need in their environment to find what lies beside the project, without a network."""
        offline = {"CARGO_HOME": {"CARGO_NET_OFFLINE": "true"}, "GOMODCACHE": {"GOPROXY": "off"}}
        variables: dict[str, str] = {}
        for name, place in _stores(self.stores).items():
            if Path(place).is_dir():  # else the recipe was of another kind, and the tool is left as it is
                variables |= {name: place, **offline[name]}
        return variables


class SetupError(PoolError):
    """A command of a recipe failed."""

    exit_code = WorkspaceError.exit_code


def machine() -> tuple[str, ...]:
    """What packages are made for, beside the lock files."""
    return (sys.platform, platform.machine(), shutil.which("python3") or "", platform.python_version())


def recipe_for(settings: Config, repo: Repository) -> Recipe | None:
    """How this checkout's dependencies are installed: as configured (by the user, or by a project that is trusted),
    else as its lock files suggest; None when there is nothing to install."""
    if settings.setup:
        return configured(settings.setup, settings.origins["setup"])
    # What git ignores is not carried over. `:(glob)*` are the names at the top alone.
    listed = git([*repo.pin(), "ls-files", "-z", "-co", "--exclude-standard", "--", ":(glob)*"], cwd=repo.top)
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    there = [name for name in names if os.path.lexists(repo.top / name)]
    return propose(
        there, _reader(repo.top), have=lambda name: shutil.which(name) is not None, environ=os.environ
    )


def reaching(recipe: Recipe, repo: Repository) -> Recipe:
    """The recipe with the hosts that its installers fetch from: asked only when it is to be shown or run."""
    asked = (host for each in recipe.installers for host in registries.hosts(each, not_in=[repo.top]))
    return structs.replace(recipe, hosts=tuple(dict.fromkeys([*asked, *recipe.hosts])))


def key_for(recipe: Recipe, repo: Repository) -> str:
    """What the setup of this checkout is kept under. Scripts of an environment name the path that it was made at."""
    return fingerprint(recipe, _reader(repo.top), (*machine(), str(repo.top)))


def ready_for(settings: Config, repo: Repository, state: Path) -> Ready | None:
    """The finished setup for this checkout as it is; None when there is none. Costs nothing where none was made."""
    if not (state / "setup").is_dir():
        return None
    recipe = recipe_for(settings, repo)
    return find(state, key_for(recipe, repo)) if recipe is not None else None


def _reader(top: Path) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        try:
            return beneath.read_regular(top / name, _LONGEST).decode("utf-8", "surrogateescape")
        except (OSError, ValueError):
            return None

    return read


def find(state: Path, key: str) -> Ready | None:
    """The finished setup for a key, marked as used now; None when there is none."""
    place = state / "setup" / key
    if not (place / "folders").is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(place)
    folders = {}
    for entry in (place / "folders").iterdir():
        folders[entry.name.replace("%2F", "/").replace("%25", "%")] = entry
    return Ready(folders, place / "stores")


def environment(state: Path, key: str, recipe: Recipe) -> tuple[dict[str, str], tuple[Path, ...]]:
    """For the sandbox in which a recipe runs: its variables, and the folders that it may write beside the worktree."""
    cache = private_dir(state / "setup" / "cache")
    stores = private_dir(_unfinished(state, key) / "stores")
    variables = {
        "PIP_CACHE_DIR": str(cache / "pip"),
        "UV_CACHE_DIR": str(cache / "uv"),
        # A link into the cache would lead nowhere in later runs.
        "UV_LINK_MODE": "copy",
        # It would lie in a HOME that is thrown away.
        "UV_PYTHON_DOWNLOADS": "never",
        # Folders without the right to write could not be removed again.
        "GOFLAGS": "-modcacherw",
        "npm_config_cache": str(cache / "npm"),
        "PIP_NO_INPUT": "1",
        "CI": "1",
        **_stores(stores),
        **dict(recipe.variables),
    }
    return variables, (cache, stores)


def _stores(place: Path) -> dict[str, str]:
    return {"CARGO_HOME": str(place / "cargo"), "GOMODCACHE": str(place / "go")}


async def make(
    recipe: Recipe, root: Path, state: Path, key: str, run: Runner, *, again: bool = False
) -> Ready:
    """Run a recipe in the worktree `root` and keep what it made. Raises SetupError that holds the command's last words,
    StoreError when it cannot be kept or another process is at it.

    `run` was given what `environment` says. The worktree's folders are moved, not copied: it is thrown away. With
    `again` one that is there is made anew, and stays when that fails.
    """
    with _alone(state, key):
        if not again and (ready := find(state, key)) is not None:
            return ready
        partial = private_dir(_unfinished(state, key))
        try:
            for command in recipe.run:
                done = await run(command)
                if done.exit_code != 0:
                    how = "did not end in time" if done.timed_out else f"failed (exit code {done.exit_code})"
                    raise SetupError(
                        f"`{command}` {how}:\n{done.output[-_QUOTED:].strip()}",
                        "a host that was refused can be added to `allow_net` in [setup]",
                    )
            shutil.rmtree(partial / "folders", ignore_errors=True)  # of a process that was killed
            _take(recipe, root, partial / "folders")
            place, before = partial.with_name(key), partial.with_name(f"{key}.old.part")
            if place.exists():
                place.rename(before)
            partial.rename(place)
            shutil.rmtree(before, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"the setup cannot be kept in {partial}: {error.strerror}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    collect(state)
    ready = find(state, key)
    assert ready is not None
    return ready


def _take(recipe: Recipe, root: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for folder in recipe.keeps:
        place = root / folder
        # A link could lead anywhere; what a recipe makes there is not the project's packages.
        if place.is_dir() and not place.is_symlink() and place.resolve() == root.resolve() / folder:
            shutil.move(place, target / folder.replace("%", "%25").replace("/", "%2F"))


def _unfinished(state: Path, key: str) -> Path:
    return state / "setup" / f"{key}.part"


def collect(state: Path, keep: int = KEPT) -> list[str]:
    """Remove all but the setups used last; the keys of those that are gone. A setup that is at work is left alone."""
    home = state / "setup"
    _sweep(home)
    with contextlib.suppress(OSError):
        places = [p for p in home.iterdir() if (p / "folders").is_dir() and not p.name.endswith(".part")]
        old = sorted(places, key=lambda place: place.stat().st_mtime, reverse=True)[keep:]
        for place in old:
            shutil.rmtree(place, ignore_errors=True)
        return [place.name for place in old]
    return []


def _sweep(home: Path) -> None:
    """Remove what setups that were killed left."""
    for partial in home.glob("*.part"):
        key = partial.name.split(".", 1)[0]
        with contextlib.suppress(OSError, StoreError):
            # One that is about to begin has no lock yet.
            if time.time() - partial.stat().st_mtime > _ABANDONED:
                with _alone(home.parent, key):
                    shutil.rmtree(partial, ignore_errors=True)
                    (home / f"{key}.log").unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(state: Path, key: str) -> Iterator[None]:
    """Only one process makes a setup."""
    home = private_dir(state / "setup")
    lock = os.open(home / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError("another process is at this setup", "wait for it to end") from None
        yield
    finally:
        os.close(lock)
