"""Condenses Python tracebacks: frames of the project and the message, nothing else."""

from __future__ import annotations

import re

from poolcli.verdict.failures import FRAMES, bounded, clip, inside, is_marker

START = "Traceback (most recent call last):"
CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
#: Stands between an exception and the one that it led to.
THEN = "then"

_FRAME = re.compile(r'\s*File "([^"]+)", line ([0-9]+)')
_HINT = re.compile(r"\?[ ^+~-]*\Z")


def condense(lines: list[str], root: str, mark: str = "") -> list[str]:
    """The last exception of the chain with its innermost frames, the one before it in short.

    `mark` begins each line of the last message. Empty when there is no traceback in the lines.
    """
    starts = [number for number, line in enumerate(lines) if line == START]
    if not starts:
        return []
    parts = [lines[start + 1 : end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return chain([_exception(part, root) for part in parts], mark)


def chain(parts: list[tuple[list[str], list[str]]], mark: str = "") -> list[str]:
    """Frames and messages of chained exceptions, in order, as evidence."""
    evidence: list[str] = []
    for frames, message in parts[-2:-1]:
        evidence += [*frames[-1:], *(mark + clip(line) for line in message[:1]), THEN]
    frames, message = parts[-1]
    return [*evidence, *frames[-FRAMES:], *(mark + line for line in bounded(message))]


def frame(line: str, source: str, root: str) -> str | None:
    """`path:line: source` for a traceback's `File "…", line N` line; None for code outside the project."""
    match = _FRAME.match(line)
    return place(match[1], match[2], source, root) if match else None


def place(path: str, number: str, source: str, root: str) -> str | None:
    """`path:line: source`, or None for code outside the project."""
    relative = inside(path, root)
    if relative is None:
        return None
    source = "" if is_marker(source) else source.strip()
    return clip(f"{relative}:{number}: {source}".rstrip())


def telling(lines: list[str]) -> list[str]:
    """The lines of a message without blank ones, hints at columns and sentences about the chain."""
    return [
        line
        for line in lines
        if line.strip() and line not in CHAINED and not _HINT.match(line) and not is_marker(line)
    ]


def _exception(lines: list[str], root: str) -> tuple[list[str], list[str]]:
    frames: list[str] = []
    for number, line in enumerate(lines):
        if line and not line.startswith("  "):
            return frames, telling(lines[number:])
        after = lines[number + 1] if number + 1 < len(lines) else ""
        found = frame(line, after if after.startswith("    ") else "", root)
        if found:
            frames.append(found)
    return frames, []
