"""One line at a terminal that says that something runs: how long, and the last thing it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from typing import TextIO

from poolcli.sanitize import clean

#: Seconds between two drawings: a moving second is seen, and the terminal is not kept busy.
PERIOD = 0.2
#: Characters of the newest output that are kept; a line is shorter.
KEPT = 2000


class StatusLine:
    """The line, drawn while the block runs and gone after it. Elsewhere than at a terminal: `title` once, as a line,
    unless it was said `again`."""

    def __init__(self, stream: TextIO, title: str, *, hidden: bool = False, again: bool = False) -> None:
        self._stream, self._title, self._hidden, self._again = stream, title, hidden, again
        self._live = not hidden and stream.isatty() and os.environ.get("TERM") not in ("dumb", None)
        self._newest = ""
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> StatusLine:
        self._began = time.monotonic()
        if self._live:
            self._task = asyncio.create_task(self._draws())
        elif not (self._hidden or self._again):
            self._stream.write(clean(self._title, keep_newlines=False) + "\n")
            self._stream.flush()
        return self

    async def __aexit__(self, *ended: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._write("")

    def output(self, text: str) -> None:
        """Take what was written."""
        self._newest = (self._newest + text)[-KEPT:]

    async def _draws(self) -> None:
        while True:
            last = next((line for line in reversed(self._newest.splitlines()) if line.strip()), "")
            self._write(f"{time.monotonic() - self._began:4.0f} s  {self._title}  {last.strip()}")
            await asyncio.sleep(PERIOD)

    def _write(self, text: str) -> None:
        # One column is left free: a full line would wrap, and could then not be overwritten.
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{clean(text, keep_newlines=False)[:width]}")
        self._stream.flush()
