"""The evidence for any change, a run's or a person's: judged in fresh places, before and after, as one sheet."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from poolcli import fresh, process
from poolcli.fresh import Place
from poolcli.git import Repository, git
from poolcli.process import Finished
from poolcli.sandbox import Sandbox
from poolcli.verdict import baseline, flaky, measuring, restore, tampering
from poolcli.verdict import grade as grades
from poolcli.verdict import sheet as sheets
from poolcli.verdict.comparison import Comparison
from poolcli.verdict.grade import Grade
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import Case, Results
from poolcli.verdict.reward import Refinement
from poolcli.verdict.sheet import Extra, Sheet
from poolcli.verdict.tampering.findings import Finding

if TYPE_CHECKING:
    from poolcli.verdict.coverage import Coverage
    from poolcli.verdict.mutants import Strength

#: Seconds that the checks of the base may take for tests that differ to be run again.
CHEAP = 60.0
#: How often they are run again: a test that fails half the time is found out three times in four.
AGAIN = 2
#: Characters of the end of a check's output.
TAIL = 2000
#: Files of a change that a note names.
NAMED = 5
#: Programs whose version decides what the checks of a base say, beside those that the command begins with.
_PROGRAMS = ("python3", "python", "node", "go", "cargo", "java", "ruby", "php", "cc", "make")


class Line(Protocol):
    """Says that something runs, for as long as the block is."""

    async def __aenter__(self) -> Line: ...

    async def __aexit__(self, *ended: object) -> None: ...

    def output(self, text: str) -> None:
        """Take what was written."""


class Wish(Struct, frozen=True):
    """What is asked for. `tests` are the recipes, nearest first; `checks` commands by name (build, lint, types …).

    `timeout` is in seconds for each command. `mutants` are tried at most, 0 for none.
    """

    tests: tuple[Recipe, ...]
    timeout: float
    checks: Mapping[str, str] = field(default_factory=dict)
    mutants: int = 0
    coverage: bool = False


class _Ran(Struct, frozen=True):
    """What all recipes said together."""

    results: Results
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    timed_out: bool = False
    seconds: float = 0.0
    #: The recipe that each test came from.
    source: Mapping[str, Recipe] = field(default_factory=dict)


async def verify(
    repo: Repository,
    *,
    base: str,
    patch: bytes,
    task: str,
    subject: str,
    state: Path,
    sandbox: Sandbox,
    wish: Wish,
    line: Callable[[str], Line],
    events: Iterable[tampering.Occurred] = (),
) -> Sheet:
    """Judge a change by execution. The user's checkout is only read; every place is removed, however this ends.

    `base` is the commit that the patch is against, `task` what was asked for (tests may be edited when it is about
    tests), `subject` the change in words. `line` is told what runs; `events` are those of the run that made the
    change. Raises WorkspaceError when no place can be made, UsageError for a patch that was cut off.
    """
    work = _Verification(repo, base, patch, task, state, sandbox, wish, line)
    return await work.sheet(subject, events)


class _Verification:
    """One change on its way to its sheet."""

    def __init__(
        self,
        repo: Repository,
        base: str,
        patch: bytes,
        task: str,
        state: Path,
        sandbox: Sandbox,
        wish: Wish,
        line: Callable[[str], Line],
    ) -> None:
        self.repo, self.base, self.patch, self.task = repo, base, patch, task
        self.state, self.sandbox, self.wish, self.line = state, sandbox, wish, line
        self.text = patch.decode("utf-8", "surrogateescape")
        self.notes: list[str] = []

    async def sheet(self, subject: str, events: Iterable[tampering.Occurred]) -> Sheet:
        """All of it."""
        sheet = Sheet(subject, self.base, tuple(recipe.command for recipe in self.wish.tests))
        with self._place(self.patch, own_tests=True) as place:
            if place.problem:
                return replace(
                    _graded(sheet, grades.rejected("the change does not apply")),
                    notes=(f"git says: {place.problem}",),
                )
            findings = self._findings(place, events)
        before = await self._before()
        # A task about tests is judged by the tests of the change, and by those of the base, and that is said.
        about = restore.about_tests(self.task)
        own: _Ran | None = None
        extras: tuple[Extra, ...] = ()
        with self._place(self.patch) as place:
            plan = place.plan
            builds, extras = await self._extras(place)
            after = await self._run(place, "after the change") if builds else _Ran(Results())
        if builds and about and not plan.empty:
            with self._place(self.patch, own_tests=True) as place:
                own = await self._run(place, "after the change, with its own tests")
        elif not plan.empty:
            self.notes.append(f"judged by the tests of the base; put back: {_named(plan.paths)}")
        judged = own or after
        new_on_base = await self._new_on_base(before, own) if own is not None else {}
        if not builds:
            return self._done(
                sheet, grades.rejected("the change does not build"), before, None, findings, extras
            )
        grade = self._grade(before, judged, new_on_base, ())
        unsteady = await self._flaky(before, grade.comparison) if grade.valid else ()
        strength: Strength | None = None
        coverage: Coverage | None = None
        if self.wish.coverage:
            coverage = await self._coverage(own_tests=own is not None)
        if self.wish.mutants:
            strength = await self._strength(own_tests=own is not None)
        said = {extra.name: extra.ok for extra in extras}
        refinement = Refinement(
            lint=_share(said.get("lint")),
            types=_share(said.get("types")),
            coverage=coverage.share if coverage else None,
            mutation=strength.rate if strength else None,
        )
        grade = self._grade(before, judged, new_on_base, unsteady, refinement)
        if own is not None:
            other = self._grade(before, after, {}, unsteady)
            self.notes.append(
                f"the task is about tests, so the change is judged by its own tests; by those of the base: "
                f"{other.label}, {other.why}"
            )
        sheet = replace(sheet, strength=strength, coverage=coverage)
        return self._done(sheet, grade, before, judged, findings, extras)

    def _place(self, patch: bytes, *, own_tests: bool = False) -> fresh._GeneratorPlace:
        return fresh.place(
            self.repo,
            base=self.base,
            patch=patch,
            state=self.state,
            sandbox=self.sandbox,
            own_tests=own_tests,
        )
