"""Point 8: one log, three views; and what they meet in the world: pipes, full disks, narrow terminals."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.e2e.conftest import FIX, REPAIR, Pool, call, reply, script


def test_json_is_the_log_and_nothing_else(pool: Pool) -> None:
    done = pool.do("fix it", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (pool.runs()[-1] / "events.jsonl").read_text()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run.started" and events[-1]["type"] == "run.ended"
    assert events[-1]["data"]["exit_code"] == 0


def test_plain_has_no_escapes_and_show_says_the_same(pool: Pool) -> None:
    live = pool.do("fix it", "--plain")
    assert "\x1b" not in live.stdout
    assert pool("show", "--plain").stdout == live.stdout
    assert pool("show", "--json").stdout == (pool.runs()[-1] / "events.jsonl").read_text()


def test_without_a_terminal_the_view_is_plain(pool: Pool) -> None:
    assert "\x1b" not in pool.do("fix it").stdout


@pytest.mark.parametrize("columns", [100, 60])
def test_on_a_terminal(pool: Pool, columns: int) -> None:
    model = pool.scripted(*REPAIR)
    child = pexpect.spawn(
        pool.argv("do", "fix it", "--model", model)[0],
        pool.argv("do", "fix it", "--model", model)[1:],
        cwd=str(pool.repo),
        env={**pool.environment(), "TERM": "xterm-256color"},
        dimensions=(30, columns),
        encoding="utf-8",
        timeout=60,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    shown = child.before or ""
    assert "VERIFIED" in shown and "calc.py" in shown and "\x1b[" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "return a + b" in plain


def test_what_a_model_writes_cannot_drive_the_terminal(pool: Pool) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202etxt"
    replies = (
        reply(evil, call("shell", command="printf '\\033]0;owned\\007\\033[2J'")),
        reply(evil, call("edit", **FIX)),
        reply(evil),
    )
    done = pool.do("fix it", replies=replies)
    assert done.returncode == 0
    for text in (done.stdout, pool("show").stdout, pool("log").stdout):
        assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text


def test_head_of_the_log_is_no_error(pool: Pool) -> None:
    for _ in range(2):
        assert pool.do("fix it").returncode == 0
    command = " ".join(pool.argv("log")) + " | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=pool.repo, env=pool.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_show_into_head_is_quiet(pool: Pool) -> None:
    assert pool.do("fix it").returncode == 0
    command = "set -o pipefail; " + " ".join(pool.argv("show")) + " | head -c 1 > /dev/null"
    done = subprocess.run(
        ["bash", "-c", command], cwd=pool.repo, env=pool.environment(), capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_log_lists_runs_newest_first(pool: Pool) -> None:
    pool.do("first")
    pool.do("second")
    lines = pool("log").stdout.splitlines()
    assert len(lines) == 2 and "second" in lines[0] and "first" in lines[1]
    rows = [json.loads(line) for line in pool("log", "--json").stdout.splitlines()]
    assert [row["status"] for row in rows] == ["verified", "verified"]


def test_log_says_what_became_of_the_work(pool: Pool) -> None:
    for task in ("first", "second", "third"):
        pool.do(task)
    third, second, _ = (json.loads(line)["run"] for line in pool("log", "--json").stdout.splitlines())
    assert pool("apply", third).returncode == 0
    assert pool("discard", second).returncode == 0
    lines = pool("log").stdout.splitlines()
    assert ["applied" in lines[0], "discarded" in lines[1], "applied" in lines[2]] == [True, True, False]
    fates = [json.loads(line)["fate"] for line in pool("log", "--json").stdout.splitlines()]
    assert fates == ["applied", "discarded", ""]


def test_a_locale_without_unicode(pool: Pool) -> None:
    pool.env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = pool.do("fix it")
    assert done.returncode == 0, done.stderr


def test_stderr_and_stdout_on_a_full_device(pool: Pool) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            pool.argv("do", "fix it", "--model", pool.scripted(*REPAIR)),
            cwd=pool.repo,
            env=pool.environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "Traceback" not in done.stderr
    assert pool.result()["status"] == "verified"


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk of its own needs mount")
def test_a_disk_that_fills_ends_the_run_cleanly(pool: Pool) -> None:
    pool.state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(pool.state)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mount is not allowed here")
    try:
        long = " ".join(map(str, range(50_000)))  # a text that repeats itself would be stopped
        replies = tuple(reply(long, call("shell", command=f"echo {n}")) for n in range(12))
        path = pool.home / "long.toml"
        path.write_text("window = 100_000_000\n" + script(*replies, reply("Done.")))
        done = pool("do", "fix it", "--model", f"scripted:{path}")
        assert done.returncode == 1, (done.stdout[-500:], done.stderr)
        assert "Traceback" not in done.stderr
        assert "events.jsonl" in done.stderr + done.stdout
        log = next(pool.state.glob("*/runs/*/events.jsonl")).read_text()
        assert all(json.loads(line) for line in log.splitlines())
        assert log.endswith("\n")
    finally:
        subprocess.run(["umount", "-l", str(pool.state)], check=True)
