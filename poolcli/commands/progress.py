"""How a download is shown on stderr: a bar at a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from poolcli.models.download import Watcher, gb
from poolcli.sanitize import clean

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Bytes between two lines when the length is unknown.
STRIDE = 1_000_000_000
#: Seconds between two updates of the bar's numbers; pieces come a thousand times a second.
PERIOD = 0.1


class Shown(Watcher, Protocol):
    """A watcher that has to be closed, which leaves the terminal as it was."""

    def close(self) -> None:
        """End the display."""


def choose(stream: TextIO) -> Shown:
    """What suits the stream."""
    if stream.isatty() and os.environ.get("TERM") not in ("dumb", None):
        return Bar(stream)
    return Lines(stream)


class Lines:
    """One line for each ten per cent, and one for whatever happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0
        self._began, self._from = time.monotonic(), 0

    def begins(self, done: int, total: int) -> None:
        """Speed counts from here."""
        self._began, self._from = time.monotonic(), done
        self._shown = self._step(done, total)

    def at(self, done: int, total: int) -> None:
        """Write a line when another tenth has come."""
        step = self._step(done, total)
        if step <= self._shown:
            self._shown = step if step < self._shown else self._shown  # it began anew
            return
        self._shown = step
        seconds = time.monotonic() - self._began
        speed = f", {gb((done - self._from) / seconds)}/s" if seconds > 0.5 and done > self._from else ""
        if total:
            self._write(f"{step * 10:3}%  {gb(done)} of {gb(total)}{speed}")
        else:
            self._write(f"{gb(done)}{speed}")

    def says(self, text: str) -> None:
        """Write it."""
        self._write(text)

    def close(self) -> None:
        """Nothing is open."""

    def _step(self, done: int, total: int) -> int:
        return done * 10 // total if total else done // STRIDE

    def _write(self, text: str) -> None:
        self._stream.write(clean(text, keep_newlines=False) + "\n")
        self._stream.flush()


class Bar:
    """A bar with percent, bytes, speed and the time left; it fits into 60 columns."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress: Progress = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=stream, soft_wrap=False),
            expand=True,
        )
        self._task: TaskID | None = None
        self._next = 0.0

    def begins(self, done: int, total: int) -> None:
        """Forget how fast the disk was."""
        task = self._opened(total)
        self._progress.reset(task, total=total or None, completed=done)

    def at(self, done: int, total: int) -> None:
        """Move the bar."""
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + PERIOD
            self._progress.update(self._opened(total), completed=done, total=total or None)

    def says(self, text: str) -> None:
        """Write it above the bar."""
        self._progress.console.print(
            clean(text, keep_newlines=False), markup=False, highlight=False, soft_wrap=False
        )

    def close(self) -> None:
        """Leave the bar as it is, and the cursor shown."""
        self._progress.stop()

    def _opened(self, total: int) -> TaskID:
        if self._task is None:
            self._task = self._progress.add_task("", total=total or None)
            self._progress.start()
        return self._task
