"""Reads the output of minitest and test-unit; passed tests have names only with `-v`."""

from __future__ import annotations

import re

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector, number
from poolcli.verdict.results import Results

_LINE = re.compile(r"(\S+?#.+?) = ([0-9.]+) s = ([.FES])\Z")
_BLOCK = re.compile(r" {1,4}[0-9]+\) (Failure|Error|Skipped):\Z")
_NAMED = re.compile(r"(\S+?#.+?)(?: \[(.+):[0-9]+\])?:?\Z")
_SUMMARY = re.compile(
    r"^([0-9]+) runs, [0-9]+ assertions, ([0-9]+) failures, ([0-9]+) errors, ([0-9]+) skips", re.M
)
_WORDS = {".": "passed", "F": "failed", "E": "error", "S": "skipped"}
_KINDS = {"Failure": "failed", "Error": "error", "Skipped": "skipped"}


def parse(output: str, root: str) -> Results | None:
    """The cases as `Class#test`; None when minitest did not write this."""
    summary = _SUMMARY.search(output)
    if summary is None and "\n# Running:" not in output:
        return None
    collector = Collector(root, "minitest-log")
    lines = output.split("\n")
    why: dict[str, tuple[str, str, str]] = {}
    for at, line in enumerate(lines):
        if (
            (block := _BLOCK.match(line))
            and at + 1 < len(lines)
            and (named := _NAMED.match(lines[at + 1][:LOOKED_AT]))
        ):
            end = at + 2
            while (
                end < len(lines)
                and end < at + 200
                and not _BLOCK.match(lines[end])
                and not _SUMMARY.match(lines[end])
            ):
                end += 1
            why.setdefault(
                named[1], (_KINDS[block[1]], "\n".join(lines[at + 2 : end]).strip("\n"), named[2] or "")
            )
    for line in lines:
        if " = " in line and len(line) < LOOKED_AT and (match := _LINE.match(line)):
            _, text, file = why.pop(match[1], ("", "", ""))
            collector.add(match[1], _WORDS[match[3]], text, number(match[2]), file)
    for name, (outcome, text, file) in why.items():
        collector.add(name, outcome, text, file=file)
    if summary is None:
        return collector.results("minitest did not get to its summary: the run broke off")
    return collector.results(unnamed(int(summary[1]), len(collector.cases)))


def unnamed(counted: int, named: int) -> str:
    """The problem that an output counts tests that it does not name; '' when there is none."""
    if counted <= named:
        return ""
    return f"the output counts {counted} tests and names {named}; per test they are known from a report only"
