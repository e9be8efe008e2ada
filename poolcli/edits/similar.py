"""A stretch of lines that is nearly the one looked for, between a first and a last line that are.

The strictest of conditions, since this is the only step that forgives other words: both ends are there as
written, most lines are equal, nothing else in the file comes near, and a line that the edit takes away is
nearly the line it names. Otherwise nothing is found.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from poolcli.edits import indentation
from poolcli.edits.keys import lookalike
from poolcli.edits.lines import Lines, TooCostly
from poolcli.edits.merging import Change, Place, changes, newline_for, shifted

#: Lines that are not blank which an old text must have: with fewer there is nothing between the ends.
LEAST = 3

#: Lines of old text; comparing is quadratic in them.
MOST = 300

#: Places at which a line may stand to help finding; a closing brace stands everywhere and tells nothing.
COMMON = 200

#: Lines that are looked for one by one; for more an index of all lines is made, which takes as long as some twenty.
SOUGHT = 20

#: Stretches that are compared closely.
WINDOWS = 60

#: Share of a perfect match that the best stretch must reach, and how far all others must stay behind.
THRESHOLD, MARGIN = 0.85, 0.12

#: Share of the lines that must be equal.
EQUAL = 0.6

#: How alike two lines must be: to stand for each other, and when the edit takes the line away.
ALIKE, TAKEN = 0.6, 0.88

_NOISE = re.compile(r"[\s,;'\"`]+")


def find(
    lines: Lines, old: Sequence[str], new: Sequence[str], known: Sequence[Change] = ()
) -> list[Place] | None:
    """The changes of the edit at the one stretch that is similar enough; None when there is none.

    Raises TooCostly.
    """
    solid = [i for i, line in enumerate(old) if line.strip()]
    if len(solid) < LEAST:
        return None
    if len(old) > MOST:
        raise TooCostly
    wanted = [lookalike(line) for line in old]
    best = _best(lines, wanted, solid)
    if best is None:
        return None
    return _carried(lines, old, new, best, list(known) or changes(old, new))


def _best(lines: Lines, wanted: list[str], solid: list[int]) -> dict[int, int] | None:
    """For each old line its line in the file, in the only stretch that is similar enough."""
    head, tail = wanted[solid[0]], wanted[solid[-1]]
    heads, tails = lines.hits(head, lookalike, COMMON), lines.hits(tail, lookalike, COMMON)
    if not heads or not tails or min(len(heads), len(tails)) > COMMON:
        return None
    length = solid[-1] - solid[0] + 1
    windows = _windows(lines, (head, tail), (heads, tails), length)
    if not windows:
        return None
    if len(windows) > WINDOWS:
        raise TooCostly
    target = wanted[solid[0] : solid[-1] + 1]
    scored = sorted(
        ((*_score(target, _keys(lines, a, b)), a, b) for a, b in windows), key=lambda one: -one[0]
    )
    score, pairs, first, last = scored[0]
    others = [other for other, _, a, b in scored[1:] if a > last or b < first]
    if len(scored) > 1 and scored[1][0] == score and len(others) < 1:
        return None
    second = max([*others, _elsewhere(lines, target, first, last)], default=0.0)
    there = _keys(lines, first, last)
    equal = sum(target[i] == there[j] for i, j in pairs.items() if target[i])
    if score < THRESHOLD or score - second < MARGIN or equal < EQUAL * len(solid):
        return None
    if pairs.get(0) != 0 or pairs.get(len(target) - 1) != last - first:
        return None
    return {solid[0] + i: first + j for i, j in pairs.items()}


def _keys(lines: Lines, first: int, last: int) -> list[str]:
    return [lookalike(line) for line in lines.between(first, last + 1)]


def _windows(
    lines: Lines, ends: tuple[str, str], hits: tuple[list[int], list[int]], length: int
) -> list[tuple[int, int]]:
    """The stretches of about that length between a first and a last line, looked for around the rarer of both."""
    slack = max(1, length // 5)
    by_head = len(hits[0]) <= len(hits[1])
    found = []
    for at in hits[0] if by_head else hits[1]:
        for far in range(max(1, length - 1 - slack), length + slack):
            other = at + far if by_head else at - far
            if lookalike(next(iter(lines.between(other, other + 1)), "")) == ends[by_head]:
                found.append((at, other) if by_head else (other, at))
    return found


def _score(target: list[str], there: list[str]) -> tuple[float, dict[int, int]]:
    """How alike two stretches are, from 0 to 1, and which lines stand for each other."""
    pairs: dict[int, int] = {}
    total = 0.0
    matcher = difflib.SequenceMatcher(None, target, there, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            pairs.update(zip(range(i1, i2), range(j1, j2), strict=True))
            total += sum(bool(line) for line in target[i1:i2])
        elif tag == "replace" and i2 - i1 == j2 - j1:
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                ratio = alike(target[i], there[j])
                if ratio >= ALIKE:
                    pairs[i] = j
                    total += ratio
    most = max(sum(map(bool, target)), sum(map(bool, there)))
    return (total / most if most else 0.0), pairs


def alike(one: str, other: str) -> float:
    """How alike two lines are, from 0 to 1."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _elsewhere(lines: Lines, target: list[str], first: int, last: int) -> float:
    """The largest share of the lines that stands together elsewhere: another place that may be meant."""
    votes: Counter[int] = Counter()
    width = max(8, len(target))
    if len(target) > SOUGHT:
        # For so many lines an index is quicker.
        lines.keyed(lookalike)
    for i, line in enumerate(target):
        places = lines.hits(line, lookalike, COMMON) if line else []
        if len(places) > COMMON:
            continue
        # Lines that moved a little against each other still belong together: counted in overlapping bins.
        bins = {
            b for at in places if not first <= at <= last for b in ((at - i) // width, (at - i) // width + 1)
        }
        votes.update(bins)
    solid = sum(map(bool, target))
    return max(votes.values(), default=0) / solid if solid else 0.0


def _carried(
    lines: Lines, old: Sequence[str], new: Sequence[str], pairs: dict[int, int], found_changes: list[Change]
) -> list[Place] | None:
    """The changes on the lines that the old ones stand for; None when one of them has no certain place."""
    equal = [(i, j) for i, j in pairs.items() if old[i].strip()]
    found = indentation.pairs([old[i] for i, _ in equal], [lines.between(j, j + 1)[0] for _, j in equal])
    shift = indentation.shift(found, [old[i] for i, _ in equal], new, lambda: lines.raw)
    if shift is None:
        return None
    first, last = min(pairs.values()), max(pairs.values())
    eol = newline_for(lines, first, last + 1)
    places: list[Place] = []
    for i1, i2, j1, j2 in found_changes:
        stretch = _stretch(lines, old, pairs, i1, i2)
        if stretch is None:
            return None
        a, b = stretch
        out = "".join(shifted(line, shift) + eol for line in new[j1:j2])
        if b == lines.count and lines.open:
            if a == b:
                out = eol + out
            out = out.removesuffix(eol)
        places.append(Place(lines.begin(a), lines.begin(b), out, "similar"))
    return places or None


def _stretch(
    lines: Lines, old: Sequence[str], pairs: dict[int, int], i1: int, i2: int
) -> tuple[int, int] | None:
    """The lines of the file that lines i1 to i2 of the old text stand for; None when in doubt."""
    if i1 == i2:
        before, after = pairs.get(i1 - 1), pairs.get(i1)
        if i1 == min(pairs) and after is not None:
            return after, after
        if i1 == max(pairs) + 1 and before is not None:
            return before + 1, before + 1
        return (after, after) if before is not None and after == before + 1 else None
    there = [pairs.get(i) for i in range(i1, i2)]
    first = there[0]
    if first is None or there != list(range(first, first + i2 - i1)):
        return None
    if not all(_takes(old[i], lines.between(pairs[i], pairs[i] + 1)[0]) for i in range(i1, i2)):
        return None
    return first, first + i2 - i1


def _takes(line: str, there: str) -> bool:
    """Whether an edit that takes away `line` may take away `there`."""
    one, other = lookalike(line), lookalike(there)
    if one == other or _NOISE.sub("", one) == _NOISE.sub("", other):
        return True
    return alike(one, other) >= TAKEN and re.findall(r"\d+", one) == re.findall(r"\d+", other)
