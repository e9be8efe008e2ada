"""Run a shell command in the worktree."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from poolcli.process import Finished
from poolcli.sanitize import clean
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.bounds import NOTE, ends, new_file, room, whole

#: Seconds a command gets when none are asked for, and at most: longer work goes to the background.
TIMEOUT, LONGEST = 120, 3600

#: Characters of output that come back, the rest goes to a file; below the contract's limit.
SHOWN = 15_000

#: Seconds in which a background command that fails at once is seen to do so.
SETTLE = 0.3


class Background(Struct, frozen=True):
    """A command that runs on after its call."""

    task: asyncio.Task[Finished]

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.task.done()

    def close(self) -> None:
        """End it, with all that it started."""
        self.task.cancel()


async def run(ctx: Ctx, command: str, timeout: int = TIMEOUT, background: bool = False) -> Output:
    """The output of `command` and its exit code; with `background` only where its output will be."""
    if not command.strip():
        raise ToolError("command is empty")
    if "\0" in command:
        raise ToolError("command holds a NUL character, which no command can")
    if background:
        return await _in_background(ctx, command)
    seconds = min(max(timeout, 1), LONGEST)
    log = new_log(ctx, "shell")
    try:
        done = await _run(ctx, command, seconds, log, ctx.note)
    except BaseException:
        _drop_if_empty(log)
        raise
    return _output(done, seconds, log)


async def _run(
    ctx: Ctx, command: str, seconds: float, log: Path, on_output: Callable[[str], None] | None
) -> Finished:
    try:
        return await ctx.workspace.run(command, timeout=seconds, log=log, on_output=on_output)
    except OSError as error:
        # The usual one: a command longer than the system takes.
        raise ToolError(f"the command could not be started: {error.strerror}") from error


async def _in_background(ctx: Ctx, command: str) -> Output:
    log = new_log(ctx, "background")
    name = log.stem
    task = asyncio.create_task(_run(ctx, command, float("inf"), log, None))
    # An error that nobody waits for any more is not a fault of pool's: it is in the log or was reported.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    ctx.sessions[name] = Background(task)
    await asyncio.wait((task,), timeout=SETTLE)
    if task.done():
        del ctx.sessions[name]
        return _output(task.result(), 0, log)
    return Output(
        f"{name} is running; its output goes to @output/{log.name}; end it with terminal(close, name={name})"
    )


def new_log(ctx: Ctx, name: str) -> Path:
    """A new file for output. Raises ToolError when there is no room for it."""
    try:
        return new_file(ctx.outputs, name)
    except OSError as error:
        raise ToolError(f"there is no room for the command's output: {error.strerror}") from error


def _output(done: Finished, seconds: int, log: Path) -> Output:
    text = clean(done.output).strip("\n")
    shown = room(SHOWN)
    if done.truncated or len(text) > shown:
        text = ends(text, shown - NOTE, size=done.size)
        if lines := _count_lines(log):
            text = f"{text}\n{whole(log.name, lines)}"
    else:
        log.unlink(missing_ok=True)
    show = {"type": "exit", "code": done.exit_code, "timed_out": done.timed_out}
    ending = _ending(done, seconds)
    return Output("\n".join(filter(None, (text or "(no output)", ending))), (show,), done.exit_code == 0)


def _ending(done: Finished, seconds: int) -> str:
    if done.timed_out:
        return f"timed out after {seconds} s and was ended; use a longer timeout, or background=true"
    if done.exit_code is not None and done.exit_code < 0:
        return f"ended by {_signal_name(-done.exit_code)}"
    return f"exit code {done.exit_code}" if done.exit_code else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _count_lines(log: Path) -> int:
    try:
        with log.open("rb") as file:
            count, last = 0, b""
            while piece := file.read(1 << 20):
                count, last = count + piece.count(b"\n"), piece
            return count + (last != b"" and not last.endswith(b"\n"))
    except OSError:
        return 0


def _drop_if_empty(log: Path) -> None:
    if log.exists() and log.stat().st_size == 0:
        log.unlink(missing_ok=True)
