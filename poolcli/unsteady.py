"""Tests that fail now and then without any change: looked for on the untouched base, and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from poolcli.git import Repository
from poolcli.run import Run
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.workspace import Workspace

if TYPE_CHECKING:
    from poolcli.judge import Place
    from poolcli.verdict.results import Results

#: Tests of one run of the checks that are run again. When more turn red, it is the change and not the tests.
MOST = 20
#: How often, on the base and then with the change: one that fails half the time is caught three times in four.
AGAIN = 3
#: Seconds for one of these runs at most: the model waits meanwhile.
LONGEST = 120.0


class Unsteady(Struct):
    """Finds the unsteady ones among tests that passed before any change and fail now.

    A test is unsteady when runs of it on the base disagree with one another. One that fails there each time is not:
    it hangs on another test, or on something outside that was changed. With the change it must be able to pass, too:
    else the change broke it, unsteady or not.

    `timeout` in seconds bounds the checks, `memory` is the file in which the unsteady ones are remembered.
    """

    run: Run
    repo: Repository
    space: Workspace
    outputs: Path
    timeout: float
    memory: Path
    #: What is known of the base: each test is tried there once a run.
    steady: set[str] = field(default_factory=set)
    caught: set[str] = field(default_factory=set)

    async def find(self, checks: Checks, report: Report) -> Sequence[str]:
        """The tests of the report that fail and are unsteady. Raises WorkspaceError without a place for the base."""
        from poolcli.verdict.comparison import PASSING
        from poolcli.verdict.flaky import Memory

        before = self._before()
        # What failed before is what the change may have to mend, steady or not.
        turned = [test for test in report.results.bad if before.get(test) in PASSING]
        recipe = checks.recipe
        if recipe is None or not 0 < len(turned) <= MOST or not recipe.selecting(turned):
            return ()
        memory = Memory(self.memory)
        self.caught |= set(turned) & set(memory.tests())
        suspects = [test for test in turned if test not in self.caught | self.steady]
        if suspects:
            found = await self._on_base(checks, suspects)
            self.caught |= found
            self.steady |= set(suspects) - found
            memory.remember(sorted(found))
        caught = [test for test in turned if test in self.caught]
        able = await self._able(checks, caught) if caught else set()
        found_now = [test for test in caught if test in able]
        if found_now:
            names = ", ".join(found_now[:3]) + (
                f" and {len(found_now) - 3} more" if len(found_now) > 3 else ""
            )
            self.run.notice(
                f"not counted, they fail now and then without the change, too: {names}",
                level="warning",
                code="flaky",
            )
        return found_now

    def _before(self) -> Mapping[str, str]:
        """Outcome by test before any change."""
        done = (event.data for event in self.run.events if event.type == "checks.done")
        tests: Mapping[str, str] = next((data["tests"] for data in done if data["phase"] == "baseline"), {})
        return tests

    async def _on_base(self, checks: Checks, tests: Sequence[str]) -> set[str]:
        """Those that now pass and now fail on the untouched base."""
        from poolcli import fresh

        async def work(place: fresh.Place) -> tuple[set[str], set[str]]:
            return await self._tried(place.space, checks, tests)

        passed, failed = await fresh.judge(
            self.repo,
            work,
            base=self.space.base,
            patch=b"",
            state=self.run.dir.parent.parent,
            sandbox=self.space.sandbox,
            confine=self.space.confine,
            packages=self.space.packages,
        )
        return passed & failed

    async def _able(self, checks: Checks, tests: Sequence[str]) -> set[str]:
        """Those that pass with the change at least once."""
        passed, _ = await self._tried(self.space, checks, tests)
        return passed

    async def _tried(self, place: Place, checks: Checks, tests: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which passed at least once, and which failed at least once."""
        from poolcli.verdict.comparison import PASSING

        passed: set[str] = set()
        failed: set[str] = set()
        for _ in range(AGAIN):
            results = await self._once(place, checks, tests)
            if not results.judged or results.hung:
                continue
            passed |= {
                test for test in tests if test in results.cases and results.cases[test].outcome in PASSING
            }
            failed |= {test for test in tests if test in results.bad}
        return passed, failed

    async def _once(self, place: Place, checks: Checks, tests: Sequence[str]) -> Results:
        from poolcli.verdict.runner import run_checks

        with place.scratch() as scratch:
            report = await run_checks(
                place.run,
                checks,
                timeout=min(self.timeout, LONGEST),
                log=self.outputs / f"unsteady-{len(self.run.events)}.txt",
                root=str(place.seen),
                scratch=scratch,
                tests=tests,
            )
        return report.results
