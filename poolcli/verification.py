"""The evidence for any change, a run's or a person's: judged in fresh places, before and after, as one sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from poolcli import baselines, beneath, extras, fresh
from poolcli.extras import Extra
from poolcli.fresh import Place
from poolcli.git import Repository
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
from poolcli.verdict.sheet import Sheet
from poolcli.verdict.tampering.findings import Finding
from poolcli.verdict.tampering.history import Occurred

if TYPE_CHECKING:
    from poolcli.setup import Ready
    from poolcli.verdict.coverage import Coverage
    from poolcli.verdict.mutants import Strength

#: Seconds that the checks of the base may take for tests that differ to be run again.
CHEAP = 60.0
#: How often they are run again: a test that fails half the time is found out three times in four.
AGAIN = 2
#: Files of a change that a note names.
NAMED = 5


class Line(Protocol):
    """Says that something runs, for as long as the block is."""

    async def __aenter__(self) -> Line: ...

    async def __aexit__(self, *ended: object) -> None: ...

    def output(self, text: str) -> None:
        """Take what was written."""


class Wish(Struct, frozen=True):
    """What is asked for. `tests` are the recipes, nearest first; `checks` commands by name (build, lint, types …).

    `timeout` is in seconds for each command. `mutants` are tried at most, 0 for none. `packages` are those of a setup.
    """

    tests: tuple[Recipe, ...]
    timeout: float
    checks: Mapping[str, str] = field(default_factory=dict)
    mutants: int = 0
    coverage: bool = False
    packages: Ready | None = None


class _Ran(Struct, frozen=True):
    """What all recipes said together."""

    results: Results
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    timed_out: bool = False
    seconds: float = 0.0
    #: Tests of the base that were found to be unsteady earlier.
    flaky: tuple[str, ...] = ()


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
    events: Iterable[Occurred] = (),
    places: list[str] | None = None,
) -> Sheet:
    """Judge a change by execution. The user's checkout is only read; every place is removed, however this ends.

    `base` is the commit that the patch is against, `task` what was asked for (tests may be edited when it is about
    tests), `subject` the change in words. `line` is told what runs; `events` are those of the run that made the
    change. The names of the places go to `places`: what was started in one is marked with it, for
    `process.kill_marked` in haste. Raises WorkspaceError when no place can be made, UsageError for a patch that was
    cut off.
    """
    work = _Verification(repo, base, patch, task, state, sandbox, wish, line)
    work.places = [] if places is None else places
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
        self._kept, self._key = baseline.Baselines(state / "verify-bases"), ""
        self.notes: list[str] = []
        self.places: list[str] = []
        self._built: set[Path] = set()

    async def sheet(self, subject: str, events: Iterable[Occurred]) -> Sheet:
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
        beside: tuple[Extra, ...] = ()
        with self._place(self.patch) as place:
            plan = place.plan
            builds, beside = await self._extras(place)
            after = await self._run(place, "after the change") if builds else _Ran(Results())
        if builds and about and not plan.empty:
            with self._place(self.patch, own_tests=True) as place:
                own = await self._run(place, "after the change, with its own tests")
        elif not plan.empty:
            self.notes.append(f"judged by the tests of the base; put back: {_named(plan.paths)}")
            if not self._touched() - set(plan.paths):
                self.notes.append("nothing else is changed, so what was judged is the base itself")
        judged = own or after
        new_on_base = await self._new_on_base(before, own) if own is not None else {}
        if not builds:
            return self._done(
                sheet, grades.rejected("the change does not build"), before, None, findings, beside
            )
        grade = self._grade(before, judged, new_on_base, ())
        unsteady = await self._flaky(before, grade.comparison) if grade.valid else ()
        strength: Strength | None = None
        coverage: Coverage | None = None
        if self.wish.coverage and grade.valid:
            coverage = await self._coverage(own_tests=own is not None)
        if self.wish.mutants and grade.valid:
            strength = await self._strength(judged, own_tests=own is not None)
        said = {extra.name: extra.share for extra in beside}
        refinement = Refinement(
            lint=said.get("lint"),
            types=said.get("types"),
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
        return self._done(sheet, grade, before, judged, findings, beside)

    @contextmanager
    def _place(self, patch: bytes, *, own_tests: bool = False) -> Iterator[Place]:
        with fresh.place(
            self.repo,
            base=self.base,
            patch=patch,
            state=self.state,
            sandbox=self.sandbox,
            own_tests=own_tests,
            packages=self.wish.packages,
        ) as place:
            self.places.append(place.space.run_dir.name)
            yield place

    def _findings(self, place: Place, events: Iterable[Occurred]) -> tuple[Finding, ...]:
        return tampering.look(
            self.text,
            fresh.texts(self.repo, self.base),
            lambda path: _file(place.root, path),
            task=self.task,
            events=events,
            later=fresh.later(self.repo, self.base),
        )

    async def _command(
        self, place: Place, command: str, title: str, log: Path, timeout: float = 0.0
    ) -> Finished:
        space = place.space
        async with self.line(title) as line:
            return await space.run(
                command,
                timeout=timeout or self.wish.timeout,
                log=log,
                limit=measuring.LOG,
                on_output=line.output,
            )

    async def _run(
        self, place: Place, when: str, chosen: Mapping[Recipe, Sequence[str]] | None = None
    ) -> _Ran:
        """All recipes, or of each only the chosen tests, one after the other."""
        cases: dict[str, Case] = {}
        commands, notes, seconds, timed_out = [], [], 0.0, False
        bad = Results()
        many = len(self.wish.tests) > 1

        async def execute(command: str, title: str, log: Path) -> Finished:
            return await self._command(place, command, f"{when}: {title}", log)

        await self._build(place)
        for recipe in chosen if chosen is not None else self.wish.tests:
            tests = chosen[recipe] if chosen is not None else ()
            with place.space.scratch() as scratch:
                measured = await measuring.measure(
                    recipe, execute, root=place.space.seen, scratch=scratch, tests=tests
                )
            commands.append(measured.command)
            if measured.note:
                notes.append(measured.note)
            seconds += measured.finished.seconds
            timed_out = timed_out or measured.finished.timed_out
            results = _with_exit(recipe, measured)
            for case in results.cases.values():
                # Two packages may have a test of the same name.
                name = f"{recipe.folder}/{case.id}" if many and recipe.folder else case.id
                cases[name] = replace(case, id=name)
            bad = replace(
                bad,
                problem=bad.problem or results.problem,
                hung=bad.hung or results.hung,
                crashed=bad.crashed or results.crashed,
            )
        results = replace(bad, cases=cases)
        return _Ran(results, tuple(commands), tuple(notes), timed_out, seconds)

    async def _build(self, place: Place) -> None:
        """Build in a place where it was not done; what comes of it the tests will say."""
        if (command := self.wish.checks.get("build")) and place.root not in self._built:
            self._built.add(place.root)
            with place.space.scratch() as scratch:
                await self._command(place, command, f"build: {command}", scratch / "log.txt")

    async def _before(self) -> _Ran:
        """What the checks say of the base; from what is kept, when these files were judged already."""
        programs = [recipe.bare.split(" ", 1)[0] for recipe in self.wish.tests]
        commands = "\n".join(
            [self.wish.checks.get("build", ""), *(recipe.command for recipe in self.wish.tests)]
        )
        if self.wish.packages is not None:
            commands += f"\nsetup {self.wish.packages.key}"
        self._key = baselines.key(self.repo, self.base, commands, programs)
        if (found := self._kept.get(self._key)) is not None:
            self.notes.append("the result of the base was kept from an earlier time")
            return _Ran(found.results, seconds=found.seconds, flaky=found.flaky)
        with self._place(b"") as place:
            ran = await self._run(place, "the base")
        self.notes += ran.notes
        self._kept.put(self._key, baseline.Baseline(ran.results, (), ran.seconds))
        return ran

    async def _new_on_base(self, before: _Ran, own: _Ran) -> dict[str, str]:
        """How the tests that the change brings end on the code of the base."""
        if not own.results.cases.keys() - before.results.cases.keys():
            return {}
        with self._place(_tests_only(self.patch), own_tests=True) as place:
            if place.problem:
                return {}
            ran = await self._run(place, "the new tests on the base")
        return grades.outcomes(ran.results)

    async def _extras(self, place: Place) -> tuple[bool, tuple[Extra, ...]]:
        """Build, lint, types and coverage as configured; whether the change builds."""
        found = []
        for name, command in self.wish.checks.items():

            async def after(command: str, name: str = name) -> tuple[Finished, str]:
                return await self._beside(place, command, f"{name}: {command}")

            async def base(command: str, name: str = name) -> tuple[Finished, str]:
                with self._place(b"") as before:
                    return await self._beside(before, command, f"{name} of the base: {command}")

            if name == "build":
                self._built.add(place.root)
            found.append(await extras.judge(name, command, self.text, after=after, base=base))
            if found[-1].note:
                self.notes.append(f"{name}: {found[-1].note}")
        return not any(extra.name == "build" and extra.ok is False for extra in found), tuple(found)

    async def _beside(self, place: Place, command: str, title: str) -> tuple[Finished, str]:
        with place.space.scratch() as scratch:
            return await self._command(place, command, title, scratch / "log.txt"), str(place.space.seen)

    async def _flaky(self, before: _Ran, comparison: Comparison) -> tuple[str, ...]:
        """Tests that the change seems to have turned and that end otherwise on the base, too, when run again."""
        chosen: dict[Recipe, list[str]] = {}
        for test in flaky.suspects(comparison)[: flaky.SUSPECTS]:
            recipe = self._source(test)
            if recipe is not None and recipe.selecting([test]):
                chosen.setdefault(recipe, []).append(test)
        if not chosen or before.seconds > CHEAP:
            return before.flaky
        with self._place(b"") as place:

            async def again(tests: Sequence[str]) -> Results:
                some = {recipe: [test for test in mine if test in tests] for recipe, mine in chosen.items()}
                some = {recipe: mine for recipe, mine in some.items() if mine and recipe.selecting(mine)}
                return (await self._run(place, "what differs, on the base again", some)).results

            tests = [test for mine in chosen.values() for test in mine]
            found = await flaky.unsteady(before.results, tests, again, times=AGAIN)
        unsteady = tuple(sorted({*before.flaky, *found.tests}))
        if unsteady != before.flaky:
            self._kept.put(self._key, baseline.Baseline(before.results, unsteady, before.seconds))
        return unsteady

    def _source(self, test: str) -> Recipe | None:
        """The recipe that a test comes from, by the folder that its name begins with."""
        recipes = self.wish.tests
        if len(recipes) == 1:
            return recipes[0]
        own = [recipe for recipe in recipes if not recipe.folder or test.startswith(f"{recipe.folder}/")]
        return max(own, key=lambda recipe: len(recipe.folder), default=None)

    def _grade(
        self,
        before: _Ran,
        after: _Ran,
        new_on_base: Mapping[str, str],
        unsteady: Sequence[str],
        refinement: Refinement | None = None,
    ) -> Grade:
        return grades.grade(
            before.results,
            after.results,
            new_on_base=new_on_base,
            flaky=unsteady,
            timed_out=after.timed_out,
            refinement=refinement,
        )

    async def _coverage(self, *, own_tests: bool) -> Coverage:
        from poolcli.verdict import coverage

        changed = self._changed()
        with (
            self._place(self.patch, own_tests=own_tests) as place,
            place.space.scratch() as scratch,
        ):
            await self._build(place)
            folder = scratch / "lines"
            command = coverage.instrumented(
                _together([recipe.command for recipe in self.wish.tests], "; "),
                folder,
                place.space.seen,
                changed,
            )
            if not command:
                return coverage.Coverage(problem="no changed line holds code that can be looked at")
            await self._command(place, command, "which changed lines run", scratch / "log.txt")
            return coverage.read(folder, place.space.seen, changed)

    async def _strength(self, judged: _Ran, *, own_tests: bool) -> Strength:
        """How many small errors in the change the tests notice; those near each file run first."""
        from poolcli.verdict import imports, mutants
        from poolcli.verdict.near_tests import hasty, near_tests

        changed = self._changed()
        with (
            self._place(self.patch, own_tests=own_tests) as place,
            place.space.scratch() as scratch,
        ):
            title = "small error 1"

            def progress(count: int, many: int) -> None:
                nonlocal title
                title = f"small error {count + 1}" if count < many else "all small errors taken out"

            def running(text: str) -> mutants.Command:
                async def command(timeout: float) -> Finished:
                    return await self._command(place, text, title, scratch / "log.txt", timeout)

                return command

            sources = {path: text for path in changed if (text := _file(place.root, path)) is not None}
            files = [name for name, _ in place.space.files()]
            near = near_tests(
                judged.results.cases,
                self._source,
                imports.build(place.root, files),
                changed,
                whole=judged.seconds,
            )
            everything = _together([hasty(recipe, recipe.command) for recipe in self.wish.tests], " && ")
            await self._build(place)
            run = mutants.Scratch(
                place.root,
                running(everything),
                timeout=self.wish.timeout,
                near={path: running(text) for path, text in near.items()},
            )
            try:
                return await mutants.strength(
                    sources, changed, run, most=self.wish.mutants, progress=progress
                )
            except OSError as error:
                return mutants.Strength(
                    problem=f"the files under test could not be changed: {error.strerror or error}"
                )

    def _changed(self) -> dict[str, frozenset[int]]:
        """The changed lines of the product's code, by path."""
        from poolcli.verdict.changed_lines import changed_lines
        from poolcli.verdict.mutants import is_mutable

        return {
            path: lines
            for path, lines in changed_lines(self.text).items()
            if is_mutable(path) and not restore.is_test(path)
        }

    def _touched(self) -> set[str]:
        from poolcli.verdict.tampering.changes import paths

        return {path for old, new, _ in paths(self.text) for path in (old, new) if path}

    def _done(
        self,
        sheet: Sheet,
        grade: Grade,
        before: _Ran,
        after: _Ran | None,
        findings: tuple[Finding, ...],
        beside: tuple[Extra, ...],
    ) -> Sheet:
        if any(finding.severity == "high" for finding in findings):
            grade = replace(
                grades.rejected("the change tampers with what judges it"), comparison=grade.comparison
            )
        sheet = _graded(sheet, grade)
        first = before.results
        if after is None:
            return replace(
                sheet,
                before=_counts(first),
                findings=findings,
                extras=_lines(beside),
                notes=tuple(self.notes),
            )
        last = after.results
        self.notes += [note for note in after.notes if note not in self.notes]
        texts = {
            case.id: case.text for results in (first, last) for case in results.cases.values() if case.text
        }
        return replace(
            sheet,
            before=_counts(first),
            after=_counts(last),
            tests=sheets.rows(grades.outcomes(first), grades.outcomes(last), texts),
            flaky=grade.flaky,
            findings=findings,
            extras=_lines(beside),
            notes=tuple(self.notes),
        )


def _graded(sheet: Sheet, grade: Grade) -> Sheet:
    reason = f"{grade.reason}: {grade.why}" if grade.reason else grade.why
    return replace(sheet, label=grade.label, valid=grade.valid, reason=reason, reward=grade.reward)


def _with_exit(recipe: Recipe, measured: measuring.Measured) -> Results:
    """For commands of which only the exit code is known, that is one more test, of the command's name."""
    results, done = measured.results, measured.finished
    if recipe.runner not in measuring.UNREAD or done.timed_out or done.exit_code in (126, 127):
        return results
    outcome = "passed" if done.exit_code == 0 else "failed"
    text = "" if outcome == "passed" else done.output[-extras.TAIL :].strip()
    own = Case(recipe.command, outcome, text, done.seconds)
    # What could not be read of it is no problem then; what contradicts its exit code still is one.
    problem = results.problem if results.cases else ""
    return replace(results, cases={**results.cases, own.id: own}, problem=problem)


def _tests_only(patch: bytes) -> bytes:
    """The parts of a patch that touch nothing but tests and their configuration."""
    from poolcli.verdict.tampering.changes import paths

    head = b"diff --git "
    parts = (b"\n" + patch).split(b"\n" + head)[1:]
    kept = []
    for part in parts:
        whole = head + part.removesuffix(b"\n") + b"\n"
        touched = [
            path
            for old, new, _ in paths(whole.decode("utf-8", "surrogateescape"))
            for path in (old, new)
            if path
        ]
        if touched and all(restore.is_test(path) or restore.is_configuration(path) for path in touched):
            # A binary part ends with an empty line that belongs to it.
            kept.append(whole + (b"\n" if b"\nGIT binary patch\n" in whole else b""))
    return b"".join(kept)


def _file(root: Path, path: str) -> str | None:
    """A text of a place; None where there is none, or it is a link, binary or longer than is looked at."""
    from poolcli.workspace import LONGEST_TEXT

    try:
        with beneath.Folder(root) as folder:
            content = folder.head(path, LONGEST_TEXT + 1)
    except (OSError, beneath.PathRefused):
        return None
    if b"\0" in content or len(content) > LONGEST_TEXT:
        return None
    return content.decode("utf-8", "surrogateescape")


def _together(commands: Sequence[str], between: str) -> str:
    """Commands as one."""
    return commands[0] if len(commands) == 1 else between.join(f"({command})" for command in commands)


def _lines(beside: tuple[Extra, ...]) -> tuple[sheets.Extra, ...]:
    return tuple(sheets.Extra(extra.name, extra.ok, extra.command, extra.text) for extra in beside)


def _counts(results: Results) -> dict[str, int]:
    return dict(Counter(case.outcome for case in results.cases.values()))


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")
