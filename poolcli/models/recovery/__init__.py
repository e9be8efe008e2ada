"""Finds the tool calls that a model wrote into its text, because nobody parsed them on the way.

The danger is greater on one side. A call that is missed costs a turn: the model is asked again. Prose that is taken
for a call runs a command that nobody asked for. So, when in doubt, it is prose:

**Calls with marks** (`<tool_call>`, `[TOOL_CALLS]`, `<|tool▁calls▁begin|>` and the like, marks that models are
trained to use for nothing else) count anywhere in a text, except where they are quoted: in a fenced block, between
backticks, behind a quotation mark that is open in that line, in a block quote, or in the middle of a sentence that
goes on behind them. A name that is no tool's is a call all the same, so that the model is told. A fenced block that
holds marked calls and nothing else is treated like a call without marks.

**Calls without marks** (JSON, a list in Python) count only for registered tools, with exactly a name and
arguments, and only in two places: as the whole reply, or as the fenced block (```` ```json ````, ```` ``` ````,
```` ```tool_call ````, never one of another language) that is the last thing of it. Not when the line before
announces an example, nor when the reply shows another such block before, with prose between them: that is a plan
or an explanation, and running its last step alone is wrong in either case.

**Reasoning** (`<think>` in the text, or what the server reported apart) counts only when the reply outside of it
holds no call, not even one that was cut off, and only for calls with marks with which the reasoning ends. What a
model goes on thinking about, it may have thought better of.

**What cannot be read** is never completed. A call whose arguments are not all there has no arguments (`args` is
None), and nothing behind a call with an uncertain end is taken for a call: it may be part of the file that the call
wanted to write. Broken JSON is mended by the rules of `poolcli.models.arguments`.

The time is linear in the length of the text: a bounded number of marks is looked at, each costs a bounded number of
readings, and no regular expression goes back over text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poolcli.models.recovery.base import Found, Reading, Tools, Written
from poolcli.models.recovery.named import without_marks
from poolcli.models.recovery.plain import blocks_at_end, whole_at
from poolcli.models.recovery.scanning import Hit, Scan, replies, scan

__all__ = ["Found", "Written", "recover"]


def recover(text: str, tools: Sequence[Mapping[str, Any]], *, think: str = "") -> Found:
    """The calls in a reply's text, else those in its reasoning. Without any, `Found.text` is the text as it was.

    `tools` are function schemas as servers are sent them, `think` is what the server reported as reasoning. Never
    raises.
    """
    known = Tools(tools)
    seen: Scan | None = None
    # First, because the arguments of a call without marks may hold marks.
    for start in replies(text):
        if start and seen is None:
            seen = scan(text, known)
        # What looks like the end of reasoning may stand in the arguments of a call.
        if seen is not None and any(hit.start < start <= hit.reading.end for hit in seen.hits):
            continue
        if reading := whole_at(text, start, known):
            return _found(text, (Hit(start, reading),), 0)
    seen = seen or scan(text, known)
    if seen.hits:
        return _found(text, seen.hits, 0)
    thought = seen.thought
    if block := blocks_at_end(text, thought.behind, known):
        return _found(text, (Hit(*block),), 0)
    if inner := _last(text[thought.start : thought.end], known):
        return _found(text, inner, thought.start)
    if inner := _last(think, known):
        return Found(text, *_listed(inner))
    return Found(text)


def _last(thought: str, tools: Tools) -> tuple[Hit, ...]:
    """The calls with which reasoning ends."""
    if not thought:
        return ()
    hits = scan(thought, tools, reasoning=True).hits
    edge, first = len(thought), len(hits)
    while first and not thought[hits[first - 1].reading.end : edge].strip():
        first -= 1
        edge = hits[first].start
    return hits[first:]


def _found(text: str, hits: Sequence[Hit], shift: int) -> Found:
    """The calls, and the text without them; their places are counted from `shift` on."""
    calls, format, cut = _listed(hits)
    if not calls:
        return Found(text, (), format, cut)
    left, at = [], 0
    for hit in hits:
        left.append(text[at : hit.start + shift])
        at = hit.reading.end + shift
    left.append(text[at:])
    rest = "".join(left).strip()
    return Found(without_marks(rest).strip() if format == "harmony" else rest, calls, format, cut)


def _listed(hits: Sequence[Hit]) -> tuple[tuple[Written, ...], str, bool]:
    readings: list[Reading] = [hit.reading for hit in hits]
    calls = tuple(call for reading in readings for call in reading.calls)
    return calls, readings[0].format, readings[-1].cut
