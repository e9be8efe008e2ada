"""File names as a model may read them, and the words they are made of."""

from __future__ import annotations

import re

#: Longest name that is shown whole.
LONGEST = 160

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_PLAIN = re.compile(r"[\w.,:@+=~#%&()\[\]{}!$^/-]+\Z")
#: Words that say nothing about where in a repository something is.
_COMMON_TEXT = (
    "a about add all also an and any are as at be bug but by can change check code correct do does error fail "
    "failing fails file fix folder for from function get has have how if implement in into is it its line make "
    "module must new not of on or out please py remove repo repository return returns run should so test that "
    "the then there these this to update use used using we when where which why with work wrong you"
)
_COMMON = frozenset(_COMMON_TEXT.split())


def shown(name: str) -> str:
    """The name as it stands in a message: on one line, and never able to end the section it stands in.

    Names with spaces, control characters, quotes or angle brackets are written as JSON would.
    """
    if len(name) > LONGEST:
        name = name[: LONGEST - 1] + "…"
    if _PLAIN.match(name) and name.isprintable():
        return name
    return '"' + "".join(map(_escaped, name)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable() and char not in "<>":
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def words(text: str) -> set[str]:
    """The telling words of a text or path: camelCase and snake_case split, lower case, singular."""
    found = {_singular(word.lower()) for word in _WORD.findall(text)}
    return {word for word in found if len(word) > 1 and word not in _COMMON and not word.isdigit()}


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
