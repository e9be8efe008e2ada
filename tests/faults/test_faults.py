"""Faults that no other test makes, in whole runs of the real command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from poolcli.errors import PoolError
from poolcli.sandbox import detect
from poolcli.store import reading, runs
from tests.e2e.conftest import (
    CALC,
    FIX,
    REPAIR,
    TEST_CALC,
    Pool,
    call,
    git,
    make_repo,
    reply,
    script,
    snapshot,
)
from tests.e2e.test_interrupt import marked, wait_for
from tests.faults.table import ALL
from tests.models.misbehaving import silence
from tests.nodes import functions, missing
from tests.servers.harness import serving

needs_bubblewrap = pytest.mark.skipif(
    not detect.bubblewrap().works, reason=detect.bubblewrap().reason or "runs"
)


def test_each_fault_has_tests_that_exist_or_a_reason() -> None:
    assert [one.id for one in ALL] == [f"FLT-{n:02}" for n in range(1, 48)]
    assert all(one.title and one.expected and (one.tests or one.reason) for one in ALL)
    named = [test for one in ALL for test in one.tests]
    assert missing(test for test in named if "::" in test) == []
    assert all(functions(test) for test in named if "::" not in test)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def log_says(pool: Pool, word: str) -> bool:
    return any(word in path.read_text() for path in pool.state.glob("*/runs/*/events.jsonl"))


@pytest.mark.parametrize("during", ["answer", "command"])
def test_ctrl_c_at_a_terminal(pool: Pool, during: str) -> None:
    """FLT-01, FLT-02"""
    sleepy = (reply("", call("edit", **FIX)), reply("", call("shell", command="sleep 300")), reply("Done."))
    with contextlib.ExitStack() as stack:
        if during == "answer":
            server = stack.enter_context(
                serving(silence(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"))
            )
            args = ("--base-url", server.base_url, "--model", "m")
        else:
            args = ("--model", pool.scripted(*sleepy))
        argv = pool.argv("do", "fix it", *args)
        env = {**pool.environment(), "TERM": "xterm"}
        child = pexpect.spawn(argv[0], argv[1:], cwd=str(pool.repo), env=env, timeout=30)
        if during == "answer":
            wait_for(lambda: bool(server.heads))
        else:
            wait_for(lambda: log_says(pool, "sleep 300"))
            wait_for(lambda: bool(marked(pool.runs()[-1].name)))
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
    assert child.exitstatus == 130
    assert pool.result()["status"] == "interrupted" and marked(pool.runs()[-1].name) == []
    resumed = pool(
        "resume", "--model", pool.scripted(reply("", call("edit", **FIX)), reply("Done."), name="rest.toml")
    )
    assert resumed.returncode == 0, said(resumed)


# Disks


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("a disk of its own needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_command_that_fills_the_disk(pool: Pool) -> None:
    """FLT-14"""
    before = snapshot(pool.repo)
    assert pool.do("fix it").returncode == 0
    (place,) = pool.state.glob("*/worktrees")
    with mounted(place, "size=16m"):  # the log has a disk of its own: when that is full is FLT-13
        replies = (
            reply("", call("shell", command="head -c 100M /dev/zero > big; echo ended $?")),
            reply("", call("shell", command="rm big")),
            *REPAIR,
        )
        done = pool.do("fix it", replies=replies)
        assert "Traceback" not in said(done)
        first = next(e["data"] for e in pool.events() if e["type"] == "tool.done")
        assert "No space left" in first["text"] and "ended 1" in first["text"]
        assert done.returncode == 0, said(done)
    assert snapshot(pool.repo) == before


def test_no_inodes_are_left(pool: Pool) -> None:
    """FLT-16: in a command, and at the start of a run."""
    before = snapshot(pool.repo)
    with mounted(pool.state, "size=64m,nr_inodes=300"):
        many = "for n in $(seq 400); do : > f$n || break; done; rm -f f*; echo rest"
        done = pool.do("fix it", replies=(reply("", call("shell", command=many)), *REPAIR))
        assert done.returncode == 0, said(done)
        assert any("No space left" in e["data"]["text"] for e in pool.events() if e["type"] == "tool.done")
        for number in range(400):
            with contextlib.suppress(OSError):
                (pool.state / f"f{number}").touch()
        done = pool.do("fix it")
        assert done.returncode == 1 and "No space left" in said(done) and "Traceback" not in said(done)
    assert snapshot(pool.repo) == before


@pytest.mark.parametrize("what", ["state", "repository"])
def test_what_cannot_be_written_is_said_before_the_model_is_asked(pool: Pool, what: str) -> None:
    """FLT-15"""
    place = pool.state if what == "state" else pool.repo / ".git"
    place.mkdir(exist_ok=True)
    probe = subprocess.run(["unshare", "-m", "mount", "--bind", str(place), str(place)], capture_output=True)
    if probe.returncode:
        pytest.skip("needs the right to mount")
    text = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    with serving(silence(b"")) as server:
        argv = pool.argv("do", "fix it", "--base-url", server.base_url, "--model", "m")
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", text, str(place), *argv],
            cwd=pool.repo, env=pool.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode in (1, 2) and "Traceback" not in said(done), said(done)
        assert any(words in said(done) for words in ("Read-only", "unable to create directory")), said(done)
        assert server.bodies == [], "the server may have been asked what it is, and no more"


# Time


CLOCK = """
import sys, time
real, begun = time.time, time.monotonic()
jumps = [-6 * 3600, 86400, -1e6, 3600]
def jumping():
    return real() + jumps[int((time.monotonic() - begun) * 10) % 4]
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
from poolcli.__main__ import main
main()
"""


def test_the_wall_clock_jumps(pool: Pool) -> None:
    """FLT-26: six hours back, a day on, all the time. (Under libfaketime Python's own `time.sleep` fails.)"""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK, "do", "fix it", "--timeout", "5m", "--model", pool.scripted(*REPAIR)],
        cwd=pool.repo, env=pool.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, said(done)
    events = pool.events()
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    times = [e["t"] for e in events]
    assert times != sorted(times), "the control: it did jump"
    assert all(0 <= e["data"].get("seconds", 0) < 300 for e in events)
    assert pool("log").returncode == 0 and pool("show").returncode == 0


def test_pool_is_stopped_for_a_while(pool: Pool) -> None:
    """FLT-27: as a suspended laptop does, in the middle of a command and of an answer."""
    replies = (
        reply("", call("edit", **FIX)),
        reply("", call("shell", command="sleep 1")),
        reply("It adds now. " * 3),
    )
    process = pool.start("do", "fix it", "--model", pool.scripted(*replies))
    wait_for(lambda: log_says(pool, "sleep 1"))
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, out + error
    assert pool.result()["status"] == "verified"


# Several runs, and a user at work


def test_eight_runs_at_once(pool: Pool) -> None:
    """FLT-28"""
    before = snapshot(pool.repo)
    model = pool.scripted(*REPAIR)
    processes = [pool.start("do", "fix it", "--model", model) for _ in range(8)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, ended
    assert "lock" not in str(ended)
    assert len(pool.runs()) == 8 and snapshot(pool.repo) == before


def waiting(pool: Pool) -> tuple[subprocess.Popen[str], Path]:
    """A run whose model waits in a command until the returned file is there (seen through the worktree)."""
    replies = (
        reply("", call("edit", **FIX)),
        reply(
            "",
            call("shell", command="for n in $(seq 600); do test -e go && break; sleep 0.1; done; rm -f go"),
        ),
        reply("", call("run_tests")),
        reply("It adds now."),
    )
    process = pool.start("do", "fix it", "--model", pool.scripted(*replies))
    wait_for(lambda: log_says(pool, "test -e go"))
    wait_for(lambda: bool(pool.worktrees()))
    return process, pool.worktrees()[0]


def test_the_user_works_on_during_the_run(pool: Pool) -> None:
    """FLT-33"""
    process, worktree = waiting(pool)
    (pool.repo / "other.py").write_text("x = 1\n")
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "--amend", "-m", "amended")
    git(pool.repo, "checkout", "-q", "-b", "elsewhere")
    git(pool.repo, "branch", "-D", "main")
    git(pool.repo, "reflog", "expire", "--expire=now", "--all")
    git(pool.repo, "gc", "-q", "--prune=now")
    git(pool.repo, "worktree", "prune")
    (worktree / "go").touch()
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, out + error
    assert pool("apply").returncode == 0
    assert "a + b" in (pool.repo / "calc.py").read_text() and (pool.repo / "other.py").exists()
    git(pool.repo, "fsck")


def test_the_worktree_is_deleted_during_the_run(pool: Pool) -> None:
    """FLT-34"""
    before = snapshot(pool.repo)
    process, worktree = waiting(pool)
    shutil.rmtree(worktree)
    out, error = process.communicate(timeout=120)
    assert process.returncode not in (0, None) and "Traceback" not in out + error, out + error
    assert "is gone" in out + error
    assert pool("log").returncode == 0 and snapshot(pool.repo) == before


KILL_AT = """
import os, sys
from poolcli.store.trace import Trace
at, real = int(sys.argv.pop(1)), Trace.append
def append(self, event):
    real(self, event)
    if event.seq == at:
        os.kill(os.getpid(), 9)
Trace.append = append
from poolcli.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_kill_at_every_event(tmp_path: Path) -> None:
    """FLT-36: right after each third event, so that every kind is met; steps show what happened twice."""
    steps = tuple(reply("", call("shell", command=f"echo {n} >> steps.txt")) for n in range(3))
    replies = (*REPAIR[:3], reply("", call("edit", **FIX)), *steps, reply("Done."))

    def fresh(name: str) -> Pool:
        home = tmp_path / f"home{name}"
        home.mkdir()
        return Pool(make_repo(tmp_path / f"repo{name}", {"calc.py": CALC, "test_calc.py": TEST_CALC}), home)

    whole = fresh("whole")
    assert whole.do("fix it", replies=replies).returncode == 0
    count = len(whole.events())
    for at in range(3, count, 3):
        pool = fresh(str(at))
        path = pool.home / "steps.toml"
        path.write_text("resume = true\n" + script(*replies))
        argv = [sys.executable, "-c", KILL_AT, str(at), "do", "fix it", "--model", f"scripted:{path}"]
        done = subprocess.run(
            argv, cwd=pool.repo, env=pool.environment(), capture_output=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == -9
        log = next(pool.state.glob("*/runs/*/events.jsonl")).read_text().splitlines()
        assert len(log) == at
        kinds = [json.loads(line)["type"] for line in log]
        resumed = pool("resume", "--model", f"scripted:{path}")
        if "turn.started" not in kinds or kinds[-1] == "run.ended":
            assert resumed.returncode == 2 and "Traceback" not in said(resumed)
            continue
        assert resumed.returncode == 0, (at, kinds[-1], said(resumed))
        assert pool("apply").returncode == 0
        assert not list(pool.state.glob("*/runs/*.verdict")), "where a change was judged is cleared up"
        assert "a + b" in (pool.repo / "calc.py").read_text()
        noted = (pool.repo / "steps.txt").read_text().split()
        assert len(noted) == len(set(noted)) >= 2, (at, noted)


# Damaged state


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended well."""
    tmp = tmp_path_factory.mktemp("run")
    (tmp / "home").mkdir()
    pool = Pool(make_repo(tmp / "repo", {"calc.py": CALC, "test_calc.py": TEST_CALC}), tmp / "home")
    assert pool.do("fix it").returncode == 0
    return pool.runs()[-1]


def test_random_damage_is_refused_or_read(one_run: Path, tmp_path: Path) -> None:
    """FLT-39: a thousand times some bytes of the log or the result are others."""
    rng = random.Random(39)
    state = tmp_path / "state"
    copy = state / "runs" / one_run.name
    copy.mkdir(parents=True)
    originals = {name: (one_run / name).read_bytes() for name in ("events.jsonl", "result.json")}
    refused = 0
    for _ in range(1000):
        for name, content in originals.items():
            damaged = bytearray(content)
            for _ in range(rng.randrange(1, 5)):
                place = rng.randrange(len(damaged))
                damaged[place : place + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            (copy / name).write_bytes(damaged)
        try:
            log = reading.load(copy)
            assert all(isinstance(event.seq, int) for event in log.events)
        except PoolError as error:
            refused += 1
            assert str(error).isprintable()
        assert [one.id for one in runs.runs(state)] == [one_run.name]
    assert 100 < refused < 1000


def test_a_damaged_run_beside_a_good_one(pool: Pool) -> None:
    """FLT-39"""
    assert pool.do("fix it").returncode == 0
    assert pool.do("fix it").returncode == 0
    bad, good = pool.runs()
    (bad / "events.jsonl").write_bytes(b"\x00\xff{" + (bad / "events.jsonl").read_bytes()[40:])
    (bad / "result.json").write_text("{")
    listed = pool("log")
    assert listed.returncode == 0 and good.name in listed.stdout
    assert pool("show", good.name).returncode == 0 and pool("diff", good.name).returncode == 0
    shown = pool("show", bad.name)
    assert shown.returncode in (1, 2) and "Traceback" not in said(shown)
    assert pool("apply", good.name).returncode == 0


# Terminals, limits, threads


@pytest.mark.parametrize("how", ["one column", "resized", "no TERM", "dumb"])
def test_odd_terminals(pool: Pool, how: str) -> None:
    """FLT-44"""
    argv = pool.argv("do", "fix it", "--model", pool.scripted(*REPAIR))
    env = {**pool.environment(), "TERM": "dumb" if how == "dumb" else "xterm"}
    if how == "no TERM":
        del env["TERM"]
    size = (1, 1) if how == "one column" else (24, 80)
    child = pexpect.spawn(argv[0], argv[1:], cwd=str(pool.repo), env=env, dimensions=size, timeout=60)
    if how == "resized":
        for rows, columns in ((5, 10), (60, 300), (1, 1), (24, 80)):
            time.sleep(0.1)
            child.setwinsize(rows, columns)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and b"Traceback" not in child.before


@pytest.mark.parametrize("limit", ["ulimit -n 64", "ulimit -s 512", "ulimit -v 2000000"])
def test_low_limits(pool: Pool, limit: str) -> None:
    """FLT-46"""
    argv = pool.argv("do", "fix it", "--model", pool.scripted(*REPAIR))
    done = subprocess.run(
        ["bash", "-c", f'{limit} && exec "$@"', "bash", *argv],
        cwd=pool.repo, env=pool.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, said(done)


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return b""


@needs_bubblewrap
def test_threads_that_end_take_no_command_along(tmp_path: Path) -> None:
    """FLT-47: the kernel ends a sandbox with the thread that started it, so no thread that may end does."""
    from tests.sandbox.inside import Place, bubblewrap, wrap
    from tests.security.case import running

    mark = f"86421.{os.getpid()}"
    place = Place(tmp_path)

    def start() -> subprocess.Popen[bytes]:
        launch = wrap(bubblewrap(), ["/bin/sleep", mark], place.confinement, {"PATH": "/usr/bin:/bin"})
        try:
            return subprocess.Popen(launch.argv, pass_fds=launch.fds)
        finally:
            launch.close()

    started: list[subprocess.Popen[bytes]] = []

    def start_and_end() -> None:
        started.append(start())
        # The command itself: before it runs, bubblewrap has not yet asked for a signal when its parent ends.
        wait_for(lambda: any(_program(pid) == b"/bin/sleep" for pid in running(mark)))

    thread = threading.Thread(target=start_and_end)
    thread.start()
    thread.join()
    assert started[0].wait(20) == -signal.SIGKILL, "the control: started in a thread that ends"

    async def go() -> str:
        from poolcli import process

        launch = wrap(
            bubblewrap(),
            ["/bin/sh", "-c", "sleep 0.5; echo alive"],
            place.confinement,
            {"PATH": "/usr/bin:/bin"},
        )
        command = asyncio.create_task(
            process.run(launch.argv, cwd=place.root, env=launch.env, timeout=30, pass_fds=launch.fds)
        )
        for _ in range(5):  # threads come and go meanwhile
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.01)
            await asyncio.sleep(0)
        await asyncio.get_running_loop().shutdown_default_executor()
        try:
            return (await command).output
        finally:
            launch.close()

    assert asyncio.run(go()) == "alive\n"
