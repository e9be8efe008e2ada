"""The fresh place: what lies in it, that it goes away, and that the user's checkout is only read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from poolcli import fresh, sandbox, workspace
from poolcli.errors import WorkspaceError
from poolcli.fresh import Place
from poolcli.git import find_repository
from poolcli.verdict import mixed
from poolcli.verdict.restore import is_configuration, is_test, plan
from tests.repositories import content, make, private_state, put, sh


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


BASE: dict[str, str | bytes] = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "tests/test_calc.py": "from calc import add\n",
    "tests/data.bin": b"\0\1",
    "tests/run.sh": "#!/bin/sh\n",
    "pytest.ini": "[pytest]\n",
    "pyproject.toml": '[project]\nname = "calc"\n\n[tool.pytest.ini_options]\naddopts = "-q"\n',
}


def head(top: Path) -> str:
    return sh(top, "rev-parse", "HEAD").decode().strip()


def patch_of(top: Path) -> bytes:
    """The checkout's changes as a patch; the checkout is clean afterwards."""
    sh(top, "add", "-A")
    patch = sh(top, "diff", "--cached", "--binary", "--find-renames", "HEAD")
    sh(top, "reset", "-q", "--hard")
    return patch


def look(top: Path, tmp_path: Path, patch: bytes, **more: bool) -> tuple[Place, dict[str, tuple[str, bytes]]]:
    async def work(place: Place) -> tuple[Place, dict[str, tuple[str, bytes]]]:
        return place, content(place.root)

    repo = find_repository(top)
    state = tmp_path / "st"
    return asyncio.run(
        fresh.judge(repo, work, base=repo.head, patch=patch, state=state, sandbox=sandbox.default(), **more)
    )


def nothing_left(top: Path, tmp_path: Path) -> bool:
    folders = [*(tmp_path / "st/worktrees").iterdir(), *(tmp_path / "st/runs").iterdir()]
    return folders == [] and list((top / ".git/worktrees").glob("*")) == []


def test_the_change_with_the_tests_of_the_base(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    (top / "tests/run.sh").chmod(0o755)
    sh(top, "add", "-A")
    sh(top, "commit", "-q", "-m", "mode")
    put(
        top,
        {
            "calc.py": "def add(a, b):\n    return a + b\n",
            "new.py": "x = 1\n",
            "tests/test_calc.py": "",
            "tests/data.bin": b"\0\2",
            "tests/test_new.py": "",
            "tests/deep/conftest.py": "",
            "sitecustomize.py": "",
            "pytest.py": "",
            "pyproject.toml": '[project]\nname = "calc"\ndependencies = ["rich"]\n\n'
            '[tool.pytest.ini_options]\naddopts = "-k none"\n',
        },
    )
    (top / "tests/run.sh").chmod(0o644)
    (top / "pytest.ini").unlink()
    patch = patch_of(top)
    put(top, {"calc.py": "the user is at work\n", "mine.txt": "mine\n"})
    before, files = private_state(top / ".git"), content(top)
    place, found = look(top, tmp_path, patch)
    # git status, which pool asks, may write nothing; the user's files are the user's.
    assert private_state(top / ".git") == before and content(top) == files
    assert nothing_left(top, tmp_path)
    assert found["calc.py"] == ("file", b"def add(a, b):\n    return a + b\n")
    assert found["new.py"][1] == b"x = 1\n"
    assert found["tests/data.bin"] == ("file", b"\0\1") and found["tests/run.sh"][0] == "run"
    assert (
        found["pytest.ini"][1] == b"[pytest]\n"
        and found["tests/test_calc.py"][1] == b"from calc import add\n"
    )
    settings = tomllib.loads(found["pyproject.toml"][1].decode())
    assert settings["project"]["dependencies"] == ["rich"]
    assert settings["tool"]["pytest"]["ini_options"] == {"addopts": "-q"}
    gone = ("tests/test_new.py", "tests/deep/conftest.py", "sitecustomize.py", "pytest.py", "mine.txt")
    assert not set(gone) & found.keys()
    assert place.problem == "" and set(place.plan.remove) == {*gone[:4]}
    # The version of the change's own tests.
    _, own = look(top, tmp_path, patch, own_tests=True)
    assert own["tests/test_calc.py"][1] == b"" and "tests/test_new.py" in own


def test_links_in_the_place_of_tests(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    outside = tmp_path / "outside"
    put(outside, {"test_calc.py": "outside\n"})
    for file in sorted((top / "tests").iterdir()):
        file.unlink()
    (top / "tests").rmdir()
    (top / "tests").symlink_to(outside)
    place, found = look(top, tmp_path, patch_of(top))
    assert place.problem == ""
    assert found["tests/test_calc.py"] == ("file", b"from calc import add\n")
    assert content(outside) == {"test_calc.py": ("file", b"outside\n")}


def test_a_patch_that_does_not_apply(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    put(top, {"calc.py": "other\n"})
    patch = patch_of(top).replace(b"return a - b", b"return a * b")
    place, found = look(top, tmp_path, patch)
    assert "calc.py" in place.problem and found["calc.py"][1] == b"def add(a, b):\n    return a - b\n"
    with pytest.raises(WorkspaceError, match="does not apply"):
        asyncio.run(
            fresh.run(
                find_repository(top), ["true"], base=head(top), patch=patch, state=tmp_path / "st",
                sandbox=sandbox.default(), timeout=10, log=tmp_path / "log.txt",
            )
        )  # fmt: skip
    assert nothing_left(top, tmp_path)


@pytest.mark.parametrize("path", ["../out.txt", ".git/hooks/pre-commit"])
def test_a_patch_that_leaves_the_place(path: str, tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    text = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    place, _ = look(top, tmp_path, text.encode())
    assert place.problem
    assert not (tmp_path / "st/worktrees/out.txt").exists() and not (top / path).exists()


def test_borrowed_packages_and_the_output_of_commands(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {**BASE, ".gitignore": "node_modules\n"})
    put(top, {"node_modules/left/index.js": "module.exports = 1\n"})
    done = asyncio.run(
        fresh.run(
            find_repository(top), ["ls node_modules", "pwd; exit 3"], base=head(top), patch=b"",
            state=tmp_path / "st", sandbox=sandbox.default(), timeout=10, log=tmp_path / "log.txt",
        )
    )  # fmt: skip
    assert done[0].output == "left\n" and (tmp_path / "log-0.txt").read_text() == "left\n"
    assert done[1].exit_code == 3 and str(tmp_path / "st/worktrees") in done[1].output
    assert nothing_left(top, tmp_path)


def test_cancelled_in_the_middle(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    mark = tmp_path / "pid"

    async def go() -> None:
        task = asyncio.create_task(
            fresh.run(
                find_repository(top), [f"(setsid sleep 60 & echo $! > {mark}); sleep 60"], base=head(top), patch=b"",
                state=tmp_path / "st", sandbox=sandbox.default(), timeout=60, log=tmp_path / "log.txt",
            )
        )  # fmt: skip
        while not (mark.exists() and mark.read_text()):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert nothing_left(top, tmp_path)
    assert ended(int(mark.read_text()))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ended(pid: int) -> bool:
    """Whether a killed process goes away: a signal takes a moment on a busy machine. `sleep 60` would not."""
    for _ in range(500):
        if not running(pid):
            return True
        time.sleep(0.02)
    return False


_SLOW = """
import asyncio, sys
from pathlib import Path
from poolcli import fresh, sandbox
from poolcli.git import find_repository
repo = find_repository(Path(sys.argv[1]))
asyncio.run(fresh.run(repo, ["sleep 60 & echo $! > " + sys.argv[3] + "; wait"], base=repo.head, patch=b"",
    state=Path(sys.argv[2]), sandbox=sandbox.default(), timeout=60, log=Path(sys.argv[3] + ".log")))
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    before = private_state(top / ".git")
    mark = tmp_path / "pid"
    child = subprocess.Popen([sys.executable, "-c", _SLOW, str(top), str(tmp_path / "st"), str(mark)])
    while not (mark.exists() and mark.read_text()):
        assert child.poll() is None
        time.sleep(0.02)
    repo = find_repository(top)
    # While it lives, it is nobody else's.
    assert workspace.collect(repo, tmp_path / "st") == []
    assert running(int(mark.read_text()))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (line,) = workspace.collect(repo, tmp_path / "st")
    assert line.startswith("a verdict was stopped")
    assert nothing_left(top, tmp_path) and private_state(top / ".git") == before
    assert ended(int(mark.read_text()))


def test_a_folder_that_a_kill_left_is_swept(tmp_path: Path) -> None:
    top = make(tmp_path / "r", dict(BASE))
    put(tmp_path / "st/runs/20260101-000000.000-abcd.verdict", {"lock": ""})
    look(top, tmp_path, b"")
    assert nothing_left(top, tmp_path)


# Which files


@pytest.mark.parametrize(
    "path",
    [
        "tests/test_a.py", "tests/data/x.json", "test_a.py", "pkg/a_test.py", "pkg/tests/helpers.py", "test/a.js",
        "src/a.test.ts", "src/__tests__/a.js", "src/a.spec.tsx", "a_test.go", "pkg/testdata/in.txt",
        "src/test/java/a/BTest.java", "spec/a_spec.rb", "test/models/user_test.rb", "tests/Unit/ATest.php",
        "tests/it.rs", "packages/a/test/b.js", "lib/foo_unittest.cc", "t/basic.t", "a/__snapshots__/b.snap", "tests",
    ],
)  # fmt: skip
def test_files_of_tests(path: str) -> None:
    assert is_test(path)


@pytest.mark.parametrize(
    "path",
    [
        "calc.py", "django/test/client.py", "numpy/testing/utils.py", "src/latest.py", "contest.py", "attest.go",
        "src/testimony.ts", "docs/testing.md", "src/main/java/Tester.java", "protest/a.py", "testing_tools.py",
        "package.json", "pyproject.toml", "src/inspect.rs",
    ],
)  # fmt: skip
def test_files_of_the_product(path: str) -> None:
    assert not is_test(path) and not is_configuration(path)


@pytest.mark.parametrize(
    "path",
    [
        "conftest.py", "pkg/conftest.py", "pytest.ini", "tox.ini", "noxfile.py", "jest.config.js", "vitest.config.mts",
        ".mocharc.yml", "phpunit.xml.dist", ".rspec", "sitecustomize.py", "a.pth", "src/setupTests.ts",
        ".config/nextest.toml",
    ],
)  # fmt: skip
def test_files_of_configuration(path: str) -> None:
    assert is_configuration(path)


def merge(name: str, base: str, after: str) -> str:
    result = mixed.merged(name, base, after)
    assert result is not None
    return result


def test_parts_of_pyproject() -> None:
    base = (
        '[project]\nname = "a"\n\n[tool.pytest.ini_options]\naddopts = "-q"  # quiet\n\n'
        "[tool.ruff]\nline-length = 99\n"
    )
    after = (
        '[project]\nname = "b"\n[project.entry-points.pytest11]\nx = "y"\n[tool.pytest.ini_options]\naddopts = "-k z"\n'
        "[tool.ruff]\nline-length = 100\n"
    )
    assert merge("pyproject.toml", base, after) == (
        '[project]\nname = "b"\n[tool.pytest.ini_options]\naddopts = "-q"  # quiet\n\n[tool.ruff]\nline-length = 100\n'
    )
    assert merge("pyproject.toml", base, base + '[tool.black]\nline = ["[x]"]\n').endswith('["[x]"]\n')
    # What was deleted comes back; what is written in a way that cannot be spliced is not spliced.
    assert "addopts" in merge("pyproject.toml", base, '[project]\nname = "b"\n')
    assert (
        mixed.merged("pyproject.toml", base, '[tool]\npytest = {ini_options = {addopts = "-k z"}}\n') is None
    )
    assert mixed.merged("pyproject.toml", base, "not toml") is None


def test_parts_of_package_json() -> None:
    base = json.dumps({"scripts": {"test": "jest", "build": "x"}, "jest": {"a": 1}})
    after = json.dumps(
        {"scripts": {"test": "true", "build": "y", "pretest": "z"}, "dependencies": {"b": "1"}}
    )
    assert json.loads(merge("package.json", base, after)) == {
        "scripts": {"build": "y", "test": "jest"},
        "dependencies": {"b": "1"},
        "jest": {"a": 1},
    }
    assert merge("package.json", base, base + "\n") == base + "\n"


def test_parts_of_a_makefile() -> None:
    base = "X = 1\n\ntest: build\n\tpytest\n\nbuild:\n\tmake it\n"
    after = "X = 2\n\ntest:\n\ttrue\n\nbuild:\n\tmake it well\n"
    assert merge("Makefile", base, after) == "X = 2\n\ntest: build\n\tpytest\n\nbuild:\n\tmake it well\n"
    assert merge("Makefile", base, "all:\n\tx\n") == "all:\n\tx\ntest: build\n\tpytest\n\n"


def test_parts_of_setup_cfg() -> None:
    base = "[metadata]\nname = a\n\n[tool:pytest]\naddopts = -q\n"
    after = "[metadata]\nname = b\n\n[tool:pytest]\naddopts = -k x\n[options]\nzip_safe = no\n"
    assert merge("setup.cfg", base, after) == (
        "[metadata]\nname = b\n\n[tool:pytest]\naddopts = -q\n[options]\nzip_safe = no\n"
    )


def test_a_change_without_tests_has_nothing_to_restore() -> None:
    assert plan(["calc.py", "docs/a.md"], lambda p: "", lambda p: "", lambda p: True).empty
