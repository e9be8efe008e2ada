"""Draws a run's log as a picture: python scripts/render_run.py EVENTS.jsonl OUT.svg [--width 92] [--rows 60]

The README's picture is made with this from the log of a real run, through the same view that people see.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from poolcli.store.reading import parse
from poolcli.views.terminal import TerminalView

# rich's picture loads its font from a web server; ours takes what the reader has.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "font-family: Fira Code, monospace",
    "font-family: ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace",
)


class Recorder(Console):
    """A console that keeps rows instead of writing them, so that the picture's height can be bounded."""

    def __init__(self, width: int) -> None:
        super().__init__(
            file=io.StringIO(),
            width=width,
            record=True,
            color_system="truecolor",
            force_terminal=True,
            no_color=False,
            highlight=False,
        )


def render(log: Path, width: int, rows: int, title: str) -> str:
    """The SVG of a log: all of it, or its beginning and end when it has more than `rows` rows."""
    console = Recorder(width)
    view = TerminalView(console.file, width, live=False, console=console)  # type: ignore[arg-type]
    for event in parse(log.read_bytes(), log).events:
        view(event)
    view.close()
    lines = list(Segment.split_lines(console._record_buffer))
    console._record_buffer.clear()
    if len(lines) > rows:
        top = rows * 2 // 3
        lines[top : len(lines) - (rows - top) + 1] = [list(Text("  ⋮", "bright_black").render(console))]
    for line in lines:
        console._record_buffer += [*line, Segment.line()]
    return console.export_svg(title=title, code_format=FORMAT)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=92, help="columns")
    parser.add_argument("--rows", type=int, default=60, help="rows at most")
    parser.add_argument("--title", default="pool do")
    options = parser.parse_args()
    options.out.write_text(render(options.log, options.width, options.rows, options.title), encoding="utf-8")


if __name__ == "__main__":
    main()
