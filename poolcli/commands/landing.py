"""`pool diff`, `pool apply`, `pool discard`: what becomes of a run's patch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from poolcli import landing, paths, surprises, workspace
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


def apply(ref: str, *, branch: str | None, commit: bool, message: str | None) -> int:
    """Land the patch in the checkout or on a new branch."""
    repo, run_dir = _run(ref)
    if line := landing.recover(repo, run_dir.parent.parent):
        sys.stderr.write(clean(line) + "\n")
    if branch and commit:
        raise UsageError(
            "--branch and --commit exclude each other", "--branch makes a commit on the new branch"
        )
    land(repo, run_dir, branch=branch, commit=commit, message=message)
    return 0


def land(
    repo: Repository,
    run_dir: Path,
    *,
    branch: str | None = None,
    commit: bool = False,
    message: str | None = None,
) -> None:
    """Apply a run's patch and say what was done. Raises WorkspaceError when it does not fit; nothing changes then."""
    patch = _patch(run_dir)
    if not patch:
        sys.stderr.write(f"run {run_dir.name} changed nothing; there is nothing to apply\n")
        return
    result = results.read(run_dir) or {}
    task = str(result.get("task", "")) or f"pool run {run_dir.name}"
    text = message or (f"{task.splitlines()[0][:72]}\n\nBy pool, run {run_dir.name}.\n")
    landed = landing.apply(
        repo,
        patch,
        run_dir=run_dir,
        base=_base(run_dir, result),
        branch=branch,
        commit_message=text if commit or branch else None,
    )
    (run_dir / runs.APPLIED).touch()  # `pool log` says so
    sys.stderr.write(clean(_said(landed)) + "\n")
    for line in surprises.look(patch):
        sys.stderr.write(clean(f"look at: {line}", keep_newlines=False) + "\n")
    if result.get("status") not in ("verified", "unchecked"):
        why = str(result.get("why") or "it has no result")
        sys.stderr.write(clean(f"note: this run is not verified: {why}", keep_newlines=False) + "\n")


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
    landing.discard(repo, run_dir)
    if log:
        shutil.rmtree(run_dir)
    sys.stderr.write(f"discarded run {run_dir.name}{'' if log else '; its log stays, see `pool show`'}\n")
    return 0
