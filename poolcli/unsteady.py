"""Tests that fail now and then without any change: looked for on the untouched base, and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from poolcli.git import Repository
from poolcli.run import Run
from poolcli.verdict.checks import Checks
from poolcli.verdict.comparison import PASSING
from poolcli.verdict.evidence import Report
from poolcli.verdict.results import Case, Results
from poolcli.workspace import Workspace

#: Tests of one run of the checks that are run again. When more turn red, it is the change and not the tests.
MOST = 20
#: How often: a test that fails half the time is found out three times in four.
AGAIN = 2
#: Seconds for one of these runs at most: the model waits meanwhile.
LONGEST = 120.0


class Unsteady(Struct):
    """Finds the unsteady ones among tests that passed before any change and fail now; each is tried once a run.

    `timeout` in seconds bounds the checks, `memory` is the file in which they are remembered.
    """

    run: Run
    repo: Repository
    space: Workspace
    checks: Checks
    outputs: Path
    timeout: float
    memory: Path
    steady: set[str] = field(default_factory=set)
    caught: set[str] = field(default_factory=set)

    async def __call__(self, report: Report) -> Sequence[str]:
        """The tests of the report that fail and are unsteady on the base. Raises WorkspaceError without a place."""
        # What failed before is what the change may have to mend, steady or not.
        before = self._before()
        turned = [test for test in report.results.bad if before.get(test) in PASSING]
        suspects = [test for test in turned if test not in self.steady and test not in self.caught]
        recipe = self.checks.recipe
        if recipe is not None and 0 < len(suspects) <= MOST and recipe.selecting(suspects):
            from poolcli.verdict.flaky import Memory

            memory = Memory(self.memory)
            self.caught |= set(suspects) & set(memory.tests())
            await self._try({test: before[test] for test in suspects if test not in self.caught})
            memory.remember(sorted(set(suspects) & self.caught))
        found = [test for test in turned if test in self.caught]
        if found:
            names = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            self.run.notice(
                f"not counted, they also fail now and then without the change: {names}",
                level="warning",
                code="flaky",
            )
        return found

    def _before(self) -> Mapping[str, str]:
        """Outcome by test before any change."""
        done = (event.data for event in self.run.events if event.type == "checks.done")
        tests: Mapping[str, str] = next((data["tests"] for data in done if data["phase"] == "baseline"), {})
        return tests

    async def _try(self, suspects: Mapping[str, str]) -> None:
        """Run tests that ended so on the base, again in a fresh place, and see whether they fail there, too."""
        from poolcli import fresh
        from poolcli.verdict import flaky
        from poolcli.verdict.runner import run_checks

        if not suspects:
            return
        first = Results({test: Case(test, outcome) for test, outcome in suspects.items()})

        async def work(place: fresh.Place) -> flaky.Found:
            async def again(tests: Sequence[str]) -> Results:
                with place.space.scratch() as scratch:
                    report = await run_checks(
                        place.space.run,
                        self.checks,
                        timeout=min(self.timeout, LONGEST),
                        log=self.outputs / f"unsteady-{len(self.run.events)}.txt",
                        root=str(place.root),
                        scratch=scratch,
                        tests=tests,
                    )
                return report.results

            return await flaky.unsteady(first, list(suspects), again, times=AGAIN)

        found = await fresh.judge(
            self.repo,
            work,
            base=self.space.base,
            patch=b"",
            state=self.run.dir.parent.parent,
            sandbox=self.space.sandbox,
        )
        self.caught |= set(found.tests)
        self.steady |= set(suspects) - set(found.tests)
