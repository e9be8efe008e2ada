"""Where a run works: a worktree that begins as a copy of the user's checkout and ends as a patch."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from poolcli import environments, process, snapshot, worktrees
from poolcli.errors import PoolError, WorkspaceError
from poolcli.git import Repository, attempt, git
from poolcli.paths import private_dir
from poolcli.process import Finished
from poolcli.sandbox import Sandbox, command_environment, wrap
from poolcli.snapshot import Snapshot
from poolcli.worktrees import Record

#: The file of a run that holds its changes.
PATCH = "patch.diff"
#: The folder of a run that commands may write reports to.
SCRATCH = "scratch"
#: Longest file that is read as text, in bytes: instructions and manifests are far below.
LONGEST_TEXT = 1_000_000

_DIFF = (
    "diff-index",
    "--cached",
    "--patch",
    "--binary",
    "--full-index",
    "--find-renames",
    "-l1000",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--diff-algorithm=myers",
)


class Workspace:
    """One run's worktree. Made by `create` or `reopen`; `remove` ends it."""

    def __init__(self, repo: Repository, run_dir: Path, root: Path, record: Record, sandbox: Sandbox) -> None:
        self.repo = repo
        self.run_dir = run_dir
        #: The worktree: absolute, without links in it.
        self.root = root
        self.sandbox = sandbox
        self.record = record
        self._environment: dict[str, str] = {}
        self._files: list[tuple[str, int]] | None = None

    @property
    def base(self) -> str:
        """The commit that the worktree started from."""
        return self.record.base

    @property
    def dirty(self) -> tuple[str, ...]:
        """Uncommitted files of the user's that were carried over."""
        return self.record.dirty

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not carried over and why, one line each."""
        return self.record.notes

    @property
    def snapshot(self) -> Snapshot:
        """The state of the user's checkout that the worktree began as."""
        return Snapshot(self.record.base, self.record.head, len(self.record.dirty))

    def files(self) -> list[tuple[str, int]]:
        """The files of the base and their sizes in bytes, sorted by path; links and submodules left out."""
        if self._files is None:
            self._files = _listing(self.repo, self.base)[0]
        return self._files

    def resolve(self, path: str) -> Path:
        """The file behind a path as the model wrote it: real, inside the worktree, not git's.

        Raises ValueError with a sentence for the model.
        """
        if not path or "\0" in path:
            raise ValueError("the path is empty" if not path else "the path holds a NUL character")
        try:
            real = Path(os.path.realpath(self.root / path))
            inside = real.relative_to(self.root)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                real.lstat()  # names that are too long, links in a circle
        except ValueError:
            raise ValueError(
                f"{path} is outside the repository; give a path relative to the repository root"
            ) from None
        except OSError as error:
            raise ValueError(f"{path} cannot be used as a path: {error.strerror}") from None
        if any(part.lower() == ".git" for part in (*inside.parts, *Path(path).parts)):
            raise ValueError(f"{path} belongs to git and cannot be read or changed as a file")
        return real

    def read_text(self, path: str) -> str | None:
        """A file's text; None when it is missing, binary, very long, not a file or outside the worktree."""
        try:
            file = self.resolve(path)
            status = file.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > LONGEST_TEXT:
                return None
            content = file.read_bytes()
        except (OSError, ValueError):
            return None
        return None if b"\0" in content else content.decode("utf-8", "replace")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: no secrets, and the worktree's code instead of the user's."""
        if not self._environment:
            shim = self.run_dir / "pythonpath"
            extra = environments.variables(os.environ, self.repo.top, self.root, shim)
            self._environment = command_environment(os.environ, run_id=self.run_dir.name, extra=extra)
        return self._environment

    def argv(self, command: str) -> list[str]:
        """The process that runs a shell command, confined as configured."""
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"  # noqa: PTH110
        return wrap(self.sandbox, [shell, "-c", command], root=self.root)

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        log: Path | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run a shell command in the worktree; `timeout` in seconds. Raises WorkspaceError if it is gone."""
        self._check()
        return await process.run(
            self.argv(command),
            cwd=self.root,
            env=self.environment,
            timeout=timeout,
            log=log,
            on_output=on_output,
        )

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder beside the worktree for the time of a `with`: commands may write reports to it.

        What lies in it afterwards was written by commands, and may be anything.
        """
        try:
            folder = Path(tempfile.mkdtemp(dir=private_dir(self.run_dir / SCRATCH)))
        except OSError as error:
            raise WorkspaceError(
                f"no folder for reports can be made in {self.run_dir}: {error.strerror}"
            ) from error
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                worktrees.remove_tree(folder)

    def patch(self) -> bytes:
        """The changes since the base as a git patch, new and binary files included; the same content gives
        the same bytes. Raises WorkspaceError when the worktree is gone or cannot be read."""
        with _Content(self) as content:
            if not content.changed:
                return b""
            return git([*content.pin, *_DIFF, self.base], cwd=self.root, env=content.env)

    def tree(self) -> str:
        """The git tree of the worktree's present content."""
        with _Content(self) as content:
            return snapshot.write_tree(self.repo, content.env)

    def changed(self) -> list[str]:
        """The files that differ from the base, new ones included; sorted."""
        with _Content(self) as content:
            return content.changed

    def remove(self) -> None:
        """Remove the worktree; does nothing when it is gone. What cannot be removed is left to `collect`."""
        with contextlib.suppress(OSError):
            worktrees.remove(self.repo, self.root, self.run_dir)

    def _check(self) -> None:
        if not self.root.is_dir():
            raise WorkspaceError(
                f"the worktree {self.root} is gone: something removed it during the run",
                "start the run again; what was saved of it is in its run folder",
            )


class _Content:
    """The worktree's present content in an index of its own, for the time of one question.

    Begins with the index as checked out, so that the answer depends on the content alone. Nothing is written
    to the user's .git: new objects go to a folder of the run, where no `git gc` of the user's finds them.
    """

    def __init__(self, space: Workspace) -> None:
        self._space = space
        self._index = space.run_dir / f"{worktrees.INDEX}.now"
        self._empty = space.run_dir / f"{worktrees.INDEX}.empty"
        objects = private_dir(space.run_dir / "objects")
        self.pin = space.repo.pin(space.root)
        self.env = {
            "GIT_INDEX_FILE": str(self._index),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(space.repo.common_dir / "objects"),
        }
        self.changed: list[str] = []

    def __enter__(self) -> _Content:
        space = self._space
        space._check()
        self._clear()
        pristine = space.run_dir / worktrees.INDEX
        if pristine.exists():
            snapshot.copy_index(pristine, self._index)
        else:
            git([*self.pin, "read-tree", space.base], cwd=space.root, env=self.env)
        self.changed = self._differing()
        if self.changed:
            snapshot.record(space.repo, space.root, self.changed, self.env)
        return self

    def _differing(self) -> list[str]:
        space = self._space
        paths: list[str] = []
        for path in snapshot.differing(space.repo, space.root, self.env, space.record.gitlinks):
            if path.endswith("/"):  # a repository that a command made: its files, without its .git
                paths += snapshot.nested_files(space.repo, space.root, path, self._empty)
            else:
                paths.append(path)
        return sorted(set(paths))

    def _clear(self) -> None:
        # A lock here is of a process that was killed: one process owns a run.
        for file in (self._index, Path(f"{self._index}.lock"), self._empty):
            file.unlink(missing_ok=True)

    def __exit__(self, *error: object) -> None:
        self._clear()


def _quoted(path: Path) -> str:
    """A path for a colon-separated list of git's."""
    text = str(path)
    if ":" not in text and '"' not in text and "\n" not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _listing(repo: Repository, commit: str) -> tuple[list[tuple[str, int]], list[str]]:
    """(files with sizes, submodules) of a commit."""
    out = git([*repo.pin(), "ls-tree", "-r", "-l", "-z", "--full-tree", commit], cwd=repo.top)
    files: list[tuple[str, int]] = []
    gitlinks: list[str] = []
    for entry in out.split(b"\0")[:-1]:
        about, _, name = entry.partition(b"\t")
        mode, _, _, size = about.split()
        if mode == b"160000":
            gitlinks.append(os.fsdecode(name))
        elif mode != b"120000":
            files.append((os.fsdecode(name), int(size) if size.isdigit() else 0))
    return files, gitlinks


def create(repo: Repository, *, run_id: str, state: Path, sandbox: Sandbox) -> Workspace:
    """A new worktree that holds the user's checkout as it is: tracked and untracked, not ignored.

    `state` is the repository's state folder. The caller holds the run's lock. Raises WorkspaceError and
    leaves nothing behind then. The user's checkout, index, stash, branches and hooks are only read.
    """
    run_dir = private_dir(state / "runs" / run_id)
    root = private_dir(worktrees.folder(state)).resolve() / run_id
    try:
        changes = snapshot.look(repo)
        taken = snapshot.take(
            repo, changes, ref=worktrees.base_ref(run_id), scratch=run_dir / "snapshot-index"
        )
        return _fill(repo, root, run_dir, taken, changes, sandbox)
    except BaseException as error:
        worktrees.discard(repo, run_id, state)
        if isinstance(error, OSError):
            raise WorkspaceError(f"the worktree could not be made: {error}") from error
        raise


def _fill(
    repo: Repository, root: Path, run_dir: Path, taken: Snapshot, changes: snapshot.Changes, sandbox: Sandbox
) -> Workspace:
    worktrees.add(repo, root, taken.commit, run_dir.name)
    environments.borrow(repo.top, root, changes.borrowed)
    gitlinks, notes = _submodules(repo, root, taken.commit, run_dir)
    # Before the record: a record without an index would make every file look changed by another process.
    if (admin := worktrees.admin_dir(repo, root)) is not None:
        snapshot.copy_index(admin / "index", run_dir / worktrees.INDEX)
    record = Record(taken.commit, taken.head, changes.dirty, gitlinks, (*changes.skipped, *notes))
    record.save(run_dir)
    return Workspace(repo, run_dir, root, record, sandbox)


def _submodules(
    repo: Repository, root: Path, commit: str, run_dir: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Fill submodules from the user's clones of them, never from a network: (all of them, notes)."""
    if not (root / ".gitmodules").exists() and not (repo.top / ".gitmodules").exists():
        return (), []
    out = git([*repo.pin(), "ls-tree", "-r", "-z", "--full-tree", commit], cwd=repo.top)
    links = [
        (os.fsdecode(name), about.split()[2].decode())
        for about, _, name in (entry.partition(b"\t") for entry in out.split(b"\0")[:-1])
        if about.startswith(b"160000")
    ]
    empty = [path for path, sha in links if not _fill_submodule(repo.top / path, root / path, sha, run_dir)]
    notes = [f"submodule {path} is empty: its commit is not on this machine" for path in empty]
    return tuple(path for path, _ in links), notes


def _fill_submodule(main: Path, target: Path, sha: str, run_dir: Path) -> bool:
    git_dir = main / ".git"
    with contextlib.suppress(OSError):
        if git_dir.is_file():
            git_dir = main / git_dir.read_text("utf-8").removeprefix("gitdir:").strip()
    if not git_dir.is_dir() or not target.is_dir():
        return False
    scratch = run_dir / "submodule-index"
    try:
        pin = (f"--git-dir={git_dir}", f"--work-tree={target}")
        git([*pin, "read-tree", "--reset", "-u", sha], cwd=target, env={"GIT_INDEX_FILE": str(scratch)})
    except WorkspaceError:
        return False
    finally:
        scratch.unlink(missing_ok=True)
    return True


def reopen(repo: Repository, *, run_id: str, state: Path, base: str, sandbox: Sandbox) -> Workspace:
    """The worktree of an earlier run: as it is, or made again from `base` and the saved patch.

    The caller holds the run's lock. Raises WorkspaceError, for example when git has collected the base.
    """
    run_dir = private_dir(state / "runs" / run_id)
    root = private_dir(worktrees.folder(state)).resolve() / run_id
    record = Record.load(run_dir)
    if record is not None and record.base == base and root.is_dir():
        return Workspace(repo, run_dir, root, record, sandbox)
    try:
        worktrees.remove(repo, root, run_dir)
    except OSError as error:
        raise WorkspaceError(f"what is left of the worktree cannot be removed: {error}") from error
    if not _exists(repo, base):
        raise WorkspaceError(
            f"the commit that run {run_id} started from is no longer in the repository",
            f"its changes are in {run_dir / PATCH}; `pool apply` still lands them",
        )
    try:
        worktrees.add(repo, root, base, run_id)
        changes = snapshot.look(repo)
        environments.borrow(repo.top, root, changes.borrowed)
        gitlinks, notes = _submodules(repo, root, base, run_dir)
        if (admin := worktrees.admin_dir(repo, root)) is not None:
            snapshot.copy_index(admin / "index", run_dir / worktrees.INDEX)
        patch = run_dir / PATCH
        if patch.exists() and patch.stat().st_size:
            git([*repo.pin(root), "apply", "--whitespace=nowarn", str(patch)], cwd=root)
    except BaseException:
        # Not `discard`: the snapshot and the patch are the run's only copies.
        with contextlib.suppress(OSError):
            worktrees.remove(repo, root, run_dir)
        raise
    # Last: without a record, `collect` takes no patch from a worktree that is not whole.
    record = Record(base, base, (), gitlinks, tuple(notes))
    record.save(run_dir)
    return Workspace(repo, run_dir, root, record, sandbox)


def _exists(repo: Repository, commit: str) -> bool:
    return attempt([*repo.pin(), "cat-file", "-e", f"{commit}^{{commit}}"], cwd=repo.top).code == 0


def collect(repo: Repository, state: Path) -> list[str]:
    """Save the work of killed runs as their patches and remove their worktrees; one line for each.

    Runs no process when there is nothing to do. A worktree whose work cannot be saved stays, and is named.
    """
    lines: list[str] = []
    for run_id in sorted(worktrees.found(repo, state)):
        with worktrees.claim(state / "runs" / run_id) as ours:
            if ours:
                lines.append(_collect(repo, state, run_id))
    return lines


def _collect(repo: Repository, state: Path, run_id: str) -> str:
    run_dir = state / "runs" / run_id
    root = worktrees.folder(state).resolve() / run_id
    process.kill_marked(run_id)
    record = Record.load(run_dir)
    saved = ""
    place = run_id.endswith(worktrees.PLACE)
    try:
        if record is not None and root.is_dir() and not place:
            saved = _save(Workspace(repo, run_dir, root, record, _NO_COMMANDS))
        worktrees.remove(repo, root, run_dir)
        if place:
            worktrees.remove_tree(run_dir)
            return f"a verdict was stopped; the place {run_id} it was made in is removed"
    except (PoolError, OSError) as error:
        return f"run {run_id} was stopped; its worktree stays at {root}: {error}"
    return f"run {run_id} was stopped; {saved or 'nothing of it had to be saved'}"


#: For a workspace that is only read.
_NO_COMMANDS = Sandbox("no commands", "")


def _save(space: Workspace) -> str:
    patch = space.patch()
    target = space.run_dir / PATCH
    partial = space.run_dir / f"{PATCH}.part"
    partial.write_bytes(patch)
    partial.replace(target)
    return f"its changes are in {target}" if patch else "it had changed nothing"


__all__ = ["PATCH", "Snapshot", "Workspace", "collect", "create", "reopen"]
