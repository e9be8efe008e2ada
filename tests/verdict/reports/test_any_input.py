"""No input crashes a reader, and none makes it slow: time grows with the length, not with its square."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.verdict.reports import KINDS, checked, from_log, read_report
from poolcli.verdict.results import OUTCOMES, Results

RUNNERS = tuple("pytest unittest cargo go ctest prove node-test jest vitest mocha minitest rspec ?".split())

#: Pieces that the readers react to, whole and halved.
PIECES = st.sampled_from(
    [
        "=== test session starts ===\n",
        "a.py::t PASSED [ 50%]\n",
        "a.py::t[x - y] FAILED",
        "= FAILURES =\n",
        "___ t ___\n",
        "E   no\n",
        "=== short test summary info ===\n",
        "FAILED a.py::t - no\n",
        "SUBFAILED(i=0) a.py::t - x\n",
        "1 failed, 2 passed in 0.1s\n",
        "t (m.C.t) ... ",
        "ok\n",
        "Ran 3 tests in 0.1s\n",
        "\nFAILED (failures=1)\n",
        "FAIL: t (m.C.t)\n",
        "=" * 70 + "\n",
        "-" * 70 + "\n",
        "running 2 tests\n",
        "test a ... ",
        "FAILED\n",
        "test result: ok. 1 passed; 0 failed; 0 ignored;",
        "     Running unittests src/lib.rs (target/debug/deps/a-0)\n",
        "---- a stdout ----\n",
        "failures:\n",
        "process didn't exit successfully: `a` (signal: 11, SIGSEGV)",
        "=== RUN   TestA\n",
        "--- PASS: TestA (0.00s)\n",
        "ok  \tp\t0.1s\n",
        "FAIL\tp [build failed]\n",
        "panic: test timed out after 1s",
        '{"Action":"run","Package":"p","Test":"T"}\n',
        '{"Action":"fail","Package":"p"}\n',
        '{"Action":',
        "TAP version 13\n",
        "1..3\n",
        "ok 1 - a\n",
        "not ok 2 - b # TODO x\n",
        "    ok 1 - c\n",
        "# Subtest: d\n",
        "  ---\n",
        "  ...\n",
        "Bail out!\n",
        "a.t .. \n",
        "Files=1, Tests=2, \n",
        "Result: FAIL\n",
        "1/2 Test #1: a ....   Passed    0.01 sec\n",
        "    Start 1: a\n",
        "100% tests passed, 0 tests failed out of 2\n",
        "PASS a.js\n",
        "  ✓ a (1 ms)\n",
        "  ● a › b\n",
        "▶ s\n",
        "  1) x\n",
        "Tests:  1 failed, 2 total\n",
        "ℹ tests 3\n",
        "  2 passing (1ms)\n",
        " FAIL  a > b\n",
        "C#t = 0.00 s = F\n",
        "2 runs, 1 assertions, 1 failures, 0 errors, 0 skips\n",
        '{"testResults":[{"name":1,"assertionResults":[3,{}]}]}',
        '{"stats":{},"tests":[{}],"failures":[{"err":3}]}',
        '{"examples":[{"status":"failed","exception":[]}],"summary":[]}',
        "<testsuite>",
        '<testcase name="a" classname="b.c">',
        "<failure/>",
        "</testcase>",
        "</testsuite>",
        "<![CDATA[",
        "\x1b[31m",
        "\r\n",
    ]
)
TEXT = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=30).map("".join)


def sound(results: Results) -> None:
    assert all(case.id == key and case.outcome in OUTCOMES for key, case in results.cases.items())
    if not results.cases:
        assert not results.judged


@settings(max_examples=400, deadline=None)
@given(TEXT, st.sampled_from(RUNNERS), st.sampled_from([0, 1, 5, 139, -9, None]), st.booleans())
def test_logs(text, runner, code, late):
    results = from_log(runner, text, root="/r", exit_code=code, timed_out=late)
    sound(results)
    if not results.cases or late or code is None or code < 0:
        assert results.problem or results.crashed
    assert results == from_log(runner, text, root="/r", exit_code=code, timed_out=late)


@settings(max_examples=400, deadline=None)
@given(st.one_of(TEXT.map(str.encode), st.binary(max_size=200)), st.sampled_from(KINDS))
def test_reports(tmp_path_factory, data, kind):
    path = tmp_path_factory.getbasetemp() / "any-report"
    path.write_bytes(data)
    results = read_report(kind, path, root="/r")
    if results is not None:
        sound(checked(results, 0))


LINES = {
    "pytest": "a.py::test_{n}[{x}] PASSED [ 50%]\n",
    "unittest": "test_{n} (m.C.test_{n}) ... ok\n",
    "cargo": "running 1 test\ntest a{n} ... FAILED\n---- a{n} stdout ----\n{x}\n",
    "go": "=== RUN   T{n}\n--- FAIL: T{n} (0.00s)\n    {x}\n",
    "prove": "t/{n}.t .. \nok 1 - {x}\n",
    "tap": "1..1\n    ok {n} - a\n# Subtest: {x}\n",
    "ctest": "1/2 Test #1: a{n} ....   Passed    0.01 sec\n{x}\n",
    "jest": "Tests: 1 total\nPASS a\n  s{n}\n    ✓ {x} (1 ms)\n",
    "brackets": "{{\n{x}\n",
    "json": '{{"testResults":[\n',
    "spaces": " " * 300 + "{n}\n",
    "one line": "a.py::t[ - ] - [{x}",
    "same": "a.py::test PASSED [ 1%]\nok 1 - same\n",
}


@pytest.mark.parametrize("shape", LINES)
def test_time_grows_with_the_length(shape):
    def seconds(lines: int) -> float:
        text = "1..2\n=== test session starts ===\n" + "".join(
            LINES[shape].format(n=n, x="x y." * 5) for n in range(lines)
        )
        best = 1e9
        for _ in range(2):
            start = time.process_time()
            from_log("?", text, root="/r", exit_code=1)
            best = min(best, time.process_time() - start)
        return best

    small, large = seconds(1000), seconds(8000)
    # Eight times the input: eight times the work, 64 times if it were its square.
    assert large < max(small, 0.002) * 30


def test_many_cases_of_one_name_are_numbered_in_linear_time(tmp_path):
    path = tmp_path / "r.xml"
    path.write_text("<testsuite>" + '<testcase classname="c" name="t"/>' * 100_000 + "</testsuite>")
    results = read_report("junit", path, root="/r")
    assert results is not None and len(results.cases) == 100_000 and "c.t (100000)" in results.cases
