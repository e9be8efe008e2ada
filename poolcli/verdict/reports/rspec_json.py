"""Reads RSpec's `json` formatter."""

from __future__ import annotations

from typing import Any

from poolcli.verdict.reports.collecting import Collector, number, relative
from poolcli.verdict.reports.loose_json import document, items, string, strings
from poolcli.verdict.results import Results


def parse(text: str, root: str) -> Results | None:
    """The cases as `spec/a_spec.rb > full description`; errors outside of examples are one of their own."""
    report = document(text, "examples")
    if report is None:
        return None
    collector = Collector(root, "rspec-json")
    for example in items(report, "examples"):
        path = relative(string(example, "file_path"), collector.root)
        name = string(example, "full_description") or string(example, "description")
        outcome, why = _outcome(example)
        collector.add(f"{path} > {name}", outcome, why, number(example.get("run_time", 0)), path)
    summary = report.get("summary")
    outside = summary.get("errors_outside_of_examples_count", 0) if isinstance(summary, dict) else 0
    if isinstance(outside, int) and outside > 0:
        collector.add("[outside of examples]", "error", "\n".join(strings(report, "messages")))
    return collector.results()


def _outcome(example: dict[str, Any]) -> tuple[str, str]:
    exception = example.get("exception")
    why = "\n".join(filter(None, (string(exception, "class"), string(exception, "message").strip("\n"))))
    why = "\n".join([why, *strings(exception, "backtrace")[:30]]).strip()
    match string(example, "status"):
        case "passed":
            return "passed", ""
        case "pending":
            reason = string(example, "pending_message")
            # `pending` runs the body and expects it to fail; `skip` and `xit` do not run it.
            return ("xfailed", why) if isinstance(exception, dict) else ("skipped", reason)
        case "failed":
            expected = "ExpectationNotMet" in string(exception, "class") or "Pending" in string(
                exception, "class"
            )
            return ("failed" if expected else "error"), why
        case _:
            return "", ""
