"""Small pieces of wording: one clean line, numbers, durations, paths."""

from __future__ import annotations

import os

from poolcli.sanitize import clean, shown


def line(text: object) -> str:
    """Any value as one clean line."""
    return clean(str(text), keep_newlines=False).strip()


def exact(text: object) -> str:
    """A command as one line in which nothing is hidden: whatever a terminal would act on is shown."""
    return clean(shown(str(text)), keep_newlines=False).strip()


def rows(text: object) -> list[str]:
    """Any text as clean lines, without empty ones at its ends."""
    return [row.rstrip() for row in clean(str(text)).strip("\n").split("\n")]


def seconds(value: float) -> str:
    """A duration: `0.3s`, `12s`, `3m 05s`, `1h 02m`."""
    if value < 9.95:
        return f"{value:.1f}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def count(value: int) -> str:
    """A number of tokens: `812`, `7.5k`, `33k`, `1.2M`."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f}".removesuffix(".0") + unit if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return str(value)


def window(tokens: int) -> str:
    """A context window, which people know in units of 1024: `32k`."""
    return count(tokens) if tokens % 1024 else f"{tokens // 1024}k"


def plural(number: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def place(path: object) -> str:
    """A path of this machine as a person would type it."""
    home = os.path.expanduser("~")  # noqa: PTH111  pathlib costs more and raises where there is no home
    shown = line(path)
    return "~" + shown[len(home) :] if len(home) > 1 and shown.startswith(home + "/") else shown


def beginning(text: str, limit: int) -> tuple[str, int]:
    """The first words of a clean text, as one line within `limit` characters, and how many lines follow."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat, 0
    head = flat[:limit].rpartition(" ")[0] or flat[:limit]
    left = len(head.split())
    lines = text.strip().split("\n")
    for number, row in enumerate(lines, 1):
        left -= len(row.split())
        if left < 0:
            # A line that was begun counts as one that follows.
            return head, len(lines) - number + 1
    return head, 1
