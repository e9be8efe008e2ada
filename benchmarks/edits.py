"""What edits of large texts cost, against reading and decoding the file: `python -m benchmarks.edits`.

Ratios, the median of several rounds: milliseconds of a shared machine mean little. Linear means that the ratio does
not grow with the file.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from poolcli.edits.replace import replace, replace_all
from poolcli.edits.results import Landed, Replacement

ROUNDS = 7


def text_of(lines: int) -> str:
    """Code of so many lines, most of them different, some the same everywhere."""
    draw = random.Random(1)
    made = []
    for i in range(0, lines, 8):
        made += [
            f"def function_{i}(alpha, beta):", f"    value_{i} = alpha + {draw.randrange(10**6)}", "    if alpha:",
            f"        return beta * {i}", f"    result = compute(value_{i}, beta)  # step", "    return result", "", "",
        ]  # fmt: skip
    return "\n".join(made[:lines]) + "\n"


def taken(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(lines: int, more: str = "") -> None:
    text = text_of(lines) + more
    middle = lines // 16 * 8
    old = "".join(line + "\n" for line in text.split("\n")[middle : middle + 6])
    body = "".join(line[4:] + "\n" for line in old.split("\n")[1:4])
    near = old.replace("# step", "# stop")
    edits = {
        "exact": (old, old.replace("alpha", "gamma")),
        "indentation": (body, body.replace("beta", "gamma")),
        "similar": (near, near.replace("alpha, beta", "alpha, gamma")),
        "nothing found": (old.replace("_", "__").replace("return result", "return no"), "x\n"),
    }
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_text(text)
        for name, (a, b) in edits.items():
            ratios = [
                taken(lambda a=a, b=b: replace(text, a, b)) / taken(lambda: path.read_bytes().decode())  # type: ignore[misc]
                for _ in range(ROUNDS)
            ]
            print(
                f"{lines:>8} lines{' not ASCII' * bool(more):10} {name:14} {statistics.median(ratios):6.1f} x"
            )


def many(lines: int, count: int) -> None:
    text = text_of(lines)
    numbers = random.Random(2).sample(range(0, lines, 8), count)
    edits = [Replacement(f"value_{i} = alpha +", f"value_{i} = gamma +") for i in numbers]
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_text(text)
        assert isinstance(replace_all(text, edits), Landed)
        ratios = [
            taken(lambda: replace_all(text, edits)) / taken(lambda: path.read_bytes().decode()) / count
            for _ in range(ROUNDS)
        ]
        each = [taken(lambda: [replace(text, e.old, e.new) for e in edits]) for _ in range(2)]
    print(f"{count} edits of {lines} lines in one call {statistics.median(ratios):6.2f} x each")
    print(f"{count} edits of {lines} lines in a call each {min(each) / count * 1000:6.2f} ms each")


def main() -> None:
    print("against reading and decoding the file:")
    for lines in (50_000, 100_000, 200_000):
        measure(lines)
    measure(200_000, "# \u201cquoted\u201d\n")
    many(10_000, 1000)


if __name__ == "__main__":
    main()
