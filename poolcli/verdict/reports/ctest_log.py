"""Reads the output of ctest: one line per test, and what failed tests printed with `--output-on-failure`."""

from __future__ import annotations

import re

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector, number
from poolcli.verdict.results import Results

_START = re.compile(r" +Start +[0-9]+: (.+)\Z")
_TEST = re.compile(
    r" *[0-9]+/[0-9]+ Test +#([0-9]+): (.+?) (?:\.{2,})?( +|\.*)(Passed|\*\*\*.*?) +([0-9.]+) sec.*\Z"
)
_PREFIX = re.compile(r"[0-9]{1,6}: ?")
_SUMMARY = re.compile(r"^[0-9]+% tests passed, [0-9]+ tests failed out of ([0-9]+)", re.M)


def parse(output: str, root: str) -> Results | None:
    """The cases by the tests' names; None when ctest did not write this."""
    if "Test #" not in output and "No tests were found!!!" not in output:
        return None
    collector = Collector(root, "ctest-log")
    running: dict[str, None] = {}
    name = outcome = ""
    seconds = 0.0
    body: list[str] = []

    def done() -> None:
        if name:
            collector.add(name, outcome, "\n".join(body) if outcome in ("failed", "error") else "", seconds)

    before: list[str] = []
    for line in output.split("\n"):
        if len(line) > LOOKED_AT:
            continue
        if match := _START.match(line):
            done()
            name, body = "", []
            running[match[1]] = None
            before = []
        elif match := _TEST.match(line):
            done()
            name, outcome, seconds = match[2].rstrip(". "), _outcome(match[4]), number(match[5])
            # With -V the output stands before the line, after it with --output-on-failure.
            body = [match[4].lstrip("*"), *before]
            before = []
            running.pop(name, None)
        elif line.startswith(("The following tests ", "Total Test time")) or _SUMMARY.match(line):
            done()
            name = ""
        elif name and len(body) < 2000:
            body.append(line)
        elif running and len(before) < 2000:
            before.append(_PREFIX.sub("", line, count=1))
    done()
    ended = _SUMMARY.search(output)
    if not collector.cases and not running and not ended:
        return collector.results() if "No tests were found!!!" in output else None
    hung = next(reversed(running), "") if not ended else ""
    return collector.results("" if ended else "ctest did not get to its summary: the run broke off", hung)


def _outcome(state: str) -> str:
    if state == "Passed":
        return "passed"
    state = state.lstrip("*")
    if state.startswith("Skipped") or "Disabled" in state:
        return "skipped"
    # As in its JUnit report: a crash and a timeout are failures, a program that is not there is an error.
    return "error" if state.startswith("Not Run") else "failed"
