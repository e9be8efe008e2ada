"""What an edit asks for, and what comes of it: a new text, or a refusal that says what to do."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: Why nothing was changed.
Kind = Literal[
    "not_found",  # the old text is nowhere, in no reading of it
    "ambiguous",  # it is in several places
    "unclear",  # one place, but more than one reading of what the new text should look like there
    "no_change",  # the edit changes nothing
    "already_applied",  # what it would write is there
    "stale",  # the file is not as it was when it was read
    "overlap",  # two edits of one call change the same lines
    "too_costly",  # looking further would take too long
    "malformed",  # the edit cannot be read
    "unsafe_path",  # a path that leads out of the folder, or is absolute
    "missing",  # no such file
    "exists",  # a file that was to be created is there
]

#: How the place was found; each only when the ones before found nothing.
Step = Literal[
    "exact",
    "line_ends",
    "indentation",
    "lookalikes",
    "escapes",
    "line_numbers",  # copied from a listing
    "blank_lines",
    "elided",
    "similar",
    "numbers",  # a diff whose line numbers and lines all fit
    "whole",  # a whole file or a line range
]


class Refusal(Struct, frozen=True):
    """Nothing was changed, and why.

    `message` is complete: what happened, why, what to do. `lines` are the places in question, from 1.
    `diff` shows the nearest text against the one that was looked for, when there is one. `number` counts the
    edits of a call from 1 and is 0 where there was one only.
    """

    kind: Kind
    message: str
    path: str = ""
    lines: tuple[int, ...] = ()
    diff: str = ""
    number: int = 0


class Span(Struct, frozen=True):
    """Lines that an edit replaced, from 1: `first` to `last` before, `after_first` to `after_last` after.

    An empty stretch has its last line one before its first.
    """

    first: int
    last: int
    after_first: int
    after_last: int


class Landed(Struct, frozen=True):
    """The text after the edits; per place its lines and how it was found, in the order of the edits."""

    text: str
    spans: tuple[Span, ...] = ()
    steps: tuple[Step, ...] = ()


class Replacement(Struct, frozen=True):
    """Old text to be replaced by new.

    `every` replaces all occurrences. `line` (from 1, 0 for none) says which of several is meant: the one that
    holds this line. With `whole_lines` both texts are lines, each with its end, as in blocks and diffs; a
    fragment of a line is then no match. `otherwise` is a second reading (old, new) of the same edit, used
    when the first is not found.

    Of diffs: `anchors` are lines that come before the place, outermost first; `at_end` places it at the end
    of the file; `stated` is the line (from 1) that the diff names, often wrongly; `old_open` and `new_open`
    say that the text before or after ends without a line end.
    """

    old: str
    new: str
    every: bool = False
    line: int = 0
    whole_lines: bool = False
    otherwise: tuple[str, str] | None = None
    anchors: tuple[str, ...] = ()
    at_end: bool = False
    stated: int = 0
    old_open: bool = False
    new_open: bool = False
    #: Which lines become which, where the format marks them: lines i1 to i2 of old (from 0) lines j1 to j2 of
    #: new. Else it is found out by comparing.
    changes: tuple[tuple[int, int, int, int], ...] = ()


class LineRange(Struct, frozen=True):
    """Lines `first` to `last` (from 1, both included) that are to become `new`.

    `checksum` is `ranges.checksum` of the lines as they were read.
    """

    first: int
    last: int
    checksum: str
    new: str


class FileEdit(Struct, frozen=True):
    """What is to be done to one file.

    `update` applies `replacements` or `range`; `create` makes a new file of `content`; `write` makes or
    replaces a whole file; `delete` removes it. `move_to` renames as well. `numbered` says that the
    replacements are hunks of a diff with line numbers whose counts are right.
    """

    path: str
    action: Literal["update", "create", "write", "delete"] = "update"
    replacements: tuple[Replacement, ...] = ()
    range: LineRange | None = None
    content: str = ""
    move_to: str = ""
    numbered: bool = False


class FileResult(Struct, frozen=True):
    """A file after the edits. `text` is None when it is gone; `moved_from` names where it was before."""

    path: str
    text: str | None
    moved_from: str = ""
    spans: tuple[Span, ...] = ()
    steps: tuple[Step, ...] = ()
