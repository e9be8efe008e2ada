"""A fresh place to judge a change in: a clean checkout of the base, the change applied, the tests of the base.

Whatever the run left in its own worktree (caches, hooks of git, ignored files, programs that wait) is not there.
A place is a worktree like that of a run, beside it: `workspace.collect` finds the place of a killed process, and
the user's checkout is only read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from poolcli import beneath, process, workspace, worktrees
from poolcli.errors import WorkspaceError
from poolcli.git import Repository, attempt, complaint, git
from poolcli.paths import private_dir, write_private
from poolcli.process import Finished
from poolcli.sandbox import Sandbox
from poolcli.snapshot import behind_link
from poolcli.store.runs import new_run_id
from poolcli.verdict import restore
from poolcli.workspace import Workspace

if TYPE_CHECKING:
    from poolcli.setup import Ready

T = TypeVar("T")

#: Longest file whose settings are taken apart, in bytes; as the workspace reads texts.
_LONGEST = workspace.LONGEST_TEXT


class Place(Struct, frozen=True):
    """Where a change is judged. `space.run` runs commands there, as in the worktree of a run."""

    space: Workspace
    #: Why the change could not be applied, in git's words; '' when it was.
    problem: str
    #: What was brought back from the base, and what of the change was taken away for it.
    plan: restore.Plan

    @property
    def root(self) -> Path:
        """The top of the place: absolute, without links."""
        return self.space.root


async def judge(
    repo: Repository,
    work: Callable[[Place], Awaitable[T]],
    *,
    base: str,
    patch: bytes,
    state: Path,
    sandbox: Sandbox,
    own_tests: bool = False,
    confine: workspace.Confine | None = None,
    packages: Ready | None = None,
) -> T:
    """Do `work` in a fresh place and remove the place, however that ends.

    `base` is the commit that the patch is against, `state` the repository's state folder. With `own_tests` the
    change's tests stay: for a task that is about tests, whose change is judged by both. A patch that does not
    apply is no error: `Place.problem` says so, and the place is the base alone. `packages` are those that the run has.
    Raises WorkspaceError when the place cannot be made.
    """
    with place(
        repo,
        base=base,
        patch=patch,
        state=state,
        sandbox=sandbox,
        own_tests=own_tests,
        confine=confine,
        packages=packages,
    ) as made:
        return await work(made)


async def run(
    repo: Repository,
    commands: list[str],
    *,
    base: str,
    patch: bytes,
    state: Path,
    sandbox: Sandbox,
    timeout: float,
    log: Path,
    own_tests: bool = False,
    confine: workspace.Confine | None = None,
    packages: Ready | None = None,
) -> list[Finished]:
    """Run shell commands one after the other in a fresh place, each at most `timeout` seconds.

    The output of number N goes to `log` with `-N` before its ending. Raises WorkspaceError when the place cannot
    be made or the patch does not apply.
    """

    async def work(made: Place) -> list[Finished]:
        if made.problem:
            raise WorkspaceError(f"the change does not apply to its base: {made.problem}")
        return [
            await made.space.run(
                command, timeout=timeout, log=log.with_name(f"{log.stem}-{number}{log.suffix}")
            )
            for number, command in enumerate(commands)
        ]

    return await judge(
        repo,
        work,
        base=base,
        patch=patch,
        state=state,
        sandbox=sandbox,
        own_tests=own_tests,
        confine=confine,
        packages=packages,
    )


@contextlib.contextmanager
def place(
    repo: Repository,
    *,
    base: str,
    patch: bytes,
    state: Path,
    sandbox: Sandbox,
    own_tests: bool = False,
    confine: workspace.Confine | None = None,
    packages: Ready | None = None,
) -> Iterator[Place]:
    """A fresh place for the time of a `with`; see `judge`."""
    _sweep(state)
    name = f"{new_run_id()}{worktrees.PLACE}"
    folder = private_dir(state / "runs" / name)
    # Held as a run's lock is: who finds the place meanwhile leaves it alone, and it is free when we are killed.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            space = workspace.reopen(
                repo, run_id=name, state=state, base=base, sandbox=sandbox, confine=confine
            )
            space.use(packages)
            problem = _apply(space, patch)
            # Nothing of what lies here is work to be saved.
            (folder / worktrees.RECORD).unlink(missing_ok=True)
            plan = restore.Plan()
            if not problem and not own_tests and patch.strip():
                plan = _restore(space, patch)
            yield Place(space, problem, plan)
        finally:
            process.kill_marked(name)
            with contextlib.suppress(OSError):
                worktrees.remove(repo, worktrees.folder(state).resolve() / name, folder)
                worktrees.remove_tree(folder)
    finally:
        os.close(lock)


def _sweep(state: Path) -> None:
    """Remove folders of places whose process was killed after their worktree was gone."""
    for folder in (state / "runs").glob(f"*{worktrees.PLACE}"):
        with worktrees.claim(folder) as ours:
            if ours and not (worktrees.folder(state) / folder.name).exists():
                with contextlib.suppress(OSError):
                    worktrees.remove_tree(folder)


def _apply(space: Workspace, patch: bytes) -> str:
    """Apply a patch; '' or why git does not."""
    if not patch.strip():
        return ""
    file = space.run_dir / "change"
    write_private(file, patch)
    # git itself refuses paths outside of the folder, in .git and behind links.
    # The change may say which filters of the user's its files go through.
    repo = space.repo.without_filters() if b".gitattributes" in patch else space.repo
    answer = attempt([*repo.pin(space.root), "apply", "--whitespace=nowarn", str(file)], cwd=space.root)
    return (complaint(answer.err) or "git apply failed") if answer.code else ""


def _restore(space: Workspace, patch: bytes) -> restore.Plan:
    """Bring the tests and their configuration back from the base."""
    from poolcli.verdict.tampering.changes import paths

    text = patch.decode("utf-8", "surrogateescape")
    changed = {path for old, new, _ in paths(text) for path in (old, new) if path}
    known = _entries(space, changed)

    def base(path: str) -> str | None:
        return (
            _text(git([*space.repo.pin(), "cat-file", "blob", known[path]], cwd=space.repo.top))
            if path in known
            else None
        )

    def after(path: str) -> str | None:
        try:
            with beneath.Folder(space.root) as folder:
                return _text(folder.head(path, _LONGEST + 1))
        except (OSError, beneath.PathRefused):
            return None

    plan = restore.plan(changed, base, after, known.__contains__)
    for path in (*plan.remove, *plan.restore):
        if not behind_link(space.root, path):
            _take_away(space.root / path)
    if plan.restore:
        # With the index as checked out: modes, links and line ends come back as they were.
        env = {"GIT_INDEX_FILE": str(space.run_dir / worktrees.INDEX)}
        names = b"".join(os.fsencode(path) + b"\0" for path in plan.restore)
        args = [*space.repo.pin(space.root), "checkout-index", "--force", "-z", "--stdin"]
        git(args, cwd=space.root, env=env, input=names)
    if plan.write:
        try:
            with beneath.Folder(space.root) as folder:
                for path, content in plan.write:
                    folder.replace(path, content.encode("utf-8", "surrogateescape"))
        except beneath.PathRefused as refused:
            raise WorkspaceError(f"the tests of the base cannot be brought back: {refused}") from refused
    return plan


def _entries(space: Workspace, paths: set[str]) -> dict[str, str]:
    """The blobs of the base at these paths."""
    if not paths:
        return {}
    repo = space.repo
    out = git([*repo.pin(), "ls-tree", "-r", "-z", "--full-tree", space.base], cwd=repo.top)
    found: dict[str, str] = {}
    for entry in out.split(b"\0")[:-1]:
        about, _, name = entry.partition(b"\t")
        path = os.fsdecode(name)
        if path in paths and not about.startswith(b"160000"):
            found[path] = about.split()[2].decode()
    return found


def _text(content: bytes) -> str | None:
    if b"\0" in content or len(content) > _LONGEST:
        return None
    return content.decode("utf-8", "surrogateescape")


def _take_away(file: Path) -> None:
    with contextlib.suppress(OSError):
        if file.is_dir() and not file.is_symlink():
            worktrees.remove_tree(file)
        else:
            file.unlink()


def texts(repo: Repository, commit: str) -> Callable[[str], str | None]:
    """Reads files of a commit as text: what `tampering.look` takes for `base`, and for `after` of a range."""

    def read(path: str) -> str | None:
        answer = attempt([*repo.pin(), "cat-file", "blob", f"{commit}:{path}"], cwd=repo.top)
        return _text(answer.out) if answer.code == 0 else None

    return read


def later(repo: Repository, base: str) -> Callable[[str], bool | None]:
    """Whether a revision lies outside the past of `base`: what `tampering.look` takes for `later`.

    For `--all`: whether any branch or tag does. None when git does not know the revision.
    """

    def ask(revision: str) -> bool | None:
        if revision == "--all":
            args = ["rev-list", "--max-count=1", "--branches", "--remotes", "--tags", "--not", base]
            answer = attempt([*repo.pin(), *args], cwd=repo.top)
            return bool(answer.out.strip()) if answer.code == 0 else None
        if revision.startswith("-"):
            return None
        found = attempt(
            [*repo.pin(), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd=repo.top
        )
        if found.code:
            # A tree or a file by its own name.
            kind = attempt([*repo.pin(), "cat-file", "-t", revision], cwd=repo.top)
            if kind.code or kind.out.strip() not in (b"blob", b"tree"):
                return None
            return not _holds(repo, base, revision)
        commit = found.out.decode().strip()
        return attempt([*repo.pin(), "merge-base", "--is-ancestor", commit, base], cwd=repo.top).code == 1

    return ask


def _holds(repo: Repository, base: str, revision: str) -> bool:
    """Whether an object belongs to the base or to its past."""
    name = git([*repo.pin(), "rev-parse", "--verify", revision], cwd=repo.top).strip()
    out = git([*repo.pin(), "rev-list", "--objects", base], cwd=repo.top)
    return any(line.startswith(name) for line in out.splitlines())


__all__ = ["Place", "judge", "later", "place", "run", "texts"]
