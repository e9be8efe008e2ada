"""`pool diff`, `pool apply`, `pool discard`: what becomes of a run's patch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from poolcli import landing, paths, workspace
from poolcli.errors import UsageError
from poolcli.git import Repository, find_repository
from poolcli.store import reading, runs
from poolcli.store import result as results


def _run(ref: str) -> tuple[Repository, Path]:
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    run_dir = runs.find(state, ref)
    if not reading.locked(run_dir):
        workspace.collect(repo, state)  # a killed run's patch is saved from its worktree first
    return repo, run_dir


def _patch(run_dir: Path) -> bytes:
    path = run_dir / "patch.diff"
    if path.is_file():
        return path.read_bytes()
    if reading.locked(run_dir):
        raise UsageError(f"run {run_dir.name} is still at work", "wait for it, or interrupt it: the work is kept")
    raise UsageError(f"run {run_dir.name} left no patch", "it ended before it changed anything")


def diff(ref: str) -> int:
    """Print the patch, byte for byte."""
    _, run_dir = _run(ref)
    sys.stdout.buffer.write(_patch(run_dir))
    sys.stdout.buffer.flush()
    return 0


def apply(ref: str, *, branch: str | None, commit: bool, message: str | None) -> int:
    """Land the patch in the checkout or on a new branch."""
    repo, run_dir = _run(ref)
    if branch and commit:
        raise UsageError("--branch and --commit exclude each other", "--branch makes a commit on the new branch")
    land(repo, run_dir, branch=branch, commit=commit, message=message)
    return 0


def land(
    repo: Repository, run_dir: Path, *, branch: str | None = None, commit: bool = False, message: str | None = None
) -> None:
    """Apply a run's patch and say what was done. Raises WorkspaceError when it does not fit; nothing changes then."""
    patch = _patch(run_dir)
    if not patch:
        sys.stderr.write(f"run {run_dir.name} changed nothing; there is nothing to apply\n")
        return
    result = results.read(run_dir) or {}
    task = str(result.get("task", "")) or f"pool run {run_dir.name}"
    text = message or (f"{task.splitlines()[0][:72]}\n\nBy pool, run {run_dir.name}.\n")
    base = str(result.get("base", ""))
    landed = landing.apply(repo, patch, base=base, branch=branch, commit_message=text if commit or branch else None)
    sys.stderr.write(landed.summary + "\n")


def discard(ref: str) -> int:
    """Delete the run's worktree, patch and log."""
    repo, run_dir = _run(ref)
    if reading.locked(run_dir):
        raise UsageError(f"run {run_dir.name} is still at work", "interrupt it first")
    workspace.discard(repo, paths.repository_state(repo.common_dir), run_dir.name)
    shutil.rmtree(run_dir)
    sys.stderr.write(f"discarded run {run_dir.name}\n")
    return 0
