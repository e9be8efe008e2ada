"""Drives the real command in real repositories; the model is the scripted one, over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from poolcli.sandbox import detect

CALC = "def add(a, b):\n    return a - b\n\n\ndef double(x):\n    return x * 2\n"
TEST_CALC = """import unittest

from calc import add, double


class TestCalc(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_double(self):
        self.assertEqual(double(4), 8)
"""

FIX = {"path": "calc.py", "old": "return a - b", "new": "return a + b"}


def call(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def reply(text: str = "", *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**({"text": text} if text else {}), **({"calls": list(calls)} if calls else {}), **more}


#: Runs red, reads, edits, runs green, says so.
REPAIR = (
    reply("", call("run_tests")),
    reply("", call("read", path="calc.py"), call("read", path="test_calc.py")),
    reply("The sign is wrong.", call("edit", **FIX)),
    reply("", call("run_tests")),
    reply("add subtracted; it adds now."),
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def script(*replies: dict[str, Any]) -> str:
    """A script file's text."""
    lines = []
    for item in replies:
        lines.append("[[reply]]")
        lines += [f"{key} = {_toml(value)}" for key, value in item.items()]
    return "\n".join(lines) + "\n"


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(folder), *args],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def make_repo(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "base")
    return folder


#: Where no bubblewrap works, what is not about the sandbox is tested without one.
SANDBOX = "auto" if detect.bubblewrap().works else "none"


@dataclass
class Pool:
    """The `pool` command in one repository, with a state folder of its own."""

    repo: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.home / "state"

    def environment(self) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("POOL_", "GIT_", "XDG_"))}
        return {
            **keep,
            "HOME": str(self.home),
            "POOL_STATE": str(self.state),
            # Said by name: where no sandbox works, each command would be asked about, and nobody is there.
            "POOL_MODE": "auto",
            "POOL_SANDBOX": SANDBOX,
            **self.env,
        }

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "poolcli", *args]

    def __call__(
        self, *args: str, cwd: Path | None = None, timeout: float = 60, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            self.argv(*args),
            cwd=cwd or self.repo,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            **more,
        )

    def start(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            self.argv(*args),
            cwd=self.repo,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )

    def scripted(self, *replies: dict[str, Any], name: str = "script.toml") -> str:
        """The reference of a scripted model that plays these replies."""
        path = self.home / name
        path.write_text(script(*replies))
        return f"scripted:{path}"

    def do(
        self, *args: str, replies: tuple[dict[str, Any], ...] = REPAIR, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return self("do", *args, "--model", self.scripted(*replies), **more)

    def runs(self) -> list[Path]:
        return sorted(self.state.glob("*/runs/*"))

    def result(self) -> dict[str, Any]:
        """The newest run's result.json."""
        return json.loads((self.runs()[-1] / "result.json").read_text())

    def events(self) -> list[dict[str, Any]]:
        """The newest run's log."""
        lines = (self.runs()[-1] / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def worktrees(self) -> list[Path]:
        return sorted(self.state.glob("*/worktrees/*"))


@pytest.fixture
def make_pool(tmp_path: Path) -> Callable[[dict[str, str]], Pool]:
    def make(files: dict[str, str]) -> Pool:
        home = tmp_path / "home"
        home.mkdir()
        return Pool(make_repo(tmp_path / "repo", files), home)

    return make


@pytest.fixture
def pool(make_pool: Callable[[dict[str, str]], Pool]) -> Pool:
    """A repository with one wrong sign and a unittest that shows it."""
    return make_pool({"calc.py": CALC, "test_calc.py": TEST_CALC})


def snapshot(repo: Path) -> dict[str, str]:
    """What must not change in a user's checkout: files, index, refs, stash, config, hooks."""
    state = {
        "head": git(repo, "symbolic-ref", "-q", "HEAD"),
        "refs": "\n".join(r for r in git(repo, "for-each-ref").splitlines() if "refs/pool/" not in r),
        "index": git(repo, "ls-files", "-s", "-v"),
        "status": git(repo, "status", "--porcelain=v1", "--ignored"),
        "config": (repo / ".git" / "config").read_text(),
        "hooks": ",".join(sorted(p.name for p in (repo / ".git" / "hooks").glob("*"))),
    }
    for path in sorted(repo.rglob("*")):
        if path.is_file() and ".git" not in path.relative_to(repo).parts:
            state[f"file {path.relative_to(repo)}"] = path.read_bytes().hex() + oct(path.stat().st_mode)
    return state


def have(program: str) -> bool:
    return shutil.which(program) is not None
