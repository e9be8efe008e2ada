"""A real bug of a real project: sqlparse 0.5.0 splits a statement in the middle of a BEGIN block (its issue 784).

Release 0.5.1 fixed it ("Fix error when splitting statements that contain multiple CASE clauses within a BEGIN
block") and added the test for it. Both releases come from the package index as source; the repository of the test
is 0.5.1 with the one module that the fix is in, and nothing else is, as it was in 0.5.0. The scripted model mends
it in two steps, as its hunks come: after the first the tests are still red.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Pool, call, git, make_repo, reply, snapshot

pytestmark = pytest.mark.slow

BROKEN, FIXED = "0.5.0", "0.5.1"
MODULE = "sqlparse/engine/statement_splitter.py"
TEST = "tests/test_split.py::test_split_multiple_case_in_begin"
#: What of the release makes the project: source, tests, their configuration.
PARTS = ("sqlparse", "tests", "pyproject.toml", "README.rst", "CHANGELOG", "LICENSE")


def source(version: str, folder: Path) -> Path:
    """The unpacked source release. Fails, rather than skips, when the package index does not give it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
            *("--no-deps", "--no-binary", "sqlparse", "--dest", str(folder), f"sqlparse=={version}"),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.fail(
            f"sqlparse {version} cannot be downloaded; this test needs a package index\n{done.stderr}",
            pytrace=False,
        )
    with tarfile.open(folder / f"sqlparse-{version}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"sqlparse-{version}"


def edits(old: str, new: str) -> list[dict[str, Any]]:
    """Edit calls that turn one text into the other, each with as many lines around it as make it unique."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    found = []
    for tag, start, end, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        lead = 1
        while old.count("".join(before[start - lead : end])) != 1:
            lead += 1
        context = before[start - lead : start]
        found.append(
            call(
                "edit",
                path=MODULE,
                old="".join([*context, *before[start:end]]),
                new="".join([*context, *after[first:last]]),
            )
        )
    return found


@pytest.fixture
def project(tmp_path: Path) -> tuple[Pool, str]:
    """The broken project, committed, and the text of its module once it is fixed."""
    downloads, folder, home = tmp_path / "downloads", tmp_path / "sqlparse", tmp_path / "home"
    broken, fixed = source(BROKEN, downloads), source(FIXED, downloads)
    folder.mkdir()
    home.mkdir()
    for name in PARTS:
        part = fixed / name
        (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / name)
    shutil.copy(broken / MODULE, folder / MODULE)
    (folder / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n")
    # `pytest` itself is found on PATH, as in an activated environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return Pool(make_repo(folder, {}), home, {"PATH": path}), (fixed / MODULE).read_text()


def test_a_past_bug_is_fixed_and_the_fix_is_proved(project: tuple[Pool, str]) -> None:
    pool, fixed = project
    first, *rest = edits((pool.repo / MODULE).read_text(), fixed)
    assert rest
    before = snapshot(pool.repo)
    done = pool.do(
        "splitting a procedure with several CASE clauses in its BEGIN block gives several statements",
        replies=(
            reply("", call("run_tests")),
            reply("", call("search", pattern="_begin_depth"), call("read", path=MODULE)),
            reply("The END of a CASE is taken for the END of the block.", first),
            reply("", call("run_tests")),
            reply("That alone changes nothing yet; the state has to be set and used.", *rest),
            reply("", call("run_tests")),
            reply("A CASE now remembers that the next END is its own, so the block's depth stays right."),
        ),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + done.stdout

    result = pool.result()
    assert result["status"] == "verified" and result["exit_code"] == 0
    verdict = result["verdict"]
    assert verdict["verified"]
    assert verdict["before"]["status"] == "failed" and verdict["before"]["counts"]["failed"] == 1
    assert verdict["after"]["status"] == "passed" and verdict["after"]["counts"]["failed"] == 0
    # Nothing else was broken, skipped or lost: the one test moved from failed to passed.
    assert verdict["after"]["counts"]["passed"] == verdict["before"]["counts"]["passed"] + 1
    assert verdict["tests"][TEST]["before"] == "failed"
    assert verdict["tests"][TEST].get("after", "passed") == "passed"

    runs = [e["data"] for e in pool.events() if e["type"] == "checks.done"]
    assert [(r["phase"], r["ok"]) for r in runs] == [
        ("baseline", False),
        ("tool", False),
        ("tool", False),
        ("tool", True),
        ("round", True),
        ("verdict", True),
    ]
    assert "test_split_multiple_case_in_begin" in runs[0]["text"] and "assert " in runs[0]["text"]
    edited = [
        e["data"]["ok"] for e in pool.events() if e["type"] == "tool.done" and e["data"]["name"] == "edit"
    ]
    assert edited == [True] * (1 + len(rest))

    assert snapshot(pool.repo) == before
    assert pool("apply").returncode == 0
    assert (pool.repo / MODULE).read_text() == fixed
    assert git(pool.repo, "status", "--porcelain").split() == ["M", MODULE]
    assert git(pool.repo, "diff", "--full-index") == pool("diff").stdout
