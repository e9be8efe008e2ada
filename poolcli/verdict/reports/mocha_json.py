"""Reads mocha's `json` and `json-stream` reporters."""

from __future__ import annotations

from typing import Any

import msgspec

from poolcli.verdict.reports.collecting import Collector, number, relative
from poolcli.verdict.reports.loose_json import document, items, string
from poolcli.verdict.results import Results


def parse(text: str, root: str) -> Results | None:
    """The cases as `file > full title`; None when it is no report of mocha."""
    report = document(text, "stats")
    if report is None or not isinstance(report.get("tests"), list):
        return _stream(text, root)
    collector = Collector(root, "mocha-json")
    outcomes: dict[str, list[str]] = {}
    for key, outcome in (("passes", "passed"), ("failures", "failed"), ("pending", "skipped")):
        for test in items(report, key):
            outcomes.setdefault(_key(test), []).append(outcome)
    for test in items(report, "tests"):
        waiting = outcomes.get(_key(test))
        _add(collector, test, waiting.pop(0) if waiting else "")
    # A hook that failed is under `failures` alone: the tests after it did not run.
    for test in items(report, "failures"):
        waiting = outcomes.get(_key(test))
        if waiting and "failed" in waiting:
            waiting.remove("failed")
            _add(collector, test, "error")
    return collector.results()


def _key(test: dict[str, Any]) -> str:
    return f"{string(test, 'file')}\0{string(test, 'fullTitle')}"


def _add(collector: Collector, test: dict[str, Any], outcome: str) -> None:
    error = test.get("err")
    why = (string(error, "message") + "\n" + string(error, "stack")).strip() if outcome != "passed" else ""
    path = relative(string(test, "file"), collector.root)
    name = " > ".join(filter(None, (path, string(test, "fullTitle") or string(test, "title"))))
    collector.add(name, outcome, why, number(test.get("duration", 0)) / 1000, path)


def _stream(text: str, root: str) -> Results | None:
    collector = Collector(root, "mocha-json")
    began = ended = False
    for line in text.split("\n"):
        if not line.startswith('["'):
            continue
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        if not isinstance(event, list) or len(event) != 2 or not isinstance(event[1], dict):
            continue
        word, test = event
        began, ended = began or word == "start", ended or word == "end"
        if word in ("pass", "fail", "pending"):
            outcome = {"pass": "passed", "fail": "failed", "pending": "skipped"}[word]
            path = relative(string(test, "file"), collector.root)
            name = " > ".join(filter(None, (path, string(test, "fullTitle"))))
            why = string(test, "stack") or string(test, "err")
            collector.add(name, outcome, why, number(test.get("duration", 0)) / 1000, path)
    if not began and not collector.cases:
        return None
    return collector.results("" if ended else "the report breaks off before its end")
