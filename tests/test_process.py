"""Commands: what comes back, what is held in memory, and that nothing is left running."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolcli import process

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def run(command, tmp_path, *, timeout=30, env=ENV, **options):
    argv = ["bash", "-c", command] if isinstance(command, str) else command
    return asyncio.run(process.run(argv, cwd=tmp_path, env=env, timeout=timeout, **options))


def alive(pid):
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid):
    """Wait for a killed process to be gone: the kernel needs a moment."""
    return eventually(lambda: not alive(pid))


def eventually(condition):
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


async def appears(file):
    while not (file.exists() and file.read_text().strip()):
        await asyncio.sleep(0.01)
    return int(file.read_text())


def test_gives_exit_code_and_both_streams_in_order(tmp_path):
    done = run("echo one; echo two >&2; echo three; exit 7", tmp_path)
    assert (done.exit_code, done.output, done.size) == (7, "one\ntwo\nthree\n", 14)
    assert not done.timed_out and not done.truncated


def test_has_no_input(tmp_path):
    assert run("cat; echo end", tmp_path).output == "end\n"


def test_a_signal_of_another_is_negative(tmp_path):
    assert run("kill -KILL $$", tmp_path).exit_code == -9


def test_runs_in_the_folder_with_only_the_given_environment(tmp_path):
    done = run(["env"], tmp_path, env={**ENV, "GIVEN": "1"})
    names = {line.partition("=")[0] for line in done.output.splitlines()}
    assert names == {"PATH", "LC_ALL", "GIVEN", "POOL_CALL"}
    assert run("pwd -P", tmp_path).output.strip() == str(tmp_path.resolve())


def test_what_cannot_be_started_is_an_oserror_and_leaks_nothing(tmp_path):
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError):
        run(["no-such-program"], tmp_path)
    with pytest.raises(OSError):
        run("true", tmp_path / "gone")
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_leaks_no_descriptors(tmp_path):
    async def several():
        counts = []
        for _ in range(5):
            await process.run(["true"], cwd=tmp_path, env=ENV, timeout=9, log=tmp_path / "log")
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
        return counts

    counts = asyncio.run(several())
    assert counts[0] == counts[-1]


def test_timeout_keeps_the_output_so_far(tmp_path):
    done = run("echo before; sleep 300", tmp_path, timeout=0.5)
    assert (done.timed_out, done.exit_code, done.output) == (True, None, "before\n")


def test_no_timeout(tmp_path):
    assert run("echo x", tmp_path, timeout=float("inf")).exit_code == 0


DAEMON = """
(setsid bash -c 'trap "" TERM HUP; echo $$ > daemon; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &)
echo $$ > shell
trap '' TERM
while :; do sleep 1; done
"""


def test_timeout_kills_a_daemon_and_what_ignores_sigterm(tmp_path):
    done = run(DAEMON, tmp_path, timeout=2)
    assert done.timed_out
    assert gone(int((tmp_path / "shell").read_text()))
    assert gone(int((tmp_path / "daemon").read_text()))


@pytest.mark.parametrize("times", [1, 2])
def test_cancellation_kills_all_of_it(tmp_path, times):
    async def cancelled():
        task = asyncio.create_task(process.run(["bash", "-c", DAEMON], cwd=tmp_path, env=ENV, timeout=60))
        pids = [await appears(tmp_path / "shell"), await appears(tmp_path / "daemon")]
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids

    for pid in asyncio.run(cancelled()):
        assert gone(pid)


def test_a_program_left_in_the_background_ends_with_its_command(tmp_path):
    done = run("sleep 300 & echo $! > pid; echo started", tmp_path)
    assert done.exit_code == 0 and not done.timed_out
    assert done.output.startswith("started\n") and "left running" in done.output
    assert gone(int((tmp_path / "pid").read_text()))


def test_helpers_that_end_by_themselves_are_waited_for(tmp_path):
    done = run("(sleep 0.05; echo late) & echo first", tmp_path)
    assert done.output == "first\nlate\n"


def test_a_daemon_that_holds_the_pipe_does_not_hang_the_call_and_ends_with_the_run(tmp_path):
    env = {**ENV, "POOL_RUN": f"test-{os.getpid()}-{time.monotonic_ns()}"}
    # It is there before its parent ends, so that the run has something to end.
    done = run(
        "setsid sh -c 'echo $$ > pid; exec sleep 300' & while ! [ -s pid ]; do sleep 0.01; done",
        tmp_path,
        env=env,
    )
    pid = int((tmp_path / "pid").read_text())
    assert done.exit_code == 0 and alive(pid)
    assert process.kill_marked(env["POOL_RUN"]) == 1
    assert gone(pid)
    assert process.kill_marked(env["POOL_RUN"]) == 0


def test_kill_marked_spares_other_runs(tmp_path):
    other = subprocess.Popen(["sleep", "300"], env={**ENV, "POOL_RUN": "test-run-10"})
    try:
        assert eventually(lambda: b"sleep" in Path(f"/proc/{other.pid}/cmdline").read_bytes())
        assert process.kill_marked("test-run-1") == 0
        assert alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_long_output_keeps_both_ends_and_counts_the_rest(tmp_path):
    log = tmp_path / "log"
    done = run("seq 1 100000", tmp_path, limit=1000, log=log)
    whole = "".join(f"{n}\n" for n in range(1, 100001))
    assert log.read_text() == whole and done.size == len(whole) and done.truncated
    head, marker, tail = done.output.partition("\n… ")
    left_out, _, tail = tail.partition(" bytes left out …\n")
    assert marker and whole.startswith(head) and whole.endswith(tail) and len(done.output) < 1100
    assert len(head) + len(tail) + int(left_out) == len(whole)


def test_output_of_exactly_the_limit_is_whole(tmp_path):
    for size in (999, 1000):
        done = run(f"head -c {size} /dev/zero | tr '\\0' x", tmp_path, limit=1000)
        assert done.output == "x" * size and not done.truncated


def test_huge_output_takes_little_memory(tmp_path):
    script = f"""
import asyncio, re
from pathlib import Path
from poolcli import process
done = asyncio.run(process.run(["head", "-c", "200M", "/dev/zero"], cwd=Path("/"), env={ENV!r}, timeout=60,
                               log=Path({str(tmp_path / "log")!r}), max_log=1_000_000))
# Not ru_maxrss: that begins with the memory of the process that started this one.
print(done.size, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    size, peak = map(int, out.split())
    assert size == 200 * 1024 * 1024
    assert peak < 60_000  # kB; a reader that keeps it all takes more than 200,000
    assert (tmp_path / "log").stat().st_size == 1_000_000


def test_log_has_the_exact_bytes_and_the_text_is_readable(tmp_path):
    done = run(r"printf 'a\377\303\251\0b'", tmp_path, log=tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"a\xff\xc3\xa9\x00b"
    assert done.output == "a\N{REPLACEMENT CHARACTER}é\0b"


def test_a_full_disk_costs_only_the_log(tmp_path):
    done = run("echo kept; echo also", tmp_path, log=Path("/dev/full"))
    assert done.exit_code == 0 and done.output.startswith("kept\nalso\n")
    assert "not saved whole: No space left on device" in done.output


def test_a_log_that_cannot_be_opened_is_said(tmp_path):
    done = run("echo kept", tmp_path, log=tmp_path / "gone" / "log")
    assert done.exit_code == 0 and "kept" in done.output and "could not be saved" in done.output


def test_a_log_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log")
    reader = -1
    for opened in (False, True):
        if opened:
            reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
        done = run("echo kept", tmp_path, log=tmp_path / "log")
        assert done.exit_code == 0 and "kept" in done.output and "could not be saved" in done.output
    os.close(reader)


def test_live_output_is_all_of_it_also_when_characters_are_cut(tmp_path):
    pieces = []
    done = run(r"printf 'x\303'; sleep 0.1; printf '\251y\n'", tmp_path, on_output=pieces.append)
    assert "".join(pieces) == done.output == "xéy\n"


def test_live_output_is_bounded(tmp_path):
    pieces = []
    run("head -c 10M /dev/zero", tmp_path, on_output=pieces.append)
    assert sum(map(len, pieces)) < process.LIVE + 2 * process.PIECE
    assert "not shown" in pieces[-1]


def test_many_at_once(tmp_path):
    async def together():
        calls = [
            process.run(["bash", "-c", f"echo {n}; exit {n}"], cwd=tmp_path, env=ENV, timeout=30)
            for n in range(20)
        ]
        return await asyncio.gather(*calls)

    results = asyncio.run(together())
    assert [(d.exit_code, d.output) for d in results] == [(n, f"{n}\n") for n in range(20)]


def test_a_program_in_the_background_that_never_stops_printing_does_not_hang_the_call(tmp_path):
    done = run("yes & echo $! > pid", tmp_path)
    assert done.exit_code == 0 and done.truncated and "left running" in done.output
    assert gone(int((tmp_path / "pid").read_text()))


def test_cancellation_after_the_command_ended_kills_what_it_left(tmp_path):
    async def cancelled():
        command = ["bash", "-c", "sleep 300 & echo $! > pid"]
        task = asyncio.create_task(process.run(command, cwd=tmp_path, env=ENV, timeout=60))
        pid = await appears(tmp_path / "pid")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert gone(asyncio.run(cancelled()))
