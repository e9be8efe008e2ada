"""Linked worktrees under the state folder: made by git, removed by us, with the record of what a run needs.

Removal is done by hand because git has no command for it that is right: `worktree prune` would also forget
the user's own stale worktrees, and neither it nor `worktree remove` clears one whose creation was killed.
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
from poolcli.git import GitError, Repository, git

#: From this many files on, four checkout workers are faster (measured: 78,000 files in 4.5 s, not 8.5).
MANY_FILES = 10_000
#: Written last when a worktree is made and removed first when it goes: without it there is no work to save.
RECORD = "workspace.json"
#: The worktree's index as checked out: what content is compared with. Commands can change git's own.
INDEX = "index"
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

    def save(self, run_dir: Path) -> None:
        """Write the record; it is there whole or not at all."""
        partial = run_dir / f"{RECORD}.part"
        partial.write_text(json.dumps(asdict(self)), "utf-8")
        partial.replace(run_dir / RECORD)

    @classmethod
    def load(cls, run_dir: Path) -> Record | None:
        """The record of a run; None when its worktree was never complete or is gone."""
        try:
            data: dict[str, Any] = json.loads((run_dir / RECORD).read_text("utf-8"))
            lists = {name: tuple(data.get(name, ())) for name in ("dirty", "gitlinks", "notes")}
            return cls(base=data["base"], head=data["head"], **lists)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            return None


def folder(state: Path) -> Path:
    """Where the worktrees of a repository lie."""
    return state / "worktrees"


def add(repo: Repository, root: Path, commit: str, run_id: str) -> None:
    """Check `commit` out at `root` as a linked, locked, detached worktree. Raises GitError."""
    # The mark lets the checkout of a killed `pool` be found, which goes on writing for a while.
    env = {"POOL_RUN": run_id}
    made = ["worktree", "add", "--no-checkout", "--quiet", "--lock", f"--reason=pool {run_id}", "--detach"]
    with _registry(root.parent):
        git([*repo.pin(), *made, str(root), commit], cwd=repo.top, env=env)
    admin = admin_dir(repo, root)
    if admin is None:
        raise GitError(f"git worktree add made no worktree at {root}")
    workers = ["-c", "checkout.workers=4"] if _file_count(repo) > MANY_FILES else []
    pin = (f"--git-dir={admin}", f"--work-tree={root}")
    git([*workers, *pin, "read-tree", "--reset", "-u", commit], cwd=root, env=env)


@contextlib.contextmanager
def _registry(parent: Path) -> Iterator[None]:
    """One of ours at a time in the user's .git/worktrees: git dies of an entry that is just made or removed."""
    file = os.open(parent.with_name("worktrees.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _file_count(repo: Repository) -> int:
    """Entries of the user's index: its header says so in bytes 8 to 12."""
    try:
        with (repo.git_dir / "index").open("rb") as file:
            header = file.read(12)
        return int(struct.unpack(">I", header[8:])[0])
    except (OSError, struct.error):
        return 0


def admin_dir(repo: Repository, root: Path) -> Path | None:
    """The folder inside the user's .git that belongs to the worktree at `root`; None when there is none."""
    likely = repo.common_dir / "worktrees" / root.name
    if _place(likely) == root:
        return likely
    return next((entry for entry, place in _linked(repo) if place == root), None)


def _place(admin: Path) -> Path | None:
    """The worktree that an admin folder belongs to."""
    try:
        text = os.fsdecode((admin / "gitdir").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Path(text.removesuffix("\n")).parent


def _linked(repo: Repository) -> Iterator[tuple[Path, Path]]:
    try:
        entries = sorted((repo.common_dir / "worktrees").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if place := _place(entry):
            yield entry, place


def found(repo: Repository, state: Path) -> set[str]:
    """Run ids of all worktrees of ours: folders, and what the user's .git knows of. Runs no git."""
    parent = folder(state).resolve()
    names = {place.name for _, place in _linked(repo) if place.parent == parent}
    with contextlib.suppress(FileNotFoundError):
        names.update(path.name for path in parent.iterdir())
    return names


def remove(repo: Repository, root: Path, run_dir: Path) -> None:
    """Remove a worktree, its admin folder and what was kept to read it. Raises OSError when it stays."""
    for name in (RECORD, INDEX):
        (run_dir / name).unlink(missing_ok=True)
    for path in run_dir.glob(f"{INDEX}.*"):
        path.unlink(missing_ok=True)
    remove_tree(run_dir / "objects")
    admin = admin_dir(repo, root)
    remove_tree(root)
    if admin is not None:
        with _registry(root.parent):
            remove_tree(admin)


def discard(repo: Repository, run_id: str, state: Path) -> None:
    """Remove a run's worktree and the ref that keeps its snapshot; its log and patch stay. What is gone
    already, or cannot be removed, is no error."""
    with contextlib.suppress(OSError):
        remove(repo, folder(state).resolve() / run_id, state / "runs" / run_id)
    with contextlib.suppress(PoolError):
        git([*repo.pin(), "update-ref", "-d", base_ref(run_id)], cwd=repo.top)


def base_ref(run_id: str) -> str:
    """The ref that keeps a run's snapshot from being collected by git."""
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
