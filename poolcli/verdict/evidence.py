"""Turns the output of a checks command into a verdict and into the few lines that a model needs to see.

Pure and quick: called after every run of the checks, and a million times when training data is made.
The form of the text is part of what the demonstration model was trained on; tests pin it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from poolcli.verdict import pytest_output, unittest_output
from poolcli.verdict.failures import Failure, Parsed, clip, plain, strip_root
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import BAD, Results

if TYPE_CHECKING:
    from poolcli.process import Finished


def _counts(output: str, root: str) -> Parsed | None:
    from poolcli.verdict import count_lines  # 1.5 ms that most runs do not need

    return count_lines.parse(output, root)


#: What Python says when it finds no such runner.
_MISSING = re.compile(r"^\S+: No module named (?:pytest|unittest)$", re.M)

#: Each reads one runner's output, or gives None. The first that recognises the output wins. What these make of an
#: output goes before a report: it is shorter, and models are used to it.
RECOGNISERS: tuple[Callable[[str, str], Parsed | None], ...] = (pytest_output.parse, unittest_output.parse)

#: How long pytest took, in its last line: another number each time.
_TOOK = re.compile(r"(?<=\d [a-z]{6}) in \d+\.\d+s(?: \([\d:]+\))?(?=(?: =+)?$)", re.M)

#: What is left of the output of checks that passed, when nothing in it is recognised.
BRIEF = 600

#: Failures shown in full; a model that fixes these runs the checks again.
IN_FULL = 3


class Report(Struct, frozen=True):
    """The result of one run of the checks.

    `status` is `passed`, `failed`, `timeout`, `error` (the command could not start) or `none` (no test ran).
    `counts` is {passed, failed, skipped} and `tests` outcome by test id, where the output told; `text` is the
    evidence as the model reads it; `seconds` is how long the run took.
    """

    status: str
    exit_code: int | None
    seconds: float
    counts: dict[str, int] | None
    tests: dict[str, str] = field(default_factory=dict)
    text: str = ""
    #: Test by test, where a recipe says how that is read.
    results: Results = field(default_factory=Results)
    #: How many tests were chosen to run; 0 for all of them.
    chosen: int = 0
    #: What was run instead of the checks themselves, in words; '' when it was they.
    note: str = ""
    #: What gave these results: the recipe of the checks, or what it fell back on.
    recipe: Recipe | None = None
    #: False when it did not come to the tests, because the build failed.
    built: bool = True
    #: Failed tests that fail now and then without any change: they do not count.
    flaky: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the checks passed."""
        return self.status == "passed"


def report(finished: Finished, *, root: str, limit: int = 4000, results: Results | None = None) -> Report:
    """The report on a finished command. `root` is the worktree's path, which the text never shows."""
    return condense(
        finished.output,
        root=root,
        exit_code=finished.exit_code,
        timed_out=finished.timed_out,
        limit=limit,
        seconds=finished.seconds,
        results=results,
    )


def condense(
    output: str,
    *,
    root: str,
    exit_code: int | None,
    timed_out: bool = False,
    limit: int = 4000,
    seconds: float = 0.0,
    results: Results | None = None,
) -> Report:
    """The report on a command that wrote `output`. The text has at most about `limit` characters.

    `results` are what was read test by test, `checked` against the exit code; None when nobody could read that.
    """
    output = plain(output)
    root = root.rstrip("/")
    results = results or Results()
    parsed = next(filter(None, (read(output, root) for read in RECOGNISERS)), None)
    if parsed is None and results.cases:
        parsed = _of_results(results)
    if parsed is None:
        parsed = _counts(output, root)
    status = "error" if _no_runner(output) else _status(parsed, exit_code, timed_out)
    if status == "passed" and results.bad:
        status = "failed"  # the report says so, whatever the exit code and the output say
    end = _end(exit_code, timed_out, results)
    if parsed is None:
        room = min(limit, BRIEF) if status == "passed" else limit
        text = _excerpt(strip_root(output, root), room - len(end) - 1)
        text = f"{text}\n{end}" if text else end
    else:
        text = _summary(parsed, limit)
        if status in ("timeout", "error") or (status == "failed" and not parsed.failures):
            # What was understood does not explain how the command ended: show the output itself.
            rest = limit - len(text) - len(end) - 2
            text = "\n".join(filter(None, (_excerpt(strip_root(output, root), rest), text, end)))
    counts = {"passed": parsed.passed, "failed": parsed.failed, "skipped": parsed.skipped} if parsed else None
    tests = {case.id: case.outcome for case in results.cases.values()} or (parsed.tests if parsed else {})
    return Report(status, exit_code, seconds, counts, tests, strip_root(text, root), results)


def _of_results(results: Results) -> Parsed:
    """What a report says, in the form in which outputs are read; failures by name, whatever order they ran in."""
    failures = tuple(
        Failure(f"{'ERROR' if case.outcome == 'error' else 'FAIL'} {case.id}", tuple(case.text.splitlines()))
        for case in sorted(results.cases.values(), key=lambda case: case.id)
        if case.outcome in BAD
    )
    passed = results.count("passed", "xfailed", "xpassed")
    return Parsed(passed, len(failures), results.count("skipped"), failures)


def _status(parsed: Parsed | None, exit_code: int | None, timed_out: bool) -> str:
    if timed_out:
        return "timeout"
    if parsed is None:
        if exit_code in (126, 127):  # the shell's codes for "cannot execute" and "not found"
            return "error"
        return "passed" if exit_code == 0 else "failed"
    if parsed.failed:
        return "failed"
    if exit_code == 0:
        return "passed" if parsed.passed else "none"
    # 5 is how pytest and unittest say that they found nothing to run.
    return "none" if exit_code == 5 and not parsed.passed else "failed"


def _no_runner(output: str) -> bool:
    """Whether Python could not even find the test runner."""
    return len(output) < 500 and _MISSING.search(output) is not None


def _end(exit_code: int | None, timed_out: bool, results: Results) -> str:
    """How the command ended, in a line, and in the middle of which test where that is known."""
    if timed_out:
        return f"timed out in {results.hung}" if results.hung else "timed out"
    if results.crashed:
        return results.crashed
    if exit_code is None:
        return "did not end by itself"
    return f"exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"


def count_line(parsed: Parsed) -> str:
    """`1 failed, 3 passed, 2 skipped`; parts that are zero are left out."""
    parts = [(parsed.failed, "failed"), (parsed.passed, "passed"), (parsed.skipped, "skipped")]
    return ", ".join(f"{number} {word}" for number, word in parts if number) or "no tests ran"


def _summary(parsed: Parsed, limit: int) -> str:
    """The first failures in full, the others by name, the counts."""
    last = count_line(parsed)
    shown, others = parsed.failures[:IN_FULL], parsed.failures[IN_FULL:]
    lines: list[str] = []
    # A quarter is kept for names, so that one long failure cannot hide that there are others.
    room = limit - len(last) - 1
    for number, failure in enumerate(shown):
        share = (room - (limit // 4 if others else 0)) // (len(shown) - number)
        block = _block(failure, share)
        lines += block
        room -= sum(len(line) + 1 for line in block)
    lines += _names(others, room)
    return "\n".join([*lines, last])


def _block(failure: Failure, room: int) -> list[str]:
    """A failure within `room` characters; its first lines matter most."""
    lines = [clip(failure.title, max(room - 1, 1))]
    room -= len(lines[0]) + 1
    for number, line in enumerate(failure.lines):
        left = len(failure.lines) - number
        # 20 characters for the line that says how much was left out.
        if len(line) + 1 > room - (20 if left > 1 else 0):
            return [*lines, f"… {left} more lines"] if room > 20 else lines
        lines.append(line)
        room -= len(line) + 1
    return lines


def _names(failures: tuple[Failure, ...], room: int) -> list[str]:
    lines: list[str] = []
    for number, failure in enumerate(failures):
        if len(failure.title) + 1 > room - 24:
            return [*lines, f"… {len(failures) - number} more failed"]
        lines.append(failure.title)
        room -= len(failure.title) + 1
    return lines


def _excerpt(text: str, limit: int) -> str:
    """Head and tail of the text within `limit` characters, cut at line ends where that is possible."""
    text = _TOOK.sub("", text).strip("\n").rstrip()
    if len(text) <= limit:
        return text
    room = limit - 32  # for the line that says how much was left out
    if room < 64:
        return clip(text, max(limit, 1))
    # The end of an output says what went wrong more often than its beginning.
    head, tail = text[: room // 3], text[-(room - room // 3) :]
    head = head[: head.rfind("\n")] if "\n" in head else head
    tail = tail[tail.find("\n") + 1 :] if "\n" in tail else tail
    return f"{head}\n… {len(text) - len(head) - len(tail)} characters left out …\n{tail}"
