"""`pool diff`, `pool apply`, `pool undo`, `pool discard`: what becomes of a run's patch."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from poolcli import acceptance, hunks, landing, paths, person, surprises, workspace
from poolcli.errors import UsageError
from poolcli.git import Repository, find_repository
from poolcli.sanitize import clean
from poolcli.store import reading, runs
from poolcli.store import result as results
from poolcli.views.output import exactly
from poolcli.workspace import PATCH


def _run(ref: str) -> tuple[Repository, Path]:
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    run_dir = runs.find(state, ref)
    for line in workspace.collect(repo, state):
        sys.stderr.write(clean(line) + "\n")
    return repo, run_dir


def _patch(run_dir: Path) -> bytes:
    if reading.locked(run_dir):
        raise UsageError(
            f"run {run_dir.name} is still at work", "wait for it, or interrupt it: the work is kept"
        )
    if landing.discarded(run_dir):
        raise UsageError(f"the work of run {run_dir.name} was discarded", "`pool show` still has its log")
    try:
        return (run_dir / PATCH).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"run {run_dir.name} left no patch", "it ended before it changed anything") from None


def diff(ref: str) -> int:
    """Print the patch: byte for byte, unless a terminal would act on it."""
    _, run_dir = _run(ref)
    exactly(_patch(run_dir), sys.stdout)
    return 0


def apply(ref: str, *, branch: str | None, commit: bool, message: str | None, choose: bool = False) -> int:
    """Land the patch in the checkout or on a new branch; with `choose` what a person takes of it, hunk by hunk."""
    terminal = _person() if choose else None
    repo, run_dir = _run(ref)
    if line := landing.recover(repo, run_dir.parent.parent):
        sys.stderr.write(clean(line) + "\n")
    if branch and commit:
        raise UsageError(
            "--branch and --commit exclude each other", "--branch makes a commit on the new branch"
        )
    land(repo, run_dir, branch=branch, commit=commit, message=message, terminal=terminal)
    return 0


def _person() -> person.Terminal:
    terminal = person.present(json=False)
    if terminal is None:
        raise UsageError(
            "nobody is here to be asked hunk by hunk: --patch needs a terminal for input and for errors",
            "leave --patch out to apply all of it",
        )
    return terminal


def land(
    repo: Repository,
    run_dir: Path,
    *,
    branch: str | None = None,
    commit: bool = False,
    message: str | None = None,
    terminal: person.Terminal | None = None,
) -> None:
    """Apply what is left of a run's patch and say what was done; with a `terminal` the person there chooses.

    Raises WorkspaceError when it does not fit; nothing changes then.
    """
    patch = _patch(run_dir)
    if not patch:
        sys.stderr.write(f"run {run_dir.name} changed nothing; there is nothing to apply\n")
        return
    left = _left(repo, run_dir, patch, branch=branch)
    if not left.files and not left.whole:
        raise UsageError(
            f"all of run {run_dir.name} was applied already", "`pool undo` takes back what was applied"
        )
    if left.note:
        sys.stderr.write(left.note + "\n")
    chosen = _all(left, patch) if terminal is None else _ask(left, run_dir, terminal)
    if not chosen.patch:
        acceptance.record(run_dir, "applied", {"landing": f"{time.time_ns():x}", **_NOTHING, **chosen.record})
        sys.stderr.write("nothing was taken; your checkout is as it was\n")
        return
    result = results.read(run_dir) or {}
    task = str(result.get("task", "")) or f"pool run {run_dir.name}"
    text = message or (f"{task.splitlines()[0][:72]}\n\nBy pool, run {run_dir.name}.\n")
    landed = landing.apply(
        repo,
        chosen.patch,
        run_dir=run_dir,
        base=_base(run_dir, result),
        branch=branch,
        commit_message=text if commit or branch else None,
        record=chosen.record,
    )
    sys.stderr.write(clean(_said(landed)) + "\n")
    if more := chosen.record["left"]:
        some = "1 hunk was" if more == 1 else f"{more} hunks were"
        sys.stderr.write(
            f"{some} not taken; `pool apply --patch {runs.short(run_dir.name)}` offers what is left\n"
        )
    for line in surprises.look(chosen.patch):
        sys.stderr.write(clean(f"look at: {line}", keep_newlines=False) + "\n")
    if result.get("status") not in ("verified", "unchecked"):
        why = str(result.get("why") or "it has no result")
        sys.stderr.write(clean(f"note: this run is not verified: {why}", keep_newlines=False) + "\n")


class _Left(Struct, frozen=True):
    """What of a patch can still be taken."""

    files: tuple[hunks.File, ...]
    #: It is the whole patch.
    whole: bool = True
    #: What a person should know about the rest; ''.
    note: str = ""


class _Chosen(Struct, frozen=True):
    """What is taken now, and what the log says of it."""

    patch: bytes
    record: dict[str, Any]


#: Hunks of a whole patch that the log names one by one.
LISTED = 1000
_NOTHING = {"to": "checkout", "files": [], "commit": "", "branch": ""}


def _left(repo: Repository, run_dir: Path, patch: bytes, *, branch: str | None) -> _Left:
    """What of the patch is not in the checkout yet. A new branch begins without any of it."""
    try:
        files = hunks.parse(patch)
    except hunks.Unreadable:
        return _Left(())  # landing says what git says
    taken = acceptance.taken(reading.read(run_dir))
    if branch or not taken.any:
        return _Left(files)
    as_it_is = [u for u in _parts(files) if not taken.edited & {u.id, *u.ids}]
    there = [u for u in as_it_is if taken.whole or taken.plain & {u.id, *u.ids}]
    rest = () if taken.whole else hunks.remaining(files, taken.plain, taken.edited)
    known = "what you took of it before is left out"
    if landing.fits(repo, hunks.compose(files, map(hunks.Choice, there)), reverse=True):
        return _Left(rest, whole=False, note=known)
    if landing.fits(repo, patch):
        return _Left(
            files, note="what you took of it before is no longer in your checkout; all of it is offered"
        )
    return _Left(rest, whole=False, note=known)


def _parts(files: Sequence[hunks.File]) -> list[hunks.Unit]:
    return [part for unit in hunks.units(files) for part in hunks.split(files, unit)]


def _all(left: _Left, patch: bytes) -> _Chosen:
    rest = patch if left.whole else hunks.everything(left.files)
    units = hunks.units(left.files)
    told = [_told(unit, "taken") for unit in units] if len(units) <= LISTED else []
    counts = {"offered": len(units), "taken": len(units), "edited": 0, "left": 0}
    return _Chosen(rest, {"chosen": False, **counts, "hunks": told})


def _ask(left: _Left, run_dir: Path, terminal: person.Terminal) -> _Chosen:
    from poolcli.commands.choosing import Chooser

    answers = asyncio.run(Chooser(left.files, terminal, run_dir).ask())
    if answers is None:
        raise UsageError("the input ended before all was answered; nothing was applied")
    choices = [choice for answer in answers if (choice := answer.choice) is not None]
    counts = {
        "offered": len(answers),
        "taken": len(choices),
        "edited": sum(answer.outcome == "edited" for answer in answers),
        "left": len(answers) - len(choices),
    }
    told = [_told(answer.unit, answer.outcome) for answer in answers]
    return _Chosen(hunks.compose(left.files, choices), {"chosen": True, **counts, "hunks": told})


def _told(unit: hunks.Unit, outcome: str) -> dict[str, Any]:
    parts = {"parts": list(unit.ids)} if len(unit.ids) > 1 else {}
    return {"id": unit.id, "file": unit.path, "outcome": outcome, **parts}


def undo(ref: str) -> int:
    """Take the last landing back: of a run, or of whichever run was applied last in this checkout."""
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    if line := landing.recover(repo, state):
        sys.stderr.write(clean(line) + "\n")
    folders = [runs.find(state, ref)] if ref else runs.run_dirs(state)
    found = [
        (name, run_dir)
        for run_dir in folders
        for name in landing.landings(run_dir)
        if ref or landing.is_here(repo, run_dir, name)
    ]
    if not found:
        raise _nothing_to_undo(folders if ref else [])
    name, run_dir = max(found)
    if reading.locked(run_dir):
        raise UsageError(f"run {run_dir.name} is at work", "wait for it, or interrupt it")
    landed = landing.undo(repo, run_dir, name)
    count = len(landed.files)
    files = ", ".join(landed.files[:5]) + (f" and {count - 5} more" if count > 5 else "")
    gone = f" and commit {landed.commit[:9]}" if landed.commit else ""
    sys.stderr.write(
        clean(f"took back run {runs.short(run_dir.name)}{gone}: {files}", keep_newlines=False) + "\n"
    )
    return 0


def _nothing_to_undo(folders: Sequence[Path]) -> UsageError:
    for run_dir in folders:
        for event in reversed(reading.read(run_dir)):
            if event.type == "applied" and event.data.get("to") == "branch":
                branch = str(event.data.get("branch"))
                return UsageError(
                    f"run {run_dir.name} was only applied to the branch {branch}", f"git branch -D {branch}"
                )
        return UsageError(f"run {run_dir.name} is not applied; there is nothing to take back", "`pool log`")
    return UsageError(
        "no run is applied in this checkout; there is nothing to take back", "`pool log` lists the runs"
    )


def _base(run_dir: Path, result: dict[str, Any]) -> str:
    if base := str(result.get("base", "")):
        return base
    started = next(event for event in reading.read(run_dir) if event.type == "run.started")
    return str(started.data["base"])


def _said(landed: landing.Landed) -> str:
    count = len(landed.files)
    files = ", ".join(landed.files[:5]) + (f" and {count - 5} more" if count > 5 else "")
    if landed.branch:
        done = f"made branch {landed.branch} at {landed.commit[:9]}: {files}; your checkout is as it was"
    elif landed.commit:
        done = f"committed {landed.commit[:9]}: {files}"
    else:
        done = f"applied to your checkout: {files}"
    return f"{done}\n{landed.note}" if landed.note else done


def discard(ref: str, *, log: bool) -> int:
    """Throw the run's work away: worktree, snapshot and patch; with `log` its record too."""
    repo, run_dir = _run(ref)
    applied = (run_dir / runs.APPLIED).exists()
    landing.discard(repo, run_dir)
    if log:
        shutil.rmtree(run_dir)
    sys.stderr.write(f"discarded run {run_dir.name}{'' if log else '; its log stays, see `pool show`'}\n")
    if applied:
        sys.stderr.write("what you applied of it stays as it is\n")
    return 0
