"""Text that was escaped once too often: a backslash and an n where a line end was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLAIN = {"n": "\n", "t": "\t", "r": "", '"': '"', "'": "'", "\\": "\\"}
_ALL = re.compile(r"\\([ntr\"'\\])")
_SIMPLE = re.compile(r"(?<!\\)\\([ntr\"'])")


def readings(old: str, new: str) -> Iterator[tuple[str, str] | None]:
    """Old and new text with one level of escapes taken away, in each way that changes the old one.

    None stands for a reading whose new text is in doubt: its escapes may be meant.
    """
    seen = {old}
    for pattern in (_ALL, _SIMPLE):
        plain = _unescaped(pattern, old)
        if plain in seen:
            continue
        seen.add(plain)
        kinds = {match[1] for match in pattern.finditer(old)}
        meant = _new(pattern, kinds, old, new)
        yield None if meant is None else (plain, meant)


def unwritten(old: str, new: str) -> bool:
    """Whether a new text of one line has line ends of code written as a backslash and an n.

    Only after a sign that ends a line in most languages, and outside of strings: elsewhere it may be meant.
    """
    if "\\n" not in new or "\\n" in old or "\n" in new.strip("\n"):
        return False
    return any(not _in_string(new, match.start()) for match in re.finditer(r"(?<=[:;{},])\\n", new))


def _unescaped(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: _PLAIN[match[1]], text)


def _new(pattern: re.Pattern[str], kinds: set[str], old: str, new: str) -> str | None:
    """The new text in the same reading: as it is, without its escapes, or None when it could be either."""
    found = [match for match in pattern.finditer(new) if match[1] in kinds]
    if not found:
        return new
    if "n" in kinds and "\n" in new.rstrip("\n") and "\n" not in old.rstrip("\n"):
        # Real line ends where the old text had escaped ones: the new text was written properly.
        return new
    quotes = {'"', "'"} & kinds
    if any(re.search(rf"(?<!\\){quote}", new) for quote in quotes):
        # Escaped and bare quotes side by side: the escaped ones may be those of a string.
        return None
    inside = [_in_string(new, match.start()) for match in found if match[1] in "nt"]
    if quotes or not any(inside):
        return _unescaped(pattern, new)
    return new if all(inside) and len(inside) == len(found) else None


def _in_string(text: str, at: int) -> bool:
    """Whether a place is between quotes, as most languages have them."""
    quote, escaped = "", False
    for char in text[:at]:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'`":
            quote = char
    return quote != ""
