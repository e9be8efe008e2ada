"""What llama.cpp tells of a prompt while it reads it, when it is asked to (`return_progress`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolcli.models.base import Piece


class Prefill:
    """How far one prompt was read. `grew` counts the times that it got further: the sign of a server at work."""

    def __init__(self) -> None:
        self.grew = 0
        self._read = -1
        self._told = -1

    def feed(self, chunk: Mapping[str, Any]) -> Piece | None:
        """What to tell people for a chunk of a stream; nothing where it says nothing new."""
        progress = chunk.get("prompt_progress")
        if not isinstance(progress, dict):
            return None
        total, cached, read = (_count(progress.get(name)) for name in ("total", "cache", "processed"))
        if read <= self._read or total <= cached:
            return None
        self._read = read
        self.grew += 1
        # Of what is to be read: a cached part is there at once and would make the rest look quick.
        percent = min(100, 100 * max(read - cached, 0) // (total - cached))
        if percent == self._told:
            return None
        self._told = percent
        return Piece("progress", f"reading the prompt {percent} %")


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
