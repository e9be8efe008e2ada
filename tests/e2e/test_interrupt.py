"""Point 10: signals and kills. What was done is kept, nothing is left running, nothing is repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import FIX, Pool, call, reply


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def marked(run: str) -> list[int]:
    """Processes that carry this run's mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"POOL_RUN={run}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


SLEEPY = (
    reply("", call("edit", **FIX)),
    reply("", call("shell", command="(setsid sleep 300 &) ; sleep 300")),
    reply("Done."),
)


def start_sleeping(pool: Pool) -> subprocess.Popen[str]:
    process = pool.start("do", "fix it", "--json", "--model", pool.scripted(*SLEEPY))
    wait_for(lambda: any("tool.started" in p.read_text() for p in pool.state.glob("*/runs/*/events.jsonl")))
    wait_for(lambda: len(marked(pool.runs()[-1].name)) >= 2)
    return process


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 143, "terminated"),
    ],
)
def test_a_signal_ends_the_run_in_good_order(
    pool: Pool, number: signal.Signals, code: int, status: str
) -> None:
    process = start_sleeping(pool)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert pool.result()["status"] == status
    assert pool.events()[-1]["type"] == "run.ended"
    assert [e["data"]["why"] for e in pool.events() if e["type"] == "tool.done"] == ["", "interrupted"]
    assert marked(pool.runs()[-1].name) == []
    assert "a + b" in pool("diff").stdout


def test_two_interrupts_end_at_once(pool: Pool) -> None:
    process = start_sleeping(pool)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    wait_for(lambda: marked(pool.runs()[-1].name) == [])
    assert "a + b" in pool("diff").stdout


def test_after_a_kill_the_next_command_saves_the_work_and_resume_goes_on(pool: Pool) -> None:
    process = start_sleeping(pool)
    process.kill()
    process.communicate(timeout=20)
    log = pool("log")
    assert log.returncode == 0, log.stderr
    assert "killed" in log.stdout or "interrupted" in log.stdout
    assert "a + b" in pool("diff").stdout
    resumed = pool("resume", "--model", pool.scripted(reply("It adds now."), name="rest.toml"))
    assert resumed.returncode == 0, resumed.stderr
    outcome = [e["data"] for e in pool.events() if e["type"] == "tool.done"][-1]
    assert outcome["why"] == "unknown" and "unknown" in outcome["text"]
    assert [e["seq"] for e in pool.events()] == list(range(1, len(pool.events()) + 1))
    assert marked(pool.runs()[-1].name) == []


def test_an_interrupted_run_resumes_to_green(pool: Pool) -> None:
    process = start_sleeping(pool)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    resumed = pool("resume", "last", "--model", pool.scripted(reply("It adds now."), name="rest.toml"))
    assert resumed.returncode == 0, resumed.stderr
    assert pool.result()["status"] == "verified"
    assert len(pool.runs()) == 1


def test_a_running_run_cannot_be_resumed_or_discarded(pool: Pool) -> None:
    process = start_sleeping(pool)
    try:
        for command in ("resume", "discard"):
            done = pool(command, "--model", "demo") if command == "resume" else pool(command)
            assert done.returncode in (1, 2), done.stderr
            assert "Traceback" not in done.stderr and done.stderr.strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_a_torn_last_line_is_dropped(pool: Pool) -> None:
    process = start_sleeping(pool)
    process.kill()
    process.communicate(timeout=20)
    path = pool.runs()[-1] / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"run":"x","seq":99,"ty')
    assert pool("show").returncode == 0
    assert pool("resume", "--model", pool.scripted(reply("It adds now."), name="rest.toml")).returncode == 0


def test_a_closed_stdout_does_not_end_the_work(pool: Pool) -> None:
    read, write = os.pipe()
    process = pool.start(
        "do", "fix it", "--json", "--model", pool.scripted(*SLEEPY[:1], reply("Done."), name="s.toml")
    )
    os.close(read)
    os.close(write)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert pool.result()["status"] == "verified"


def test_resume_of_a_verified_run_says_so(pool: Pool) -> None:
    assert pool.do("fix it").returncode == 0
    done = pool("resume", "--model", "demo")
    assert done.returncode == 2 and "verified" in done.stderr


def test_what_a_killed_run_left_running_ends_before_it_is_resumed(pool: Pool) -> None:
    pool.env["POOL_SANDBOX"] = "none"  # in a sandbox it dies with pool
    process = start_sleeping(pool)
    run = pool.runs()[-1].name
    process.kill()
    process.communicate(timeout=20)
    assert marked(run)  # the control: it does outlive a kill
    done = pool("resume", "--model", pool.scripted(reply("It adds now."), name="rest.toml"))
    assert done.returncode == 0, done.stderr
    assert marked(run) == []


def test_discarded_work_is_not_resumed(pool: Pool) -> None:
    assert pool.do("fix it", "--max-turns", "1").returncode == 5
    assert pool("discard").returncode == 0
    done = pool("resume", "--model", pool.scripted(*SLEEPY))
    assert done.returncode == 2 and "discarded" in done.stderr


def test_a_signal_before_the_run_began_leaves_no_run(pool: Pool) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        process = pool.start("do", "fix it", "--base-url", url)
        silent.settimeout(20)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
        connection.close()
    assert process.returncode == 143 and "Traceback" not in error
    assert pool.runs() == [] and pool.worktrees() == []


def test_a_hang_up_that_the_caller_ignores_stays_ignored(pool: Pool) -> None:
    model = pool.scripted(
        reply("", call("edit", **FIX)), reply("", call("shell", command="sleep 2")), reply("Done.")
    )
    process = pool.start(
        "do", "fix it", "--model", model, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    wait_for(lambda: any("sleep 2" in p.read_text() for p in pool.state.glob("*/runs/*/events.jsonl")))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0
