"""How a run of the checks looks: a line with counts, the failing names, and before → after at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolcli.views.blocks import Block, Fact, Quote, Step, Tone
from poolcli.views.calls import OUTPUT_ROWS
from poolcli.views.phrases import line, rows, seconds

FAILING_NAMES = 4  # the log has the rest; a long list would push the work off the screen

_WHEN = {"baseline": "before any change", "round": "checked by pool", "verdict": "in a fresh checkout"}
_STATUS = {"timeout": "timed out", "error": "could not run", "none": "no test ran"}
UNBUILT = "not run: the build fails"


def done(data: Mapping[str, Any]) -> list[Block]:
    """The blocks of one `checks.done`."""
    ok = bool(data.get("ok"))
    facts = [_counts(data)]
    if data.get("seconds") is not None:
        facts.append(((seconds(float(data["seconds"])), "dim"),))
    if data.get("chosen"):
        facts.append((("only those near the change", "dim"),))
    elif data.get("kept"):
        facts.append((("before any change, known from an earlier run", "dim"),))
    elif when := _WHEN.get(str(data.get("phase"))):
        facts.append(((when, "dim"),))
    if data.get("phase") == "extra":
        return _extra(data, ok)
    step = Step("good" if ok else "bad", "tests", "", tuple(facts))
    return [step] if ok else [step, *_failing(data)]


def _extra(data: Mapping[str, Any], ok: bool) -> list[Block]:
    """A check beside the tests: its name, and what it says of the change."""
    words = "ok" if ok else "could not be judged" if data.get("status") == "error" else "not ok"
    facts: list[Fact] = [((words, "good" if ok else "bad"),), ((seconds(float(data["seconds"])), "dim"),)]
    if note := line(data.get("note", "")):
        facts.append(((note, "dim"),))
    step = Step("good" if ok else "bad", line(data.get("name", "")), "", tuple(facts))
    return [step] if ok else [step, *_failing(data)]


def _numbers(data: Mapping[str, Any]) -> tuple[int, int, int]:
    counts = data.get("counts") or {}
    return int(counts.get("failed") or 0), int(counts.get("passed") or 0), int(counts.get("skipped") or 0)


def _counts(data: Mapping[str, Any]) -> Fact:
    """`1 failed, 3 passed`, or words where the checks gave no counts."""
    if data.get("built") is False:
        return ((UNBUILT, "bad"),)
    failed, passed, skipped = _numbers(data)
    ok = bool(data.get("ok"))
    words: list[tuple[str, Tone]] = []
    if failed:
        words.append((f"{failed} failed", "bad"))
    if passed:
        words.append((f"{passed} passed", "good" if ok else ""))
    if skipped:
        words.append((f"{skipped} skipped", "dim"))
    status = str(data.get("status") or ("passed" if ok else "failed"))
    if status in _STATUS:
        words.append((_STATUS[status], "bad"))
    elif not words or not (ok or failed):
        code = data.get("exit_code")
        words.append((f"{line(status)}, exit {code}" if code else line(status), "good" if ok else "bad"))
    return tuple((text + ("," if i < len(words) else ""), tone) for i, (text, tone) in enumerate(words, 1))


def _failing(data: Mapping[str, Any]) -> list[Block]:
    """The first failing tests by name, else the end of the evidence."""
    names = [line(n) for n, status in (data.get("tests") or {}).items() if status in ("failed", "error")]
    if names:
        return [Quote(tuple(names[:FAILING_NAMES]), below=max(0, len(names) - FAILING_NAMES), tone="bad")]
    shown = [row for row in rows(data.get("text", "")) if row.strip()]
    return [Quote(tuple(shown[-OUTPUT_ROWS:]), above=max(0, len(shown) - OUTPUT_ROWS))] if shown else []


def before_after(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """`3 failing → all 12 passing`; '' when the checks never ran."""
    if after is None:
        return f"{_state(before)} before, not decided since" if before else ""
    return f"{_state(before)} → {_state(after, whole=True)}" if before else _state(after, whole=True)


def _state(data: Mapping[str, Any], *, whole: bool = False) -> str:
    failed, passed, skipped = _numbers(data)
    if data.get("ok"):
        if not passed:
            return "passing"
        every = "all " if whole and not skipped else ""
        return f"{every}{passed} passing" + (f", {skipped} skipped" if whole and skipped else "")
    if data.get("built") is False:
        return UNBUILT
    if failed:
        return f"{failed} failing" + (f", {passed} passing" if whole and passed else "")
    return _STATUS.get(str(data.get("status"))) or "failing"
