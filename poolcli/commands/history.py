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


def show(ref: str, *, json: bool, plain: bool) -> int:
    """Replay a run through the view that a live run has."""
    repo = find_repository(Path.cwd())
    run_dir = runs.find(paths.repository_state(repo.common_dir), ref)
    view = choose(
        json=json, plain=plain, quiet=False, stdout=sys.stdout, stderr=sys.stderr, patch_to_stdout=False
    )
    for event in reading.read(run_dir):
        view(event)
    view.close()
    return 0


def log(*, json: bool, limit: int) -> int:
    """List runs, newest first: id, age, status, size of the patch and the task's first line."""
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    results.repair_all(state)
    found = [runs.info(run_dir) for run_dir in runs.run_dirs(state)[:limit]]
    for info in found:
        if json:
            sys.stdout.write(json_codec.dumps(info.to_json()) + "\n")
            continue
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.started))
        patch = f"+{info.added} -{info.removed}" if info.files else ""
        line = f"{info.id}  {when}  {info.status:<13} {patch:>9}  {info.task.splitlines()[0] if info.task else ''}"
        sys.stdout.write(clean(line, keep_newlines=False)[:200] + "\n")
    if not found and not json:
        sys.stderr.write('no runs yet in this repository; start one with: pool do "fix the failing test"\n')
    return 0
