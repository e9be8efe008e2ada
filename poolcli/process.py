"""Run a command: its whole process tree, its output in bounded memory, and an end that always comes."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from poolcli import redact

#: Names in a child's environment by which it is found again, whatever sessions or groups it made for itself.
CALL, RUN = "POOL_CALL", "POOL_RUN"

#: Seconds between SIGTERM and SIGKILL: to write a file; short enough for an end within 5 s of a CI cancel.
TERM_GRACE = 1.0

#: Seconds to go on reading after the command ended while something still holds its output.
READ_GRACE = 0.25

#: Bytes of one read: what a pipe holds on Linux.
PIECE = 65536

#: Bytes of one call that are shown live; all of it is in the log.
LIVE = 1_000_000

#: Seconds to wait until stopped processes stand still; one in the middle of a write to a disk takes longer.
STILL_GRACE = 0.5

#: Rounds of looking for marked processes: one that forks while it is looked for is met in the next.
ROUNDS = 8

_LEFT_BEHIND = "(a program that was left running in the background was ended with the command)"


class Finished(Struct, frozen=True):
    """How a command ended.

    `exit_code` is None when pool killed it and negative for a signal of another; `output` is stdout and
    stderr in the order they came, its beginning and end when it was long; `size` counts all bytes.
    """

    exit_code: int | None
    timed_out: bool
    output: str
    size: int
    seconds: float
    truncated: bool


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    log: Path | None = None,
    limit: int = 30_000,
    on_output: Callable[[str], None] | None = None,
    max_log: int = 100_000_000,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run `argv` without input until it ends, at most `timeout` seconds (inf: no limit).

    The first `max_log` bytes of output go to the file `log` as they come; about `limit` bytes are held. What
    the command left running in its process group ends with it; at the timeout, and when the task is
    cancelled, so do its children that made themselves daemons. It inherits the descriptors `pass_fds`, which
    stay the caller's to close. Raises OSError when it cannot be started.
    """
    started = time.monotonic()
    call = secrets.token_hex(8)
    reader, writer = os.pipe()
    try:
        # No preexec_fn: with it Popen forks instead of vforks, which costs more the more memory pool has.
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**env, CALL: call},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    output = _Output(limit, log, max_log, on_output)
    try:
        watch = _Watch(child, f"{CALL}={call}", reader, output)
    except BaseException:  # no descriptors left, for example: what was started must not go on unwatched
        kill_tree(child.pid, f"{CALL}={call}")
        child.wait()
        os.close(reader)
        output.close()
        raise
    timed_out = False
    try:
        timed_out = not await watch.ended(timeout)
        if timed_out:
            await watch.terminate()
        await watch.drained()
    except asyncio.CancelledError:
        # A second cancellation ends the grace; the finally below then kills what is left.
        await watch.terminate()
        raise
    finally:
        watch.close()
        output.finish()
        output.close()
    code = None if timed_out else child.returncode
    if watch.left_behind and not timed_out:
        output.note(_LEFT_BEHIND)
    return Finished(code, timed_out, output.text(), output.size, time.monotonic() - started, output.truncated)


def kill_tree(pid: int, mark: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal the group that `pid` leads, and every process with `mark` (`NAME=value`) in its environment.

    `pid` must not have been waited for yet: until then its number cannot be another's.
    """
    _signal_group(pid, number)
    _signal_marked(mark, number)


def kill_marked(marker: str) -> int:
    """Kill every process that was started for the run `marker`; how many there were."""
    return _signal_marked(f"{RUN}={marker}", signal.SIGKILL)


@contextlib.contextmanager
def stilled(marker: str) -> Iterator[None]:
    """Nothing that was started for the run `marker` moves for the time of a `with`.

    What looks at files of the run meanwhile sees what it checked. Met are processes with the run's mark, and all
    below this one in a process namespace of their own, whatever they did to their environment.
    """
    met: set[int] = set()
    try:
        for _ in range(ROUNDS):
            new = {pid for pid in _of_run(marker) if pid not in met}
            if not new:
                break
            for pid in new:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGSTOP)
            met |= new
            until = time.monotonic() + STILL_GRACE
            while any(_state(pid) in (b"R", b"S") for pid in new) and time.monotonic() < until:
                time.sleep(0.0005)
        yield
    finally:
        for pid in met:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def _of_run(marker: str) -> Iterator[int]:
    if sys.platform != "linux":
        return
    children: dict[int, list[int]] = {}
    pids = _pids()
    for pid in pids:
        if (found := _stat(pid)) is not None:
            children.setdefault(int(found[1]), []).append(pid)
    wanted = os.fsencode(f"{RUN}={marker}")
    own, below = _namespace("self"), set(_below(os.getpid(), children))
    for pid in pids:
        if (pid in below and _namespace(pid) not in ("", own)) or wanted in _environment(pid):
            yield pid


def _below(pid: int, children: Mapping[int, Sequence[int]]) -> Iterator[int]:
    for child in children.get(pid, ()):
        yield child
        yield from _below(child, children)


def _namespace(pid: int | str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 (called for every process)
    except OSError:
        return ""


def _environment(pid: int) -> Sequence[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (called for every process)
            return file.readall().split(b"\0")
    except OSError:
        return ()


def _state(pid: int) -> bytes:
    return found[0] if (found := _stat(pid)) is not None else b""


def _stat(pid: int) -> list[bytes] | None:
    """State, parent and group of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (called for every process)
            return file.read(1024).rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return None


def _signal_group(pid: int, number: int) -> bool:
    """Signal a process group; whether there was one. Number 0 only asks."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM for a group in which all are dead
        return False
    return True


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs; one that is dead and that nobody waited for does not."""
    if not _signal_group(group, 0):
        return False
    return sys.platform != "linux" or any(_is_running(pid, group) for pid in _pids())


def _is_running(pid: int, group: int) -> bool:
    if (found := _stat(pid)) is None:
        return False
    state, _, pgrp = found
    return state not in (b"Z", b"X") and int(pgrp) == group


def _signal_marked(mark: str, number: signal.Signals) -> int:
    """Signal the processes with this mark; with SIGKILL until none is left. How many were met."""
    if sys.platform != "linux":
        return 0
    met: set[int] = set()
    wanted = os.fsencode(mark)
    for _ in range(ROUNDS if number == signal.SIGKILL else 1):
        found = [pid for pid in _pids() if pid not in met and _signal_if_marked(pid, wanted, number)]
        if not found:
            break
        met.update(found)
    return len(met)


def _pids() -> list[int]:
    own = os.getpid()
    return [pid for name in os.listdir("/proc") if name.isdigit() and (pid := int(name)) != own]  # noqa: PTH208


def _signal_if_marked(pid: int, mark: bytes, number: signal.Signals) -> bool:
    try:
        # The descriptor comes first: should the number pass to another process, that gets no signal.
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (called for every process)
            if mark not in file.readall().split(b"\0"):
                return False
        signal.pidfd_send_signal(fd, number)
    except OSError:  # of another user, or gone
        return False
    finally:
        os.close(fd)
    return True


class _Watch:
    """Reads a child's output on the running loop and notices when it ends."""

    def __init__(self, child: subprocess.Popen[bytes], mark: str, reader: int, output: _Output) -> None:
        self.child = child
        #: Programs in the command's group outlived it and were killed.
        self.left_behind = False
        self._mark = mark
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._reader: int | None = reader
        self._pidfd: int | None = None
        self._exit: asyncio.Future[None] = self._loop.create_future()
        self._eof: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(reader, False)
        self._loop.add_reader(reader, self._readable)
        self._watch_exit()

    async def ended(self, timeout: float) -> bool:
        """Wait until the command ends; False when it did not within `timeout` seconds."""
        return await _done(self._exit, timeout)

    async def terminate(self) -> None:
        """SIGTERM to all of it, the grace, SIGKILL to all that is left."""
        self._signal(signal.SIGTERM)
        await self.ended(TERM_GRACE)
        self._signal(signal.SIGKILL)
        await self.ended(TERM_GRACE)

    async def drained(self) -> None:
        """After the end: read what is left; programs left behind get a short while, then they end."""
        # A full pipe is two reads; one that something goes on filling is left to the loop below.
        for _ in range(4):
            if not self._readable():
                break
        # Reaped here, so that only others count as the group: its number is theirs while one of them lives.
        self._reap()
        pause, until = 0.002, time.monotonic() + READ_GRACE
        while (self._reader is not None or self._group_lives()) and (left := until - time.monotonic()) > 0:
            # Helpers that end just after their parent (resource trackers, test workers) are waited for.
            if self._reader is not None:
                await _done(self._eof, min(pause, left))
            else:
                await asyncio.sleep(pause)
            pause *= 2
        if self._group_lives():
            self.left_behind = _signal_group(self.child.pid, signal.SIGKILL)
            await _done(self._eof, READ_GRACE)

    def close(self) -> None:
        """Stop watching. A child that still runs is killed, with all that it started."""
        if not self._exit.done():
            self._signal(signal.SIGKILL)
            # Already killed; only one that hangs in the kernel takes longer, and is left to it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(TERM_GRACE)
        self._reap()
        self._close_reader()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _signal(self, number: signal.Signals) -> None:
        # Once it was waited for, its number is still the group's only while another process is in the group.
        if self.child.returncode is None or self._group_lives():
            _signal_group(self.child.pid, number)
        _signal_marked(self._mark, number)

    def _reap(self) -> None:
        if self._exit.done():
            self.child.poll()

    def _group_lives(self) -> bool:
        return self.child.returncode is not None and _group_lives(self.child.pid)

    def _watch_exit(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.child.pid)
            self._loop.add_reader(self._pidfd, self._exited)
        else:
            self._poll(0.001)

    def _poll(self, pause: float) -> None:
        """Where there are no pidfds (macOS): ask, ever less often, without taking the exit status."""
        if os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._exited()
        elif not self._exit.cancelled():
            self._loop.call_later(pause, self._poll, min(pause * 1.5, 0.05))

    def _exited(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
        if not self._exit.done():
            self._exit.set_result(None)

    def _readable(self) -> bool:
        """Read once; whether there was something."""
        if self._reader is None:
            return False
        try:
            piece = os.read(self._reader, PIECE)
        except BlockingIOError:
            return False
        if piece:
            self._output.add(piece)
        else:
            self._close_reader()
        return bool(piece)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = None
        if not self._eof.done():
            self._eof.set_result(None)


async def _done(future: asyncio.Future[None], timeout: float) -> bool:
    """Wait for a future without cancelling it; False when it was not done in time."""
    if not future.done():
        # asyncio.wait with a timeout costs less than wait_for, which wraps the future in a task.
        await asyncio.wait((future,), timeout=None if timeout == float("inf") else max(timeout, 0))
    return future.done()


class _Output:
    """The output of a command: its first and last bytes held, all of it in the log, without secrets.

    Secrets are taken out of the first `max_log` bytes as they come, and of what is held beyond in the end: looking
    at gigabytes would take minutes.
    """

    def __init__(
        self, limit: int, log: Path | None, max_log: int, on_output: Callable[[str], None] | None
    ) -> None:
        self.size = 0
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._notes: list[str] = []
        self._log: int | None = None
        self._max_log = max_log
        self._show = on_output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if on_output else None
        self._redactor = redact.current()
        self._stream: redact.Stream | None = self._redactor.stream()
        # Bytes that are no UTF-8 go through as they are.
        self._bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        if log is not None:
            self._open(log)

    @property
    def truncated(self) -> bool:
        """Whether `text` leaves a part in the middle out."""
        return self.size > len(self._head) + self._tail_size or self._tail_size > self._half

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._stream is not None:
            shown = self._stream.feed(self._bytes.decode(piece))
            self._add(shown.encode("utf-8", "surrogateescape"))
            if self.size > self._max_log:
                self.finish()
                self._show = None
        else:
            self._add(piece)

    def finish(self) -> None:
        """The end of the output: what was held back belongs to it."""
        if self._stream is not None:
            rest = self._stream.feed(self._bytes.decode(b"", final=True)) + self._stream.flush()
            self._add(rest.encode("utf-8", "surrogateescape"))
            self._stream = None

    def _add(self, piece: bytes) -> None:
        if not piece:
            return
        if self._log is not None:
            self._write(piece)
        self._live(piece)
        self.size += len(piece)
        if (room := self._half - len(self._head)) > 0:
            self._head += piece[:room]
            piece = piece[room:]
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
            while self._tail_size - len(self._tail[0]) >= self._half:
                self._tail_size -= len(self._tail.popleft())

    def note(self, line: str) -> None:
        """Add a line of pool's own to the end."""
        self._notes.append(line)

    def text(self) -> str:
        """What is held, invalid UTF-8 replaced, with a line that says how much was left out."""
        tail = b"".join(self._tail)
        if not self.truncated:
            text = (self._head + tail).decode("utf-8", "replace")
        else:
            head, tail = _at_line_ends(bytes(self._head), tail[-self._half :])
            marker = f"\n… {self.size - len(head) - len(tail)} bytes left out …\n".encode()
            text = (head + marker + tail).decode("utf-8", "replace")
        if self.size > self._max_log:
            text = self._redactor.text(text)
        if not self._notes:
            return text
        return "\n".join([text.rstrip("\n"), *self._notes]) + "\n"

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _live(self, piece: bytes) -> None:
        if self._show is None or self._decoder is None:
            return
        if text := self._decoder.decode(piece):
            self._show(text)
        if self.size + len(piece) > LIVE:
            self._show("\n… more output is not shown while it runs\n")
            self._show = None

    def _open(self, log: Path) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            # Commands may write in the folder of some logs: opening a FIFO must not wait for its reader.
            self._log = os.open(log, flags | os.O_NONBLOCK, 0o600)
            if stat.S_ISFIFO(os.fstat(self._log).st_mode):
                self.close()
                raise OSError(errno.EINVAL, "it is a FIFO")
        except OSError as error:
            self.note(f"(the output could not be saved: {error.strerror})")

    def _write(self, piece: bytes) -> None:
        assert self._log is not None
        room = self._max_log - self.size
        try:
            rest = memoryview(piece)[: max(room, 0)]
            while rest:
                rest = rest[os.write(self._log, rest) :]
        except OSError as error:
            self.note(f"(the output was not saved whole: {error.strerror})")
            self.close()
            return
        if len(piece) > room:
            self.note(f"(only the first {self._max_log} bytes of the output were saved)")
            self.close()


def _at_line_ends(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """The two ends of an output cut at line ends, where that does not cost more than half of one."""
    if (cut := head.rfind(b"\n")) > len(head) // 2:
        head = head[:cut]
    if 0 <= (cut := tail.find(b"\n")) < len(tail) // 2:
        tail = tail[cut + 1 :]
    return head, tail
