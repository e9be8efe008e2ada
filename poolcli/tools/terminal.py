"""Interactive programs: started on a terminal of their own, sent lines, waited for, closed."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import secrets
import signal
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from poolcli import process, redact
from poolcli.sandbox.base import Launch
from poolcli.sanitize import clean
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.bounds import ends, new_file

TIMEOUT, LONGEST = 10, 600

#: Characters that are held until the model has seen them, and that come back.
HELD, SHOWN = 64_000, 7_500

#: Bytes of one program's whole output that are kept in a file.
LOGGED = 20_000_000

#: Seconds that a background command's processes have to end.
ENDING = 5.0

#: Programs at a time.
PROGRAMS = 8

#: Without a pattern, output is over when nothing came for this many seconds.
QUIET = 0.4

#: Seconds in which pieces are gathered before they are looked at: looking at each costs more than printing.
GATHER = 0.03

#: Seconds that looking for a pattern may take: 64,000 characters need milliseconds with a sane one.
MATCHING = 0.5

#: Rows and columns: wide enough that prompts and tables do not wrap.
SIZE = (40, 160)


@runtime_checkable
class Launching(Protocol):
    """A workspace that can say how it would run a command: for programs that need a terminal."""

    def launch(self, command: str) -> Launch:
        """What to start so that a shell command runs, confined as configured; closed after the start."""


class Program:
    """A program on a pseudo-terminal, read all the time so that it never waits for us."""

    def __init__(self, launch: Launch, cwd: Path, log: Path) -> None:
        import pexpect
        from ptyprocess import PtyProcess  # type: ignore[import-untyped]

        self._mark = secrets.token_hex(8)

        class Spawned(pexpect.spawn):  # type: ignore[type-arg] # generic for the type checker only
            """Hands descriptors to the program, which pexpect has no way to say."""

            def _spawnpty(self, args: list[str], **more: Any) -> PtyProcess:
                for fd in launch.fds:
                    os.set_inheritable(fd, True)
                return PtyProcess.spawn(args, pass_fds=launch.fds, **more)

        self._child = Spawned(
            launch.argv[0],
            launch.argv[1:],
            cwd=str(cwd),
            env={**launch.env, process.CALL: self._mark},
            dimensions=SIZE,
            timeout=None,
        )
        self._fd, self._pid = self._child.child_fd, self._child.pid or 0
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._logged = 0
        # The file gets no secrets. What the model sees is redacted with its event, so that a prompt is not held back.
        self._stream = redact.current().stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unseen = ""
        self._news = asyncio.Event()
        self._open = True
        self.ended = False
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    async def send(self, text: str, timeout: float) -> None:
        """Type `text`. Raises ToolError when the program does not take it within `timeout` seconds."""
        if self.ended:
            raise ToolError("the program has ended; close it, or start it again")
        rest = text.encode("utf-8", "replace")
        until = asyncio.get_running_loop().time() + timeout
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                if asyncio.get_running_loop().time() > until:
                    raise ToolError("the program does not read its input") from None
                await asyncio.sleep(0.02)
            except OSError as error:
                raise ToolError("the program has ended") from error

    async def wait(self, pattern: re.Pattern[str] | None, timeout: float) -> bool:
        """Wait for output that matches; without a pattern, for any and a pause after it. Whether it came."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            seen = clean(self._unseen)
            if pattern is not None and _found(pattern, seen):
                return True
            left = until - loop.time()
            if self.ended or left <= 0:
                return pattern is None
            pause = min(left, QUIET) if pattern is None and seen else left
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), pause)
                await asyncio.sleep(GATHER)
            except TimeoutError:
                if pattern is None and seen:
                    return True

    async def settle(self) -> None:
        """Its output has ended: wait a moment for its exit code."""
        for _ in range(20):
            if not self.ended or not self._child.isalive():
                return
            await asyncio.sleep(0.02)

    def take(self) -> str:
        """What was printed since the last time, as it would look on a screen."""
        text, self._unseen = self._unseen, ""
        return clean(text).strip("\n")

    @property
    def status(self) -> str:
        """Whether it runs, for the model."""
        if not self.ended or self._child.isalive():
            return "still running" if not self.ended else "its terminal is closed"
        code = self._child.exitstatus
        return (
            f"ended with exit code {code}"
            if code is not None
            else f"ended by signal {self._child.signalstatus}"
        )

    def close(self) -> None:
        """End it and all that it started. More than once is fine."""
        if not self._open:
            return
        self._open = False
        self._stop_reading()
        if not self._child.terminated:
            process.kill_tree(self._pid, f"{process.CALL}={self._mark}", signal.SIGKILL)
        self._child.close(force=True)
        self._save(self._stream.flush())
        os.close(self._log)

    def _readable(self) -> None:
        try:
            piece = os.read(self._fd, process.PIECE)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last program on this terminal has ended
            piece = b""
        if not piece:
            self.ended = True
            self._stop_reading()
        else:
            text = self._decoder.decode(piece)
            self._save(self._stream.feed(text))
            self._unseen = (self._unseen + text)[-HELD:]
        self._news.set()

    def _save(self, text: str) -> None:
        piece = text.encode("utf-8", "replace")
        if not piece or (room := LOGGED - self._logged) <= 0:
            return
        try:
            self._logged += os.write(self._log, piece[:room])
        except OSError:
            self._logged = LOGGED  # a full disk: what the model sees does not depend on this file

    def _stop_reading(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)


async def run(
    ctx: Ctx, action: str, name: str, text: str = "", pattern: str = "", timeout: int = TIMEOUT
) -> Output:
    """One step with the program `name`; gives what it printed since the last one."""
    seconds = min(max(timeout, 1), LONGEST)
    wanted = _compiled(pattern)
    if action == "close":
        return await _close(ctx, name)
    program = _start(ctx, name, text) if action == "start" else _running(ctx, name)
    if action == "send":
        program.take()  # What was there before is not an answer to this line.
        await program.send(_keys(text), seconds)
    met = await program.wait(wanted, seconds)
    await program.settle()
    shown = ends(program.take(), SHOWN) or "(nothing new)"
    status = f"({program.status})" if met else f"({pattern} not seen within {seconds} s; {program.status})"
    return Output(f"{shown}\n{status}", ok=met)


def _start(ctx: Ctx, name: str, command: str) -> Program:
    if not command.strip():
        raise ToolError("start needs the command as text")
    if name in ctx.sessions and ctx.sessions[name].ended:
        ctx.sessions.pop(name).close()
    if name in ctx.sessions:
        raise ToolError(f"{name} is running already; send to it, close it, or take another name")
    if len(ctx.sessions) >= PROGRAMS:
        raise ToolError(
            f"{len(ctx.sessions)} programs are running ({', '.join(ctx.sessions)}); close one first"
        )
    space = ctx.workspace
    if not isinstance(space, Launching):
        raise ToolError("interactive programs cannot be run in this workspace; use shell")
    try:
        log = new_file(ctx.outputs, "terminal")
        launch = space.launch(command)
        try:
            program = Program(launch, ctx.workspace.root, log)
        finally:
            launch.close()
    except OSError as error:
        raise ToolError(f"the program could not be started: {error.strerror}") from error
    ctx.sessions[name] = program
    return program


def _running(ctx: Ctx, name: str) -> Program:
    program = ctx.sessions.get(name)
    if program is None:
        there = f"there are {', '.join(ctx.sessions)}" if ctx.sessions else "start one first"
        raise ToolError(f"no program {name} is running; {there}")
    if not isinstance(program, Program):
        raise ToolError(f"{name} has no terminal; read its output at @output/{name}.txt")
    return program


async def _close(ctx: Ctx, name: str) -> Output:
    program = ctx.sessions.get(name)
    if program is None:
        raise ToolError(f"no program {name} is running")
    rest = ends(program.take(), SHOWN) if isinstance(program, Program) else ""
    program.close()
    del ctx.sessions[name]
    if (
        task := getattr(program, "task", None)
    ) is not None:  # of a background command: it kills what it started
        await asyncio.wait((task,), timeout=ENDING)
    return Output(f"{rest}\n(closed)".lstrip("\n"))


def _found(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the pattern occurs; one that backtracks without end is stopped. Raises ToolError then.

    Matching looks for signals, so an alarm ends it; nothing else would, not even Ctrl-C. Main thread only.
    """

    def too_long(number: int, frame: object) -> None:
        raise ToolError("the pattern takes too long to match; use a simpler one")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, MATCHING)
    try:
        return pattern.search(text) is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error as error:
        raise ToolError(f"pattern is not a regular expression: {error}") from error


def _keys(text: str) -> str:
    """What to type: `^C` and the like as the control character, anything else as a line with Enter."""
    if re.fullmatch(r"\^[A-Z\[\]\\]", text):
        return chr(ord(text[1]) - 64)
    # Enter is a carriage return on every terminal; the line discipline makes a newline of it where wanted.
    return text if text and ord(text[-1]) < 32 and text[-1] not in "\n\t" else text.removesuffix("\n") + "\r"
