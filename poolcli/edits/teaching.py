"""Refusals that say enough to get it right the next time."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from poolcli.edits.keys import lookalike, stripped
from poolcli.edits.lines import Lines, indent_of, lines_of
from poolcli.edits.results import Kind, Refusal

#: Places that a refusal names, and characters of a line that it shows.
NAMED, SHOWN = 8, 120

#: Lines of the diff in a refusal.
DIFF = 24

#: Lines of a file among which one that is merely alike is looked for: it takes time per line.
COMPARED = 4000

#: Old lines that take part in looking for the nearest text, and places of each.
VOTERS, VOTES = 200, 100

#: Old lines that take part in a file of more than COMPARED lines, the longest: each is looked for in all of it.
FEW = 12

#: Lines above a place that are looked at for what it is part of.
ABOVE = 400

#: Characters that a new text must have to be recognised as being there already.
DISTINCT = 8


def refuse(kind: Kind, message: str, *lines: int, diff: str = "") -> Refusal:
    return Refusal(kind, message, lines=lines, diff=diff)


def ambiguous(lines: Lines, places: Sequence[int], more: bool) -> Refusal:
    """The old text begins at these lines (from 1), and nothing says which is meant."""
    shown = [f"  line {n}{_inside(lines, n - 1)}" for n in places[:NAMED]]
    if len(places) > NAMED or more:
        shown.append("  …")
    count = f"{len(places)}{' or more' if more else ''}"
    message = (
        f"the old text is in {count} places:\n"
        + "\n".join(shown)
        + "\nadd lines before or after it that only the one you mean has, or begin its lines with their numbers and a "
        "tab, as they are listed, or replace all of them"
    )
    return refuse("ambiguous", message, *places[:NAMED])


def _inside(lines: Lines, at: int) -> str:
    """What a line is part of: the nearest line above that is indented less, else the one just above."""
    first = max(0, at - ABOVE + 1)
    *before, there = lines.between(first, at + 1) or [""]
    if at >= lines.count:
        return ""
    depth = len(indent_of(there))
    for above in range(at - 1, first - 1, -1):
        line = before[above - first]
        if line.strip() and len(indent_of(line)) < depth:
            return f", inside `{shortened(line.strip())}` (line {above + 1})"
    if before and before[-1].strip():
        return f", after `{shortened(before[-1].strip())}`"
    return ""


def not_found(lines: Lines, old: str, new: str) -> Refusal:
    """The old text is nowhere: the nearest text, or that the new one is there already."""
    if (at := already(lines, old, new)) is not None:
        return refuse(
            "already_applied",
            f"the new text is already there at line {at}, and the old one is not; nothing to do",
            at,
        )
    wanted = lines_of(old)
    if not any(line.strip() for line in wanted):
        return refuse("not_found", "the old text is only blank lines; give the lines around them too")
    near = _nearest(lines, wanted)
    if near is None:
        return refuse(
            "not_found", "the old text is not there, and nothing like it; read the file and copy the lines"
        )
    start, count = near
    there = [line.removesuffix("\r") for line in lines.between(start, start + count)]
    diff = _diff(wanted, there, start)
    end = start + len(there)
    where = f"line {end}" if count == 1 else f"lines {start + 1}-{end}"
    message = (
        f"the old text is not there; nearest are {where} (- as you wrote it, + as it is):\n{diff}\n"
        "copy the lines marked + and those without a mark exactly"
    )
    return refuse("not_found", message, start + 1, diff=diff)


def already(lines: Lines, old: str, new: str) -> int | None:
    """The line at which the new text is, when that cannot be chance."""
    # An edit that takes lines away leaves some that are there before it as well.
    fewer = _solid(new) < _solid(old)
    if fewer or len(new.strip()) < DISTINCT or new.strip("\r\n") in old:
        return None
    if (at := lines.text.find(new)) >= 0:
        return lines.line_at(at)
    wanted = [stripped(line) for line in lines_of(new)]
    places = lines.places(wanted, stripped)
    return places[0] + 1 if places else None


def _solid(text: str) -> int:
    return sum(bool(line.strip()) for line in text.split("\n"))


def _nearest(lines: Lines, wanted: Sequence[str]) -> tuple[int, int] | None:
    """Where the text begins (from 0) that shares most lines with `wanted`, and how many lines it has."""
    large = lines.count > COMPARED
    if not large:
        lines.keyed(lookalike)
    voters = list(range(min(len(wanted), VOTERS)))
    if large:
        voters = sorted(sorted(voters, key=lambda i: -len(wanted[i].strip()))[:FEW])
    votes: Counter[int] = Counter()
    for i in voters:
        key = lookalike(wanted[i])
        places = lines.hits(key, lookalike, VOTES) if key else []
        if len(places) <= VOTES:
            for at in places:
                # A line that few others equal says more.
                votes[at - i] += 1000 // len(places) + len(key)
    if votes:
        start = max(votes, key=lambda offset: (votes[offset], -offset))
        first = max(0, start)
        return first, max(1, min(len(wanted) - (first - start), lines.count - first))
    longest = max(range(len(wanted)), key=lambda i: len(wanted[i].strip()))
    if large or len(wanted[longest]) > 10 * SHOWN:
        return None
    _, index = lines.keyed(lookalike)
    close = difflib.get_close_matches(lookalike(wanted[longest]), [key for key in index if key], 1, 0.6)
    if not close:
        return None
    first = max(0, index[close[0]][0] - longest)
    return first, max(1, min(len(wanted), lines.count - first))


def _diff(wanted: Sequence[str], there: Sequence[str], start: int) -> str:
    """A small diff from the text as written to the file's, each line of the file with its number."""
    if len(wanted) > VOTERS:
        wanted, there = wanted[:VOTERS], there[:VOTERS]
    shown: list[str] = []
    matcher = difflib.SequenceMatcher(None, wanted, there, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            shown += [f"{start + j + 1:>6}   {shortened(there[j])}" for j in range(j1, j2)]
            continue
        shown += [f"       - {shortened(visible(wanted[i], there[j1:j2]))}" for i in range(i1, i2)]
        shown += [
            f"{start + j + 1:>6} + {shortened(visible(there[j], wanted[i1:i2]))}" for j in range(j1, j2)
        ]
    first = next((i for i, line in enumerate(shown) if line[7] != " "), 0)
    begin = max(0, first - 3)
    kept = shown[begin : begin + DIFF]
    before, after = ["   …"] * (begin > 0), ["   …"] * (begin + DIFF < len(shown))
    return "\n".join([*before, *kept, *after])


def visible(line: str, others: Sequence[str]) -> str:
    """A line that differs from others in nothing but blanks, with its blanks to be seen."""
    if not any("".join(line.split()) == "".join(other.split()) for other in others):
        return line
    indent = indent_of(line).replace("\t", "→").replace(" ", "·")
    body = line[len(indent) :]
    end = len(body) - len(body.rstrip())
    return indent + body.rstrip() + body[len(body) - end :].replace("\t", "→").replace(" ", "·")


def shortened(line: str) -> str:
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"


def changed(before: Sequence[str], after: Sequence[str]) -> tuple[str, int]:
    """A small diff of what changed between two texts, and the line (from 1) where it begins."""
    most = min(len(before), len(after))
    same = next((i for i in range(most) if before[i] != after[i]), most)
    ending = next((i for i in range(most - same) if before[-1 - i] != after[-1 - i]), most - same)
    first = max(0, same - 2)
    old = before[first : min(len(before), len(before) - ending + 2)]
    new = after[first : min(len(after), len(after) - ending + 2)]
    return _diff(old, new, first), same + 1
