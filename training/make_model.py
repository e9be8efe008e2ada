"""Trains the demonstration model from nothing: data, tokenizer, network, GGUF file. Under an hour on two cores.

    python -m training.make_model [--folder FOLDER] [--out FILE.gguf] [--scale 0.01]

Each step is skipped when its result is there already, so a broken-off run goes on where it stopped.
`--scale` makes everything smaller, to try the machinery out; the model is of no use then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
WORKERS = 2


#: Files of demonstrations, and how many are in each.
FILES, EACH = 4, 18_000


@dataclass(frozen=True)
class Stage:
    """A part of the training: its checkpoint, tokens and minutes at most, further options of `training.train`."""

    name: str
    millions: float
    minutes: float
    options: tuple[object, ...]


STAGES = (
    # A small weight on predicting what is only read: this is how copying is learnt.
    Stage("base", 12, 28, ("--hold", 1)),
    # Only what the assistant writes counts, and the tokens that make a choice count six times.
    Stage("final", 12, 28, ("--read-weight", 0, "--decisive-weight", 6, "--hold", 0.2)),
)

#: Freed memory is kept: giving it back to the system and faulting it in again costs half of the time.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "1000000000",
    "OMP_NUM_THREADS": "1",
    "MASTER_ADDR": "127.0.0.1",
    "WORLD_SIZE": str(WORKERS),
}


def start(module: str, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """Start one of this package's modules."""
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | environment)


def finish(*processes: subprocess.Popen[bytes]) -> None:
    """Wait for all; end the others and this program when one fails."""
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                break
            time.sleep(0.2)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    if any(process.wait() for process in processes):
        sys.exit("a step of the training failed; its message stands above")


def train(folder: Path, out: Path, *options: object) -> None:
    """Two single-threaded workers that average their gradients over loopback."""
    port = str(20000 + os.getpid() % 20000)
    environment = WORKER_ENVIRONMENT | {"MASTER_PORT": port}
    finish(*(start("train", folder, out, *options, **environment, RANK=str(rank)) for rank in range(WORKERS)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "training/out")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "models/pool-demo.gguf")
    parser.add_argument("--scale", type=float, default=1.0, help="of data and training")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    if not (folder / "tokenizer.json").exists():
        finish(start("data", "tokenizer", folder))
    missing = [n for n in range(1, FILES + 1) if not (folder / f"episodes-{n}.npz").exists()]
    while missing:
        pair, missing = missing[:WORKERS], missing[WORKERS:]
        finish(*(start("data", "episodes", folder, seed, int(EACH * options.scale)) for seed in pair))
    before: Path | None = None
    for number, stage in enumerate(STAGES):
        checkpoint = folder / f"{stage.name}.pt"
        if not checkpoint.exists():
            begin_from = ("--start", before) if before else ()
            millions = ("--millions", stage.millions * options.scale)
            minutes = ("--minutes", stage.minutes)
            train(folder, checkpoint, *stage.options, *millions, *minutes, *begin_from, "--seed", number)
        before = checkpoint
    finish(start("export", before, options.out.absolute(), "--folder", folder))
    print(f"done in {(time.monotonic() - begin) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
