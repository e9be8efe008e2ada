"""Writes a run's log: one writer, one line per event, in the file before anything is shown."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from poolcli.errors import StoreError
from poolcli.events import LIVE, Event, to_line
from poolcli.paths import private_dir
from poolcli.store.reading import LOCK, LOG, RESULT, load

#: Waiting for the lock, in seconds: a reader that asks whether a run is alive holds it for microseconds.
_LOCK_PAUSES = (0.0, 0.01, 0.02, 0.05)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Trace:
    """The log of one run, open for writing. Holds the run's lock until `close` or the process's death.

    Unbuffered: when `append` returns, the event survives any death of this process; `sync` makes it survive a
    power cut. When an event cannot be written whole, the file is cut back to its last whole line.
    """

    def __init__(self, run_dir: Path, *, fd: int, lock: int, seq: int, end: int) -> None:
        self.path = run_dir / LOG
        #: Number of the last stored event.
        self.seq = seq
        self._fd, self._lock, self._end = fd, lock, end
        self._torn = False
        self._named = False
        # A result belongs to a log that ended; it is stale once the log goes on.
        self._stale: Path | None = run_dir / RESULT

    @classmethod
    def create(cls, run_dir: Path, run_id: str) -> Trace:
        """Start the log of a new run. Raises StoreError when there is one already, or it cannot be made."""
        with _naming(run_dir / LOG):
            private_dir(run_dir)
        lock = _acquire(run_dir, run_id)
        try:
            with _naming(run_dir / LOG):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                fd = os.open(run_dir / LOG, flags, 0o600)
        except BaseException:
            os.close(lock)
            raise
        return cls(run_dir, fd=fd, lock=lock, seq=0, end=0)

    @classmethod
    def reopen(cls, run_dir: Path, *, afterwards: bool = False) -> Trace:
        """Go on with a log; a torn end is cut off first. Raises StoreError when another process writes it.

        With `afterwards` the run does not go on: its result stays.
        """
        lock = _acquire(run_dir, run_dir.name)
        try:
            log = load(run_dir)
            with _naming(run_dir / LOG):
                fd = os.open(run_dir / LOG, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                if log.torn:
                    os.ftruncate(fd, log.end)
        except BaseException:
            os.close(lock)
            raise
        trace = cls(run_dir, fd=fd, lock=lock, seq=log.events[-1].seq if log.events else 0, end=log.end)
        if afterwards:
            trace._stale = None
        return trace

    def append(self, event: Event) -> None:
        """Store one event; live ones are left out. Raises StoreError naming the file when it does not fit.

        Raises ValueError for an event that is not the next: a gap or a repetition is a bug of the caller.
        """
        if event.type in LIVE:
            return
        if event.seq != self.seq + 1:
            raise ValueError(f"event {event.seq} ({event.type}) follows event {self.seq}")
        line = to_line(event)
        with _naming(self.path):
            self._mend()
            if self._stale is not None:
                self._stale.unlink(missing_ok=True)
                self._stale = None
            self._write(line)
        self._end += len(line)
        self.seq = event.seq

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                # A full disk first takes a part and only then says so.
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            self._torn = True
            with contextlib.suppress(OSError):
                self._mend()
            raise

    def _mend(self) -> None:
        if self._torn:
            os.ftruncate(self._fd, self._end)
            self._torn = False

    def sync(self) -> None:
        """Make everything appended survive a power cut. Raises StoreError when the disk does not confirm."""
        with _naming(self.path):
            os.fdatasync(self._fd)
            if not self._named:
                # The file's name is in its folder's data; without this a power cut could lose the whole file.
                folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
                self._named = True

    def close(self) -> None:
        """Close the file and free the lock; safe to call more than once."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1


def _acquire(run_dir: Path, run_id: str) -> int:
    """Take the run's lock and note this process's id in it, for people. Raises StoreError when taken."""
    path = run_dir / LOCK
    with _naming(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for pause in _LOCK_PAUSES:
        time.sleep(pause)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        os.ftruncate(fd, 0)
        with contextlib.suppress(OSError):  # a full disk; the lock holds without the note
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd
    holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    os.close(fd)
    who = f"process {holder}" if holder else "another process"
    raise StoreError(
        f"run {run_id} is being written by {who} (lock: {path})", "wait for it to end, or stop it"
    )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError that names the file."""
    try:
        yield
    except FileExistsError as error:
        raise StoreError(f"there is a run's log already: {path}") from error
    except OSError as error:
        hint = "free some space, then `pool resume` goes on" if error.errno in _FULL else ""
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint) from error
