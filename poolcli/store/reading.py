"""Reads a run's log back, also after a kill: a torn end is dropped and reported, never an error."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from poolcli.errors import StoreError
from poolcli.events import CATALOGUE, LIVE, LOG_VERSION, Event, from_line

#: Names in a run's folder.
LOG = "events.jsonl"
LOCK = "lock"
RESULT = "result.json"


class Log(Struct, frozen=True):
    """What a log holds. `end` is the offset behind the last whole record, `torn` the bytes behind it.

    Events of unknown types are kept: they count in `seq`, and every reader skips them.
    """

    events: list[Event]
    end: int = 0
    torn: int = 0

    @property
    def notes(self) -> list[str]:
        """What a person should know about this log, one line each."""
        notes = []
        if self.torn:
            notes.append(f"the log's last record was cut off; {self.torn} bytes of it are left out")
        if unknown := sorted({e.type for e in self.events} - CATALOGUE.keys()):
            notes.append(f"written by a newer pool: events of type {', '.join(unknown)} are not shown")
        return notes


def parse(content: bytes, path: Path) -> Log:
    """The events in a log's bytes. `path` is for messages only.

    A record is whole when its newline is there. Bytes behind the last whole record are torn: half a line
    after a kill, zeros after a power cut. Raises StoreError when something in the middle is not a record,
    or the log is of a version that this one would misread.
    """
    events: list[Event] = []
    end = position = 0
    broken = 0  # number of the first line that is no record; only a whole record after it makes it damage
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        position += len(line) + 1
        event = record(line)
        if event is None:
            broken = broken or number
            continue
        if broken:
            raise StoreError(
                f"{path}, line {broken}: not an event; the log is damaged",
                "other runs are not affected; `pool discard` removes this one",
            )
        end = position
        if event.type not in LIVE:
            events.append(event)
    _check_version(events, path)
    return Log(events, end, len(content) - end)


def record(line: bytes) -> Event | None:
    """The event on a line; None when it is not one."""
    try:
        return from_line(line)
    except (ValueError, TypeError, RecursionError):
        return None


def _check_version(events: list[Event], path: Path) -> None:
    version = events[0].data.get("log", LOG_VERSION) if events else LOG_VERSION
    if isinstance(version, int) and version > LOG_VERSION:
        raise StoreError(
            f"{path} is of log version {version}; this pool reads up to {LOG_VERSION}", "update pool"
        )


def load(run_dir: Path) -> Log:
    """The log of a run with what is to be said about it. Raises StoreError when it cannot be read."""
    path = run_dir / LOG
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise StoreError(f"cannot read the run's log {path}: {error.strerror}") from error


def read(run_dir: Path, report: Callable[[str], None] | None = None) -> list[Event]:
    """The stored events of a run, in order. `report` gets one line for each thing left out."""
    log = load(run_dir)
    if report is not None:
        for note in log.notes:
            report(note)
    return log.events


def locked(run_dir: Path) -> bool:
    """Whether a living process writes this run. The lock is free once its holder is dead."""
    try:
        fd = os.open(run_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
