"""The choice of a sandbox in whole runs: the default, what is named, and the refusal where it cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest

from poolcli.sandbox import detect, landlock
from tests.e2e.conftest import REPAIR, Pool, call, git, reply

needs_bwrap = pytest.mark.skipif(not detect.bubblewrap().works, reason="bubblewrap does not start here")
needs_landlock = pytest.mark.skipif(
    landlock.available() < landlock.LEAST, reason="this kernel has no Landlock"
)
#: A place where bubblewrap does not start.
NESTED = (detect.bubblewrap().program, "--unshare-user", "--disable-userns", "--bind", "/", "/")
NESTED += ("--dev", "/dev", "--proc", "/proc", "--die-with-parent", "--")


def nested(pool: Pool, *args: str) -> subprocess.CompletedProcess[str]:
    model = pool.scripted(*REPAIR)
    words = [*NESTED, *pool.argv("do", "fix it", "--model", model, *args)]
    return subprocess.run(
        words, cwd=pool.repo, env=pool.environment(), capture_output=True, text=True, timeout=60
    )


def started_in(pool: Pool) -> str:
    return pool.events()[0]["data"]["sandbox"]


def notices(pool: Pool) -> list[str]:
    return [
        e["data"]["text"]
        for e in pool.events()
        if e["type"] == "notice" and e["data"].get("code") == "sandbox"
    ]


def attack(pool: Pool) -> tuple[dict, ...]:
    """Write and read in the user's home, reach for the user's repository, then do the work."""
    (pool.home / "canary").write_text("secret-in-home")
    command = (
        f"cat {pool.home}/canary; echo x > {pool.home}/planted; echo x > {pool.repo}/.git/hooks/planted; "
        "git commit --allow-empty -qm mine && git log --format=%s -1"
    )
    return (reply("", call("shell", command=command)), *REPAIR)


def outputs(pool: Pool) -> str:
    return "".join(str(e["data"]) for e in pool.events() if e["type"] == "tool.done")


@needs_bwrap
def test_a_run_is_confined_by_default_and_says_nothing_of_it(pool: Pool) -> None:
    done = pool.do("fix it", replies=attack(pool))
    assert done.returncode == 0, done.stderr
    assert started_in(pool) == "bubblewrap" and not notices(pool)
    assert "secret-in-home" not in outputs(pool)
    assert "\nmine" in outputs(pool).replace("\\n", "\n")  # git works
    assert not (pool.home / "planted").exists() and not (pool.repo / ".git/hooks/planted").exists()


@needs_landlock
def test_landlock_when_it_is_named(pool: Pool) -> None:
    done = pool.do("fix it", "--sandbox", "landlock", replies=attack(pool))
    assert done.returncode == 0, done.stderr
    assert started_in(pool) == "landlock"
    assert len(notices(pool)) == 1 and "Reduced" in notices(pool)[0]
    assert "secret-in-home" not in outputs(pool)
    assert "\nmine" in outputs(pool).replace("\\n", "\n")  # git works
    assert not (pool.home / "planted").exists() and not (pool.repo / ".git/hooks/planted").exists()


@pytest.mark.parametrize(
    "sandbox", [pytest.param("bubblewrap", marks=needs_bwrap), pytest.param("landlock", marks=needs_landlock)]
)
@pytest.mark.parametrize("tracked", [True, False])
def test_an_environment_in_the_repository_opens_no_folder(sandbox: str, tracked: bool, pool: Pool) -> None:
    """By its settings a repository could have any folder shown; the user's own environment needs its Python."""
    python = pool.home / "python"
    for name in ("bin/python3", "lib/python3.12/os.py"):
        (python / name).parent.mkdir(parents=True)
        (python / name).write_text("a-python")
        (python / name).chmod(0o755)
    (pool.repo / ".venv").mkdir()
    (pool.repo / ".venv/pyvenv.cfg").write_text(f"home = {python}/bin\nhome = {pool.home}/state/x\n")
    if tracked:
        git(pool.repo, "add", "-f", ".venv")
        git(pool.repo, "commit", "-qm", "an environment")
    command = f"cat {python}/bin/python3; cat {pool.home}/state/*/runs/*/events.jsonl"
    replies = (reply("", call("shell", command=command)), *REPAIR)
    check = ("--test", "python3 -m unittest -v")
    done = pool.do("fix it", "--sandbox", sandbox, *check, replies=replies)
    assert done.returncode == 0, done.stderr
    assert ("a-python" in outputs(pool)) is not tracked
    assert "run.started" not in outputs(pool)


def test_none_is_loud_and_does_not_confine(pool: Pool) -> None:
    done = pool.do("fix it", "--sandbox", "none", replies=attack(pool))
    assert done.returncode == 0, done.stderr
    assert started_in(pool) == "none"
    assert notices(pool)[0].startswith("NO SANDBOX") and "NO SANDBOX" in done.stdout + done.stderr
    assert "secret-in-home" in outputs(pool) and (pool.home / "planted").exists()


def test_external_is_recorded(pool: Pool) -> None:
    pool.env["POOL_SANDBOX"] = "external"
    assert pool.do("fix it").returncode == 0
    assert started_in(pool) == "external" and "container" in notices(pool)[0]


@needs_bwrap
def test_a_program_is_refused_where_bubblewrap_does_not_start(pool: Pool) -> None:
    done = nested(pool)
    assert done.returncode == 8, done.stderr
    assert "another sandbox" in done.stderr and "--sandbox=external" in done.stderr
    assert pool.runs() == [] and pool.worktrees() == []
    assert git(pool.repo, "for-each-ref", "refs/pool") == ""


@needs_bwrap
@needs_landlock
def test_landlock_works_where_bubblewrap_does_not_start(pool: Pool) -> None:
    done = nested(pool, "--sandbox=landlock")
    assert done.returncode == 0, done.stderr
    assert started_in(pool) == "landlock"


def test_what_is_named_and_cannot_be_had_is_refused(pool: Pool) -> None:
    absent = "seatbelt" if sys.platform == "linux" else "landlock"
    done = pool.do("fix it", f"--sandbox={absent}")
    assert done.returncode == 8 and pool.runs() == []


def test_a_word_that_is_no_sandbox_is_a_mistake_of_usage(pool: Pool) -> None:
    done = pool.do("fix it", "--sandbox=strong")
    assert done.returncode == 2 and "bubblewrap" in done.stderr


@needs_bwrap
def test_a_repository_does_not_choose(pool: Pool) -> None:
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool/config.toml").write_text('sandbox = "none"\n')
    done = pool.do("fix it", "--trust-project")
    assert done.returncode == 0 and started_in(pool) == "bubblewrap"
    assert "`sandbox` is ignored" in done.stdout + done.stderr
