"""Calls without marks of their own: a reply that is JSON or a list in Python, or that ends with such a block.

When this is a call and when it is prose: see the rule in the package's docstring.
"""

from __future__ import annotations

import re

from poolcli.models.recovery import jsons, pythonic, quoting
from poolcli.models.recovery.base import MAX_CALLS, Reading, Tools, Written, skip, tailed
from poolcli.models.recovery.scanning import scan

#: Words beside a fence that may hold calls in JSON, in Python, and ones with marks of their own.
JSON = frozenset(("", "json", "tool", "tool_call", "tool_calls", "tool_use", "function_call"))
PYTHON = frozenset(("tool_code", "tool", "tool_call"))
MARKED = frozenset(("xml", "text", *JSON, *PYTHON))
#: Blocks in a reply; one with more shows things rather than doing them.
MAX_BLOCKS = 64

_NEVER = re.compile(r"(?!)")
_LIST = re.compile(r"\[\s*+[A-Za-z_][\w.]*+\s*+\(")
#: A closing fence that the end of the text cut off.
_HALF_FENCE = re.compile(r"\n[ \t]*+`{1,2}+\Z")


def whole_at(text: str, at: int, tools: Tools) -> Reading | None:
    """The calls that all of the text from `at` on is. None when there is anything else."""
    at = skip(text, at)
    if _LIST.match(text, at):
        reading = pythonic.list_at(text, at, tools, "pythonic", plain=True)
    elif text[at : at + 1] in ("{", "["):
        reading = jsons.calls_at(text, at, tools, "json", _NEVER, plain=True)
    else:
        return None
    return reading if reading and not text[tailed(text, reading.end) :].strip() else None


def blocks_at_end(text: str, at: int, tools: Tools) -> tuple[int, Reading] | None:
    """The calls in the fenced blocks that the text from `at` on ends with, and where the first block begins.

    None when anything but white space follows, when an example is announced, or when more such blocks come
    before: then it is a plan in steps, or a page about calls.
    """
    blocks: list[quoting.Fence] = []
    while block := quoting.fence(text, blocks[-1].end if blocks else at, len(text)):
        blocks.append(block)
        if len(blocks) > MAX_BLOCKS:
            return None
    if not blocks:
        return None
    readings = [(block, _inside(text, block, tools)) for block in blocks]
    edge = tailed(text, blocks[-1].end)
    edge = len(text) if text[edge:].strip() else edge
    run: list[Reading] = []
    while readings and (last := readings[-1])[1] and not text[last[0].end : edge].strip():
        run.append(last[1])
        edge = last[0].start
        readings.pop()
    if not run or any(reading for _, reading in readings) or quoting.is_example(text, edge):
        return None
    calls = [call for reading in reversed(run) for call in reading.calls]
    return edge, Reading(len(text), tuple(calls[:MAX_CALLS]), run[-1].format, run[0].torn, run[0].cut)


def _inside(text: str, block: quoting.Fence, tools: Tools) -> Reading | None:
    """The calls that all of a block is."""
    if block.info not in MARKED:
        return None
    body = text[block.inner : block.inner_end]
    if not block.closed:
        body = _HALF_FENCE.sub("", body)
    if hits := scan(body, tools).hits:
        readings = [hit.reading for hit in hits]
        edges = [0, *(place for hit in hits for place in (hit.start, hit.reading.end)), len(body)]
        if any(body[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)):
            return None
        calls = tuple(call for reading in readings for call in reading.calls)
        return Reading(len(body), calls, readings[0].format, readings[-1].torn, readings[-1].cut)
    reading = whole_at(body, 0, tools) if block.info in JSON else None
    if reading is None and block.info in PYTHON:
        reading = _lines(body, tools)
    return Reading(reading.end, reading.calls, "fenced", reading.torn, reading.cut) if reading else None


def _lines(body: str, tools: Tools) -> Reading | None:
    """The calls that stand one after the other, as Gemma writes them."""
    if _LIST.match(body, skip(body, 0)):
        return pythonic.list_at(body, skip(body, 0), tools, "fenced", plain=True)
    calls: list[Written] = []
    place = skip(body, 0)
    while place < len(body) and len(calls) < MAX_CALLS:
        reading = pythonic.call_at(body, place, tools, "fenced")
        if reading is None or any(call.name not in tools for call in reading.calls):
            return None
        calls += reading.calls
        if reading.torn:
            return Reading(len(body), tuple(calls), "fenced", True, reading.cut)
        place = skip(body, reading.end)
    return Reading(place, tuple(calls), "fenced") if calls else None
