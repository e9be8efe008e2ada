"""Bringing a run's patch into the user's repository: whole or not at all, also when pool is killed.

git applies the patch to copies of the touched files, in a folder of the run. Only when that worked are the
results moved over the user's files, each by one rename, after a plan of all moves was written: whoever finds
the plan later finishes it. So a conflict touches nothing, and no file is ever half written.

What the files were before is kept in the run's folder, so that a landing can be taken back exactly, in the same way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, convert
from msgspec.json import encode as json_encode

from poolcli import acceptance, worktrees
from poolcli.errors import Exit, StoreError, WorkspaceError
from poolcli.git import IDENTITY, Answer, Repository, attempt, complaint, git, in_progress
from poolcli.paths import write_private
from poolcli.snapshot import behind_link
from poolcli.store.runs import DISCARDED

#: Folder of a run for a landing that is under way: copies, their results and the plan.
STAGE = "landing"
#: File of a repository's state that names the run whose landing is under way.
POINTER = "landing"
#: Folder of a run with one folder for each landing that can be taken back: what the files were.
LANDED = "landed"


class LandingError(WorkspaceError):
    """The patch does not fit where it should go; nothing was changed."""

    exit_code = Exit.USAGE


class Landed(Struct, frozen=True):
    """What landing did: the files it touched, the commit and the branch it made ('' for none)."""

    files: tuple[str, ...]
    commit: str = ""
    branch: str = ""
    #: One line that a person should know, or ''.
    note: str = ""


class _Move(Struct, frozen=True):
    """One file of the plan. `before` and `after` are fingerprints; '' means that there is no file."""

    path: str
    before: str
    after: str


class _Plan(Struct, frozen=True):
    """All that is left to do once it is written: moves, then the commit when one was asked for."""

    #: The checkout it was made for: linked worktrees share a state folder.
    top: str
    moves: tuple[_Move, ...]
    ref: str = ""
    head: str = ""
    commit: str = ""
    #: The permission bits that files have after the moves, where it changes or makes them.
    modes: Mapping[str, int] = {}
    #: The type of the event that it is recorded as, and its data; '' for none.
    event: str = ""
    record: Mapping[str, Any] = {}


def apply(
    repo: Repository,
    patch: bytes,
    *,
    run_dir: Path,
    base: str,
    branch: str | None = None,
    commit_message: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> Landed:
    """Land a run's patch in the working tree; with `commit_message` also as a commit of exactly this patch on
    the current branch; with `branch` as a commit on a new branch from `base`, the checkout untouched.

    `record` is what the event in the run's log says of it beside what it did; without it there is no event, and
    no way back. Raises LandingError when it does not fit, with the files where it does not; nothing was changed
    then.
    """
    if record is not None:
        record = {"landing": f"{time.time_ns():x}", **record}
    with _alone(run_dir):
        _clear(repo, run_dir)
        if not patch.strip():
            return Landed((), note="the run changed nothing")
        file = _private(run_dir / STAGE) / "patch"
        try:
            write_private(file, patch)
            paths = touched(repo, file)
            if branch is not None:
                message = commit_message or f"pool {run_dir.name}"
                landed = _to_branch(repo, file, paths, base, branch, message)
                if record is not None:
                    told = {"to": "branch", "files": paths, "commit": landed.commit, "branch": branch}
                    acceptance.record(run_dir, "applied", {**record, **told})
                return landed
            return _to_checkout(repo, file, paths, run_dir, commit_message, record)
        finally:
            if not (run_dir / STAGE / "plan.json").exists():
                worktrees.remove_tree(run_dir / STAGE)


def recover(repo: Repository, state: Path) -> str:
    """Finish a landing that was killed; one line about it, '' when there was none (which costs one look)."""
    try:
        run_id = (state / POINTER).read_text("utf-8").strip()
    except OSError:
        return ""
    run_dir = state / "runs" / run_id
    if not run_dir.is_dir():
        (state / POINTER).unlink(missing_ok=True)
        return ""
    with _alone(run_dir):
        try:
            return _finish(repo, run_dir)
        except (OSError, StoreError) as error:
            # It must not keep other runs from beginning.
            return f"landing run {run_id} was interrupted and cannot be finished yet: {error}"


def discarded(run_dir: Path) -> bool:
    """Whether the run's work was thrown away."""
    return (run_dir / DISCARDED).exists()


def discard(repo: Repository, run_dir: Path) -> None:
    """Throw a run's work away: worktree, snapshot, patch; the log stays. LandingError while it runs."""
    with worktrees.claim(run_dir) as ours:
        if not ours:
            raise LandingError(f"run {run_dir.name} is still running", "stop it first")
        (run_dir / DISCARDED).touch()
        worktrees.discard(repo, run_dir.name, run_dir.parent.parent)
        (run_dir / "patch.diff").unlink(missing_ok=True)
        worktrees.remove_tree(run_dir / STAGE)


@contextlib.contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """One landing at a time in a repository; a second one waits for the first."""
    file = os.open(run_dir.parent.parent / "landing.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _clear(repo: Repository, run_dir: Path) -> None:
    """Finish what was left half done, and remove what was left before anything was done. Raises LandingError."""
    line = _finish(repo, run_dir)
    if (run_dir / STAGE / "plan.json").exists():
        raise LandingError(line)
    worktrees.remove_tree(run_dir / STAGE)


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


# What a patch touches


def touched(repo: Repository, patch: Path) -> tuple[str, ...]:
    """All files that a patch names, old names of renamed ones included; sorted. Raises LandingError."""
    answer = attempt([*repo.pin(), "apply", "--numstat", "-z", str(patch)], cwd=repo.top)
    if answer.code:
        raise LandingError(f"this is not a patch that git can read: {complaint(answer.err)}")
    names = {
        os.fsdecode(entry.split(b"\t", 2)[2]) for entry in answer.out.split(b"\0") if entry.count(b"\t") >= 2
    }
    from poolcli.hunks import unquoted

    # numstat leaves out where a renamed file comes from. Content lines of a patch never begin like this.
    for line in re.findall(rb"^(?:rename|copy) from (.*)$", patch.read_bytes(), re.M):
        names.add(os.fsdecode(unquoted(line)))
    return tuple(sorted(names))


# Into the working tree


def _to_checkout(
    repo: Repository,
    patch: Path,
    paths: Sequence[str],
    run_dir: Path,
    message: str | None,
    record: Mapping[str, Any] | None,
) -> Landed:
    stage = run_dir / STAGE
    moves = _staged(repo, patch, paths, stage / "tree")
    modes: dict[str, int] = {}
    if record is not None:
        _keep(repo.top, moves, stage / "before")
        results = {m.path: stage / "tree" / m.path for m in moves if m.after.startswith(("run ", "file "))}
        modes = {path: _mode(repo.top / path, result) for path, result in results.items()}
    ref = commit = ""
    if message is not None:
        ref, commit = _commit_of(repo, patch, paths, message, stage / "index")
    _try_folders(repo.top, moves)
    told = {} if record is None else {**record, "files": paths, "branch": ""}
    event = "applied" if told else ""
    head = repo.head if commit else ""
    _run_plan(repo, run_dir, _Plan(str(repo.top), moves, ref, head, commit, modes, event, told))
    return Landed(tuple(paths), commit)


def fits(repo: Repository, patch: bytes, *, reverse: bool = False) -> bool:
    """Whether a patch could be applied to the checkout as it is, or taken back from it; nothing is written."""
    options = ("apply", "--check", "--whitespace=nowarn", *(("--reverse",) if reverse else ()))
    return not patch or attempt([*repo.pin(), *options, "-"], cwd=repo.top, input=patch).code == 0


def _staged(repo: Repository, patch: Path, paths: Sequence[str], tree: Path) -> tuple[_Move, ...]:
    """Apply the patch to copies below `tree`; what has to happen to the user's files."""
    gone = set(paths)
    for path in paths:
        _check_place(repo.top, path, gone)
    before = {path: _fingerprint(repo.top, path) for path in paths}
    _copy(repo.top, tree, paths)
    answer = _apply_in(repo, tree, patch)
    if answer.code:
        _refuse(repo, patch, paths, tree, answer)
    moves = tuple(_Move(path, before[path], _fingerprint(tree, path)) for path in paths)
    _check_folders(repo.top, moves, _ELSEWHERE)
    return moves


def _apply_in(repo: Repository, tree: Path, patch: Path, *options: str) -> Answer:
    return attempt([*repo.pin(tree), "apply", "--whitespace=nowarn", *options, str(patch)], cwd=tree)


def _check_place(top: Path, path: str, gone: set[str]) -> None:
    """Raise LandingError when a parent of `path` is not a plain folder and the patch does not make it one."""
    for parent in list(Path(path).parents)[:-1]:
        place = top / parent
        if (place.is_symlink() or (place.exists() and not place.is_dir())) and str(parent) not in gone:
            raise LandingError(
                f"{path} cannot be changed: {parent} is not a folder in your checkout", _ELSEWHERE
            )


def _check_folders(top: Path, moves: Sequence[_Move], hint: str) -> None:
    """Raise LandingError when a folder that the patch turns into a file holds something of the user's."""
    removed = {move.path for move in moves if not move.after}
    for move in moves:
        if move.after and move.before == _FOLDER:
            for place, _, names in os.walk(top / move.path):
                for name in names:
                    path = (Path(place) / name).relative_to(top).as_posix()
                    if path not in removed:
                        raise LandingError(f"{move.path} is a folder in your checkout and holds {path}", hint)


_ELSEWHERE = "use --branch NAME to put the changes on a branch of their own"


def _keep(top: Path, moves: Sequence[_Move], folder: Path) -> None:
    """Copy the files as they are now, with their permissions, for taking the landing back."""
    _copy(top, folder / "tree", [move.path for move in moves])
    for move in moves:
        if move.before not in ("", _FOLDER) and _fingerprint(folder / "tree", move.path) != move.before:
            raise LandingError(f"{move.path} was changed while it was read; nothing was changed", "try again")


def _refuse(repo: Repository, patch: Path, paths: Sequence[str], tree: Path, answer: Answer) -> None:
    worktrees.remove_tree(tree)
    _copy(repo.top, tree, paths)
    if _apply_in(repo, tree, patch, "--reverse", "--check").code == 0:
        raise LandingError("these changes are in your checkout already")
    # git names every file that does not fit, in one of several wordings.
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    files = [
        p for p in paths if any(re.search(rf"(?<![\w/]){re.escape(p)}(?![\w/])", line) for line in errors)
    ]
    if not files:
        raise LandingError(f"the changes do not fit your checkout: {complaint(answer.err)}", _ELSEWHERE)
    shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
    raise LandingError(
        f"your checkout has changed since the run began, at the same places: {shown}", _ELSEWHERE
    )


def _copy(top: Path, tree: Path, paths: Sequence[str]) -> None:
    """Copy the touched files, and the .gitattributes that say how their line ends are kept."""
    _private(tree)
    attributes = {str(parent / ".gitattributes") for path in paths for parent in Path(path).parents}
    for path in sorted({*paths, *attributes}):
        source, target = top / path, tree / path
        if behind_link(top, path) or not (source.is_symlink() or source.is_file()):
            continue
        if target.parent.exists() and not target.parent.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


#: What a folder's fingerprint is: the patch may turn one into a file.
_FOLDER = "folder"


def _fingerprint(top: Path, path: str) -> str:
    """What a file is: kind, whether it can be run, content. '' when there is none."""
    if behind_link(top, path):
        return ""
    file = top / path
    try:
        mode = file.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(mode):
        return f"link {os.readlink(file)}"  # noqa: PTH115
    if stat.S_ISDIR(mode):
        return _FOLDER
    if not stat.S_ISREG(mode):
        raise LandingError(f"{file} is neither a file nor a link in your checkout")
    kind = "run" if mode & stat.S_IXUSR else "file"
    with file.open("rb") as content:
        return f"{kind} {hashlib.file_digest(content, 'sha256').hexdigest()}"


def _try_folders(top: Path, moves: Sequence[_Move]) -> None:
    """Write and remove a file in each folder that will change: a read-only one must be found before the first move."""
    for folder in sorted({(top / move.path).parent for move in moves}):
        while not folder.is_dir() and folder != top:
            folder = folder.parent
        probe = folder / f".pool-{secrets.token_hex(4)}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise LandingError(
                f"{folder} cannot be written: {error.strerror}; nothing was changed"
            ) from error


# The plan


def _run_plan(repo: Repository, run_dir: Path, plan: _Plan) -> None:
    state = run_dir.parent.parent
    _write_durably(state / POINTER, run_dir.name.encode())
    # From here on the landing is finished by whoever comes next.
    _write_durably(run_dir / STAGE / "plan.json", json_encode(plan))
    _finish(repo, run_dir)


def _write_durably(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{file.name}.part")
    write_private(partial, content, durable=True)
    partial.replace(file)


def _finish(repo: Repository, run_dir: Path) -> str:
    """Do what a written plan says and forget it; a line about it, '' when there is none."""
    stage = run_dir / STAGE
    try:
        data: dict[str, Any] = json.loads((stage / "plan.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    plan = convert(data, _Plan)
    if Path(plan.top) != repo.top:
        return f"landing run {run_dir.name} was interrupted in {plan.top}; `pool apply` there finishes it"
    left = _move_all(repo.top, stage / "tree", plan)
    committed = False
    try:
        if plan.commit:
            _publish(repo, plan)
            committed = True
    finally:  # also when the branch moved meanwhile: trying again would not help
        try:
            _settle(run_dir, plan, committed)
        finally:
            (stage / "plan.json").unlink()
            (run_dir.parent.parent / POINTER).unlink(missing_ok=True)
            worktrees.remove_tree(stage)
    line = f"landing run {run_dir.name} was interrupted; it is finished now"
    return f"{line}, without what you changed since: {', '.join(left)}" if left else line


def _settle(run_dir: Path, plan: _Plan, committed: bool) -> None:
    """Keep what taking it back needs, and record it. Safe to repeat. Raises StoreError."""
    if not plan.event:
        return
    kept = _private(run_dir / LANDED) / str(plan.record["landing"])
    before = run_dir / STAGE / "before"
    if plan.event == "undone":
        worktrees.remove_tree(kept)
    elif before.exists():
        none = _Plan(plan.top, plan.moves, modes=plan.modes)
        write_private(before / "plan.json", json_encode(plan if committed else none))
        before.rename(kept)
    told = dict(plan.record)
    if plan.event == "applied":
        told |= {"to": "commit" if committed else "checkout", "commit": plan.commit if committed else ""}
    try:
        acceptance.record(run_dir, plan.event, told)
    except StoreError as error:
        raise StoreError(
            f"your files are changed, but that could not be recorded: {error}", error.hint
        ) from error


def _move_all(top: Path, tree: Path, plan: _Plan) -> list[str]:
    """Move the results over the user's files; the ones left alone, because they are neither old nor new."""
    left = []
    # Removals first: a folder may have to make room for a file, and a file for a folder.
    for move in sorted(plan.moves, key=lambda m: bool(m.after)):
        present = _fingerprint(top, move.path)
        if present == move.after:
            continue
        if present not in (move.before, "") and present != _FOLDER:
            left.append(move.path)
        elif move.after in ("", _FOLDER):
            _remove(top, move.path)
        else:
            _place(top / move.path, tree / move.path, plan.modes.get(move.path))
    return left


def _remove(top: Path, path: str) -> None:
    file = top / path
    if file.is_symlink() or file.is_file():
        file.unlink()
    # git keeps no empty folders, and neither did the patch.
    for parent in list(Path(path).parents)[:-1]:
        with contextlib.suppress(OSError):
            (top / parent).rmdir()


def _place(target: Path, result: Path, mode: int | None = None) -> None:
    if target.is_dir() and not target.is_symlink():
        for place, _, _ in os.walk(target, topdown=False):
            Path(place).rmdir()  # empty but for folders: checked before
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".pool-{secrets.token_hex(4)}")
    try:
        if result.is_symlink():
            partial.symlink_to(os.readlink(result))  # noqa: PTH115
        else:
            shutil.copyfile(result, partial)
            partial.chmod(_mode(target, result) if mode is None else mode)
            with partial.open("rb") as content:
                os.fsync(content.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _mode(target: Path, result: Path) -> int:
    """The user's own permission bits where there is a file, with the patch's word on running it."""
    wanted = stat.S_IMODE(result.stat().st_mode)
    if target.is_symlink() or not target.is_file():
        return wanted
    mode = stat.S_IMODE(target.stat().st_mode)
    if not wanted & stat.S_IXUSR:
        return mode & ~0o111
    # Whoever may read it may run it, as git does.
    return mode | (mode & 0o444) >> 2


# Taking it back


def landings(run_dir: Path) -> list[str]:
    """Ids of the landings of a run that can be taken back, oldest first; they sort by time across runs."""
    try:
        return sorted(folder.name for folder in (run_dir / LANDED).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_here(repo: Repository, run_dir: Path, landing: str) -> bool:
    """Whether a landing was in this checkout, and not in another one of the same repository."""
    try:
        data = json.loads((run_dir / LANDED / landing / "plan.json").read_bytes())
    except (OSError, ValueError):
        return False
    return Path(str(data.get("top", ""))) == repo.top


def undo(repo: Repository, run_dir: Path, landing: str) -> Landed:
    """Make the files what they were before a landing, byte for byte and with their permissions; a commit of it is
    taken off its branch. Raises LandingError, with the names of the files that were changed since; nothing was
    changed then.
    """
    with _alone(run_dir):
        _clear(repo, run_dir)
        kept = run_dir / LANDED / landing
        try:
            plan = convert(json.loads((kept / "plan.json").read_bytes()), _Plan)
        except (FileNotFoundError, NotADirectoryError):
            raise LandingError(f"this landing of run {run_dir.name} was taken back already") from None
        if Path(plan.top) != repo.top:
            raise LandingError(f"run {run_dir.name} was applied in {plan.top}", "take it back there")
        _check_unchanged(repo.top, plan)
        if plan.commit:
            _check_commit(repo, plan)
        paths = tuple(move.path for move in plan.moves)
        back = tuple(_Move(move.path, move.after, move.before) for move in plan.moves)
        tree = kept / "tree"
        files = {m.path: tree / m.path for m in back if m.after.startswith(("run ", "file "))}
        modes = {path: stat.S_IMODE(file.stat().st_mode) for path, file in files.items()}
        _check_folders(repo.top, back, "move it away first")
        _try_folders(repo.top, back)
        stage = run_dir / STAGE
        try:
            shutil.copytree(tree, _private(stage) / "tree", symlinks=True)
            told = {"landing": landing, "files": paths}
            ref, head, parent = (plan.ref, plan.commit, plan.head) if plan.commit else ("", "", "")
            _run_plan(repo, run_dir, _Plan(plan.top, back, ref, head, parent, modes, "undone", told))
        finally:
            if not (stage / "plan.json").exists():
                worktrees.remove_tree(stage)
        return Landed(paths, plan.commit)


def _check_unchanged(top: Path, plan: _Plan) -> None:
    changed = []
    for move in plan.moves:
        mode = plan.modes.get(move.path)
        try:
            same = _fingerprint(top, move.path) == move.after
            if same and mode is not None:
                same = stat.S_IMODE((top / move.path).stat().st_mode) == mode
        except LandingError:
            same = False  # neither a file nor a link now
        if not same:
            changed.append(move.path)
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise LandingError(
            f"changed since it was applied: {', '.join(changed[:NAMED])}{more}; nothing was changed",
            "put your changes aside first (git stash), or take it back by hand: pool diff RUN | git apply -R",
        )


#: Files that a refusal names.
NAMED = 10


def _check_commit(repo: Repository, plan: _Plan) -> None:
    """Raise LandingError unless the commit is the last one of the branch that is checked out, and only here."""
    by_hand = f"git revert {plan.commit[:9]}"
    if plan.ref != f"refs/heads/{repo.head_name}" or repo.head != plan.commit:
        raise LandingError(f"commit {plan.commit[:9]} is not the last one of the branch you are on", by_hand)
    there = git([*repo.pin(), "for-each-ref", "--contains", plan.commit, "refs/remotes"], cwd=repo.top)
    if there.strip():
        raise LandingError(f"commit {plan.commit[:9]} was pushed already", by_hand)
    _check_index(repo, [move.path for move in plan.moves])


# As a commit


def _commit_of(
    repo: Repository, patch: Path, paths: Sequence[str], message: str, index: Path
) -> tuple[str, str]:
    """Make, but do not publish, the commit of exactly this patch on HEAD: (branch's ref, commit)."""
    if not repo.head_name:
        raise LandingError("HEAD is detached: there is no branch to commit to", _ELSEWHERE)
    _check_index(repo, paths, _ELSEWHERE)
    commit = _commit(repo, patch, repo.head, message, index)
    if not commit:
        raise LandingError(
            "the changes build on uncommitted changes of yours, so they cannot be committed alone",
            f"commit yours first, leave --commit out, or {_ELSEWHERE}",
        )
    return f"refs/heads/{repo.head_name}", commit


def _check_index(repo: Repository, paths: Sequence[str], otherwise: str = "") -> None:
    """Raise LandingError when the index is in use at these paths, or something is half done in the checkout."""
    more = f", or {otherwise}" if otherwise else ""
    if doing := in_progress(repo):
        raise LandingError(f"a {doing} is in progress in your checkout", f"finish it first{more}")
    if (repo.git_dir / "index.lock").exists():
        raise LandingError("another git process holds your index", "wait for it, or remove .git/index.lock")
    specs = [f":(top,literal){path}" for path in paths]
    names = git(
        [*repo.pin(), "diff-index", "--cached", "--name-only", "-z", "HEAD", "--", *specs], cwd=repo.top
    )
    if names:
        files = ", ".join(os.fsdecode(n) for n in names.split(b"\0")[:-1][:5])
        raise LandingError(f"you have staged changes in {files}", f"commit or unstage them first{more}")


def _commit(repo: Repository, patch: Path, parent: str, message: str, index: Path) -> str:
    """A commit of the patch on `parent`, on no branch yet; '' when the patch does not fit there."""
    env = {"GIT_INDEX_FILE": str(index)}
    git([*repo.pin(), "read-tree", parent], cwd=repo.top, env=env)
    if attempt(
        [*repo.pin(), "apply", "--cached", "--whitespace=nowarn", str(patch)], cwd=repo.top, env=env
    ).code:
        return ""
    tree = git([*repo.pin(), "write-tree", "--missing-ok"], cwd=repo.top, env=env).decode().strip()
    author = {k: v for k, v in os.environ.items() if k.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))}
    answer = attempt(
        [*repo.pin(), "commit-tree", tree, "-p", parent],
        cwd=repo.top,
        env=author,
        input=message.strip().encode("utf-8", "surrogateescape") + b"\n",
    )
    if answer.code:
        unknown = "tell me who you are" in answer.err or "unable to auto-detect" in answer.err
        hint = "git config user.name NAME; git config user.email ADDRESS" if unknown else ""
        said = "git does not know whose commit it is" if unknown else complaint(answer.err)
        raise LandingError(f"the commit could not be made: {said}", hint)
    return answer.out.decode().strip()


def _publish(repo: Repository, plan: _Plan) -> None:
    """Move the branch to the commit and bring the user's index along at the touched paths. Safe to repeat."""
    said = "pool undo" if plan.event == "undone" else "pool apply"
    moved = attempt(
        [*repo.pin(), "update-ref", "--create-reflog", "-m", said, plan.ref, plan.commit, plan.head],
        cwd=repo.top,
    )
    at = git([*repo.pin(), "rev-parse", plan.ref], cwd=repo.top).decode().strip()
    if moved.code and at != plan.commit:
        raise LandingError(
            f"the changes are in your files, but the branch moved meanwhile: {complaint(moved.err)}",
            "commit them yourself",
        )
    paths = [move.path for move in plan.moves]
    out = git([*repo.pin(), "ls-tree", "-r", "-z", "--full-tree", plan.commit], cwd=repo.top)
    entries = {os.fsdecode(e.partition(b"\t")[2]): e for e in out.split(b"\0")[:-1]}
    zero = b"0" * len(plan.commit)
    # Removals first, for the sake of files that become folders.
    lines = [b"0 " + zero + b"\t" + os.fsencode(path) for path in paths if path not in entries]
    lines += [_index_line(entries[path]) for path in paths if path in entries]
    git([*repo.pin(), "update-index", "-z", "--index-info"], cwd=repo.top, input=b"\0".join(lines) + b"\0")


def _index_line(entry: bytes) -> bytes:
    about, _, name = entry.partition(b"\t")
    mode, _, sha = about.split()
    return mode + b" " + sha + b"\t" + name


def _to_branch(
    repo: Repository, patch: Path, paths: Sequence[str], base: str, branch: str, message: str
) -> Landed:
    # As a whole ref: with --branch git would also take `@{-1}`, in whatever repository this process stands.
    if branch.startswith("-") or attempt(["check-ref-format", f"refs/heads/{branch}"]).code:
        raise LandingError(f"{branch!r} is not a name that git accepts for a branch")
    if attempt([*repo.pin(), "cat-file", "-e", f"{base}^{{commit}}"], cwd=repo.top).code:
        raise LandingError(
            "the commit that the run started from is no longer in the repository",
            "leave --branch out to apply the changes to your checkout",
        )
    commit = _commit(repo, patch, base, message, patch.with_name("index"))
    if not commit:
        raise LandingError(
            "the patch does not fit the commit that the run started from: it was changed since"
        )
    zero = "0" * len(commit)
    ref = f"refs/heads/{branch}"
    made = attempt(
        [*repo.pin(), "update-ref", "--create-reflog", "-m", "pool apply", ref, commit, zero], cwd=repo.top
    )
    if made.code:
        exists = not attempt([*repo.pin(), "rev-parse", "--verify", "--quiet", ref], cwd=repo.top).code
        if exists:
            raise LandingError(f"there is a branch {branch} already", "give another name to --branch")
        raise LandingError(f"the branch {branch} could not be made: {complaint(made.err)}")
    author = git([*repo.pin(), "show", "-s", "--format=%ae", base], cwd=repo.top).decode().strip()
    snapshot = author == IDENTITY["GIT_AUTHOR_EMAIL"]
    note = "the branch begins with a commit of what was uncommitted when the run started" if snapshot else ""
    return Landed(tuple(paths), commit, branch, note)
