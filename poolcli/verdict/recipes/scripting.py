"""RSpec and minitest, PHPUnit, and Perl's prove."""

from __future__ import annotations

import re
from collections.abc import Sequence

from poolcli.verdict.recipes.shell import Way, alternatives, quoted

#: What may stand before a method's name: `CalcTest#test_add`, `CalcTest::test_add`, `calc_test.rb > test_add`.
_METHOD = re.compile(r"#|::(?=test)|\.(?=test)| > ")


def _rspec_report(command: str, report: str) -> str:
    return f"{command} --format progress --format json --out {report}"


def _rspec_select(command: str, tests: Sequence[str]) -> str:
    words = []
    for test in tests:
        # `./spec/a_spec.rb[1:2]`, `spec/a_spec.rb:12` and files are places; the rest are descriptions.
        if re.search(r"_spec\.rb(?:\[[\d:,]+\]|:\d+)?$", test):
            words.append(quoted(test))
        else:
            name = test.partition(" > ")[2] if "_spec.rb > " in test else test
            words.append(f"-e {quoted(name.replace(' > ', ' '))}")
    return " ".join([command, *words])


def _minitest_names(tests: Sequence[str]) -> str:
    """The pattern for -n: names of methods, as minitest writes them (`CalcTest#test_add`)."""
    names = [_METHOD.split(test)[-1] for test in tests]
    return f"/{alternatives(names)}$/"


def _minitest_select(command: str, tests: Sequence[str]) -> str:
    files = [test for test in tests if test.endswith(".rb")]
    if files and len(files) < len(tests):
        return ""
    if command.endswith("rails test"):
        return " ".join([command, *map(quoted, files or ["-n", _minitest_names(tests)])])
    if re.search(r"(?:^| )rake test$", command):
        if files:
            return f"{_minitest_detail(command)} TEST={quoted(files[0])}" if len(files) == 1 else ""
        return f"{command} TESTOPTS={quoted('-v -n ' + quoted(_minitest_names(tests)))}"
    if files:
        start = command.partition(" -e ")[0]
        loads = "; ".join(f"load {_ruby(file)}" for file in files)
        return _minitest_detail(f"{start} -e {quoted(loads)}")
    return f"{_minitest_detail(command)} -n {quoted(_minitest_names(tests))}"


def _minitest_detail(command: str) -> str:
    if re.search(r"(?:^| )rake test$", command):
        return f"{command} TESTOPTS=-v"
    if " -e " in command:
        # `--` ends ruby's own options: the rest is minitest's.
        return command if command.endswith(" -- -v") else f"{command} -- -v"
    return f"{command} -v"


def _ruby(path: str) -> str:
    """A string of Ruby that no character of a file's name can leave."""
    return '"./' + re.sub(r'(["\\#])', r"\\\1", path.removeprefix("./")) + '"'


def _phpunit_report(command: str, report: str) -> str:
    return f"{command} --log-junit {report}"


def _phpunit_select(command: str, tests: Sequence[str]) -> str:
    files = [test for test in tests if test.endswith(".php")]
    if files:
        return f"{command} {quoted(files[0])}" if len(files) == len(tests) == 1 else ""
    names = []
    for test in tests:
        # `Some\Space\CalcTest::testAdd with data set "x"`: the set is chosen by the method as a whole.
        owner, _, method = re.sub(r" with data set .*$", "", test.replace(" > ", "::")).rpartition("::")
        if not owner:
            owner, _, method = test.rpartition(".")
        names.append(f"{owner.rpartition(chr(92))[2].rpartition('.')[2]}::{method}" if owner else method)
    return f"{command} --filter {quoted(f'/{alternatives(names)}( .*)?$/')}"


def _prove_detail(command: str) -> str:
    """The lines of TAP of every script, under the script's name."""
    return re.sub(r"\bprove\b", "prove -v", command, count=1)


def _prove_select(command: str, tests: Sequence[str]) -> str:
    files = sorted({test.split(" > ")[0] for test in tests})
    if not all(file.endswith(".t") for file in files):
        return ""
    return _prove_detail(" ".join([re.sub(r" t$", "", command), *map(quoted, files)]))


WAYS = {
    "rspec": Way(_rspec_report, _rspec_select),
    "minitest": Way(None, _minitest_select, _minitest_detail),
    "phpunit": Way(_phpunit_report, _phpunit_select),
    "prove": Way(None, _prove_select, _prove_detail),
}
