"""Suites of real projects pass unchanged inside the sandbox: SQLite and processes, servers on loopback, pytest-xdist.

The sources and what they need come from the package index; a suite is run in a checkout first, then in a worktree of
it by the sandbox, with the checkout's `.venv` laid over. Both have to say the same.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from poolcli import workspace
from poolcli.git import find_repository
from poolcli.sandbox import Sandbox, detect
from tests.e2e.conftest import git

BUBBLEWRAP = detect.bubblewrap()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUBBLEWRAP.works, reason=BUBBLEWRAP.reason or "no bubblewrap"),
]

#: Release, what its tests need, and how they are run. Their own options ask for plugins that measure coverage.
SUITES = {
    "diskcache": ("5.6.3", [], "tests/test_core.py tests/test_recipes.py tests/test_fanout.py"),
    "pytest-httpserver": (
        "1.2.0",
        ["werkzeug", "requests", "httpx"],
        "-p pytest_httpserver.pytest_plugin tests",
    ),
}
_SAID = re.compile(r"(?:\d+ (?:passed|failed|skipped|xfailed|xpassed|errors?)(?:, )?)+(?= in )")


def pip(*args: str, python: str = sys.executable) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *args],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.fail(f"pip {' '.join(args)}: this test needs a package index\n{done.stderr}", pytrace=False)


@pytest.mark.parametrize("name", SUITES)
def test_a_real_suite_says_the_same_inside(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    version, needs, tests = SUITES[name]
    pip("download", "--no-deps", "--no-binary", name, "--dest", str(tmp_path), f"{name}=={version}")
    archive = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    top = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([sys.executable, "-m", "venv", str(top / ".venv")], check=True)
    pip("install", "pytest", "pytest-xdist", *needs, python=str(top / ".venv/bin/python"))
    (top / ".gitignore").write_text(".venv/\n__pycache__/\n")
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "release")

    command = f"PYTHONPATH=. python -m pytest -q -o addopts= -p no:cacheprovider -n 2 {tests}"
    outside = subprocess.run(
        ["bash", "-c", f"PATH={top}/.venv/bin:$PATH; {command}"],
        cwd=top,
        capture_output=True,
        text=True,
        timeout=600,
    )
    box = Sandbox("bubblewrap", "", str(BUBBLEWRAP.program))
    space = workspace.create(find_repository(top), run_id="suite-1", state=tmp_path / "st", sandbox=box)
    try:
        inside = asyncio.run(space.run(command, timeout=600))
    finally:
        space.remove()
    expected = _SAID.search(outside.stdout)
    assert expected is not None and outside.returncode == 0, outside.stdout[-3000:]
    found = _SAID.search(inside.output)
    assert found is not None and inside.exit_code == 0, inside.output[-3000:]
    assert found[0] == expected[0]
