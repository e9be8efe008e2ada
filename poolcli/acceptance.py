"""What became of a run's patch, from its log: which hunks people took, and which landings were taken back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from poolcli import redact
from poolcli.errors import StoreError
from poolcli.events import Event
from poolcli.store import reading, runs
from poolcli.store.trace import Trace


class Taken(Struct, frozen=True):
    """What of a patch is in the checkout, as far as the log says."""

    #: Ids of hunks and of their parts that landed as they are.
    plain: frozenset[str] = frozenset()
    #: Those that a person edited before.
    edited: frozenset[str] = frozenset()
    #: All of the patch landed.
    whole: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.plain or self.edited or self.whole)


def taken(events: Iterable[Event]) -> Taken:
    """What landings to the checkout took that were not taken back."""
    plain: set[str] = set()
    edited: set[str] = set()
    whole = False
    for data in _landings(events):
        if data.get("to") == "branch":
            continue
        whole = whole or _is_whole(data)
        for hunk in data.get("hunks") or ():
            ids = {hunk.get("id", ""), *(hunk.get("parts") or ())}
            if hunk.get("outcome") == "taken":
                plain |= ids
            elif hunk.get("outcome") == "edited":
                edited |= ids
    return Taken(frozenset(plain), frozenset(edited), whole)


def fate(events: Iterable[Event]) -> str:
    """What `pool log` says of it: applied, partly applied or ''."""
    landings = [data for data in _landings(events) if data.get("taken")]
    if not landings:
        return ""
    return runs.APPLIED if any(map(_is_whole, landings)) else runs.PARTLY


def record(run_dir: Path, type: str, data: Mapping[str, Any]) -> None:
    """Append an event about a landing to the log of a run that is over, and mark the run. Raises StoreError.

    Safe to repeat: a landing has one event of a type.
    """
    trace = Trace.reopen(run_dir, afterwards=True)
    try:
        events = reading.read(run_dir)
        if not any(e.type == type and e.data.get("landing") == data["landing"] for e in events):
            told = redact.current().data(data)
            event = Event(run_dir.name, trace.seq + 1, round(time.time(), 3), type, told)
            trace.append(event)
            trace.sync()
            events.append(event)
        _mark(run_dir, fate(events))
    finally:
        trace.close()


def _mark(run_dir: Path, word: str) -> None:
    mark = run_dir / runs.APPLIED
    try:
        if word:
            mark.write_text("" if word == runs.APPLIED else word, "utf-8")
        else:
            mark.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {mark}: {error.strerror or error}") from error


def _landings(events: Iterable[Event]) -> list[Mapping[str, Any]]:
    """The data of landings that were not taken back, in order."""
    found: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event.type == "applied":
            found[str(event.data.get("landing"))] = event.data
        elif event.type == "undone":
            found.pop(str(event.data.get("landing")), None)
    return list(found.values())


def _is_whole(data: Mapping[str, Any]) -> bool:
    return not data.get("left", 0)
