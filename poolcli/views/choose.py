"""Which view a command gets: by its options and by where its output goes."""

from __future__ import annotations

import os
from typing import Protocol, TextIO

from poolcli.events import Event


class View(Protocol):
    """Something that watches a run."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def recall(self, event: Event) -> None:
        """Take an event into account without showing it."""

    def close(self, *, running: bool = False) -> None:
        """Finish the output. `running`: the events end here, but another process goes on with the run."""


def choose(
    *,
    json: bool,
    plain: bool,
    quiet: bool,
    stdout: TextIO,
    stderr: TextIO,
    patch_to_stdout: bool,
    verbose: bool = False,
    next_steps: bool = True,
) -> View:
    """The view for these options.

    `json` gives the log on standard output; otherwise people are written to there, in colour and motion on a
    terminal, else as plain lines. With `patch_to_stdout` standard output belongs to the patch alone.
    """
    stream = stderr if patch_to_stdout else stdout
    next_steps = next_steps and not patch_to_stdout
    if json:
        from poolcli.views.jsonl import JsonlView

        return JsonlView(stream.buffer, terminal=stream.isatty())
    if plain or quiet or not stream.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        from poolcli.views.plain import PlainView

        return PlainView(stream, verbose=verbose, quiet=quiet, next_steps=next_steps)
    from poolcli.views.terminal import TerminalView

    return TerminalView(stream, verbose=verbose, next_steps=next_steps)
