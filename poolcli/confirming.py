"""The last word on a run: its change judged in a fresh place, with the tests of its base, and looked at for tampering.

What passes in the run's own worktree may owe that to what lies around there, or to tests that were made to pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from poolcli.git import Repository
from poolcli.judge import FindUnsteady, beside, record
from poolcli.process import Finished
from poolcli.run import Run
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.verdict.runner import section
from poolcli.workspace import Workspace

if TYPE_CHECKING:
    from poolcli import fresh

T = TypeVar("T")

#: Findings that the model is told of; more of them say nothing new.
MOST_TOLD = 6
#: Files that were put back from the base, as people are told.
NAMED = 3


class Confirmed(Struct, frozen=True):
    """What came out. `told` is what the model is told when it does not hold, '' when it does."""

    told: str = ""
    #: Why the run can never be verified as it is, in one line; '' when nothing grave was found.
    tampered: str = ""


class Confirmer(Struct):
    """Confirms one run. `timeout` in seconds bounds the checks."""

    run: Run
    repo: Repository
    space: Workspace
    checks: Checks
    outputs: Path
    timeout: float
    #: Finds tests that fail now and then without any change.
    unsteady: FindUnsteady | None = None
    #: Commands that are checked beside the tests, by name (build, lint, types, coverage).
    beside: Mapping[str, str] = field(default_factory=dict)

    async def confirm(self) -> Confirmed:
        """Judge the change as it is now. Raises WorkspaceError when no fresh place can be made."""
        patch = self.space.patch()
        if not patch.strip():
            return Confirmed()  # nothing was changed: the checks ran on the base itself
        if tampered := self._tampered(patch):
            return tampered
        report, problem = await self._fresh(patch)
        if problem:
            return Confirmed(told=f"Your change cannot be applied to a clean checkout: {problem}")
        if report.ok and not self._about_tests and (gone := self._gone(report)):
            names = ", ".join(gone[:MOST_TOLD]) + (
                f" and {len(gone) - MOST_TOLD} more" if len(gone) > MOST_TOLD else ""
            )
            return Confirmed(
                told=f"The checks pass, but tests that passed before do not run any more: {names}"
            )
        if report.ok:
            return Confirmed(told=await self._beside(patch))
        where = "in a clean checkout of the repository with your change and the tests as they were"
        return Confirmed(
            told=f"The checks pass in your worktree, but not {where}.\n{section(self.checks, report)}"
        )

    async def _beside(self, patch: bytes) -> str:
        """The checks beside the tests: what the model is told of those that the change made worse; '' when none."""

        async def on_base(command: str) -> tuple[Finished, str]:
            return await self._fresh_place(b"", lambda place: run_in(place, command), own_tests=False)

        async def run_in(place: fresh.Place, command: str) -> tuple[Finished, str]:
            log = self.outputs / f"base-{len(self.run.events)}.txt"
            return await place.space.run(command, timeout=self.timeout, log=log), str(place.space.seen)

        async def all_of(place: fresh.Place) -> str:
            text = patch.decode("utf-8", "surrogateescape")
            told = []
            for name, command in self.beside.items():
                found = await beside(
                    self.run,
                    place.space,
                    on_base,
                    text,
                    name,
                    command,
                    outputs=self.outputs,
                    timeout=self.timeout,
                )
                if found.ok is False:
                    failed = Report("failed", None, 0.0, None, text=found.text)
                    told.append(section(Checks(command, "[checks]", name), failed))
            return (
                "\n".join(["The tests pass, but the change made other checks worse.", *told]) if told else ""
            )

        return await self._fresh_place(patch, all_of, own_tests=True) if self.beside else ""

    def _gone(self, report: Report) -> Sequence[str]:
        """Tests that passed before and are not there any more, although the tests are those of the base."""
        from poolcli.verdict.comparison import PASSING

        done = (event.data for event in self.run.events if event.type == "checks.done")
        before = next((data for data in done if data["phase"] == "baseline"), None)
        if before is None or not before["tests"] or not report.tests:
            return ()
        gone = [t for t, outcome in before["tests"].items() if outcome in PASSING and t not in report.tests]
        # A name can get lost in what tests print; a number in the runner's last line does not.
        then, now = sum((before["counts"] or {}).values()), sum((report.counts or {}).values())
        return sorted(gone) if now < then else ()

    def _tampered(self, patch: bytes) -> Confirmed | None:
        """What in the change makes tests pass without the code being right; recorded, the light findings too."""
        from poolcli import fresh
        from poolcli.verdict.tampering import look

        found = look(
            patch.decode("utf-8", "surrogateescape"),
            fresh.texts(self.repo, self.space.base),
            self.space.read_text,
            task=self._task,
            events=self.run.events,
            later=fresh.later(self.repo, self.space.base),
        )
        findings = [
            {"kind": f.kind, "severity": f.severity, "path": f.path, "line": f.line, "text": f.text}
            for f in found
        ]
        if findings != self._earlier:  # none after some: it was taken back
            self.run.emit("tampering.found", findings=findings)
        grave = [f"{f.path}:{f.line}: {f.text}" if f.path else f.text for f in found if f.severity == "high"]
        if not grave:
            return None
        lines = "\n".join(f"- {line}" for line in grave[:MOST_TOLD])
        return Confirmed(
            told="pool does not accept a change that makes the checks pass without the code being right. "
            f"Take this back, and mend the code itself:\n{lines}",
            tampered=f"{grave[0]}" + (f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""),
        )

    @property
    def _earlier(self) -> list[dict[str, object]]:
        told = (e.data["findings"] for e in reversed(self.run.events) if e.type == "tampering.found")
        return list(next(told, []))

    @property
    def _task(self) -> str:
        return next((str(e.data["task"]) for e in self.run.events if e.type == "run.started"), "")

    @property
    def _about_tests(self) -> bool:
        from poolcli.verdict.restore import about_tests

        return about_tests(self._task)

    async def _fresh(self, patch: bytes) -> tuple[Report, str]:
        """The checks in a fresh place, recorded, and why the change does not apply there ('' when it does).

        A task about tests is judged with its own: the old ones may be what it was to change. What those of the base
        say is recorded, too, and people are told.
        """
        if not self._about_tests:
            report, problem, _ = await self._judged(patch, own_tests=False)
            return report, problem
        other, problem, put_back = await self._judged(patch, own_tests=False, only_if_restored=True)
        if problem:
            return other, problem
        if put_back:
            said = "pass" if other.ok else "do not pass"
            self.run.notice(
                f"the task is about tests, so the change is judged by its own; those of the base {said} with it "
                f"({put_back})",
                code="both-tests",
            )
        report, problem, _ = await self._judged(patch, own_tests=True)
        return report, problem

    async def _judged(
        self, patch: bytes, *, own_tests: bool, only_if_restored: bool = False
    ) -> tuple[Report, str, str]:
        """One run of the checks in a fresh place: the report, why the change does not apply, what was put back."""

        async def work(place: fresh.Place) -> tuple[Report, str, str]:
            nothing = Report("error", None, 0.0, None)
            if place.problem:
                return nothing, place.problem, ""
            put_back = ", ".join(place.plan.paths[:NAMED])
            if only_if_restored and not put_back:
                return nothing, "", ""
            report = await record(
                self.run,
                place.space,
                self.checks,
                "verdict",
                outputs=self.outputs,
                timeout=self.timeout,
                unsteady=self.unsteady,
            )
            return report, "", put_back

        return await self._fresh_place(patch, work, own_tests=own_tests)

    async def _fresh_place(
        self, patch: bytes, work: Callable[[fresh.Place], Awaitable[T]], *, own_tests: bool
    ) -> T:
        from poolcli import fresh

        return await fresh.judge(
            self.repo,
            work,
            base=self.space.base,
            patch=patch,
            state=self.run.dir.parent.parent,
            sandbox=self.space.sandbox,
            own_tests=own_tests,
            confine=self.space.confine,
            packages=self.space.packages,
        )
