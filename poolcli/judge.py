"""Runs the checks for a run and records what came back. The only judge of a run's result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from poolcli.run import Run
from poolcli.tools.base import Files, Output
from poolcli.verdict.evidence import Report
from poolcli.verdict.finder import Checks
from poolcli.verdict.runner import run_checks

Phase = Literal["baseline", "tool", "round", "verdict"]


async def record(
    run: Run, place: Files, checks: Checks, phase: Phase, *, outputs: Path, timeout: float
) -> Report:
    """Run the checks in a place and record what came back; their whole output goes to a file in `outputs`."""
    # Numbered by the events so far, not by this process: a resumed run must not overwrite earlier logs.
    log = outputs / f"checks-{len(run.events)}.txt"
    run.emit("checks.started", phase=phase, command=checks.command)
    report = await run_checks(place.run, checks, timeout=timeout, log=log, root=str(place.seen))
    run.emit(
        "checks.done",
        phase=phase,
        command=checks.command,
        ok=report.ok,
        status=report.status,
        exit_code=report.exit_code,
        seconds=round(report.seconds, 3),
        counts=report.counts,
        tests=report.tests,
        text=report.text,
        log=log.name,
    )
    return report


class Judge(Struct):
    """Runs `checks` in the workspace; `timeout` in seconds bounds each run of them."""

    run: Run
    workspace: Files
    checks: Checks | None
    outputs: Path
    timeout: float
    baseline: Report | None = None
    last: Report | None = None

    async def judge(self, phase: Phase) -> Report | None:
        """Run the checks and emit what came back; None when there are none to run."""
        if self.checks is None:
            return None
        report = await record(
            self.run, self.workspace, self.checks, phase, outputs=self.outputs, timeout=self.timeout
        )
        self.last = report
        if phase == "baseline":
            self.baseline = report
        return report

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
