"""SIGKILL at random moments: the log stays readable, the work is kept, and resume ends where an unkilled run does."""

from __future__ import annotations

import json
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

pytestmark = pytest.mark.slow

#: Notes each step, so that one done twice or left out shows in the result. A kill between the word that the edit runs
#: and the edit itself leaves it undone, and pool never repeats it; the model makes sure, as one that looks would.
STEPS = (
    *REPAIR[:4],
    reply("", call("edit", **FIX)),
    *(reply("", call("shell", command=f"echo {n} >> steps.txt")) for n in range(6)),
    reply("Fixed, and six steps noted."),
)
KILLS = 20


def test_kills_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(20261123)
    length = _unkilled(tmp_path / "whole")
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
        assert "a + b" in (pool.repo / "calc.py").read_text()
        steps = (pool.repo / "steps.txt").read_text().split() if (pool.repo / "steps.txt").exists() else []
        # The one call that was running may have happened or not; none happened twice.
        assert len(set(steps)) == len(steps) >= 5, steps
        assert marked(pool.runs()[-1].name) == []
        assert git(pool.repo, "worktree", "list").count("\n") == 1
    assert resumed >= KILLS // 4, "too few of the kills hit a run at work"


def _unkilled(folder: Path) -> float:
    """Seconds that a run without a kill takes."""
    home = folder / "home"
    home.mkdir(parents=True)
    pool = Pool(make_repo(folder / "repo", {"calc.py": CALC, "test_calc.py": TEST_CALC}), home)
    start = time.monotonic()
    assert pool.do("fix it", replies=STEPS).returncode == 0
    return time.monotonic() - start
