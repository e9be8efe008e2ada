"""Reads the output of pytest: any verbosity and `--tb` style, with or without xdist."""

from __future__ import annotations

import re

from poolcli.verdict import traceback_text
from poolcli.verdict.failures import Failure, Parsed, bounded, clip, is_marker

_SUMMARY = re.compile(
    r"^(?:=+ )?(no tests ran|[0-9]{1,9} [a-z ]+(?:, [0-9]{1,9} [a-z ]+)*) in [0-9.]+s\b[^\n]*$", re.M
)
_COUNT = re.compile(r"([0-9]+) ([a-z ]+)")
_SECTION = re.compile(r"={3,} (.+?) ={3,}\Z")
_BLOCK = re.compile(r"_+ (.+) _+\Z")
_CAPTURED = re.compile(r"-+ Captured .* -+\Z")
_PLACE = re.compile(r"([^\s:][^:]*):([0-9]+): ?(.*)\Z")
_DEFINED = re.compile(r"file (.+), line ([0-9]+)\Z")
_SUBTEST = re.compile(r"SUBFAIL(?:ED)?\W")
_OUTCOME = re.compile(r" (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)(?: \(.*)?\Z")
_XDIST = re.compile(r"\[gw[0-9]+\] \[ *[0-9]+%\] ([A-Z]+) (.+)\Z")

_SUMMARY_TITLE = "short test summary info"
_INTERNAL = "INTERNALERROR> "
_AROUND = {"ERROR at setup of ": " (setup)", "ERROR at teardown of ": " (teardown)", "ERROR collecting ": ""}
_WORDS = {
    "PASSED": "passed",
    "FAILED": "failed",
    "ERROR": "error",
    "SKIPPED": "skipped",
    "XFAIL": "passed",
    "XPASS": "passed",
}
#: At least one of these stands in the count line.
_KNOWN = {"passed", "failed", "error", "skipped", "deselected", "xfailed", "xpassed", "warning"}
#: Advice to people about pytest's own options.
_ADVICE = ("...Full output truncated", "Use -v to get", "Full diff:", "use 'pytest --fixtures")
#: Longer lines of `-v` are not looked at: no test id is that long.
_LONGEST_ID = 2000


def parse(output: str, root: str) -> Parsed | None:
    """What pytest said, or None when this is not its output. Several runs in one output are summed."""
    counts: dict[str, int] = {}
    found = False
    for match in _SUMMARY.finditer(output):
        words = {word.rstrip("s"): int(number) for number, word in _COUNT.findall(match[1])}
        # Others end with words like these too ("3 files changed in 2s").
        if match[1] == "no tests ran" or words.keys() & _KNOWN:
            found = True
            for word, number in words.items():
                counts[word] = counts.get(word, 0) + number
    lines = output.split("\n")
    ids, tests = _ids(lines)
    if not found and not ids:
        return None
    failures = _failures(lines, ids, root)
    failed = counts.get("failed", 0) + counts.get("error", 0)
    passed = counts.get("passed", 0) + counts.get("xfailed", 0) + counts.get("xpassed", 0)
    # `-qq` leaves the count line out.
    return Parsed(passed, failed if found else len(ids), counts.get("skipped", 0), tuple(failures), tests)


def _ids(lines: list[str]) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """(FAIL or ERROR, test id, message) of the short summary, in order; outcome by test id from all lines."""
    named: list[tuple[str, str, str]] = []
    tests: dict[str, str] = {}
    inside = False
    for line in lines:
        if line.startswith("="):
            section = _SECTION.match(line)
            inside = section[1] == _SUMMARY_TITLE if section else inside
        elif inside:
            word, _, rest = line.partition(" ")
            if _SUBTEST.match(line):
                # `SUBFAILED[message] (i=0) path::test - why`
                word, rest = "FAILED", line[line.rfind(" ", 0, line.find("::") + 1) + 1 :]
            if word in ("FAILED", "ERROR") and rest:
                test, message = _split(rest)
                named.append(("FAIL" if word == "FAILED" else word, test, message))
                tests[test] = _WORDS[word]
            elif word == "PASSED" and "::" in rest:
                tests.setdefault(rest, "passed")
        elif "::" in line and len(line) < _LONGEST_ID and (outcome := verbose(line)):
            test, state = outcome[0], _WORDS[outcome[1]]
            if tests.get(test) not in ("failed", "error"):  # a failed teardown comes after the test's PASSED
                tests[test] = state
    return named, tests


def _split(text: str) -> tuple[str, str]:
    """`id - message`; a parameter inside the id may hold ` - ` itself."""
    end = text.find(" - ")
    while end >= 0 and "[" in text[:end] and text[end - 1] != "]":
        end = text.find(" - ", end + 3)
    return (text, "") if end < 0 else (text[:end], text[end + 3 :].strip())


def verbose(line: str) -> tuple[str, str] | None:
    """Test id and outcome (PASSED, XFAIL, …) of a line of `-v`."""
    if match := _XDIST.match(line):
        return (match[2].strip(), match[1]) if match[1] in _WORDS else None
    if not line.endswith("%]"):
        return None
    left = line[: line.rfind("[")].rstrip()
    outcome = _OUTCOME.search(left)
    return (left[: outcome.start()], outcome[1]) if outcome else None


def _failures(lines: list[str], ids: list[tuple[str, str, str]], root: str) -> list[Failure]:
    """A failure per block of the sections ERRORS and FAILURES, or per line of the summary without such."""
    internal = [line.removeprefix(_INTERNAL) for line in lines if line.startswith(_INTERNAL)]
    if internal:
        return [Failure("ERROR in pytest itself", tuple(traceback_text.condense(internal, root)))]
    waiting: dict[tuple[str, str], list[str]] = {}
    for word, test, _ in ids:
        waiting.setdefault((word, _dotted(test)), []).append(test)
    failures: list[Failure] = []
    for title, body in _blocks(lines):
        evidence = _body(body, root)
        word, name, phase = _named(title)
        known = waiting.get((word, name)) or waiting.get((word, name.partition(" ")[0]))
        # Both lists have the same order, so that equal names in several files find their own.
        test = known.pop(0) if known else _guess(name, evidence)
        if name.startswith(_dotted(test) + " "):  # a sub-test's parameters
            test += name[len(_dotted(test)) :]
        failures.append(Failure(clip(f"{word} {test}{phase}"), tuple(evidence)))
    failures += _without_block(lines, ids, waiting, root)
    # The order of parallel workers is not the same from run to run.
    parallel = any(line.startswith("[gw0] ") or line.endswith(" workers") for line in lines[:20])
    return sorted(failures, key=lambda failure: failure.title) if parallel else failures


def _without_block(
    lines: list[str], ids: list[tuple[str, str, str]], waiting: dict[tuple[str, str], list[str]], root: str
) -> list[Failure]:
    """Failures that only the summary names: `--tb=line` and `--tb=no`, or their blocks were cut out."""
    left = [(word, test, why) for word, test, why in ids if test in waiting.get((word, _dotted(test)), ())]
    failures: list[Failure] = []
    for (word, test, why), place in zip(left, _one_liners(lines, len(left), root), strict=True):
        evidence = [text for text in (place, clip(f"E {why}") if why else "") if text]
        failures.append(Failure(clip(f"{word} {test}"), tuple(evidence)))
    return failures


def _dotted(test: str) -> str:
    """A test id as a block's title shows it: without the file, dots between classes."""
    path, bracket, parameters = test.partition("[")
    first, _, rest = path.partition("::")
    return (rest.replace("::", ".") if rest else first) + bracket + parameters


def _named(title: str) -> tuple[str, str, str]:
    """FAIL or ERROR, the name, and in which phase of the test."""
    for start, phase in _AROUND.items():
        if title.startswith(start):
            return "ERROR", title[len(start) :], phase
    return "FAIL", title, ""


def _guess(name: str, evidence: list[str]) -> str:
    """A test id for a title when there is no summary: the file of its first frame."""
    path = next((line.partition(":")[0] for line in evidence if ".py:" in line), "")
    if not path or "::" in name or name.endswith(".py"):
        return name
    function, bracket, parameters = name.partition("[")
    return f"{path}::{function.replace('.', '::')}{bracket}{parameters}"


def _blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Title and lines of each failure."""
    blocks: list[tuple[str, list[str]]] = []
    inside = False
    body: list[str] | None = None
    for line in lines:
        if line.startswith("=") and (section := _SECTION.match(line)):
            inside, body = section[1] in ("ERRORS", "FAILURES"), None
        elif not inside:
            continue
        elif line.startswith("_") and (title := _BLOCK.match(line)) and title[1].strip("_ "):
            body = []
            blocks.append((title[1], body))
        elif line.startswith("-") and _CAPTURED.match(line):
            body = None  # what the test printed
        elif body is not None:
            body.append(line)
    return blocks


def _body(lines: list[str], root: str) -> list[str]:
    """The evidence of one block, whichever traceback style it is in."""
    if traceback_text.START in lines:  # --tb=native
        return traceback_text.condense(lines, root, mark="E ")
    parts: list[tuple[list[str], list[str]]] = []
    frames: list[str] = []
    message: list[str] = []
    source = shown = ""
    for line, after in zip(lines, [*lines[1:], ""], strict=False):
        found: str | None = None
        if line.startswith(">"):
            source = source or line[1:]
        elif line.startswith("E") and line[1:2] in ("", " "):
            text = line[1:].strip()
            if text.startswith('File "'):  # where a SyntaxError is
                found, message, shown = traceback_text.frame(text, after[1:], root), [], after[1:].strip()
            elif text != shown:
                message.append(text)
            else:
                shown = ""
        elif line in traceback_text.CHAINED:
            parts.append((frames, message))
            frames, message, source = [], [], ""
        elif match := _PLACE.match(line):
            code = after if match[3].startswith("in ") and after.startswith("    ") else source
            found, source = traceback_text.place(match[1], match[2], code, root), ""
        elif match := _DEFINED.match(line):  # a fixture that does not exist
            found = traceback_text.place(match[1], match[2], after, root)
        if found:
            frames.append(found)
    parts.append((frames, [text for text in traceback_text.telling(message) if not text.startswith(_ADVICE)]))
    evidence = traceback_text.chain(parts, mark="E ")
    plain = [
        line.rstrip() for line in lines if line.strip() and not line.startswith("[gw") and not is_marker(line)
    ]
    return evidence or bounded(plain)


def _one_liners(lines: list[str], wanted: int, root: str) -> list[str]:
    """The places of `--tb=line`, one per failure; all empty when they cannot be told apart."""
    places: list[str] = []
    inside = False
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("=") and (section := _SECTION.match(line)):
            inside = section[1] == "FAILURES"
        elif inside and line.startswith(("/", "[XPASS")) and line != before:  # pytest 9 writes [XPASS twice
            match = _PLACE.match(line)
            places.append((match and traceback_text.place(match[1], match[2], "", root)) or "")
    return places if len(places) == wanted else [""] * wanted
