"""Rows at the bottom of a terminal that change while everything above them stays."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from poolcli.views.output import size

#: Draws the rows for (columns, rows) of the terminal; each row is narrower than the terminal.
Draw = Callable[[int, int], Sequence[str]]

PERIOD = 0.1  # seconds between two pictures of the spinner

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# A terminal that knows synchronised updates shows a write at once; others ignore these.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"


class Footer:
    """Owns the terminal's last rows. Text goes above them; a thread of its own keeps them moving.

    Rows are overwritten in place rather than erased first, so nothing flickers. They first appear after one
    period, so that a replayed log never shows them.
    """

    def __init__(self, stream: TextIO, draw: Draw, measure: Callable[[str], int]) -> None:
        self._stream, self._draw, self._measure = stream, draw, measure
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown: list[str] = []

    def start(self) -> None:
        """Begin to paint, if not yet."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._keep_painting, name="pool-footer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take the rows away for good (until `start`)."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        with self._lock:
            if self._shown:
                self._write(self._home() + "\x1b[J\x1b[?25h")
                self._shown = []

    def lock(self) -> threading.RLock:
        """Held by whoever changes what `draw` reads."""
        return self._lock

    def above(self, text: str) -> None:
        """Write lines (each with its line end) above the rows."""
        with self._lock:
            if not self._shown:
                self._write(text)
                return
            rows = list(self._draw(*size(self._stream)))
            lines = "".join("\x1b[K" + line for line in text.splitlines(keepends=True))
            self._write(self._home() + lines + self._paint(rows))

    def _keep_painting(self) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # the terminal is gone; the next write of a view says so
            while not self._stop.wait(PERIOD):
                with self._lock:
                    rows = list(self._draw(*size(self._stream)))
                    if rows != self._shown and not self._stop.is_set():
                        hide = "" if self._shown else "\x1b[?25l"
                        self._write(hide + self._home() + self._paint(rows))

    def _home(self) -> str:
        """Moves to where the rows begin. A terminal made narrower has broken each into several."""
        if not self._shown:
            return "\r"
        columns, _ = size(self._stream)
        up = sum(max(1, -(-self._measure(_STYLE.sub("", row)) // columns)) for row in self._shown) - 1
        return f"\r\x1b[{up}A" if up else "\r"

    def _paint(self, rows: list[str]) -> str:
        self._shown = rows
        return "\n".join("\x1b[K" + row for row in rows) + "\x1b[J"

    def _write(self, text: str) -> None:
        self._stream.write(_BEGIN + text + _END)
        self._stream.flush()
