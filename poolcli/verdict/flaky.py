"""Tests that end now this way, now that way on the same files.

They are looked for on the untouched base only. A test that became unsteady by the change is a regression, and to run
it until it passes would be a way to hide one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from poolcli.paths import private_dir, write_private
from poolcli.verdict.comparison import PASSING, SKIPPED, Comparison
from poolcli.verdict.results import Results

#: How often suspects are run again. A test that fails half the time is found out with 7 of 8, one that fails one
#: time in ten with 1 of 4; those come up again, and what was found is remembered.
TIMES = 3
#: Suspects that are run again at all. If more differ, it is not the tests that are unsteady.
SUSPECTS = 200
#: Unsteady tests that are remembered for a repository, and for how long since they were last caught, in seconds.
REMEMBERED, MEMORY = 2000, 90 * 24 * 3600

#: Runs only these tests, on the files that are in question.
Run = Callable[[Sequence[str]], Awaitable[Results]]


class Found(Struct, frozen=True):
    """The unsteady tests, sorted, and for each how it ended each time ("" when it did not run)."""

    tests: tuple[str, ...] = ()
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Suspects that were too many to be run again.
    unchecked: tuple[str, ...] = ()

    def together(self, other: Found) -> Found:
        """Both findings as one."""
        return Found(
            tuple(sorted({*self.tests, *other.tests})),
            {**self.seen, **other.seen},
            tuple(sorted({*self.unchecked, *other.unchecked})),
        )


def kind(outcome: str) -> str:
    """What of an outcome counts: `passed` and `xfailed` are the same to a verdict, `failed` and `error` too."""
    if outcome in PASSING:
        return "pass"
    return outcome if outcome in (SKIPPED, "") else "fail"


def differing(first: Results, second: Results) -> tuple[str, ...]:
    """The tests of two runs of the same files that ended differently or are in only one of them, sorted."""
    tests = first.cases.keys() | second.cases.keys()
    return tuple(
        sorted(test for test in tests if kind(_outcome(first, test)) != kind(_outcome(second, test)))
    )


def suspects(comparison: Comparison) -> tuple[str, ...]:
    """Tests whose outcome on the base a verdict hangs on: those that the change is said to have turned.

    New tests are not among them: the base does not have them.
    """
    new = frozenset(comparison.new)
    turned = {*comparison.fail_to_pass, *comparison.pass_to_fail} - new
    return tuple(sorted(turned - set(comparison.gone)))


async def find(first: Results, second: Results, run: Run, *, times: int = TIMES) -> Found:
    """The unsteady tests of two whole runs of the same files; only what differs is run again, to say how.

    Whatever differs is unsteady already. Running it again tells whether it is so by itself or only among others.
    """
    tests = differing(first, second)
    again = await unsteady(first, tests, run, times=times, all_times=True)
    seen = {
        test: (_outcome(first, test), _outcome(second, test), *again.seen.get(test, ())[1:]) for test in tests
    }
    return Found(tests, seen, again.unchecked)


async def unsteady(
    first: Results, tests: Sequence[str], run: Run, *, times: int = TIMES, all_times: bool = False
) -> Found:
    """Which of these tests end otherwise than in `first` when they are run again, up to `times` times.

    `run` must use the same files as `first`. A test that was caught is not run again, unless `all_times`. One that
    passes only alone, or only among others, is unsteady too: what it says does not hang on the change. A run in
    which a test does not show up says nothing of it; one that could not be judged is left out.
    """
    chosen, unchecked = tuple(tests[:SUSPECTS]), tuple(tests[SUSPECTS:])
    seen = {test: [_outcome(first, test)] for test in chosen}
    caught: set[str] = set()
    left = chosen
    for _ in range(times if chosen else 0):
        results = await run(left)
        if not results.judged or results.hung:
            continue
        for test in left:
            outcome = _outcome(results, test)
            if not outcome:
                continue
            seen[test].append(outcome)
            if kind(outcome) != kind(seen[test][0]):
                caught.add(test)
        if not all_times:
            left = tuple(test for test in left if test not in caught)
            if not left:
                break
    return Found(tuple(sorted(caught)), {test: tuple(each) for test, each in seen.items()}, unchecked)


class _Caught(Struct):
    times: int
    #: Wall time in seconds since the epoch.
    last: float


class Memory:
    """The unsteady tests of a repository, remembered in one file of its state folder.

    A file that is damaged or cannot be written is none: nothing here raises for it.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now

    def tests(self) -> tuple[str, ...]:
        """The ids that were caught lately, sorted."""
        return tuple(sorted(self._load()))

    def remember(self, tests: Iterable[str]) -> None:
        """Note that these were caught now. Those caught longest ago make room."""
        tests = tuple(tests)
        if not tests:
            return
        caught = self._load()
        for test in tests:
            caught[test] = _Caught(caught[test].times + 1 if test in caught else 1, self._now())
        newest = sorted(caught, key=lambda test: caught[test].last, reverse=True)[:REMEMBERED]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            private_dir(self.path.parent)
            write_private(temporary, msgspec.json.encode({test: caught[test] for test in newest}))
            temporary.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _load(self) -> dict[str, _Caught]:
        try:
            caught = msgspec.json.decode(self.path.read_bytes(), type=dict[str, _Caught])
        except (OSError, msgspec.DecodeError):
            return {}
        return {test: each for test, each in caught.items() if each.last > self._now() - MEMORY}


def _outcome(results: Results, test: str) -> str:
    case = results.cases.get(test)
    return case.outcome if case is not None else ""
