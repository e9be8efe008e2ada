"""Worktrees: what is carried over, what comes back, what the user's repository sees of it (nothing)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from poolcli import sandbox, workspace, worktrees
from poolcli.errors import WorkspaceError
from poolcli.git import Repository, find_repository
from poolcli.workspace import Workspace
from tests.repositories import commit, content, lock, make, private_state, put, sh


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def start(top: Path, tmp_path: Path, run_id: str = "run-1") -> Workspace:
    return workspace.create(
        find_repository(top), run_id=run_id, state=tmp_path / "st", sandbox=sandbox.default()
    )


def again(space: Workspace, tmp_path: Path) -> Workspace:
    return workspace.reopen(
        space.repo,
        run_id=space.run_dir.name,
        state=tmp_path / "st",
        base=space.base,
        sandbox=sandbox.default(),
    )


def visible(top: Path) -> dict[str, tuple[str, bytes]]:
    """What a snapshot must hold: everything that git does not ignore."""
    out = sh(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {os.fsdecode(n) for n in out.split(b"\0")[:-1]}
    return {name: value for name, value in content(top).items() if name in names}


# What is carried over


def test_a_clean_checkout(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    before = private_state(top / ".git")
    space = start(top, tmp_path)
    assert space.root == tmp_path / "st" / "worktrees" / "run-1"
    assert content(space.root) == content(top)
    assert not (top / ".git/worktrees").exists(), "nothing is entered in the user's .git but the base's ref"
    assert space.base == space.snapshot.head == find_repository(top).head
    assert space.dirty == () and space.notes == ()
    assert sh(top, "rev-parse", "refs/pool/base/run-1").decode().strip() == space.base
    assert space.patch() == b"" and space.changed() == []
    assert space.files() == [("a.py", 14), ("run.sh", 10), ("sub/b.py", 2)]
    space.remove()
    assert private_state(top / ".git") == before
    assert not space.root.exists() and not (top / ".git/worktrees").exists()
    assert sh(top, "for-each-ref", "refs/pool") == b""
    assert list(space.run_dir.iterdir()) == []


def dirty_checkout(top: Path) -> Path:
    make(
        top,
        {
            ".gitignore": "*.log\nbuild/\n",
            "a.py": "one\ntwo\n",
            "gone.py": "gone\n",
            "staged.py": "old\n",
            "both.py": "old\n",
            "mode.sh": "#!/bin/sh\n",
            "to_link": "text\n",
            "to_folder": "text\n",
            "folder/x": "x\n",
            "folder2/x": "x\n",
            "renamed.py": "a\nb\nc\n",
            "unmoved": "u\n",
        },
    )
    put(top, {"a.py": "one\nTWO\n", "staged.py": "new\n", "both.py": "staged\n", "b.log": "ignored\n"})
    sh(top, "add", "staged.py", "both.py")
    put(
        top,
        {
            "both.py": "and changed again\n",
            "new file\nü.txt": "new\n",
            "build/x.o": "x",
            "deep/er/n.bin": b"\0\xff",
        },
    )
    (top / "gone.py").unlink()
    (top / "mode.sh").chmod(0o755)
    (top / "to_link").unlink()
    (top / "to_link").symlink_to("a.py")
    (top / "to_folder").unlink()
    put(top, {"to_folder/inside": "i\n"})
    shutil.rmtree(top / "folder")
    put(top, {"folder": "now a file\n"})
    shutil.rmtree(top / "folder2")
    (top / "folder2").symlink_to("deep")
    sh(top, "mv", "renamed.py", "other.py")
    (top / "unmoved").rename(top / os.fsdecode(b"not-utf8-\xff"))
    return top


def test_every_kind_of_change_is_carried_over_and_nothing_is_touched(tmp_path: Path) -> None:
    """FLT-40"""
    top = dirty_checkout(tmp_path / "r")
    before, status = private_state(top / ".git"), sh(top, "status", "--porcelain", "-z")
    before = private_state(top / ".git")  # git status refreshes the index
    space = start(top, tmp_path)
    assert private_state(top / ".git") == before
    assert content(space.root) == visible(top)
    assert "b.log" not in content(space.root)
    assert (
        sh(top, "for-each-ref", "--format=%(objectname)", "refs/pool/base/run-1").decode().strip()
        == space.base
    )
    assert space.base != space.snapshot.head
    assert set(space.dirty) >= {
        "a.py",
        "gone.py",
        "staged.py",
        "both.py",
        "mode.sh",
        "to_link",
        "new file\nü.txt",
    }
    assert space.snapshot.dirty == len(space.dirty)
    assert space.patch() == b""
    assert sh(top, "status", "--porcelain", "-z") == status


def test_a_staged_only_change(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"a.py": "staged\n"})
    sh(top, "add", "a.py")
    sh(top, "update-index", "--refresh")
    space = start(top, tmp_path)
    assert (space.root / "a.py").read_text() == "staged\n"


def test_a_change_within_the_same_tick_as_the_index(tmp_path: Path) -> None:
    """The size is the same and so is the time: only the index's own time tells git to look closer."""
    top = make(tmp_path / "r", {"a.py": "AAAA\n"})
    sh(top, "config", "core.trustctime", "false")
    long_ago = (1_000_000_000, 1_000_000_000)
    os.utime(top / "a.py", long_ago)
    sh(top, "update-index", "--refresh")
    put(top, {"a.py": "BBBB\n"})
    os.utime(top / "a.py", long_ago)
    os.utime(top / ".git/index", long_ago)
    assert start(top, tmp_path).root.joinpath("a.py").read_text() == "BBBB\n"


def test_the_user_holds_the_index_lock(tmp_path: Path) -> None:
    """FLT-32"""
    top = make(tmp_path / "r")
    put(top, {"a.py": "changed\n", "new.py": "new\n"})
    (top / ".git/index.lock").touch()
    space = start(top, tmp_path)
    assert content(space.root) == content(top)
    assert (top / ".git/index.lock").exists()


@pytest.mark.parametrize("doing", ["merge", "rebase", "cherry-pick", "bisect"])
def test_something_is_in_progress(tmp_path: Path, doing: str) -> None:
    """FLT-31"""
    top = make(tmp_path / "r")
    sh(top, "checkout", "-q", "-b", "other")
    put(top, {"a.py": "theirs\n", "c.py": "c\n"})
    commit(top)
    sh(top, "rm", "-q", "sub/b.py")
    commit(top)
    sh(top, "checkout", "-q", "main")
    put(top, {"a.py": "ours\n", "sub/b.py": "changed\n"})
    commit(top)
    if doing == "bisect":
        sh(top, "bisect", "start", "HEAD", "HEAD~1")
    else:
        sh(top, doing, "other~1" if doing == "cherry-pick" else "other", check=False)
        assert sh(top, "ls-files", "-u")
    before = private_state(top / ".git")
    space = start(top, tmp_path)
    assert private_state(top / ".git") == before
    assert content(space.root) == content(top)
    put(space.root, {"a.py": "resolved\n"})
    assert b"resolved" in space.patch()
    assert private_state(top / ".git") == before


def test_caches_and_packages_are_not_carried_over_without_a_gitignore(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"__pycache__/a.pyc": "x", "sub/__pycache__/b.pyc": "x", ".pytest_cache/v": "x", "old.pyc": "x"})
    put(top, {"node_modules/left/index.js": "x", ".venv/pyvenv.cfg": "home = /usr\n"})
    space = start(top, tmp_path)
    assert space.dirty == () and space.base == find_repository(top).head
    put(space.root, {"sub/__pycache__/c.pyc": "x", "node_modules/right/i.js": "x"})
    assert space.patch() == b""


def test_unreadable_and_nested_things_are_named_and_left_out(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    make(top / "vendor" / "full")
    (top / "vendor/empty").mkdir()
    sh(top / "vendor/empty", "init", "-q")
    put(top, {"a.py": "changed\n"})
    space = start(top, tmp_path)
    assert space.dirty == ("a.py",)
    assert len(space.notes) == 2 and all("repository of its own" in note for note in space.notes)
    assert not (space.root / "vendor").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"secret": "s"})
    (top / "secret").chmod(0)
    assert start(top, tmp_path).notes == ("secret cannot be read",)


# Shapes of repositories


def test_detached_linked_subfolder_shallow_sha256(tmp_path: Path) -> None:
    """FLT-41"""
    top = make(tmp_path / "r")
    put(top, {"a.py": "second\n"})
    commit(top)
    sh(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")
    sh(top, "worktree", "add", "-q", "--detach", "../linked")
    sha256 = make(tmp_path / "long", None, "--object-format=sha256")
    for number, checkout in enumerate((tmp_path / "shallow", tmp_path / "linked", sha256)):
        put(checkout, {"a.py": "changed\n", "n.py": "n\n"})
        before = private_state(find_repository(checkout).git_dir)
        space = start(checkout / "sub", tmp_path, f"run-{number}")
        assert content(space.root) == content(checkout)
        put(space.root, {"a.py": "by the agent\n"})
        assert b"+by the agent" in space.patch()
        assert private_state(find_repository(checkout).git_dir) == before
        space.remove()
        assert not space.root.exists()


def test_an_empty_commit(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r", {}), tmp_path)
    assert space.files() == []
    put(space.root, {"a.py": "a\n"})
    assert b"+a\n" in space.patch()


@pytest.mark.parametrize("name", ["with space", "with\nnewline", "ünï", "co:lon", 'quo"te'])
def test_odd_folder_names(tmp_path: Path, name: str) -> None:
    top = make(tmp_path / name / "r")
    put(top, {"new.py": "new\n"})
    space = workspace.create(
        find_repository(top), run_id="run-1", state=tmp_path / name / "st", sandbox=sandbox.default()
    )
    put(space.root, {"new.py": "changed\n"})
    assert b"+changed" in space.patch()
    space.remove()
    assert not (top / ".git/worktrees").exists()


def test_crlf_with_autocrlf(tmp_path: Path) -> None:
    """FLT-40"""
    top = make(tmp_path / "r", {"a.txt": "one\r\ntwo\r\n"})
    sh(top, "config", "core.autocrlf", "true")
    put(top, {"b.txt": "untracked\r\n", "a.txt": "one\r\ntwo\r\nthree\r\n", "c.bin": b"\0\r\n\n"})
    space = start(top, tmp_path)
    assert content(space.root) == content(top)
    assert space.patch() == b""


def test_submodules_are_filled_from_the_users_clone_and_never_in_the_patch(tmp_path: Path) -> None:
    make(tmp_path / "lib", {"lib.py": "lib\n", "deep/x": "x\n"})
    top = make(tmp_path / "r")
    sh(top, "submodule", "--quiet", "add", f"file://{tmp_path}/lib", "third/lib")
    commit(top)
    shutil.move(tmp_path / "lib", tmp_path / "moved")  # no network, no origin
    put(top, {"a.py": "changed\n"})
    before = private_state(top / ".git")
    space = start(top, tmp_path)
    assert (space.root / "third/lib/lib.py").read_text() == "lib\n"
    assert space.notes == ()
    assert private_state(top / ".git") == before
    assert space.patch() == b""
    put(space.root, {"third/lib/lib.py": "changed\n", "a.py": "agent\n"})
    assert space.changed() == ["a.py"]
    shutil.rmtree(space.root / "third")
    assert space.changed() == ["a.py"]


def test_an_uninitialised_submodule_stays_empty_and_is_named(tmp_path: Path) -> None:
    make(tmp_path / "lib")
    top = make(tmp_path / "r")
    sh(top, "submodule", "--quiet", "add", f"file://{tmp_path}/lib", "lib")
    commit(top)
    sh(top, "submodule", "--quiet", "deinit", "-f", "lib")
    shutil.rmtree(top / ".git/modules")
    space = start(top, tmp_path)
    assert list((space.root / "lib").iterdir()) == []
    assert "submodule lib is empty" in space.notes[0]


def test_a_run_in_a_submodule(tmp_path: Path) -> None:
    make(tmp_path / "lib")
    top = make(tmp_path / "r")
    sh(top, "submodule", "--quiet", "add", f"file://{tmp_path}/lib", "lib")
    put(top / "lib", {"a.py": "changed\n"})
    space = start(top / "lib", tmp_path)
    put(space.root, {"a.py": "agent\n"})
    assert space.patch().startswith(b"diff --git a/a.py b/a.py")


def test_a_gitlink_without_gitmodules(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    make(top / "embedded")
    sh(top, "add", "embedded")
    sh(top, "commit", "-qm", "gitlink")
    put(top, {"a.py": "changed\n"})
    commit(top / "embedded")
    space = start(top, tmp_path)
    assert space.dirty == ("a.py",)
    assert space.patch() == b""


def test_a_sparse_checkout(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"in/a.py": "a\n", "out/b.py": "b\n", "top.py": "t\n"})
    sh(top, "sparse-checkout", "set", "in")
    assert not (top / "out").exists()
    put(top, {"in/a.py": "changed\n"})
    space = start(top, tmp_path)
    assert content(space.root) == content(top)
    assert space.patch() == b""
    put(space.root, {"in/new.py": "n\n"})
    assert space.changed() == ["in/new.py"]


def test_a_split_index_and_an_index_of_version_4(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    sh(top, "config", "core.splitIndex", "true")
    sh(top, "update-index", "--split-index", "--index-version=4")
    put(top, {"a.py": "changed\n"})
    before = private_state(top / ".git")
    space = start(top, tmp_path)
    assert content(space.root) == content(top)
    assert private_state(top / ".git") == before


def test_hostile_configuration_and_hooks_do_not_run(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho $0 >> {tmp_path}/ran\n")
    evil.chmod(0o755)
    hooks = ("post-checkout", "post-index-change", "reference-transaction", "pre-commit", "post-commit")
    for hook in hooks:
        (top / ".git/hooks").mkdir(exist_ok=True)
        shutil.copy(evil, top / ".git/hooks" / hook)
    sh(top, "config", "core.fsmonitor", str(evil))
    sh(top, "config", "diff.external", str(evil))
    sh(top, "config", "filter.lfs.smudge", str(evil))
    sh(top, "config", "filter.lfs.process", str(evil))
    (tmp_path / "ran").unlink(missing_ok=True)  # setting up ran git without our pins
    put(
        top,
        {".gitattributes": "*.big filter=lfs\n*.py diff=evil\n", "x.big": "pointer\n", "a.py": "changed\n"},
    )
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "y.big": "p\n"})
    space.patch()
    space.tree()
    again(space, tmp_path)
    space.remove()
    workspace.collect(space.repo, tmp_path / "st")
    assert not (tmp_path / "ran").exists()


def test_many_files_are_checked_out_by_several_workers(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    assert worktrees._file_count(find_repository(top)) == 3


# What comes back


def test_the_patch_holds_every_kind_of_change(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {f"f{i}": f"line {i}\n" * 9 for i in range(6)} | {"bin": b"\0\1\2" * 99})
    space = start(top, tmp_path)
    root = space.root
    put(root, {"f0": "changed\n", "new ü\t.py": "n\n", "deep/new.bin": b"\0\xff\xfe", "bin": b"\0\2" * 50})
    (root / "f1").unlink()
    (root / "f2").rename(root / "moved")
    (root / "f3").chmod(0o755)
    (root / "f4").unlink()
    (root / "f4").symlink_to("f0")
    (root / "f5").unlink()
    put(root, {"f5/inside": "i\n"})
    (root / "empty").touch()
    patch = space.patch()
    assert patch == space.patch(), "the same content gives the same bytes"
    assert b"rename from f2" in patch
    sh(tmp_path, "clone", "-q", str(top), "copy")
    sh(tmp_path / "copy", "apply", "--whitespace=nowarn", "-", input=patch)
    assert content(tmp_path / "copy") == content(root)
    sh(tmp_path / "copy", "add", "-A")
    assert space.tree() == sh(tmp_path / "copy", "write-tree").decode().strip()


def test_the_patch_does_not_depend_on_the_users_diff_settings(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "1\n\n2\n\n3\n\n4\n\n5\n\n6\n", "ü.py": "u\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "1\n\n2\n\n3!\n\n4\n\n5\n\n6\n", "ü.py": "U\n"})
    plain = space.patch()
    for setting in (
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.context=9",
        "diff.interHunkContext=9",
        "diff.algorithm=patience",
        "diff.renames=false",
        "diff.suppressBlankEmpty=true",
        "diff.relative=true",
        "color.ui=always",
        "core.quotePath=true",
        "core.abbrev=40",
        "diff.wsErrorHighlight=all",
        "core.pager=false",
    ):
        sh(top, "config", *setting.split("=", 1))
    assert space.patch() == plain
    assert "a/ü.py".encode() in plain


def test_what_the_agent_does_with_git_does_not_hide_its_changes(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = start(top, tmp_path)
    root = space.root
    put(root, {"a.py": "agent\n", "sub/b.py": "agent\n", "new.py": "n\n"})
    expected = space.patch()
    sh(root, "add", "-A")
    sh(root, "commit", "-qm", "agent's own")
    sh(root, "update-index", "--assume-unchanged", "a.py")
    sh(root, "update-index", "--skip-worktree", "sub/b.py")
    assert space.patch() == expected
    (root / ".git").unlink()
    assert space.patch() == expected


def test_the_answer_does_not_depend_on_earlier_questions(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"out/x": "x\n"})
    space.tree()
    put(space.root, {".gitignore": "out/\n"})
    assert space.changed() == [".gitignore"]


def test_reading_the_work_writes_nothing_to_the_users_repository(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = start(top, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in (top / ".git").rglob("*") if file.is_file()}
    put(space.root, {"a.py": "agent\n", "new.py": "n\n"})
    assert space.patch() and space.tree()
    assert {file: file.stat().st_mtime_ns for file in (top / ".git").rglob("*") if file.is_file()} == before


def test_a_repository_made_by_the_agent_comes_back_as_files(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    make(space.root / "crate", {"src/main.rs": "fn main() {}\n", ".gitignore": "out\n"})
    put(space.root, {"crate/out": "ignored"})
    sh(space.root / "crate", "config", "core.fsmonitor", f"touch {tmp_path}/ran")
    (space.root / "bare").mkdir()
    sh(space.root / "bare", "init", "-q")
    assert space.changed() == ["crate/.gitignore", "crate/src/main.rs"]
    assert b"160000" not in space.patch()
    assert not (tmp_path / "ran").exists()


def test_the_user_collects_garbage_during_the_run(tmp_path: Path) -> None:
    """FLT-33, with uncommitted changes"""
    top = make(tmp_path / "r")
    put(top, {"a.py": "uncommitted\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "new.py": "n\n"})
    tree = space.tree()
    put(top, {"a.py": "other\n"})
    commit(top)
    sh(top, "reflog", "expire", "--expire=now", "--all")
    sh(top, "worktree", "prune")
    sh(top, "gc", "-q", "--prune=now")
    assert space.tree() == tree
    assert b"-uncommitted" in space.patch()
    space.remove()
    sh(top, "gc", "-q", "--prune=now")
    (space.run_dir / "patch.diff").write_bytes(b"")
    assert again(space, tmp_path).root.joinpath("a.py").read_text() == "uncommitted\n"


def test_the_worktree_vanishes(tmp_path: Path) -> None:
    """FLT-34"""
    space = start(make(tmp_path / "r"), tmp_path)
    shutil.rmtree(space.root)
    for question in (space.patch, space.tree):
        with pytest.raises(WorkspaceError, match="is gone"):
            question()
    with pytest.raises(WorkspaceError, match="is gone"):
        asyncio.run(space.run("true", timeout=9))
    space.remove()
    assert not (space.repo.common_dir / "worktrees").exists()


def test_read_only_folders_are_removed(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"cache/deep/x": "x"})
    (space.root / "cache/deep").chmod(0o500)
    (space.root / "cache").chmod(0o500)
    space.remove()
    assert not space.root.exists()


# Many at once, killed ones


def test_eight_at_once(tmp_path: Path) -> None:
    """FLT-28"""
    top = make(tmp_path / "r")
    put(top, {"a.py": "changed\n", "new.py": "n\n"})

    def one(number: int) -> Workspace:
        file = lock(tmp_path / "st/runs" / f"run-{number}")
        try:
            space = start(top, tmp_path, f"run-{number}")
            workspace.collect(space.repo, tmp_path / "st")
            put(space.root, {"a.py": f"{number}\n"})
            assert f"+{number}\n".encode() in space.patch()
            return space
        finally:
            os.close(file)

    with ThreadPoolExecutor(8) as pool:
        spaces = list(pool.map(one, range(8)))
    assert len({space.root for space in spaces}) == 8


def test_a_killed_runs_work_is_saved_and_its_worktree_removed(tmp_path: Path) -> None:
    """FLT-35"""
    top = make(tmp_path / "r")
    put(top, {"a.py": "uncommitted\n"})
    space = start(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "new.bin": b"\0\1"})
    tree, patch, state = space.tree(), space.patch(), tmp_path / "st"
    file = lock(space.run_dir)
    assert workspace.collect(space.repo, state) == [], "it is alive"
    assert space.root.exists()
    os.close(file)
    lines = workspace.collect(space.repo, state)
    assert len(lines) == 1 and "run-1" in lines[0] and "patch.diff" in lines[0]
    assert not space.root.exists()
    assert not (top / ".git/worktrees").exists()
    assert (space.run_dir / "patch.diff").read_bytes() == patch
    assert workspace.collect(space.repo, state) == []
    resumed = again(space, tmp_path)
    assert resumed.tree() == tree and resumed.patch() == patch


def test_collecting_runs_no_git_when_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = find_repository(make(tmp_path / "r"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workspace.collect(repo, tmp_path / "st") == []


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from poolcli import sandbox, workspace
from poolcli.git import find_repository
top, state = Path(sys.argv[1]), Path(sys.argv[2])
def strike():
    while not (state / "worktrees" / "run-1").exists():
        time.sleep(0.0005)
    time.sleep(float(sys.argv[3]))
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=strike, daemon=True).start()
(state / "runs/run-1").mkdir(parents=True)
workspace.create(find_repository(top), run_id="run-1", state=state, sandbox=sandbox.default())
time.sleep(9)
"""


@pytest.mark.parametrize("delay", ["0", "0.002", "0.006", "0.05"])
def test_a_kill_while_the_worktree_is_made(tmp_path: Path, delay: str) -> None:
    """FLT-07"""
    top = make(tmp_path / "r", {f"d{i % 9}/f{i}": "x\n" * 99 for i in range(400)})
    put(top, {"a.py": "uncommitted\n"})
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(top), str(tmp_path / "st"), delay],
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == -9
    repo = find_repository(top)
    workspace.collect(repo, tmp_path / "st")
    assert not (tmp_path / "st/worktrees/run-1").exists()
    assert b"run-1" not in sh(top, "worktree", "list")
    patch = tmp_path / "st/runs/run-1/patch.diff"
    assert not patch.exists() or patch.read_bytes() == b"", "a half-made worktree is no work"
    assert content(start(top, tmp_path, "run-1").root) == content(top)


def test_a_half_made_worktree_locked_by_git(tmp_path: Path) -> None:
    """As a SIGKILL of `git worktree add` leaves it, which neither prune nor remove clears."""
    top = make(tmp_path / "r")
    sh(top, "worktree", "add", "-q", "../mine")
    root, admin = tmp_path / "st/worktrees/run-9", top / ".git/worktrees/run-9"
    put(root, {".git": f"gitdir: {admin}\n", "half": "x"})
    put(
        admin,
        {"gitdir": f"{root}/.git\n", "locked": "initializing", "commondir": "../..\n", "HEAD": "0" * 40},
    )
    lines = workspace.collect(find_repository(top), tmp_path / "st")
    assert len(lines) == 1
    assert not root.exists() and not admin.exists()
    assert (top / ".git/worktrees/mine").exists(), "the user's own worktree stays"


def test_only_the_entry_of_an_older_pool_is_left(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    sh(top, "worktree", "add", "-q", "../mine")
    root = tmp_path / "st/worktrees/run-9"
    put(top / ".git/worktrees/run-9", {"gitdir": f"{root}/.git\n", "commondir": "../..\n"})
    assert len(workspace.collect(find_repository(top), tmp_path / "st")) == 1
    assert [entry.name for entry in (top / ".git/worktrees").iterdir()] == ["mine"]


def test_a_kill_between_removing_and_restoring_loses_no_patch(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"a.py": "agent\n"})
    patch = space.patch()
    (space.run_dir / "patch.diff").write_bytes(patch)
    # As a kill in the middle of remove(), or of reopen(), leaves it: no record, files half there.
    (space.run_dir / worktrees.RECORD).unlink()
    (space.root / "a.py").unlink()
    workspace.collect(space.repo, tmp_path / "st")
    assert (space.run_dir / "patch.diff").read_bytes() == patch
    assert again(space, tmp_path).patch() == patch


def test_work_that_cannot_be_saved_stays_and_is_named(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"a.py": "agent\n"})
    (space.run_dir / "patch.diff.part").mkdir()  # nothing can be written there
    (line,) = workspace.collect(space.repo, tmp_path / "st")
    assert str(space.root) in line
    assert (space.root / "a.py").read_text() == "agent\n"


def test_reopening_a_worktree_that_is_still_there(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    put(space.root, {"a.py": "agent\n"})
    resumed = again(space, tmp_path)
    assert resumed.root == space.root and resumed.patch() == space.patch()


def test_reopening_when_the_base_is_gone(tmp_path: Path) -> None:
    space = start(make(tmp_path / "r"), tmp_path)
    space.remove()
    with pytest.raises(WorkspaceError, match="no longer in the repository"):
        workspace.reopen(
            space.repo, run_id="run-1", state=tmp_path / "st", base="1" * 40, sandbox=sandbox.default()
        )


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    put(top, {"a.py": "uncommitted\n"})
    repo = find_repository(top)
    (tmp_path / "st").mkdir()
    put(tmp_path / "st", {"worktrees/run-1/in-the-way": "x"})
    before = private_state(top / ".git")
    with pytest.raises(WorkspaceError):
        workspace.create(repo, run_id="run-1", state=tmp_path / "st", sandbox=sandbox.default())
    assert private_state(top / ".git") == before
    assert sh(top, "for-each-ref", "refs/pool") == b""
    assert b"run-1" not in sh(top, "worktree", "list")


# Paths


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return start(make(tmp_path / "r"), tmp_path)


@pytest.mark.parametrize(
    "path", ["a.py", "./a.py", "sub/../a.py", "sub//b.py", ".", "new/deep/file.py", "~", "..."]
)
def test_paths_inside(space: Workspace, path: str) -> None:
    assert space.resolve(path) == Path(os.path.normpath(space.root / path))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../r/a.py",
        "sub/../../x",
        "/etc/passwd",
        "/",
        "a\0b",
        ".git",
        ".git/config",
        "sub/.git/hooks/x",
        ".GIT/config",
        "sub/../.git",
        "x" * 5000,
    ],
)
def test_paths_refused(space: Workspace, path: str) -> None:
    with pytest.raises(ValueError) as caught:
        space.resolve(path)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_absolute_paths_and_links(space: Workspace, tmp_path: Path) -> None:
    assert space.resolve(str(space.root / "a.py")) == space.root / "a.py"
    (space.root / "inner").symlink_to("sub")
    (space.root / "outer").symlink_to(tmp_path)
    (space.root / "loop").symlink_to("loop")
    (space.root / "git").symlink_to(".git")
    assert space.resolve("inner/b.py") == space.root / "sub/b.py"
    assert space.resolve("inner/new.py") == space.root / "sub/new.py"
    for path in ("outer", "outer/r/a.py", "git", "inner/../../st"):
        with pytest.raises(ValueError):
            space.resolve(path)
    assert space.read_text("loop") is None


def test_read_text(space: Workspace) -> None:
    put(space.root, {"bin": b"a\0b", "latin": b"\xe9\n"})
    os.mkfifo(space.root / "pipe")
    assert space.read_text("a.py") == "one\ntwo\nthree\n"
    assert space.read_text("latin") == "\ufffd\n"
    for path in ("bin", "pipe", "missing", "sub", "../r/a.py"):
        assert space.read_text(path) is None


# Commands and environments


def run(space: Workspace, command: str) -> str:
    finished = asyncio.run(space.run(command, timeout=60))
    assert finished.exit_code == 0, finished.output
    return finished.output.strip()


def test_commands_run_in_the_worktree(space: Workspace) -> None:
    assert run(space, "pwd") == str(space.root)
    assert run(space, "echo $POOL_RUN") == "run-1"
    assert asyncio.run(space.run("exit 3", timeout=9)).exit_code == 3


def venv(top: Path, *, package_from: str) -> Path:
    """A real virtual environment and an editable install of `package_from`, as pip leaves it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / ".venv")], check=True)
    (packages,) = (top / ".venv/lib").glob("python3*/site-packages")
    if package_from == "pth":
        put(packages, {"mine.pth": f"# editable\nimport sys\n{top}/src\n"})
    elif package_from == "finder":
        put(
            packages,
            {
                "__editable__.mine-1.0.pth": "import __editable___mine_1_0_finder; "
                "__editable___mine_1_0_finder.install()\n",
                "__editable___mine_1_0_finder.py": FINDER.replace("PLACE", f"{top}/src/mine"),
            },
        )
    elif package_from == "renamed":
        put(
            packages,
            {
                "__editable__.mine-1.0.pth": "import __editable___mine_1_0_finder; "
                "__editable___mine_1_0_finder.install()\n",
                "__editable___mine_1_0_finder.py": FINDER.replace("PLACE", f"{top}/src/other"),
            },
        )
    return packages


FINDER = """
import sys
from importlib.util import spec_from_file_location
MAPPING: dict[str, str] = {'mine': 'PLACE'}
NAMESPACES: dict[str, list[str]] = {}
class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            return spec_from_file_location(fullname, MAPPING[fullname] + '/__init__.py')
def install():
    sys.meta_path.append(_EditableFinder)
"""


@pytest.mark.parametrize("kind", ["pth", "finder", "renamed"])
def test_the_agents_code_is_tested_not_the_users(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "other" if kind == "renamed" else "mine"
    top = make(tmp_path / "r", {f"src/{folder}/__init__.py": "WHOSE = 'user'\n", ".gitignore": ".venv/\n"})
    venv(top, package_from=kind)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    space = start(top, tmp_path)
    put(space.root, {f"src/{folder}/__init__.py": "WHOSE = 'agent'\n"})
    asked = 'python -c "import mine, sys; print(mine.WHOSE, sys.prefix)"'
    assert run(space, asked) == f"agent {space.root}/.venv"
    assert run(space, "echo $VIRTUAL_ENV") == f"{space.root}/.venv"
    # The trap is real: without the mapping the user's code answers.
    plain = run(space, f"env -u PYTHONPATH {asked}")
    assert plain.startswith("user")
    # Scripts of the environment name the user's interpreter in their first line.
    assert run(space, f"{top}/.venv/bin/python -c 'import mine; print(mine.WHOSE)'") == "agent"
    assert space.changed() == [f"src/{folder}/__init__.py"]
    sh(space.root, "add", "-A")
    assert b".venv" not in sh(space.root, "status", "--porcelain")
    space.remove()
    assert (top / ".venv/bin/python").exists() and (top / ".venv/pyvenv.cfg").exists()


def test_an_active_environment_outside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make(tmp_path / "r", {"mine/__init__.py": "WHOSE = 'user'\n"})
    packages = venv(tmp_path / "elsewhere", package_from="")
    put(packages, {"easy-install.pth": f"{top}\n"})
    active = tmp_path / "elsewhere/.venv"
    monkeypatch.setenv("VIRTUAL_ENV", str(active))
    monkeypatch.setenv("PATH", f"{active}/bin{os.pathsep}{os.environ['PATH']}")
    space = start(top, tmp_path)
    put(space.root, {"mine/__init__.py": "WHOSE = 'agent'\n"})
    assert run(space, "cd / && python -c 'import mine; print(mine.WHOSE)'") == "agent"


def test_paths_of_the_users_environment_lead_to_the_worktree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = make(tmp_path / "r", {"lib/mine.py": "WHOSE = 'user'\n", "bin/tool": "#!/bin/sh\necho user\n"})
    (top / "bin/tool").chmod(0o755)
    commit(top)
    monkeypatch.setenv("PYTHONPATH", f"{top}/lib{os.pathsep}/nowhere")
    monkeypatch.setenv("PATH", f"{top}/bin{os.pathsep}{os.environ['PATH']}")
    space = start(top, tmp_path)
    put(space.root, {"lib/mine.py": "WHOSE = 'agent'\n"})
    (space.root / "bin/tool").write_text("#!/bin/sh\necho agent\n")
    assert run(space, f"{sys.executable} -c 'import mine; print(mine.WHOSE)'; tool") == "agent\nagent"


def test_node_packages_and_workspace_links(tmp_path: Path) -> None:
    top = make(
        tmp_path / "r", {".gitignore": "node_modules\n", "packages/a/index.js": "user\n", "web/x.js": "x\n"}
    )
    put(top, {"node_modules/left/index.js": "left\n", "node_modules/@own/real/i.js": "r\n"})
    put(top, {"web/node_modules/right/index.js": "right\n", "node_modules/.cache/x": "x"})
    (top / "node_modules/a").symlink_to("../packages/a")
    (top / "node_modules/@own/a").symlink_to("../../packages/a")
    space = start(top, tmp_path)
    root = space.root
    assert (root / "node_modules/left/index.js").read_text() == "left\n"
    assert (root / "web/node_modules/right/index.js").read_text() == "right\n"
    assert (root / "node_modules/@own/real/i.js").read_text() == "r\n"
    assert not (root / "node_modules/.cache").exists()
    put(root, {"packages/a/index.js": "agent\n"})
    assert (root / "node_modules/a/index.js").read_text() == "agent\n"
    assert (root / "node_modules/@own/a/index.js").read_text() == "agent\n"
    assert space.changed() == ["packages/a/index.js"]
    shutil.rmtree(root / "node_modules")
    space.remove()
    assert (top / "node_modules/left/index.js").exists()


def test_build_output_is_not_shared(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {".gitignore": "target/\n.tox/\n", "a.rs": "a\n"})
    put(top, {"target/debug/x": "x", ".tox/py/x": "x"})
    space = start(top, tmp_path)
    assert set(content(space.root)) == {".gitignore", "a.rs"}


def test_repository_fields(tmp_path: Path) -> None:
    repo = find_repository(make(tmp_path / "r"))
    assert isinstance(repo, Repository) and repo.pin() == (
        f"--git-dir={repo.git_dir}",
        f"--work-tree={repo.top}",
    )
