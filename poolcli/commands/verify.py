"""`pool verify`: the evidence sheet for a run, a range of commits or a patch."""

from __future__ import annotations

import asyncio
import json as json_codec
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli import config, paths, process, redact, verification, workspace
from poolcli.commands.status_line import StatusLine
from poolcli.config import Config
from poolcli.errors import ChecksError, Exit, UnknownRunError, UsageError
from poolcli.events import Event
from poolcli.fresh import texts
from poolcli.git import Repository, attempt, find_repository, git
from poolcli.interrupts import Interrupts
from poolcli.sandbox import Sandbox, choose
from poolcli.sanitize import clean, in_json, shown
from poolcli.store import reading, runs
from poolcli.verdict import finder, sheet_junit, sheet_markdown, sheet_terminal
from poolcli.verdict.recipes import Recipe, nearest
from poolcli.verdict.recipes.given import recognised
from poolcli.verdict.sheet import Sheet, as_json

if TYPE_CHECKING:
    from poolcli.setup import Ready

#: How git writes a change: whole, without settings of the user's that programs cannot read.
_DIFF = (
    "diff",
    "--binary",
    "--full-index",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--src-prefix=a/",
)
#: Bytes of a patch; what is longer is no change that tests could judge.
LONGEST = 100_000_000


class Output(Struct, frozen=True):
    """Where the sheet goes: JSON on stdout, files (`-` is stdout), or the terminal."""

    json: bool = False
    junit: str = ""
    markdown: str = ""


class _Change(Struct, frozen=True):
    """What is judged. `checks` is the command that a run was made with, '' when none is known."""

    subject: str
    base: str
    patch: bytes
    task: str
    checks: str = ""
    events: tuple[Event, ...] = ()


def verify(
    what: str,
    patch: str | None,
    flags: Mapping[str, Any],
    output: Output,
    *,
    mutants: int = 0,
    coverage: bool = False,
    task: str = "",
) -> int:
    """Judge a change and draw its sheet. Returns the exit code: 0 verified, 3 not, 7 tampered with.

    `task` is what was asked for, in place of what the run or the commits say.

    Raises UsageError for what is no change, ChecksError when nothing could judge one.
    """
    if [output.json, output.junit == "-", output.markdown == "-"].count(True) > 1:
        raise UsageError("only one form can go to stdout", "give the others a file")
    if what and patch:
        raise UsageError("either a run or range, or --patch", "leave one of them out")
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    settings = config.load(repo.top, flags=flags)
    redact.use(config.redactor(settings))
    for notice in settings.notices:
        sys.stderr.write(clean(f"warning: {notice}", keep_newlines=False) + "\n")
    for said in workspace.collect(repo, state):
        sys.stderr.write(clean(said) + "\n")
    change = _patch(repo, patch) if patch else _named(repo, state, what)
    if task:
        change = replace(change, task=task)
    if not change.patch.strip():
        raise UsageError(f"{change.subject} changes nothing", "there is nothing to verify")
    confined = choose.here(settings.sandbox, asks=False)
    packages = _packages(settings, repo, state) if confined.sandbox.name == "bubblewrap" else None
    wish = verification.Wish(
        _recipes(settings, repo, change, packages),
        settings.checks_timeout,
        dict(settings.checks),
        mutants,
        coverage,
        packages,
    )
    if confined.announcement:
        sys.stderr.write(clean(confined.announcement, keep_newlines=False) + "\n")
    sheet, ended = asyncio.run(_judged(repo, state, change, wish, confined.sandbox))
    if sheet is None:
        sys.stderr.write("interrupted; nothing was left behind\n")
        return int(ended)
    _write(sheet, output)
    if sheet.tampered:
        return int(Exit.TAMPERED)
    return int(Exit.VERIFIED if sheet.verified else Exit.NOT_VERIFIED)


async def _judged(
    repo: Repository, state: Path, change: _Change, wish: verification.Wish, sandbox: Sandbox
) -> tuple[Sheet | None, Exit]:
    """The sheet, or None with the exit code of the signal that came."""

    titles: list[str] = []

    def line(title: str) -> verification.Line:
        # Several commands make one step: the tests near a small error, then all.
        again = titles[-1:] == [title]
        titles.append(title)
        return StatusLine(sys.stderr, title, again=again)

    places: list[str] = []

    def at_once() -> None:
        for name in places:
            process.kill_marked(name)

    task = asyncio.ensure_future(
        verification.verify(
            repo,
            base=change.base,
            patch=change.patch,
            task=change.task,
            subject=change.subject,
            state=state,
            sandbox=sandbox,
            wish=wish,
            line=line,
            events=change.events,
            places=places,
        )
    )
    with Interrupts(task, at_once) as interrupts:
        try:
            return await task, Exit.VERIFIED
        except asyncio.CancelledError:
            if interrupts.exit_code is None:
                raise
            return None, interrupts.exit_code


def _named(repo: Repository, state: Path, what: str) -> _Change:
    """The change that a word means: a range, a run, or a commit."""
    if ".." in what:
        return _range(repo, what)
    try:
        return _run(runs.find(state, what))
    except UnknownRunError as unknown:
        if what in ("", "last") or "could be" in str(unknown):
            raise
        if not (commit := _commit(repo, what)):
            hint = "`pool log` lists the runs; commits are A..B or one commit"
            raise UsageError(f"{what!r} is neither a run nor a commit here", hint) from None
    if not (parent := _commit(repo, f"{commit}^")):
        raise UsageError(
            f"{what} is the first commit: there is nothing before it to compare it with",
            "`pool checks run` says whether the checks pass in your checkout; a change is a range: A..B",
        )
    return _between(repo, what, parent, commit)


def _run(run_dir: Path) -> _Change:
    if reading.locked(run_dir):
        raise UsageError(f"run {run_dir.name} is still at work", "wait for it, or interrupt it")
    events = reading.read(run_dir)
    started = next((event.data for event in events if event.type == "run.started"), None)
    try:
        patch = (run_dir / workspace.PATCH).read_bytes()
    except FileNotFoundError:
        patch = None
    if started is None or patch is None:
        raise UsageError(f"run {run_dir.name} left no patch", "it changed nothing, or its work was discarded")
    checks = started.get("checks") or {}
    return _Change(
        f"run {run_dir.name}",
        str(started["base"]),
        patch,
        str(started.get("task", "")),
        "" if str(checks.get("source", "")).startswith("found") else str(checks.get("command", "")),
        tuple(events),
    )


def _range(repo: Repository, what: str) -> _Change:
    dots = "..." if "..." in what else ".."
    first, _, last = what.partition(dots)
    ends = []
    for name in (first or "HEAD", last or "HEAD"):
        if not (commit := _commit(repo, name)):
            raise UsageError(f"git knows no commit {name!r}", "a range is two commits: A..B")
        ends.append(commit)
    base, tip = ends
    if dots == "...":
        base = git([*repo.pin(), "merge-base", base, tip], cwd=repo.top).decode().split()[0]
    return _between(repo, what, base, tip)


def _between(repo: Repository, subject: str, base: str, tip: str) -> _Change:
    patch = git([*repo.pin(), *_DIFF, "--dst-prefix=b/", base, tip], cwd=repo.top)
    said = git([*repo.pin(), "log", "--format=%B", "--max-count=50", f"{base}..{tip}"], cwd=repo.top)
    return _Change(subject, base, patch, said.decode("utf-8", "replace").strip())


def _patch(repo: Repository, name: str) -> _Change:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(LONGEST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(LONGEST + 1)
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}", "give a patch, or - for stdin"
        ) from error
    if len(content) > LONGEST:
        raise UsageError(f"the patch is longer than {LONGEST // 1_000_000} MB", "give a smaller one")
    subject = "patch from stdin" if name == "-" else f"patch {name}"
    return _Change(subject, repo.head, content, "")


def _commit(repo: Repository, name: str) -> str:
    if name.startswith("-"):
        return ""
    args = [*repo.pin(), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    answer = attempt(args, cwd=repo.top)
    return answer.out.decode().strip() if answer.code == 0 else ""


def _packages(settings: Config, repo: Repository, state: Path) -> Ready | None:
    """The packages of a setup. A place has those of the checkout as it is now, like the user's own `.venv`."""
    from poolcli import setup

    return setup.ready_for(settings, repo, state)


def _recipes(
    settings: Config, repo: Repository, change: _Change, packages: Ready | None
) -> tuple[Recipe, ...]:
    """What judges it: what is configured, else what the run was made with, else what the base's files say."""
    read = _installed(_bounded(texts(repo, change.base)), packages)
    if settings.test:
        return (recognised(settings.test, f"given by {settings.origins['test']}", read),)
    if change.checks:
        return (recognised(change.checks, "the checks of the run", read),)
    listed = git(
        [*repo.pin(), "ls-tree", "-r", "-z", "--name-only", "--full-tree", change.base], cwd=repo.top
    )
    names = [name.decode("utf-8", "surrogateescape") for name in listed.split(b"\0") if name]
    found = nearest(finder.find_all(names, read, shutil.which), _touched(change.patch))
    usable = tuple(recipe for recipe in found if not recipe.missing)
    for recipe in found:
        if recipe.missing:
            said = f"warning: {recipe.command} is left out: {recipe.missing} was not found"
            sys.stderr.write(clean(said) + "\n")
    if not usable:
        raise ChecksError("no checks were found that could judge the change", "name them: --test CMD")
    return usable


def _installed(read: Callable[[str], str | None], packages: Ready | None) -> Callable[[str], str | None]:
    """Also finds the virtual environment of a setup."""
    if packages is None:
        return read

    def also(path: str) -> str | None:
        folder = packages.folders.get(path.removesuffix("/pyvenv.cfg"))
        return "" if folder is not None and (folder / "pyvenv.cfg").is_file() else read(path)

    return also


def _bounded(read: Callable[[str], str | None]) -> Callable[[str], str | None]:
    from poolcli.commands.checks import LOOKED_AT

    def beginning(path: str) -> str | None:
        text = read(path)
        return None if text is None else text[:LOOKED_AT]

    return beginning


def _touched(patch: bytes) -> Sequence[str]:
    from poolcli.verdict.tampering.changes import paths as touched

    return [new or old for old, new, _ in touched(patch.decode("utf-8", "surrogateescape"))]


def _write(sheet: Sheet, output: Output) -> None:
    for name, draw in ((output.junit, sheet_junit.junit), (output.markdown, sheet_markdown.markdown)):
        if name == "-":
            text = draw(sheet)
            sys.stdout.write(shown(text, keep="\t\n") if sys.stdout.isatty() else text)
        elif name:
            try:
                Path(name).write_text(draw(sheet), encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise UsageError(
                    f"{name} cannot be written: {error.strerror}", "give another file"
                ) from error
    if output.json:
        sys.stdout.write(in_json(json_codec.dumps(as_json(sheet), ensure_ascii=False, indent=2)) + "\n")
    elif "-" not in (output.junit, output.markdown):
        sheet_terminal.show(sheet, sys.stdout)
