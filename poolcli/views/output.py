"""What a stream can take: its characters and its size."""

from __future__ import annotations

import os
import re
from typing import TextIO

#: What stands for our own signs where the stream's encoding does not have them.
_ASCII = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "·": "-",
        "–": "-",
        "−": "-",
        "→": "->",
        "…": "...",
        "│": "|",
        "›": ">",
        "↵": "\\n",
        "━": "-",
        "•": "*",
    }
)


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream takes every character. One without an encoding (in memory) does."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return re.sub("[-_]", "", encoding.lower()).startswith(("utf", "ucs"))


def fit(text: str, stream: TextIO) -> str:
    """Clean text with what the stream cannot encode replaced: our signs by ASCII, the rest by `\\x..`."""
    encoding = stream.encoding
    return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal behind a stream, now; 80 by 24 where there is none."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    # A terminal that does not know its size says 0.
    return columns or 80, rows or 24
