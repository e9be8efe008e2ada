"""Writes demonstrations as token files, and the tokenizer that they need.

python -m training.data tokenizer FOLDER
python -m training.data episodes FOLDER SEED COUNT
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import numpy as np

from training.episodes import demonstrate, segments
from training.family import make_instance
from training.tokenizer import Tokenizer, build

TOKENIZER = "tokenizer.json"
#: Longer demonstrations are left out: they would cost more than they teach.
MOST_TOKENS = 1400


#: Whether a token is only read, is written, or is written and decides: see `decisive`.
READ, WRITTEN, DECISIVE = 0, 1, 2
#: Pieces after which a choice is made.
MARKS = (
    "The bug is in `",
    "Still failing: `",
    "\n</parameter>\n<parameter=old>\n",
    "\n</parameter>\n<parameter=new>\n",
)


def make_tokenizer(folder: Path, size: int = 1100, samples: int = 3000) -> Tokenizer:
    """A tokenizer made from sample demonstrations."""
    random = Random("tokenizer")
    found = (demonstrate(make_instance(random), random) for _ in range(samples))
    tokenizer = build(("".join(text for text, _ in segments(m)) for m in found if m), size)
    tokenizer.save(folder / TOKENIZER)
    return tokenizer


def decisive(numbers: list[int], tokenizer: Tokenizer) -> list[int]:
    """The levels of a written piece: what chooses the function, the line and the change is decisive."""
    levels = [WRITTEN] * len(numbers)
    marks = {name: tokenizer.encode(name)[0] for name in MARKS}
    places = {name: numbers.index(mark) + 1 for name, mark in marks.items() if mark in numbers}
    for name in MARKS[:2]:
        if name in places:
            levels[places[name]] = DECISIVE
    if MARKS[2] in places and MARKS[3] in places:
        old, new = places[MARKS[2]], places[MARKS[3]]
        same = 0
        while new + same < len(numbers) - 1 and numbers[old + same] == numbers[new + same]:
            same += 1
        for place in (*range(old, min(old + 4, new - 1)), new + same, min(new + same + 1, len(numbers) - 1)):
            levels[place] = DECISIVE
    return levels


def make_episodes(folder: Path, seed: int, count: int) -> tuple[int, int]:
    """One file of demonstrations. Gives how many and how many tokens there are."""
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    random = Random(f"train-{seed}")
    ids: list[int] = []
    levels: list[int] = []
    ends = [0]
    while len(ends) <= count:
        messages = demonstrate(make_instance(random), random)
        if messages is None:
            continue
        parts = [(tokenizer.encode(text), learn) for text, learn in segments(messages)]
        if sum(len(part) for part, _ in parts) > MOST_TOKENS:
            continue
        for part, learn in parts:
            ids += part
            levels += decisive(part, tokenizer) if learn else [READ] * len(part)
        ends.append(len(ids))
    np.savez(
        folder / f"episodes-{seed}.npz",
        ids=np.array(ids, np.uint16),
        levels=np.array(levels, np.uint8),
        ends=np.array(ends, np.int64),
    )
    return count, len(ids)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokenizer", "episodes"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if options.what == "tokenizer":
        print("tokenizer:", len(make_tokenizer(options.folder).pieces), "pieces", end=" ")
    else:
        episodes, tokens = make_episodes(options.folder, options.seed, options.count)
        print(f"episodes-{options.seed}: {episodes} demonstrations, {tokens} tokens", end=" ")
    print(f"in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
