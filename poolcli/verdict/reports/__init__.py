"""From what a runner left behind to results per test: its report first, its output where there is none.

`read_report` reads a file or a folder of the kind that a recipe asked for, `from_log` an output, and `checked`
compares the outcome with the process's exit code. None of them raises for what a runner wrote.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from poolcli.verdict.failures import plain
from poolcli.verdict.results import BAD, Results

#: What a run that named no test is called.
NOTHING = "no test result could be read from it"
#: Characters of an output that are read: head and tail are enough where a test prints without end.
MOST_OUTPUT = 32_000_000
#: What a missing tool looks like: the shell's codes for "cannot execute" and "not found".
_NO_COMMAND = (126, 127)

#: The kinds of reports, as recipes call them.
KINDS = (
    "junit",
    "ctest-junit",
    "tap",
    "go-json",
    "jest-json",
    "vitest-json",
    "mocha-json",
    "rspec-json",
    "cargo-json",
)


def read_report(kind: str, path: Path, *, root: str) -> Results | None:
    """The results in a report; None when there is no such file, or it is no report of this kind.

    `root` is the folder that the runner ran in, and is taken out of ids and texts.
    """
    if kind in ("junit", "ctest-junit"):
        from poolcli.verdict.reports import junit

        return junit.read(path, root=root)
    from poolcli.verdict.reports.collecting import read_text

    text = read_text(path)
    if text is None:
        return None
    text = plain(text)
    match kind:
        case "tap":
            from poolcli.verdict.reports import tap

            return tap.parse(text, root)
        case "go-json":
            from poolcli.verdict.reports import go_json

            return go_json.parse_json(text, root)
        case "jest-json" | "vitest-json":
            from poolcli.verdict.reports import jest_json

            return jest_json.parse(text, root)
        case "mocha-json":
            from poolcli.verdict.reports import mocha_json

            return mocha_json.parse(text, root)
        case "rspec-json":
            from poolcli.verdict.reports import rspec_json

            return rspec_json.parse(text, root)
        case "cargo-json":
            from poolcli.verdict.reports import cargo_log

            return cargo_log.parse(text, root)
        case _:
            return None


#: Readers of logs, by the runner that a recipe names; the readers of others are tried after it.
_FIRST = {
    "pytest": "pytest",
    "nox": "pytest",
    "tox": "pytest",
    "unittest": "unittest",
    "cargo": "cargo",
    "go": "go",
    "ctest": "ctest",
    "prove": "prove",
    "node-test": "tree",
    "jest": "tree",
    "vitest": "tree",
    "mocha": "tree",
    "minitest": "minitest",
    "rspec": "rspec",
}
#: Runners that start no other: what they print is theirs, and reading it in a dozen ways costs as many imports.
_ALONE = ("pytest", "unittest")
_ORDER = (
    *("pytest", "unittest", "cargo", "ctest", "prove", "minitest", "go-json", "go"),
    *("jest", "rspec", "mocha", "tree", "tap"),
)


def from_log(
    runner: str, output: str, *, root: str, exit_code: int | None, timed_out: bool = False
) -> Results:
    """The results that an output tells of, already checked. `runner` says which format is likeliest."""
    if len(output) > MOST_OUTPUT:
        output = output[: MOST_OUTPUT // 2] + "\n" + output[-MOST_OUTPUT // 2 :]
    output = plain(output)
    first = _FIRST.get(runner)
    results: Results | None = None
    others = () if runner in _ALONE or not output.strip() else _ORDER
    for name in dict.fromkeys(filter(None, (first, *others))):
        results = _read_log(name, output, root)
        if results is not None and (results.cases or results.problem or results.hung):
            break
    results = results or Results(source="log")
    if exit_code != 0 and not results.crashed and (results.problem or not results.cases) and not timed_out:
        from poolcli.verdict.reports import deaths

        # A test may print such words; they count where the run did not get to its end.
        results = replace(results, crashed=deaths.by_output(output))
    if not results.cases and not results.problem:
        results = replace(results, problem=_counted_only(output, root))
    return checked(results, exit_code, timed_out)


def _read_log(name: str, output: str, root: str) -> Results | None:
    if name in ("pytest", "unittest"):
        from poolcli.verdict.reports import python_log

        return (python_log.pytest if name == "pytest" else python_log.unittest)(output, root)
    match name:
        case "cargo":
            from poolcli.verdict.reports import cargo_log

            return cargo_log.parse(output, root)
        case "ctest":
            from poolcli.verdict.reports import ctest_log

            return ctest_log.parse(output, root)
        case "prove":
            from poolcli.verdict.reports import prove_log

            return prove_log.parse(output, root)
        case "minitest":
            from poolcli.verdict.reports import minitest_log

            return minitest_log.parse(output, root)
        case "go-json" | "go":
            from poolcli.verdict.reports import go_json

            return (go_json.parse_json if name == "go-json" else go_json.parse_verbose)(output, root)
        case "jest":
            from poolcli.verdict.reports import jest_json

            return jest_json.parse(output, root) if '"testResults"' in output else None
        case "mocha":
            from poolcli.verdict.reports import mocha_json

            return mocha_json.parse(output, root) if '"stats"' in output or '["start"' in output else None
        case "rspec":
            from poolcli.verdict.reports import rspec_json

            return rspec_json.parse(output, root) if '"examples"' in output else None
        case "tree":
            from poolcli.verdict.reports import tree_log

            return tree_log.parse(output, root)
        case _:
            from poolcli.verdict.reports import tap

            return tap.parse(output, root) if _looks_like_tap(output) else None


def _looks_like_tap(output: str) -> bool:
    """A word `ok` alone is written by many tools; a plan or a version says that TAP is meant."""
    head = output[:200_000]
    return (
        "TAP version 1" in head or head.startswith("1..") or "\n1.." in head or "\n1.." in output[-200_000:]
    )


def _counted_only(output: str, root: str) -> str:
    """What to say when a runner gave its counts and no names."""
    from poolcli.verdict import count_lines
    from poolcli.verdict.evidence import count_line

    counts = count_lines.parse(output, root)
    if counts is None or not counts.passed + counts.failed + counts.skipped:
        return ""
    return f"the output gives only counts ({count_line(counts)}); per test they are known from a report only"


def checked(results: Results, exit_code: int | None, timed_out: bool = False) -> Results:
    """The results, with what the process's end says about them.

    A report that says "all passed" counts only when the process agrees, and the other way round: exit code 0 with
    failed tests, another code without any, no test at all and a death in the middle are problems, never success.
    """
    crashed = results.crashed or ("" if timed_out else deaths_by_exit(exit_code))
    said = "" if timed_out else results.problem
    problem = said or _contradiction(results, exit_code, timed_out, crashed)
    # What was running when a crash came did not hang.
    if crashed and results.hung and results.hung not in crashed:
        crashed = f"{crashed}, in {results.hung}"
    if not timed_out and results.hung and not crashed and exit_code is not None:
        # It ended by itself, in the middle of a test and without a report: os._exit and the like.
        crashed = f"ended in the middle, in {results.hung}, with {_code(exit_code)}"
    hung = results.hung if timed_out else ""
    return replace(results, problem=problem, crashed=crashed, hung=hung)


def deaths_by_exit(exit_code: int | None) -> str:
    """How the process died by its exit code, '' when it ended by itself."""
    from poolcli.verdict.reports import deaths

    return deaths.by_exit(exit_code)


def _contradiction(results: Results, exit_code: int | None, timed_out: bool, crashed: str) -> str:
    bad = results.count(*BAD)
    total = len(results.cases)
    if timed_out:
        return "the time was over before the run was"
    if crashed:
        return ""
    if exit_code in _NO_COMMAND and not total:
        return f"the command could not be run ({_code(exit_code)})"
    if not total:
        found = "no test was found to run" if exit_code == 5 else NOTHING
        return f"{found} ({_code(exit_code)})"
    if exit_code is None:
        return "the run did not end by itself"
    if exit_code == 0 and bad:
        return f"exit code 0 although {bad} of {total} tests failed: the process and its report disagree"
    if exit_code != 0 and not bad:
        return f"{_code(exit_code)} although none of {total} tests failed: something besides the tests went wrong"
    return ""


def _code(exit_code: int | None) -> str:
    return "no exit code" if exit_code is None else f"exit code {exit_code}"
