"""The arguments of calls: read as JSON, and mended where a model wrote something that is nearly JSON.

A wrong mend is worse than none: half a file would be written, another command run. A mended object therefore
says what the model wrote and nothing else:

1. We read every word ourselves: strings in double or single quotes, numbers, true, false, null and how Python
   writes them, names without quotes as keys. A string counts only when its closing quote is there and what
   follows is a colon, a comma, a bracket or the end. So a quote that somebody forgot to escape, or to write, is
   never guessed at. An escape that JSON does not have is not guessed at either: `\\d` beside a `\\b` may be two
   regular expressions or one and a backspace.
2. The library puts the structure right (commas, brackets) and sees only the numbers of the words, so it cannot
   change one. It must give every word back once, in order.
3. What is missing at the end may be brackets, and only after a value whose end was there: a string closed, an
   object closed. After a number or a name, more of it might have been to come.
4. The result is an object of scalars, its keys are parameters of the tool, its values fit their types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from msgspec import Struct

#: Characters that are worth mending: a file of 5,000 lines, a fifth of a second of work.
MAX_MEND = 200_000
#: Words (keys and values) and brackets within brackets. Calls have a handful; the library's time grows with both.
MAX_WORDS = 2000
MAX_DEPTH = 8

#: One piece of almost-JSON. Possessive, so that no text is read twice.
_PIECE = re.compile(
    r"""\s*+(?:
      (?P<double>"(?:[^"\\]++|\\.)*+")
    | (?P<single>'(?:[^'\\]++|\\.)*+')
    | (?P<mark>[{}\[\],:])
    | (?P<number>-?+\d++(?:\.\d++)?+(?:[eE][+-]?+\d++)?+)(?![\w.])
    | (?P<name>[A-Za-z_][\w-]*+)
    )""",
    re.DOTALL | re.VERBOSE,
)
_FENCE = re.compile(r"\A\s*+```[\w-]*+[ \t]*+\n(.*)\n[ \t]*+```\s*+\Z", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)|\"", re.DOTALL)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_CLOSING = {"{": "}", "[": "]"}


def parse_arguments(raw: str) -> dict[str, Any] | None:
    """A call's arguments; None when they are not a JSON object that can be sent back."""
    if not raw.strip():
        return {}  # how many servers write "no arguments"
    try:
        value = json.loads(raw, parse_constant=_refuse)
        if isinstance(value, str):
            value = json.loads(value, parse_constant=_refuse)  # some servers encode twice
        if value is None:
            return {}
        json.dumps(value, allow_nan=False)  # 1e999 reads as infinity
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def decoded(text: str, at: int) -> tuple[Any, int] | None:
    """The JSON value that begins exactly at `at`, and where it ends; None when none does.

    Line breaks may stand in strings as they are. The time is that of reading the text from its beginning.
    """
    try:
        value, end = _DECODER.raw_decode(text, at)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value, end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse, strict=False)


def mend(raw: str, schema: Mapping[str, Any] | None, *, cut: bool = False) -> dict[str, Any] | None:
    """The object that broken arguments say, by the rules above; None when that is not certain.

    `schema` is the tool's function schema as servers are sent it, None for a tool that is not known. `cut` says
    that the reply ended early, so that more than a bracket may be missing.
    """
    text = raw.strip()
    if (outer := decoded(text, 0)) and isinstance(outer[0], str) and outer[1] == len(text):
        text = outer[0]  # encoded twice; the inner one is broken
    value = restored(text, spare=0 if cut else None)
    if not isinstance(value, dict):
        return None
    specs = None if schema is None else parameters(schema)
    return value if all(_fits(key, one, specs) for key, one in value.items()) else None


def restored(text: str, *, spare: int | None = None) -> Any:
    """The value behind almost-JSON of any shape, None when that is not certain.

    `spare` is how many closing brackets may be missing; None for any number, which is right only when something
    other than the end of the reply says that the value ends here.
    """
    if len(text) > MAX_MEND:
        return None
    if fenced := _FENCE.match(text):
        text = fenced[1]
    read = _read(text)
    if read is None or (spare is not None and read.missing > spare):
        return None
    if read.missing and not (read.bracket if spare is not None else read.bracket or read.string):
        return None
    from json_repair import loads

    try:
        rough = loads(read.skeleton)
        if list(_leaves(rough)) != list(range(len(read.words))):
            return None
        return _filled(rough, read.words)
    except (ValueError, RecursionError):
        return None


class _Read(Struct, frozen=True):
    """The words of a text, and its structure with the words' numbers in their places."""

    words: list[Any]
    skeleton: str
    #: Closing brackets that are missing; whether the text ends with a bracket, with a value that is a string.
    missing: int
    bracket: bool
    string: bool


def _read(text: str) -> _Read | None:
    """None when a piece cannot be read with certainty, or stands where none can."""
    words: list[Any] = []
    skeleton: list[str] = []
    open: list[str] = []  # the closing brackets that are due
    wanted, last = "value", ""  # what comes next, and what came last
    at, end = 0, len(text.rstrip())
    while at < end:
        piece = _PIECE.match(text, at)
        if piece is None:
            return None
        kind, at = str(piece.lastgroup), piece.end()
        written = piece[kind]
        if not open and last:
            # The value is over. A bracket too many is harmless; anything else is a second value.
            if written in ("}", "]"):
                continue
            return None
        if kind != "mark":
            value = _word(kind, written, wanted)
            if value is _NO_WORD or len(words) >= MAX_WORDS or not open:
                return None
            skeleton.append(f'"{len(words)}"')
            words.append(value)
            last = "string" if kind in ("double", "single") and wanted == "value" else kind
            wanted = "colon" if wanted == "key" else "comma"
            continue
        if written in _CLOSING:
            if wanted != "value" or len(open) >= MAX_DEPTH:
                return None
            open.append(_CLOSING[written])
            wanted = "key" if written == "{" else "value"
        elif written == ":":
            if wanted != "colon":
                return None
            wanted = "value"
        elif written == ",":
            if wanted != "comma":
                return None
            wanted = "key" if open[-1] == "}" else "value"
        else:
            if not open or wanted == "colon" or last == ":" or open.pop() != written:
                return None
            wanted = "comma"
        skeleton.append(written)
        last = written
    return _Read(words, "".join(skeleton), len(open), last in ("}", "]"), last == "string")


#: Stands for "this is no word that can be read"; None is one.
_NO_WORD = object()


def _word(kind: str, written: str, wanted: str) -> Any:
    """The value of a word where a key or a value is wanted."""
    match kind:
        case "double" | "single" if wanted in ("key", "value"):
            body = written if kind == "double" else f'"{written[1:-1]}"'
            inner = _ESCAPE.sub(_escaped, body[1:-1])
            value = decoded(f'"{inner}"', 0)
            return _NO_WORD if value is None else value[0]
        case "number" if wanted == "value":
            value = decoded(written, 0)
            # A zero in front ends a number early in JSON.
            return value[0] if value and value[1] == len(written) else _NO_WORD
        case "name" if wanted == "key":
            return written
        case "name" if wanted == "value":
            return _WORDS.get(written, _NO_WORD)
    return _NO_WORD


def _escaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return '\\"'  # a bare double quote, which only a string in single quotes has
    return "'" if match[1] == "'" else match[0]


def _leaves(value: Any) -> Iterator[int]:
    """The numbers of the words, keys before their values. Raises ValueError for what is no number."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield int(key)
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        yield int(value)


def _filled(value: Any, words: list[Any]) -> Any:
    """The value with the words in place of their numbers. Raises ValueError for a key that comes twice."""
    if isinstance(value, dict):
        filled = {words[int(key)]: _filled(one, words) for key, one in value.items()}
        if len(filled) != len(value):
            raise ValueError("a key comes twice")
        return filled
    if isinstance(value, list):
        return [_filled(one, words) for one in value]
    return words[int(value)]


def parameters(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters in a function schema, by name; none for one that is not as it should be."""
    for step in ("function", "parameters", "properties"):
        found = schema.get(step)
        schema = found if isinstance(found, Mapping) else {}
    return schema


def _fits(key: str, value: object, specs: Mapping[str, Any] | None) -> bool:
    """Whether a value is a scalar and the tool would take it; a null is an optional that was left out."""
    if not isinstance(value, str | int | float | bool | None):
        return False
    if specs is None or value is None:
        return True
    spec = specs.get(key)
    match spec.get("type") if isinstance(spec, Mapping) else "unknown":
        case "unknown":
            return False
        case "boolean":
            return str(value).strip().lower() in ("true", "false")
        case "integer" | "number" if isinstance(value, str):
            return re.fullmatch(r"\s*[+-]?\d{1,40}(\.\d{1,40})?\s*", value) is not None
        case "integer" | "number":
            return not isinstance(value, bool)
    return True
