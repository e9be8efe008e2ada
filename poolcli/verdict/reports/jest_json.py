"""Reads `jest --json` and vitest's `json` reporter, which has the same form."""

from __future__ import annotations

from poolcli.verdict.reports.collecting import Collector, number, relative
from poolcli.verdict.reports.loose_json import document, items, string, strings
from poolcli.verdict.results import Results

_OUTCOMES = {
    "passed": "passed",
    "failed": "failed",
    "pending": "skipped",
    "skipped": "skipped",
    "disabled": "skipped",
    "todo": "skipped",
}


def parse(text: str, root: str) -> Results | None:
    """The cases as `file > suite > test`; a file that could not be loaded is a case of its own."""
    report = document(text, "testResults")
    if report is None:
        return None
    collector = Collector(root, "jest-json")
    for file in items(report, "testResults"):
        path = relative(string(file, "name") or string(file, "testFilePath"), root.rstrip("/"))
        tests = items(file, "assertionResults") or items(file, "testResults")
        for test in tests:
            titles = [*strings(test, "ancestorTitles"), string(test, "title")]
            seconds = number(test.get("duration", 0)) / 1000
            why = "\n".join(strings(test, "failureMessages"))
            outcome = _OUTCOMES.get(string(test, "status"), "")
            collector.add(" > ".join(filter(None, (path, *titles))), outcome, why, seconds, path)
        if not tests and string(file, "status") == "failed":
            collector.add(path, "error", string(file, "message") or string(file, "failureMessage"), file=path)
    interrupted = report.get("wasInterrupted") is True
    return collector.results("the run was interrupted" if interrupted else "")
