"""Reads `go test -json` and `go test -v`: events and lines per test, packages that did not build, tests that hang."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector, number
from poolcli.verdict.results import Results

_DONE = {"pass": "passed", "fail": "failed", "skip": "skipped"}
_WORDS = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
#: `no newline--- PASS: TestA (0.00s)`: what a test printed without a line end stands before it.
_RESULT = re.compile(r"--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)")
_PACKAGE = re.compile(r"(ok  |FAIL|---|\?   )\t(\S+)(?:\t| |$)(.*)")
_BUILD = re.compile(r"FAIL\t(\S+) \[(build failed|setup failed)\]")
_RUN = re.compile(r"=== (?:RUN|CONT|NAME) +(\S+)")
_TIMEOUT = re.compile(r"panic: test timed out after (\S+)")
_RUNNING = re.compile(r"\s+(\S+) \([0-9.a-zµ]+\)\Z")


class _Event(Struct):
    Action: str = ""
    Package: str = ""
    Test: str = ""
    Output: str = ""
    Elapsed: float | None = None
    ImportPath: str = ""
    FailedBuild: str = ""


_DECODER = msgspec.json.Decoder(_Event)


class _Run:
    """Tests that began, by package, with what they printed."""

    def __init__(self, root: str, source: str) -> None:
        self.collector = Collector(root, source)
        self.open: dict[tuple[str, str], list[str]] = {}
        self.ended: set[tuple[str, str]] = set()
        self.broken: dict[str, str] = {}
        self.timed_out = ""
        self.packages_open: dict[str, None] = {}

    def began(self, package: str, test: str) -> None:
        if (package, test) not in self.open:
            self.open[package, test] = []
            self.ended.discard((package, test))  # `-count=2` runs it again

    def printed(self, package: str, test: str, text: str) -> None:
        if (package, test) in self.open:
            self.open[package, test].append(text[:LOOKED_AT])
        elif match := _TIMEOUT.match(text):
            self.timed_out = match[1]

    def finished(self, package: str, test: str, outcome: str, seconds: float) -> None:
        lines = self.open.pop((package, test), None)
        if lines is None and (package, test) in self.ended:
            return  # the event after the line that said the same
        self.ended.add((package, test))
        why = [line for line in lines or () if not line.startswith("=== ") and "--- PASS: " not in line]
        text = "".join(why) if outcome in ("failed", "skipped") else ""
        self.collector.add(f"{package}.{test}" if package else test, outcome, text, seconds)

    def package_failed(self, package: str) -> None:
        """What still runs when its package ends has died with it."""
        for _, test in [key for key in self.open if key[0] == package]:
            self.finished(package, test, "failed", 0.0)

    def results(self, problem: str, crashed: str) -> Results:
        running = [f"{package}.{test}" if package else test for package, test in self.open]
        # The innermost test of the last package is the one that hangs.
        return self.collector.results(problem, running[-1] if running else "", crashed)


def parse_json(text: str, root: str) -> Results | None:
    """The cases of `go test -json`; lines that are no events (a build's errors) are read as such."""
    run = _Run(root, "go-json")
    seen = False
    build: dict[str, list[str]] = {}
    failed_packages: set[str] = set()
    with_failures: set[str] = set()
    hung: list[str] = []
    for line in text.split("\n"):
        event = _event(line)
        if event is None:
            if match := _BUILD.match(line):
                seen = True
                run.broken[match[1]] = match[2]
            continue
        seen = seen or bool(event.Action and (event.Package or event.ImportPath))
        package, test = event.Package, event.Test
        run.packages_open.setdefault(package)
        if event.Action == "build-output":
            build.setdefault(event.ImportPath, []).append(event.Output[:LOOKED_AT])
        elif event.Action in ("build-fail",):
            run.broken.setdefault(event.ImportPath.partition(" ")[0], "build failed")
        elif event.Action == "run":
            run.began(package, test)
        elif event.Action == "output":
            if match := _BUILD.match(event.Output):
                run.broken[match[1]] = match[2]
            if _TIMEOUT.match(event.Output):
                hung += [f"{key[0]}.{key[1]}" for key in run.open if key[0] == package][-1:]
            if test and (match := _RESULT.search(event.Output)) and match[2] == test:
                # Some releases leave the event out when a test prints no line end.
                outcome = _WORDS[match[1]]
                if match.start() and not event.Output[: match.start()].isspace():
                    run.finished(package, test, outcome, number(match[3]))
                    with_failures |= {package} if outcome == "failed" else set()
            else:
                run.printed(package, test, event.Output)
        elif test and event.Action in _DONE:
            with_failures |= {package} if event.Action == "fail" else set()
            run.finished(package, test, _DONE[event.Action], event.Elapsed or 0.0)
        elif event.Action in _DONE:
            run.packages_open.pop(package, None)
            if event.Action == "fail":
                failed_packages.add(package)
                if any(key[0] == package for key in run.open):
                    with_failures.add(package)
                run.package_failed(package)
    if not seen:
        return None
    for package, why in run.broken.items():
        output = next(
            ("".join(lines) for name, lines in build.items() if name.partition(" ")[0] == package), ""
        )
        run.collector.add(f"{package} [{why}]", "error", output or why)
    # A package can fail without a test that does: TestMain, os.Exit, a panic outside of tests.
    for package in sorted(failed_packages - with_failures - run.broken.keys()):
        run.collector.add(
            f"{package} [package failed]", "error", "the package failed, and none of its tests did"
        )
    run.packages_open.pop("", None)
    problem = "the report ends before its packages did: the run broke off" if run.packages_open else ""
    results = run.results(problem, "")
    return msgspec.structs.replace(results, hung=hung[-1]) if hung else results


def _event(line: str) -> _Event | None:
    if not line.startswith("{"):
        return None
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None


def parse_verbose(output: str, root: str) -> Results | None:
    """The cases of `go test` and `go test -v`. A package's name stands below its tests."""
    if not any(
        mark in output for mark in ("--- PASS: ", "--- FAIL: ", "--- SKIP: ", "=== RUN ", "ok  \t", "FAIL\t")
    ):
        return None
    run = _Run(root, "go-log")
    found: list[tuple[str, str, float]] = []
    printed: dict[str, list[str]] = {}
    current = hung = ""
    began: dict[str, None] = {}
    failed = False
    any_package = False
    for line in output.split("\n"):
        if len(line) > LOOKED_AT:
            continue
        if match := _RUN.match(line):
            current = match[1]
            began[current] = None
        elif (match := _RESULT.search(line)) is not None:
            current = match[2]
            found.append((current, _WORDS[match[1]], number(match[3])))
            began.pop(current, None)
        elif match := _BUILD.match(line):
            any_package = True
            run.broken[match[1]] = match[2]
        elif match := _PACKAGE.match(line):
            any_package = True
            failed = match[1] == "FAIL"
            for test, outcome, seconds in found:
                text = "\n".join(printed.get(test, ())) if outcome != "passed" else ""
                run.collector.add(f"{match[2]}.{test}", outcome, text, seconds)
            named = any(outcome == "failed" for _, outcome, _ in found)
            for test in began:
                run.collector.add(f"{match[2]}.{test}", "failed", "\n".join(printed.get(test, ())))
            if hung:
                hung = f"{match[2]}.{hung}" if "." not in hung.partition("/")[0] else hung
            if failed and not named and not began:
                run.collector.add(
                    f"{match[2]} [package failed]", "error", "the package failed, and none of its tests did"
                )
            found, printed, began, current = [], {}, {}, ""
        elif _TIMEOUT.match(line):
            hung = next(iter(reversed(began)), "")
        elif current and line not in ("FAIL", "PASS") and len(lines := printed.setdefault(current, [])) < 200:
            lines.append(line)
    for test, outcome, seconds in found:
        run.collector.add(
            test, outcome, "\n".join(printed.get(test, ())) if outcome != "passed" else "", seconds
        )
    for package, why in run.broken.items():
        run.collector.add(f"{package} [{why}]", "error", why)
    if not run.collector.cases and not any_package:
        return None
    problem = "" if not (found or began) else "the output ends before its package did: the run broke off"
    if not problem and "=== RUN " not in output and ("\nok  \t" in output or output.startswith("ok  \t")):
        problem = "the output names failed tests only; the others are named with `-v` or `-json`"
    hung = hung or next(iter(reversed(began)), "")
    return run.collector.results(problem, hung)
