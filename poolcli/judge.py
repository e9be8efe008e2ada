"""Runs the checks for a run and records what came back. The only judge of a run's result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from poolcli import extras
from poolcli.errors import WorkspaceError
from poolcli.process import Finished
from poolcli.run import Run
from poolcli.stages import Stages
from poolcli.tools.base import Files, Output
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.runner import run_checks

Phase = Literal["baseline", "tool", "round", "verdict", "extra"]

#: What a model is told of a run of chosen tests.
CHOSEN = "({} of {} tests ran: those that failed and those near your change; all of them run at the end)"

#: Finds which of the tests that a report calls failed are unsteady on the untouched base.
FindUnsteady = Callable[[Report], Awaitable[Sequence[str]]]


class Place(Files, Protocol):
    """Where checks run."""

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty folder beside the worktree that commands may write reports to."""


async def record(
    run: Run,
    place: Place,
    checks: Checks,
    phase: Phase,
    *,
    outputs: Path,
    timeout: float,
    tests: Sequence[str] = (),
    total: int = 0,
    unsteady: FindUnsteady | None = None,
) -> Report:
    """Run the checks in a place and record what came back; their whole output goes to a file in `outputs`.

    `tests` are those to run when not all are, of `total`. What `unsteady` finds does not make the checks red.
    """
    # Numbered by the events so far, not by this process: a resumed run must not overwrite earlier logs.
    log = outputs / f"checks-{len(run.events)}.txt"
    run.emit("checks.started", phase=phase, command=checks.command, chosen=len(tests), name="test")
    with place.scratch() as scratch:
        report = await run_checks(
            place.run,
            checks,
            timeout=timeout,
            log=log,
            root=str(place.seen),
            scratch=scratch,
            tests=tests,
            fall_back=phase == "baseline",
        )
    if tests:
        report = replace(report, text=f"{report.text}\n{CHOSEN.format(len(tests), total)}")
    if unsteady is not None and report.status == "failed":
        # Without a place to look for unsteady tests there are none: red is red.
        with contextlib.suppress(WorkspaceError, OSError):
            report = _forgiven(report, await unsteady(report))
    return _emitted(run, checks, phase, report, log=log.name)


async def beside(
    run: Run,
    place: Place,
    base: extras.Run,
    patch: str,
    name: str,
    command: str,
    *,
    outputs: Path,
    timeout: float,
) -> extras.Extra:
    """Run a check that stands beside the tests, and record how the change does by it. `base` runs it on the base."""
    log = outputs / f"checks-{len(run.events)}.txt"
    run.emit("checks.started", phase="extra", command=command, chosen=0, name=name)
    begun = time.monotonic()

    async def after(command: str) -> tuple[Finished, str]:
        return await place.run(command, timeout=timeout, log=log), str(place.seen)

    found = await extras.judge(name, command, patch, after=after, base=base)
    ok = bool(found.ok)
    report = Report(
        "error" if found.ok is None else "passed" if ok else "failed",
        None,
        time.monotonic() - begun,
        None,
        text=found.text,
        note=found.note,
    )
    _emitted(
        run, Checks(command, "[checks]", name), "extra", report, log=log.name, name=name, share=found.share
    )
    return found


def repeat(run: Run, checks: Checks, report: Report) -> Report:
    """Record a baseline that is known from an earlier run on the same files."""
    run.emit("checks.started", phase="baseline", command=checks.command, chosen=0, name="test")
    return _emitted(run, checks, "baseline", report, kept=True)


def _emitted(
    run: Run,
    checks: Checks,
    phase: Phase,
    report: Report,
    *,
    log: str = "",
    kept: bool = False,
    name: str = "test",
    share: float | None = None,
) -> Report:
    results = report.results
    run.emit(
        "checks.done",
        phase=phase,
        command=report.recipe.command if report.note and report.recipe is not None else checks.command,
        ok=report.ok,
        status=report.status,
        exit_code=report.exit_code,
        seconds=round(report.seconds, 3),
        counts=report.counts,
        tests=report.tests,
        chosen=report.chosen,
        flaky=list(report.flaky),
        hung=results.hung,
        crashed=results.crashed,
        problem=results.problem,
        built=report.built,
        note=report.note,
        kept=kept,
        name=name,
        share=share,
        text=report.text,
        log=log,
    )
    return report


def _forgiven(report: Report, flaky: Sequence[str]) -> Report:
    """The report without the unsteady tests: green when they alone explain that it is red."""
    if not flaky:
        return report
    left = [test for test in report.results.bad if test not in flaky]
    failed = report.counts["failed"] if report.counts else -1
    # A crash, a contradiction, a failure that no test accounts for is something else.
    explained = report.results.judged and failed == len(report.results.bad)
    names = ", ".join(flaky[:3]) + (f" and {len(flaky) - 3} more" if len(flaky) > 3 else "")
    line = f"(left out, they fail now and then without any change: {names})"
    return replace(
        report,
        status="passed" if explained and not left else "failed",
        text=f"{report.text}\n{line}",
        flaky=tuple(flaky),
    )


class Judge(Struct):
    """Runs `checks` in the workspace; `timeout` in seconds bounds each run of them."""

    run: Run
    workspace: Place
    checks: Checks | None
    outputs: Path
    timeout: float
    #: What runs before everything; None runs everything always.
    stages: Stages | None = None
    unsteady: FindUnsteady | None = None
    baseline: Report | None = None
    last: Report | None = None

    async def judge(self, phase: Phase) -> Report | None:
        """Run the checks and emit what came back; None when there are none to run.

        A tool's run ends with the tests that an edit can have touched; a round goes on to all of them.
        """
        if self.checks is None:
            return None
        stages = self.stages
        groups = stages.plan() if stages is not None and phase in ("tool", "round") else ()
        for number, tests in enumerate(groups, 1):
            report = await self._once(self.checks, phase, tests)
            if not report.ok and not report.results.bad:
                break  # choosing does not work here (a test is gone, it did not end): everything says more
            if not report.ok or (phase == "tool" and number == len(groups)):
                return report
        return await self.everything(phase)

    async def everything(self, phase: Phase) -> Report | None:
        """Run all checks and emit what came back; None when there are none to run."""
        return None if self.checks is None else await self._once(self.checks, phase, ())

    async def _once(self, checks: Checks, phase: Phase, tests: Sequence[str]) -> Report:
        stages, whole = self.stages, not tests
        limit = self.timeout if whole or stages is None else min(self.timeout, stages.limit)
        report = await record(
            self.run,
            self.workspace,
            checks,
            phase,
            outputs=self.outputs,
            timeout=limit,
            tests=tests,
            total=stages.total if stages is not None else 0,
            unsteady=self.unsteady if phase == "round" else None,
        )
        if stages is not None:
            stages.learn(report.tests, report.seconds, chosen=bool(tests), report=report)
        self.last = report
        if phase == "baseline":
            self.baseline = report
            self.judged_by(report.recipe)
        return report

    def judged_by(self, recipe: Recipe | None) -> None:
        """From now on this recipe alone decides: what the base could be judged by."""
        if self.checks is None or recipe is None or self.checks.recipe is None:
            return
        if recipe.command != self.checks.recipe.command:
            self.checks = replace(self.checks, command=recipe.command)
        self.checks = replace(self.checks, recipe=replace(recipe, fallbacks=()))
        if self.stages is not None:
            self.stages.recipe = self.checks.recipe

    def known(self, report: Report) -> None:
        """Take a baseline that was found out earlier."""
        self.baseline = self.last = report
        if self.stages is not None:
            self.stages.learn(report.tests, report.seconds, chosen=False, report=report)

    @property
    def current(self) -> bool:
        """Whether `last` is of pool's own round and no call ran since: the files are as they were judged."""
        for event in reversed(self.run.events):
            if event.type == "checks.done":
                return self.last is not None and event.data["phase"] == "round"
            if event.type == "tool.started":
                return False
        return False

    async def for_tool(self) -> Output:
        """What the tool `run_tests` gives back."""
        report = await self.judge("tool")
        if report is None:
            return Output(
                "There is no checks command in this repository. Use shell to try your change.", ok=False
            )
        show = {"type": "checks", "status": report.status, "counts": report.counts}
        return Output(report.text, (show,), report.status == "passed")
