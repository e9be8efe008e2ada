"""Worktrees under the state folder: plain folders that git fills, with the record of what a run needs.

Nothing of them is entered in the user's .git, but for a ref that keeps the base from being collected while it is
needed. The repository that commands see in a worktree is another one (shadow.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from poolcli.errors import PoolError
from poolcli.git import Repository, attempt, git
from poolcli.paths import write_private

#: From this many files on, four checkout workers are faster (measured: 78,000 files in 4.5 s, not 8.5).
MANY_FILES = 10_000
#: Written last when a worktree is made and removed first when it goes: without it there is no work to save.
RECORD = "workspace.json"
#: The worktree's index as checked out: what content is compared with. Commands can change git's own.
INDEX = "index"
#: Says that the base's ref was made for the time of the worktree only: the base is a commit of the user's.
HELD = "held"
#: Folders of a run that go with its worktree: what content is read into, the run's own repository, the HOME of
#: commands and what they write over the user's packages.
FOLDERS = ("objects", "git", "git.new", "git.old", "home", "overlays", "scratch")
#: Ending of the names of places that only a verdict is made in (fresh.py): there is no work in them.
PLACE = ".verdict"


class Record(Struct, frozen=True):
    """What is needed to read the work out of a worktree later, also in another process."""

    base: str
    head: str
    #: Uncommitted files that were carried over.
    dirty: tuple[str, ...] = ()
    #: Submodules: never part of a patch.
    gitlinks: tuple[str, ...] = ()
    #: What was left out and why, for people.
    notes: tuple[str, ...] = ()
    #: The user's ignored folders of packages and build output.
    borrowed: tuple[str, ...] = ()
    #: Where the run's own repository finds the user's objects: it differs with the sandbox.
    stores: tuple[str, ...] = ()

    def save(self, run_dir: Path) -> None:
        """Write the record; it is there whole or not at all."""
        partial = run_dir / f"{RECORD}.part"
        write_private(partial, json.dumps(asdict(self)).encode())
        partial.replace(run_dir / RECORD)

    @classmethod
    def load(cls, run_dir: Path) -> Record | None:
        """The record of a run; None when its worktree was never complete or is gone."""
        try:
            data: dict[str, Any] = json.loads((run_dir / RECORD).read_text("utf-8"))
            lists = {name: tuple(data.get(name, ())) for name in _LISTS}
            return cls(base=data["base"], head=data["head"], **lists)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            return None


_LISTS = ("dirty", "gitlinks", "notes", "borrowed", "stores")


def folder(state: Path) -> Path:
    """Where the worktrees of a repository lie."""
    return state / "worktrees"


def add(repo: Repository, root: Path, commit: str, run_dir: Path) -> None:
    """Check `commit` out in the empty folder `root`, as the user's checkout would. Raises GitError.

    The index of it goes to the run's folder.
    """
    # The mark lets the checkout of a killed `pool` be found, which goes on writing for a while.
    env = {"POOL_RUN": run_dir.name, "GIT_INDEX_FILE": str(run_dir / INDEX)}
    workers = ["-c", "checkout.workers=4"] if _file_count(repo) > MANY_FILES else []
    git([*workers, *repo.pin(root), "read-tree", "--reset", "-u", commit], cwd=root, env=env)


def hold(repo: Repository, run_dir: Path, commit: str) -> None:
    """Keep `commit` from git's collection while the worktree is there, where no snapshot's ref does it already."""
    ref = base_ref(run_dir.name)
    if attempt([*repo.pin(), "rev-parse", "--verify", "--quiet", ref], cwd=repo.top).code == 0:
        return
    (run_dir / HELD).touch()  # first: who finds the ref must know whose it is
    git([*repo.pin(), "update-ref", ref, commit], cwd=repo.top, env={"POOL_RUN": run_dir.name})


def _release(repo: Repository, run_dir: Path) -> None:
    if (run_dir / HELD).exists():
        drop_ref(repo, run_dir.name)
        (run_dir / HELD).unlink(missing_ok=True)


def drop_ref(repo: Repository, run_id: str) -> None:
    """Remove the ref that keeps a run's base, and the lock that a killed git left on it. Never fails."""
    ref = base_ref(run_id)
    (repo.common_dir / f"{ref}.lock").unlink(missing_ok=True)
    with contextlib.suppress(PoolError):
        git([*repo.pin(), "update-ref", "-d", ref], cwd=repo.top)


def _file_count(repo: Repository) -> int:
    """Entries of the user's index: its header says so in bytes 8 to 12."""
    try:
        with (repo.git_dir / "index").open("rb") as file:
            header = file.read(12)
        return int(struct.unpack(">I", header[8:])[0])
    except (OSError, struct.error):
        return 0


def found(repo: Repository, state: Path) -> set[str]:
    """Run ids of all worktrees of ours: folders, and what an older pool entered in the user's .git. Runs no git."""
    parent = folder(state).resolve()
    names = {place.name for _, place in _entries(repo) if place.parent == parent}
    with contextlib.suppress(FileNotFoundError):
        names.update(path.name for path in parent.iterdir())
    return names


def _entries(repo: Repository) -> Iterator[tuple[Path, Path]]:
    """The linked worktrees of the repository: entry in the user's .git, and the place that it is for."""
    for file in sorted((repo.common_dir / "worktrees").glob("*/gitdir")):
        with contextlib.suppress(OSError):
            yield file.parent, Path(os.fsdecode(file.read_bytes()).removesuffix("\n")).parent


def remove(repo: Repository, root: Path, run_dir: Path) -> None:
    """Remove a worktree and what was kept for the time of it. Raises OSError when it stays."""
    _release(repo, run_dir)
    for name in (RECORD, INDEX):
        (run_dir / name).unlink(missing_ok=True)
    for path in run_dir.glob(f"{INDEX}.*"):
        path.unlink(missing_ok=True)
    for name in FOLDERS:
        remove_tree(run_dir / name)
    remove_tree(root)
    for entry, place in list(_entries(repo)):
        if place == root:
            remove_tree(entry)


def discard(repo: Repository, run_id: str, state: Path) -> None:
    """Remove a run's worktree and the ref that keeps its snapshot; its log and patch stay. What is gone
    already, or cannot be removed, is no error."""
    with contextlib.suppress(OSError):
        remove(repo, folder(state).resolve() / run_id, state / "runs" / run_id)
    drop_ref(repo, run_id)


def base_ref(run_id: str) -> str:
    """The ref that keeps a run's base from being collected by git."""
    return f"refs/pool/base/{run_id}"


def remove_tree(path: Path) -> None:
    """Remove a folder, also with read-only folders in it. Raises OSError when something stays."""
    if path.is_symlink():
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    # A Go module cache, or a test that takes its own rights away.
    for place, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)  # noqa: PTH101
    shutil.rmtree(path)


@contextlib.contextmanager
def claim(run_dir: Path) -> Iterator[bool]:
    """Hold a run's lock when nobody else does; gives whether it could be had. A missing lock is free."""
    try:
        file = os.open(run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)
