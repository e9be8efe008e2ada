"""The verdict and the bounds of the evidence, whatever the output is."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from poolcli.verdict.evidence import condense
from tests.verdict.projects import CALC, UNITTEST, write

GREEN = "....\n----\nRan 4 tests in 0.001s\n\nOK\n"
PYTEST_GREEN = "....   [100%]\n4 passed in 0.01s\n"
PYTEST_RED = "=== short test summary info ===\nFAILED t.py::test_a - assert 0\n1 failed, 3 passed in 0.01s\n"
RULE = "=" * 70
RED = (
    f"{RULE}\nFAIL: test_a (t.T.test_a)\n{'-' * 70}\nTraceback (most recent call last):\n"
    f'  File "/w/t.py", line 3, in test_a\n    self.fail()\nAssertionError: None\n\n'
    f"{'-' * 70}\nRan 1 test in 0.001s\n\nFAILED (failures=1)\n"
)


@pytest.mark.parametrize(
    ("output", "code", "status", "text"),
    [
        (GREEN, 0, "passed", "4 passed"),
        (PYTEST_GREEN, 0, "passed", "4 passed"),
        ("all good\n", 0, "passed", "all good\nexit code 0"),
        ("", 0, "passed", "exit code 0"),
        ("", 1, "failed", "exit code 1"),
        ("oh no\n", 2, "failed", "oh no\nexit code 2"),
        ("oh no\n", -11, "failed", "oh no\nkilled by signal 11"),
        ("oh no\n", None, "failed", "oh no\ndid not end by itself"),
        ("sh: pytset: not found\n", 127, "error", "sh: pytset: not found\nexit code 127"),
        ("/usr/bin/python3: No module named pytest\n", 1, "error", None),
        ("no tests ran in 0.01s\n", 5, "none", "no tests ran"),
        ("1 deselected in 0.01s\n", 5, "none", "no tests ran"),
        ("----\nRan 0 tests in 0.000s\n\nOK\n", 0, "none", "no tests ran"),
        ("----\nRan 0 tests in 0.000s\n\nNO TESTS RAN\n", 5, "none", "no tests ran"),
        ("3 skipped in 0.01s\n", 0, "none", "3 skipped"),
        # What the exit code says and what the runner says have to agree.
        (PYTEST_RED, 0, "failed", "FAIL t.py::test_a\nE assert 0\n1 failed, 3 passed"),
        (PYTEST_GREEN, 1, "failed", "....   [100%]\n4 passed\n4 passed\nexit code 1"),
    ],
)
def test_status_and_text(output, code, status, text):
    report = condense(output, root="/w", exit_code=code)
    assert report.status == status
    assert text is None or report.text == text
    assert report.ok is (status == "passed")


def test_timeout_shows_how_far_it_came():
    report = condense("test_a ... ok\ntest_b ... ", root="/w", exit_code=None, timed_out=True)
    assert (report.status, report.text) == ("timeout", "test_a ... ok\ntest_b ...\ntimed out")


def test_timeout_after_the_summary():
    report = condense(GREEN, root="/w", exit_code=None, timed_out=True)
    assert report.status == "timeout"
    assert report.text.endswith("4 passed\ntimed out")


def test_line_ends_and_colours():
    output = PYTEST_RED.replace("\n", "\r\n").replace("FAILED", "\x1b[31mFAILED\x1b[0m")
    assert condense(output, root="/w", exit_code=1).text.startswith("FAIL t.py::test_a\nE assert 0")


def failures(number: int, message: str = "AssertionError: None") -> str:
    blocks = "".join(
        f"{RULE}\nFAIL: test_{n} (t.T.test_{n})\n{'-' * 70}\nTraceback (most recent call last):\n"
        f'  File "/w/t.py", line {n}, in test_{n}\n    self.fail()\n{message}\n\n'
        for n in range(number)
    )
    return f"{blocks}{'-' * 70}\nRan {number} tests in 0.001s\n\nFAILED (failures={number})\n"


def test_three_in_full_and_the_others_by_name():
    lines = condense(failures(5), root="/w", exit_code=1).text.splitlines()
    assert lines[:2] == ["FAIL test_0 (t.T.test_0)", "t.py:0: self.fail()"]
    assert lines[-3:] == ["FAIL test_3 (t.T.test_3)", "FAIL test_4 (t.T.test_4)", "5 failed"]
    assert len(lines) == 3 * 3 + 2 + 1


def test_more_names_than_fit_are_counted():
    report = condense(failures(2000), root="/w", exit_code=1)
    lines = report.text.splitlines()
    assert len(report.text) <= 4000
    assert lines[-2].endswith(" more failed")
    assert lines[-1] == "2000 failed"
    named = sum(line.startswith("FAIL ") for line in lines)
    assert named + int(lines[-2].split()[1]) == 2000
    assert len(report.tests) == 2000


def test_long_messages_leave_room_for_the_others():
    message = "AssertionError: " + "\n".join("x" * 5000 for _ in range(50))
    text = condense(failures(4, message), root="/w", exit_code=1).text
    assert len(text) <= 4000
    assert [f"FAIL test_{n} (t.T.test_{n})" in text for n in range(4)] == [True] * 4


def test_unknown_output_keeps_its_head_and_its_end():
    output = "".join(f"line {n}\n" for n in range(10_000))
    report = condense(output, root="/w", exit_code=1)
    assert report.text.startswith("line 0\nline 1\n")
    assert report.text.endswith("line 9998\nline 9999\nexit code 1")
    assert " characters left out …\n" in report.text
    assert len(report.text) <= 4000


def test_paths_of_the_worktree_are_taken_out():
    output = "/w/state/run/src/a.c:3: error\nIn /w/state/run\n/w/state/runner/b\n"
    report = condense(output, root="/w/state/run", exit_code=1)
    assert "src/a.c:3: error" in report.text.splitlines()
    assert "/w/state/run" not in report.text


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            (4, 1, 2),
        ),
        ("# tests 4\n# suites 0\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n", (3, 1, 0)),
        ("ℹ tests 4\nℹ pass 3\nℹ fail 1\nℹ cancelled 0\nℹ skipped 0\n", (3, 1, 0)),
        ("Test Suites: 1 failed, 1 total\nTests:       1 failed, 2 skipped, 3 passed, 6 total\n", (3, 1, 2)),
        (" Test Files  1 failed (1)\n      Tests  1 failed | 3 passed (4)\n", (3, 1, 0)),
        ("  3 passing (5ms)\n  1 failing\n", (3, 1, 0)),
    ],
    ids=["cargo", "node-tap", "node-spec", "jest", "vitest", "mocha"],
)
def test_count_lines_of_other_runners(output, counts):
    report = condense(output, root="/w", exit_code=1)
    assert report.counts == dict(zip(("passed", "failed", "skipped"), counts, strict=True))
    assert report.status == "failed"
    # Which test it was stands in the output, so the output is shown.
    assert output.splitlines()[0].strip() in report.text
    assert report.text.endswith("exit code 1")


def test_cargo_without_tests():
    output = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
    assert condense(output, root="/w", exit_code=0).status == "none"


PIECES = st.sampled_from(
    [
        *(f"{line}\n" for line in (RED + PYTEST_RED + failures(2)).splitlines()),
        "=== FAILURES ===\n", "=== ERRORS ===\n", "____ test_a ____\n", "____ ERROR at setup of x ____\n",
        "E   assert 0\n", ">   assert 0\n", "t.py:3: in f\n", "t.py:3: AssertionError\n", "[gw0] linux\n",
        'E     File "/w/t.py", line 2\n', 'E       a +\n', "INTERNALERROR> Traceback (most recent call last):\n",
        "INTERNALERROR> ValueError\n", "[gw0] [ 50%] PASSED t.py::a\n", "t.py::a FAILED   [ 5%]\n", "\x1b[31m",
        "SUBFAILED(i=0) t.py::a\n", "SUBFAIL\n", "FAILED \n", "/w/t.py:3: x\n", "/w", "/w/", "\r", "\0",
        "999999999 failed in 1s\n", "1 failed", "Ran 1 test in ", "Tests: 1 failed\n", "^^^^\n", " ", "\n",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=30), max_size=40).map("".join)
CODES = st.none() | st.integers(-20, 255)


@given(
    TEXTS, CODES, st.booleans(), st.sampled_from([0, 1, 200, 4000]), st.sampled_from(["/w", "/w/", "/", ""])
)
@example("1 failed in 0.1s", 0, False, 0, "/w")
@settings(max_examples=400, deadline=None)
def test_never_raises_never_overflows_never_shows_the_root(output, code, timed_out, limit, root):
    report = condense(output, root=root, exit_code=code, timed_out=timed_out, limit=limit)
    assert report.status in ("passed", "failed", "timeout", "error", "none")
    assert report.status != "passed" or (code == 0 and not timed_out)
    # The count line and the one on how it ended are never cut.
    assert len(report.text) <= max(limit, 200)
    if len(root) > 1:
        assert root.rstrip("/") not in report.text
    assert set(report.tests.values()) <= {"passed", "failed", "error", "skipped"}


@pytest.mark.parametrize(
    "piece",
    [
        "=" * 70, RULE + "\n", "_ ", "____ x\n", "1 a, ", "1 failed, ", "Tests: 1 a 1 ", " - ", "FAILED x[ - ",
        " PASSED (", "t.py::a PASSED (", "t.py:", "Traceback (most recent call last):\n", "\x1b[", "\x1b]0;", "^ ",
        '  File "', "E   \n", "test_a (t.T) ... ", "[gw0] [ 1%] ", "(", "/w/", f"{RULE}\nFAIL: a (", "0 passing\n",
        "=== short test summary info ===\nFAILED a - b\n", "=== FAILURES ===\n__ a __\n", "SUBFAILED ",
    ],
    ids=repr,
)  # fmt: skip
def test_time_grows_with_the_length_only(piece):
    def cost(length: int) -> float:
        text = piece * (length // len(piece)) + "\n1 failed in 0.01s\n=== short test summary info ===\n"
        best = []
        for _ in range(3):
            start = time.process_time()
            condense(text, root="/w", exit_code=1)
            best.append(time.process_time() - start)
        return min(best)

    # Eight times the length: about 8 times the work when linear, 64 times when quadratic. A ratio, not seconds.
    small = cost(30_000)
    assert cost(240_000) < 32 * max(small, 0.0005)


def test_parsing_does_not_depend_on_the_folder(tmp_path):
    from tests.verdict.projects import run

    texts = {run(write(tmp_path / name, {"calc.py": CALC, "test_calc.py": UNITTEST}), module="unittest").text
             for name in ("a", "another folder")}  # fmt: skip
    assert len(texts) == 1
