"""Old text with a part left out: a line such as `# ... unchanged ...` between lines that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: A line that holds an ellipsis and at most words around it, perhaps as a comment.
_MARK = re.compile(
    r"\s*(?:#|//|/\*|<!--|--|;|%|\{/\*)?\s*"
    r"[\w ,'()]{0,60}(?:\.{3}|…)[\w ,'()/-]{0,80}(?:\.{3}|…)?"
    r"\s*(?:\*/\}?|-->)?\s*"
)
_BARE = re.compile(r"\s*(?:#|//|/\*|<!--|--|;|%)?\s*(?:\.{3}|…)\s*(?:\*/|-->)?\s*")
_COMMENT = re.compile(r"\s*(?:#|//|/\*|<!--|--|;|%|\{/\*|\.{3}|…|[\[(<])")
_WORDS = re.compile(
    r"(?i)\b(existing|unchanged|rest|remaining|remainder|same|previous|other|omitted|keep|kept|before|code"
    r"|lines?|body|implementation|snip(?:ped)?|etc)\b"
)


def is_mark(line: str) -> bool:
    """Whether a line can stand for lines that were left out."""
    if _BARE.fullmatch(line):
        return True
    return bool(_MARK.fullmatch(line) and _COMMENT.match(line) and _WORDS.search(line))


def placeholder(old: Sequence[str], new: Sequence[str]) -> str:
    """A line of the new text that stands for code that is not written out and was not in the old text, or ""."""
    before = {line.strip() for line in old}
    for line in new:
        if "..." not in line and "…" not in line:
            continue
        if line.strip() not in before and not _BARE.fullmatch(line) and is_mark(line):
            return line.strip()
    return ""


def segments(lines: Sequence[str]) -> list[list[str]]:
    """The lines between marks; one more segment than there are marks."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if is_mark(line):
            parts.append([])
        else:
            parts[-1].append(line)
    return parts
