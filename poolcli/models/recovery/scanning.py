"""Finds the marks of all formats in a text, one after the other, and has each read by its reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from poolcli.models.recovery import jsons, marked, named, pythonic, quoting
from poolcli.models.recovery.base import MAX_CALLS, Reading, Tools, Written, skip, tailed

#: Marks that are looked at. Each costs at most a few readings of the text, so the whole time is linear.
MAX_MARKS = 200

#: The calls at a mark that begins and ends at these places; None when it only looks like one.
Reader = Callable[[str, int, int, Tools], Reading | None]


class Hit(Struct, frozen=True):
    """Calls in a text and where their mark begins."""

    start: int
    reading: Reading


class Thought(Struct, frozen=True):
    """A block of reasoning: where it begins, where its inside begins and ends, and where the block ends."""

    head: int
    start: int
    end: int
    behind: int


class Scan(Struct, frozen=True):
    """The calls of a text outside its reasoning, and the last block of reasoning, empty when there is none."""

    hits: tuple[Hit, ...]
    thought: Thought


def scan(text: str, tools: Tools, *, reasoning: bool = False) -> Scan:
    """The calls with marks in a text. All of `reasoning` is reasoning, and marks of such mean nothing in it."""
    hits: list[Hit] = []
    thought = Thought(0, 0, 0, 0)
    fences = quoting.Fences(text, 0)
    at = start = calls = 0
    for _ in range(MAX_MARKS):
        mark = _MARK.search(text, at)
        if mark is None or calls >= MAX_CALLS:
            break
        place, at, kind = mark.start(), mark.end(), str(mark.lastgroup)
        if end := fences.end(place):
            at = max(at, end)
            continue
        if quoting.is_quoted(text, place, start):
            continue
        if kind in ("thought", "over"):
            if reasoning or (kind == "over" and thought.behind):
                continue
            if kind == "over":  # the head of the block was the end of the prompt
                hits, calls = [], 0
                thought = Thought(0, 0, place, at)
            else:
                over = _thought_end(mark[0]).search(text, at)
                inner = over.start() if over else len(text)
                thought = Thought(place, at, inner, over.end() if over else inner)
            start = at = thought.behind
            fences = quoting.Fences(text, start)
            continue
        reading = _READERS[kind](text, place, at, tools)
        if reading is None or _is_spoken_of(text, place, reading, start):
            continue
        hits.append(Hit(place, reading))
        if reading.torn:
            break
        calls += len(reading.calls)
        at = start = reading.end
        fences = quoting.Fences(text, start)
    return Scan(_doubted(hits), thought)


def _doubted(hits: list[Hit]) -> tuple[Hit, ...]:
    """The hits; where marks around plain text do not add up, none of their calls can be trusted.

    The end of the first may have been text of the first, and the second as well.
    """
    last = hits[-1].reading if hits else None
    if last is None or last.cut or not last.torn or last.format not in marked.FORMATS:
        return tuple(hits)
    return tuple(_unread(hit) if hit.reading.format == last.format else hit for hit in hits)


def _unread(hit: Hit) -> Hit:
    calls = tuple(Written(call.name, None, call.raw) for call in hit.reading.calls)
    return Hit(hit.start, replace(hit.reading, calls=calls))


def _is_spoken_of(text: str, at: int, reading: Reading, start: int) -> bool:
    """Whether a sentence speaks of the format rather than using it."""
    if reading.torn:
        return quoting.is_in_sentence(text, at, start) and not all(call.args for call in reading.calls)
    return quoting.is_mentioned(text, at, reading.end, start)


def _json(format: str, end: str) -> Reader:
    closing = re.compile(end)

    def read(text: str, at: int, over: int, tools: Tools) -> Reading | None:
        return jsons.calls_at(text, over, tools, format, closing)

    return read


_HERMES, _LLAMA = (
    _json("hermes", "</tool_call>|(?=<tool_call>)"),
    _json("llama3", r"<\|eom_id\|>|<\|eot_id\|>"),
)
_GRANITE = _json(
    "granite",
    r"</function_call>|</tool_call>|</tool_calls>|</TOOLCALL>|(?=<function_call>|<\|tool_call\|>)",
)
#: The end of a list in Python between marks.
_LIST_END = re.compile(r"\s*+(?:<\|tool_call_end\|>|</tool_call>)")


def _tool_call(text: str, at: int, over: int, tools: Tools) -> Reading | None:
    """What stands between <tool_call> and its end: the formats of five families."""
    place = skip(text, over)
    if place >= len(text):
        return _nothing_yet(text, "hermes")
    match text[place]:
        case "{":
            return _HERMES(text, at, over, tools)
        case "[":
            return _list(text, at, place, tools) or _GRANITE(text, at, over, tools)
        case "<":
            for style in (marked.QWEN, marked.INVOKE):
                if reading := marked.calls_at(text, place, tools, style):
                    return reading
            return _nothing_yet(text, "qwen3-coder") if marked.is_half(text, place) else None
    if reading := marked.calls_at(text, at, tools, marked.GLM):
        return reading
    return _python(text, place, tools, "hermes")


def _nothing_yet(text: str, format: str) -> Reading:
    """A mark, and then the end of the text."""
    return Reading(len(text), (), format, torn=True, cut=True)


def _python(text: str, at: int, tools: Tools, format: str) -> Reading | None:
    """One call that is written as Python."""
    return _ended(text, pythonic.call_at(text, at, tools, format))


def _list(text: str, at: int, over: int, tools: Tools) -> Reading | None:
    """A list of calls in Python, as LFM2 writes it."""
    place = skip(text, over)
    if place >= len(text):
        return _nothing_yet(text, "pythonic")
    return _ended(text, pythonic.list_at(text, place, tools, "pythonic")) if text[place] == "[" else None


def _ended(text: str, reading: Reading | None) -> Reading | None:
    if reading is None or reading.torn:
        return reading
    end = _LIST_END.match(text, reading.end)
    return Reading(tailed(text, end.end() if end else reading.end), reading.calls, reading.format)


def _llama(text: str, at: int, over: int, tools: Tools) -> Reading | None:
    """Llama 3 behind its mark: objects, or a call in Python."""
    return _LLAMA(text, at, over, tools) or _python(text, skip(text, over), tools, "llama3")


def _around(style: marked.Style) -> Reader:
    def read(text: str, at: int, over: int, tools: Tools) -> Reading | None:
        place = skip(text, over)
        if place >= len(text) or marked.is_half(text, place):
            return _nothing_yet(text, style.format)
        return marked.calls_at(text, place, tools, style)

    return read


def _bare(style: marked.Style) -> Reader:
    return lambda text, at, over, tools: marked.calls_at(text, at, tools, style)


#: The marks with their readers; the first that fits is taken.
_FORMATS: tuple[tuple[str, Reader], ...] = (
    ("<tool_call>", _tool_call),
    (r"<\|tool_call\|>|<function_call>|<tool_calls>|<TOOLCALL>", _GRANITE),
    (r"<\|python_tag\|>", _llama),
    (r"<\|START_ACTION\|>", _json("command-r", r"<\|END_ACTION\|>")),
    (r"<\|tool_call_start\|>", _list),
    ("<function=", _bare(marked.QWEN)),
    ("<minimax:tool_call>|<function_calls>", _around(marked.INVOKE)),
    ("<[|｜]DSML[|｜](?:function_calls|tool_calls)>", _around(marked.DSML)),
    ("<[|｜]DSML[|｜]invoke name=", _bare(marked.DSML)),
    (f"{named.SECTION}|{named.CALL}", lambda text, at, over, tools: named.section_at(text, at, tools)),
    (named.MISTRAL, lambda text, at, over, tools: named.mistral_at(text, at, tools)),
    (named.HARMONY, lambda text, at, over, tools: named.harmony_at(text, at, tools)),
)
_READERS = {f"format{number}": reader for number, (_, reader) in enumerate(_FORMATS)}

#: What begins and ends reasoning within a text.
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<seed:think>": "</seed:think>",
    "[THINK]": r"\[/THINK\]",
    "<|START_THINKING|>": r"<\|END_THINKING\|>",
    # gpt-oss has ends for messages, not for reasoning; they mean nothing without this head.
    "<|channel|>analysis<|message|>": r"<\|(?:end|return|call)\|>|(?=<\|start\|>)",
}
_OVER = "|".join(end for head, end in _THOUGHTS.items() if "channel" not in head)
_MARK = re.compile(
    f"(?P<thought>{'|'.join(map(re.escape, _THOUGHTS))})|(?P<over>{_OVER})|"
    + "|".join(f"(?P<format{number}>{mark})" for number, (mark, _) in enumerate(_FORMATS))
)


def replies(text: str) -> Iterator[int]:
    """Where the reply may begin: with the text, or behind reasoning, the first that ends or the last."""
    yield 0
    first = last = None
    for last in _ENDS.finditer(text):
        first = first or last
    if first and last:
        yield first.end()
        yield last.end()


_ENDS = re.compile(_OVER)


def _thought_end(head: str) -> re.Pattern[str]:
    return re.compile(_THOUGHTS[head])
