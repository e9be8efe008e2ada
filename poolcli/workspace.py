"""Where a run works: a worktree that begins as a copy of the user's checkout and ends as a patch."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from poolcli import beneath, environments, paths, process, shadow, snapshot, surprises, worktrees
from poolcli.errors import PoolError, WorkspaceError
from poolcli.git import LONGEST, Repository, TimedOut, attempt, git
from poolcli.paths import private_dir, write_private
from poolcli.process import Finished
from poolcli.sandbox import Confinement, Launch, Overlay, Sandbox, command_environment, ownership, wrap
from poolcli.snapshot import Snapshot
from poolcli.worktrees import Record

if TYPE_CHECKING:
    from poolcli.setup import Ready

#: The file of a run that holds its changes.
PATCH = "patch.diff"
#: What is said below a command's output when the kernel ended a process of the run's.
OUT_OF_MEMORY = (
    "The memory that commands may use in this sandbox was used up, and a process was ended for it."
)
#: Seconds for git to look at the worktree before something is taken to be wrong with it: 80,000 files took 2.
_PATIENCE = 30.0
#: Changed files that git reads in a second at least.
_READ = 50
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

#: HOME of commands where it can be mounted.
_SEEN_HOME = "/run/pool/home"
#: Given the confinement of a workspace's commands, gives the one to use.
Confine = Callable[[Confinement], Confinement]


class Workspace:
    """One run's worktree. Made by `create` or `reopen`; `remove` ends it."""

    def __init__(
        self,
        repo: Repository,
        run_dir: Path,
        root: Path,
        record: Record,
        sandbox: Sandbox,
        confine: Confine | None = None,
    ) -> None:
        self.repo = repo
        self.run_dir = run_dir
        #: The worktree: absolute, without links in it.
        self.root = root
        self.sandbox = sandbox
        self.record = record
        #: Adds to what commands may reach (tools, caches, the network) what is not the workspace's to know.
        self.confine = confine
        #: The packages of a setup, where `use` was told of one.
        self.packages: Ready | None = None
        #: More variables for commands; to be set before the first of them.
        self.variables: dict[str, str] = {}
        self._environment: dict[str, str] = {}
        self._readable: tuple[Path, ...] | None = None
        self._files: list[tuple[str, int]] | None = None
        #: Repositories that commands made in the worktree, as `patch` found them last.
        self.nested: tuple[str, ...] = ()

    @property
    def seen(self) -> Path:
        """Where commands see the worktree: in place of the user's checkout where the sandbox can mount it there,
        so that what is installed from the checkout by its path is the run's."""
        return self.repo.top if self.mounted else self.root

    @property
    def mounted(self) -> bool:
        """Whether commands see other folders than the host has at the same paths."""
        return self.sandbox.name == "bubblewrap"

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

    def folder(self) -> beneath.Folder:
        """The worktree, opened, to be closed: files in it are read and changed through this alone."""
        return beneath.Folder(self.root, seen=str(self.seen))

    def resolve(self, path: str) -> Path:
        """Where a path as the model wrote it leads: inside the worktree, without links, not git's.

        For words and decisions; to open what is there use `folder`. Raises ValueError with a sentence for
        the model.
        """
        try:
            with self.folder() as folder:
                return self.root / folder.real(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be used as a path: {error.strerror}") from None

    def read_text(self, path: str) -> str | None:
        """A file's text; None when it is missing, binary, very long, not a file or outside the worktree."""
        try:
            with self.folder() as folder:
                content = folder.read(path, LONGEST_TEXT)
        except (OSError, ValueError):
            return None
        return None if b"\0" in content else content.decode("utf-8", "replace")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: no secrets, and the worktree's code instead of the user's."""
        if not self._environment:
            run_id = self.run_dir.name
            if self.mounted:
                where = {folder: self.lower(folder) for folder in self.record.borrowed}
                extra = {**environments.active(os.environ, self.repo.top, where), **self.variables}
            else:
                shim = self.run_dir / "pythonpath"
                extra = environments.variables(os.environ, self.repo.top, self.root, shim)
                # Without the worktree's .git a command must not find a repository around the state folder.
                extra["GIT_CEILING_DIRECTORIES"] = str(self.root.parent)
            if self._confined:
                from poolcli.sandbox import environment, toolchains

                home = _SEEN_HOME if self.mounted else str(self.run_dir / "home")
                extra = {**toolchains.variables(paths.home()), **extra}
                if self.confine is None:
                    from poolcli.network.inside import OFFLINE

                    extra = {**OFFLINE, **extra}
                self._environment = environment.confined_environment(
                    os.environ, run_id=run_id, home=home, extra=extra
                )
            else:
                self._environment = command_environment(os.environ, run_id=run_id, extra=extra)
        return self._environment

    def use(self, packages: Ready | None) -> None:
        """Let commands find the packages of a setup; before the first of them. Folders that the user's checkout has
        itself stay the user's, and where nothing can be mounted no setup is used."""
        if packages is None or not self.mounted:
            return
        self.packages, self.variables = packages, packages.variables
        here = [name for name in sorted(packages.folders) if not os.path.lexists(self.repo.top / name)]
        more = [name for name in _free(self.root, here) if name not in self.record.borrowed]
        if not more:
            return
        self.record = structs.replace(self.record, borrowed=(*self.record.borrowed, *more))
        self.record.save(self.run_dir)
        if not snapshot.LITTER.issuperset(more):
            _make_shadow(self)  # what it ignores is one more

    def lower(self, folder: str) -> Path:
        """Where on the host a borrowed folder lies: in the user's checkout, else with the packages of a setup."""
        own = self.repo.top / folder
        if self.packages is None or os.path.lexists(own):
            return own
        return self.packages.folders.get(folder, own)

    @property
    def _confined(self) -> bool:
        """Whether commands have a HOME of their own, and of the user's only what is shown to them."""
        return self.sandbox.name in ("bubblewrap", "landlock", "seatbelt")

    def _tools(self) -> tuple[Path, ...]:
        """The user's tools that lie in folders which commands do not see; looked for once."""
        if self._readable is None:
            from poolcli.sandbox import bubblewrap, toolchains

            home = paths.home()
            hidden = bubblewrap.masked(home)
            # What git tracks is the repository's word, and not the user's.
            own = [
                name
                for name in (".venv", "venv")
                if (self.repo.top / name / "pyvenv.cfg").is_file()
                and not any(path.startswith(f"{name}/") for path, _ in self.files())
            ]
            self._readable = toolchains.readable(
                os.environ,
                home=home,
                hidden=hidden,
                checkout=self.repo.top,
                environments=own,
                private=(paths.state_dir(), self.run_dir.parent.parent, paths.config_dir()),
            )
        return self._readable

    @property
    def confinement(self) -> Confinement:
        """What commands may reach. Looks at the worktree: what may be mounted in it depends on what lies there."""
        objects, *borrowed = shadow.stores(self.repo) or (self.repo.common_dir / "objects",)
        common = self.repo.common_dir.resolve()
        hidden = [paths.state_dir(), self.run_dir.parent.parent, paths.config_dir()]
        if not common.is_relative_to(self.repo.top):  # else the worktree lies over it
            hidden.append(common)
        # Links to packages lead there; a mount needs nothing of the kind.
        packages = () if self.mounted else tuple(self.repo.top / folder for folder in self.record.borrowed)
        stores = (self.packages.stores,) if self.packages is not None else ()
        tools = self._tools() if self._confined else ()
        home = private_dir(self.run_dir / "home")
        if (owner := _owner(self)) and home.stat().st_uid != owner[0]:
            _give(self, home)
        whole = Confinement(
            root=self.root,
            seen=self.seen,
            home=home,
            git_dir=self.run_dir / "git",
            objects=objects,
            overlays=tuple(self._overlays()) if self.mounted else (),
            readable=tools,
            given=(*borrowed, *packages, *stores),
            writable=tuple(path for path in (self.run_dir / "scratch").glob("*") if path.is_dir()),
            hidden=tuple(hidden),
            groups=self._groups(),
        )
        return self.confine(whole) if self.confine else whole

    def _groups(self) -> tuple[Path, ...]:
        """Control groups for commands: root is held to no number of processes in any other way."""
        if not self._confined:
            return ()
        from poolcli.sandbox import limits

        return tuple(group for group in limits.own_groups() if group.is_dir())

    def _overlays(self) -> Iterator[Overlay]:
        from poolcli.sandbox import bubblewrap, surroundings

        for number, folder in enumerate(self.record.borrowed):
            lower, place = self.lower(folder), self.root / folder
            made = self.packages is not None and lower != self.repo.top / folder
            # Commands can turn what was a folder into a link: what is mounted there would land elsewhere.
            if not lower.is_dir() or snapshot.behind_link(self.root, folder) or place.is_symlink():
                continue
            # What was written over one setup does not fit another.
            name = f"{number}-{self.packages.key}" if self.packages is not None and made else str(number)
            upper = private_dir(self.run_dir / "overlays" / name)
            overlay = Overlay(lower=lower, seen=self.seen / folder, upper=upper)
            # Packages are of use read-only too; build output that cannot be written only stops a build.
            if (
                made
                or lower.name in snapshot.BORROWED
                or (
                    bubblewrap.overlay_options(overlay, user=os.geteuid() != 0)
                    and surroundings.overlays_work(upper)
                )
            ):
                with contextlib.suppress(OSError):
                    place.mkdir(exist_ok=True)
                    yield overlay

    def launch(self, command: str) -> Launch:
        """What to start so that a shell command runs in the worktree, confined as configured.

        Raises WorkspaceError when the worktree is gone. The caller closes it after the start.
        """
        self._check()
        self._mend()
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"  # noqa: PTH110
        argv, confinement = [shell, "-c", command], self.confinement
        if confinement.proxy is not None and self.mounted:
            from poolcli.network.inside import inside
            from poolcli.sandbox.bubblewrap import PROXY

            argv = inside(argv, PROXY)
        return wrap(self.sandbox, argv, confinement, self.environment)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder for the time of a `with`, outside of the worktree: pool and commands have it by the same
        path, and both write in it."""
        folder = self.run_dir / "scratch" / secrets.token_hex(4)
        try:
            private_dir(folder.parent)
            folder.mkdir()
            _give(self, folder)
        except OSError as error:
            raise WorkspaceError(
                f"no folder for reports can be made in {self.run_dir}: {error.strerror}"
            ) from error
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                worktrees.remove_tree(folder)

    def _mend(self) -> None:
        """Make the repository that commands see again where an earlier command removed it."""
        git_dir = self.run_dir / "git"
        try:
            shadow.link(self.root, shadow.SEEN if self.mounted else git_dir)
            if not shadow.whole(git_dir):
                _make_shadow(self)
        except OSError as error:
            raise WorkspaceError(f"the run's own repository cannot be made again: {error}") from error

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        log: Path | None = None,
        on_output: Callable[[str], None] | None = None,
        limit: int = 30_000,
    ) -> Finished:
        """Run a shell command in the worktree; `timeout` in seconds, `limit` in bytes, as `process.run` takes them.

        Raises WorkspaceError if the worktree is gone.
        """
        launch = self.launch(command)
        groups = self._groups()
        ended = _out_of_memory(groups)
        try:
            done = await process.run(
                launch.argv,
                cwd=self.root,
                env=launch.env,
                timeout=timeout,
                log=log,
                on_output=on_output,
                limit=limit,
                pass_fds=launch.fds,
            )
        finally:
            launch.close()
        if _out_of_memory(groups) > ended:
            return structs.replace(done, output=f"{done.output}\n{OUT_OF_MEMORY}\n")
        if self._confined and done.exit_code:
            from poolcli.network.inside import hint

            if line := hint(done.output, proxy=self.confine is not None):
                return structs.replace(done, output=f"{done.output}\n{line}\n")
        return done

    def pinned(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Options and environment for asking git about the worktree's files.

        With them git reads no configuration and no index that commands could have written.
        """
        return self.repo.pin(self.root), {"GIT_INDEX_FILE": str(self.run_dir / worktrees.INDEX)}

    def patch(self) -> bytes:
        """The changes since the base as a git patch, new and binary files included; the same content gives
        the same bytes. Raises WorkspaceError when the worktree is gone or cannot be read."""
        with _Content(self) as content:
            self.nested = tuple(content.nested)
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

    def surprises(self, patch: bytes) -> list[str]:
        """What a person should look at in a patch of this worktree before taking it over; a line for each."""
        made = [
            f"{path} holds a git repository of its own: its files count, not its history"
            for path in self.nested
        ]
        return [*surprises.look(patch), *made]

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
        self._stack = contextlib.ExitStack()
        self.env = {
            "GIT_INDEX_FILE": str(self._index),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(space.repo.common_dir / "objects"),
        }
        self.changed: list[str] = []
        self.nested: list[str] = []

    def __enter__(self) -> _Content:
        space = self._space
        space._check()
        with contextlib.ExitStack() as stack:
            # A program that still runs could exchange a folder for a link between two looks at it.
            stack.enter_context(process.stilled(space.run_dir.name))
            try:
                self._look(_PATIENCE)
            except TimedOut:
                # git opens some files in every folder, and waits for ever for one that is a pipe.
                self._look(_PATIENCE if _remove_pipes(space.root) else LONGEST)
            self._stack = stack.pop_all()
        return self

    def _look(self, timeout: float) -> None:
        space = self._space
        self._clear()
        self.nested.clear()
        pristine = space.run_dir / worktrees.INDEX
        if pristine.exists():
            snapshot.copy_index(pristine, self._index)
        else:
            git([*self.pin, "read-tree", space.base], cwd=space.root, env=self.env)
        repo = self._careful(timeout)
        self.changed = self._differing(repo, timeout)
        if self.changed:
            # Files are read here, and a large change takes its time.
            patience = timeout + len(self.changed) / _READ
            snapshot.record(repo, space.root, self.changed, self.env, timeout=patience)

    def _careful(self, timeout: float) -> Repository:
        """The repository; without the user's filters when what they work on may have been chosen by a command."""
        space = self._space
        bare = space.repo.without_filters()
        if bare.pins == space.repo.pins:
            return space.repo
        question = [
            "ls-files",
            "-z",
            "--modified",
            "--deleted",
            "--others",
            "--",
            ":(top,glob)**/.gitattributes",
        ]
        touched = git([*bare.pin(space.root), *question], cwd=space.root, env=self.env, timeout=timeout)
        return bare if touched else space.repo

    def _differing(self, repo: Repository, timeout: float) -> list[str]:
        space = self._space
        paths: list[str] = []
        found = snapshot.differing(repo, space.root, self.env, space.record.gitlinks, timeout=timeout)
        for path in found:
            if path.endswith("/"):  # a repository that a command made: its files, without its .git
                self.nested.append(path)
                paths += snapshot.nested_files(repo, space.root, path, self._empty)
            else:
                paths.append(path)
        return sorted(set(paths))

    def _clear(self) -> None:
        # A lock here is of a process that was killed: one process owns a run.
        for file in (self._index, Path(f"{self._index}.lock"), self._empty):
            file.unlink(missing_ok=True)

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._clear()


def _remove_pipes(root: Path) -> bool:
    """Remove pipes and the like under names that git reads in every folder; whether there were any."""
    found = False
    for _, folders, files, fd in os.fwalk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            if name in (".gitignore", ".gitattributes", ".gitmodules"):
                with contextlib.suppress(OSError):
                    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                        os.unlink(name, dir_fd=fd)
                        found = True
    return found


def _out_of_memory(groups: tuple[Path, ...]) -> int:
    if not groups:
        return 0
    from poolcli.sandbox import limits

    return limits.out_of_memory(groups)


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


def create(
    repo: Repository, *, run_id: str, state: Path, sandbox: Sandbox, confine: Confine | None = None
) -> Workspace:
    """A new worktree that holds the user's checkout as it is: tracked and untracked, not ignored.

    `state` is the repository's state folder. The caller holds the run's lock. Raises WorkspaceError and
    leaves nothing behind then. The user's checkout, index, stash, branches and hooks are only read.
    """
    run_dir = private_dir(state / "runs" / run_id)
    root = private_dir(worktrees.folder(state)).resolve() / run_id
    try:
        changes = snapshot.look(repo)
        root.mkdir()  # first of all that is left behind by a kill: by it the rest is found
        taken = snapshot.take(
            repo, changes, ref=worktrees.base_ref(run_id), scratch=run_dir / "snapshot-index"
        )
        worktrees.hold(repo, run_dir, taken.commit)
        record = Record(taken.commit, taken.head, changes.dirty, (), changes.skipped)
        space = Workspace(repo, run_dir, root, record, sandbox, confine)
        _check_out(space, changes)
        space.record.save(run_dir)
        return space
    except BaseException as error:
        worktrees.discard(repo, run_id, state)
        if isinstance(error, OSError):
            raise WorkspaceError(f"the worktree could not be made: {error}") from error
        raise


def _check_out(space: Workspace, changes: snapshot.Changes) -> None:
    """Everything of a worktree but the record's file, which says that it is whole."""
    repo, root, record = space.repo, space.root, space.record
    worktrees.add(repo, root, record.base, space.run_dir)
    gitlinks, notes = _submodules(repo, root, record.base, space.run_dir)
    if space.mounted:
        borrowed = _free(root, (*changes.borrowed, *changes.built))
    else:
        borrowed = _free(root, changes.borrowed)
        environments.borrow(repo.top, root, borrowed)
    space.record = structs.replace(
        record,
        gitlinks=gitlinks,
        notes=(*record.notes, *notes),
        borrowed=borrowed,
        stores=tuple(map(str, _stores(space))),
    )
    _give(space, root)
    if _owner(space):  # whose files they are is part of what the index compares
        pin, env = space.pinned()
        attempt([*pin, "update-index", "-q", "--refresh"], cwd=root, env=env)
    _make_shadow(space)


def _owner(space: Workspace) -> tuple[int, int] | None:
    """Whose rights commands have, where pool is root's and the checkout another user's."""
    return ownership.foreign_owner(space.repo.top) if space.mounted else None


def _give(space: Workspace, *folders: Path) -> None:
    if owner := _owner(space):
        ownership.give(folders, owner)


def _free(root: Path, folders: Iterable[str]) -> tuple[str, ...]:
    """Those of the user's ignored folders that the checkout has nothing at: a tracked one is code like any other."""
    return tuple(f for f in folders if not os.path.lexists(root / f) and (root / f).parent.is_dir())


def _stores(space: Workspace) -> tuple[Path, ...]:
    """The object stores as commands see them."""
    own, *borrowed = shadow.stores(space.repo) or (space.repo.common_dir / "objects",)
    return (shadow.SEEN_OBJECTS if space.mounted else own, *borrowed)


def _make_shadow(space: Workspace) -> None:
    shadow.make(
        space.repo,
        space.run_dir / "git",
        commit=space.base,
        index=space.run_dir / worktrees.INDEX,
        objects=_stores(space),
        ignored=[*snapshot.LITTER_PATTERNS, *(f"/{folder}" for folder in space.record.borrowed)],
    )
    shadow.link(space.root, shadow.SEEN if space.mounted else space.run_dir / "git")
    _give(space, space.run_dir / "git")


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


def reopen(
    repo: Repository,
    *,
    run_id: str,
    state: Path,
    base: str,
    sandbox: Sandbox,
    confine: Confine | None = None,
) -> Workspace:
    """The worktree of an earlier run: as it is, or made again from `base` and the saved patch.

    The caller holds the run's lock. Raises WorkspaceError, for example when git has collected the base.
    """
    run_dir = private_dir(state / "runs" / run_id)
    root = private_dir(worktrees.folder(state)).resolve() / run_id
    record = Record.load(run_dir)
    if record is not None and record.base == base and root.is_dir():
        space = Workspace(repo, run_dir, root, record, sandbox, confine)
        if record.stores == tuple(map(str, _stores(space))):
            return space
        _save(space)  # made for another sandbox: made again for this one
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
        root.mkdir()
        if not run_id.endswith(worktrees.PLACE):  # there for a moment, and its base is the user's or a run's
            worktrees.hold(repo, run_dir, base)
        space = Workspace(repo, run_dir, root, Record(base, base), sandbox, confine)
        _check_out(space, snapshot.look(repo))
        patch = run_dir / PATCH
        if patch.exists() and patch.stat().st_size:
            careful = repo.without_filters() if b".gitattributes" in patch.read_bytes() else repo
            git([*careful.pin(root), "apply", "--whitespace=nowarn", str(patch)], cwd=root)
        # Last: without a record, `collect` takes no patch from a worktree that is not whole.
        space.record.save(run_dir)
    except BaseException as error:
        # Not `discard`: the snapshot and the patch are the run's only copies.
        with contextlib.suppress(OSError):
            worktrees.remove(repo, root, run_dir)
        if isinstance(error, OSError):
            raise WorkspaceError(f"the worktree could not be made: {error}") from error
        raise
    return space


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
            worktrees.drop_ref(repo, run_id)
            worktrees.remove_tree(run_dir)
            return f"a verdict was stopped, or a setup; the place {run_id} it was made in is removed"
        if record is None and not (run_dir / PATCH).exists():
            worktrees.drop_ref(repo, run_id)  # killed before it began: nobody takes this base up again
    except (PoolError, OSError) as error:
        return f"run {run_id} was stopped; its worktree stays at {root}: {error}"
    return f"run {run_id} was stopped; {saved or 'nothing of it had to be saved'}"


#: For a workspace that is only read.
_NO_COMMANDS = Sandbox("no commands", "")


def _save(space: Workspace) -> str:
    patch = space.patch()
    target = space.run_dir / PATCH
    partial = space.run_dir / f"{PATCH}.part"
    write_private(partial, patch)
    partial.replace(target)
    return f"its changes are in {target}" if patch else "it had changed nothing"


__all__ = ["PATCH", "Snapshot", "Workspace", "collect", "create", "reopen"]
