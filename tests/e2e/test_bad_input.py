"""Bad input: one clear message, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Pool, git, make_repo, reply


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr, done.stdout)
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6, done.stderr


def test_not_a_repository(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    refused(pool.do("x", cwd=tmp_path / "plain"), 2, "not in a git repository", "git init")


def test_unborn_head(pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "unborn"
    folder.mkdir()
    git(folder, "init", "-q")
    refused(pool.do("x", cwd=folder), 2, "commit")


def test_bare_repository(pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "bare.git"
    folder.mkdir()
    git(folder, "init", "-q", "--bare")
    refused(pool.do("x", cwd=folder), 2, "bare")


@pytest.mark.parametrize("command", ["show", "diff", "apply", "discard", "resume"])
def test_unknown_run(pool: Pool, command: str) -> None:
    assert pool.do("fix it").returncode == 0
    refused(pool(command, "nope"), 2, "nope", "pool log")


def test_no_runs_yet(pool: Pool) -> None:
    refused(pool("diff"), 2)


def test_broken_config(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text("max_turns = 5\ntest = [\n")
    assert pool("trust", "--yes").returncode == 0
    refused(pool.do("x"), 2, ".pool/config.toml")


def test_unknown_key_names_file_line_and_the_nearest_key(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text("max_turns = 5\nmax_turn = 5\n")
    assert pool("trust", "--yes").returncode == 0
    refused(pool.do("x"), 2, ".pool/config.toml", "2", "max_turn", "max_turns")


def test_a_project_cannot_name_the_model_endpoint(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text('base_url = "http://127.0.0.1:9/v1"\n')
    shown = pool("config", "show")
    assert "127.0.0.1:9" not in shown.stdout


def test_unreachable_endpoint(pool: Pool) -> None:
    done = pool("do", "x", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", timeout=90)
    assert done.returncode == 6, done.stderr
    assert "127.0.0.1:9" in done.stderr + done.stdout
    assert "pool doctor" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_missing_script(pool: Pool) -> None:
    refused(pool("do", "x", "--model", "scripted:nope.toml"), 2, "nope.toml")


def test_task_file_that_is_missing(pool: Pool) -> None:
    refused(pool("do", "-f", "nope.md"), 2, "nope.md")


def test_json_and_patch_exclude_each_other(pool: Pool) -> None:
    refused(pool.do("x", "--json", "--patch"), 2, "--patch")


def test_unknown_option(pool: Pool) -> None:
    refused(pool("do", "--nope"), 2, "--nope")


def test_state_folder_that_cannot_be_written(pool: Pool) -> None:
    (pool.home / "state").write_text("a file in the way")
    done = pool.do("x")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and str(pool.home / "state") in done.stderr


def test_script_that_runs_out_is_a_model_failure(pool: Pool) -> None:
    from tests.e2e.conftest import call

    done = pool.do("x", replies=(reply("", call("list")),))
    assert done.returncode == 6, done.stderr


def test_another_repository_has_no_access_to_these_runs(pool: Pool, tmp_path: Path) -> None:
    assert pool.do("fix it").returncode == 0
    other = make_repo(tmp_path / "other", {"a.txt": "a\n"})
    refused(pool("diff", "last", cwd=other), 2)


def test_no_command_is_help(pool: Pool) -> None:
    for args in ((), ("config",)):
        done = pool(*args)
        assert done.returncode == 0 and "Usage: pool" in done.stdout and done.stderr == ""


def test_times_are_written_as_in_the_configuration(pool: Pool) -> None:
    assert pool.do("fix it", "--timeout", "10m").returncode == 0
    refused(pool.do("fix it", "--timeout", "soon"), 2, "--timeout", "seconds")
