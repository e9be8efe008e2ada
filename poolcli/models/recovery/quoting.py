"""What of a text is quoted: code in fences and backticks, words in quotation marks, examples in a sentence."""

from __future__ import annotations

import re

from msgspec import Struct

#: Characters of a line that are looked at before a mark; a longer line is no sentence.
MAX_LINE = 2000

_FENCE = re.compile(r"^[ \t]*+(?:Action:[ \t]*+)?(`{3,}+|~{3,}+)[ \t]*+([^\n`]*+)$", re.MULTILINE)
_TICKS = re.compile("`++")
#: What is said before an example.
_EXAMPLE = re.compile(
    r"\b(?:examples?|e\.g|for instance|such as|looks? like|format|syntax|instead of|schema|template)\b", re.I
)
_QUOTES = "\"'`“‘«‹„"


class Fence(Struct, frozen=True):
    """A fenced block: where it begins and ends, where its inside does, and the word beside the opening fence."""

    start: int
    inner: int
    inner_end: int
    end: int
    info: str
    closed: bool


def fence(text: str, start: int, end: int) -> Fence | None:
    """The first fenced block that opens between `start` and `end`; one never closed ends with the text."""
    open = _FENCE.search(text, start, end)
    if open is None:
        return None
    info, inner = open[2].strip().lower(), min(open.end() + 1, len(text))
    for line in _FENCE.finditer(text, open.end()):
        if line[1][0] == open[1][0] and len(line[1]) >= len(open[1]) and not line[2].strip():
            return Fence(open.start(), inner, max(inner, line.start()), line.end(), info, True)
    return Fence(open.start(), inner, len(text), len(text), info, False)


class Fences:
    """Tells which places are in fenced blocks. Asked for places in order, it reads a text once."""

    def __init__(self, text: str, start: int) -> None:
        """What stands before `start` does not count."""
        self._text = text
        self._at = start

    def end(self, place: int) -> int:
        """Where the fenced block ends that `place` is in; 0 when it is in none."""
        line = max(self._at, self._text.rfind("\n", self._at, place) + 1)
        while self._at < line and (block := fence(self._text, self._at, line)):
            self._at = block.end
            if block.end > place:
                return block.end
        self._at = max(self._at, line)
        return 0


def is_quoted(text: str, at: int, start: int) -> bool:
    """Whether what stands at `at` is quoted within its line; the text before `start` does not count."""
    line = _before(text, at, start)
    if line.lstrip().startswith(">"):
        return True  # a block quote
    if line[-1:] and line[-1] in _QUOTES:
        return True
    if (line.count('"') - line.count('\\"')) % 2 or line.count("“") > line.count("”"):
        return True
    open = ""
    for ticks in _TICKS.findall(line):
        if not open:
            open = ticks
        elif ticks == open:
            open = ""
    return bool(open)


def is_in_sentence(text: str, at: int, start: int) -> bool:
    """Whether a sentence is going on where `at` is."""
    before = _before(text, at, start).rstrip()[-1:]
    return before.isalnum() or (bool(before) and before in ",(–—-")


def is_mentioned(text: str, at: int, end: int, start: int) -> bool:
    """Whether what stands between `at` and `end` is part of a sentence that goes on behind it."""
    behind = text[end : end + MAX_LINE].partition("\n")[0].strip()
    return bool(behind) and behind[0] not in "<[" and is_in_sentence(text, at, start)


def is_example(text: str, at: int) -> bool:
    """Whether the last line with words before `at` announces an example."""
    lines = text[max(0, at - MAX_LINE) : at].rstrip().rpartition("\n")
    return bool(_EXAMPLE.search(lines[2]))


def _before(text: str, at: int, start: int) -> str:
    """The line before `at`."""
    start = max(start, at - MAX_LINE)
    return text[max(start, text.rfind("\n", start, at) + 1) : at]
