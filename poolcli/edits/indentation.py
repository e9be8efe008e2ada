"""Indentation that is wrong in the same way everywhere, and the same shift for the new text.

A model that indents a whole block too little, too much, or with spaces where the file has tabs, writes the
new text in the same wrong way, or, having looked only at the old text carelessly, in the file's. Both are
told apart here, or the edit is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import gcd

from poolcli.edits.lines import indent_of

#: Spaces per level that people use; others are alignment, which must not be scaled.
UNITS = (2, 3, 4, 8)

Shift = Callable[[str], str | None]
Pairs = list[tuple[str, str]]
#: Gives the lines of a file.
File = Callable[[], Sequence[str]]


def pairs(old: Sequence[str], there: Sequence[str]) -> Pairs:
    """The indentation of each line that is not blank: as written, and as it is in the file."""
    return [(indent_of(a), indent_of(b)) for a, b in zip(old, there, strict=True) if a.strip()]


def same(found: Pairs) -> bool:
    """Whether nothing needs to be shifted."""
    return all(a == b for a, b in found)


def uniform(found: Pairs) -> bool:
    """Whether one rule leads from the indentation as written to the file's."""
    return _rule(found) is not None


def shift(found: Pairs, old: Sequence[str], new: Sequence[str], file: File) -> Shift | None:
    """How lines of `new` are to be indented in the file; None when that is in doubt.

    The result maps an indentation to the one in the file, or to None where there is none. The lines of `file` are
    asked for only when those of the place do not say enough.
    """
    rule = _rule(found)
    if rule is None:
        return None
    lines = [line for line in new if line.strip()]
    if not lines or same(found):
        return _as_written
    frame = _frame(found, old, lines)
    if frame == "file":
        return _as_written
    if frame == "old":
        return _shift_by(rule, found, [indent_of(line) for line in lines], file)
    return None


def _as_written(indent: str) -> str | None:
    return indent


class _Rule:
    """file = scale * written + offset, counted in characters; `char` is what the file indents with."""

    def __init__(
        self, scale: Fraction | None, offset: int, char: str, written: str, guessed: bool = False
    ) -> None:
        self.scale, self.offset, self.char, self.written = scale, offset, char, written
        #: The scale rests on one level only; another way of indenting explains it as well.
        self.guessed = guessed


def _rule(found: Pairs) -> _Rule | None:
    if not found:
        return None
    written, there = _only({a for a, _ in found}), _only({b for _, b in found})
    if written is None or there is None:
        # Tabs and spaces mixed: one prefix added or removed everywhere is still a uniform shift.
        return _prefix_rule(found)
    points = {len(a): len(b) for a, b in found}
    if any(points[len(a)] != len(b) for a, b in found):
        return None
    if written in ("", there) or there == "":
        offsets = {b - a for a, b in points.items()}
        if len(offsets) == 1:
            return _Rule(Fraction(1) if written == there else None, offsets.pop(), there, written)
    if len(points) == 1:
        ((a, b),) = points.items()
        if a and b:
            # One level seen, in the other character: as many spaces for each tab.
            ratio = Fraction(b, a)
            spaces = ratio if there == " " else 1 / ratio
            if spaces.denominator == 1 and spaces in UNITS:
                return _Rule(ratio, 0, there, written, guessed=True)
        return _Rule(None, b - a, there, written) if not (a and b) else None
    (a1, b1), (a2, b2) = sorted(points.items())[0], sorted(points.items())[-1]
    scale = Fraction(b2 - b1, a2 - a1)
    offset = b1 - scale * a1
    if scale <= 0 or offset.denominator != 1:
        return None
    if written == there:
        # Levels of another width: only where the margin stays the margin. Else a first line that lost its
        # indentation would be explained so.
        if offset or not any(scale == Fraction(a, b) for a in UNITS for b in UNITS):
            return None
    elif (scale if there == " " else 1 / scale) not in UNITS:
        return None
    if any(scale * a + offset != b for a, b in points.items()):
        return None
    return _Rule(scale, int(offset), there or " ", written or " ")


def _prefix_rule(found: Pairs) -> _Rule | None:
    a, b = found[0]
    if b.endswith(a):
        prefix = b[: len(b) - len(a)]
        if all(there == prefix + written for written, there in found):
            return _Rule(None, 0, prefix, "+")
    if a.endswith(b):
        prefix = a[: len(a) - len(b)]
        if all(written == prefix + there for written, there in found):
            return _Rule(None, 0, prefix, "-")
    return None


def _only(indents: set[str]) -> str | None:
    """The one character that all indents consist of, "" if there is none, None if there are two."""
    chars = set("".join(indents))
    if len(chars) > 1:
        return None
    return chars.pop() if chars else ""


def _frame(found: Pairs, old: Sequence[str], lines: Sequence[str]) -> str:
    """Whether the new lines are indented as the old text was written ("old") or as the file is ("file").

    Two signs are asked: how the new text begins and how far out it reaches, and how the lines are indented
    that it has in common with the old one. They must not contradict each other; "" is said when they do.
    """
    indents = [indent_of(line) for line in lines]
    written, there = [a for a, _ in found], [b for _, b in found]
    as_old, as_file, other = _common(found, old, lines)
    begins_old, begins_file = indents[0] == written[0], indents[0] == there[0]
    is_old = begins_old and _least(indents) == _least(written) and not as_file
    is_file = begins_file and _least(indents) == _least(there) and not as_old
    if is_old != is_file:
        return "old" if is_old else "file"
    if is_old and is_file:
        # Both begin alike (a block at the margin): tabs or spaces further in decide.
        mine = _only(set(indents))
        if mine is not None and mine in ("", _only(set(written))):
            return "old"
        return "file" if mine == _only(set(there)) else ""
    if as_old and not (as_file or other):
        # Lines that stay as the model wrote them before: nothing else explains that.
        return "old"
    if as_file and begins_file and not (as_old or other):
        return "file"
    return ""


def _common(found: Pairs, old: Sequence[str], lines: Sequence[str]) -> tuple[int, int, int]:
    """How many of the lines in both texts are indented as in the old one, as in the file, otherwise."""
    kept: dict[str, set[str]] = {}
    place: dict[str, set[tuple[str, str]]] = {}
    for line in lines:
        kept.setdefault(line.strip(), set()).add(indent_of(line))
    for line, pair in zip((line for line in old if line.strip()), found, strict=True):
        place.setdefault(line.strip(), set()).add(pair)
    as_old = as_file = other = 0
    for content in kept.keys() & place.keys():
        if len(kept[content]) > 1 or len(place[content]) > 1:
            continue
        (indent,), ((a, b),) = kept[content], place[content]
        if a != b:
            as_old += indent == a
            as_file += indent == b
            other += indent not in (a, b)
    return as_old, as_file, other


def _least(indents: Sequence[str]) -> str:
    return min(indents, key=len)


def _shift_by(rule: _Rule, found: Pairs, indents: Sequence[str], file: File) -> Shift | None:
    if rule.written in ("+", "-"):
        return _by_prefix(rule)
    known = dict(found)
    scale = rule.scale
    deeper = [i for i in indents if i not in known]
    char = rule.char
    if scale is None and deeper:
        # Written at one level only, without a character in common: what a level is must be found elsewhere.
        mine = _only({*indents, *known})
        if mine is None:
            return None
        theirs = rule.char or _file_char(file())
        char = theirs or mine
        if mine == char:
            scale = Fraction(1)
        else:
            scale = _levels(mine, char, [*indents, *known], file)
        if scale is None:
            return None
    elif deeper and rule.guessed:
        if _levels(rule.written, char, [*indents, *known], file) != scale:
            return None
    elif deeper and _only({*indents, *known}) not in ("", rule.written):
        if rule.written or (mine := _only(set(indents))) is None:
            return None
        if mine != char:
            scale = _levels(mine, char, [*indents, *known], file)
            if scale is None:
                return None

    def by(indent: str) -> str | None:
        if indent in known:
            return known[indent]
        if scale is None:
            return None
        width = scale * len(indent) + rule.offset
        if width < 0 or width.denominator != 1:
            return None
        return char * int(width)

    return by if all(by(indent) is not None for indent in indents) else None


def _by_prefix(rule: _Rule) -> Shift:
    prefix = rule.char

    def by(indent: str) -> str | None:
        if rule.written == "+":
            return prefix + indent
        return indent.removeprefix(prefix) if indent.startswith(prefix) else None

    return by


def _levels(mine: str, char: str, indents: Sequence[str], file: File) -> Fraction | None:
    """Characters of the file per character written, from what a level is on both sides."""
    own = gcd(*(len(i) for i in indents)) if mine == " " else 1
    theirs = unit(file()) if char == " " else 1
    if (mine == " " and own not in UNITS) or not theirs:
        return None
    return Fraction(theirs, own)


def _file_char(file: Sequence[str]) -> str:
    chars = Counter(line[0] for line in file if line[:1] in (" ", "\t"))
    return chars.most_common(1)[0][0] if chars else ""


#: Lines from which the level of a file is taken.
SAMPLED = 5000


def unit(file: Sequence[str]) -> int:
    """Spaces per level in a file: the usual step inwards, 0 when there is none."""
    steps: Counter[int] = Counter()
    before = 0
    for line in file[:SAMPLED]:
        if not line.strip() or line.startswith("\t"):
            continue
        now = len(indent_of(line))
        if now > before:
            steps[now - before] += 1
        before = now
    usual = [size for size, _ in steps.most_common(1) if size in UNITS]
    return usual[0] if usual else 0
