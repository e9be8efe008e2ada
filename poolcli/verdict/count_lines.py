"""Reads only the count line of cargo test, node --test, jest, vitest and mocha.

Which test failed and why is left to the excerpt of the output; a module per format can take over later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from poolcli.verdict.failures import Parsed

_CARGO = re.compile(
    r"^test result: (?:ok|FAILED)\. ([0-9]{1,9}) passed; ([0-9]{1,9}) failed; ([0-9]{1,9}) ignored;", re.M
)
_NODE = re.compile(r"^(?:#|ℹ) (tests|pass|fail|cancelled|skipped|todo) ([0-9]{1,9})$", re.M)
_JEST = re.compile(r"^ *Tests:? +((?:[0-9]{1,9} [a-z]+(?:, | \| )?)+)(?:, [0-9]+ total| ?\([0-9]+\))?$", re.M)
_MOCHA = re.compile(r"^ +([0-9]{1,9}) (passing|failing|pending)(?: \([0-9a-z]+\))?$", re.M)
_PAIR = re.compile(r"([0-9]+) ([a-z]+)")


def parse(output: str, root: str) -> Parsed | None:
    """The counts that a known runner gave, or None."""
    if "test result: " in output and (results := _CARGO.findall(output)):
        passed, failed, ignored = (sum(int(result[n]) for result in results) for n in range(3))
        return Parsed(passed, failed, ignored)
    node = _sum((word, number) for word, number in _NODE.findall(output))
    if {"tests", "pass", "fail"} <= node.keys():
        failed = node["fail"] + node.get("cancelled", 0)
        return Parsed(node["pass"], failed, node.get("skipped", 0) + node.get("todo", 0))
    if jest := _JEST.findall(output):
        counts = _sum((word, number) for line in jest for number, word in _PAIR.findall(line))
        skipped = counts.get("skipped", 0) + counts.get("todo", 0)
        return Parsed(counts.get("passed", 0), counts.get("failed", 0), skipped)
    mocha = _sum((word, number) for number, word in _MOCHA.findall(output))
    if "passing" in mocha:
        return Parsed(mocha["passing"], mocha.get("failing", 0), mocha.get("pending", 0))
    return None


def _sum(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for word, number in pairs:
        totals[word] = totals.get(word, 0) + int(number)
    return totals
