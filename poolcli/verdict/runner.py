"""Runs the checks and words their result for a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from poolcli import beneath
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report, report

if TYPE_CHECKING:
    from poolcli.process import Finished
    from poolcli.verdict.measuring import Measured

#: Read of a log whose output was too long to be kept in memory: enough for the names of 50,000 tests.
LOG_BYTES = 4_000_000

#: What could end this section or pose as another one. `<input` stays: it is HTML far more often.
_TAGS = re.compile(r"<(/?\s*(?:repository|instructions|changes|checks|task)\b|/\s*input\b)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class RunCommand(Protocol):
    """`Workspace.run`."""

    async def __call__(self, command: str, *, timeout: float, log: Path) -> Finished:
        """Run a shell command in the worktree; its whole output goes to `log`."""


async def run_checks(
    workspace_run: RunCommand,
    checks: Checks,
    *,
    timeout: float,
    log: Path,
    root: str,
    scratch: Path | None = None,
    tests: Sequence[str] = (),
    fall_back: bool = False,
) -> Report:
    """Run the checks once, at most `timeout` seconds. Never raises for checks that fail or cannot start.

    `root` is the path of the worktree as commands see it. `scratch` is an empty folder that commands may write to:
    with it, and where the checks have a recipe, results are read test by test. `tests` are those to run, by id, when
    not all of them are; the recipe must have a way to choose them. With `fall_back` something else is tried when no
    test can be read; only the untouched base may choose that, else a change could choose what judges it.
    """

    async def execute(command: str, title: str, _: Path) -> Finished:
        finished = await workspace_run(command, timeout=timeout, log=log)
        if finished.truncated or finished.size > len(finished.output):
            # Which tests failed may stand in the part that was left out. Bytes are compared with characters:
            # reading the log once too often does no harm.
            finished = replace(finished, output=_whole(log) or finished.output)
        if scratch is not None and str(scratch) in finished.output:
            # Where the report lies concerns nobody, and is another place each time.
            lines = finished.output.splitlines(keepends=True)
            finished = replace(finished, output="".join(each for each in lines if str(scratch) not in each))
        return finished

    recipe = checks.recipe
    try:
        if checks.build and (failed := _unbuilt(await execute(checks.build, checks.build, log), root)):
            return failed
        if recipe is None or scratch is None:
            return report(await execute(checks.command, checks.command, log), root=root)
        from poolcli.verdict import measuring

        if not fall_back:
            recipe = replace(recipe, fallbacks=())
        measured = await measuring.measure(recipe, execute, root=Path(root), scratch=scratch, tests=tests)
    except OSError as error:
        return Report("error", None, 0.0, None, text=f"the command could not be started: {error.strerror}")
    return replace(_judged(measured, root), chosen=len(tests))


def _unbuilt(finished: Finished, root: str) -> Report | None:
    """The report on a build that failed; None when it did not."""
    if finished.exit_code == 0 and not finished.timed_out:
        return None
    from poolcli.verdict.results import Results

    said = report(finished, root=root)
    status = "timeout" if finished.timed_out else "failed"
    text = f"The build fails, so no test ran.\n{said.text}"
    return Report(
        status,
        finished.exit_code,
        finished.seconds,
        None,
        text=text,
        results=Results(problem="the build failed"),
        built=False,
    )


def _judged(measured: Measured, root: str) -> Report:
    """The report on a recipe that ran. Without one test read it is no success, if its runner should name them."""
    from poolcli.verdict.measuring import UNREAD

    said = report(measured.finished, root=root, results=measured.results)
    if (
        said.status == "passed"
        and not said.tests
        and not said.counts
        and measured.recipe.runner not in UNREAD
    ):
        said = replace(said, status="none", text=f"{measured.results.problem}\n{said.text}")
    if measured.note:
        said = replace(said, text=f"({measured.note}: {measured.command})\n{said.text}", note=measured.note)
    return replace(said, recipe=measured.recipe)


def section(checks: Checks, report: Report) -> str:
    """The `<checks>` block of a message. What the checks printed can neither end it nor pose as another."""
    command = _CONTROL.sub(" ", checks.command).replace('"', "&quot;")
    body = _TAGS.sub(r"<\\\1", report.text)
    return f'<checks command="{command}" result="{report.status}">\n{body}\n</checks>'


def round_message(checks: Checks, report: Report, *, baseline_ok: bool = False) -> str:
    """What the model is told when it said that it was done and the checks disagree.

    `baseline_ok` says that the checks passed before anything was changed.
    """
    first = "The checks fail now." if baseline_ok else "The checks still fail."
    return f"{first}\n{section(checks, report)}"


def _whole(log: Path) -> str:
    """The log, or its head and tail when it is very long; '' when it cannot be read."""
    try:
        with beneath.open_regular(log, links=False) as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= LOG_BYTES:
                data = file.read()
            else:
                data = file.read(LOG_BYTES // 4) + b"\n"
                file.seek(size - LOG_BYTES * 3 // 4)
                data += file.read()
    except OSError:
        return ""
    return data.decode("utf-8", "replace")
