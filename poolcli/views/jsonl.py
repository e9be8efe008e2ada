"""The log itself, as it is written: one JSON object per line and nothing else."""

from __future__ import annotations

from typing import BinaryIO

from poolcli.events import LIVE, Event, to_line
from poolcli.sanitize import in_json


class JsonlView:
    """Writes stored events to a binary stream. Raises BrokenPipeError when nobody reads any more."""

    def __init__(self, stream: BinaryIO, *, terminal: bool = False) -> None:
        """At a `terminal` what it would act on is written as JSON escapes."""
        self._stream, self._terminal = stream, terminal

    def __call__(self, event: Event) -> None:
        """Write one event; live ones are left out."""
        if event.type not in LIVE:
            line = to_line(event)
            self._stream.write(in_json(line.decode()).encode() if self._terminal else line)
            self._stream.flush()

    def recall(self, event: Event) -> None:
        """Nothing: each event stands for itself."""

    def close(self, *, running: bool = False) -> None:
        """Nothing is left to write."""
