"""Runs a recipe and reads what came back, test by test, whoever asks and wherever it runs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import Results

if TYPE_CHECKING:
    from poolcli.process import Finished

#: Bytes of a check's output that are held: names of tens of thousands of tests.
LOG = 4_000_000
#: Runners of which only the exit code is known: whatever they start need not name a test.
UNREAD = ("script", "make")

#: What says that the project's own code is broken: something else that still runs would hide it.
_OWN_FAULT = re.compile(
    r"^(?:E?\s*)?ImportError while loading conftest|^SyntaxError: |\[build failed\]", re.M
)

#: Runs a shell command, its output going to the file; the title is the command as people know it.
Run = Callable[[str, str, Path], "Awaitable[Finished]"]


class Measured(Struct, frozen=True):
    """What a run of a recipe said. `recipe` and `command` (plain) are what was run, `note` says instead of what."""

    recipe: Recipe
    command: str
    finished: Finished
    results: Results
    note: str = ""
    #: The command with the options that ask for a report.
    asked: str = ""


async def measure(
    recipe: Recipe,
    run: Run,
    *,
    root: Path,
    scratch: Path,
    tests: Sequence[str] = (),
    say: Callable[[str], object] | None = None,
) -> Measured:
    """Run the recipe in `root`, and while no test can be read from it, what it can fall back on.

    `tests` are ids or files, all when empty; `scratch` is a folder for reports and logs. `say` is told when
    something else is tried. Raises OSError when no shell can be started.
    """
    measured = first = await once(recipe, run, root=root, scratch=scratch, tests=tests)
    done = first.finished
    if (
        not (first.results.cases or done.timed_out or tests)
        and done.exit_code
        and first.asked != recipe.command
    ):
        # The option that asks for a report may be what the runner refused.
        folder = _new(scratch, "plain")
        plain = await once(recipe, run, root=root, scratch=folder, plain=True)
        if plain.results.cases or plain.finished.exit_code == 0:
            measured = first = plain
    for number, other in enumerate(recipe.fallbacks, 1):
        finished = measured.finished
        if measured.results.cases or finished.timed_out or _OWN_FAULT.search(finished.output):
            break
        if finished.exit_code == 0 and measured.recipe.runner in UNREAD:
            break
        if tests and not other.selecting(tests):
            continue
        if say is not None:
            say(f"no test could be read from it; trying {other.command}")
        folder = _new(scratch, f"fallback-{number}")
        measured = await once(other, run, root=root, scratch=folder, tests=tests)
    if measured is first:
        return measured
    note = f"{first.command} gave no result for any test, so this was run instead"
    return replace(measured, note=note)


def _new(scratch: Path, name: str) -> Path:
    """A new folder: of a name that what ran before, which may write there, could not take first."""
    folder = scratch / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir()
    return folder


async def once(
    recipe: Recipe,
    run: Run,
    *,
    root: Path,
    scratch: Path,
    tests: Sequence[str] = (),
    plain: bool = False,
) -> Measured:
    """Run the recipe once, with a report where its runner can write one and `plain` does not forbid it.

    Otherwise as `measure`.
    """
    from poolcli.verdict import reports

    report = scratch / "report"
    named = recipe.selecting(tests) if tests else recipe.command
    asked = recipe.selecting(tests, str(report)) if tests else recipe.reporting(str(report))
    command = named if plain else asked or ("" if tests else recipe.detailed()) or named
    finished = await run(command, named, scratch / "log.txt")
    home = str(root / recipe.folder) if recipe.folder else str(root)
    results = reports.read_report(recipe.report_kind, report, root=home) if recipe.report_kind else None
    if results is None or not results.cases:
        from_log = reports.from_log(
            recipe.runner,
            finished.output,
            root=home,
            exit_code=finished.exit_code,
            timed_out=finished.timed_out,
        )
        results = from_log if results is None or from_log.cases else results
    results = reports.checked(results, finished.exit_code, finished.timed_out)
    return Measured(recipe, named, finished, results, asked=command)
