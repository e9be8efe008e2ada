"""What a person is told of a change before taking it over: from real patches of real changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import sandbox, surprises, workspace
from poolcli.git import find_repository
from poolcli.workspace import Workspace
from tests.repositories import make, put


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    top = make(tmp_path / "r", {"a.py": "a\n", "docs/old": "x\n", "Makefile": "all:\n", "here": "x\n"})
    repo = find_repository(top)
    return workspace.create(repo, run_id="surprises-1", state=tmp_path / "st", sandbox=sandbox.default())


def told(space: Workspace) -> list[str]:
    return space.surprises(space.patch())


def test_plain_changes_are_no_surprise(space: Workspace) -> None:
    put(
        space.root,
        {"a.py": "b\n", "new/deep.py": "diff --git a/.envrc b/.envrc\nnew file mode 120000\n+/etc\n"},
    )
    (space.root / "inner").symlink_to("new/deep.py")
    (space.root / "new/up").symlink_to("../a.py")
    (space.root / "Makefile").unlink()
    assert told(space) == []


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("l", "/etc/passwd", "out of the repository, to /etc/passwd"),
        ("l", "..", "out of the repository"),
        ("docs/l", "../../x", "out of the repository"),
        ("docs/l", "../.git/config", "into .git"),
        ("l", ".GIT/hooks", "into .git"),
        ("l", "docs/../../..", "out of the repository"),
        ("l", "docs/deep/../x", "by a way round"),
        ("here", "/etc/passwd", "out of the repository"),  # what was a file
        ("l", "/two\nlines", "out of the repository, to /two\nlines"),
        ("ü b", "/x", "ü b is a link out of"),
    ],
)
def test_links(space: Workspace, path: str, target: str, said: str) -> None:
    (space.root / path).unlink(missing_ok=True)
    (space.root / path).symlink_to(target)
    (line,) = told(space)
    assert said in line and path in line


@pytest.mark.parametrize(
    "path",
    [
        ".envrc",
        "sub/.envrc",
        ".vscode/tasks.json",
        "web/package.json",
        "setup.py",
        "Makefile",
        "GNUmakefile",
        ".github/workflows/ci.yml",
        ".husky/pre-commit",
        ".githooks/post-merge",
        "sub/.gitattributes",
        ".gitmodules",
        "conf/evil.pth",
        "build.rs",
        ".POOL/config.toml",
        "AGENTS.md",
        ".devcontainer/devcontainer.json",
        "Dockerfile.dev",
    ],
)
def test_what_runs_later(space: Workspace, path: str) -> None:
    put(space.root, {path: "changed\n"})
    (line,) = told(space)
    assert line.startswith(f"{path}: ")


def test_a_long_list_is_cut_and_counted(space: Workspace) -> None:
    for n in range(30):
        (space.root / f"l{n}").symlink_to("/x")
    lines = told(space)
    assert len(lines) == surprises.MOST and lines[-1] == "and 19 more like these"
    put(space.root, {f"d{n}/Makefile": "x\n" for n in range(9)})
    for n in range(30):
        (space.root / f"l{n}").unlink()
    (line,) = told(space)
    assert line == "d0/Makefile, d1/Makefile, d2/Makefile, d3/Makefile and 5 more: a build runs it"


def test_repositories_inside_are_named_and_their_git_never_comes_along(space: Workspace) -> None:
    asyncio.run(
        space.run("git init -q lib; echo x > lib/x; mkdir -p bare; git init -q --bare bare/x.git", timeout=30)
    )
    patch = space.patch()
    lines = space.surprises(patch)
    assert any(line.startswith("lib/ holds a git repository") for line in lines)
    assert any(line.startswith("bare/x.git looks like a git folder") for line in lines)
    assert b"lib/.git" not in patch and b"lib/x" in patch


def test_a_submodule_in_a_patch_of_any_origin() -> None:
    patch = (
        b"diff --git a/lib b/lib\nnew file mode 160000\nindex 0000000..1111111\n--- /dev/null\n+++ b/lib\n"
    )
    patch += b"@@ -0,0 +1 @@\n+Subproject commit 1111111111111111111111111111111111111111\n"
    assert surprises.look(patch) == ["lib is a submodule: a commit of another repository"]


@given(st.binary(max_size=400) | st.text("diff -gta/b\n+@120000newfilmode.", max_size=300).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    assert len(surprises.look(b"diff --git a/x b/x\n" + data)) <= surprises.MOST
