"""pytest and unittest, really run: report and log agree test by test, also where the run dies or hangs."""

from __future__ import annotations

import pytest

from tests.verdict.projects import write
from tests.verdict.reports.running import counts, outcomes, python

SUITE = {
    "pytest.ini": "[pytest]\n",
    "tests/test_all.py": """\
import unittest
import pytest

def test_ok():
    print("test_all.py::test_fake PASSED [ 50%]")

def test_bad():
    assert {"a": 1} == {"a": 2}

@pytest.mark.parametrize("text", ["a b", "x - y", "[z]", "a::b", "é"])
def test_text(text):
    assert text != "x - y", "why - not"

@pytest.mark.skip(reason="later")
def test_skip():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    assert 0

@pytest.mark.xfail(strict=True)
def test_strict():
    pass

class TestOne:
    class TestTwo:
        def test_deep(self):
            raise ValueError("deep")

    def test_ok(self):
        pass

class TestUnit(unittest.TestCase):
    def test_parts(self):
        for n in range(3):
            with self.subTest(n=n):
                self.assertNotEqual(n, 1)

@pytest.fixture
def torn():
    yield
    raise RuntimeError("teardown")

@pytest.fixture
def unset():
    raise RuntimeError("setup")

def test_torn(torn):
    pass

def test_unset(unset):
    pass
""",
    "tests/test_broken.py": "import not_there\n",
    "tests/pkg/__init__.py": "",
    "tests/pkg/test_same.py": "def test_ok(): pass\n",
}
EXPECTED = {
    "tests/test_broken.py": "error",
    "tests/pkg/test_same.py::test_ok": "passed",
    "tests/test_all.py::test_ok": "passed",
    "tests/test_all.py::test_bad": "failed",
    "tests/test_all.py::test_text[a b]": "passed",
    "tests/test_all.py::test_text[x - y]": "failed",
    "tests/test_all.py::test_text[[z]]": "passed",
    "tests/test_all.py::test_text[a::b]": "passed",
    "tests/test_all.py::test_text[\\xe9]": "passed",
    "tests/test_all.py::test_skip": "skipped",
    "tests/test_all.py::test_known": "xfailed",
    "tests/test_all.py::test_strict": "failed",
    "tests/test_all.py::TestOne::TestTwo::test_deep": "failed",
    "tests/test_all.py::TestOne::test_ok": "passed",
    "tests/test_all.py::TestUnit::test_parts": "failed",
    "tests/test_all.py::test_torn": "error",
    "tests/test_all.py::test_unset": "error",
}
OPTIONS = ("-p", "no:cacheprovider", "--continue-on-collection-errors")


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_the_report_of_pytest_has_node_ids(tmp_path, family):
    write(tmp_path, SUITE)
    done = python(tmp_path, "pytest", *OPTIONS, "--junitxml=r.xml", "-o", f"junit_family={family}")
    results = done.report("junit", "r.xml")
    assert outcomes(results) == EXPECTED
    assert (results.source, results.problem, results.crashed) == ("junit", "", "")
    bad = results.cases["tests/test_all.py::test_bad"]
    assert "assert {'a': 1} == {'a': 2}" in bad.text and bad.file == "tests/test_all.py"
    assert str(tmp_path) not in str(results)


@pytest.mark.parametrize(
    "style", [("-v",), ("-vv", "--color=yes"), ("-v", "--tb=no", "-rA"), ("-v", "--tb=line")]
)
def test_the_log_of_pytest_says_the_same(tmp_path, style):
    write(tmp_path, SUITE)
    results = python(tmp_path, "pytest", *OPTIONS, *style).log("pytest")
    assert outcomes(results) == EXPECTED
    assert results.problem == "" and str(tmp_path) not in str(results)
    if "no" not in style[-1]:
        assert results.cases["tests/test_all.py::TestOne::TestTwo::test_deep"].text


def test_the_summary_of_r_a_names_all_but_the_skipped(tmp_path):
    write(tmp_path, SUITE)
    results = python(tmp_path, "pytest", *OPTIONS, "-q", "-rA").log("pytest")
    assert outcomes(results) == {k: v for k, v in EXPECTED.items() if v != "skipped"}
    write(tmp_path, {"tests/test_all.py": "import pytest\ndef test_a(): pytest.skip()\ndef test_b(): pass\n"})
    results = python(tmp_path, "pytest", "-q", "-rA", "tests/test_all.py").log("pytest")
    assert outcomes(results) == {"tests/test_all.py::test_b": "passed"}
    assert "counts 2" in results.problem and "names 1" in results.problem


def test_results_that_a_test_prints_do_not_count(tmp_path):
    fake = "print('tests/x.py::test_f PASSED [ 50%]'); print('PASSED tests/x.py::test_g')"
    write(tmp_path, {"test_a.py": f"def test_a():\n    {fake}\n    assert 0\n"})
    captured = python(tmp_path, "pytest", "-v", "-rA").log("pytest")
    assert outcomes(captured) == {"test_a.py::test_a": "failed"} and captured.judged
    loose = python(tmp_path, "pytest", "-v", "-s").log("pytest")
    assert "printed results itself" in loose.problem and not loose.judged


def test_a_log_that_names_no_passed_test_is_a_recipe_problem(tmp_path):
    write(tmp_path, {"test_a.py": "def test_a(): pass\ndef test_b(): pass\n"})
    results = python(tmp_path, "pytest", "-q").log("pytest")
    assert not results.cases and "counts 2" in results.problem and not results.judged


def test_no_test_found_is_never_a_success(tmp_path):
    write(tmp_path, {"test_a.py": "x = 1\n"})
    done = python(tmp_path, "pytest", "--junitxml=r.xml")
    assert done.exit_code == 5
    assert "no test was found" in done.report("junit", "r.xml").problem
    assert "no test was found" in done.log("pytest").problem


DEATHS = {
    "os._exit(0)": (0, "exit code 0"),
    "os._exit(3)": (3, "exit code 3"),
    "os.kill(os.getpid(), 9)": (-9, "memory"),
    "os.kill(os.getpid(), 11)": (-11, "segmentation fault"),
    "__import__('ctypes').string_at(0)": (-11, "segmentation fault"),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("runner", ["pytest", "unittest"])
def test_a_death_in_the_middle_is_told_with_its_place(tmp_path, death, runner):
    code, words = DEATHS[death]
    write(
        tmp_path,
        {
            "test_a.py": "import os, unittest\nclass T(unittest.TestCase):\n"
            f"  def test_1(self): pass\n  def test_2(self): {death}\n  def test_3(self): pass\n"
        },
    )
    verbose = ("-v", "--junitxml=r.xml") if runner == "pytest" else ("-v",)
    done = python(tmp_path, runner, *verbose)
    assert done.exit_code == code
    results = done.log(runner)
    first, second = (
        ("test_a.py::T::test_1", "test_a.py::T::test_2")
        if runner == "pytest"
        else ("test_a.T.test_1", "test_a.T.test_2")
    )
    assert outcomes(results) == {first: "passed"}
    assert words in results.crashed and second in results.crashed
    assert results.problem and not results.judged and not results.hung
    assert not (tmp_path / "r.xml").exists()


@pytest.mark.parametrize("runner", ["pytest", "unittest"])
def test_a_hang_names_the_test_that_was_running(tmp_path, runner):
    write(
        tmp_path,
        {
            "test_a.py": "import time, unittest\nclass T(unittest.TestCase):\n"
            "  def test_1(self): pass\n  def test_2(self): time.sleep(600)\n"
        },
    )
    results = python(tmp_path, runner, "-v", seconds=3).log(runner)
    assert results.hung == ("test_a.py::T::test_2" if runner == "pytest" else "test_a.T.test_2")
    assert list(outcomes(results).values()) == ["passed"]
    assert "time was over" in results.problem and not results.judged


def test_unittest_names_each_test_with_v(tmp_path):
    write(
        tmp_path,
        {
            "test_a.py": '''\
import sys, unittest
class T(unittest.TestCase):
    def test_ok(self):
        """Says what it does."""
    def test_bad(self): self.assertEqual(1, 2)
    def test_err(self): raise ValueError("boom")
    @unittest.skip("later")
    def test_skip(self): pass
    @unittest.expectedFailure
    def test_known(self): self.fail()
    @unittest.expectedFailure
    def test_surprise(self): pass
    def test_parts(self):
        for n in range(3):
            with self.subTest(n=n): self.assertNotEqual(n, 1)
class Setup(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("no")
    def test_never(self): pass
''',
            "test_broken.py": "import not_there\n",
        },
    )
    results = python(tmp_path, "unittest", "-v").log("unittest")
    assert outcomes(results) == {
        "test_a.T.test_ok": "passed",
        "test_a.T.test_bad": "failed",
        "test_a.T.test_err": "error",
        "test_a.T.test_skip": "skipped",
        "test_a.T.test_known": "xfailed",
        "test_a.T.test_surprise": "failed",
        "test_a.T.test_parts": "failed",
        "setUpClass (test_a.Setup)": "error",
        "test_broken": "error",
    }
    assert "ValueError: boom" in results.cases["test_a.T.test_err"].text
    assert results.problem == ""
    assert "with `-v`" in python(tmp_path, "unittest").log("unittest").problem


def test_the_exit_code_has_to_agree(tmp_path):
    write(tmp_path, {"test_a.py": "def test_a(): assert 0\ndef test_b(): pass\n"})
    done = python(tmp_path, "pytest", "-v", "--junitxml=r.xml")
    from poolcli.verdict.reports import checked

    results = done.report("junit", "r.xml")
    assert results.judged
    assert "exit code 0 although 1 of 2" in checked(results, 0).problem
    write(tmp_path, {"test_a.py": "def test_a(): pass\n"})
    green = python(tmp_path, "pytest", "-v", "--junitxml=r.xml").report("junit", "r.xml")
    assert green.judged and "exit code 1 although none" in checked(green, 1).problem
    assert checked(green, -11).crashed == "segmentation fault" and not checked(green, -11).judged
    assert checked(green, 139).crashed == "segmentation fault"
    assert "time was over" in checked(green, None, timed_out=True).problem
    assert counts(green) == {"passed": 1}
