"""Ctrl-C, SIGTERM and a closed terminal: the first ends the work in good order, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import TracebackType

from poolcli.errors import Exit


class Interrupts:
    """Turns signals into the cancellation of one task. Use as a context manager inside a running loop.

    `at_once` is called before the process ends on a second signal: it kills what the run has started.
    """

    def __init__(self, task: asyncio.Task[object], at_once: Callable[[], object]) -> None:
        self._task, self._at_once = task, at_once
        #: The exit code that the first signal asks for; None while none came.
        self.exit_code: Exit | None = None

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        for number, code in SIGNALS.items():
            # What the caller had ignored (nohup, a background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, code)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _on_signal(self, code: Exit) -> None:
        if self.exit_code is not None:
            try:
                self._at_once()
            finally:
                os._exit(code)
        self.exit_code = code
        self._task.cancel()


#: A closed terminal (SIGHUP) ends a run as a request to terminate does.
SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.TERMINATED}
