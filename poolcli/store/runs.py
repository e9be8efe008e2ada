"""Which runs there are in a repository's state folder, and which one a person means."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from poolcli.errors import UnknownRunError
from poolcli.events import AFTERWARDS, Event
from poolcli.store import result as results
from poolcli.store.reading import LOG, locked, record

#: Bytes from a log's end in which its last record is looked for: `run.ended` is far smaller.
_TAIL = 65536
#: Marks in a run's folder of what became of its work: it was landed (the file says so if in part), it was thrown
#: away.
APPLIED, DISCARDED = "applied", "discarded"
#: What the first of these files holds when not all of the patch was landed.
PARTLY = "partly applied"


class RunInfo(Struct, frozen=True):
    """A run as `pool log` lists it. `started` is wall time in seconds since the epoch, 0 when not known."""

    id: str
    dir: Path
    #: As in `run.ended`; "running" while its process lives, "killed" when that died without a word.
    status: str
    task: str = ""
    started: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    model: str = ""
    #: {files, added, removed, file}, as far as known.
    patch: Mapping[str, Any] = field(default_factory=dict)
    #: What became of the work: "applied", "partly applied", "discarded", or "" when it still waits.
    fate: str = ""

    @property
    def files(self) -> int:
        """How many files the patch changes."""
        return int(self.patch.get("files") or 0)

    @property
    def added(self) -> int:
        """How many lines the patch adds."""
        return int(self.patch.get("added") or 0)

    @property
    def removed(self) -> int:
        """How many lines the patch removes."""
        return int(self.patch.get("removed") or 0)

    def to_json(self) -> dict[str, Any]:
        """The run as `pool log --json` prints it."""
        return {
            "run": self.id,
            "status": self.status,
            "task": self.task,
            "started": self.started,
            "seconds": self.seconds,
            "exit_code": self.exit_code,
            "model": self.model,
            "patch": dict(self.patch),
            "fate": self.fate,
            "dir": str(self.dir),
        }


def new_run_id() -> str:
    """An id that sorts by time (UTC, to the millisecond) and ends in four random digits that people type.

    For example 20261123-234501.042-4f2a.
    """
    now = time.time_ns() // 1_000_000
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now // 1000))}.{now % 1000:03}-{os.urandom(2).hex()}"


def short(run_id: str) -> str:
    """The part of an id that people type; `find` accepts it."""
    return run_id.rpartition("-")[2]


def run_dirs(state: Path) -> list[Path]:
    """The folders of all runs, newest first."""
    try:
        with os.scandir(state / "runs") as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return [state / "runs" / name for name in sorted(names, reverse=True) if _began(state / "runs" / name)]


def _began(run_dir: Path) -> bool:
    """Whether anything was recorded: a process killed before that leaves an empty log, which is no run."""
    try:
        return (run_dir / LOG).stat().st_size > 0
    except OSError:
        return False


def find(state: Path, ref: str) -> Path:
    """The folder of the run that `ref` means: "" or "last" is the newest, else an id, its start or end.

    Raises UnknownRunError when there is none or more than one.
    """
    folders = run_dirs(state)
    if not folders:
        raise UnknownRunError("there are no runs in this repository yet", 'start one: `pool do "task"`')
    if ref in ("", "last"):
        return folders[0]
    found = [f for f in folders if f.name == ref] or [
        f for f in folders if f.name.startswith(ref) or f.name.endswith(ref)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f.name for f in found[:5]) + (
            f" and {len(found) - 5} more" if len(found) > 5 else ""
        )
        raise UnknownRunError(f"{ref!r} could be {names}", "give more of the id")
    raise UnknownRunError(f"there is no run {ref!r} in this repository", "`pool log` lists the runs")


def runs(state: Path) -> list[RunInfo]:
    """All runs, newest first. A damaged one is listed with what can be read."""
    return [info(folder) for folder in run_dirs(state)]


def info(run_dir: Path) -> RunInfo:
    """One run, from its result if it has one, else from the two ends of its log."""
    first, last = _ends(run_dir / LOG)
    result = results.read(run_dir)
    data = result or (last.data if last is not None and last.type == "run.ended" else {})
    began = first.data if first is not None else {}
    running = result is None and locked(run_dir)
    status = "running" if running else str(data.get("status") or "killed")
    model = began.get("model") or data.get("model") or {}
    return RunInfo(
        run_dir.name,
        run_dir,
        status,
        str(began.get("task") or data.get("task") or ""),
        first.t if first is not None else 0.0,
        float(data.get("seconds") or (last.t - first.t if first and last else 0.0)),
        data.get("exit_code"),
        str(model.get("name", "")),
        data.get("patch") or {},
        _fate(run_dir),
    )


def _fate(run_dir: Path) -> str:
    if (run_dir / DISCARDED).exists():
        return DISCARDED
    try:
        return (run_dir / APPLIED).read_text("utf-8").strip() or APPLIED
    except OSError:
        return ""


def _ends(path: Path) -> tuple[Event | None, Event | None]:
    """First and last whole record of a log, without reading what is between."""
    try:
        with path.open("rb") as file:
            first = record(file.readline())
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return None, None
    found = (e for line in reversed(lines[:-1]) if (e := record(line)) and e.type not in AFTERWARDS)
    return first, next(found, first)
