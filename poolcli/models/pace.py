"""How long a server may be silent: from its measured speed, so that slow ones are let work and stuck ones noticed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from poolcli.models.base import Usage


class Limits(Struct, frozen=True):
    """Deadlines in seconds. One that has its default is stretched by what is measured; any other is kept."""

    #: To a connection.
    connect: float = 10.0
    #: To the first piece of the reply, counted anew with every sign of life (keep-alive comments, progress): a
    #: long prompt on a slow machine takes minutes, and giving up would only start it again.
    first: float = 600.0
    #: Between bytes once the reply has begun.
    idle: float = 120.0
    #: For the whole reply: what never ends, however slowly, ends here.
    total: float = 3600.0


#: The limits that nobody chose.
USUAL = Limits()


class Speeds(Struct, frozen=True):
    """Tokens per second of reading a prompt and of writing a reply; 0.0 while not known."""

    prefill: float = 0.0
    decode: float = 0.0


class Silence(Struct, frozen=True):
    """How long nothing may come, in seconds.

    After each `ask` the server is asked how it is. One of which nothing is known has until `end`; one that shows
    that it is at work has until `longest`.
    """

    ask: float
    end: float
    longest: float


#: Speed falls as the context grows and as others share the server: a measured one counts for a fifth.
MARGIN = 5.0
#: Seconds that a request may wait in a queue, or for another model to be unloaded, before it is read.
QUEUE = 60.0
#: The fewest bytes of a request that are one token, roughly: most have 3.5, text in Chinese or of digits less.
TOKEN_BYTES = 2
#: A server is asked how it is after so many seconds, or after the time for so many tokens where that is longer.
ASK, ASK_TOKENS = 30.0, 200
#: Some servers hand a call out only when it is whole; a file that a model writes in one call seldom has more tokens.
SILENT_TOKENS = 4000
#: How many times as long one that says that it is at work may be silent. It may be wrong: it is no proof.
WORKING = 4
#: Fewer tokens than these say nothing about speed: what is fixed in a request outweighs them.
FEWEST_READ, FEWEST_WRITTEN = 64, 16
#: The weight of a new measurement; three replies make most of the estimate.
WEIGHT = 0.4


#: How many times the limit for a whole reply may be counted anew as the prompt is read: 250,000 tokens at 9 a second.
PREFILLS = 8


class Deadline:
    """When a reply must be over, whatever comes: `end` in seconds of the monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        self._total = limits.total
        # Somebody's own choice is kept to the second; the usual one counts from the end of the prefill.
        self._stretches = limits.total == USUAL.total
        self._start = time.monotonic()
        self.end = self._start + self._total

    def reading(self) -> None:
        """The server has got further in reading the prompt."""
        if self._stretches:
            self.end = min(time.monotonic(), self._start + (PREFILLS - 1) * self._total) + self._total


class Pace:
    """A running estimate of a server's speeds, and the deadlines that follow from it."""

    def __init__(self, limits: Limits, speeds: Speeds | None = None) -> None:
        """`speeds` are those known from an earlier run."""
        self._limits = limits
        known = speeds or Speeds()
        self.speeds = Speeds(_number(known.prefill), _number(known.decode))

    def first(self, size: int) -> Silence:
        """Until a reply to a request of `size` bytes begins, counted anew with every sign of life."""
        limits = self._limits
        if limits.first != USUAL.first:
            return Silence(limits.first, limits.first, limits.first)
        prompt = size / TOKEN_BYTES
        needed = QUEUE + MARGIN * prompt / self.speeds.prefill if self.speeds.prefill else 0.0
        # A server that shows that it is reading is let read: the total is limit enough.
        return Silence(ASK, max(limits.first, needed), limits.total)

    def idle(self) -> Silence:
        """Between two pieces of a reply."""
        limits, decode = self._limits, self.speeds.decode
        if limits.idle != USUAL.idle:
            return Silence(limits.idle, limits.idle, limits.idle)
        token = 1 / decode if decode else 0.0
        end = max(limits.idle, SILENT_TOKENS * token)
        return Silence(max(ASK, ASK_TOKENS * token), end, WORKING * end)

    def learn(self, usage: Usage, timings: Mapping[str, Any], first: float, total: float) -> None:
        """Take in a whole reply: its tokens, llama.cpp's `timings` ({} for none), seconds to its first piece and
        to its end."""
        prefill, decode = _reported(timings)
        if not timings:
            fresh = (usage.prompt or 0) - (usage.cached or 0)
            # Where nothing is said of the cache, an unknown part was not read: that speed would be too good.
            told = usage.cached is not None
            prefill = fresh / first if told and fresh >= FEWEST_READ and first > 0 else 0.0
            written, took = usage.completion or 0, total - first
            decode = written / took if written >= FEWEST_WRITTEN and took > 0 else 0.0
        self.speeds = Speeds(_blend(self.speeds.prefill, prefill), _blend(self.speeds.decode, decode))


def _reported(timings: Mapping[str, Any]) -> tuple[float, float]:
    prefill = _number(timings.get("prompt_per_second"))
    decode = _number(timings.get("predicted_per_second"))
    return (
        prefill if _number(timings.get("prompt_n")) >= FEWEST_READ else 0.0,
        decode if _number(timings.get("predicted_n")) >= FEWEST_WRITTEN else 0.0,
    )


def _number(value: object) -> float:
    # Bounded: a server that reports nonsense must not make a deadline of nought or without end.
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0.01 <= value <= 1e7
    return float(value) if known else 0.0  # type: ignore[arg-type]


def _blend(old: float, new: float) -> float:
    if not (old and new):
        return new or old
    return (1 - WEIGHT) * old + WEIGHT * new
