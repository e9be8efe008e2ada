"""A text as lines, cut up and indexed only when somebody asks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

from poolcli.edits.keys import LOOKALIKE, lookalike, unspaced
from poolcli.edits.marks import Marks

#: Line comparisons that looking for one text may take; beyond, the search is given up.
COMPARISONS = 4_000_000

#: Places that are collected. One is needed, a few are told.
PLACES = 50

#: Lines that hold a needle and are looked at before an index of all lines is made instead, which takes about as long
#: as 10,000 of them.
LOOKED = 5000

#: Characters of a text from which on a copy without blanks costs more than one edit may; in most files of code it is
#: made in a millisecond.
LARGE = 1_000_000

#: Lines for which all of a text is cut up.
MANY = 5000

#: Places of a word from which on searching the text itself is quicker than looking at each.
FREQUENT = 100

_WORD = re.compile(r"\w+")

#: Blanks that `unspaced` forgets in ASCII texts; others that it forgets and that are in hardly any text.
_BLANKS, _RARE_BLANKS = " \t\r\f\v\x1c\x1d\x1e\x1f", "\x85\u1680\u2028\u2029"

#: Characters that look like others.
_ODD = re.compile(f"[{''.join(map(chr, LOOKALIKE))}]")

Key = Callable[[str], str]


class TooCostly(Exception):
    """The search would take longer than an edit may."""


class Lines:
    """The lines of a text. Only a newline ends a line; a carriage return before it belongs to the line end."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: Set where many texts are going to be looked for: then an index of words pays.
        self.many = False
        self._keyed: dict[Key, tuple[list[str], dict[str, list[int]]]] = {}

    @cached_property
    def raw(self) -> list[str]:
        """The lines without their newline, with a carriage return where there is one."""
        lines = self.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        return lines

    @cached_property
    def offsets(self) -> list[int]:
        """Where each line begins, and where the text ends."""
        starts = list(accumulate((len(line) + 1 for line in self.raw), initial=0))
        starts[-1] = len(self.text)
        return starts

    @cached_property
    def count(self) -> int:
        """How many lines there are."""
        return self._marks.number(len(self.text)) + self.open

    def begin(self, number: int) -> int:
        """Where a line (from 0) begins; the text ends where the one after the last would."""
        return self.offsets[number] if "offsets" in self.__dict__ else self._marks.begin(number)

    def between(self, first: int, last: int) -> list[str]:
        """`raw[first:last]`, without cutting up a whole text for a few lines."""
        if "raw" in self.__dict__ or last - first > MANY:
            return self.raw[first:last]
        last = min(last, self.count)
        if last <= first:
            return []
        part = self.text[self.begin(first) : self.begin(last)]
        lines = part.split("\n")
        if part.endswith("\n"):
            lines.pop()
        return lines

    @property
    def open(self) -> bool:
        """Whether the last line has no line end."""
        return self.text != "" and not self.text.endswith("\n")

    @cached_property
    def newline(self) -> str:
        """The line end that most lines have."""
        crlf = self.text.count("\r\n")
        return "\r\n" if crlf and crlf * 2 > self.text.count("\n") else "\n"

    @cached_property
    def carriage(self) -> bool:
        """Whether there is a carriage return anywhere."""
        return "\r" in self.text

    @cached_property
    def only_crlf(self) -> bool:
        """Whether all lines end in CRLF."""
        return self.carriage and self.text.count("\r\n") == self.text.count("\n")

    @cached_property
    def _words(self) -> dict[str, list[int]]:
        words: dict[str, list[int]] = {}
        for match in _WORD.finditer(self.text):
            words.setdefault(match[0], []).append(match.start())
        return words

    @cached_property
    def _vocabulary(self) -> str:
        return "\n" + "\n".join(self._words) + "\n"

    def _ending(self, end: str) -> list[int]:
        """Where a word ends in `end`: the places of that ending, from above to below."""
        known, starts = self._vocabulary, []
        at = known.find(end + "\n")
        while at >= 0:
            word = known[known.rfind("\n", 0, at) + 1 : at + len(end)]
            starts += [place + len(word) - len(end) for place in self._words[word]]
            at = known.find(end + "\n", at + 1)
        return sorted(starts)

    def occurrences(self, old: str) -> Iterator[tuple[int, int]]:
        """Where a text is, also where two of them overlap: a text that fits in two ways is not unique."""
        text, size = self.text, len(old)
        # Words at the ends of `old` may be parts of longer ones in the text; those within are whole.
        inner = [] if not self.many else [m for m in _WORD.finditer(old) if m.start() and m.end() < size]
        if inner:
            rarest = min(inner, key=lambda match: len(self._words.get(match[0], ())))
            places = self._words.get(rarest[0], ())
            if len(places) <= FREQUENT:
                for at in places:
                    start = at - rarest.start()
                    if start >= 0 and text.startswith(old, start):
                        yield start, start + size
                return
        if self.many and (word := _WORD.match(old)) and word.end() < size:
            starts = self._ending(word[0])
            if len(starts) <= FREQUENT:
                yield from ((start, start + size) for start in starts if text.startswith(old, start))
                return
        at = text.find(old)
        while at >= 0:
            yield at, at + size
            at = text.find(old, at + 1)

    def keyed(self, key: Key) -> tuple[list[str], dict[str, list[int]]]:
        """Every line as `key` sees it, and where each such key stands."""
        if (known := self._keyed.get(key)) is None:
            keys = [key(line) for line in self.raw]
            index: dict[str, list[int]] = {}
            for number, one in enumerate(keys):
                index.setdefault(one, []).append(number)
            known = self._keyed[key] = (keys, index)
        return known

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self.text)

    @cached_property
    def _plain(self) -> Marks:
        """The text, line by line as `lookalike` sees it but for blanks at the ends."""
        if self.text.isascii():
            return self._marks
        plain = _ODD.sub(lambda match: LOOKALIKE[ord(match[0])], self.text)
        return self._marks if plain == self.text else Marks(plain)

    def looks_like(self, old: str) -> bool:
        """Whether there is a text that `lookalike` cannot tell from this one, which holds none of its signs."""
        return old in self._plain.text

    @cached_property
    def _squeezed(self) -> Marks:
        """The text, line by line as `unspaced` sees it."""
        text = self._plain.text
        for blank in _BLANKS if text.isascii() else _BLANKS + _RARE_BLANKS:
            text = text.replace(blank, "")
        return Marks(text)

    def _needle(self, wanted: str, key: Key) -> tuple[str, Marks]:
        """What every line holds that `key` turns into `wanted`, and the text to look for it in."""
        if key is unspaced:
            return wanted, self._squeezed
        # The same needle for all of these keys: then what is nowhere is looked for once.
        return wanted.strip(" \t\r\f\v") or wanted, self._plain if key is lookalike else self._marks

    def hits(self, wanted: str, key: Key, most: int) -> list[int]:
        """The lines (from 0) that `key` turns into `wanted`; more than `most` only say that there are as many."""
        if key in self._keyed or self.many or not wanted:
            return self.keyed(key)[1].get(wanted, [])
        return self._hits(wanted, key, most, *self._needle(wanted, key))

    def _hits(self, wanted: str, key: Key, most: int, needle: str, marks: Marks) -> list[int]:
        found: list[int] = []
        for looked, (begin, end) in enumerate(marks.holding(needle)):
            if looked >= LOOKED:
                return self.keyed(key)[1].get(wanted, [])
            if key(marks.text[begin:end]) == wanted:
                found.append(marks.number(begin))
                if len(found) > most:
                    break
        return found

    def worded(self, old: Sequence[str], key: Key) -> list[int]:
        """As `places`, of lines as they are written; in a large text only where the longest word is as written.

        Raises TooCostly.
        """
        wanted = [key(line) for line in old]
        if len(self.text) > LARGE and key not in self._keyed and not self.many:
            words = (
                (word, i) for i, line in enumerate(old) for word in _WORD.findall(line.translate(LOOKALIKE))
            )
            word, at = max(words, key=lambda one: len(one[0]), default=("", 0))
            if word:
                hits = self._hits(wanted[at], key, LOOKED, word, self._plain)
                if key not in self._keyed:
                    return self._around(hits, at, wanted, key)
        return self.places(wanted, key)

    def places(self, wanted: Sequence[str], key: Key) -> list[int]:
        """Where consecutive lines stand that `key` cannot tell from `wanted` (already keyed). At most PLACES.

        Raises TooCostly.
        """
        count = len(wanted)
        if key not in self._keyed and not self.many:
            # Nearly always there is one place or none: finding the longest line is quicker than an index of all.
            longest = max(range(count), key=lambda i: len(wanted[i]))
            hits = self.hits(wanted[longest], key, LOOKED)
            if key not in self._keyed:
                return self._around(hits, longest, wanted, key)
        keys, index = self.keyed(key)
        rarest = min(range(count), key=lambda i: len(index.get(wanted[i], ())))
        hits = index.get(wanted[rarest], [])
        if len(hits) * count > COMPARISONS:
            raise TooCostly
        found = []
        wanted = list(wanted)
        for hit in hits:
            start = hit - rarest
            if start >= 0 and keys[start : start + count] == wanted:
                found.append(start)
                if len(found) >= PLACES:
                    break
        return found

    def _around(self, hits: Sequence[int], at: int, wanted: Sequence[str], key: Key) -> list[int]:
        """Where lines like `wanted` begin, of which the one `at` stands at each of the hits."""
        if len(hits) * len(wanted) > COMPARISONS:
            raise TooCostly
        found: list[int] = []
        for hit in hits:
            start = hit - at
            there = self.between(start, start + len(wanted)) if start >= 0 else []
            if len(there) == len(wanted) and all(
                key(line) == one for line, one in zip(there, wanted, strict=True)
            ):
                found.append(start)
                if len(found) >= PLACES:
                    break
        return found

    def line_at(self, offset: int) -> int:
        """The number of the line, from 1, that an offset is in."""
        if "offsets" in self.__dict__:
            # Cut up already: the text need not be read again.
            return min(bisect_right(self.offsets, offset), len(self.raw) + (not self.open))
        return self._marks.number(offset) + 1


def lines_of(text: str) -> list[str]:
    """The lines of what a model wrote, without their ends; a text that ends in a newline has no empty last one."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return lines


def indent_of(line: str) -> str:
    """The blanks that a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]
