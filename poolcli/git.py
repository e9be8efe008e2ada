"""Git, called so that nothing in a repository can make it run other programs or write where it should not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, structs

from poolcli.errors import RepositoryError, WorkspaceError

#: Where the user's own git configuration lies and how far git may look for a repository. Every other GIT_*
#: variable (GIT_DIR of a hook, GIT_INDEX_FILE of a commit in progress) would redirect our calls.
KEPT = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    }
)

#: What the user's or the repository's configuration cannot change for our calls.
PINS: tuple[str, ...] = tuple(
    part
    for setting in (
        "core.fsmonitor=false",
        "core.hooksPath=/dev/null",
        # A temporary index must hold all entries itself; a shared part would be written to the user's .git.
        "core.splitIndex=false",
        "core.safecrlf=false",
        "core.quotePath=false",
        "core.logAllRefUpdates=false",
        "submodule.recurse=false",
        "gc.auto=0",
        "maintenance.auto=false",
        # Large files stay pointers: a run must not download anything.
        "filter.lfs.smudge=",
        "filter.lfs.process=",
        "filter.lfs.required=false",
        "diff.suppressBlankEmpty=false",
        "apply.whitespace=nowarn",
        "apply.ignoreWhitespace=no",
    )
    for part in ("-c", setting)
)

FIXED = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_EDITOR": ":",
}

#: Seconds for one git process: the slowest, a checkout of 80,000 files on a busy disk, was seen to take 40.
LONGEST = 900.0

#: Who makes the commits that hold a dirty checkout's state: nobody's name belongs on them.
IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "pool"), ("EMAIL", "pool@localhost"))
}


class GitError(WorkspaceError):
    """A git command failed; the message is what git said."""


class TimedOut(GitError):
    """A git command did not end: the disk hangs, or something in the worktree that is opened never answers."""


class Answer(Struct, frozen=True):
    """What a git process gave back."""

    code: int
    out: bytes
    err: str


class Repository(Struct, frozen=True):
    """A checkout that a run can start from: all paths absolute; `head_name` is '' when HEAD is detached.

    `git_dir` belongs to this checkout, `common_dir` to all linked worktrees of the repository.
    """

    top: Path
    git_dir: Path
    common_dir: Path
    head: str
    head_name: str
    #: Further options of every call, for a repository that is looked at with more care.
    pins: tuple[str, ...] = ()

    def pin(self, work_tree: Path | None = None) -> tuple[str, ...]:
        """Options that name the repository, so that git never looks for one by itself."""
        return (*self.pins, f"--git-dir={self.git_dir}", f"--work-tree={work_tree or self.top}")

    def without_filters(self) -> Repository:
        """The same, with every filter that the user's settings name switched off.

        For files whose attributes a model may have written: `*.py filter=x` would run the user's program x on them,
        outside of the sandbox.
        """
        answer = attempt(
            [*self.pin(), "config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.[a-z]+$"]
        )
        names = {os.fsdecode(name).rpartition(".")[0] for name in answer.out.split(b"\0")[:-1]}
        off = [
            f"{name}.{key}"
            for name in sorted(names)
            for key in ("clean=", "smudge=", "process=", "required=false")
        ]
        return structs.replace(self, pins=(*self.pins, *(part for each in off for part in ("-c", each))))


def environment(extra: Mapping[str, str] | None = None, *tops: Path) -> dict[str, str]:
    """The environment of a git process: the user's without GIT_*, our fixed values, then `extra`.

    Of PATH what depends on where one stands, or lies in one of `tops`, is left out: a repository may hold a `git`.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in KEPT}
    return {**env, "PATH": _path(env.get("PATH", os.defpath), tops), **FIXED, **(extra or {})}


def _path(path: str, tops: Sequence[Path]) -> str:
    inside = tuple(f"{os.path.realpath(top)}{os.sep}" for top in tops)
    return os.pathsep.join(
        folder
        for folder in path.split(os.pathsep)
        if os.path.isabs(folder) and not f"{os.path.realpath(folder)}{os.sep}".startswith(inside)  # noqa: PTH117
    )


def tops(args: Sequence[str], cwd: Path | None) -> Sequence[Path]:
    """Where what others wrote may lie: around `cwd`, and around the repository that is named."""
    found = []
    named = (Path(arg.partition("=")[2]).parent for arg in args if arg.startswith("--git-dir="))
    for start in (cwd, *named):
        if start is not None:
            around = (folder for folder in (start, *start.parents) if os.path.lexists(folder / ".git"))
            found.append(next(around, start))
    return found


def attempt(
    args: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float = LONGEST,
) -> Answer:
    """Run git and give back what it said, whatever its exit code. Raises WorkspaceError without git.

    One that does not end within `timeout` seconds is killed, and a TimedOut is raised.
    """
    try:
        done = subprocess.run(
            ["git", *PINS, *args],
            cwd=cwd,
            env=environment(env, *tops(args, cwd)),
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            capture_output=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"git did not end within {timeout:g} s") from error
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise WorkspaceError(f"the folder {cwd} is gone") from error
        raise WorkspaceError("git was not found on PATH", "install git 2.33 or newer") from error
    except NotADirectoryError as error:
        raise WorkspaceError(f"{cwd} is not a folder") from error
    return Answer(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def git(
    args: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float = LONGEST,
) -> bytes:
    """Run git and give back its output. Raises GitError when it fails."""
    answer = attempt(args, cwd=cwd, env=env, input=input, timeout=timeout)
    if answer.code:
        verb = next((a for a in args if not a.startswith("-")), "")
        raise GitError(f"git {verb} failed: {complaint(answer.err) or f'exit code {answer.code}'}")
    return answer.out


def complaint(err: str) -> str:
    """The line of git's messages that says what went wrong, without its prefix."""
    lines = [line for line in err.splitlines() if line.strip()]
    for prefix in ("fatal: ", "error: "):
        for line in lines:
            if line.startswith(prefix):
                return line.removeprefix(prefix)
    return lines[-1] if lines else ""


def find_repository(start: Path) -> Repository:
    """The checkout around a folder. Raises RepositoryError when a run cannot start from it."""
    if not start.is_dir():
        raise RepositoryError(f"{start} is not a folder")
    # HEAD comes last: on an unborn branch rev-parse stops there and the rest is still printed.
    answer = attempt(
        [
            "rev-parse",
            "--path-format=absolute",
            "--is-bare-repository",
            "--is-inside-work-tree",
            "--git-dir",
            "--git-common-dir",
            "--show-toplevel",
            "HEAD^{commit}",
            "--symbolic-full-name",
            "HEAD",
        ],
        cwd=start,
    )
    lines = answer.out.decode("utf-8", "surrogateescape").split("\n")[:-1]
    _refuse(answer, lines, start)
    git_dir, common_dir, top = lines[2:5]
    if len(lines) != 7:  # a path with a line break in it: ask for each alone
        git_dir, common_dir, top = (
            git(["rev-parse", "--path-format=absolute", question], cwd=start)[:-1].decode(
                "utf-8", "surrogateescape"
            )
            for question in ("--git-dir", "--git-common-dir", "--show-toplevel")
        )
    name = lines[-1].removeprefix("refs/heads/")
    return Repository(Path(top), Path(git_dir), Path(common_dir), lines[-2], "" if name == "HEAD" else name)


def _refuse(answer: Answer, lines: list[str], start: Path) -> None:
    if "dubious ownership" in answer.err:
        raise RepositoryError(
            f"git refuses the repository around {start}: its files belong to another user",
            f"if you trust it: git config --global --add safe.directory {_quoted_owner(answer.err) or start}",
        )
    if len(lines) < 2:
        if "not a git repository" in answer.err:
            raise RepositoryError(
                f"{start} is not in a git repository",
                "go to one, or make one: git init && git add -A && git commit -m start",
            )
        raise RepositoryError(f"git cannot read the repository around {start}: {complaint(answer.err)}")
    bare, inside = lines[0], lines[1]
    if inside != "true":
        if bare == "true":
            raise RepositoryError(
                f"{start} is a bare repository: it has no files to work on",
                "start in a clone of it, or in a worktree: git worktree add ../work",
            )
        raise RepositoryError(f"{start} is inside a .git folder", "start in the checkout instead")
    if answer.code:
        if "HEAD" in answer.err:
            raise RepositoryError(
                "the repository has no commit yet",
                "make the first one: git add -A && git commit -m start",
            )
        raise RepositoryError(f"git cannot read the repository around {start}: {complaint(answer.err)}")


def _quoted_owner(err: str) -> str:
    """The path that git names in its safe.directory advice, as it wants it written."""
    marker = "safe.directory "
    line = next((line for line in err.splitlines() if marker in line), "")
    return line.partition(marker)[2].strip()


#: Files that tell what is half done in a checkout, and git's name for it.
_STATES = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


def in_progress(repo: Repository) -> str:
    """What is half done in the checkout: merge, rebase, cherry-pick, revert, or ''."""
    return next((word for name, word in _STATES.items() if os.path.lexists(repo.git_dir / name)), "")
