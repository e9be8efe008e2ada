"""Where the lines of a text begin, found out near what is asked about: the whole is not cut up for one place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

#: Lines from a known one to the one asked for that are stepped over; more are counted by halves of the text.
FAR = 200


class Marks:
    """A text, and the offsets whose line is known."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._offsets, self._numbers = [0], [0]
        #: Texts that were looked for to the end, and the lines (begin, end) that hold them.
        self._held: dict[str, list[tuple[int, int]]] = {}

    def holding(self, sought: str) -> Iterator[tuple[int, int]]:
        """Where the lines that hold a text begin and end, from above to below."""
        if (known := self._held.get(sought)) is not None:
            yield from known
            return
        text, found = self.text, []
        at = text.find(sought)
        while at >= 0:
            begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            end = len(text) if end < 0 else end
            found.append((begin, end))
            yield begin, end
            at = text.find(sought, end)
        self._held[sought] = found

    def number(self, offset: int) -> int:
        """How many lines end before an offset, which is known from now on."""
        i = bisect_right(self._offsets, offset) - 1
        if self._offsets[i] == offset:
            return self._numbers[i]
        number = self._numbers[i] + self.text.count("\n", self._offsets[i], offset)
        self._offsets.insert(i + 1, offset)
        self._numbers.insert(i + 1, number)
        return number

    def begin(self, number: int) -> int:
        """Where a line (from 0) begins; the text ends where one after the last would."""
        self.number(len(self.text))
        text = self.text
        while True:
            i = bisect_right(self._numbers, number) - 1
            below = number - self._numbers[i]
            above = self._numbers[i + 1] - number if i + 1 < len(self._numbers) else below
            if min(below, above) <= FAR or i + 1 == len(self._numbers):
                break
            self.number((self._offsets[i] + self._offsets[i + 1]) // 2)
        if below <= above:
            at = text.rfind("\n", 0, self._offsets[i]) + 1
            for _ in range(below):
                at = text.find("\n", at) + 1
                if not at:
                    return len(text)
            return at
        at = self._offsets[i + 1]
        for _ in range(above + 1):
            at = text.rfind("\n", 0, at)
        return at + 1
