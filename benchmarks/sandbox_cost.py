"""What a sandbox costs for each command: against a plain `bash -c true`, as a ratio and in milliseconds.

python -m benchmarks.sandbox_cost [ROUNDS]

Each round starts every variant once, so that load from elsewhere meets all of them alike. The least time says
what an idle machine would give, the median what this one gave. CPU is that of pool and of all it started, the
median: it depends little on who else works on the machine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from poolcli import process
from poolcli.sandbox import NONE, Confinement, Overlay, Sandbox, limits, surroundings, wrap
from poolcli.sandbox.bubblewrap import HOME, masked
from poolcli.sandbox.environment import confined_environment
from poolcli.sandbox.toolchains import readable

#: Enough for the least to be near what an idle machine gives, on one with two busy cores.
ROUNDS = 60

COMMAND = ["/bin/bash", "-c", "true"]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    program = limits.system_program("bwrap")
    if not program:
        print("bubblewrap is not installed: nothing to measure")
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        root, home, packages = place / "root", place / "home", place / "main" / ".venv"
        for folder in (root, home, packages):
            folder.mkdir(parents=True)
        tools = readable(os.environ, home=Path.home(), hidden=masked(Path.home()), checkout=place / "main")
        plain = Confinement(root=root, seen=place / "main", home=home, readable=tools)
        groups = limits.open_group(plain.limits)
        overlay = Overlay(packages, packages, place / "upper")
        bubblewrap = Sandbox("bubblewrap", "", program)
        variants: dict[str, tuple[Sandbox, Confinement]] = {
            "plain": (NONE, plain),
            "bubblewrap": (bubblewrap, plain),
        }
        if groups:
            variants["with control groups"] = (bubblewrap, msgspec.structs.replace(plain, groups=groups))
        if surroundings.overlays_work(overlay.upper):
            variants["with one overlay"] = (
                bubblewrap,
                msgspec.structs.replace(plain, groups=groups, overlays=(overlay,)),
            )
        try:
            times = measure({title: runner(*variant) for title, variant in variants.items()}, rounds)
        finally:
            limits.close_group(groups)
    print(f"{'':20} {'least':>9} {'ratio':>7} {'more':>9} {'median':>9} {'CPU':>9}   ({rounds} rounds)")
    floor = min(wall for wall, _ in times["plain"])
    for title, taken in times.items():
        walls, used = zip(*taken, strict=True)
        least = min(walls)
        print(
            f"{title:20} {least * 1000:6.2f} ms {least / floor:6.1f}x {(least - floor) * 1000:6.2f} ms"
            f" {statistics.median(walls) * 1000:6.2f} ms {statistics.median(used) * 1000:6.2f} ms"
        )


def runner(sandbox: Sandbox, confinement: Confinement) -> Callable[[], tuple[float, float]]:
    """One start and its end, (wall, CPU) in seconds: building the arguments is part of it."""
    home = str(HOME if sandbox.program else confinement.home)
    environment = confined_environment(os.environ, run_id="benchmark", home=home)

    async def once() -> tuple[float, float]:
        began, used = time.perf_counter(), cpu()
        launch = wrap(sandbox, COMMAND, confinement, environment)
        try:
            done = await process.run(
                launch.argv, cwd=confinement.root, env=launch.env, timeout=60, pass_fds=launch.fds
            )
        finally:
            launch.close()
        assert done.exit_code == 0, done.output
        return time.perf_counter() - began, cpu() - used

    return lambda: asyncio.run(once())


def cpu() -> float:
    """Seconds of CPU of this process and of those that it waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


Times = dict[str, list[tuple[float, float]]]


def measure(variants: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> Times:
    times: Times = {title: [] for title in variants}
    for one in variants.values():
        one()  # what is looked up once per process
    for _ in range(rounds):
        for title, one in variants.items():
            times[title].append(one())
    return times


if __name__ == "__main__":
    main()
