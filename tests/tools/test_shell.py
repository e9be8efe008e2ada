"""shell, terminal and run_tests: real programs, bounded results, nothing left behind."""

import asyncio
from pathlib import Path

import pytest

from poolcli.tools.base import ToolError

from .conftest import acall


def test_output_then_exit_code(call):
    assert call("shell", command="echo out; echo err >&2").text == "out\nerr"
    assert call("shell", command="true").text == "(no output)"
    done = call("shell", command="echo no; exit 3")
    assert done.text == "no\nexit code 3" and not done.ok
    assert done.show == ({"type": "exit", "code": 3, "timed_out": False},)
    assert call("shell", command="kill -TERM $$").text == "(no output)\nended by SIGTERM"


def test_runs_in_the_repository_root(call, root):
    assert call("shell", command="pwd -P").text == str(root)


def test_short_output_leaves_no_file(call, ctx):
    call("shell", command="echo short")
    assert list(ctx.outputs.iterdir()) == []


def test_long_output_can_be_read_on(call, ctx):
    done = call("shell", command="seq 1 30000; exit 1")
    lines = done.text.splitlines()
    assert len(done.text) < 16_000
    assert lines[0] == "1" and lines[-1] == "exit code 1"
    assert lines[-2] == "whole output: @output/shell-1.txt (30000 lines); read it with read"
    assert lines[-3] == "30000"
    assert call("read", path="@output/shell-1.txt", offset=12345, limit=1).text.startswith("12345\t12345\n")
    assert "shell-2.txt" in call("shell", command="seq 1 30000").text


def test_timeout_is_said_and_the_output_kept(call):
    done = call("shell", command="echo before; sleep 300", timeout=1)
    assert done.text.startswith("before\ntimed out after 1 s") and not done.ok
    assert done.show[0]["timed_out"] is True


def test_terminal_sequences_are_removed(call):
    assert call("shell", command=r"printf '\033[31mred\033[0m\r\n10%%\r20%%\n'").text == "red\n20%"


@pytest.mark.parametrize("command", ["", "  ", "a\0b", "x" * 3_000_000])
def test_commands_that_are_none(call, ctx, command):
    with pytest.raises(ToolError):
        call("shell", command=command)
    assert list(ctx.outputs.iterdir()) == []


def test_background_runs_on_and_can_be_closed(ctx, root):
    async def scene():
        started = await acall(
            ctx, "shell", command="echo $$ > pid; echo ready; exec sleep 300", background=True
        )
        assert started.text.startswith("background-1 is running")
        pid = int(await _content(root / "pid"))
        await _content(ctx.outputs / "background-1.txt")
        assert (await acall(ctx, "read", path="@output/background-1.txt")).text == "1\tready"
        with pytest.raises(ToolError, match="read its output at @output"):
            await acall(ctx, "terminal", action="expect", name="background-1")
        await acall(ctx, "terminal", action="close", name="background-1")
        assert ctx.sessions == {}
        await _gone(pid)

    asyncio.run(scene())


def test_background_that_fails_at_once_says_so(call, ctx):
    done = call("shell", command="echo broken; exit 2", background=True)
    assert done.text == "broken\nexit code 2" and ctx.sessions == {}


def test_interactive_python(ctx):
    async def scene():
        async def python(action, **args):
            return await acall(ctx, "terminal", action=action, name="py", **args)

        started = await python("start", text="python3 -i -q", pattern=">>> ", timeout=60)
        assert started.ok and ">>>" in started.text and "still running" in started.text
        assert "42\n>>>" in (await python("send", text="print(6 * 7)", pattern="42\n>>>", timeout=60)).text
        await python("send", text="import time; time.sleep(300)")
        missed = await python("expect", pattern="never", timeout=1)
        assert not missed.ok and "never not seen within 1 s" in missed.text
        assert "KeyboardInterrupt" in (await python("send", text="^C", pattern="Interrupt", timeout=60)).text
        with pytest.raises(ToolError, match="running already"):
            await python("start", text="cat")
        ended = await python("send", text="exit(3)", pattern="never", timeout=60)
        assert "ended with exit code 3" in ended.text
        with pytest.raises(ToolError, match="has ended"):
            await python("send", text="1")
        assert (await python("close")).text == "(closed)"
        assert ctx.sessions == {}

    asyncio.run(scene())


def test_closing_kills_what_a_program_started(ctx, root):
    async def scene():
        command = "(setsid sh -c 'echo $$ > daemon; exec sleep 300' &); exec cat"
        await acall(ctx, "terminal", action="start", name="c", text=command, timeout=1)
        pid = int(await _content(root / "daemon"))
        ctx.sessions["c"].close()
        ctx.sessions["c"].close()  # as the end of the run does
        await _gone(pid)

    asyncio.run(scene())


def test_a_program_that_prints_much_is_bounded_and_never_blocks(ctx):
    async def scene():
        command = "seq 1 200000; echo the end; cat"
        done = await acall(
            ctx, "terminal", action="start", name="s", text=command, pattern="the end", timeout=60
        )
        assert done.ok and len(done.text) < 8_000 and "199999\n200000\nthe end" in done.text
        log = (ctx.outputs / "terminal-1.txt").read_bytes()
        assert log.startswith(b"1\r\n2\r\n") and log.count(b"\n") == 200_001
        ctx.sessions["s"].close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"action": "send", "text": "x"}, "no program p is running; start one first"),
        ({"action": "close"}, "no program p is running"),
        ({"action": "start"}, "start needs the command"),
        ({"action": "expect", "pattern": "("}, "not a regular expression"),
    ],
)
def test_terminal_errors(call, args, said):
    with pytest.raises(ToolError, match=said):
        call("terminal", name="p", **args)


def test_run_tests_gives_what_the_checks_say(call):
    assert call("run_tests").text == "4 passed"


async def _content(file):
    while not (file.exists() and file.read_text()):
        await asyncio.sleep(0.01)
    return file.read_text()


async def _gone(pid):
    def state():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    for _ in range(1000):
        if state() in "ZX":
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")
