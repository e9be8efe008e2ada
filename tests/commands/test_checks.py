"""`pool checks` and `pool checks run`: the real commands on real repositories."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.verdict.projects import write

PYTEST_FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "tests/test_a.py": "def test_fails():\n    assert 1 == 2\n\n\ndef test_passes():\n    pass\n",
}
GREEN = {"tests/test_a.py": "import pytest\n\n\ndef test_passes():\n    pass\n"}


@pytest.fixture
def repository(tmp_path: Path):
    def make(files: Mapping[str, str]) -> Path:
        root = write(tmp_path / "repo", files)
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=root, check=True, env=environment(tmp_path))
        return root

    return make


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "POOL_STATE": str(tmp_path / "state"),
        "TERM": "xterm",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


def pool(root: Path, *args: str, command: str = "checks") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poolcli", command, *args],
        cwd=root,
        env={**environment(root.parent), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_found_and_why(repository) -> None:
    root = repository({**PYTEST_FILES, ".pool/config.toml": "[checks]\nlint = 'true'\n"})
    assert ".pool/ is not used yet" in pool(root).stdout + pool(root).stderr
    assert pool(root, "--yes", command="trust").returncode == 0
    done = pool(root)
    assert done.returncode == 0, done.stderr
    assert "test      python3 -m pytest --tb=short\n" in done.stdout
    assert "pytest: pyproject.toml has [tool.pytest.ini_options]" in done.stdout
    assert "reads its junit report; single tests: yes" in done.stdout
    assert "lint      true\n          given by project file .pool/config.toml:1" in done.stdout
    (test, lint) = json.loads(pool(root, "--json").stdout)
    assert (test["name"], test["runner"], test["source"]) == ("test", "pytest", "found")
    assert (lint["name"], lint["command"]) == ("lint", "true")


def test_nothing_found(repository) -> None:
    root = repository({"a.txt": ""})
    assert "none found" in pool(root).stdout
    done = pool(root, "run")
    assert done.returncode == 2
    assert "no checks were found" in done.stderr


def test_red_and_green(repository) -> None:
    root = repository(PYTEST_FILES)
    done = pool(root, "run")
    assert done.returncode == 3
    assert "FAIL tests/test_a.py::test_fails" in done.stdout and "assert 1 == 2" in done.stdout
    assert "(1 failed, 1 passed): python3 -m pytest" in done.stdout
    done = pool(root, "run", "tests/test_a.py::test_passes")
    assert done.returncode == 0, done.stdout
    (outcome,) = json.loads(pool(root, "run", "--json").stdout)
    assert outcome["tests"] == {
        "tests/test_a.py::test_fails": "failed",
        "tests/test_a.py::test_passes": "passed",
    }
    assert outcome["source"] == "junit" and not outcome["problem"]


def test_what_blocks_pytest_is_stripped_and_said(repository) -> None:
    files = {**GREEN, "pytest.ini": "[pytest]\naddopts = --no-such-option\n"}
    done = pool(repository(files), "run")
    assert done.returncode == 0, done.stdout
    assert "note: python3 -m pytest --tb=short gave no result for any test" in done.stdout
    assert "-o addopts=" in done.stdout


def test_no_test_at_all_is_no_success(repository) -> None:
    root = repository({"pytest.ini": "", "test_a.py": "x = 1\n"})
    assert pool(root, "run").returncode == 3
    assert pool(root, "run", "--test", "true pytest").returncode == 3


def test_a_given_command_and_a_time_limit(repository) -> None:
    root = repository(PYTEST_FILES)
    assert pool(root, "run", "--test", "true").returncode == 0
    done = pool(root, "run", "--test", "sleep 60", "--checks-timeout", "1s")
    assert done.returncode == 3
    assert "test timeout in" in done.stdout
    done = pool(root, "run", "tests/test_a.py::nope")
    assert done.returncode == 3 and "problem: no such test: tests/test_a.py::nope" in done.stdout
    done = pool(root, "run", "--test", "no-such-program-here")
    assert done.returncode == 3 and "test error in" in done.stdout


def test_a_test_goes_to_the_runner_of_its_folder_and_language(repository) -> None:
    root = repository(
        {
            **GREEN,
            "pytest.ini": "",
            "service/pyproject.toml": "[tool.pytest.ini_options]\n",
            "service/tests/test_b.py": "def test_b():\n    pass\n",
        }
    )
    (outcome,) = json.loads(pool(root, "run", "service/tests/test_b.py::test_b", "--json").stdout)
    assert outcome["command"].startswith("cd service && ")
    assert outcome["status"] == "passed"
    done = pool(root, "run", "src/lib.rs")
    assert done.returncode == 2 and "can be asked for 'src/lib.rs' alone" in done.stderr


def test_the_changed_project_comes_first(repository) -> None:
    root = repository(
        {"a/pytest.ini": "", "a/test_a.py": "def test_a(): pass\n", "b/pytest.ini": "", "b/test_b.py": ""}
    )
    assert [check["folder"] for check in json.loads(pool(root, "--json").stdout)] == ["a", "b"]
    (root / "b/new.py").write_text("")
    assert [check["folder"] for check in json.loads(pool(root, "--json").stdout)] == ["b", "a"]


def test_a_line_at_a_terminal_says_that_it_runs(repository) -> None:
    root = repository({"a.txt": ""})
    master, slave = pty.openpty()
    command = "echo first; printf '\\033[2Jsecond'; sleep 0.7"
    child = subprocess.Popen(
        [sys.executable, "-m", "poolcli", "checks", "run", "--test", command],
        cwd=root,
        env={**environment(root.parent), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux: how a terminal ends
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert child.wait() == 0
    text = shown.decode()
    assert "test: " in text and "second" in text
    assert text.endswith("\r\x1b[K")
    assert "\x1b[2J" not in text  # what a check writes does not reach the terminal as it is


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_name_that_no_test_has_is_no_success(repository) -> None:
    test = "const test = require('node:test');\ntest('adds', () => {});\ntest('fails', () => { throw 1; });\n"
    root = repository({"package.json": '{"scripts": {"test": "node --test"}}', "sum.test.js": test})
    done = pool(root, "run", "nosuchtest")
    assert done.returncode == 3
    assert "no such test, or it is skipped: nosuchtest" in done.stdout
    assert pool(root, "run", "sum.test.js > adds").returncode == 0


def test_of_a_script_the_exit_code_is_all(repository) -> None:
    done = pool(repository(PYTEST_FILES), "run", "--test", "true")
    assert "note: judged by its exit code" in done.stdout and "problem" not in done.stdout


def test_an_interrupt_is_said(repository) -> None:
    root = repository({"a.txt": ""})
    child = subprocess.Popen(
        [sys.executable, "-m", "poolcli", "checks", "run", "--test", "echo begun; sleep 60"],
        cwd=root,
        env={**environment(root.parent), "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    child.stderr.readline()  # what runs
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and said.endswith("interrupted\n")
