"""Notices a text that repeats itself without end: the same token, line or paragraph over and over.

Code repeats lines, tables repeat rows, and a test may hold a long string of one letter, so only what is far beyond
that counts: an exact period, many times over, for thousands of characters.
"""

from __future__ import annotations

from msgspec import Struct, field

#: The longest period in characters: a long paragraph, or a whole small function.
MAX_PERIOD = 2000
#: How often it must have come, and how many characters that must be at least: a long paragraph six times, or a
#: token more than a thousand times.
MIN_TIMES, MIN_LENGTH = 6, 5000
#: Characters between two looks: each costs as much as reading the end of the text a few times.
STEP = 1000
#: Periods that are kept of a text that was stopped: enough to see what repeated.
KEPT = 2

_TAIL = MIN_TIMES * MAX_PERIOD


class Loop(Struct, frozen=True):
    """A repetition: characters of its period, and those from the end of the text that repeat."""

    period: int
    length: int


def find(text: str) -> Loop | None:
    """The repetition that the text ends in, None when there is none. Linear in the last `_TAIL` characters."""
    end = text[-_TAIL:][::-1]  # backwards: `find` is linear, `rfind` is not
    # The nearest place where as many characters as the longest period come again is one period away, exactly.
    period = end.find(end[:MAX_PERIOD], 1) if len(end) > MAX_PERIOD else -1
    if not 0 < period <= MAX_PERIOD:
        return None
    need = max(MIN_LENGTH, MIN_TIMES * period)
    if len(end) < need or end[period:need] != end[: need - period]:
        return None
    return Loop(period, _extent(text, period))


def _extent(text: str, period: int) -> int:
    """How many characters at the end have this period."""
    at = len(text)
    while at > period:
        start = max(at - period, period)
        if text[start:at] != text[start - period : at - period]:
            break
        at = start
    return len(text) - max(at - period, 0)


def shorten(text: str) -> str:
    """The text up to the end of the second period of the repetition that it ends in."""
    loop = find(text)
    return text if loop is None else text[: len(text) - loop.length + KEPT * loop.period]


class _End(Struct):
    """The end of a text, and what came since it was last looked at."""

    old: str = ""
    fresh: list[str] = field(default_factory=list)
    unseen: int = 0


class Watch:
    """Looks for a repetition in texts that arrive in pieces, each of a kind of its own."""

    def __init__(self) -> None:
        #: The kind of text that repeats itself, '' for none.
        self.found = ""
        self._texts: dict[str, _End] = {}

    def feed(self, kind: str, piece: str) -> None:
        """Take in the next piece of the text of that kind."""
        text = self._texts.setdefault(kind, _End())
        text.fresh.append(piece)
        text.unseen += len(piece)
        if text.unseen >= STEP:
            text.old = (text.old + "".join(text.fresh))[-_TAIL:]
            text.fresh.clear()
            text.unseen = 0
            if find(text.old):
                self.found = kind
