"""pass@1 of the demonstration model through the real `pool do`, on instances that it was never trained on.

    python -m benchmarks.demo_model [--count 50] [--splits one,two,…] [--model FILE.gguf] [--workers 2]

Each instance is a real git repository with two files; `pool do` makes its worktree, starts the real llama.cpp
server, runs the real unittest, and its exit code 0 (the checks pass) is what counts. One run per instance, with the
sampling that pool gives this model and its usual budgets, unless `--temperature` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from training.family import SPLITS, Instance, make_instance

MEANING = {
    "iid": "the family: one or two bugs in 1-6 functions, ordinary names",
    "one": "the family, one bug",
    "two": "the family, two bugs in two functions",
    "invented": "as iid; half of the words in names are made up, as in training",
    "words": "names made of words never seen in training",
    "pairs": "a kind of bug never shown in that kind of function",
    "long": "more functions than in most of the training",
    "kinds": "kinds of function never seen: not its trade",
}
SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    """What `pool do` made of one instance."""

    exit_code: int | None
    seconds: float
    turns: int
    status: str


def repository(instance: Instance, folder: Path) -> None:
    """A git repository with the instance's files committed."""
    for name, text in instance.files.items():
        (folder / name).write_text(text)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def solve(instance: Instance, model: str, sampling: Sequence[str] = ()) -> Outcome:
    """One run of `pool do` on a fresh copy of the instance."""
    with tempfile.TemporaryDirectory(prefix="pool-bench-") as scratch:
        work, result = Path(scratch, "work"), Path(scratch, "result.json")
        work.mkdir()
        repository(instance, work)
        command = [sys.executable, "-m", "poolcli", "do", instance.task, "--plain", "--model", model]
        command += [*sampling, "--result", str(result)]
        source = str(Path(__file__).parents[1])
        environment = os.environ | {"POOL_STATE": str(Path(scratch, "state")), "PYTHONPATH": source}
        begin = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=environment,
                timeout=SECONDS,
                capture_output=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, time.monotonic() - begin, 0, "too slow")
        seconds = time.monotonic() - begin
        said = json.loads(result.read_text()) if result.exists() else {}
        turns = (said.get("usage") or {}).get("turns", 0)
        return Outcome(done.returncode, seconds, turns, str(said.get("status", done.stderr[-300:])))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50, help="instances per split")
    parser.add_argument("--splits", default=",".join(SPLITS))
    parser.add_argument("--model", default="demo", help="a GGUF file instead of the one that ships")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", default="benchmark")
    parser.add_argument("--temperature", help="the model's own sampling by default")
    options = parser.parse_args()
    sampling = ["--temperature", options.temperature] if options.temperature else []
    print(f"{'split':6} {'pass@1':>7} {'± s.e.':>7} {'n':>4} {'turns':>6} {'s/run':>6}  what is new in it")
    for split in options.splits.split(","):
        random = Random(f"{options.seed}-{split}")
        instances = [make_instance(random, split) for _ in range(options.count)]
        with ThreadPoolExecutor(options.workers) as pool:
            outcomes = list(pool.map(lambda i: solve(i, options.model, sampling), instances))
        solved = sum(o.exit_code == 0 for o in outcomes)
        rate = solved / len(outcomes)
        error = math.sqrt(rate * (1 - rate) / len(outcomes))
        turns = sum(o.turns for o in outcomes) / len(outcomes)
        seconds = sum(o.seconds for o in outcomes) / len(outcomes)
        print(
            f"{split:6} {rate:7.2f} {error:7.2f} {len(outcomes):4} {turns:6.1f} {seconds:6.1f}  "
            f"{MEANING[split]}",
            flush=True,
        )
        odd = {o.status for o in outcomes if o.exit_code not in (0, 3, 4, 5)}
        if odd:
            print(f"       unexpected: {sorted(odd)}", flush=True)


if __name__ == "__main__":
    main()
