"""Cases from the output of pytest and unittest. The condensing itself is that of the evidence a model reads."""

from __future__ import annotations

import re

from poolcli.verdict import pytest_output, unittest_output
from poolcli.verdict.failures import Failure, Parsed
from poolcli.verdict.reports.collecting import Collector
from poolcli.verdict.results import BAD, Results

_OUTCOMES = {
    "PASSED": "passed",
    "FAILED": "failed",
    "ERROR": "error",
    "SKIPPED": "skipped",
    "XFAIL": "xfailed",
    "XPASS": "xpassed",
}
#: `PASSED path::test`, `XFAIL path::test - reason` in the summary of `-rA`.
_SUMMARY = re.compile(r"(PASSED|XFAIL|XPASS) (\S.*)\Z")
#: A line of `-v` whose outcome is not written yet, or was pushed down by what the test printed.
_BEGUN = re.compile(r"(\S[^\s:]*\.py::\S.*?|\S[^\s:]*\.py::\S+ .*?)\Z")
_LATE = re.compile(r"(.*?)(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)(?: \(.*\))? +\[ *[0-9]+%\]\Z")
_LATE_BARE = re.compile(r"(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\Z")
_SECTION = re.compile(r"={3,} (.+?) ={3,}\Z")
_STARTED = re.compile(r"={3,} test session starts ={3,}")
_ENDED = re.compile(r"^(?:=+ )?(?:no tests ran|[0-9]+ [a-z ]+(?:, [0-9]+ [a-z ]+)*) in [0-9.]+s\b", re.M)
_PHASES = (" (setup)", " (teardown)")
_FAULT_FRAME = re.compile(r'  File "([^"\n]+)", line [0-9]+ in (test\w*)')
#: Longer lines are what tests printed.
_LONGEST = 2000

_UNITTEST = {"ok": "passed", "FAIL": "failed", "ERROR": "error", "expected failure": "xfailed"}
_UNITTEST_BEGUN = re.compile(r"(\w+ \([\w.]+\))(?:\n[^\n]*)? \.\.\. ?([^\n]*)\Z")
_RAN = re.compile(r"^Ran ([0-9]+) tests? in ", re.M)


def pytest(output: str, root: str) -> Results | None:
    """The cases that pytest's output names, or None when it is not pytest's."""
    parsed = pytest_output.parse(output, root)
    began = _STARTED.search(output) is not None
    lines, running = _verbose(output)
    if parsed is None and not began:
        return None
    collector = Collector(root, "pytest-log", merge=True)
    texts = _texts(parsed.failures if parsed else (), ("FAIL ", "ERROR "))
    outcomes = lines | {test: word for test, word in (parsed.tests if parsed else {}).items() if word in BAD}
    for test, outcome in outcomes.items():
        path = test.partition("::")[0]
        collector.add(test, outcome, texts.get(test, ""), file=path)
    if parsed is not None:
        # `-rN` and `-qq` name failures in their blocks alone.
        for title, why in texts.items():
            if title not in collector.cases and parsed.failed > collector.results().count(*BAD):
                outcome = (
                    "error"
                    if any(f.title.startswith("ERROR " + title) for f in parsed.failures)
                    else "failed"
                )
                collector.add(title, outcome, why)
    summaries = len(_ENDED.findall(output))
    if began and not summaries:
        running = running or _fault(output)
        return collector.results("pytest did not get to its summary: the run broke off", running)
    return collector.results(_unnamed(parsed, collector, output) if parsed and summaries == 1 else "")


def _verbose(output: str) -> tuple[dict[str, str], str]:
    """Outcome by id from the lines of `-v` and `-rA`, and the test that had begun and not ended."""
    outcomes: dict[str, str] = {}
    waiting = ""
    summary = progress = True
    for line in output.split("\n"):
        if len(line) > _LONGEST:
            continue
        if line.startswith("===") and (section := _SECTION.match(line)):
            # What tests printed is repeated in other sections, and can look like anything.
            progress = section[1] == "test session starts"
            summary = section[1] == "short test summary info"
            continue
        if not progress and not summary:
            continue
        if "::" in line and progress and (found := pytest_output.verbose(line)):
            test, word = found
            waiting = "" if waiting == test else waiting
        elif waiting and progress and (match := _LATE.match(line) or _LATE_BARE.match(line)):
            test, word, waiting = waiting, match[match.re.groups], ""
        elif "::" in line and summary and (match := _SUMMARY.match(line)):
            test, word = _without_reason(match[2]), match[1]
        else:
            if (
                ".py::" in line
                and not line.startswith(("FAILED ", "ERROR ", "SUBFAIL"))
                and (m := _BEGUN.match(line))
            ):
                waiting = _id_of(m[1])
            continue
        state = _OUTCOMES[word]
        # A failed teardown comes after the test's PASSED, and the summary repeats what lines said.
        if outcomes.get(test) not in BAD or state == "error":
            outcomes[test] = state
    return outcomes, waiting


def _id_of(text: str) -> str:
    """The id that a line begins with; what the test printed may follow it."""
    path, _, rest = text.partition("::")
    if "[" in rest.partition(" ")[0]:
        end = rest.rfind("]")
        return f"{path}::{rest[: end + 1]}" if end > 0 else text
    return f"{path}::{rest.partition(' ')[0]}"


def _without_reason(text: str) -> str:
    """`id - reason`; a parameter inside the id may hold ` - ` itself."""
    end = text.find(" - ")
    while end >= 0 and "[" in text[:end] and text[end - 1] != "]":
        end = text.find(" - ", end + 3)
    return (text if end < 0 else text[:end]).strip()


def _texts(failures: tuple[Failure, ...], words: tuple[str, ...]) -> dict[str, str]:
    """What each test's failures say, by id."""
    texts: dict[str, str] = {}
    for failure in failures:
        name = failure.title
        for word in words:
            name = name.removeprefix(word)
        for phase in _PHASES:
            name = name.removesuffix(phase)
        text = "\n".join(failure.lines)
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    return texts


def _fault(output: str) -> str:
    """The test in the traceback of the fault handler."""
    at = output.find("Fatal Python error: ")
    match = _FAULT_FRAME.search(output, at) if at >= 0 else None
    return f"{match[1]}::{match[2]}" if match else ""


def _unnamed(parsed: Parsed, collector: Collector, output: str) -> str:
    """A run that names its failures only, or more than it counts: then a test printed a result of its own."""
    cases = collector.results()
    counted = parsed.passed + parsed.skipped
    # A test whose teardown broke counts as passed and as error.
    named = cases.count("passed", "skipped", "xfailed", "xpassed") + cases.count("error")
    sure = named - cases.count("error")
    if "= ERRORS =" in output:
        named = sure + sum(failure.title.endswith(" (teardown)") for failure in parsed.failures)
    if sure > counted:
        return f"the output names {sure} passed or skipped tests and counts {counted}: a test printed results itself"
    if "SUBFAIL" in output:  # a test of which a part failed can be counted as passed too
        named += cases.count("failed")
    if counted <= named:
        return ""
    named = sure
    return (
        f"the output counts {counted} tests that passed or were skipped and names {named}; "
        "per test they are known from a report, or from `-rA`, only"
    )


def unittest(output: str, root: str) -> Results | None:
    """The cases that unittest's output names, or None when it is not unittest's."""
    parsed = unittest_output.parse(output, root)
    outcomes = unittest_output.verbose(output, _UNITTEST)
    begun = _UNITTEST_BEGUN.search(output[-_LONGEST:].rstrip("\n")) if parsed is None else None
    running = ""
    if begun is not None and _UNITTEST.get(begun[2].strip()) is None and not begun[2].startswith("skipped"):
        running = _unittest_id(begun[1])
    if parsed is None and not outcomes and not running:
        return None
    collector = Collector(root, "unittest-log", merge=True)
    texts: dict[str, str] = {}
    for failure in parsed.failures if parsed else ():
        name = _unittest_id(failure.title.partition(" ")[2])
        text = "\n".join(failure.lines)
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    outcomes |= {test: word for test, word in (parsed.tests if parsed else {}).items() if word in BAD}
    for test, outcome in outcomes.items():
        collector.add(test, outcome, texts.get(test, ""))
    if parsed is None:
        return collector.results("unittest did not get to its summary: the run broke off", running)
    return collector.results(_unnamed_unittest(output, parsed, collector))


def _unittest_id(title: str) -> str:
    """`test_a (module.Class.test_a) [sub-test]` as an id."""
    name, bracket, rest = title.partition(" (")
    where = rest.partition(")")[0]
    if not bracket or "._FailedTest" in where:
        return name
    if name in ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule"):
        return f"{name} ({where})"
    return where if where.endswith("." + name) else f"{where}.{name}"


def _unnamed_unittest(output: str, parsed: Parsed, collector: Collector) -> str:
    counted = parsed.passed + parsed.skipped
    named = collector.results().count("passed", "skipped", "xfailed")
    if counted <= named:
        return ""
    ran = sum(int(number[:9]) for number in _RAN.findall(output))
    return (
        f"the output counts {ran} tests and names {len(collector.cases)}; the others are named with `-v` only"
    )
