"""Calls that are JSON objects, and arguments that are one: Hermes, Llama 3, Granite, Mistral, Command-R."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from poolcli.models.arguments import decoded, mend, parse_arguments, restored
from poolcli.models.recovery.base import MAX_CALLS, MAX_NAME, Reading, Tools, Written, is_name, skip, tailed

#: Where formats put the name and the arguments, and what else an object of a call holds.
NAMES = ("name", "tool_name", "tool", "function")
ARGUMENTS = ("arguments", "parameters", "args", "input")
BESIDE = frozenset(("type", "id", "index", "tool_call_id", "call_id"))

#: The name in an object that is no JSON, near its beginning.
_NAMED = re.compile(r"""["']?\b(?:name|tool_name|tool|function)["']?\s*:\s*["']([\w.:/-]{1,200})["']""")
_ARGUED = re.compile(r"""["']?\b(?:arguments|parameters|args|input)\b""")
#: Characters in which that name must come.
_HEAD = 400
#: What begins an object rather than an expression in braces.
_OBJECT = re.compile(r"""\{\s*+(?:["'}]|\Z|\w++["']?\s*:)""")
#: A name and arguments torn apart by a bracket that came too early: `{"name": "f"}, "arguments": …`.
_APART = re.compile(r"""\s*+,\s*+["']""")
#: Whole strings, brackets, and a quotation mark that begins no whole string.
_PIECES = re.compile(r'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
#: An ending mark that the end of the text cut off.
_HALF_END = re.compile(r"<[^<>\n\"']*+\Z")
#: Characters of the longest.
_MARK = 40
_BETWEEN = re.compile(r"[\s,;]*+")


def calls_at(
    text: str, at: int, tools: Tools, format: str, end: re.Pattern[str], *, plain: bool = False
) -> Reading | None:
    """The calls in the objects, or the list of objects, that begin at `at`. None when there are none.

    `end` is what ends them in this format. `plain` asks for what makes an object a call even without a mark:
    a registered name, arguments, and nothing else.
    """
    at = skip(text, at)
    listed = text[at : at + 1] == "["
    place = skip(text, at + 1) if listed else at
    calls: list[Written] = []
    while text[place : place + 1] == "{" and len(calls) < MAX_CALLS:
        found = decoded(text, place)
        if found is None:
            reading = _broken(text, place, tools, format, end, calls, listed=listed, plain=plain)
            if reading is None and calls and not (listed or plain):
                break  # braces in what is said behind the calls
            return reading
        value, at = found
        new = _calls(value, tools, text[place:at], plain=plain)
        if new is None:
            return None
        calls += new
        if not listed and _APART.match(text, at):
            return _torn(text, [*calls[:-1], Written(calls[-1].name, None, text[place:])], format)
        place = _next(text, at)
    if not calls:
        # A mark and nothing more: the calls were still to come.
        return _torn(text, [], format, cut=True) if place >= len(text) and not plain else None
    if listed:
        if text[place : place + 1] != "]":
            return _torn(text, calls, format, cut=place >= len(text))
        at = place + 1
    return Reading(ended(text, at, end), tuple(calls[:MAX_CALLS]), format)


def _torn(text: str, calls: list[Written], format: str, *, cut: bool = False) -> Reading:
    return Reading(len(text), tuple(calls), format, torn=True, cut=cut)


def _next(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def ended(text: str, at: int, end: re.Pattern[str]) -> int:
    """The place behind the end of a call, where it stands here; brackets too many are passed over."""
    place = at
    while text[place : place + 1] in ("}", "]", " ", "\n", "\r", "\t") and place < len(text):
        place += 1
    match = end.match(text, place)
    return tailed(text, match.end() if match else at)


def _broken(
    text: str,
    at: int,
    tools: Tools,
    format: str,
    end: re.Pattern[str],
    calls: list[Written],
    *,
    listed: bool,
    plain: bool,
) -> Reading | None:
    """Calls in what should be JSON: mended, or named without their arguments."""
    match = end.search(text, at)
    over = match.start() if match else len(text)
    body = text[at:over] if match else text[at : len(text) - _half_end(text)]
    # Without an end, the call's own bracket may be missing, and the list's; those of the arguments must be there.
    spare = None if match else 2 if listed else 1
    value = restored("[" + body if listed else body, spare=spare)
    new = None if value is None else _calls(value, tools, body, plain=plain)
    if new is not None:
        over = ended(text, match.end() if match else over, end)
        return Reading(over, (*calls, *new)[:MAX_CALLS], format)
    cut = match is None and _is_open(body)
    named = _NAMED.search(body, 0, _HEAD)
    if named is None:
        if plain or not _OBJECT.match(body):
            return None
        return _torn(text, calls, format, cut=cut)
    name = tools.named(named[1])
    if plain and (name not in tools or not _ARGUED.search(body, 0, _HEAD)):
        return None
    return _torn(text, [*calls, Written(name, None, text[at:])], format, cut=cut)


def _half_end(text: str) -> int:
    """How many characters of an ending mark the text ends with."""
    match = _HALF_END.search(text[-_MARK:])
    return len(match[0]) if match else 0


def _is_open(text: str) -> bool:
    """Whether the text ends within a string or a bracket, as JSON has them."""
    depth = 0
    for piece in _PIECES.finditer(text):
        if piece[0] == '"':
            return True
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(piece[0], 0)
    return depth > 0


def _calls(value: Any, tools: Tools, raw: str, *, plain: bool) -> list[Written] | None:
    """The calls that a JSON value is; None when it is not one, or more than calls."""
    if isinstance(value, Mapping) and isinstance(several := value.get("tool_calls"), list):
        value = several
    if isinstance(value, list):
        calls = [_call(one, tools, raw, plain=plain) for one in value[: MAX_CALLS + 1]]
        return [call for call in calls if call] if calls and None not in calls else None
    call = _call(value, tools, raw, plain=plain)
    return [call] if call else None


def _call(value: Any, tools: Tools, raw: str, *, plain: bool) -> Written | None:
    if isinstance(value, Mapping) and isinstance(inner := value.get("function"), Mapping):
        value = inner  # as chat completions have it
    if not isinstance(value, Mapping):
        return None
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), "")
    if not is_name(name.strip()) or len(name) > MAX_NAME:
        return None
    name = tools.named(name)
    given = [key for key in ARGUMENTS if key in value]
    others = value.keys() - BESIDE - set(NAMES) - set(given)
    if plain and (name not in tools or len(given) != 1 or others):
        return None
    if len(given) > 1 or (others and not given):
        return Written(name, None, raw)
    return Written(name, _arguments(value[given[0]], tools, name) if given else {}, raw)


def _arguments(value: Any, tools: Tools, name: str) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        args = parse_arguments(value)
        return mend(value, tools.schema(name)) if args is None else args
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def arguments_at(
    text: str, at: int, tools: Tools, name: str, format: str, end: re.Pattern[str]
) -> Reading | None:
    """The call of `name` whose arguments, a JSON object, begin at `at`. None when none begin there."""
    start, at = at, skip(text, at)
    if at >= len(text):
        return _torn(text, [Written(name, None, text[start:])], format, cut=True)
    found = decoded(text, at) if text[at] in '{"' else None
    if found:
        value, over = found
        if _APART.match(text, over):
            return _torn(text, [Written(name, None, text[at:])], format)
        args = _arguments(value, tools, name)
        return Reading(ended(text, over, end), (Written(name, args, text[at:over]),), format)
    if text[at] != "{":
        return None
    match = end.search(text, at)
    over = match.start() if match else len(text)
    args = mend(text[at:over], tools.schema(name), cut=match is None)
    if args is None:
        return _torn(text, [Written(name, None, text[at:])], format, cut=match is None)
    over = ended(text, match.end() if match else over, end)
    return Reading(over, (Written(name, args, text[at:over]),), format)
