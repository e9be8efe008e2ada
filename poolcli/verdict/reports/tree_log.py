"""Cases from what node, jest, mocha and vitest show people: marks before titles, suites by indentation.

The weakest source: what tests print can look the same. Reports are asked for wherever there is a way.
"""

from __future__ import annotations

import re

from poolcli.verdict.reports.collecting import Collector, number
from poolcli.verdict.results import Results

_MARKED = re.compile(
    r"( *)(✓|✔|√|✕|✖|×|○|﹣|-|✎|↓|[0-9]{1,6}\)) (.+?)(?: [(]?([0-9.]+) ?(m?s)[)]?(?: # ?(.*))?)?\Z"
)
_GROUP = re.compile(r"( *)▶ (.+?)(?: \([0-9.]+ms\))?\Z")
_FILE = re.compile(r" ?(?:PASS|FAIL) {1,2}(\S.*?)(?: \([0-9.]+ m?s\))?\Z")
_TITLE = re.compile(r"( {2,})(\S.{0,500})\Z")
_MARKS = {
    **dict.fromkeys("✓✔√", "passed"),
    **dict.fromkeys("✕✖×", "failed"),
    **dict.fromkeys("○﹣-✎↓", "skipped"),
}
_JEST_TOTAL = re.compile(r"^Tests: +(?:.*, )?([0-9]{1,9}) total$", re.M)
_VITEST_TOTAL = re.compile(r"^ +Tests +.*\(([0-9]{1,9})\)$", re.M)
_MOCHA_END = re.compile(r" +[0-9]{1,9} (?:passing|failing)\b")
_MOCHA = re.compile(r"^ +([0-9]{1,9}) (passing|failing|pending)\b", re.M)
_NODE = re.compile(r"^ℹ (tests|suites) ([0-9]{1,9})$", re.M)
_LONGEST = 2000
_VITEST_COUNT = re.compile(r"\([0-9]+ tests?")


def parse(output: str, root: str) -> Results | None:
    """The cases, or None when none of the four wrote this."""
    if found := _VITEST_TOTAL.search(output):
        return _vitest(output, root, int(found[1]))
    if found := _JEST_TOTAL.search(output):
        return _tree(output, root, "jest-log", int(found[1]))
    if "ℹ tests " in output and (node := dict(_NODE.findall(output))):
        return _tree(output, root, "node-log", int(node.get("tests", "0")), int(node.get("suites", "0")))
    mocha = _MOCHA.findall(output)
    if any(word == "passing" for _, word in mocha):
        return _tree(output, root, "mocha-log", sum(int(count) for count, _ in mocha))
    return None


def _tree(output: str, root: str, source: str, counted: int, grouping: int = 0) -> Results:
    """`grouping` is how many of node's marked groups are no tests of their own: the others are among `counted`."""
    collector = Collector(root, source)
    texts = _failed_suites(output, collector) if source == "jest-log" else {}
    groups = 0
    file = ""
    suites: list[tuple[int, str]] = []
    in_tree = source != "jest-log"
    bare = source != "node-log"  # node marks its suites, the others only indent
    closed: tuple[int, str] | None = None
    for line in output.split("\n"):
        if len(line) > _LONGEST:
            continue
        if source == "jest-log" and (match := _FILE.match(line)):
            file, suites, in_tree = match[1], [], True
        elif line.startswith("  ● ") or line.startswith("Test Suites: "):
            in_tree = False
        elif (source == "mocha-log" and _MOCHA_END.match(line)) or line.startswith(
            ("✖ failing tests", "ℹ tests ")
        ):
            break
        elif not in_tree:
            continue
        elif match := _GROUP.match(line):
            indent = len(match[1])
            closed = _pop(suites, indent)
            if closed != (indent, match[2]):  # older releases end a suite with the same line
                suites.append((indent, match[2]))
                groups += 1
        elif match := _MARKED.match(line):
            indent, title = len(match[1]), match[3]
            closed = _pop(suites, indent)
            if closed == (indent, title) and not bare:
                continue  # a suite's own line after its tests
            outcome = _MARKS.get(match[2], "failed")
            if match[6] is not None and match[6].upper().startswith("TODO"):
                outcome = "xfailed" if outcome == "failed" else "xpassed"
            if source == "jest-log" and outcome == "skipped":
                title = title.removeprefix("skipped ").removeprefix("todo ")
            seconds = number(match[4] or 0) / (1000 if match[5] == "ms" else 1)
            name = " > ".join(filter(None, (file, *(text for _, text in suites), title)))
            collector.add(name, outcome, texts.get(name, "") if outcome == "failed" else "", seconds, file)
        elif bare and (match := _TITLE.match(line)):
            _pop(suites, len(match[1]))
            suites.append((len(match[1]), match[2]))
    return _counted(collector, counted - max(0, groups - grouping))


def _failed_suites(output: str, collector: Collector) -> dict[str, str]:
    """What jest says of each failed test, by name; files that could not be loaded become cases."""
    texts: dict[str, list[str]] = {}
    file, body = "", None
    for line in output.split("\n"):
        if match := _FILE.match(line[:_LONGEST]):
            file, body = match[1], None
        elif line.startswith("  ● ") and file:
            body = texts.setdefault(f"{file} > {line[4:].strip().replace(' › ', ' > ')}", [])
        elif line.startswith(("Test Suites: ", "Summary of all failing")):
            break
        elif body is not None:
            body.append(line)
    found = {name: "\n".join(lines) for name, lines in texts.items()}
    for name, text in found.items():
        if name.endswith(" > Test suite failed to run"):
            file = name.removesuffix(" > Test suite failed to run")
            collector.add(file, "error", text, file=file)
    return found


def _pop(suites: list[tuple[int, str]], indent: int) -> tuple[int, str] | None:
    """Leave the suites that are not around a line of this indentation; the last one left."""
    last = None
    while suites and suites[-1][0] >= indent:
        last = suites.pop()
    return last


def _vitest(output: str, root: str, counted: int) -> Results:
    collector = Collector(root, "vitest-log")
    texts: dict[str, list[str]] = {}
    body: list[str] | None = None
    for line in output.split("\n"):
        if line.startswith(" FAIL  "):
            body = texts.setdefault(line[7:], [])
        elif line.startswith("⎯"):
            body = None
        elif body is not None:
            body.append(line)
    for line in output.split("\n"):
        if len(line) <= _LONGEST and " > " in line and (match := _MARKED.match(line)):
            if _VITEST_COUNT.search(match[3]):
                continue
            seconds = number(match[4] or 0) / (1000 if match[5] == "ms" else 1)
            text = "\n".join(texts.get(match[3], ())).strip("\n")
            file = match[3].partition(" > ")[0]
            collector.add(match[3], _MARKS.get(match[2], "failed"), text, seconds, file)
    return _counted(collector, counted)


def _counted(collector: Collector, counted: int) -> Results:
    named = len(collector.cases)
    if named >= counted:
        return collector.results()
    return collector.results(
        f"the output counts {counted} tests and names {named}; per test they are known from a report only"
    )
