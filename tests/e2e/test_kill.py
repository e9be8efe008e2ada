"""SIGKILL at random moments: the log stays readable, the work is kept, and resume ends where an unkilled run does."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import (
    CALC,
    FIX,
    REPAIR,
    TEST_CALC,
    Pool,
    call,
    git,
    make_repo,
    reply,
    script,
    snapshot,
)
from tests.e2e.test_interrupt import marked
from tests.repositories import content

pytestmark = pytest.mark.slow


def _step(number: int) -> str:
    """Notes itself, so that a step done twice shows; and makes what it and all before it should have left, as a model
    does that looks: pool never repeats the one call that a kill hit."""
    made = " ".join(
        f"step-{n}" for n in range(number + 1)
    )  # what is whole stays: a kill may hit the last one
    return f"echo {number} >> steps.txt; for name in {made}; do test -s $name || echo $name > $name; done"


#: A kill between the word that the edit runs and the edit itself leaves it undone; the model makes sure, here too.
STEPS = (
    *REPAIR[:4],
    reply("", call("edit", **FIX)),
    *(reply("", call("shell", command=_step(n))) for n in range(6)),
    reply("", call("shell", command=_step(5).replace("echo 5 >> steps.txt", "echo sure >> steps.txt"))),
    reply("Fixed, and six steps noted."),
)
#: Some 3 seconds each with the resume; POOL_TEST_KILLS=200 for the long one.
KILLS = int(os.environ.get("POOL_TEST_KILLS", "100"))


def test_kills_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(20261123)
    length, whole = _unkilled(tmp_path / "whole")
    resumed = 0
    for n in range(KILLS):
        home = tmp_path / f"home{n}"
        home.mkdir()
        pool = Pool(make_repo(tmp_path / f"repo{n}", {"calc.py": CALC, "test_calc.py": TEST_CALC}), home)
        before = snapshot(pool.repo)
        path = home / "steps.toml"
        path.write_text("resume = true\n" + script(*STEPS))
        process = pool.start("do", "fix it", "--model", f"scripted:{path}", start_new_session=True)
        time.sleep(rng.uniform(0.05, length))
        process.kill()
        process.communicate(timeout=30)
        assert snapshot(pool.repo) == before
        assert pool("log").returncode == 0
        if not pool.runs() or not (pool.runs()[-1] / "events.jsonl").is_file():
            continue
        lines = (pool.runs()[-1] / "events.jsonl").read_bytes().split(b"\n")
        for line in lines[:-1]:
            json.loads(line)
        if not any(b'"turn.started"' in line for line in lines[:-1]):
            continue
        done = pool("resume", "--model", f"scripted:{path}")
        if done.returncode == 2 and "verified" in done.stderr:
            continue  # it had ended before the kill
        assert done.returncode == 0, done.stderr + done.stdout
        resumed += 1
        assert [e["seq"] for e in pool.events()] == list(range(1, len(pool.events()) + 1))
        assert pool("apply").returncode == 0
        assert _tree(pool.repo) == whole
        # The one call that was running may have happened or not; none happened twice.
        steps = (pool.repo / "steps.txt").read_text().split() if (pool.repo / "steps.txt").exists() else []
        assert len(set(steps)) == len(steps) >= 6, steps
        assert marked(pool.runs()[-1].name) == []
        assert git(pool.repo, "worktree", "list").count("\n") == 1
    print(f"{KILLS} kills, {resumed} of them hit a run at work and were resumed to the same tree")
    assert resumed >= KILLS // 4, "too few of the kills hit a run at work"


def _tree(repo: Path) -> dict[str, tuple[str, bytes]]:
    """The files of a repository but for the notes of the steps."""
    return {name: held for name, held in content(repo).items() if name != "steps.txt"}


def _unkilled(folder: Path) -> tuple[float, dict[str, tuple[str, bytes]]]:
    """Seconds that a run without a kill takes, and the files it leads to."""
    home = folder / "home"
    home.mkdir(parents=True)
    pool = Pool(make_repo(folder / "repo", {"calc.py": CALC, "test_calc.py": TEST_CALC}), home)
    start = time.monotonic()
    assert pool.do("fix it", replies=STEPS).returncode == 0
    length = time.monotonic() - start
    assert pool("apply").returncode == 0
    return length, _tree(pool.repo)
