"""Finds the place that an edit means, from the most literal reading to the most forgiving one.

Each step is taken only when the one before found nothing, and a step that finds more than one place ends the
search: a later one would only find more. What is found is either one place (or, asked for every one, all of
them) or a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace as altered

from poolcli.edits import elided, escapes, indentation, similar, teaching
from poolcli.edits.keys import LOOKALIKE, line_end, lookalike, stripped, unspaced
from poolcli.edits.lines import PLACES, Key, Lines, TooCostly, indent_of, lines_of
from poolcli.edits.merging import Ends, Place, carried
from poolcli.edits.results import Refusal, Replacement, Step

Found = list[Place] | Refusal | None

#: Lines by which a line hint may be wrong, and how many times farther the next place must be.
HINT, APART = 12, 4


#: Ends of lines after which the next one is indented deeper, in most languages.
OPENERS = (":", "{", "(", "[")


#: Characters of a following line that are looked at for whether it is blank.
JOINED = 400


class Candidate(Struct, frozen=True):
    """A place where the old text is, by offsets, and what the edit would do there."""

    start: int
    end: int
    make: Callable[[], Place | Refusal | None]


def find(lines: Lines, edit: Replacement) -> list[Place] | Refusal:
    """The places to change, from above to below, or why there are none."""
    if edit.old == edit.new and edit.old_open == edit.new_open:
        return teaching.refuse("no_change", "old and new text are the same; nothing was changed")
    if not edit.old:
        return teaching.refuse("malformed", "the old text is empty; give the text to replace")
    if (refusal := _unwritten(edit)) is not None:
        return refusal
    try:
        found = _strict(lines, edit)
        if found is None and teaching.already(lines, edit.old, edit.new) is None:
            found = _forgiving(lines, edit)
        return teaching.not_found(lines, edit.old, edit.new) if found is None else found
    except TooCostly:
        return teaching.refuse(
            "too_costly",
            "looking for a text like the old one would take too long in this file; give fewer lines, "
            "copied exactly, or the line numbers",
        )


def _strict(lines: Lines, edit: Replacement) -> Found:
    if edit.otherwise is None:
        return _steps(lines, edit)
    # Both readings as they are come before any shift of indentation: a context line that lost its mark is
    # short of one blank, and a shift by one blank would seem to explain it.
    other = altered(edit, old=edit.otherwise[0], new=edit.otherwise[1], otherwise=None)
    for reading in (edit, other):
        if (found := _exact(lines, reading) or _line_ends(lines, reading)) is not None:
            return found
    return _steps(lines, edit) or _steps(lines, other)


def _unwritten(edit: Replacement) -> Refusal | None:
    old, new = lines_of(edit.old), lines_of(edit.new)
    if escapes.unwritten(edit.old, edit.new):
        return teaching.refuse(
            "unclear", "the new text is one line with \\n in it where lines seem to end; write real line ends"
        )
    if "..." not in edit.new and "…" not in edit.new:
        return None
    mark = elided.placeholder(old, new)
    if not mark or len(elided.segments(old)) == len(elided.segments(new)):
        return None
    return teaching.refuse(
        "unclear",
        f"the new text holds `{teaching.shortened(mark)}`, which stands for code that is not written out; "
        "write all of it, or replace fewer lines",
    )


def _steps(lines: Lines, edit: Replacement, read: tuple[Step, ...] = ()) -> Found:
    """All steps that demand every line of the old text."""
    for step in (_exact, _line_ends, _indentation, _lookalikes):
        if (found := step(lines, edit)) is not None:
            return found
    if "blank_lines" in read:
        # The last reading: what it looks at beside the text must be found as it is.
        return None
    for reading, name in _readings(lines, edit):
        if reading is None or name in read:
            continue
        # Two kinds of damage at once are common, the same one twice is not.
        found = _steps(lines, reading, (*read, name))
        if isinstance(found, Refusal):
            return found
        if found:
            return [altered(place, step=name) for place in found]
    return None


def _readings(lines: Lines, edit: Replacement) -> Iterator[tuple[Replacement | None, Step]]:
    for reading in escapes.readings(edit.old, edit.new):
        if reading is None:
            continue
        yield altered(edit, old=reading[0], new=reading[1], changes=()), "escapes"
    yield _unnumbered(edit), "line_numbers"
    yield _without_blank_lines(lines, edit), "blank_lines"


# -- exact -----------------------------------------------------------------------------------------------


def _exact(lines: Lines, edit: Replacement) -> Found:
    if edit.old_open or edit.new_open:
        return _by_key(lines, edit, _itself, "exact")
    if edit.old.startswith("\n") and lines.carriage and not edit.whole_lines:
        # A carriage return before it belongs to the same line end: the next step takes both.
        return None
    spans = lines.occurrences(edit.old)
    spans = _and_last(lines.text, edit.old, spans)
    if edit.whole_lines:
        spans = (span for span in spans if span[0] == 0 or lines.text[span[0] - 1] == "\n")
    return _chosen(lines, edit, _fragments(lines, edit, spans, "exact"))


def _itself(line: str) -> str:
    return line


def _and_last(text: str, old: str, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans, and the same lines at the end of a text without a last line end: for a reader one place more."""
    first = next(spans, None)
    if first is None:
        return
    yield first
    yield from spans
    plain = old.replace("\r\n", "\n")
    tail = "\n" + text[-2 * len(old) :].replace("\r\n", "\n")
    if not text.endswith("\n") and plain.endswith("\n") and tail.endswith("\n" + plain[:-1]):
        begins = len(text)
        for _ in range(plain.count("\n")):
            begins = text.rfind("\n", 0, begins)
        yield begins + 1, len(text)


def _fragments(
    lines: Lines, edit: Replacement, spans: Iterator[tuple[int, int]], step: Step
) -> Iterator[Candidate]:
    for start, end in spans:
        yield Candidate(start, end, lambda a=start, b=end: _literal(lines, edit, a, b, step))  # type: ignore[misc]


def _literal(lines: Lines, edit: Replacement, start: int, end: int, step: Step) -> Place | Refusal | None:
    """The new text as it is in the place of the old, but for the lines that both have at their ends."""
    doubt = _doubt(lines, edit, start, end)
    if doubt is not None:
        return doubt
    old, new = edit.old.split("\n"), edit.new.split("\n")
    matched = lines.text[start:end]
    new_text = _with_line_ends(lines, edit.new, matched)
    if new_text == matched:
        return None
    if len(old) == 1 or edit.new.count("\r") or "\r" in edit.old:
        return Place(start, end, new_text, step)
    there, fitted = matched.split("\n"), new_text.split("\n")
    most = min(len(old), len(new)) - 1
    head = next((i for i in range(most) if old[i] != new[i]), most)
    tail = next((i for i in range(most - head) if old[-1 - i] != new[-1 - i]), most - head)
    # The line before the last common ones stays with its end, so that a stretch is always whole lines.
    begins = start + sum(len(line) + 1 for line in there[:head])
    stops = end - sum(len(line) for line in there[len(there) - tail :]) - max(0, tail - 1) if tail else end
    if tail:
        body = "".join(line + "\n" for line in fitted[head : len(fitted) - tail])
    else:
        body = "\n".join(fitted[head:])
    return Place(begins, stops, body, step)


def _with_line_ends(lines: Lines, new: str, old: str) -> str:
    """`new` with the line ends of what it replaces, else of most of the file."""
    if "\n" not in new or "\n" not in lines.text:
        return new
    if "\n" in old:
        crlf = old.count("\r\n") * 2 > old.count("\n")
    else:
        crlf = lines.newline == "\r\n"
    plain = new.replace("\r\n", "\n")
    return plain.replace("\n", "\r\n") if crlf else plain


def _doubt(lines: Lines, edit: Replacement, start: int, end: int) -> Refusal | None:
    """Why a text that is there literally may still not be meant literally; None when it is."""
    old, new, text = edit.old, edit.new, lines.text
    begin = text.rfind("\n", 0, start) + 1
    before = text[begin:start]
    if before.strip(" \t"):
        return None
    rest = text[end : end + 1]
    following = text[end : text.find("\n", end) if "\n" in text[end : end + JOINED] else end + JOINED]
    if old.endswith("\n") and new and not new.endswith("\n") and new == new.rstrip() and following.strip():
        at = lines.line_at(start)
        return teaching.refuse(
            "unclear",
            f"the old text (line {at}) ends with a line end and the new one does not, so the next line would "
            "be joined to it; end both the same way",
            at,
        )
    if not before:
        return None
    written = [line for line in new.split("\n") if line.strip()]
    if not written:
        return None
    outer = before + indent_of(old)
    double = indent_of(written[0]) == outer and indent_of(old) != outer
    alone = len(old.strip("\n").split("\n")) == 1 and (old.endswith("\n") or rest in ("", "\n", "\r"))
    shallow = alone and any(not line.startswith(outer) for line in written[1:])
    # What a line opens is indented deeper than it; no deeper than the file's line means counted from zero.
    opens = alone and len(written) > 1 and written[0].rstrip().endswith(OPENERS)
    if double or shallow or (opens and indent_of(written[1]) == outer):
        at = lines.line_at(start)
        return teaching.refuse(
            "unclear",
            f"the old text begins after the indentation of line {at}, so it is not clear how the new lines "
            "are to be indented; give whole lines with their indentation in both texts",
            at,
        )
    return None


# -- line ends and blanks at the end of lines ----------------------------------------------------------------


def _line_ends(lines: Lines, edit: Replacement) -> Found:
    if not edit.whole_lines and (lines.carriage or "\r" in edit.old):
        spans = _and_last(lines.text, edit.old, _any_line_end(lines, edit.old))
        found = _chosen(lines, edit, _fragments(lines, edit, spans, "line_ends"))
        if found is not None:
            return found
    return _by_key(lines, edit, line_end, "line_ends")


def _any_line_end(lines: Lines, old: str) -> Iterator[tuple[int, int]]:
    plain = old.replace("\r\n", "\n")
    if not lines.carriage or lines.only_crlf:
        yield from lines.occurrences(plain.replace("\n", "\r\n") if lines.carriage else plain)
        return
    pattern = re.compile(r"\r?\n".join(map(re.escape, plain.split("\n"))))
    at = 0
    while match := pattern.search(lines.text, at):
        yield match.span()
        # Past the first character, and CRLF is one: else its LF alone would count once more.
        at = match.start() + (2 if lines.text.startswith("\r\n", match.start()) else 1)


# -- whole lines by a key ------------------------------------------------------------------------------------


def _by_key(lines: Lines, edit: Replacement, key: Key, step: Step) -> Found:
    """The places whose lines `key` cannot tell from the old ones, with one rule of indentation."""
    old, new = lines_of(edit.old), _new_lines(edit)
    if not any(line.strip() for line in old):
        return None
    wanted = [key(line) for line in old]
    if not any(wanted):
        return None
    starts = lines.worded(old, key) if key is unspaced else lines.places(wanted, key)
    if not any(_indented_alike(lines, at, old, key) for at in starts):
        return None
    # The same lines indented otherwise are a place as well: what no rule explains may still be meant.
    candidates = (
        Candidate(
            lines.begin(at),
            lines.begin(at + len(old)),
            lambda a=at: _lines_at(lines, edit, a, old, new, step),  # type: ignore[misc]
        )
        for at in starts
    )
    return _chosen(lines, edit, candidates)


def _new_lines(edit: Replacement) -> list[str]:
    """The lines of the new text that take the place of the old ones."""
    lines = lines_of(edit.new)
    if edit.new.endswith("\n") and not edit.old.endswith("\n") and not edit.whole_lines:
        lines.append("")
    if not lines and not edit.old.endswith("\n") and not edit.whole_lines:
        lines = [""]
    return lines


def _indented_alike(lines: Lines, at: int, old: Sequence[str], key: Key) -> bool:
    if key in (_itself, line_end):
        return True
    found = indentation.pairs(old, lines.between(at, at + len(old)))
    return indentation.same(found) or indentation.uniform(found) or _bare_first(found)


def _bare_first(found: indentation.Pairs) -> bool:
    """Whether only the first line lacks its indentation, as when a text was trimmed."""
    return len(found) > 1 and found[0][0] == "" and indentation.same(found[1:])


def _trimmed(old: Sequence[str], new: Sequence[str], there: str) -> bool:
    """Whether one line without its indentation becomes several: those may be indented as it is, or as in the file."""
    alone = len(old) == 1 and not indent_of(old[0]) and bool(indent_of(there))
    return alone and sum(bool(line.strip()) for line in new) > 1


def _lines_at(
    lines: Lines, edit: Replacement, at: int, old: Sequence[str], new: list[str], step: Step
) -> Place | Refusal | None:
    there = lines.between(at, at + len(old))
    after = lines.between(at + len(old), at + len(old) + 1)
    if not edit.whole_lines and _trimmed([line for line in old if line.strip()], new, there[_blank(there)]):
        return _in_doubt(at)
    joins = edit.old.endswith("\n") and edit.new and not edit.new.endswith("\n") and not edit.whole_lines
    if joins and after and after[0].strip():
        return teaching.refuse(
            "unclear",
            f"the old text (line {at + 1}) ends with a line end and the new one does not, so the next line "
            "would be joined to it; end both the same way",
            at + 1,
        )
    found = indentation.pairs(old, there)
    if not indentation.same(found) and not indentation.uniform(found) and _bare_first(found):
        if not new or indent_of(new[0]) or not new[0].strip():
            return _in_doubt(at)
        old, new = [found[0][1] + old[0], *old[1:]], [found[0][1] + new[0], *new[1:]]
        found = indentation.pairs(old, there)
    shift = indentation.shift(found, old, new, lambda: lines.raw)
    if shift is None:
        # Nothing but blank lines to write, or a shift of lines whose indentation no rule covers.
        return _in_doubt(at)
    ends = Ends(edit.new_open if edit.old_open != edit.new_open else None)
    return carried(lines, at, old, new, shift, step, ends=ends, known=edit.changes)


def _in_doubt(at: int) -> Refusal:
    return teaching.refuse(
        "unclear",
        f"the old text is at line {at + 1} but indented otherwise, and it is not clear how the new lines are to "
        "be indented; write both texts with the indentation that the file has",
        at + 1,
    )


def _indentation(lines: Lines, edit: Replacement) -> Found:
    return _by_key(lines, edit, stripped, "indentation")


def _lookalikes(lines: Lines, edit: Replacement) -> Found:
    if lines.text.isascii() and edit.old.isascii():
        return None
    if (found := _by_key(lines, edit, lookalike, "lookalikes")) is not None or edit.whole_lines:
        return found
    old = edit.old.translate(LOOKALIKE)
    if not old.strip():
        return None
    return _chosen(lines, edit, _fragments(lines, edit, _alike(lines, old), "lookalikes"))


def _alike(lines: Lines, old: str) -> Iterator[tuple[int, int]]:
    """Where a text is that looks like `old`, sign by sign, with either line end."""
    plain = old.replace("\r\n", "\n")
    if not lines.carriage and not lines.looks_like(plain):
        return
    pattern = re.compile("".join(_SIGN.get(char) or re.escape(char) for char in plain))
    at = 0
    while match := pattern.search(lines.text, at):
        yield match.span()
        at = match.start() + (2 if lines.text.startswith("\r\n", match.start()) else 1)


#: What matches a sign and all that look like it.
_SIGN = {
    "\n": "\r?\n",
    **{
        plain: f"[{re.escape(plain)}{''.join(chr(odd) for odd, one in LOOKALIKE.items() if one == plain)}]"
        for plain in LOOKALIKE.values()
        if len(plain) == 1
    },
}


# -- other readings of the old text --------------------------------------------------------------------------

_NUMBER = re.compile(r"\s*(\d{1,7})(?:\t|\s?[|│→:]\s?)")


def _unnumbered(edit: Replacement) -> Replacement | None:
    """The edit without line numbers that were copied from a listing, which then say where it is."""
    old, new = lines_of(edit.old), lines_of(edit.new)
    matches = [_NUMBER.match(line) for line in old]
    if not old or not all(matches):
        return None
    numbers = [int(match[1]) for match in matches if match]
    if numbers != list(range(numbers[0], numbers[0] + len(old))):
        return None
    # One line alone may well begin with a number; a tab after it is how a listing looks.
    if len(old) == 1 and "\t" not in old[0]:
        return None
    numbered = [_NUMBER.match(line) for line in new]
    solid = [match is not None for match, line in zip(numbered, new, strict=True) if line.strip()]
    if any(solid) and not all(solid):
        return None
    new = [line[match.end() :] if match else line for match, line in zip(numbered, new, strict=True)]
    old = [line[match.end() :] for match, line in zip(matches, old, strict=True) if match]
    line = edit.line or numbers[0]
    return altered(edit, old=_joined(old, edit.old), new=_joined(new, edit.new), line=line, changes=())


def _joined(lines: Sequence[str], like: str) -> str:
    return "\n".join(lines) + ("\n" if like.endswith("\n") and lines else "")


def _without_blank_lines(lines: Lines, edit: Replacement) -> Replacement | None:
    """The edit without the blank lines at the ends of the old text that the file may not have."""
    old, new = lines_of(edit.old), lines_of(edit.new)
    head, tail = _blank(old), _blank(old[::-1])
    if head == len(old) or not (head or tail):
        return None
    new_head, new_tail = _blank(new), _blank(new[::-1])
    above, below = _taken(head, new_head), _taken(tail, new_tail)
    if above is None or below is None or above[1] + below[1] > len(new):
        return None
    core = [lookalike(line) for line in old[head : len(old) - tail]]
    for at in lines.places(core, lookalike):
        # Blank lines of the file that the old text has and the new one has not may be meant to go, or not.
        beside = (
            lines.between(at - 1, at)[0] if at else "-",
            next(iter(lines.between(at + len(core), at + len(core) + 1)), "-"),
        )
        if not edit.whole_lines and _trimmed(old[head : len(old) - tail], new, lines.between(at, at + 1)[0]):
            return None
        if (head > new_head == 0 and not beside[0].strip()) or (
            tail > new_tail == 0 and not beside[1].strip()
        ):
            return None
    return altered(
        edit,
        old="".join(line + "\n" for line in old[above[0] : len(old) - below[0]]),
        new="".join(line + "\n" for line in new[above[1] : len(new) - below[1]]),
        whole_lines=True,
        changes=(),
    )


def _blank(lines: Sequence[str]) -> int:
    """How many blank lines come first."""
    return next((i for i, line in enumerate(lines) if line.strip()), len(lines))


def _taken(old: int, new: int) -> tuple[int, int] | None:
    """How many blank lines to take from either text, when so many are at its end; None in doubt."""
    # None in the new text, or those of both belong together: all go, and the file keeps its own.
    return (old, new) if new in (0, old) else None


# -- forgiving steps -----------------------------------------------------------------------------------------


def _forgiving(lines: Lines, edit: Replacement) -> Found:
    """Steps that do not demand every line. Only for a single place, and only among whole lines."""
    if edit.every or edit.old_open != edit.new_open:
        return None
    if edit.new and edit.old.endswith("\n") != edit.new.endswith("\n"):
        return None
    old, new = lines_of(edit.old), lines_of(edit.new)
    if (found := _elided(lines, old, new)) is not None:
        return found
    if any(elided.is_mark(line) for line in [*old, *new]):
        return None
    if (found := _by_key(lines, edit, unspaced, "similar")) is not None:
        return found
    return similar.find(lines, old, new, edit.changes)


def _elided(lines: Lines, old: Sequence[str], new: Sequence[str]) -> Found:
    before, after = elided.segments(old), elided.segments(new)
    if len(before) == 1:
        return None
    if len(before) != len(after):
        return teaching.refuse(
            "unclear",
            "the old text leaves lines out and the new one does not leave out the same; write the old text in "
            "full, or one edit for each part",
        )
    starts: list[int | None] = []
    pairs: indentation.Pairs = []
    end = 0
    for part, other in zip(before, after, strict=True):
        if not any(line.strip() for line in part):
            if part != other:
                return None
            starts.append(None)
            continue
        places = [
            at
            for at in lines.places([lookalike(line) for line in part], lookalike)
            if _indented_alike(lines, at, part, lookalike)
        ]
        if not places:
            return None
        if len(places) > 1:
            shown = [at + 1 for at in places]
            return teaching.refuse(
                "ambiguous",
                f"lines are left out of the old text, and `{teaching.shortened(part[0].strip())}` beside the gap is "
                f"in {len(places)} places (lines {', '.join(map(str, shown[: teaching.NAMED]))}); "
                "write the old text in full",
                *shown[: teaching.NAMED],
            )
        if places[0] < end:
            return None
        end = places[0] + len(part)
        starts.append(places[0])
        pairs += indentation.pairs(part, lines.between(places[0], end))
    if all(at is None for at in starts):
        return None
    flat = [line for part in before for line in part]
    shift = indentation.shift(pairs, flat, [line for part in after for line in part], lambda: lines.raw)
    if shift is None:
        return _in_doubt(next(at for at in starts if at is not None))
    made = [
        carried(lines, at, part, other, shift, "elided")
        for at, part, other in zip(starts, before, after, strict=True)
        if at is not None
    ]
    return [place for place in made if place is not None] or _unchanged(lines, starts[0] or 0)


# -- choosing ------------------------------------------------------------------------------------------------


def _unchanged(lines: Lines, at: int) -> Refusal:
    return teaching.refuse(
        "already_applied", f"line {at + 1} is already as the new text has it; nothing was changed", at + 1
    )


def _chosen(lines: Lines, edit: Replacement, candidates: Iterator[Candidate]) -> Found:
    """The one candidate that is meant (all, when every one is), made; None when there is none."""
    if edit.every:
        return _all(lines, candidates)
    some: list[Candidate] = []
    for candidate in candidates:
        some.append(candidate)
        if len(some) == PLACES:
            break
    if not some:
        return None
    more = len(some) == PLACES
    meant = some if len(some) == 1 and not edit.anchors else _meant(lines, edit, some)
    if not meant:
        at = _line(lines, some[0].start)
        return teaching.refuse(
            "unclear",
            f"the old text is at line {at}, which is not below the line named by @@; name another",
            at,
        )
    if len(meant) != 1:
        return teaching.ambiguous(lines, [_line(lines, one.start) for one in some], more)
    made = meant[0].make()
    if made is None:
        return _unchanged(lines, _line(lines, meant[0].start) - 1)
    return made if isinstance(made, Refusal) else [made]


def _all(lines: Lines, candidates: Iterator[Candidate]) -> Found:
    places: list[Place] = []
    end, any_there = 0, False
    for candidate in candidates:
        any_there = True
        if candidate.start < end:
            continue
        end = candidate.end
        made = candidate.make()
        if isinstance(made, Refusal):
            return made
        if made is not None:
            places.append(made)
    if any_there and not places:
        return _unchanged(lines, 0)
    return places or None


def _meant(lines: Lines, edit: Replacement, some: list[Candidate]) -> list[Candidate]:
    """The candidates that what is known besides the text leaves over."""
    if edit.at_end or edit.old_open or edit.new_open:
        last = len(lines.text.rstrip())
        some = [one for one in some if one.end >= last] or some
    if edit.anchors:
        return _anchored(lines, edit.anchors, some)
    if len(some) > 1 and edit.line:
        return _hinted(lines, edit.line, some)
    return some


def _hinted(lines: Lines, line: int, some: list[Candidate]) -> list[Candidate]:
    """The candidate at a line, else the one that is clearly nearest to it."""
    spans = [(_line(lines, one.start), _line(lines, max(one.start, one.end - 1)), one) for one in some]
    at = [one for first, _, one in spans if first == line]
    if len(at) == 1:
        return at
    holding = [one for first, last, one in spans if first <= line <= last]
    if len(holding) == 1:
        return holding
    if holding or len(some) == PLACES:
        return some
    ranked = sorted(
        (min(abs(first - line), abs(last - line)), first, one) for first, last, one in _keyed(spans)
    )
    near, second = ranked[0][0], ranked[1][0]
    return [ranked[0][2]] if near <= HINT and second >= near * APART else some


def _keyed(spans: list[tuple[int, int, Candidate]]) -> list[tuple[int, int, Candidate]]:
    """One candidate per line: two on the same line cannot be told apart by it, and would not sort."""
    return list({first: (first, last, one) for first, last, one in spans}.values())


def _anchored(lines: Lines, anchors: Sequence[str], some: list[Candidate]) -> list[Candidate]:
    """The candidates below the anchor lines; when there are several, those in the block that these open.

    An anchor that is not in the file says nothing.
    """
    opened = [0]
    for anchor in anchors:
        below = [n for n in _anchor(lines, anchor) if n >= opened[0]]
        if below:
            opened = below
    after = [one for one in some if one.start >= lines.offsets[opened[0]]]
    if len(after) < 2:
        return after
    inside = [one for one in after if any(_within(lines, n, one) for n in opened)]
    return inside if len(inside) == 1 else after


def _anchor(lines: Lines, anchor: str) -> list[int]:
    """The lines that an anchor may name: equal but for blanks, else those that begin with it."""
    wanted = lookalike(anchor)
    keys, index = lines.keyed(lookalike)
    if not wanted:
        return []
    return index.get(wanted) or [n for n, key in enumerate(keys) if key.startswith(wanted)][:PLACES]


def _within(lines: Lines, at: int, one: Candidate) -> bool:
    """Whether a candidate lies in the block that a line opens, by indentation."""
    if one.start < lines.offsets[at]:
        return False
    depth = len(indent_of(lines.raw[at]))
    finish = _line(lines, one.start)
    for line in lines.raw[at + 1 : finish]:
        if line.strip() and len(indent_of(line)) <= depth and line.strip()[0] not in "})]":
            return False
    return True


def _line(lines: Lines, offset: int) -> int:
    return lines.line_at(offset)
