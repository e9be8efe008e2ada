"""Reads `cargo test`: the lines of libtest, or its JSON (`--format json`, unstable), per binary and for doc tests."""

from __future__ import annotations

import re

import msgspec

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector, number
from poolcli.verdict.results import Results

_BINARY = re.compile(
    r"\s+Running (?:unittests )?(\S+)?.*\((?:.*[/\\])?([^()/\\]+?)(?:-[0-9a-f]{16})?(?:\.exe)?\)\s*\Z"
)
_DOCTEST = re.compile(r"\s+Doc-tests (\S+)\s*\Z")
_TEST = re.compile(r"test (.+?)( - should panic)? \.\.\. (.*)\Z")
_STATE = re.compile(r"(?:.*?)(ok|FAILED|ignored)(?:, (.*?))?(?: <([0-9.]+)s>)?\Z")
_BENCH = re.compile(r"bench: ")
_BLOCK = re.compile(r"---- (.+?) (?:stdout|stderr) ----\Z")
_RESULT = re.compile(r"test result: (?:ok|FAILED)\. ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored")
_BEGIN = re.compile(r"running ([0-9]+) tests?\Z")
_DIED = re.compile(r"process didn't exit successfully: .* \((signal: .*|exit (?:status|code): .*)\)")
#: The thread's number differs from run to run.
_THREAD = re.compile(r"(thread '[^'\n]*') \([0-9]+\)")
_WORDS = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
_COMPILE = re.compile(r"error(?:\[E[0-9]+\])?: |error: could not compile")


def parse(output: str, root: str) -> Results | None:
    """The cases as `binary::path::test`; None when cargo or libtest did not write this."""
    if "test result: " not in output and not re.search(r"^running [0-9]+ tests?$", output, re.M):
        return _json(output, root) or _not_built(output, root)
    collector = Collector(root, "cargo")
    binary = file = running = crashed = problem = ""
    expected = seen = 0
    texts = _blocks(output)
    for line in output.split("\n"):
        if len(line) > LOOKED_AT:
            continue
        if match := _BINARY.match(line):
            binary, file = match[2], match[1] or ""
        elif match := _DOCTEST.match(line):
            binary, file = f"{match[1]} (doc)", ""
        elif match := _BEGIN.match(line):
            expected, seen, running = int(match[1]), 0, ""
        elif line.startswith("test ") and (match := _TEST.match(line)):
            name, rest = match[1], match[3]
            state = _STATE.match(rest)
            running = ""
            if state is None and not _BENCH.match(rest):
                running = name  # with one thread the name is written first; what it prints may follow
                continue
            seen += 1
            outcome = _WORDS[state[1]] if state else "passed"
            why = texts.get((binary, name), "") if outcome == "failed" else (state[2] or "") if state else ""
            collector.add(_id(binary, name), outcome, why, number(state[3] or 0) if state else 0.0, file)
        elif running and (state := _STATE.match(line)) and line.endswith((state[1], "s>")):
            seen += 1
            outcome = _WORDS[state[1]]
            why = texts.get((binary, running), "") if outcome == "failed" else ""
            collector.add(_id(binary, running), outcome, why, number(state[3] or 0), file)
            running = ""
        elif match := _RESULT.match(line):
            total = sum(int(match[number]) for number in (1, 2, 3))
            if total > seen:
                problem = problem or f"{binary or 'a binary'} counts {total} tests and names {seen}"
            expected = 0
        elif (match := _DIED.search(line)) and not match[1].endswith(" 101"):  # 101: tests failed
            where = f" in {_id(binary, running)}" if running else ""
            crashed = crashed or f"{binary or 'the test binary'} died{where}: {match[1]}"
            expected = 0
    if expected > seen and not crashed:
        problem = (
            problem or f"{binary or 'a binary'} announced {expected} tests and reported {seen}: it broke off"
        )
    if not collector.cases:
        _not_built_into(collector, output)
    return collector.results(problem, _id(binary, running) if running else "", crashed)


def _id(binary: str, name: str) -> str:
    return f"{binary}::{name}" if binary else name


def _blocks(output: str) -> dict[tuple[str, str], str]:
    """What each failed test printed, by binary and name."""
    texts: dict[tuple[str, str], str] = {}
    binary = name = ""
    body: list[str] = []
    for line in [*output.split("\n"), "failures:"]:
        block = _BLOCK.match(line) if line.startswith("---- ") else None
        ends = block or line == "failures:" or line.startswith("test result: ")
        if ends and name:
            # Frames of the standard library say nothing of the test.
            kept = [text for at, text in enumerate(body) if "/rustc/" not in text and not _into_std(body, at)]
            texts[binary, name] = _THREAD.sub(r"\1", "\n".join(kept))
            name, body = "", []
        if block:
            name = block[1]
        elif match := _BINARY.match(line):
            binary = match[2]
        elif match := _DOCTEST.match(line):
            binary = f"{match[1]} (doc)"
        elif name and len(body) < 2000:
            body.append(line)
    return texts


def _into_std(body: list[str], at: int) -> bool:
    return at + 1 < len(body) and body[at + 1].lstrip().startswith("at /rustc/")


def _not_built(output: str, root: str) -> Results | None:
    collector = Collector(root, "cargo")
    _not_built_into(collector, output)
    return collector.results() if collector.cases else None


def _not_built_into(collector: Collector, output: str) -> None:
    at = output.find("error: could not compile")
    if at >= 0:
        found = _COMPILE.search(output)
        collector.add("[build failed]", "error", output[found.start() if found else at :])


def _json(output: str, root: str) -> Results | None:
    """libtest's own events; the binary's name is not in them."""
    collector = Collector(root, "cargo-json")
    seen = False
    running: dict[str, None] = {}
    outcomes = {"ok": "passed", "failed": "failed", "ignored": "skipped", "timeout": ""}
    binary = ""
    suite_open = False
    for line in output.split("\n"):
        if match := _BINARY.match(line) or _DOCTEST.match(line):
            binary = match[2] if match.re is _BINARY else f"{match[1]} (doc)"
        if not line.startswith("{"):
            continue
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        if not isinstance(event, dict) or not isinstance(event.get("name", ""), str):
            continue
        kind, word, name = event.get("type"), str(event.get("event")), event.get("name", "")
        if kind == "suite":
            seen, suite_open = True, word == "started"
        elif kind == "test" and word == "started":
            running[name] = None
        elif kind == "test" and outcomes.get(word):
            running.pop(name, None)
            text = event.get("stdout") or event.get("message") or ""
            why = text if isinstance(text, str) and word == "failed" else ""
            collector.add(_id(binary, name), outcomes[word], why, number(event.get("exec_time", 0)))
    if not seen:
        return None
    problem = "the report breaks off before its end" if suite_open else ""
    return collector.results(problem, _id(binary, next(reversed(running))) if running else "")
