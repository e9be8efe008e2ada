"""find_repository: which checkouts a run can start from, and what is said about the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from poolcli.errors import Exit, RepositoryError
from poolcli.git import GitError, attempt, find_repository, git, in_progress
from tests.repositories import commit, make, put, sh


def test_a_repository_from_its_top_and_from_a_subfolder(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    for start in (top, top / "sub"):
        repo = find_repository(start)
        assert (repo.top, repo.git_dir, repo.common_dir) == (top, top / ".git", top / ".git")
        assert repo.head == sh(top, "rev-parse", "HEAD").decode().strip()
        assert repo.head_name == "main"


@pytest.mark.parametrize("name", ["with space", "with\nnewline", "ünïcödé", "-dash", 'quo"te', "back\\slash"])
def test_odd_folder_names(tmp_path: Path, name: str) -> None:
    top = make(tmp_path / name)
    assert find_repository(top / "sub").top == top


def test_a_detached_head_has_no_name(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    sh(top, "checkout", "-q", "--detach")
    repo = find_repository(top)
    assert repo.head_name == "" and len(repo.head) == 40


def test_a_branch_name_with_slashes(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    sh(top, "checkout", "-q", "-b", "fix/one")
    assert find_repository(top).head_name == "fix/one"


def test_a_linked_worktree_shares_the_common_dir(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    sh(top, "worktree", "add", "-q", "../linked")
    repo = find_repository(tmp_path / "linked")
    assert repo.top == tmp_path / "linked"
    assert repo.common_dir == top / ".git"
    assert repo.git_dir == top / ".git" / "worktrees" / "linked"


def test_a_worktree_of_a_bare_repository_is_fine(tmp_path: Path) -> None:
    make(tmp_path / "r")
    sh(tmp_path, "clone", "-q", "--bare", "r", "bare.git")
    sh(tmp_path / "bare.git", "worktree", "add", "-q", "../work", "main")
    assert find_repository(tmp_path / "work").top == tmp_path / "work"


def test_a_sha256_repository(tmp_path: Path) -> None:
    top = make(tmp_path / "r", None, "--object-format=sha256")
    assert len(find_repository(top).head) == 64


def refused(start: Path) -> RepositoryError:
    with pytest.raises(RepositoryError) as caught:
        find_repository(start)
    assert caught.value.exit_code == Exit.USAGE
    assert "\n" not in str(caught.value) and "fatal:" not in str(caught.value)
    return caught.value


def test_not_a_repository(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "not in a git repository" in str(error) and "git init" in error.hint


def test_not_a_folder(tmp_path: Path) -> None:
    assert "not a folder" in str(refused(tmp_path / "gone"))


def test_no_commit_yet(tmp_path: Path) -> None:
    sh(tmp_path, "init", "-q")
    error = refused(tmp_path)
    assert "no commit yet" in str(error) and "git commit" in error.hint


def test_bare(tmp_path: Path) -> None:
    sh(tmp_path, "init", "-q", "--bare")
    error = refused(tmp_path)
    assert "bare" in str(error) and "worktree" in error.hint


def test_inside_the_git_folder(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    assert "inside a .git folder" in str(refused(top / ".git" / "refs"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    top = make(tmp_path / "r")
    for place in (top, top / ".git"):
        os.chown(place, 12345, 12345)
    error = refused(top)
    assert "another user" in str(error)
    assert f"safe.directory {top}" in error.hint


def test_git_variables_of_a_hook_do_not_redirect_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, other = make(tmp_path / "r"), make(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert find_repository(top).top == top


def test_a_failing_command_says_what_git_said(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    with pytest.raises(GitError, match=r"git cat-file failed: Not a valid object name nothing"):
        git(["cat-file", "-p", "nothing"], cwd=top)


def test_nothing_of_the_repository_runs(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    sh(top, "config", "core.fsmonitor", str(program))
    put(top, {"a.py": "changed\n"})
    attempt(["status"], cwd=top)
    assert not (tmp_path / "ran").exists()
    # The trap works: the user's own git falls into it.
    subprocess.run(["git", "status"], cwd=top, capture_output=True)
    assert (tmp_path / "ran").exists()


def test_what_is_in_progress(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    assert in_progress(find_repository(top)) == ""
    sh(top, "checkout", "-q", "-b", "other")
    put(top, {"a.py": "theirs\n"})
    commit(top)
    sh(top, "checkout", "-q", "main")
    put(top, {"a.py": "ours\n"})
    commit(top)
    sh(top, "merge", "other", check=False)
    assert in_progress(find_repository(top)) == "merge"
    sh(top, "merge", "--abort")
    sh(top, "rebase", "other", check=False)
    assert in_progress(find_repository(top)) == "rebase"
    sh(top, "rebase", "--abort")
    sh(top, "cherry-pick", "other", check=False)
    assert in_progress(find_repository(top)) == "cherry-pick"
