"""Calls that are written as Python: `[read(path="a.py"), list()]`. Literals only, nothing is ever evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from poolcli.models.recovery.base import MAX_CALLS, Reading, Tools, Written, is_name, skip

_NAME = re.compile(r"[A-Za-z_][\w.]{0,199}+\s*+\(")
#: Keywords and numbers; strings. Possessive, so that no text is read twice.
_PLAIN = r"True|False|None|true|false|null|[+-]?+\d[\d_]*+(?:\.\d*+)?+(?:[eE][+-]?+\d++)?+"
_TEXT = (
    r"[rR]?+(?:"
    r'"""(?:[^"\\]++|\\.|"(?!""))*+"""'
    r"|'''(?:[^'\\]++|\\.|'(?!''))*+'''"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'(?:[^'\\\n]++|\\.)*+'"
    r")"
)
_ARGUMENT = re.compile(
    rf"\s*+(?:(?P<key>[A-Za-z_]\w*+)\s*+=\s*+)?+(?P<value>{_TEXT}|(?:{_PLAIN})(?![\w.]))\s*+(?P<then>,|(?=\)))",
    re.DOTALL,
)
#: An argument that the end of the text cut off.
_HALF = re.compile(
    r"\s*+(?:[A-Za-z_]\w*+\s*+(?:=\s*+)?+)?+(?:"
    rf"(?:{_TEXT})\s*+"
    r'|[rR]?+"""(?:[^"\\]++|\\.|"(?!""))*+\\?+"{0,2}+'
    r"|[rR]?+'''(?:[^'\\]++|\\.|'(?!''))*+\\?+'{0,2}+"
    r'|[rR]?+"(?:[^"\\\n]++|\\.)*+\\?+'
    r"|[rR]?+'(?:[^'\\\n]++|\\.)*+\\?+"
    r"|[\w.+-]++\s*+"
    r")?\Z",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\\'\"abfnrtvxuUN01234567\n")
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}


def list_at(text: str, at: int, tools: Tools, format: str, *, plain: bool = False) -> Reading | None:
    """The calls in a list that begins at `at`. `plain` asks for registered names only. None when it is none."""
    place = skip(text, at + 1)
    calls: list[Written] = []
    while len(calls) < MAX_CALLS:
        reading = call_at(text, place, tools, format)
        if reading is None or (plain and any(call.name not in tools for call in reading.calls)):
            return None
        calls += reading.calls
        if reading.torn:
            return Reading(len(text), tuple(calls), format, True, reading.cut)
        place = skip(text, reading.end)
        if text[place : place + 1] == ",":
            place = skip(text, place + 1)
        elif text[place : place + 1] == "]":
            return Reading(place + 1, tuple(calls), format)
        elif place < len(text):
            return None
        if place >= len(text):
            return Reading(place, tuple(calls), format, torn=True, cut=True)
    return Reading(place, tuple(calls), format, torn=True)


def call_at(text: str, at: int, tools: Tools, format: str) -> Reading | None:
    """The call `name(key=literal, …)` at `at`. Arguments without a name make it unreadable, anything else none."""
    head = _NAME.match(text, at)
    if head is None:
        return None
    name = tools.named(head[0][:-1].strip().removesuffix(".call"))
    if not is_name(name):
        return None
    args: dict[str, Any] = {}
    readable, place = True, head.end()
    while text[skip(text, place) : skip(text, place) + 1] != ")":
        argument = _ARGUMENT.match(text, place)
        if argument is None:
            if not _HALF.match(text, place):
                return None
            return Reading(len(text), (Written(name, None, text[at:]),), format, torn=True, cut=True)
        value = _literal(argument["value"])
        key = argument["key"]
        readable = readable and key is not None and key not in args and value is not _UNREADABLE
        args[key] = value
        place = argument.end()
    end = skip(text, place) + 1
    found: Mapping[str, Any] | None = args if readable else None
    return Reading(end, (Written(name, found, text[at:end]),), format)


_UNREADABLE = object()


def _literal(written: str) -> Any:
    if written in _WORDS:
        return _WORDS[written]
    import ast

    if written[0] not in "rR":
        # An escape that Python does not have is a backslash to Python, but a warning is printed.
        written = _ESCAPE.sub(lambda found: found[0] if found[1] in _ESCAPES else "\\" + found[0], written)
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _UNREADABLE
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if finite and isinstance(value, str | int | float) else _UNREADABLE
