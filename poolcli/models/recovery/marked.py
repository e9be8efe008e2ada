"""Calls whose arguments stand between marks as plain text: Qwen3-Coder, MiniMax, DeepSeek from V3.2 on, GLM.

Nothing is escaped in such formats, and an argument may itself hold a call: a page of documentation, a test, this
very file. So an argument ends at a closing mark only when all marks that opened within it are closed before, and
when what follows can follow. Marks that do not add up make the call unreadable: an argument that ended too early
would be half a file. The call itself counts only when its own end is there, because more arguments may have been
to come.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from poolcli.models.recovery import jsons
from poolcli.models.recovery.base import MAX_CALLS, Reading, Tools, Written, is_name, skip, tailed

#: Marks within one argument. More are no text that somebody wants to write.
MAX_EDGES = 2000


class Style(Struct, frozen=True):
    """One such format: what opens and closes a call and an argument."""

    format: str
    #: The head of a call, with its name.
    call: re.Pattern[str]
    call_end: re.Pattern[str]
    #: The head of an argument: its name and perhaps whether it is a string.
    key: re.Pattern[str]
    #: What an argument ends at, or not: its head (`open`) and its end.
    edge: re.Pattern[str]
    #: What may follow the end of an argument.
    follows: re.Pattern[str]
    #: Behind a call, anything but the head of another says that the call was not over.
    stray: re.Pattern[str]
    #: The end of what stands around calls.
    outer: re.Pattern[str]
    #: A head that the end of the text cut off.
    half: re.Pattern[str]
    #: Whether an argument stands on lines of its own, so that one line break on each side is not its own.
    lines: bool = False


def _style(
    format: str,
    call: str,
    call_end: str,
    key: str,
    key_open: str,
    key_end: str,
    outer: str,
    call_open: str,
    *,
    lines: bool = False,
) -> Style:
    # A head counts with what a call goes on with, or where the text ends.
    head = rf"(?:{call})\s*+(?:{key_open}|{call_end}|{outer}|\{{|</?+[^<>]*+\Z|\Z)"
    half = rf"(?:{call_open})\s*+[^<>\s]*+\s*+\Z"
    return Style(
        format,
        re.compile(call),
        re.compile(call_end),
        re.compile(key),
        re.compile(f"(?P<open>{key_open})|{key_end}"),
        re.compile(rf"\s*+(?:{key_open}|{call_end}|{outer}|\Z)"),
        re.compile(f"(?P<open>{head}|{half})|{call_open}|{key_open}|{key_end}|{call_end}"),
        re.compile(outer),
        re.compile(half),
        lines,
    )


QWEN = _style(
    "qwen3-coder",
    r"<function=([^<>\n]{1,200})>",
    "</function>",
    r"<parameter=([^<>\n]{1,200})>",
    "<parameter=",
    "</parameter>",
    "</tool_call>",
    "<function=",
    lines=True,
)
INVOKE = _style(
    "minimax",
    r"""<invoke name=["']?([^"'<>\n]{1,200})["']?\s*>""",
    "</invoke>",
    r"""<parameter name=["']?([^"'<>\n]{1,200})["']?[^<>\n]{0,100}>""",
    "<parameter name=",
    "</parameter>",
    "</(?:minimax:tool_call|function_calls|tool_call)>",
    "<invoke name=",
)
DSML = _style(
    "deepseek",
    r"""<[|｜]DSML[|｜]invoke name=["']?([^"'<>\n]{1,200})["']?\s*>""",
    "</[|｜]DSML[|｜]invoke>",
    r"""<[|｜]DSML[|｜]parameter name=["']?([^"'<>\n]{1,200})["']?(?: string="(true|false)")?[^<>\n]{0,100}>""",
    "<[|｜]DSML[|｜]parameter name=",
    "</[|｜]DSML[|｜]parameter>",
    "</[|｜]DSML[|｜](?:function_calls|tool_calls)>",
    "<[|｜]DSML[|｜]invoke name=",
)
GLM = _style(
    "glm",
    r"<tool_call>\s*+([\w.:/-]{1,200}+)\s*+(?=<|\Z)",
    "</tool_call>",
    r"<arg_key>([^<>\n]{1,200}+)</arg_key>\s*+<arg_value>",
    "<arg_key>",
    "</arg_value>",
    "</tool_call>",
    "<tool_call>",
)
#: The formats that are read here.
FORMATS = frozenset(style.format for style in (QWEN, INVOKE, DSML, GLM))


def calls_at(text: str, at: int, tools: Tools, style: Style) -> Reading | None:
    """The calls from `at` on, one directly after the other, and the end of what stands around them."""
    calls: list[Written] = []
    while len(calls) < MAX_CALLS:
        reading = call_at(text, at, tools, style)
        if reading is None:
            break
        calls += reading.calls
        if reading.torn:
            return Reading(reading.end, tuple(calls), style.format, True, reading.cut)
        at = reading.end
        if not style.call.match(text, skip(text, at)):
            break
        at = skip(text, at)
    return Reading(at, tuple(calls), style.format) if calls else None


def call_at(text: str, at: int, tools: Tools, style: Style) -> Reading | None:
    """The one call whose head stands at `at`. None when this is no call."""
    head = style.call.match(text, at)
    if head is None or head.end(1) == len(text):
        half = style.half.match(text, at)
        return Reading(len(text), (), style.format, torn=True, cut=True) if half else None
    name = tools.named(head[1])
    if not is_name(name):
        return None
    args: dict[str, Any] = {}
    place = skip(text, head.end())
    if text[place : place + 1] == "{":  # some models write JSON between these marks
        return jsons.arguments_at(text, place, tools, name, style.format, style.call_end)
    while key := style.key.match(text, place):
        over = _argument(text, key.end(), style)
        if over is None:
            return _torn(text, at, name, style, cut=not style.call_end.search(text, key.end()))
        written = text[key.end() : over[0]]
        if style.lines:
            written = written.removeprefix("\n").removesuffix("\n")
        plain = style is not GLM and not (key.re.groups > 1 and key[2] == "false")
        if key[1].strip() in args:  # twice the same: one of them was text
            return _torn(text, at, name, style, cut=False)
        args[key[1].strip()] = tools.typed(name, key[1].strip(), written, plain=plain)
        place = skip(text, over[1])
    if end := style.call_end.match(text, place) or style.outer.match(text, place):
        behind = style.stray.search(text, end.end())
        if behind and not behind["open"]:
            return _torn(text, at, name, style, cut=False)
        place = end.end()
        if outer := style.outer.match(text, skip(text, place)):
            place = outer.end()
        place = tailed(text, place)
        return Reading(place, (Written(name, args, text[at:place]),), style.format)
    if place >= len(text) or is_half(text, place):
        return _torn(text, at, name, style, cut=True)
    # Without an argument, a head alone is how prose speaks of the format.
    return _torn(text, at, name, style, cut=False) if args else None


def _argument(text: str, at: int, style: Style) -> tuple[int, int] | None:
    """Where the argument that begins at `at` ends, and where its closing mark does."""
    depth = 0
    for number, edge in enumerate(style.edge.finditer(text, at)):
        if number >= MAX_EDGES:
            break
        if edge["open"]:
            depth += 1
        elif depth:
            depth -= 1
        elif style.follows.match(text, edge.end()):
            return edge.start(), edge.end()
    return None


def _torn(text: str, at: int, name: str, style: Style, *, cut: bool) -> Reading:
    return Reading(len(text), (Written(name, None, text[at:]),), style.format, torn=True, cut=cut)


def is_half(text: str, at: int) -> bool:
    """Whether the text ends within a mark that begins here."""
    return bool(_HALF.match(text, at))


# GLM's argument has its name between marks, which may both be there already.
_HALF = re.compile(r"(?=<)(?:<arg_key>[^<>\n]{0,200}+(?:</arg_key>\s*+)?+)?+(?:</?+[^<>\n]{0,250}+)?+\Z")
