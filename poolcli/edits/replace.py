"""One or many replacements in one text, all of them or none."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from msgspec.structs import replace as altered

from poolcli.edits import ladder, teaching
from poolcli.edits.lines import Lines, lines_of
from poolcli.edits.merging import Ends, Place, carried
from poolcli.edits.results import Landed, Refusal, Replacement, Span, Step

#: Refusals that the edits before may be the reason for: then the text as they leave it is looked at too.
_BY_EARLIER = ("not_found", "already_applied", "ambiguous", "overlap")

#: Edits of one call from which on an index of the text's words is quicker than searching it for each.
MANY = 40


def replace(
    text: str, old: str, new: str, *, every: bool = False, line: int = 0, whole_lines: bool = False
) -> Landed | Refusal:
    """Replace `old` by `new` where it is: the one place, or all with `every`, or the one at `line` (from 1)."""
    return replace_all(text, [Replacement(old, new, every=every, line=line, whole_lines=whole_lines)])


def replace_all(text: str, edits: Sequence[Replacement], *, numbered: bool = False) -> Landed | Refusal:
    """Apply all edits, or none and say why the first that fails does.

    Each is looked for in the text as it was before the call; one that is not there, in the text as the ones
    before it leave it. `numbered` says that these are the hunks of one diff whose counts are right: where all
    of them fit at the lines they name, these are trusted.
    """
    if not edits:
        return teaching.refuse("malformed", "there is nothing to replace")
    work = _Work(text)
    work.base.many = len(edits) > MANY
    if len(edits) > 1:
        # Line numbers are asked for once per place: cut up the text once instead of counting each time.
        _ = work.base.offsets
    if numbered and (places := _as_numbered(work.base, edits)) is not None:
        for place in places:
            work.take([place])
        return work.landed()
    for number, edit in enumerate(edits, 1):
        found = work.find(edit)
        if isinstance(found, Refusal) and found.kind == "ambiguous" and edit.stated:
            found = work.accept(_by_offset(work.base, edits, edit) or found)
        if isinstance(found, Refusal):
            found = work.find_after(edit, found)
        if isinstance(found, Refusal):
            return altered(found, number=number) if len(edits) > 1 else found
    landed = work.landed()
    if landed.text == text:
        return teaching.refuse("no_change", "the edits undo each other; nothing was changed")
    return landed


class _Work:
    """A text and the places that are going to be changed in it."""

    def __init__(self, text: str) -> None:
        self.base = Lines(text)
        self.pending: list[tuple[int, int, int, str]] = []  # start, end, order, new
        #: Of every place: its lines before, where it is in `base` once the pending ones are applied.
        self.before: list[tuple[int, int]] = []
        self.offsets: list[tuple[int, int]] = []
        self.steps: list[Step] = []

    def find(self, edit: Replacement) -> list[Place] | Refusal:
        """The places of an edit, taken; a refusal also when they overlap with earlier ones."""
        return self.accept(_inserted(self.base, edit) if not edit.old else ladder.find(self.base, edit))

    def accept(self, found: list[Place] | Refusal) -> list[Place] | Refusal:
        """Takes places that no earlier ones overlap."""
        if not isinstance(found, Refusal):
            if clash := self._overlap(found):
                return clash
            self.take(found)
        return found

    def find_after(self, edit: Replacement, refused: Refusal) -> list[Place] | Refusal:
        """As `find`, in the text as the earlier edits leave it; `refused` when it is not there either."""
        if not self.pending or refused.kind not in _BY_EARLIER:
            return refused
        after = Lines(_joined(self.base.text, sorted(self.pending)))
        found = ladder.find(after, edit) if edit.old else refused
        if isinstance(found, Refusal) or any(place.step in ("similar", "elided") for place in found):
            return refused
        self._rebase(after)
        self.take(found)
        return found

    def take(self, places: list[Place]) -> None:
        for place in places:
            first = self.base.line_at(place.start)
            last = self.base.line_at(place.end - 1) if place.end > place.start else first - 1
            self.before.append((first, last))
            self.offsets.append((place.start, place.end))
            self.steps.append(place.step)
            entry = (place.start, place.end, len(self.steps), place.new)
            self.pending.insert(bisect_left(self.pending, entry), entry)

    def _overlap(self, places: list[Place]) -> Refusal | None:
        for place in places:
            at = bisect_left(self.pending, (place.start, place.end, 0, ""))
            for start, end, _, _ in self.pending[max(0, at - 1) : at + 1]:
                if (start < place.end and place.start < end) or (start, end) == (place.start, place.end):
                    line = self.base.line_at(max(start, place.start))
                    return teaching.refuse(
                        "overlap", f"two edits change line {line}; make one edit of them", line
                    )
        return None

    def _rebase(self, after: Lines) -> None:
        self.offsets = self._moved()
        self.base, self.pending = after, []

    def _moved(self) -> list[tuple[int, int]]:
        """Where every place is after the pending changes."""
        starts = [start for start, _, _, _ in self.pending]
        grown = list(accumulate((len(new) - (end - start) for start, end, _, new in self.pending), initial=0))
        here = {order - 1: i for i, (_, _, order, _) in enumerate(self.pending)}
        moved = []
        for number, (start, end) in enumerate(self.offsets):
            if (i := here.get(number)) is not None:
                begin = start + grown[i]
                moved.append((begin, begin + len(self.pending[i][3])))
            else:
                shift = grown[bisect_left(starts, start)]
                moved.append((start + shift, end + shift))
        return moved

    def landed(self) -> Landed:
        text = _joined(self.base.text, self.pending)
        after = Lines(text)
        if len(self.steps) > 1:
            _ = after.offsets
        spans = []
        for (first, last), (start, end) in zip(self.before, self._moved(), strict=True):
            after_first = after.line_at(start)
            after_last = after.line_at(end - 1) if end > start else after_first - 1
            spans.append(Span(first, last, after_first, after_last))
        return Landed(text, tuple(spans), tuple(self.steps))


def _joined(text: str, pending: Sequence[tuple[int, int, int, str]]) -> str:
    out, at = [], 0
    for start, end, _, new in pending:
        out += [text[at:start], new]
        at = end
    return "".join([*out, text[at:]])


def _inserted(lines: Lines, edit: Replacement) -> list[Place] | Refusal:
    """Where new text goes that replaces nothing: into an empty file, or to the end of one."""
    if not edit.new:
        return teaching.refuse("no_change", "old and new text are both empty; nothing was changed")
    end = len(lines.text)
    if not lines.text.strip():
        return [Place(0, end, edit.new, "exact")]
    if edit.at_end:
        eol = lines.newline
        body = eol.join(lines_of(edit.new))
        return [Place(end, end, eol + body if lines.open else body + eol, "exact")]
    return teaching.refuse(
        "unclear",
        "the old text is empty, so it is not clear where the new text goes; give the line before or after it as "
        "old text, and the same line with the new ones as new text",
    )


def _as_numbered(lines: Lines, edits: Sequence[Replacement]) -> list[Place] | None:
    """The places of a diff's hunks at the lines that they name, if all of them fit there exactly."""
    places: list[Place] = []
    checked, end = not lines.text, 0
    for edit in edits:
        at = edit.stated - 1
        old, new = _exact_lines(edit.old), _exact_lines(edit.new)
        if at < end or at > len(lines.raw) or lines.raw[at : at + len(old)] != old:
            return None
        end = at + len(old)
        at_end = end == len(lines.raw)
        if (edit.old_open or edit.new_open) and not at_end:
            return None
        # A hunk that does not touch the last line says nothing about how that ends.
        if at_end and old and edit.old_open != lines.open:
            return None
        checked = checked or bool(old)
        ends = Ends(edit.new_open if at_end and (old or not lines.raw) else None)
        place = carried(lines, at, old, new, _same, "numbers", ends=ends, verbatim=True)
        if place is not None:
            places.append(place)
    return places if checked and places else None


def _exact_lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def _same(indent: str) -> str:
    return indent


def _by_offset(lines: Lines, edits: Sequence[Replacement], edit: Replacement) -> list[Place] | None:
    """The place of a hunk that fits in several, when the others of its diff say how far it is off.

    Those that are in one place only must all be off by the same number of lines.
    """
    offsets = set()
    for other in edits:
        if other is edit or not other.stated or not other.old:
            continue
        count = len(_exact_lines(other.old))
        keyed = [line.rstrip() for line in _exact_lines(other.old)]
        places = lines.places(keyed, str.rstrip) if count and any(keyed) else []
        if len(places) == 1:
            offsets.add(places[0] + 1 - other.stated)
    if len(offsets) != 1:
        return None
    line = edit.stated + offsets.pop()
    if line - 1 not in lines.places([one.rstrip() for one in _exact_lines(edit.old)], str.rstrip):
        return None
    found = ladder.find(lines, altered(edit, line=line))
    return None if isinstance(found, Refusal) else found
