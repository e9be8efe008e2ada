"""pytest, unittest, nox and tox.

pytest's junit report is asked for in its older form, `xunit1`: that one names the file of every test, from which
its node id can be told without guessing. A report has to be about all tests, so what would stop early is turned
off: `-x` of the project's own options, and the end of everything at the first module that cannot be imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.verdict.recipes.shell import Way, quoted

#: What makes a report complete.
_OPTIONS = "-o junit_family=xunit1 --maxfail=0 --continue-on-collection-errors"

#: Configured options that can stop everything: a coverage gate, a plugin that is not installed.
WITHOUT_OPTIONS = "-o addopts= -o required_plugins="


def _pytest_report(command: str, report: str) -> str:
    return f"{command} --junitxml={report} {_OPTIONS}"


def _pytest_select(command: str, tests: Sequence[str]) -> str:
    return " ".join([command, *map(quoted, tests)])


def _unittest_select(command: str, tests: Sequence[str]) -> str:
    # -k has to match a part of the full name; with the whole name it matches one test. A file stands for its module.
    names = [test.removesuffix(".py").replace("/", ".") if test.endswith(".py") else test for test in tests]
    if any(re.search(r"[*?\[]", name) for name in names):
        return ""  # a pattern of its own meaning
    start = re.search(r" -s (\S+)", command)
    prefix = start[1].strip("'").replace("/", ".") + "." if start else ""
    return " ".join([command, *(f"-k {quoted(name.removeprefix(prefix))}" for name in names)])


def _unittest_detail(command: str) -> str:
    """Names the tests that pass, too."""
    return command if re.search(r" (?:-v|--verbose)(?: |$)", command) else f"{command} -v"


def by_environment(command: str, report: str) -> str:
    """For whatever starts pytest in the end and passes its environment on."""
    options = f"--junitxml={report} {_OPTIONS}"
    # What the environment already asks for stays.
    return f'PYTEST_ADDOPTS="${{PYTEST_ADDOPTS-}} "{_nested(options)} {command}'


def _tox_report(command: str, report: str) -> str:
    # tox passes only the variables on that it is told to.
    return by_environment(f"TOX_OVERRIDE=testenv.pass_env+=PYTEST_ADDOPTS {command}", report)


def _nested(text: str) -> str:
    """Text with a quoted path in it, as one word: PYTEST_ADDOPTS is read like a command line once more."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


WAYS = {
    "pytest": Way(_pytest_report, _pytest_select),
    "unittest": Way(None, _unittest_select, _unittest_detail),
    "nox": Way(by_environment),
    "tox": Way(_tox_report),
    "make": Way(by_environment),
}
