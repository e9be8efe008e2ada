"""How lines are compared: each key forgets a little more of what models get wrong."""

from __future__ import annotations

#: Characters that look like plain ones, by the plain one. Used to search, never to write.
_LOOKALIKES = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07",
    '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d",
    " ": "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "...": "\u2026",
    # Not seen at all: zero width space and joiners, word joiner, a byte order mark inside, soft hyphen.
    "": "\u200b\u200c\u200d\u2060\ufeff\u00ad",
}
LOOKALIKE = str.maketrans({odd: plain for plain, odds in _LOOKALIKES.items() for odd in odds})


def line_end(line: str) -> str:
    """Forgets blanks and a carriage return at the end."""
    return line.rstrip(" \t\r\f\v")


def stripped(line: str) -> str:
    """Forgets blanks at both ends."""
    return line.strip(" \t\r\f\v")


def lookalike(line: str) -> str:
    """Forgets blanks at both ends and which of the characters that look alike it was."""
    # ASCII, the usual case, holds none of them.
    return (line if line.isascii() else line.translate(LOOKALIKE)).strip(" \t\r\f\v")


def unspaced(line: str) -> str:
    """As `lookalike`, and forgets all blanks."""
    return "".join((line if line.isascii() else line.translate(LOOKALIKE)).split())
