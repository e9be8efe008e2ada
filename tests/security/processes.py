"""Processes, memory, output, and the sandbox itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time

from tests.security.case import Field, Group, box, comes, end, running

GROUP = Group("Processes and resources")
case, shell = GROUP.case, GROUP.shell

FORKS = """
import os, signal, time
children = []
try:
    while len(children) < 1500:
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        children.append(pid)
except OSError:
    pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
for pid in children:
    os.waitpid(pid, 0)
print("REACHED" if len(children) == 1500 else "held")
"""


@case(
    "PROC-01",
    "More processes than a run may have (1500)",
    "no sandbox",
    needs=("bubblewrap", "groups"),
    tests=("tests/sandbox/test_limits.py::test_a_fork_bomb_ends_and_the_next_command_runs",),
)
def forks(field: Field, protected: bool) -> bool:
    field.variables["FORKS"] = FORKS
    said = field.shell('"$PYTHON" -c "$FORKS"', protected, timeout=60)
    assert "REACHED" in said or "held" in said, said
    return "REACHED" in said


shell(
    "PROC-02",
    "More memory than a run may have (6 GB, not touched)",
    '"$PYTHON" -c \'import mmap\nmmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)\n'
    'print("REACHED")\'',
    tests=(
        "tests/sandbox/test_limits.py::test_memory_of_one_process",
        "tests/sandbox/test_limits.py::test_memory_of_all_together",
    ),
)


@case(
    "PROC-04",
    "Output without end",
    "all of it is kept",
    tests=("tests/test_process.py::test_huge_output_takes_little_memory",),
)
def endless_output(field: Field, protected: bool) -> bool:
    if protected:
        return len(field.shell("yes", True, timeout=1)) > 100_000
    kept = subprocess.run(["bash", "-c", "timeout 1 yes | head -c 50M"], capture_output=True)
    return len(kept.stdout) > 10_000_000


@case(
    "PROC-05",
    "A line of 30 MB, and bytes that are no text",
    "the output is decoded strictly, and kept",
    tests=("tests/test_process.py::test_log_has_the_exact_bytes_and_the_text_is_readable",),
)
def odd_output(field: Field, protected: bool) -> bool:
    command = "head -c 30M /dev/zero | tr '\\0' a; head -c 1M /dev/urandom"
    if protected:
        said = field.shell(command, True)
        return len(said) > 200_000 or json.loads(json.dumps(said)) != said
    kept = subprocess.run(["bash", "-c", command], capture_output=True).stdout
    try:
        kept.decode()
    except UnicodeDecodeError:
        return len(kept) > 30_000_000
    return False


@case(
    "PROC-06",
    "A process that outlives its command and pool's search for it",
    "no sandbox",
    needs=("bubblewrap",),
)
def daemon(field: Field, protected: bool) -> bool:
    mark = f"86411.{os.getpid()}"
    field.shell(
        f"(env -i setsid sh -c '/bin/sleep {mark} & /bin/sleep {mark}' >/dev/null 2>&1 </dev/null &); sleep 0.3",
        protected,
    )
    try:
        return not comes(lambda: not running(mark), 1)
    finally:
        end(mark)


@case("PROC-08", "A command that ignores signals, stops itself and goes on for ever", "it is asked to end")
def stubborn(field: Field, protected: bool) -> bool:
    mark = f"86412.{os.getpid()}"
    command = (
        f'trap "" TERM INT HUP; setsid sleep {mark} & (kill -STOP $BASHPID) & while :; do sleep 0.1; done'
    )
    try:
        if protected:
            start = time.monotonic()
            field.shell(command, True, timeout=1)
            return time.monotonic() - start > 20 or not comes(lambda: not running(mark), 3)
        child = field.process("bash", "-c", command)
        assert comes(lambda: bool(running(mark)))
        child.terminate()
        time.sleep(0.5)
        return child.poll() is None and bool(running(mark))
    finally:
        end(mark)


@case(
    "PROC-09",
    "What runs when pool itself is killed",
    "no sandbox",
    needs=("bubblewrap",),
    tests=("tests/sandbox/test_bubblewrap.py::test_all_ends_with_pool",),
)
def killed_pool(field: Field, protected: bool) -> bool:
    mark = f"86413.{os.getpid()}"
    space = field.space(protected)
    launch = space.launch(f"setsid sleep {mark} & wait")
    program = f"import subprocess, time\nsubprocess.Popen({launch.argv!r}, pass_fds={launch.fds!r})\ntime.sleep(600)"
    pool = field.process(
        sys.executable, "-c", program, pass_fds=launch.fds, cwd=space.root, env={**launch.env, "POOL_RUN": ""}
    )
    launch.close()
    try:
        assert comes(lambda: bool(running(mark)))
        pool.kill()
        pool.wait()
        return not comes(lambda: not running(mark), 1.5)
    finally:
        end(mark)


@case("PROC-10", "A signal to a process of the user's", "no sandbox", needs=("bubblewrap",))
def signals(field: Field, protected: bool) -> bool:
    victim = field.process("sleep", "600")
    field.variables["VICTIM"] = str(victim.pid)
    field.shell('kill -9 "$VICTIM"', protected)
    time.sleep(0.05)
    return victim.poll() is not None


shell(
    "PROC-14",
    "More rights by a program that runs as its owner",
    "grep -q 'NoNewPrivs:.0' /proc/self/status && echo REACHED",
    tests=("tests/sandbox/test_bubblewrap.py::test_the_first_process_is_held_like_the_others",),
)
GROUP.shown(
    "PROC-16",
    "No sandbox on this machine, and nobody there to ask",
    "tests/e2e/test_sandbox.py::test_a_program_is_refused_where_bubblewrap_does_not_start",
    "tests/sandbox/test_choose.py::test_the_whole_table",
    off="where it starts, the same run runs",
)


@case(
    "PROC-17",
    "A program that only claims to be the sandbox",
    "it is not tried first",
    needs=("bubblewrap",),
    tests=("tests/sandbox/test_selftest.py::test_one_that_does_not_run_anything_is_refused",),
)
def false_sandbox(field: Field, protected: bool) -> bool:
    from poolcli.errors import RefusedError
    from poolcli.sandbox import Sandbox, selftest

    text = (
        '#!/bin/bash\n[ "$1" = --version ] && { echo bubblewrap 0.8.0; exit; }\n'
        'while [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    false = Sandbox("bubblewrap", "", str(field.file("bwrap", text, run=True)))
    space = field.space(True)
    space.sandbox = false
    try:
        if protected:
            try:
                selftest.require(asyncio.run(selftest.run(false, space.confinement, space.environment)))
            except RefusedError:
                return False
        asyncio.run(space.run(f": > {field.mark}", timeout=30))
        return field.mark.exists()
    finally:
        space.sandbox = box()


GROUP.leave_out(
    "PROC-13",
    "Descriptors, watches and threads used up",
    "threads count as processes (PROC-01); descriptors and watches are bounded by the kernel for the user",
)
