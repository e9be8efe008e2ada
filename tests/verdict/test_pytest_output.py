"""pytest's output, from real runs: whatever the options, the evidence is the same."""

from __future__ import annotations

import pytest

from poolcli.verdict.evidence import condense
from tests.verdict.projects import CALC, PYTEST, run, write

EVIDENCE = """\
FAIL test_calc.py::test_add
test_calc.py:8: assert add(2, 3) == 5
E assert -1 == 5
E +  where -1 = add(2, 3)
FAIL test_calc.py::test_same[1]
test_calc.py:13: assert n == 2
E assert 1 == 2
FAIL test_calc.py::TestHalf::test_half
test_calc.py:18: half(4)
calc.py:6: return divide(n)
calc.py:10: return n / 0
E ZeroDivisionError: division by zero
3 failed, 1 passed"""
FAILED = {
    "test_calc.py::test_add": "failed",
    "test_calc.py::test_same[1]": "failed",
    "test_calc.py::TestHalf::test_half": "failed",
}


@pytest.fixture
def project(tmp_path):
    return write(tmp_path, {"calc.py": CALC, "test_calc.py": PYTEST, "pytest.ini": "[pytest]\n"})


def pytest_run(root, *argv):
    return run(root, "-p", "no:cacheprovider", *argv, module="pytest")


@pytest.mark.parametrize(
    "options",
    [
        ("--tb=short",),
        ("-q", "--tb=short"),
        ("--tb=long",),
        (),
        ("-q", "--color=yes"),
        ("--no-header", "-rN"),
    ],
    ids=" ".join,
)
def test_styles_read_the_same(project, options):
    report = pytest_run(project, *options)
    assert report.text == EVIDENCE
    assert (report.status, report.exit_code) == ("failed", 1)
    assert report.tests == ({} if "-rN" in options else FAILED)
    assert report.counts == {"passed": 1, "failed": 3, "skipped": 0}


def test_verbose_names_the_others_too(project):
    assert pytest_run(project, "-v").tests == {**FAILED, "test_calc.py::test_same[2]": "passed"}


def test_native_tracebacks(project):
    text = pytest_run(project, "--tb=native").text
    assert text == EVIDENCE.replace("E assert", "E AssertionError: assert", 1).replace("E +", "E  +").replace(
        "E assert 1", "E AssertionError: assert 1"
    )


def test_one_line_per_failure(project):
    assert pytest_run(project, "--tb=line").text == (
        "FAIL test_calc.py::test_add\ntest_calc.py:8:\nE assert -1 == 5\n"
        "FAIL test_calc.py::test_same[1]\ntest_calc.py:13:\nE assert 1 == 2\n"
        "FAIL test_calc.py::TestHalf::test_half\ncalc.py:10:\nE ZeroDivisionError: division by zero\n"
        "3 failed, 1 passed"
    )


def test_no_tracebacks(project):
    assert pytest_run(project, "--tb=no", "-qq").text.splitlines()[:3] == [
        "FAIL test_calc.py::test_add",
        "E assert -1 == 5",
        "FAIL test_calc.py::test_same[1]",
    ]


def test_stop_at_the_first(project):
    assert pytest_run(project, "-x").text == "\n".join([*EVIDENCE.splitlines()[:4], "1 failed"])


def test_green(project):
    report = pytest_run(project, "-k", "test_same and 2")
    assert (report.status, report.text) == ("passed", "1 passed")


def test_nothing_selected(project):
    report = pytest_run(project, "-k", "nothing_like_this")
    assert (report.status, report.exit_code) == ("none", 5)


def test_collection_error(tmp_path):
    write(tmp_path, {"calc.py": "def add(a, b):\n    return a +\n", "test_calc.py": "from calc import add\n"})
    report = pytest_run(tmp_path, "--tb=short")
    assert report.text == (
        "ERROR test_calc.py\ntest_calc.py:1: from calc import add\ncalc.py:2: return a +\n"
        "E SyntaxError: invalid syntax\n1 failed"
    )
    assert report.tests == {"test_calc.py": "error"}


def test_fixtures_and_strict_xfail(tmp_path):
    tests = (
        "import pytest\n\n\n@pytest.fixture\ndef broken():\n    raise RuntimeError('no')\n\n\n"
        "def test_uses(broken): pass\n\n\ndef test_unknown(nowhere): pass\n\n\n"
        "@pytest.mark.xfail(strict=True)\ndef test_strict(): pass\n"
    )
    report = pytest_run(write(tmp_path, {"test_a.py": tests}))
    assert report.text == (
        "ERROR test_a.py::test_uses (setup)\ntest_a.py:6: raise RuntimeError('no')\nE RuntimeError: no\n"
        "ERROR test_a.py::test_unknown (setup)\ntest_a.py:12: def test_unknown(nowhere): pass\n"
        "E fixture 'nowhere' not found\n"
        "FAIL test_a.py::test_strict\n[XPASS(strict)]\n3 failed"
    )


def test_chained_exceptions(tmp_path):
    tests = "def test_a():\n    try:\n        {}['a']\n    except KeyError as error:\n"
    tests += "        raise ValueError('no') from error\n"
    for style in ("short", "long"):
        assert pytest_run(write(tmp_path, {"test_a.py": tests}), f"--tb={style}").text == (
            "FAIL test_a.py::test_a\ntest_a.py:3: {}['a']\nE KeyError: 'a'\nthen\n"
            "test_a.py:5: raise ValueError('no') from error\nE ValueError: no\n1 failed"
        )


def test_same_names_in_two_files(tmp_path):
    files = {
        f"{folder}/test_a.py": f"def test_a():\n    assert '{folder}' == ''\n" for folder in ("one", "two")
    }
    files |= {"one/__init__.py": "", "two/__init__.py": ""}
    lines = pytest_run(write(tmp_path, files), "--tb=short").text.splitlines()
    assert lines[:2] == ["FAIL one/test_a.py::test_a", "one/test_a.py:2: assert 'one' == ''"]
    assert "FAIL two/test_a.py::test_a" in lines
    assert lines.index("two/test_a.py:2: assert 'two' == ''") == lines.index("FAIL two/test_a.py::test_a") + 1


def test_warnings_are_left_out(tmp_path):
    tests = "import warnings\n\n\ndef test_a():\n    warnings.warn('old')\n    assert 0\n"
    assert "old" not in pytest_run(write(tmp_path, {"test_a.py": tests})).text.replace("warn('old')", "")


def test_unittest_under_pytest(tmp_path):
    tests = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 2)\n"
    assert pytest_run(write(tmp_path, {"test_a.py": tests})).text == (
        "FAIL test_a.py::T::test_a\ntest_a.py:6: self.assertEqual(1, 2)\nE AssertionError: 1 != 2\n1 failed"
    )


def test_error_inside_pytest(tmp_path):
    files = {
        "conftest.py": "def pytest_runtest_protocol(item):\n    raise ValueError('x')\n",
        "test_a.py": "def test_a(): pass\n",
    }
    report = pytest_run(write(tmp_path, files))
    assert report.status == "failed"
    assert "ERROR in pytest itself\nconftest.py:2: raise ValueError('x')\nValueError: x" in report.text


def test_conftest_that_cannot_be_imported(tmp_path):
    report = pytest_run(write(tmp_path, {"conftest.py": "import nowhere_at_all\n", "test_a.py": ""}))
    assert report.status == "failed"
    assert "No module named 'nowhere_at_all'" in report.text
    assert report.text.endswith("exit code 4")


#: With pytest-xdist 3.8 and `-n 2`; the order of the workers differs from run to run.
XDIST = """\
============================= test session starts ==============================
platform linux -- Python 3.11.7, pytest-9.2.0, pluggy-1.7.0
rootdir: /w
plugins: xdist-3.8.0
created: 2/2 workers
2 workers [3 items]

FF.                                                                      [100%]
=================================== FAILURES ===================================
____________________________________ test_b ____________________________________
[gw1] linux -- Python 3.11.7 /usr/bin/python
tests/test_it.py:9: in test_b
    assert 1 == 3
E   assert 1 == 3
____________________________________ test_a ____________________________________
[gw0] linux -- Python 3.11.7 /usr/bin/python
tests/test_it.py:6: in test_a
    assert 1 == 2
E   assert 1 == 2
=========================== short test summary info ============================
FAILED tests/test_it.py::test_b - assert 1 == 3
FAILED tests/test_it.py::test_a - assert 1 == 2
========================= 2 failed, 1 passed in 0.48s ==========================
"""


def test_parallel_workers_in_a_stable_order():
    assert condense(XDIST, root="/w", exit_code=1).text == (
        "FAIL tests/test_it.py::test_a\ntests/test_it.py:6: assert 1 == 2\nE assert 1 == 2\n"
        "FAIL tests/test_it.py::test_b\ntests/test_it.py:9: assert 1 == 3\nE assert 1 == 3\n"
        "2 failed, 1 passed"
    )


def test_workers_with_verbose():
    output = (
        "created: 2/2 workers\n[gw1] [ 50%] PASSED t.py::test_b \n[gw0] [100%] SKIPPED t.py::test_a \n\n"
        "====== 1 passed, 1 skipped in 0.40s ======\n"
    )
    report = condense(output, root="/w", exit_code=0)
    assert report.tests == {"t.py::test_b": "passed", "t.py::test_a": "skipped"}


@pytest.mark.parametrize(
    ("line", "test"),
    [
        ("FAILED t.py::test_a - assert 1 - 2 == 3", "t.py::test_a"),
        ("FAILED t.py::test_a[a - b] - assert 0", "t.py::test_a[a - b]"),
        ("FAILED t.py::test_a[x y::z]", "t.py::test_a[x y::z]"),
        ("ERROR t.py - SyntaxError: invalid syntax", "t.py"),
        ("SUBFAILED[msg] (i=0) t.py::T::test_a - AssertionError: 0 != 1", "t.py::T::test_a"),
    ],
)
def test_ids_of_the_summary(line, test):
    output = f"====== short test summary info ======\n{line}\n1 failed in 0.01s\n"
    assert list(condense(output, root="/w", exit_code=1).tests) == [test]
