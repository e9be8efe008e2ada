"""Calls that are a name and then JSON: DeepSeek up to V3.1, Kimi K2, Mistral, gpt-oss."""

from __future__ import annotations

import re

from poolcli.models.recovery import jsons
from poolcli.models.recovery.base import MAX_CALLS, Reading, Tools, Written, is_name, skip, tailed

# The bars and spaces of DeepSeek's marks are characters of their own; some servers and models write plain ones.
SECTION = r"<[|｜]tool[_▁](?:calls|calls?[_▁]section)[_▁]begin[|｜]>"
CALL = r"<[|｜]tool[_▁]call[_▁]begin[|｜]>"

_SECTION, _CALL = re.compile(SECTION), re.compile(CALL)
_SECTION_END = re.compile(r"<[|｜]tool[_▁](?:calls|calls?[_▁]section)[_▁]end[|｜]>")
_CALL_END = re.compile(
    r"(?:```\s{0,9}+)?+(?:<[|｜]tool[_▁]call[_▁]end[|｜]>"
    r"|(?=<[|｜]tool[_▁](?:calls|calls?[_▁]section)[_▁]end[|｜]>))"
)
_ARGUMENTS = re.compile(
    r"<[|｜]tool[_▁](?:(?P<deepseek>sep)|call[_▁]argument[_▁]begin|arguments[_▁]begin)[|｜]>"
)
#: DeepSeek V3 writes the word "function", then the name on a line, then a fence.
_FENCED = re.compile(r"\s*+([\w.:/-]{1,200}+)[ \t]*+\n\s*+(?:```(?:json)?[ \t]*+\n)?+")
#: What the end of the text leaves of the head of a call.
_HALF = re.compile(r"\s*+[\w.:/-]*+\s*+(?:<[^<>]*+|`{1,3}+\w*+\s*+)?+\Z")
#: Kimi numbers its calls: functions.read:0.
_NUMBER = re.compile(r":\d{1,9}\Z")
#: Characters in which the head of a call must be over.
_HEAD = 300


def section_at(text: str, at: int, tools: Tools) -> Reading | None:
    """The calls of DeepSeek or Kimi, in their section or without one. None when there are none."""
    section = _SECTION.match(text, at)
    at = skip(text, section.end()) if section else at
    if section and at >= len(text):
        return Reading(at, (), "kimi" if "|" in section[0] else "deepseek", torn=True, cut=True)
    calls: list[Written] = []
    format = ""
    while (head := _CALL.match(text, at)) and len(calls) < MAX_CALLS:
        reading = _item(text, head.end(), tools)
        if reading is None:
            return Reading(len(text), tuple(calls), format, torn=True) if calls else None
        calls += reading.calls
        format = format or reading.format
        if reading.torn:
            return Reading(reading.end, tuple(calls), format, True, reading.cut)
        at = reading.end
        if _CALL.match(text, place := skip(text, at)):
            at = place
    if not calls:
        return None
    if section and (end := _SECTION_END.match(text, skip(text, at))):
        at = tailed(text, end.end())
    return Reading(at, tuple(calls), format)


def _item(text: str, at: int, tools: Tools) -> Reading | None:
    mark = _ARGUMENTS.search(text, at, at + _HEAD)
    if mark is None:
        return _half(text, at, "")
    name, place = text[at : mark.start()].strip(), mark.end()
    format = "deepseek" if mark["deepseek"] else "kimi"
    if name == "function" and mark["deepseek"]:
        fenced = _FENCED.match(text, place)
        if fenced is None:
            return _half(text, place, format)
        name, place = fenced[1], fenced.end()
    name = tools.named(_NUMBER.sub("", name))
    if not is_name(name):
        return None
    reading = jsons.arguments_at(text, place, tools, name, format, _CALL_END)
    return _half(text, place, format) if reading is None else reading


def _half(text: str, at: int, format: str) -> Reading | None:
    """A call whose head was cut off: not even its name is certain."""
    cut = len(text) - at < _HEAD and _HALF.match(text, at)
    return Reading(len(text), (), format, torn=True, cut=True) if cut else None


MISTRAL = r"\[TOOL_CALLS\]"
_BOT = re.compile(MISTRAL)
_BOT_NAME = re.compile(
    r"\s*+([A-Za-z_][\w.:/-]{0,199}+)(?:\[CALL_ID\]\w{1,64}+)?+(?:\s*+\[ARGS\])?+\s*+(?=(\{)|\Z|\[)"
)
_BOT_HALF = re.compile(r"(?:\[[A-Z_]*+\]?+\w*+)*+\s*+\Z")
_BOT_END = re.compile(r"</s>|(?=\[TOOL_CALLS\])")


def mistral_at(text: str, at: int, tools: Tools) -> Reading | None:
    """Mistral's calls: a list of objects, or (later) a name, perhaps an id, and arguments."""
    mark = _BOT.match(text, at)
    if mark is None:
        return None
    at = skip(text, mark.end())
    if at >= len(text) or text[at] in "[{":
        return jsons.calls_at(text, at, tools, "mistral", _BOT_END)
    head = _BOT_NAME.match(text, at)
    if head is None:
        return None
    if head[2]:
        return jsons.arguments_at(text, head.end(), tools, tools.named(head[1]), "mistral", _BOT_END)
    if len(text) - head.end(1) > _HEAD or not _BOT_HALF.match(text, head.end(1)):
        return None  # a word behind the mark, and no arguments
    rest = text[head.end(1) :]
    calls = (Written(tools.named(head[1]), None, rest),) if rest else ()
    return Reading(len(text), calls, "mistral", torn=True, cut=True)


#: What may begin a message of gpt-oss. What the prompt ended with (<|start|>assistant) is not in the reply.
HARMONY = r"<\|start\|>assistant|<\|channel\|>|\bto=functions\.[\w.-]{1,200}+ ?<\|channel\|>"
_HEADER = re.compile(
    r"(?:<\|start\|>assistant)?+(?P<role>[^<\n]{0,250}+)(?P<channel>(?:<\|channel\|>[^<\n]{0,250}+){0,2}+)"
    r"(?:<\|constrain\|>[^<\n]{0,50}+)?+<\|message\|>"
)
_RECIPIENT = re.compile(r"\bto=([\w.:/-]{1,200}+)")
_MESSAGE_END = re.compile(r"<\|(?:call|end|return)\|>|(?=<\|start\|>)")
#: Reasoning, which later turns do not see, and what is left of the marks when the calls are gone.
_ANALYSIS = re.compile(
    r"<\|channel\|>analysis<\|message\|>[^<]*+(?:<(?!\|(?:end|return|call|start)\|>)[^<]*+)*+"
)
_MARKS = re.compile(
    r"<\|start\|>assistant|<\|channel\|>\w*+(?: ?<\|constrain\|>\w*+)?+(?:<\|message\|>)?|<\|message\|>"
    r"|<\|(?:end|return|call)\|>"
)


def harmony_at(text: str, at: int, tools: Tools) -> Reading | None:
    """The call that is the message at `at`: one to a function. None for any other message."""
    header = _HEADER.match(text, at)
    if header is None:
        rest = text[at : at + 2 * _HEAD]
        half = len(rest) < 2 * _HEAD and _RECIPIENT.search(rest) and "\n" not in rest
        return Reading(len(text), (), "harmony", torn=True, cut=True) if half else None
    recipient = _RECIPIENT.search(header["role"] + " " + header["channel"])
    if recipient is None or recipient[1] in ("assistant", "user", "all"):
        return None
    return jsons.arguments_at(text, header.end(), tools, tools.named(recipient[1]), "harmony", _MESSAGE_END)


def without_marks(text: str) -> str:
    """What gpt-oss says to the user: no reasoning, no marks."""
    return _MARKS.sub("", _ANALYSIS.sub("", text))
