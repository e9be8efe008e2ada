"""Trains the demonstration model from nothing: data, tokenizer, network, GGUF file. An hour on two cores.

    python -m training.make_model [--folder FOLDER] [--base 8.2] [--refine 5.3] [--out FILE.gguf]

Each step is skipped when its result is there already, so a broken-off run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
WORKERS = 2
#: Data files and demonstrations in each; the first files train the base, all of them refine it.
BASE_FILES, REFINE_FILES, PER_FILE = 4, 4, 8_000

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
    parser.add_argument("--base", type=float, default=8.2, help="millions of tokens for the base")
    parser.add_argument("--refine", type=float, default=5.3, help="millions of tokens for the refinement")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    if not (folder / "tokenizer.json").exists():
        finish(start("data", "tokenizer", folder))
    for flavour, files in (("base", BASE_FILES), ("refine", REFINE_FILES)):
        missing = [n for n in range(1, files + 1) if not (folder / f"{flavour}-{n}.npz").exists()]
        while missing:
            pair, missing = missing[:WORKERS], missing[WORKERS:]
            finish(*(start("data", flavour, folder, seed, PER_FILE) for seed in pair))
    base, refined = folder / "base.pt", folder / "refined.pt"
    if not base.exists():
        train(folder, base, "--files", "base-*.npz", "--millions", options.base)
    if not refined.exists():
        train(
            folder, refined, "--files", "*.npz", "--start", base, "--millions", options.refine, "--rate", 0.014,
            "--read-weight", 0, "--seed", 1,
        )  # fmt: skip
    finish(start("export", refined, options.out.absolute(), "--folder", folder))
    print(f"done in {(time.monotonic() - begin) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
