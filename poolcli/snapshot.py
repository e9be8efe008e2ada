"""Content of a working tree as git objects, through a temporary index: the user's own index is only read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from poolcli.git import IDENTITY, LONGEST, Repository, git

#: Folders of installed packages: borrowed from the user's checkout (environments.py), never part of a change.
BORROWED = frozenset({".venv", "venv", "node_modules"})
#: What test runs leave behind. Never carried over and never part of a patch while untracked, also where no
#: .gitignore says so: a stale cache would show up as a change that nobody made.
LITTER = BORROWED | {
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    ".tox",
    ".nox",
}
LITTER_ENDINGS = (".pyc", ".pyo")
LITTER_PATTERNS = (*sorted(LITTER), *(f"*{ending}" for ending in LITTER_ENDINGS))
_LITTER_OPTIONS = tuple(f"--exclude={pattern}" for pattern in LITTER_PATTERNS)
#: Folders of build output and of fetched packages. Where commands can be given a view of them that keeps their
#: writes apart, they save a build from the beginning; only where git ignores them.
BUILT = frozenset({"target", ".tox", ".nox", "vendor", ".gradle", ".next"})


class Snapshot(Struct, frozen=True):
    """A state of the user's checkout as a commit; `commit` is `head` itself when the checkout was clean."""

    commit: str
    head: str
    #: How many changed or untracked files were carried over.
    dirty: int


class Changes(Struct, frozen=True):
    """How a checkout differs from its HEAD, as git status sees it. Paths are relative to the top."""

    #: Changed, added, deleted and untracked files: what a snapshot carries over.
    dirty: tuple[str, ...] = ()
    #: What it leaves out, each with the reason.
    skipped: tuple[str, ...] = ()
    #: Ignored or untracked folders of installed packages (`.venv`, `packages/a/node_modules`).
    borrowed: tuple[str, ...] = ()
    #: Ignored folders of build output (`target`).
    built: tuple[str, ...] = ()


def look(repo: Repository) -> Changes:
    """Compare the checkout with its HEAD. One git process; takes no lock and writes nothing."""
    out = git(
        [
            *repo.pin(),
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=all",
            "--ignored=matching",
            "--no-renames",
            "--ignore-submodules=all",
        ],
        cwd=repo.top,
    )
    dirty: list[str] = []
    skipped: list[str] = []
    borrowed: set[str] = set()
    built: set[str] = set()
    for entry in out.split(b"\0")[:-1]:
        code, path = entry[:2], os.fsdecode(entry[3:])
        if code in (b"??", b"!!") and (folder := _within(path, BORROWED)):
            borrowed.add(folder)
        elif code == b"!!" and path.endswith("/") and (folder := _within(path, BUILT)):
            built.add(folder)
        elif code == b"!!" or (code == b"??" and _litter(path)):
            continue
        elif path.endswith("/"):
            skipped.append(f"{path} is a git repository of its own")
        elif code == b"??" and not _readable(repo.top / path):
            skipped.append(f"{path} cannot be read")
        else:
            dirty.append(path)
    return Changes(tuple(sorted(set(dirty))), tuple(skipped), tuple(sorted(borrowed)), tuple(sorted(built)))


def _within(path: str, names: Collection[str]) -> str:
    """The first folder on a path that has one of these names, '' when there is none."""
    parts = path.rstrip("/").split("/")
    at = next((i for i, part in enumerate(parts) if part in names), None)
    return "" if at is None else "/".join(parts[: at + 1])


def _litter(path: str) -> bool:
    return path.endswith(LITTER_ENDINGS) or not LITTER.isdisjoint(path.split("/"))


def _readable(path: Path) -> bool:
    return path.is_symlink() or os.access(path, os.R_OK)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def take(repo: Repository, changes: Changes, *, ref: str, scratch: Path) -> Snapshot:
    """The checkout's present state as a commit, kept by `ref` when it is not HEAD itself.

    `scratch` is a file that may be written: the temporary index. It begins as a copy of the user's index, so
    that unchanged files are not read again; a lock on the user's index or a merge in it does not matter.
    """
    if not changes.dirty:
        return Snapshot(repo.head, repo.head, 0)
    user_index = repo.git_dir / "index"
    try:
        if user_index.exists():
            copy_index(user_index, scratch)
        env = {"GIT_INDEX_FILE": str(scratch)}
        record(repo, repo.top, changes.dirty, env)
        tree = write_tree(repo, env)
    finally:
        scratch.unlink(missing_ok=True)
    message = b"Uncommitted changes, as they were when a pool run started\n"
    commit = _line(
        git([*repo.pin(), "commit-tree", tree, "-p", repo.head], cwd=repo.top, env=IDENTITY, input=message)
    )
    # Marked as a process of the run that the ref is named after: one that outlives a killed pool is found.
    git([*repo.pin(), "update-ref", ref, commit], cwd=repo.top, env={"POOL_RUN": ref.rpartition("/")[2]})
    return Snapshot(commit, repo.head, len(changes.dirty))


def copy_index(source: Path, target: Path) -> None:
    """Copy an index with its time: git compares it with the files' to find changes made within one tick."""
    shutil.copyfile(source, target)
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def differing(
    repo: Repository,
    root: Path,
    env: Mapping[str, str],
    excluded: Collection[str],
    *,
    timeout: float = LONGEST,
) -> list[str]:
    """Files under `root` that differ from the index in `env`, new ones included, ignored ones and litter not.

    A nested repository's folder is given with a slash at its end.
    """
    paths = [".", *(f":(top,literal,exclude){path}" for path in excluded)]
    out = git(
        [
            *repo.pin(root),
            "ls-files",
            "-z",
            "--modified",
            "--deleted",
            "--others",
            "--exclude-standard",
            *_LITTER_OPTIONS,
            "--",
            *paths,
        ],
        cwd=root,
        env=env,
        timeout=timeout,
    )
    return sorted({os.fsdecode(path) for path in out.split(b"\0")[:-1]})


def nested_files(repo: Repository, root: Path, folder: str, scratch: Path) -> list[str]:
    """Files of a nested repository below `root`, found without its own configuration, which is not ours."""
    env = {"GIT_INDEX_FILE": str(scratch)}  # a file that does not exist: an empty index
    out = git(
        [*repo.pin(root / folder), "ls-files", "-z", "--others", "--exclude-standard", *_LITTER_OPTIONS],
        cwd=root / folder,
        env=env,
    )
    return [folder + path for path in map(os.fsdecode, out.split(b"\0")[:-1]) if not path.endswith("/")]


def record(
    repo: Repository, root: Path, paths: Iterable[str], env: Mapping[str, str], *, timeout: float = LONGEST
) -> None:
    """Bring the index in `env` to what lies under `root` at these paths: content, mode, kind, or nothing."""
    present: list[str] = []
    hidden: list[str] = []
    for path in paths:
        # git refuses to look at a path behind a link or at a folder; what was a file there is gone.
        (hidden if behind_link(root, path) or _is_folder(root / path) else present).append(path)
    if hidden:
        _update_index(repo, root, ["--force-remove"], hidden, env, timeout)
    if present:
        _update_index(repo, root, ["--add", "--replace", "--remove"], present, env, timeout)


def behind_link(root: Path, path: str) -> bool:
    """Whether a folder on the way from `root` to a path is a link."""
    # The last parent of a relative path is the root itself.
    return any((root / parent).is_symlink() for parent in list(Path(path).parents)[:-1])


def _update_index(
    repo: Repository,
    root: Path,
    options: Sequence[str],
    paths: Sequence[str],
    env: Mapping[str, str],
    timeout: float,
) -> None:
    lines = b"".join(os.fsencode(path) + b"\0" for path in paths)
    args = [*repo.pin(root), "update-index", *options, "-z", "--stdin"]
    git(args, cwd=root, env=env, input=lines, timeout=timeout)


def write_tree(repo: Repository, env: Mapping[str, str]) -> str:
    """The tree of the index in `env`. Objects that a partial clone left on its server may be missing."""
    return _line(git([*repo.pin(), "write-tree", "--missing-ok"], cwd=repo.top, env=env))


def _line(out: bytes) -> str:
    return out.decode().strip()
