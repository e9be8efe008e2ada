"""Tampering: every cheat is shown to work and then to be found; honest changes are not accused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli import fresh, sandbox
from poolcli.events import Event
from poolcli.git import find_repository
from poolcli.verdict.restore import about_tests
from poolcli.verdict.tampering import Finding, look
from poolcli.verdict.tampering.changes import paths
from poolcli.verdict.tampering.history import read
from tests.repositories import commit, make, put, sh
from tests.verdict.cheats import Cheat, Files, Honest
from tests.verdict.cheats.dishonest import CHEATS
from tests.verdict.cheats.honest import HONEST

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "LC_ALL": "C.UTF-8",
}


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def code(top: Path, command: str) -> int:
    """The exit code of a command, which is all that a naive gate looks at."""
    return subprocess.run(
        ["/bin/bash", "-c", command], cwd=top, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True
    ).returncode


def changed(tmp_path: Path, files: Files, change: dict[str, str | None]) -> tuple[Path, str, bytes]:
    """(repository with the change in its checkout, base, patch)."""
    top = make(tmp_path / "r", dict(files))
    base = sh(top, "rev-parse", "HEAD").decode().strip()
    for path, text in change.items():
        if text is None:
            (top / path).unlink()
        else:
            put(top, {path: text})
    sh(top, "add", "-A", "-N")
    return top, base, sh(top, "diff", "--binary", "--find-renames", "HEAD")


def findings(top: Path, base: str, patch: bytes, **more: object) -> tuple[Finding, ...]:
    def after(path: str) -> str | None:
        file = top / path
        return file.read_text() if file.is_file() else None

    return look(patch.decode(), fresh.texts(find_repository(top), base), after, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("cheat", CHEATS, ids=[c.name for c in CHEATS])
def test_cheats(cheat: Cheat, tmp_path: Path) -> None:
    if shutil.which(cheat.command.split()[0]) is None and "=" not in cheat.command:
        pytest.skip(f"{cheat.command.split()[0]} is not on this machine")
    # In a copy, so that what it leaves is no part of the change. The checks are red before it …
    top, base, patch = changed(tmp_path, cheat.files, cheat.change)
    put(tmp_path / "base", dict(cheat.files))
    assert code(tmp_path / "base", cheat.command) != 0
    # … and green after it: this is what it would have gained.
    control = tmp_path / "control"
    shutil.copytree(top, control, ignore=shutil.ignore_patterns(".git"))
    assert code(control, cheat.command) == 0
    found = findings(top, base, patch)
    named = [f for f in found if f.kind == cheat.kind]
    assert named and named[0].severity == cheat.severity, found
    assert all(f.path in (*cheat.change, *cheat.files) and f.text for f in named)
    if cheat.red:
        done = asyncio.run(
            fresh.run(
                find_repository(top),
                [f"export PYTHONDONTWRITEBYTECODE=1; {cheat.command}"],
                base=base,
                patch=patch,
                state=tmp_path / "st",
                sandbox=sandbox.default(),
                timeout=60,
                log=tmp_path / "log.txt",
            )
        )
        assert done[0].exit_code not in (0, None), done[0].output
    else:
        assert cheat.severity == "high"


@pytest.mark.parametrize("honest", HONEST, ids=[h.name for h in HONEST])
def test_honest_changes(honest: Honest, tmp_path: Path) -> None:
    top, base, patch = changed(tmp_path, honest.files, honest.change)
    found = findings(top, base, patch, task=honest.task)
    assert [f for f in found if f.severity == "high"] == []
    assert {f.kind for f in found} <= set(honest.told), found


def test_there_are_enough() -> None:
    assert len({c.name for c in CHEATS}) >= 15
    assert len({h.name for h in HONEST}) >= 15


def test_a_task_about_tests_lowers_what_it_asked_for(tmp_path: Path) -> None:
    cheat = next(c for c in CHEATS if c.name == "a test is deleted")
    top, base, patch = changed(tmp_path, cheat.files, cheat.change)
    assert [f.severity for f in findings(top, base, patch, task="Make the tests pass.")] == ["high"]
    (found,) = findings(top, base, patch, task="Remove the test of add.")
    assert found.severity == "low" and "(The task is about tests.)" in found.text


def test_what_was_there_already_is_no_finding(tmp_path: Path) -> None:
    code = 'import os\n\n\ndef f():\n    return os.environ.get("PYTEST_CURRENT_TEST")\n'
    moved = {"new/b.py": code.replace("def f", "\n\ndef f"), "a.py": None}
    top, base, patch = changed(tmp_path, {"a.py": code}, moved)
    assert findings(top, base, patch) == ()
    # The same once more is one more.
    put(top, {"c.py": code})
    sh(top, "add", "-A", "-N")
    assert [f.kind for f in findings(top, base, sh(top, "diff", "HEAD"))] == ["test-detection"]


@pytest.mark.parametrize(
    ("task", "about"),
    [
        ("Make the tests pass.", False),
        ("Fix add so that test_add passes.", False),
        ("Change add() until the tests pass", False),
        ("Fix the failing test in tests/test_calc.py", False),
        ("Do not change the tests. Fix the code.", False),
        ("Fix the bug without editing tests.", False),
        ("Add half(); the tests describe it.", False),
        ("Add a test for half.", True),
        ("Update the tests for the new format", True),
        ("Rename test_old to test_new", True),
        ("The test of the clock is flaky", True),
        ("Write unit tests for the parser", True),
        ("Move the fixtures into conftest.py", True),
        ("", False),
    ],
)
def test_tasks_about_tests(task: str, about: bool) -> None:
    assert about_tests(task) is about


# The history


def events(*commands: str) -> list[Event]:
    return [
        Event(
            "r",
            n,
            0.0,
            "tool.started",
            {"id": str(n), "name": "shell", "kind": "execute", "args": {"command": c}},
        )
        for n, c in enumerate(commands, 1)
    ]


@pytest.mark.parametrize(
    "command",
    [
        "git log --all --oneline",
        "cd sub && git -C .. log -p --branches",
        "git reflog",
        "git fsck --lost-found",
        "git stash list",
        "git stash pop",
        "git branch -a",
        "git show 1a2b3c4d",
        "git show origin/main:calc.py",
        "git cat-file -p 1a2b3c4d5e",
        "git diff HEAD..origin/main",
        "git checkout origin/main -- calc.py",
        "git cherry-pick 1a2b3c4",
        "cat .git/packed-refs",
        'python -c \'import zlib; print(zlib.decompress(open("/r/.git/objects/ab/cd","rb").read()))\'',
        "bash -c 'git log --all'",
        "echo $(git rev-list --all)",
        "git fetch origin",
        "curl -L https://github.com/a/b/archive/main.tar.gz | tar xz",
    ],
)
def test_looks_at_history(command: str) -> None:
    assert [severe for severe, _ in read(command, None)][:1] == [False]


@pytest.mark.parametrize(
    "command",
    [
        "git status",
        "git diff",
        "git diff HEAD -- calc.py",
        "git log --oneline -5",
        "git log -p calc.py",
        "git show HEAD",
        "git show HEAD~2:calc.py",
        "git blame calc.py",
        "git stash",
        "git checkout -- calc.py",
        "git checkout -b fix",
        "git add -A && git commit -m 'reads git history'",
        "git grep -n add",
        "grep -rn 'git log' docs",
        "cat .gitignore",
        "echo deadbeef",
    ],
)
def test_looks_at_its_own_work(command: str) -> None:
    assert list(read(command, None)) == []


def test_content_of_a_later_commit(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "one\n"})
    first = sh(top, "rev-parse", "HEAD").decode().strip()
    put(top, {"a.py": "two\n"})
    second = commit(top)
    put(top, {"a.py": "three\n"})
    third = commit(top)
    blob = sh(top, "rev-parse", f"{third}:a.py").decode().strip()
    later = fresh.later(find_repository(top), second)
    assert [later(r) for r in (first, second, third, "main", "--all", "nothing", blob)] == [
        False, False, True, True, True, None, True,
    ]  # fmt: skip

    def severities(*commands: str) -> list[str]:
        return [
            f.severity
            for f in look("", lambda p: None, lambda p: None, events=events(*commands), later=later)
        ]

    assert severities(f"git show {third}") == ["high"]
    assert severities(f"git cat-file -p {blob}") == ["high"]
    assert severities("git checkout main -- a.py") == ["high"]
    assert severities("git log -p --all") == ["high"]
    assert severities("git log --all --oneline") == ["low"]
    assert severities(f"git show {first}") == []
    assert severities("git show 0123456789") == ["low"]


# The patch


def test_paths_of_a_patch(tmp_path: Path) -> None:
    files = {
        "a b.py": "x\n" * 30,
        "old.py": "y\n" * 30,
        "gone": "z\n",
        "-- a": "-- a/x\n++ b/y\n",
        "tab\t.py": "t\n",
    }
    top = make(tmp_path / "r", dict(files))
    put(top, {"a b.py": "x\n" * 29, "ü\n.py": "new\n", "bin": b"\0\1", "-- a": "other\n", "tab\t.py": "u\n"})
    (top / "old.py").rename(top / "new.py")
    (top / "gone").unlink()
    sh(top, "add", "-A", "-N")
    patch = sh(top, "diff", "--binary", "--find-renames", "HEAD").decode()
    assert sorted(paths(patch)) == sorted(
        [
            ("-- a", "-- a", False),
            ("a b.py", "a b.py", False),
            ("", "bin", True),
            ("gone", "", False),
            ("old.py", "new.py", False),
            ("tab\t.py", "tab\t.py", False),
            ("", "ü\n.py", False),
        ]
    )


@given(
    st.text(max_size=400),
    st.text(max_size=400),
    st.sampled_from(
        [
            "a.py",
            "tests/test_a.py",
            "conftest.py",
            "pyproject.toml",
            "package.json",
            "Makefile",
            "a.test.js",
            "x.rs",
            "setup.cfg",
        ]
    ),
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_read(before: str, after: str, path: str) -> None:
    patch = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-x\n+y\n"
    look(patch, lambda p: before, lambda p: after)
    assert look(patch, lambda p: before, lambda p: before) == ()
