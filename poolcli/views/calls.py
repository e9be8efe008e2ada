"""How one finished call looks: a line, and below it what is worth seeing of its result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from poolcli.sanitize import MAX_LINE
from poolcli.sanitize import shown as visible
from poolcli.views.blocks import Block, Change, DiffRow, Fact, Quote, Step
from poolcli.views.phrases import exact, line, rows, seconds

# How much is shown. The log has all of it, and a verbose view five times as much.
DIFF_ROWS = 24
OUTPUT_ROWS = 8
ERROR_ROWS = 3
VERBOSE = 5
REMARK_CHARS = 60  # a tool's remark that still fits beside its step

_WHY = {
    "invalid": "not a valid call",
    "refused": "refused",
    "interrupted": "interrupted",
    "crashed": "the tool failed",
    "unknown": "outcome unknown",
}

#: Tools whose name is not what people call them.
_LABELS = {"run_tests": "tests"}


def label(name: str) -> str:
    """A tool's name as people read it."""
    return _LABELS.get(name) or line(name)


def subject(name: str, title: str) -> str:
    """A call's title without the verb that its label says already."""
    if name in _LABELS:
        return ""  # such a label says it all
    shown = exact(title)
    first, _, rest = shown.partition(" ")
    return rest.strip() if first.lower() in (name, label(name)) or first in ("Run", "$") else shown


def done(data: Mapping[str, Any], *, verbose: bool = False) -> list[Block]:
    """The blocks of one `tool.done`: a step, then its diff or the telling part of its output."""
    name, ok, why = str(data.get("name", "")), bool(data.get("ok")), str(data.get("why") or "")
    scale = VERBOSE if verbose else 1
    facts: list[Fact] = []
    below: list[Block] = []
    ran = False
    for item in data.get("show") or ():
        match item.get("type"):
            case "diff":
                diff = str(item.get("diff", ""))
                facts.append(_added_removed(diff))
                below.append(parse_diff(str(item.get("path", "")), diff, DIFF_ROWS * scale))
            case "exit":
                ran = True
                facts += _exit(item)
            case "text":
                _remark(str(item.get("text", "")), facts, below)
    if why:
        facts.append(((_WHY.get(why) or line(why), "bad"),))
    took = float(data.get("seconds") or 0)
    if took >= 0.1:  # below that it tells nobody anything
        facts.append(((seconds(took), "dim"),))
    if not ok or verbose:
        below += _outcome(
            str(data.get("text", "")), ran=ran, limit=(OUTPUT_ROWS if ran else ERROR_ROWS) * scale
        )
    mark: Literal["ok", "bad", "skip"] = "ok" if ok else "skip" if why == "interrupted" else "bad"
    return [Step(mark, label(name), subject(name, str(data.get("title", ""))), tuple(facts)), *below]


def _exit(item: Mapping[str, Any]) -> list[Fact]:
    code = item.get("code")
    if item.get("timed_out"):
        return [(("timed out", "bad"),)]
    if not isinstance(code, int) or code == 0:
        return []
    return [((f"signal {-code}" if code < 0 else f"exit {code}", "bad"),)]


def _remark(text: str, facts: list[Fact], below: list[Block]) -> None:
    """What a tool wants people to see: beside the step when short, else below it."""
    shown = rows(text)
    if len(shown) > 1 or len(shown[0]) > REMARK_CHARS:
        below.append(Quote(tuple(shown[:OUTPUT_ROWS]), below=max(0, len(shown) - OUTPUT_ROWS)))
    elif shown[0].strip():
        facts.append(((shown[0].strip(), "dim"),))


def _outcome(text: str, *, ran: bool, limit: int) -> list[Block]:
    shown = rows(text)
    if ran and re.fullmatch(r"exit code -?\d+|\(no output\)", shown[-1]):
        shown.pop()  # the step says it
    if not any(shown):
        return []
    left_out = max(0, len(shown) - limit)
    if ran:
        # The end of a command's output says most.
        return [Quote(tuple(shown[-limit:]), above=left_out)]
    shown[0] = shown[0].removeprefix("error: ")
    return [Quote(tuple(shown[:limit]), below=left_out)]


def _added_removed(diff: str) -> Fact:
    body = [row for row in diff.split("\n") if not row.startswith(("+++ ", "--- "))]
    added, removed = (sum(row.startswith(sign) for row in body) for sign in "+-")
    return ((f"+{added}", "good"), (f"−{removed}", "bad"))


def _bounded(text: str) -> str:
    """A line of a file as far as it is shown: what is made visible first is not hidden by cutting."""
    more = len(text) - MAX_LINE
    return text if more <= 0 else f"{text[:MAX_LINE]}… (+{more} characters)"


_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")


def parse_diff(path: str, diff: str, limit: int = DIFF_ROWS) -> Change:
    """The rows of one file's unified diff, at most `limit` of them."""
    found: list[DiffRow] = []
    old = new = -1
    for raw in diff.split("\n"):
        if hunk := _HUNK.match(raw):
            if found:
                found.append(DiffRow("…", 0, ""))
            old, new = int(hunk[1]), int(hunk[2])
            continue
        if old < 0 or not raw or raw[0] not in "+- ":
            continue
        kind, text = raw[0], _bounded(visible(raw[1:].removesuffix("\r"), keep="\t")).expandtabs(4)
        found.append(DiffRow(kind, old if kind == "-" else new, text))
        old, new = old + (kind != "+"), new + (kind != "-")
    return Change(line(path), tuple(found[:limit]), max(0, len(found) - limit))
