"""`result.json`: how a run ended, for programs. Always there once a run is over, also after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolcli import redact
from poolcli.errors import StoreError
from poolcli.events import AFTERWARDS, Event
from poolcli.store.reading import LOCK, LOG, RESULT, load

KILLED = "the process ended without recording an end (killed, or the machine stopped)"


def write(run_dir: Path, result: Mapping[str, Any]) -> None:
    """Write a run's result: whole or not at all. Raises StoreError naming the file."""
    write_to(run_dir / RESULT, result)


def write_to(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result to any place. A file is replaced at once; a pipe or device is written to.

    Raises StoreError naming the file.
    """
    result = redact.current().data(result)
    content = json.dumps(result, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path, content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    # Beside the real file, so that a symbolic link stays one.
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # For this user alone, like the run's other files, whatever the umask.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123 (a descriptor)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read(run_dir: Path) -> dict[str, Any] | None:
    """The result of a run; None while it has none, or when the file is not one."""
    try:
        result = json.loads((run_dir / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def repair(run_dir: Path) -> dict[str, Any] | None:
    """Write the result of a run whose process died before it could. Returns it; None when nothing is to do.

    Costs one `stat` when the result is there. A run that a living process holds, or whose log is damaged, is
    left alone; so is one that cannot be written to now.
    """
    if (run_dir / RESULT).exists() or not (run_dir / LOG).exists():
        return None
    try:
        lock = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        # Held while writing, so that a resume cannot begin in between.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        result = from_log(run_dir)
        write(run_dir, result)
        return result
    except (OSError, StoreError):
        return None
    finally:
        os.close(lock)


def repair_all(state: Path) -> list[str]:
    """Repair every run of a repository's state folder; one line for each."""
    lines = []
    with contextlib.suppress(OSError):
        for run_dir in sorted((state / "runs").iterdir()):
            if result := repair(run_dir):
                lines.append(f"run {run_dir.name} had no result; recorded as {result['status']}")
    return lines


def from_log(run_dir: Path) -> dict[str, Any]:
    """What can be said of a run's end from its log alone: status "killed" unless the log holds an end.

    Raises StoreError when the log is damaged.
    """
    events = [event for event in load(run_dir).events if event.type not in AFTERWARDS]
    first = next((e.data for e in events if e.type == "run.started"), {})
    patch = run_dir / "patch.diff"
    result: dict[str, Any] = {
        "run": run_dir.name,
        "status": "killed",
        "exit_code": None,
        "why": KILLED,
        "task": first.get("task", ""),
        "repository": first.get("root", ""),
        "base": first.get("base", ""),
        "patch": {"file": str(patch) if patch.exists() else ""},
        "usage": _usage(events),
        "seconds": round(events[-1].t - events[0].t, 3) if events else 0.0,
        "ended": events[-1].t if events else None,
        "model": first.get("model", {}),
        "versions": {"pool": first.get("version", "")},
        "log": str(run_dir / LOG),
    }
    if end := _end(events):
        result |= {
            key: end.data[key]
            for key in ("status", "exit_code", "why", "grade", "patch", "usage", "seconds")
            if key in end.data
        }
        result["ended"] = end.t
        result["patch"] = {"file": str(patch) if patch.exists() else "", **result["patch"]}
    return result


def _end(events: list[Event]) -> Event | None:
    """The run's end, unless it was resumed after that."""
    for event in reversed(events):
        if event.type in ("run.ended", "run.resumed"):
            return event if event.type == "run.ended" else None
    return None


def _usage(events: list[Event]) -> dict[str, int]:
    usage = {"turns": 0, "prompt": 0, "completion": 0, "cached": 0}
    for event in events:
        if event.type == "model.replied":
            usage["turns"] += 1
            for name in ("prompt", "completion", "cached"):
                usage[name] += (event.data.get("usage") or {}).get(name) or 0
    return usage
