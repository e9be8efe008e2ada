"""What a command costs: CPU time of its whole process tree and the most memory that one of its processes held."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Cost:
    """`cpu` is user + system in milliseconds; `rss` the peak of the largest process in MB (10^6 bytes).

    `rss` is never below that of the measuring process itself: the kernel hands its peak down to a child.
    """

    cpu: float
    rss: float
    exit_code: int


def adopt_orphans() -> None:
    """Make processes whose parent has died ours, so that what they cost is counted too (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    terminal: bool = False,
    started: Callable[[int], None] = lambda pid: None,
) -> Cost:
    """Run `argv` to its end and say what it and everything it started took. Its output goes to `log`."""
    with log.open("wb") as sink, contextlib.ExitStack() as stack:
        stdin: int = subprocess.DEVNULL
        output: int = sink.fileno()
        if terminal:
            ours, output = pty.openpty()
            stdin = output
            drain = threading.Thread(target=_drain, args=(ours, sink.fileno()))
            drain.start()
            stack.callback(drain.join)
        child = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=output, start_new_session=True
        )
        if terminal:
            os.close(output)
        started(child.pid)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # or Popen waits for it again
        cpu = used.ru_utime + used.ru_stime + _orphans()
    return Cost(cpu * 1000, used.ru_maxrss * 1024 / 1e6, child.returncode)


def _drain(source: int, sink: int) -> None:
    """Copy what a terminal shows until nobody writes to it any more."""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(source, 65536):
            os.write(sink, data)
    os.close(source)


def _orphans() -> float:
    """End what the command left running; returns the CPU seconds of it."""
    seconds = 0.0
    for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            used = os.wait4(pid, 0)[2]
            seconds += used.ru_utime + used.ru_stime
    return seconds
