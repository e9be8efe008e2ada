"""The log itself, as it is written: one JSON object per line and nothing else."""

from __future__ import annotations

from typing import BinaryIO

from poolcli.events import LIVE, Event, to_line


class JsonlView:
    """Writes stored events to a binary stream. Raises BrokenPipeError when nobody reads any more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write one event; live ones are left out."""
        if event.type not in LIVE:
            self._stream.write(to_line(event))
            self._stream.flush()

    def recall(self, event: Event) -> None:
        """Nothing: each event stands for itself."""

    def close(self) -> None:
        """Nothing is left to write."""
