"""`pool do` and `pool resume`: read the task, run it, print what was asked for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli import app, config, ending, landing, paths, person, redact
from poolcli.commands import stdin
from poolcli.errors import PoolError, UsageError
from poolcli.git import Repository, find_repository
from poolcli.run import View
from poolcli.store import reading, runs
from poolcli.store import result as results
from poolcli.views.choose import choose
from poolcli.views.output import exactly


class Output(Struct, frozen=True):
    """What the user wants to see and to have done with the result."""

    json: bool = False
    plain: bool = False
    patch: bool = False
    apply: bool = False
    result: Path | None = None

    def check(self) -> None:
        """Raise UsageError for wishes that exclude each other."""
        if self.json and self.patch:
            raise UsageError("--json and --patch both want stdout", "use --json, then `pool diff`")
        if self.result is not None and not self.result.absolute().parent.is_dir():
            raise UsageError(f"--result {self.result}: there is no folder {self.result.absolute().parent}")

    def views(self) -> Sequence[View]:
        """The view for people or programs."""
        view = choose(
            json=self.json,
            plain=self.plain,
            quiet=False,
            stdout=sys.stdout,
            stderr=sys.stderr,
            patch_to_stdout=self.patch,
            next_steps=not self.apply,
        )
        return [view]


def do(
    words: str | None, file: Path | None, flags: Mapping[str, Any], output: Output, *, no_checks: bool = False
) -> int:
    """Run a task; returns the exit code. Raises PoolError for what ends it before it began."""
    output.check()
    repo = find_repository(Path.cwd())
    text, quoted = stdin.task(words, file)
    settings = config.load(repo.top, flags=flags)
    redact.use(config.redactor(settings))
    task = app.Task(text, Path.cwd(), quoted, unchecked=no_checks)

    work = ending.conduct(
        app.begin(task, settings, repo, output.views, person.present(json=output.json)),
        lambda session: app.open_turn(session, task),
        seconds=settings.timeout,
    )
    return _deliver(asyncio.run(work), repo, output)


def resume(ref: str, message: str | None, flags: Mapping[str, Any], output: Output) -> int:
    """Go on with a run; returns the exit code."""
    output.check()
    repo = find_repository(Path.cwd())
    run_dir = runs.find(paths.repository_state(repo.common_dir), ref)
    settings = _same_mode(run_dir, config.load(repo.top, flags=_same_model(run_dir, flags)))
    ended = results.read(run_dir)
    if ended and ended["status"] == "verified" and not message:
        raise UsageError(
            f"run {run_dir.name} is verified; there is nothing left to do",
            "land it with `pool apply`, or give it more to do with --message",
        )

    if landing.discarded(run_dir):
        raise UsageError(f"the work of run {run_dir.name} was discarded", "start again with `pool do`")
    work = ending.conduct(
        app.again(run_dir, settings, repo, output.views, person.present(json=output.json)),
        lambda session: app.go_on(session, message),
        seconds=settings.timeout,
    )
    return _deliver(asyncio.run(work), repo, output)


def _same_model(run_dir: Path, flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flags, with the model that the run began with unless they name one."""
    if flags["base_url"] is not None:
        return flags
    started = next((e for e in reading.read(run_dir) if e.type == "run.started"), None)
    model = started.data["model"] if started else {}
    began = {"model": model.get("reference"), "base_url": model.get("base_url")}
    return {**flags, **{name: value for name, value in began.items() if value and flags[name] is None}}


def _same_mode(run_dir: Path, settings: config.Config) -> config.Config:
    """The settings, with the mode that the run began with unless another is chosen now."""
    started = next((e for e in reading.read(run_dir) if e.type == "run.started"), None)
    began = started.data.get("mode") if started else ""
    return settings if settings.mode or began not in config.MODES else replace(settings, mode=began)


def _deliver(result: dict[str, Any], repo: Repository, output: Output) -> int:
    patch = Path(result["patch"]["file"]) if result["patch"]["file"] else None
    if output.patch and patch is not None and not _worth_landing(result):
        sys.stderr.write("the patch is not printed: the result is not verified (`pool diff` prints it)\n")
    elif output.patch and patch is not None:
        exactly(patch.read_bytes(), sys.stdout)
    if output.apply:
        _land(result, repo)
    if output.result is not None:
        results.write_to(output.result, result)
    return int(result["exit_code"])


def _worth_landing(result: dict[str, Any]) -> bool:
    """Whether a script may apply the patch unseen: verified, or finished where there is nothing to verify it with."""
    nothing_to_verify = result["status"] == "not_verified" and result["verdict"]["after"] is None
    return result["status"] in ("verified", "unchecked") or nothing_to_verify


def _land(result: dict[str, Any], repo: Repository) -> None:
    from poolcli.commands import landing as command

    if result["status"] not in ("verified", "unchecked"):
        sys.stderr.write("not applied: the result is not verified (`pool apply` lands it all the same)\n")
        return
    try:
        command.land(repo, Path(result["log"]).parent)
    except PoolError as error:
        raise type(error)(f"verified, but not applied: {error}", error.hint) from error
