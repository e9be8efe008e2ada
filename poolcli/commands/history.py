"""`pool log` and `pool show`: what happened, from the logs alone."""

from __future__ import annotations

import json as json_codec
import sys
import time
from pathlib import Path

from poolcli import paths
from poolcli.git import find_repository
from poolcli.sanitize import clean
from poolcli.store import reading, runs
from poolcli.store import result as results
from poolcli.views.choose import choose

#: Characters of a line of `pool log`; a longer task is cut.
WIDEST = 200


def show(ref: str, *, json: bool, plain: bool) -> int:
    """Replay a run through the view that a live run has."""
    repo = find_repository(Path.cwd())
    run_dir = runs.find(paths.repository_state(repo.common_dir), ref)
    view = choose(
        json=json, plain=plain, quiet=False, stdout=sys.stdout, stderr=sys.stderr, patch_to_stdout=False
    )
    running = reading.locked(run_dir)  # asked first: a run that ends meanwhile says so in its log
    for event in reading.read(run_dir):
        view(event)
    view.close(running=running)
    return 0


def log(*, json: bool, limit: int) -> int:
    """List runs, newest first: id, age, status, size of the patch and the task's first line."""
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    results.repair_all(state)
    found = [runs.info(run_dir) for run_dir in runs.run_dirs(state)[:limit]]
    for info in found:
        line = json_codec.dumps(info.to_json()) if json else _row(info)
        sys.stdout.write(line + "\n")
    if not found and not json:
        sys.stderr.write('no runs yet in this repository; start one with: pool do "fix the failing test"\n')
    return 0


def _row(info: runs.RunInfo) -> str:
    """One run in a line; what became of its work stands behind the size of its patch."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.started))
    patch = f"+{info.added} -{info.removed}" if info.files else ""
    task = info.task.splitlines()[0] if info.task else ""
    line = f"{info.id}  {when}  {info.status:<13} {patch:>9} {info.fate:<14}  {task}"
    return clean(line, keep_newlines=False)[:WIDEST]
