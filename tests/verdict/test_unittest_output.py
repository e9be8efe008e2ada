"""unittest's output, from real runs of this interpreter and as other versions write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolcli.verdict.evidence import Report, condense
from tests.verdict.projects import CALC, UNITTEST, run, write


def unittest(root: Path, tests: str, *argv: str, calc: str = CALC) -> Report:
    write(root, {"calc.py": calc, "test_calc.py": tests})
    return run(root, *argv, module="unittest")


def case(body: str) -> str:
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    return f"import unittest\n\n\nclass TestIt(unittest.TestCase):\n    def test_it(self):\n{lines}"


def test_failures_and_errors(tmp_path):
    report = unittest(tmp_path, UNITTEST)
    assert report.text == (
        "ERROR test_half (test_calc.TestCalc.test_half)\n"
        "test_calc.py:12: half(4)\n"
        "calc.py:6: return divide(n)\n"
        "calc.py:10: return n / 0\n"
        "ZeroDivisionError: division by zero\n"
        "FAIL test_add (test_calc.TestCalc.test_add)\n"
        "test_calc.py:9: self.assertEqual(add(2, 3), 5)\n"
        "AssertionError: -1 != 5\n"
        "2 failed, 1 passed"
    )
    assert (report.status, report.exit_code) == ("failed", 1)
    assert report.counts == {"passed": 1, "failed": 2, "skipped": 0}
    assert report.tests == {
        "test_calc.TestCalc.test_half": "error",
        "test_calc.TestCalc.test_add": "failed",
    }


def test_verbose_names_the_others_too_and_reads_the_same(tmp_path):
    quiet, verbose = unittest(tmp_path, UNITTEST), unittest(tmp_path, UNITTEST, "-v")
    assert verbose.text == quiet.text
    assert verbose.tests == {**quiet.tests, "test_calc.TestCalc.test_zero": "passed"}


def test_green(tmp_path):
    report = unittest(tmp_path, UNITTEST, calc=CALC.replace("a - b", "a + b").replace("n / 0", "n / 2"))
    assert (report.status, report.text) == ("passed", "3 passed")


def test_syntax_error_in_the_module(tmp_path):
    report = unittest(tmp_path, UNITTEST, calc="def add(a, b):\n    return a +\n")
    assert report.text == (
        "ERROR test_calc\n"
        "test_calc.py:3: from calc import add, half\n"
        "calc.py:2: return a +\n"
        "SyntaxError: invalid syntax\n"
        "1 failed"
    )


def test_module_that_is_not_there(tmp_path):
    report = unittest(tmp_path, "import unittest\nimport nowhere_at_all\n")
    assert report.text == (
        "ERROR test_calc\ntest_calc.py:2: import nowhere_at_all\n"
        "ModuleNotFoundError: No module named 'nowhere_at_all'\n1 failed"
    )


def test_differing_values_keep_their_difference(tmp_path):
    report = unittest(tmp_path, case("self.assertEqual([1, 2, 3], [1, 2, 4])"))
    assert report.text == (
        "FAIL test_it (test_calc.TestIt.test_it)\n"
        "test_calc.py:6: self.assertEqual([1, 2, 3], [1, 2, 4])\n"
        "AssertionError: Lists differ: [1, 2, 3] != [1, 2, 4]\n"
        "First differing element 2:\n3\n4\n- [1, 2, 3]\n+ [1, 2, 4]\n"
        "1 failed"
    )


def test_long_difference_is_bounded(tmp_path):
    report = unittest(tmp_path, case("self.maxDiff = None\nself.assertEqual(list(range(900)), [])"))
    lines = report.text.splitlines()
    assert lines[2].startswith("AssertionError: Lists differ:")
    assert lines[-2].endswith(" more lines")
    assert len(lines) < 20


def test_chained_exceptions(tmp_path):
    body = "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('no\\nway') from error"
    assert unittest(tmp_path, case(body)).text == (
        "ERROR test_it (test_calc.TestIt.test_it)\n"
        "test_calc.py:7: {}['a']\n"
        "KeyError: 'a'\n"
        "then\n"
        "test_calc.py:9: raise ValueError('no\\nway') from error\n"
        "ValueError: no\nway\n"
        "1 failed"
    )


def test_only_the_innermost_frames(tmp_path):
    calc = "def f(n):\n    return f(n - 1) if n else 1 / 0\n"
    report = unittest(tmp_path, "from calc import f\n" + case("f(9)"), calc=calc)
    assert report.text.count("calc.py:2: return f(n - 1) if n else 1 / 0") == 3


def test_frames_of_libraries_are_left_out(tmp_path):
    report = unittest(tmp_path, "import json\n" + case("json.loads('{')"))
    assert "json/decoder" not in report.text
    assert "test_calc.py:7: json.loads('{')\njson.decoder.JSONDecodeError: " in report.text


def test_subtests_count_as_one_test(tmp_path):
    body = "for i in range(3):\n    with self.subTest('part', i=i):\n        self.assertEqual(i, 1)"
    report = unittest(tmp_path, case(body))
    assert [line for line in report.text.splitlines() if line.startswith("FAIL")] == [
        "FAIL test_it (test_calc.TestIt.test_it) [part] (i=0)",
        "FAIL test_it (test_calc.TestIt.test_it) [part] (i=2)",
    ]
    assert report.text.endswith("\n1 failed")
    assert report.tests == {"test_calc.TestIt.test_it": "failed"}


OUTCOMES = """\
import unittest


class TestIt(unittest.TestCase):
    @unittest.skip("not here")
    def test_skipped(self): pass
    @unittest.expectedFailure
    def test_fails_as_expected(self): self.fail()
    @unittest.expectedFailure
    def test_passes_unexpectedly(self): pass
    def test_passes(self): print("ok")


class TestSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("no database")
    def test_never_runs(self): pass
"""


def test_every_outcome(tmp_path):
    report = unittest(tmp_path, OUTCOMES)
    assert report.text.startswith(
        "ERROR setUpClass (test_calc.TestSetUp)\n"
        'test_calc.py:16: def setUpClass(cls): raise RuntimeError("no database")\n'
        "RuntimeError: no database\n"
    )
    # The expected failure is a pass, the unexpected pass a failure.
    assert report.counts == {"passed": 2, "failed": 2, "skipped": 1}


def test_captured_output_is_left_out(tmp_path):
    report = unittest(tmp_path, case("print('noise')\nself.fail('broken')"), "-b")
    assert report.text.splitlines()[-2:] == ["AssertionError: broken", "1 failed"]
    assert "noise" not in report.text


def test_no_tests(tmp_path):
    report = unittest(tmp_path, "import unittest\n")
    # Python 3.12 began to exit with 5; before, an empty run looked like a green one.
    assert (report.status, report.text) == ("none", "no tests ran")


def test_all_skipped_is_nothing_verified(tmp_path):
    report = unittest(tmp_path, "import unittest\nraise unittest.SkipTest('no')\n")
    assert (report.status, report.text) == ("none", "1 skipped")


def block(name: str, body: str) -> str:
    return f"{'=' * 70}\n{name}\n{'-' * 70}\n{body}\n"


def summary(ran: str, end: str) -> str:
    return f"{'-' * 70}\nRan {ran} in 0.001s\n\n{end}\n"


def test_python_3_8_reads_like_3_11():
    body = (
        "Traceback (most recent call last):\n"
        '  File "/w/test_calc.py", line 7, in test_add\n'
        "    self.assertEqual(add(2, 3), 5)\n"
        "AssertionError: -1 != 5\n"
    )
    output = block("FAIL: test_add (test_calc.TestCalc)", body) + summary("4 tests", "FAILED (failures=1)")
    report = condense(output, root="/w", exit_code=1)
    assert report.text == (
        "FAIL test_add (test_calc.TestCalc.test_add)\n"
        "test_calc.py:7: self.assertEqual(add(2, 3), 5)\n"
        "AssertionError: -1 != 5\n"
        "1 failed, 3 passed"
    )


def test_python_3_13_marks_and_statements_of_several_lines():
    body = (
        "Traceback (most recent call last):\n"
        '  File "/w/test_calc.py", line 7, in test_add\n'
        "    self.assertEqual(\n    ~~~~~~~~~~~~~~~~^\n        add(2, 3),\n        ^^^^^^^^^^\n    )\n    ^\n"
        "AssertionError: -1 != 5\n"
    )
    header = "FAIL: test_add (test_calc.TestCalc.test_add)"
    report = condense(block(header, body) + summary("1 test", "FAILED (failures=1)"), root="/w", exit_code=1)
    assert report.text.splitlines()[1:] == [
        "test_calc.py:7: self.assertEqual(",
        "AssertionError: -1 != 5",
        "1 failed",
    ]


def test_python_3_14_colours():
    output = (
        f"\x1b[31mF\x1b[0m\n{'=' * 70}\n\x1b[1;31mFAIL\x1b[0m: test_a (t.T.test_a)\n{'-' * 70}\n"
        'Traceback (most recent call last):\n  File \x1b[35m"/w/t.py"\x1b[0m, line \x1b[35m3\x1b[0m, in \x1b[35mtest_a'
        "\x1b[0m\n    \x1b[31mself.fail\x1b[0m()\n\x1b[1;35mAssertionError\x1b[0m: \x1b[35mNone\x1b[0m\n\n"
        f"{'-' * 70}\nRan 1 test in 0.001s\n\n\x1b[31mFAILED\x1b[0m (\x1b[31mfailures=1\x1b[0m)\n"
    )
    report = condense(output, root="/w", exit_code=1)
    assert report.text == "FAIL test_a (t.T.test_a)\nt.py:3: self.fail()\nAssertionError: None\n1 failed"


@pytest.mark.parametrize("end", ["OK", "OK (skipped=1)", "OK (expected failures=1)"])
def test_ends_that_are_green(end):
    assert condense(summary("2 tests", end), root="/w", exit_code=0).status == "passed"


def test_several_runs_are_summed():
    output = summary("2 tests", "OK") + summary("3 tests", "FAILED (failures=1)")
    report = condense(output, root="/w", exit_code=1)
    assert report.counts == {"passed": 4, "failed": 1, "skipped": 0}
