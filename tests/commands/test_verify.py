"""`pool verify`: the real command, real git and the real runners."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from poolcli.worktrees import PLACE
from tests.e2e.conftest import CALC, TEST_CALC, Pool, git, make_pool, snapshot  # noqa: F401

FIXED = CALC.replace("a - b", "a + b")
GREEN = {"calc.py": FIXED, "test_calc.py": TEST_CALC}
PYTEST = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "calc.py": CALC,
    "tests/test_calc.py": "import sys\nsys.path.insert(0, '.')\nfrom calc import add, double\n\n\n"
    "def test_add():\n    assert add(2, 3) == 5\n\n\ndef test_double():\n    assert double(4) == 8\n",
}

Make = Callable[[dict[str, str]], Pool]


@pytest.fixture
def pool(make_pool: Make) -> Pool:  # noqa: F811
    return with_python(make_pool({"calc.py": CALC, "test_calc.py": TEST_CALC}))


def with_python(pool: Pool) -> Pool:
    """The interpreter of these tests, which has pytest, is the one that is found."""
    pool.env["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    return pool


def change(pool: Pool, files: dict[str, str], message: str = "Change") -> None:
    for name, text in files.items():
        (pool.repo / name).parent.mkdir(parents=True, exist_ok=True)
        (pool.repo / name).write_text(text)
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "-m", message)


def sheet(pool: Pool, *args: str) -> tuple[int, dict]:
    done = pool("verify", *args, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def kinds(found: dict) -> dict[str, str]:
    return {row["id"].rpartition(".")[2].rpartition("::")[2]: row["kind"] for row in found["tests"]}


def nothing_left(pool: Pool) -> None:
    assert pool.worktrees() == []
    assert [run.name for run in pool.runs() if run.name.endswith(PLACE)] == []
    assert len(git(pool.repo, "worktree", "list").splitlines()) == 1


def test_a_good_run_is_verified(pool: Pool) -> None:
    assert pool.do("fix add").returncode == 0
    before = snapshot(pool.repo)
    done = pool("verify", "last")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout and "not verified" not in done.stdout
    assert "label    FULL" in done.stdout
    assert "the base: " in done.stderr and "after the change: " in done.stderr
    assert snapshot(pool.repo) == before
    assert len(git(pool.repo, "worktree", "list").splitlines()) <= 2  # the run's own may still be there


def test_a_run_on_uncommitted_work_with_checks_of_its_own(pool: Pool) -> None:
    (pool.repo / "more.txt").write_text("not committed\n")
    command = "python3 -m unittest test_calc"
    assert pool.do("fix add", "--test", command).returncode == 0
    code, found = sheet(pool)
    assert (code, found["commands"], kinds(found)) == (0, [command], {"test_add": "fixed"})
    assert pool("discard").returncode == 0
    done = pool("verify")
    assert done.returncode == 2
    assert "left no patch" in done.stderr


@pytest.mark.parametrize("files", [{"calc.py": CALC, "test_calc.py": TEST_CALC}, PYTEST])
def test_a_commit_that_fixes(make_pool: Make, files: dict[str, str]) -> None:  # noqa: F811
    pool = with_python(make_pool(files))
    change(pool, {"calc.py": FIXED})
    for what in ("HEAD", "HEAD^..HEAD", "HEAD~1...HEAD"):
        code, found = sheet(pool, what)
        assert code == 0, found
        assert (found["label"], found["valid"], found["verified"]) == ("FULL", True, True)
        assert kinds(found) == {"test_add": "fixed"}
        assert found["before"] == {"failed": 1, "passed": 1} and found["after"] == {"passed": 2}
        assert found["reward"] == pytest.approx(0.9)
    assert "the result of the base was kept from an earlier time" in found["notes"]
    nothing_left(pool)


def test_a_commit_that_breaks(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool(GREEN))
    change(pool, {"calc.py": FIXED.replace("x * 2", "x * 3")})
    code, found = sheet(pool, "HEAD")
    assert (code, found["label"], kinds(found)) == (3, "NO", {"test_double": "broken"})
    assert found["reward"] == pytest.approx(0.35)
    assert "8" in next(row["text"] for row in found["tests"])


def test_nothing_failed_and_nothing_broke(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool(GREEN))
    change(pool, {"calc.py": FIXED + "\n\nX = 1\n"})
    code, found = sheet(pool, "HEAD")
    assert (code, found["label"], found["reward"]) == (0, "FULL", 0.8)


def test_a_patch_from_a_file_and_from_stdin(pool: Pool) -> None:
    (pool.repo / "calc.py").write_text(FIXED)
    patch = git(pool.repo, "diff")
    git(pool.repo, "checkout", "-q", "calc.py")
    (pool.home / "p.diff").write_text(patch)
    assert sheet(pool, "--patch", str(pool.home / "p.diff"))[0] == 0
    done = pool("verify", "--patch", "-", "--json", input=patch)
    assert done.returncode == 0 and json.loads(done.stdout)["subject"] == "patch from stdin"


def test_a_patch_that_does_not_apply(pool: Pool) -> None:
    patch = "diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n@@ -1 +1 @@\n-nothing\n+else\n"
    done = pool("verify", "--patch", "-", "--json", input=patch)
    found = json.loads(done.stdout)
    assert (done.returncode, found["label"], found["valid"], found["reward"]) == (3, "NO", True, 0)
    assert found["reason"] == "the change does not apply"
    nothing_left(pool)


def test_edited_tests_gain_nothing(pool: Pool) -> None:
    """The control: in the checkout itself the edited test passes."""
    change(pool, {"test_calc.py": TEST_CALC.replace("add(2, 3), 5", "add(2, 3), -1")})
    assert pool("checks", "run").returncode == 0
    code, found = sheet(pool, "HEAD")
    assert code in (3, 7) and not found["verified"]
    assert found["after"] == {"failed": 1, "passed": 1}
    assert any("put back: test_calc.py" in note for note in found["notes"])


def test_tampering_is_exit_7(pool: Pool) -> None:
    change(pool, {"sitecustomize.py": "import os\nos._exit(0)\n"})
    code, found = sheet(pool, "HEAD")
    assert (code, found["tampered"], found["reward"], found["label"]) == (7, True, 0, "NO")


def test_a_task_about_tests_is_judged_by_both(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool(GREEN))
    more = TEST_CALC + "\n    def test_negative(self):\n        self.assertEqual(add(-1, -1), -2)\n"
    change(pool, {"test_calc.py": more}, "Add a test for negative numbers")
    code, found = sheet(pool, "HEAD")
    assert code == 0 and kinds(found) == {"test_negative": "new"}
    assert any("judged by its own tests; by those of the base: FULL" in note for note in found["notes"])


def test_a_new_test_that_fails_on_the_base_counts(make_pool: Make) -> None:  # noqa: F811
    old = TEST_CALC.replace("    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n\n", "")
    pool = with_python(make_pool({"calc.py": CALC, "test_calc.py": old}))
    change(pool, {"calc.py": FIXED, "test_calc.py": TEST_CALC}, "Fix the sign of add, and add a test for it")
    code, found = sheet(pool, "HEAD")
    assert (code, found["reward"]) == (0, pytest.approx(0.9)), found
    assert "1 of 1 failing tests pass now" in found["reason"]


def test_mutants_and_coverage(pool: Pool) -> None:
    change(pool, {"calc.py": FIXED + "\n\ndef unused(x):\n    return x - 1\n"})
    code, found = sheet(pool, "HEAD", "--mutants", "4", "--coverage")
    assert code == 0
    assert found["strength"]["tried"] >= 2 and 0 < found["strength"]["rate"] < 1
    assert found["strength"]["survivors"][0]["path"] == "calc.py"
    assert found["coverage"]["uncovered"] == {"calc.py": [10]}
    nothing_left(pool)


def test_flaky_tests_count_neither_way(make_pool: Make) -> None:  # noqa: F811
    test = "import pathlib, unittest\n\nfrom calc import add\n\nSEEN = pathlib.Path({!r})\n\n\n"
    test += "class TestCalc(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n\n"
    test += "    def test_unsteady(self):\n        first = not SEEN.exists()\n        SEEN.touch()\n"
    test += "        self.assertTrue(first)\n"
    pool = with_python(make_pool({"calc.py": CALC}))
    change(pool, {"test_calc.py": test.format(str(pool.home / "seen"))}, "Add tests")
    change(pool, {"calc.py": FIXED}, "Fix")
    code, found = sheet(pool, "HEAD", "--sandbox", "none")  # what it writes outside stays
    assert code == 0, found
    assert [name.rpartition(".")[2] for name in found["flaky"]] == ["test_unsteady"]


def test_packages_of_one_repository(make_pool: Make) -> None:  # noqa: F811
    files = {f"{part}/{name}": text for part in ("a", "b") for name, text in PYTEST.items()}
    pool = with_python(make_pool(files))
    change(pool, {"b/calc.py": FIXED})
    for _ in range(2):  # the second time the base is known
        code, found = sheet(pool, "HEAD")
        # The test of `a` fails as before: half of what is wanted.
        assert (code, found["label"], found["reward"]) == (3, "PARTIAL", pytest.approx(0.4))
        assert [row["id"] for row in found["tests"]] == ["b/tests/test_calc.py::test_add"]
        assert [command.split(" && ")[0] for command in found["commands"]] == ["cd b", "cd a"]


def test_only_tests_changed_is_said_and_a_task_decides(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool(GREEN))
    change(
        pool,
        {"test_calc.py": TEST_CALC + "\n    def test_no(self):\n        self.assertEqual(add(1, 1), 3)\n"},
    )
    code, found = sheet(pool, "HEAD")
    assert (code, found["after"]) == (0, {"passed": 2})
    assert "nothing else is changed, so what was judged is the base itself" in found["notes"]
    code, found = sheet(pool, "HEAD", "--task", "Add a test")
    assert (code, kinds(found)) == (3, {"test_no": "broken"})


def test_names_that_are_no_text_and_files_that_moved(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool({"calc.py": CALC, "test_calc.py": TEST_CALC, "long.txt": "line\n" * 50}))
    os.rename(pool.repo / "long.txt", pool.repo / "moved.txt")
    (pool.repo / "calc.py").write_text(FIXED)
    with open(os.fsencode(pool.repo) + b"/data-\xff.bin", "wb") as file:
        file.write(b"\0\1\2")
    with open(os.fsencode(pool.repo) + b"/test_\xff.py", "wb") as file:
        file.write(b"x = 1\n")
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "-m", "Fix")
    for args in ((), ("--markdown", "-"), ("--junit", "-"), ("--json",)):
        done = pool("verify", "HEAD", *args)
        assert done.returncode == 0, done.stderr
        assert "test_add" in done.stdout


def test_every_form(pool: Pool) -> None:
    change(pool, {"calc.py": FIXED})
    done = pool("verify", "HEAD", "--junit", str(pool.home / "s.xml"), "--markdown", "-")
    assert done.returncode == 0
    assert "verified" in done.stdout.lower() and "test_add" in done.stdout
    assert ET.parse(pool.home / "s.xml").getroot().get("failures") == "0"
    xml = pool("verify", "HEAD", "--junit", "-").stdout
    assert ET.fromstring(xml.encode()).tag == "testsuites"


def test_a_script_is_judged_by_its_exit_code(pool: Pool) -> None:
    (pool.repo / "calc.py").write_text(FIXED)
    git(pool.repo, "commit", "-q", "-am", "Fix")
    command = "grep -q 'a + b' calc.py"
    code, found = sheet(pool, "HEAD", "--test", command)
    assert code == 0
    assert [(row["id"], row["kind"]) for row in found["tests"]] == [(command, "fixed")]


def test_what_does_not_build_is_worth_nothing(pool: Pool) -> None:
    change(pool, {".pool/config.toml": "[checks]\nbuild = 'python3 -m py_compile calc.py'\n"})
    assert pool("trust", "--yes").returncode == 0
    change(pool, {"calc.py": FIXED + "(\n"})
    code, found = sheet(pool, "HEAD")
    assert (code, found["reward"], found["reason"]) == (3, 0, "the change does not build")
    assert [(extra["name"], extra["ok"]) for extra in found["extras"]] == [("build", False)]


def test_a_hanging_change_could_not_be_judged(make_pool: Make) -> None:  # noqa: F811
    pool = with_python(make_pool(GREEN))
    change(pool, {"calc.py": FIXED.replace("    return a", "    while True: pass\n    return a")})
    code, found = sheet(pool, "HEAD", "--checks-timeout", "2")
    assert (code, found["valid"], found["verdict"]) == (3, False, "not judged")
    assert found["reason"].startswith("timeout")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing",), "'nothing' is neither a run nor a commit"),
        (("HEAD..nowhere",), "git knows no commit 'nowhere'"),
        (("HEAD",), "HEAD is the first commit"),
        (("HEAD..HEAD",), "changes nothing"),
        (("--patch", "missing.diff"), "cannot be read"),
        (("last", "--patch", "-"), "either a run or range"),
        (("--json", "--junit", "-"), "only one form"),
    ],
)
def test_what_cannot_be_asked(pool: Pool, args: tuple[str, ...], said: str) -> None:
    pool.do("fix add")
    done = pool("verify", *args)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing_behind(pool: Pool, number: signal.Signals) -> None:
    mark = pool.home / "started"
    change(pool, {"calc.py": FIXED})
    running = pool.start("verify", "HEAD", "--sandbox", "none", "--test", f"touch {mark}; exec sleep 987")
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 128 + number, err
    assert out == ""
    nothing_left(pool)
    assert "sleep 987" not in subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout
