"""What a model was last shown of a file, and how often its edits of it have missed: in the memory of this process.

Kept apart from the context of a call, by the run's folder for outputs, as `earlier` is. A run that is resumed begins
without it, which costs nothing but a less precise refusal.
"""

from __future__ import annotations

from pathlib import Path

#: Characters of shown texts that are kept for a run; the ones shown longest ago are forgotten first.
MOST = 16_000_000

#: Edits of one file that may miss before its refusals ask for larger pieces.
MISSES = 2

_SHOWN: dict[Path, dict[str, str]] = {}
_MISSED: dict[Path, dict[str, int]] = {}


def show(run: Path, path: str, text: str) -> None:
    """The model was shown this text of the file, or wrote it."""
    shown = _SHOWN.setdefault(run, {})
    shown.pop(path, None)
    shown[path] = text
    size = sum(map(len, shown.values()))
    while size > MOST:
        size -= len(shown.pop(next(iter(shown))))


def shown(run: Path, path: str) -> str | None:
    """What the model knows of the file; None when that is not known."""
    return _SHOWN.get(run, {}).get(path)


def miss(run: Path, path: str) -> bool:
    """Count an edit that missed. Whether there are so many now that something else should be tried."""
    missed = _MISSED.setdefault(run, {})
    missed[path] = missed.get(path, 0) + 1
    return missed[path] >= MISSES


def often(run: Path, path: str) -> bool:
    """Whether the last edits of the file have missed so often."""
    return _MISSED.get(run, {}).get(path, 0) >= MISSES


def landed(run: Path, path: str, text: str) -> None:
    """An edit of the file landed; this is its text now."""
    _MISSED.get(run, {}).pop(path, None)
    show(run, path, text)
