"""`pool checks`: which commands check this repository and why; `pool checks run` runs them here."""

from __future__ import annotations

import asyncio
import json as json_codec
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from poolcli import beneath, config, git
from poolcli.config import Config
from poolcli.errors import ChecksError, Exit, UsageError
from poolcli.git import Repository, find_repository
from poolcli.sanitize import clean, in_json, shown
from poolcli.verdict import finder, measuring
from poolcli.verdict.recipes import Recipe, nearest
from poolcli.verdict.recipes.given import recognised

if TYPE_CHECKING:
    from poolcli.process import Finished

#: A file that the finder looks into is read up to this many bytes.
LOOKED_AT = 200_000
#: The order of what is not the tests: what does not build need not be linted.
BEFORE, AFTER = ("build",), ("lint", "types", "coverage")

#: What pytest says of a file or an id that is not there.
_NO_SUCH = re.compile(r"^ERROR: (?:file or directory )?not found: ", re.MULTILINE)


class Check(Struct, frozen=True):
    """One thing to run: `name` is test, build, lint, types or coverage; `source` who named it."""

    name: str
    source: str
    recipe: Recipe


class Outcome(Struct, frozen=True):
    """How one check ended. `status` is passed, failed, timeout, error, or none when no test ran.

    `tests` is the outcome by test id, `texts` why tests failed; `note` says what was run instead of what,
    `problem` why the result cannot be trusted.
    """

    name: str
    command: str
    status: str
    exit_code: int | None
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    tests: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    source: str = ""
    note: str = ""
    problem: str = ""
    hung: str = ""
    crashed: str = ""
    output: str = ""


def show(flags: Mapping[str, Any], *, json: bool = False) -> int:
    """Print what was found and why. Returns the exit code; raises PoolError outside of a repository."""
    repo = find_repository(Path.cwd())
    settings = config.load(repo.top, flags=flags)
    checks = gather(settings, repo)
    if json:
        sys.stdout.write(
            in_json(json_codec.dumps([_described(check) for check in checks], ensure_ascii=False, indent=2))
        )
        sys.stdout.write("\n")
        return 0
    for check in checks:
        sys.stdout.write(clean(_lines(check)) + "\n")
    for notice in settings.notices:
        sys.stderr.write(f"warning: {clean(notice, keep_newlines=False)}\n")
    if not any(check.name == "test" for check in checks):
        sys.stdout.write("test      none found: nothing would verify a run\n")
        sys.stdout.write('          name them: --test CMD, or test = "CMD" in .pool/config.toml\n')
    return 0


def run(tests: Sequence[str], flags: Mapping[str, Any], *, json: bool = False) -> int:
    """Run the checks in this checkout, only these tests (ids or files) when some are given.

    Returns 0 when everything passed, 3 when not. Raises ChecksError when there is nothing to run, UsageError for
    tests that no runner here can be asked for.
    """
    repo = find_repository(Path.cwd())
    settings = config.load(repo.top, flags=flags)
    checks = gather(settings, repo)
    if tests:
        chosen = _chosen([check for check in checks if check.name == "test"], tests)
    else:
        chosen = [(check, ()) for check in checks]
    if not chosen:
        raise ChecksError("no checks were found", "name them: --test CMD, or [checks] in .pool/config.toml")
    outcomes = []
    for check, selected in chosen:
        try:
            outcome = asyncio.run(_run(check, selected, repo.top, settings.checks_timeout, quiet=json))
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            return int(Exit.INTERRUPTED)
        outcomes.append(outcome)
        if not json:
            sys.stdout.write(clean(_result(outcome)) + "\n")
            sys.stdout.flush()
    if json:
        listed = [_json(outcome) for outcome in outcomes]
        sys.stdout.write(in_json(json_codec.dumps(listed, ensure_ascii=False, indent=2)) + "\n")
    passed = all(outcome.status == "passed" for outcome in outcomes)
    return int(Exit.VERIFIED if passed else Exit.NOT_VERIFIED)


def gather(settings: Config, repo: Repository) -> list[Check]:
    """Everything that checks this repository: what is configured, else what its files say; nearest to a change first.

    Raises GitError when the files cannot be listed.
    """
    read = reader(repo.top)
    if settings.test:
        origin = settings.origins["test"]
        tests = [Check("test", origin, recognised(settings.test, f"given by {origin}", read))]
    else:
        found = finder.find_all(files(repo), read, shutil.which)
        tests = [Check("test", "found", recipe) for recipe in nearest(found, changed(repo))]
    origin = settings.origins["checks"]

    def named(names: Sequence[str]) -> list[Check]:
        return [
            Check(name, origin, recognised(settings.checks[name], f"given by {origin}", read))
            for name in names
            if name in settings.checks
        ]

    return [*named(BEFORE), *tests, *named(AFTER)]


def files(repo: Repository) -> list[str]:
    """The files of the checkout that git does not ignore."""
    listed = git.git([*repo.pin(), "ls-files", "-z", "-co", "--exclude-standard"], cwd=repo.top)
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def changed(repo: Repository) -> list[str]:
    """The files that differ from the last commit, new ones too."""
    listed = git.git([*repo.pin(), "status", "--porcelain", "-z", "--no-renames", "-uall"], cwd=repo.top)
    return [os.fsdecode(line[3:]) for line in listed.split(b"\0") if line]


def reader(top: Path) -> Callable[[str], str | None]:
    """Reads a file of the checkout, its beginning when it is long; None when there is none."""

    def read(name: str) -> str | None:
        try:
            return beneath.read_regular(top / name, LOOKED_AT).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    return read


def _chosen(checks: Sequence[Check], tests: Sequence[str]) -> list[tuple[Check, tuple[str, ...]]]:
    """For each test the check that runs it: the deepest folder that its file lies in, else the first that can."""
    chosen: dict[int, list[str]] = {}
    for test in tests:
        best, depth = -1, -1
        for number, check in enumerate(checks):
            recipe = check.recipe
            if recipe.missing or not recipe.speaks_of(test) or not recipe.selecting([test]):
                continue
            inside = test.startswith(f"{recipe.folder}/") if recipe.folder else False
            rank = recipe.folder.count("/") + 2 if inside else int(not recipe.folder)
            if rank > depth:
                best, depth = number, rank
        if best < 0:
            raise UsageError(
                f"no runner that was found can be asked for {test!r} alone", "`pool checks` shows what can be"
            )
        chosen.setdefault(best, []).append(test)
    return [(checks[number], tuple(mine)) for number, mine in sorted(chosen.items())]


async def _run(check: Check, tests: Sequence[str], top: Path, timeout: float, *, quiet: bool) -> Outcome:
    from poolcli import process
    from poolcli.commands.status_line import StatusLine

    async def execute(command: str, title: str, log: Path) -> process.Finished:
        argv = ["/bin/bash" if Path("/bin/bash").exists() else "/bin/sh", "-c", command]
        line = StatusLine(sys.stderr, f"{check.name}: {title}", hidden=quiet)
        try:
            async with line:
                return await process.run(
                    argv,
                    cwd=top,
                    env=os.environ,
                    timeout=timeout,
                    log=log,
                    limit=measuring.LOG,
                    on_output=line.output,
                )
        except OSError as error:
            raise ChecksError(
                f"the shell cannot be started: {error.strerror}", "check PATH and limits"
            ) from error

    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(clean(text) + "\n")

    with tempfile.TemporaryDirectory(prefix="pool-checks-") as place:
        if check.name != "test":
            command = check.recipe.command
            return _ended(check, command, await execute(command, command, Path(place) / "log.txt"))
        measured = await measuring.measure(
            check.recipe, execute, root=top, scratch=Path(place), tests=tests, say=say
        )
    return _read(check, measured, tests)


def _ended(check: Check, command: str, finished: Finished) -> Outcome:
    """How a check ended by its exit code alone."""
    status = "timeout" if finished.timed_out else "passed" if finished.exit_code == 0 else "failed"
    if finished.exit_code in (126, 127):  # the shell's codes for "cannot execute" and "not found"
        status = "error"
    return Outcome(check.name, command, status, finished.exit_code, finished.seconds, output=finished.output)


def _read(check: Check, measured: measuring.Measured, tests: Sequence[str] = ()) -> Outcome:
    """How the tests ended, by what they said one by one. `tests` are those that were asked for, if not all."""
    from poolcli.verdict.reports import NOTHING

    results = measured.results
    base = _ended(check, measured.command, measured.finished)
    status = base.status
    cases = results.cases.values()
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.outcome] = counts.get(case.outcome, 0) + 1
    if status == "passed" and results.bad:
        status = "failed"
    unread = measured.recipe.runner in measuring.UNREAD
    if status == "passed" and not counts and not unread:
        status = "none"  # of a runner whose results are understood, none is no success
    problem, note = results.problem, measured.note
    if status in ("passed", "none") and tests and not (unread or counts.keys() - {"skipped"}):
        # Some runners call a test skipped that a name leaves out.
        status = "none"
        problem = f"no such test, or it is skipped: {', '.join(tests)}"
    elif tests and not counts and measured.recipe.runner == "pytest" and _NO_SUCH.search(base.output):
        problem = f"no such test: {', '.join(tests)}"
    if unread and not counts and base.exit_code is not None and problem.startswith(NOTHING):
        problem, note = "", "; ".join(filter(None, (note, "judged by its exit code")))
    return replace(
        base,
        status=status,
        counts=counts,
        tests={case.id: case.outcome for case in cases},
        texts={case.id: case.text for case in cases if case.outcome in ("failed", "error")},
        source=results.source,
        note=note,
        problem=problem,
        hung=results.hung,
        crashed=results.crashed,
    )


#: Failures that are printed, and characters of each; the rest by name, the whole in --json.
FAILURES, FAILURE = 10, 2000
#: Characters of the end of an output in which no test was found.
TAIL = 2000


def _lines(check: Check) -> str:
    """A check as people read it."""
    recipe = check.recipe
    why = f"{recipe.why}, but {recipe.missing} was not found" if recipe.missing else recipe.why
    lines = [f"{check.name:<9} {shown(recipe.command, keep='')}", f"          {why}"]
    if check.name == "test":
        report = f"reads its {recipe.report_kind} report" if recipe.reporting("/r") else "reads its output"
        single = (
            "single tests: yes"
            if recipe.selecting(["x"]) or recipe.selecting(["x.py"])
            else "single tests: no"
        )
        lines.append(f"          {recipe.runner}: {report}; {single}")
        lines += [f"          else: {shown(other.command, keep='')}" for other in recipe.fallbacks]
    return "\n".join(lines)


def _described(check: Check) -> dict[str, Any]:
    recipe = check.recipe
    return {
        "name": check.name,
        "source": check.source,
        "runner": recipe.runner,
        "folder": recipe.folder,
        "command": recipe.command,
        "why": recipe.why,
        "missing": recipe.missing,
        "report": recipe.report_kind,
        "fallbacks": [other.command for other in recipe.fallbacks],
    }


def _json(outcome: Outcome) -> dict[str, Any]:
    names = [name for name in Outcome.__struct_fields__ if name not in ("output", "texts")]
    found = {name: getattr(outcome, name) for name in names}
    return {**found, "seconds": round(outcome.seconds, 3), "failures": outcome.texts}


def _result(outcome: Outcome) -> str:
    """How a check ended: its failures, then one line."""
    lines = []
    for number, (name, text) in enumerate(outcome.texts.items()):
        lines.append(f"FAIL {clean(name, keep_newlines=False)}")
        if number < FAILURES:
            lines += [f"  {line}" for line in text[:FAILURE].splitlines()]
    if not outcome.tests and outcome.status != "passed":
        lines.append(outcome.output[-TAIL:].strip())
    for label, text in (
        ("note", outcome.note),
        ("problem", outcome.problem),
        ("hung", outcome.hung),
        ("crashed", outcome.crashed),
    ):
        if text:
            lines.append(f"{label}: {text}")
    counts = ", ".join(f"{number} {word}" for word, number in sorted(outcome.counts.items()))
    end = f" ({counts})" if counts else ""
    lines.append(
        f"{outcome.name} {outcome.status} in {outcome.seconds:.1f} s{end}: {shown(outcome.command, keep='')}"
    )
    return "\n".join(filter(None, lines))
