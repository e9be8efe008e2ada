"""Go, Rust, CMake and make."""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.verdict.recipes.python import by_environment
from poolcli.verdict.recipes.shell import Way, alternatives, inserted, quoted

_GO = r"\bgo +test\b"
#: A Go test's own name, behind the package: `example.com/m/pkg.TestA/case`.
_GO_TEST = re.compile(
    r"^(?:(?P<package>.*?)(?:\.| > | |::))?(?P<name>(?:Test|Example|Fuzz|Benchmark)[^/]*)(?:/.*)?$"
)


def _go_report(command: str, report: str) -> str:
    # The report is the output itself, as events; what the compiler says stays visible.
    return inserted(command, _GO, "-json") + f" > {report}"


def _go_detail(command: str) -> str:
    """Names the tests that pass, too."""
    return inserted(command, _GO, "-v")


def _go_select(command: str, tests: Sequence[str]) -> str:
    found = [_GO_TEST.match(test) for test in tests if not test.endswith(".go")]
    files = [f"./{test.rpartition('/')[0]}" for test in tests if test.endswith(".go")]
    if any(match is None for match in found):
        return ""
    names = [match["name"] for match in found if match]
    packages = sorted({*files, *(match["package"] or "./..." for match in found if match)})
    pattern = "" if files else f"-run {quoted(f'^{alternatives(names)}$')} "
    if "./..." in packages:
        packages = ["./..."]
    command = command.replace("./...", "").rstrip()
    return inserted(command, _GO, pattern + " ".join(map(quoted, packages)))


_CARGO = r"\bcargo +test\b"


def _cargo_detail(command: str) -> str:
    """Dots instead of names would tell nothing, and the first failing binary hides all behind it."""
    command = re.sub(r"(cargo +test\b.*?) (?:-q|--quiet)\b", r"\1", command)
    return command if "--no-fail-fast" in command else inserted(command, _CARGO, "--no-fail-fast")


def _cargo_select(command: str, tests: Sequence[str]) -> str:
    if any(test.endswith(".rs") for test in tests):
        return ""  # which binary a file is part of cannot be told from its name
    names = _parts(tests)
    if any(name.startswith("-") for name in names):
        return ""
    separator = " " if " -- " in command else " -- "
    return _cargo_detail(command) + separator + " ".join(map(quoted, names))


def _parts(tests: Sequence[str]) -> list[str]:
    """What Rust's runners look for in names: ids without the crate, which the tests themselves do not know.

    Parts of names match: `adds` also runs `adds_more`.
    """
    names = {test if " - " in test else re.split(r" > | ", test)[-1] for test in tests}
    return sorted({name if " - " in name else name.partition("::")[2] or name for name in names})


_NEXTEST = r"\bcargo +nextest +run\b"


def _nextest_report(command: str, report: str) -> str:
    # Its report can only be asked for in a file; an absolute path in it is taken as it is.
    word = report.strip("'")
    config = quoted(f'[profile.default.junit]\npath = "{word}"\n')
    file = quoted(f"{word}.toml")
    run = inserted(command, _NEXTEST, f"--no-fail-fast --tool-config-file pool:{file}")
    return f"printf %s {config} > {file} && {run}"


def _nextest_select(command: str, tests: Sequence[str]) -> str:
    names = _parts(tests)
    if any(test.endswith(".rs") for test in tests) or any(name.startswith("-") for name in names):
        return ""
    return " ".join([command, *map(quoted, names)])


_CTEST = r"(?<![\w./-])ctest(?![\w./-])"


def _ctest_report(command: str, report: str) -> str:
    return inserted(command, _CTEST, f"--output-junit {report}")  # since CMake 3.21


def _ctest_select(command: str, tests: Sequence[str]) -> str:
    return inserted(command, _CTEST, f"-R {quoted('^' + alternatives(tests) + '$')}")


WAYS = {
    "go": Way(_go_report, _go_select, _go_detail),
    "cargo": Way(None, _cargo_select, _cargo_detail),
    "nextest": Way(_nextest_report, _nextest_select),
    "ctest": Way(_ctest_report, _ctest_select),
    # Only for a target that starts pytest: others get no report_kind.
    "make": Way(by_environment),
}
