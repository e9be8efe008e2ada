"""Conversations that outgrow the model's window: made shorter once, never in circles, and told what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from poolcli.asking import ask
from poolcli.context import project
from poolcli.events import Event
from poolcli.fitting import Room
from poolcli.messages import Message, Result
from poolcli.models import local
from poolcli.models.base import ModelInfo
from poolcli.models.endpoint import Endpoint
from poolcli.models.llama_server import start
from poolcli.models.openai import OpenAIModel
from poolcli.run import Run
from poolcli.store.reading import read
from poolcli.store.trace import Trace
from tests.e2e.conftest import CALC, FIX, TEST_CALC, Pool, call, reply, script

MakePool = Callable[[dict[str, str]], Pool]

#: About 1,000 tokens each, which is what one result may have in a window of 6,144.
LONG = "".join(f"def helper_{n}(value):\n    return value + {n}\n\n\n" for n in range(60))
REPO = {"calc.py": CALC, "test_calc.py": TEST_CALC, **{f"part{n}.py": LONG for n in range(8)}}
READS = tuple(reply(f"I look at part {n}.", call("read", path=f"part{n}.py")) for n in range(8))
FIXED = (
    reply("The sign is wrong, nothing else.", call("edit", **FIX)),
    reply("", call("run_tests")),
    reply("add subtracted; it adds now."),
)


def scripted(pool: Pool, *replies: dict[str, Any], **top: Any) -> Path:
    path = pool.home / "script.toml"
    path.write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in top.items()) + script(*replies)
    )
    return path


def of_type(pool: Pool, type: str) -> list[dict[str, Any]]:
    return [e["data"] for e in pool.events() if e["type"] == type]


@contextlib.contextmanager
def served(path: Path) -> Iterator[str]:
    """A scripted server in a process of its own: it sees what several runs of pool send."""
    process = subprocess.Popen(
        [sys.executable, "-m", "poolcli.models.scripted", str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def asked(url: str, path: str) -> Any:
    with urllib.request.urlopen(url.removesuffix("/v1") + path) as answer:
        return json.loads(answer.read())


def test_a_long_task_in_a_small_window_ends_verified(make_pool: MakePool) -> None:
    pool = make_pool(REPO)
    model = scripted(pool, *READS, *FIXED, window=6144, compaction=True)
    with served(model) as url:
        done = pool("do", "fix add()", "--base-url", url)
        log = asked(url, "/_log")
    assert done.returncode == 0, done.stdout + done.stderr
    compacted = of_type(pool, "compacted")
    assert compacted and all(c["after"] <= 3072 < c["before"] <= 6144 for c in compacted)
    assert log["violations"] == [] and log["refused"] == 0  # seen to come, not run into
    assert log["restarts"] == len(compacted)
    assert len(compacted) <= 3  # each buys room for several turns
    shown = f"context made shorter: {compacted[0]['before']:,} → {compacted[0]['after']:,} tokens"
    assert shown in done.stdout, done.stdout
    started = of_type(pool, "run.started")[0]
    names = [tool["function"]["name"] for tool in started["tools"]]
    assert names == ["read", "search", "edit", "write", "run_tests", "shell"]
    assert "terminal" not in json.dumps(started["tools"])
    assert len(started["system"]) < 700
    assert "is small: prompts and results are short" in done.stdout
    # The task and the evidence were there to the end.
    events = [Event(e["run"], e["seq"], e["t"], e["type"], e["data"]) for e in pool.events()]
    text = "\n".join(m.text for m in project(events))
    assert "fix add()" in text
    assert all(len(d["text"]) <= 4000 for d in of_type(pool, "tool.done"))


def test_a_long_read_says_how_to_go_on_within_the_limit(make_pool: MakePool) -> None:
    pool = make_pool({**REPO, "big.py": LONG * 4})
    model = scripted(pool, reply("", call("read", path="big.py")), *FIXED, window=6144)
    assert pool("do", "fix it", "--model", f"scripted:{model}").returncode == 0
    text = of_type(pool, "tool.done")[0]["text"]
    assert len(text) <= 4000 and "more lines; read on with offset=" in text
    assert "@output/" not in text


def test_a_first_message_that_does_not_fit_loses_its_overview(make_pool: MakePool) -> None:
    names = {f"folder{n}/module_with_a_long_name_{n}.py": "" for n in range(50)}
    pool = make_pool({**REPO, **names, "AGENTS.md": "Use tabs, never spaces. " * 80})
    model = scripted(pool, *FIXED, window=2304, compaction=True)
    task = "Make add() add. " + "It is used everywhere. " * 150
    done = pool("do", task, "--model", f"scripted:{model}")
    assert done.returncode == 0, done.stdout + done.stderr
    first = of_type(pool, "compacted")[0]
    assert (first["level"], first["keep"]) == (3, 0)
    assert task.strip() in first["text"] and "-1 != 5" in first["text"]
    assert "<repository>" in of_type(pool, "turn.started")[0]["text"] and "<repository>" not in first["text"]


def test_a_server_that_always_refuses_ends_the_run_after_one_try(make_pool: MakePool) -> None:
    pool = make_pool({f"folder{n}/module_with_a_long_name_{n}.py": "" for n in range(50)} | REPO)
    refusals = [reply(fault="context") for _ in range(30)]
    model = scripted(pool, *refusals, compaction=True)
    with served(model) as url:
        done = pool("do", "fix it", "--base-url", url)
        log = asked(url, "/_log")
    assert done.returncode == 6, done.stdout + done.stderr
    assert len(of_type(pool, "compacted")) == 1
    assert log["requests"] == 2 and log["faults"] == 2
    why = of_type(pool, "run.ended")[0]["why"]
    assert "cannot be made shorter again" in why and "-c 32768" in why, why


def test_a_window_that_is_too_small_for_anything_is_refused(pool: Pool) -> None:
    model = scripted(pool, *FIXED, window=1024)
    done = pool("do", "fix it", "--model", f"scripted:{model}")
    assert done.returncode == 6
    assert "only 1,024 tokens" in done.stderr and "-c 32768" in done.stderr
    assert pool.runs() == []


def test_a_resumed_run_goes_on_from_what_is_left(make_pool: MakePool) -> None:
    pool = make_pool(REPO)
    with served(scripted(pool, *READS, *FIXED, window=6144, compaction=True)) as url:
        assert pool("do", "fix add()", "--base-url", url, "--max-turns", "6").returncode == 5
        compacted = len(of_type(pool, "compacted"))
        assert compacted
        before = asked(url, "/_last")["messages"]
        done = pool("resume", "--base-url", url)
        log = asked(url, "/_log")
    assert done.returncode == 0, done.stdout + done.stderr
    # The server itself checks that the bytes of before come again; it counts each time that they do not.
    assert log["violations"] == [] and log["restarts"] == len(of_type(pool, "compacted"))
    number = next(n for n, e in enumerate(pool.events()) if e["type"] == "run.resumed")
    events = [Event("r", n, 0.0, e["type"], e["data"]) for n, e in enumerate(pool.events()[:number])]
    texts = [part.text for m in project(events) for part in m.parts if isinstance(part, Result)]
    assert [m["content"] for m in before if m["role"] == "tool"] == texts[
        : sum(m["role"] == "tool" for m in before)
    ]


def test_a_reply_that_fills_the_window_is_asked_for_again_in_a_shorter_one(make_pool: MakePool) -> None:
    pool = make_pool(REPO)
    cut = reply("I think that", finish="length", usage={"prompt": 5000, "completion": 1140})
    model = scripted(pool, *READS[:3], cut, *FIXED, window=6144, compaction=True)
    done = pool("do", "fix add()", "--model", f"scripted:{model}")
    assert done.returncode == 0, done.stdout + done.stderr
    (compacted,) = of_type(pool, "compacted")
    assert compacted["why"] == "cut off"
    assert "I think that" not in json.dumps(of_type(pool, "model.replied"))


def test_a_server_that_cuts_silently_is_told_of(make_pool: MakePool) -> None:
    """Ollama: 200, and a count of the prompt that stays where it was however much is sent."""
    pool = make_pool(REPO)
    counted = [{**r, "usage": {"prompt": 9000 + 1000 * n, "completion": 20}} for n, r in enumerate(READS[:3])]
    short = {**READS[3], "usage": {"prompt": 8100, "completion": 20}}
    model = scripted(pool, *counted, short, *FIXED, window=40960, compaction=True)
    done = pool("do", "fix add()", "--model", f"scripted:{model}")
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = [n for n in of_type(pool, "notice") if n["code"] == "cut-silently"]
    assert "counts only 8,100 tokens" in told["text"] and "OLLAMA_CONTEXT_LENGTH" in told["text"]
    # From then on the conversation is made to fit into the window that was seen.
    assert all(c["window"] == 8192 for c in of_type(pool, "compacted"))


def test_a_server_that_cuts_to_very_little_is_refused(make_pool: MakePool) -> None:
    pool = make_pool(REPO)
    counted = [{**r, "usage": {"prompt": 2000 + 1500 * n, "completion": 20}} for n, r in enumerate(READS[:2])]
    short = {**READS[3], "usage": {"prompt": 2030, "completion": 20}}
    model = scripted(pool, *counted, short, *FIXED, window=131072)
    done = pool("do", "fix add()", "--model", f"scripted:{model}")
    assert done.returncode == 6
    assert "left out a part of it, for its context is too small" in of_type(pool, "run.ended")[0]["why"]


def test_counting_only_new_tokens_is_no_cut(make_pool: MakePool) -> None:
    """Some servers leave cached tokens out of their count."""
    pool = make_pool(REPO)
    counted = [
        {**r, "usage": {"prompt": 3000 if n == 0 else 90, "completion": 20}} for n, r in enumerate(READS[:4])
    ]
    model = scripted(pool, *counted, *FIXED)
    done = pool("do", "fix add()", "--model", f"scripted:{model}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [n for n in of_type(pool, "notice") if n["code"] == "cut-silently"] == []


def test_the_real_server_refuses_and_gets_a_shorter_conversation(tmp_path: Path) -> None:
    """llama.cpp's own 400, from which the window is learnt; the model sees what is left and answers."""

    async def run() -> tuple[list[Event], Message, ModelInfo]:
        server = await start(local.demo_model(), ctx=2560, threads=1, log=tmp_path / "server.log")
        model = OpenAIModel(
            Endpoint(server.base_url, server.name, server.api_key)
        )  # never asked for its window
        trace = Trace.create(tmp_path, "r")
        work = Run("r", tmp_path, trace)
        work.emit("run.started", system="You are pool.", task="fix it", tools=[])
        work.emit("turn.started", text="<repository>\na.py\n</repository>\n\n<task>\nfix it\n</task>")
        for n in range(8):
            parts = [{"type": "call", "id": f"c{n}", "name": "read", "args": {"path": "a.py"}}]
            work.emit("model.replied", message={"role": "assistant", "parts": parts}, finish="stop", usage={})
            lines = "\n".join(f"{line}\tvalue_{n}_{line} = {line}" for line in range(1, 60))
            work.emit("tool.done", id=f"c{n}", name="read", title="Read a.py", ok=True, text=lines, show=[])
        try:
            room = Room(work, model, [], lambda: "", max_reply=64)
            message = await room.within(lambda: ask(work, model, max_reply=64, check=room.check))
            return read(tmp_path), message, ModelInfo("", "", room.window)
        finally:
            await model.aclose()
            await server.stop()
            trace.close()

    events, message, info = asyncio.run(asyncio.wait_for(run(), 120))
    (compacted,) = [e.data for e in events if e.type == "compacted"]
    assert compacted["why"] == "refused" and compacted["window"] == info.window == 2560
    assert compacted["before"] > 2560 and compacted["level"] == 1
    usage = next(e.data["usage"] for e in reversed(events) if e.type == "model.replied")
    assert 0 < usage["prompt"] <= 1280 * 1.1  # half of the window, as estimated
    assert message.parts
