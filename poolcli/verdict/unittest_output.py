"""Reads the output of Python's unittest (3.8 to 3.14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from poolcli.verdict import traceback_text
from poolcli.verdict.failures import Failure, Parsed, bounded, clip

_RAN = re.compile(r"^Ran ([0-9]{1,9}) tests? in [^\n]*$", re.M)
_END = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \(([^()\n]*)\))?$", re.M)
_COUNT = re.compile(r"([a-z ]+)=([0-9]{1,9})")
_HEADER = re.compile(r"^={70}\n(FAIL|ERROR|UNEXPECTED SUCCESS): ([^\n]*)\n", re.M)
_NAMED = re.compile(r"(\S+) \(([^()\s]+)\)(.*)\Z")

_RULE = "-" * 70
_SECTIONS = ("Stdout:", "Stderr:", "Slowest test durations")
#: Outcomes as `-v` writes them.
_WORDS = {"ok": "passed", "FAIL": "failed", "ERROR": "error", "expected failure": "passed"}
_KINDS = {"FAIL": "failed", "ERROR": "error", "UNEXPECTED SUCCESS": "failed"}
#: Names that stand where a test's name would, when the code around the tests failed.
_FIXTURES = frozenset({"setUpClass", "tearDownClass", "setUpModule", "tearDownModule"})


def parse(output: str, root: str) -> Parsed | None:
    """What unittest said, or None when this is not its output. Several runs in one output are summed."""
    ran = list(_RAN.finditer(output))
    if not ran:
        return None
    totals: dict[str, int] = {}
    for match in ran:
        end = _END.search(output, match.end())
        for name, number in _COUNT.findall((end and end[1]) or ""):
            totals[name.strip()] = totals.get(name.strip(), 0) + int(number)
    failures, outcomes = _failures(output, root)
    reported = sum(totals.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
    # Several failed sub-tests are one failed test. Blocks can lack: cut out of the output, or never written.
    failed = len(outcomes) + max(0, reported - len(failures))
    around = sum(1 for key in outcomes if key.partition(" ")[0] in _FIXTURES)
    skipped = totals.get("skipped", 0)
    passed = max(0, sum(int(match[1]) for match in ran) - (failed - around) - skipped)
    return Parsed(passed, failed, skipped, tuple(failures), verbose(output, _WORDS) | outcomes)


def _failures(output: str, root: str) -> tuple[list[Failure], dict[str, str]]:
    headers = list(_HEADER.finditer(output))
    starts = [*(header.start() for header in headers), len(output)]
    failures: list[Failure] = []
    outcomes: dict[str, str] = {}
    for header, following in zip(headers, starts[1:], strict=True):
        body = output[header.end() : following]
        title, key = _name(header[2])
        word = "FAIL" if header[1] == "UNEXPECTED SUCCESS" else header[1]
        lines = ["unexpected success"] if header[1] != word else _body(body.split("\n"), root)
        failures.append(Failure(clip(f"{word} {title}"), tuple(lines)))
        if outcomes.get(key) != "error":
            outcomes[key] = _KINDS[header[1]]
    return failures, outcomes


def _name(text: str) -> tuple[str, str]:
    """A header's text the way Python 3.11 writes it, and the test's id."""
    match = _NAMED.match(text)
    if match is None:
        return text, text
    name, where, rest = match.groups()
    if "._FailedTest" in where:  # the module could not be imported; its name is all that is of use
        return name, name
    if name in _FIXTURES:
        return text, f"{name} ({where})"
    if not where.endswith(f".{name}"):  # up to 3.10 the class only
        where = f"{where}.{name}"
    return f"{name} ({where}){rest}", where


def _body(lines: list[str], root: str) -> list[str]:
    """The evidence of one failure: each exception of the chain, the last one in full."""
    for number, line in enumerate(lines):
        # The summary's rule, or a section that is no part of the traceback.
        if (line == _RULE and _RAN.match(lines[number + 1] if number + 1 < len(lines) else "")) or (
            line in _SECTIONS and number and not lines[number - 1]
        ):
            lines = lines[:number]
            break
    found = traceback_text.condense(lines, root)
    return found or bounded([line for line in lines if line and line != _RULE])


def verbose(output: str, words: Mapping[str, str]) -> dict[str, str]:
    """Outcomes by test id from the lines of `-v`; a test whose line was broken up by prints is left out.

    `words` says what each of unittest's words means.
    """
    if " ... " not in output:
        return {}
    outcomes: dict[str, str] = {}
    before = ""
    for line in output.split("\n"):
        left, found, word = line.rpartition(" ... ")
        state = "skipped" if word.startswith("skipped ") else words.get(word)
        if found and state:
            match = _NAMED.match(left) or _NAMED.match(before)  # a docstring's line stands between
            if match:
                outcomes[_name(match[0])[1]] = state
        before = line
    return outcomes
