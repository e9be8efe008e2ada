"""The view for people at a terminal: what was done stays, what is going on moves at the bottom."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TextIO

from poolcli.events import LIVE, Event
from poolcli.views.blocks import Block, Quote, gap
from poolcli.views.output import fit, is_unicode, size
from poolcli.views.status import SPINNER, SPINNER_ASCII, Status
from poolcli.views.wording import Wording

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from poolcli.views.drawing import Pen
    from poolcli.views.footer import Footer

THINKING_ROWS = 3  # of streaming reasoning
OUTPUT_ROWS = 5  # of a running command


class TerminalView:
    """Draws a run with rich. Only stored events leave something behind, so a replay looks the same.

    `live` turns the moving rows on or off; by default they are on when the stream is a terminal. `width` in
    columns is the terminal's own unless given. `console` replaces the one made for `stream`, to record it.
    """

    def __init__(
        self,
        stream: TextIO,
        width: int | None = None,
        *,
        verbose: bool = False,
        next_steps: bool = True,
        live: bool | None = None,
        console: Console | None = None,
    ) -> None:
        self._stream, self._width, self._verbose = stream, width, verbose
        self._live = stream.isatty() if live is None else live
        self._wording = Wording(verbose=verbose, next_steps=next_steps)
        self._status = Status()
        self._before: Block | None = None
        self._unicode = is_unicode(stream)
        self._console = console
        self._recording = console is not None
        self._footer: Footer | None = None
        # The finished lines of a streaming reply, as (text, width, drawn): only its last line still changes.
        self._finished: tuple[str, int, list[str]] = ("", 0, [])

    def __call__(self, event: Event) -> None:
        """Show one event. Raises OSError when the terminal is gone."""
        if self._live:
            self._feed(event)
        if event.type not in LIVE:
            self._show(self._wording.blocks(event))

    def recall(self, event: Event) -> None:
        """Take an event into account that was shown before, by another process."""
        self._wording.blocks(event)

    def close(self, *, running: bool = False) -> None:
        """Take the moving rows away and say where a run stands that has not ended."""
        if self._footer is not None:
            # A terminal that is gone needs no tidying.
            with contextlib.suppress(OSError, ValueError):
                self._footer.stop()
        self._show(self._wording.rest(running=running))

    def _feed(self, event: Event) -> None:
        footer = self._footer or self._make_footer()
        with footer.lock():
            self._status.feed(event)
        if self._status.over or self._status.asking:
            footer.stop()
        else:
            footer.start()

    def _make_footer(self) -> Footer:
        from rich.cells import cell_len

        from poolcli.views.footer import Footer

        self._footer = Footer(self._stream, self._moving, cell_len)
        return self._footer

    def _show(self, blocks: list[Block]) -> None:
        rows: list[Text] = []
        for block in blocks:
            drawn = self._pen().rows(block)
            rows += [*self._empty(gap(self._before, block)), *drawn]
            self._before = block
        if not rows:
            return
        if self._recording:
            self._print(rows)
        elif self._footer is not None:
            self._footer.above(self._ansi(rows))
        else:
            self._stream.write(self._ansi(rows))
            self._stream.flush()

    @staticmethod
    def _empty(wanted: bool) -> list[Text]:
        from rich.text import Text

        return [Text()] if wanted else []

    def _pen(self, width: int | None = None) -> Pen:
        from poolcli.views.drawing import Pen

        console = self._make_console()
        return Pen(console, width or self._width or size(self._stream)[0])

    def _make_console(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        return self._console

    def _print(self, rows: list[Text]) -> None:
        for row in rows:
            # Wrapped already, to the same rows wherever they go.
            self._make_console().print(row, no_wrap=True, overflow="ignore", crop=False)

    def _ansi(self, rows: list[Text]) -> str:
        with self._make_console().capture() as captured:
            self._print(rows)
        return captured.get() if self._unicode else fit(captured.get(), self._stream)

    def _moving(self, columns: int, rows: int) -> list[str]:
        """The rows at the bottom: the reply or the output as it comes, and the status line."""
        from rich.text import Text

        pen = self._pen(min(columns, self._width or columns) - 1)
        room = max(1, min(rows - 3, 2 * rows // 3))
        above: list[str] = []
        status = self._status
        if status.kind == "think":
            above = ["", *self._lines(pen.thought(status.streamed())[-THINKING_ROWS:])]
        elif status.kind == "text":
            above = ["", *self._streaming(pen, status.streamed())]
        elif output := status.output():
            above = self._lines(pen.rows(Quote(tuple(output[-OUTPUT_ROWS:]))))
        return [*above[-room:], *self._lines([Text(), self._status_line(pen.width)])]

    def _streaming(self, pen: Pen, text: str) -> list[str]:
        from poolcli.views.drawing import in_fence

        finished, _, last = text.rpartition("\n")
        if self._finished[:2] != (finished, pen.width):
            drawn = self._lines(pen.prose(finished)) if finished else []
            self._finished = finished, pen.width, drawn
        return self._finished[2] + self._lines(pen.prose("```\n" + last if in_fence(finished) else last))

    def _lines(self, rows: list[Text]) -> list[str]:
        return self._ansi(rows).split("\n")[:-1]

    def _status_line(self, width: int) -> Text:
        from rich.text import Text

        status = self._status
        right = Text(status.figures(width // 2), "dim")
        left = Text("  " + status.spinner(SPINNER if self._unicode else SPINNER_ASCII) + " ", "cyan")
        left.append(status.activity(), "")
        left.truncate(max(8, width - right.cell_len - 2), overflow="ellipsis")
        left.pad_right(max(2, width - left.cell_len - right.cell_len))
        return left.append_text(right)
