"""What a stream can take: its characters and its size."""

from __future__ import annotations

import os
import re
from typing import TextIO

from poolcli.sanitize import shown

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


def exactly(data: bytes, stream: TextIO) -> None:
    """Write bytes as they are (a patch) to a pipe or file; at a terminal with what it would act on made visible.

    Raises OSError when the stream is gone.
    """
    if stream.isatty():
        text = shown(data.decode("utf-8", "replace"), keep="\t\n")
        stream.write(text if is_unicode(stream) else fit(text, stream))
        stream.flush()
    else:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal behind a stream, now; 80 by 24 where there is none."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    # A terminal that does not know its size says 0.
    return columns or 80, rows or 24
