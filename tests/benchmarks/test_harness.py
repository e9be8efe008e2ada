"""The harness runs, and what it measures without a clock is within its bounds: tokens, memory, the prefix cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Figure, Line
from benchmarks.processes import Cost, measure
from benchmarks.server import Reply, Session

ROOT = Path(__file__).parents[2]


def test_pool_is_within_its_bounds(tmp_path: Path) -> None:
    out = tmp_path / "lines.json"
    command = [sys.executable, "-m", "benchmarks.harness", "--rounds", "1", "--only", "first,turns"]
    command += ["--turns", "3,6", "--scratch", str(tmp_path), "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    lines = {line["what"]: line for line in json.loads(out.read_text())}
    assert all(f"| {what} " in done.stdout for what in lines)
    for bounded in (
        "pool: instructions and tools",
        "pool: repository context",
        "pool: peak memory, 6 turns",
        "pool: prompt computed over optimum, 3 turns",
        "pool: prompt computed over optimum, 6 turns",
    ):
        assert lines[bounded]["target"] and lines[bounded]["met"], lines[bounded]


def test_cpu_of_a_whole_process_tree(tmp_path: Path) -> None:
    work = "sum(i for i in range(3_000_000))"
    env = {"PATH": "/usr/bin:/bin"}

    def least(program: str) -> Cost:
        """The least of a few: beside other jobs a processor takes longer for the same work."""
        argv, log = [sys.executable, "-c", program], tmp_path / "log"
        return min(
            (measure(argv, cwd=tmp_path, env=env, log=log) for _ in range(4)), key=lambda cost: cost.cpu
        )

    alone = least(work)
    # Twice the work, half of it in a child.
    both = f"import subprocess, sys; {work}; subprocess.run([sys.executable, '-c', {work!r}])"
    tree = least(both)
    assert alone.exit_code == tree.exit_code == 0
    assert tree.cpu > 1.3 * alone.cpu > 0


def test_a_changed_prefix_counts_as_computed_again() -> None:
    kept, broken = Session([Reply()]), Session([Reply()])
    for number in range(5):
        messages = b",".join([b"x" * 100] * (number + 1))
        kept.take(b'{"messages":[' + messages + b"]}")
        broken.take(b'{"turn":%d,"messages":[' % number + messages + b"]}")
    assert kept.reread == 1.0
    assert broken.reread > 2.5


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was twice as slow in the second round: the ratio is the same.
    ratio = Figure((30.0, 60.0)) / Figure((20.0, 40.0))
    assert (ratio.best, ratio.middle, ratio.spread) == (1.5, 1.5, 0.0)
    assert Line("a", Figure((30.0, 60.0)), floor=Figure((20.0, 40.0)), target=1.5).met
    assert not Line("a", Figure((31.0, 62.0)), floor=Figure((20.0, 40.0)), target=1.5).met
