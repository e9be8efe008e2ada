"""The failed and the affected tests first, everything only when those pass: what a run of the checks begins with.

Remembers what the tests of one run said. Which of them an edit can have touched is found in `verdict.affected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from poolcli.verdict.evidence import Report
from poolcli.verdict.recipes import Recipe

if TYPE_CHECKING:
    from poolcli.verdict.imports import ImportCache

#: Seconds from which on choosing tests is worth it: it takes some tenths itself, and the model thinks for seconds.
SLOW = 5.0
#: Time for chosen tests, as a multiple of what everything took, and at least this many seconds: an edit can make a
#: test endless, and then nobody should wait as long as for the whole suite.
TIMES, LEAST = 5.0, 60.0


class Place(Protocol):
    """The part of a workspace that is looked at."""

    @property
    def root(self) -> Path: ...

    def files(self) -> list[tuple[str, int]]: ...

    def changed(self) -> list[str]: ...


class Stages:
    """What to run before everything. `recipe` is how tests are chosen; `cache` keeps what files import."""

    def __init__(self, place: Place, recipe: Recipe | None, cache: Path | None = None) -> None:
        self._place, self.recipe, self._path = place, recipe, cache
        self._imports: ImportCache | None = None
        #: Outcome by test of the last run of everything, in the runner's order.
        self._tests: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._files: dict[str, str] = {}
        self._whole = 0.0
        #: What failed since everything ran last: one that passed in between may fail again.
        self._failed: set[str] = set()

    def learn(self, tests: Mapping[str, str], seconds: float, *, chosen: bool, report: Report | None) -> None:
        """Take in a run of the checks: of everything, or of `chosen` tests. `seconds` is what it took."""
        flaky = report.flaky if report is not None else ()
        bad = {
            test for test, outcome in tests.items() if outcome in ("failed", "error") and test not in flaky
        }
        if chosen:
            self._failed |= bad
            return
        cases = report.results.cases if report is not None else {}
        self._tests, self._whole, self._failed = dict(tests), seconds, bad
        self._seconds = {test: case.seconds for test, case in cases.items() if case.seconds}
        self._files = {test: case.file for test, case in cases.items() if case.file}

    @property
    def total(self) -> int:
        """How many tests there are, as far as known."""
        return len(self._tests)

    @property
    def limit(self) -> float:
        """Seconds that chosen tests may take."""
        return max(LEAST, TIMES * self._whole)

    def plan(self) -> tuple[tuple[str, ...], ...]:
        """The groups of tests to run one after another, each when the one before passed; often there are none."""
        if self.recipe is None or self._whole < SLOW or not self._tests:
            return ()
        from poolcli.verdict.affected import order, start_of
        from poolcli.verdict.imports import ImportCache, build

        changed = self._place.changed()
        if self._imports is None:
            self._imports = ImportCache(self._path)
        files = dict.fromkeys([*(name for name, _ in self._place.files()), *changed])
        graph = build(self._place.root, files, self._imports)
        known = order(list(self._tests), changed, self._failed, graph, files=self._files)
        start = start_of(self._whole, sum(self._seconds.values()), few=False) if self._seconds else 0.0
        seconds = self._seconds or dict.fromkeys(self._tests, self._whole / len(self._tests))
        stages = known.stages(seconds=seconds, start=start, whole=self._whole)
        return tuple(group for group in stages if self._selectable(group))

    def _selectable(self, group: Sequence[str]) -> bool:
        return self.recipe is not None and bool(self.recipe.selecting(group))
