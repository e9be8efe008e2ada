"""A text as lines, cut up and indexed only when somebody asks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

from poolcli.edits.keys import lookalike, unspaced

#: Line comparisons that looking for one text may take; beyond, the search is given up.
COMPARISONS = 4_000_000

#: Places that are collected. One is needed, a few are told.
PLACES = 50

#: Lines that hold a needle and are looked at before an index of all lines is made instead, which takes about as long
#: as 10,000 of them.
LOOKED = 5000

#: Places of a word from which on searching the text itself is quicker than looking at each.
FREQUENT = 100

_WORD = re.compile(r"\w+")

#: Blanks that `unspaced` forgets in ASCII texts; others that it forgets and that are in hardly any text.
_BLANKS, _RARE_BLANKS = " \t\r\f\v\x1c\x1d\x1e\x1f", "\x85\u1680\u2028\u2029"

#: Signs that other characters may stand for in a text, and characters that are not seen at all.
_SIGNS, _UNSEEN = re.compile(r"[^'\"\-. \t]+"), "\u200b\u200c\u200d\u2060\ufeff\u00ad"

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
    def _ascii(self) -> bool:
        return self.text.isascii()

    @cached_property
    def _odd(self) -> bool:
        """Whether there are characters that may stand within a word and that keys forget."""
        return any(char in self.text for char in _UNSEEN + _RARE_BLANKS)

    @cached_property
    def _squeezed(self) -> str:
        text = self.text
        for blank in _BLANKS:
            text = text.replace(blank, "")
        return text

    def _needle(self, wanted: str, key: Key) -> tuple[str, str] | None:
        """What every line holds that `key` turns into `wanted`, and the text to look for it in; None when it is
        not known."""
        text = self._squeezed if key is unspaced else self.text
        if self._ascii or key not in (lookalike, unspaced):
            return (wanted, text) if wanted else None
        if self._odd:
            return None
        needle = max(_SIGNS.findall(wanted), key=len, default="")
        return (needle, text) if needle else None

    def hits(self, wanted: str, key: Key, most: int) -> list[int]:
        """The lines (from 0) that `key` turns into `wanted`; more than `most` only say that there are as many."""
        if key in self._keyed or self.many or (needle := self._needle(wanted, key)) is None:
            return self.keyed(key)[1].get(wanted, [])
        sought, text = needle
        found: list[int] = []
        number = counted = looked = 0
        at = text.find(sought)
        while at >= 0:
            looked += 1
            if looked > LOOKED:
                return self.keyed(key)[1].get(wanted, [])
            begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            end = len(text) if end < 0 else end
            if key(text[begin:end]) == wanted:
                number, counted = number + text.count("\n", counted, begin), begin
                found.append(number)
                if len(found) > most:
                    break
            at = text.find(sought, end)
        return found

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
            there = self.raw[start : start + len(wanted)] if start >= 0 else []
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
        return self.text.count("\n", 0, offset) + 1


def lines_of(text: str) -> list[str]:
    """The lines of what a model wrote, without their ends; a text that ends in a newline has no empty last one."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return lines


def indent_of(line: str) -> str:
    """The blanks that a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]
