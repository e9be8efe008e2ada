"""A server's prefix cache, seen from the wire: what a long run makes it compute, and what is told of a loss."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poolcli.messages import Message, to_json
from poolcli.models.cache_watch import CacheWatch
from poolcli.run import Run
from poolcli.store.reading import read
from tests.e2e.conftest import FIX, Pool, call, reply, script


class NoLog:
    """Where nothing is kept."""

    def append(self, event: Any) -> None: ...

    def sync(self) -> None: ...


@contextmanager
def scripted_server(folder: Path, *replies: dict[str, Any]) -> Iterator[str]:
    """The scripted server as a process of its own, which a run does not take down with it; its root."""
    (folder / "served.toml").write_text(script(*replies))
    argv = [sys.executable, "-m", "poolcli.models.scripted", str(folder / "served.toml")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removesuffix("/v1")
        finally:
            process.kill()


def log_of(root: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{root}/_log", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def watched(run_dir: Path) -> CacheWatch:
    """The watch as a resumed run would have it, from the log alone."""
    run = Run("r", run_dir, NoLog())
    run.replay(read(run_dir))
    return run.cache


def notices(pool: Pool) -> list[str]:
    return [
        e["data"]["text"]
        for e in pool.events()
        if e["type"] == "notice" and e["data"]["code"] == "cache-dropped"
    ]


def test_fifty_turns_make_an_ideal_cache_compute_each_token_once(pool: Pool) -> None:
    work = [
        reply(f"Step {n}.", call("shell", command=f"seq {n} {n + 40}"), think=f"Now step {n}." * 5)
        for n in range(47)
    ]
    turns = (*work, reply("I think it works."), reply("", call("edit", **FIX)), reply("It adds now."))
    with scripted_server(pool.home, *turns) as root:
        done = pool("do", "make it add", "--base-url", f"{root}/v1", "--model", "scripted")
        seen = log_of(root)
    assert done.returncode == 0, done.stderr
    assert len(seen["sizes"]) == 50 and seen["violations"] == []
    computed = sum(seen["sizes"]) - sum(seen["known"])
    assert computed <= 1.01 * seen["sizes"][-1], "bytes that a cache computes, over those it must"
    assert notices(pool) == []
    cache = watched(pool.runs()[-1])
    assert cache.over_optimum <= 1.01 and cache.share > 0.9


def test_a_lost_cache_is_told_with_its_cause(pool: Pool) -> None:
    counts = ((3000, 0), (3600, 3000), (4200, 0), (4800, 0), (5400, 4800), (6000, 4000), (6600, 6000))
    steps = [("", call("shell", command=f"echo {n}")) for n in range(5)]
    steps += [("", call("edit", **FIX)), ("It adds now.",)]
    replies = [
        reply(*step, usage={"prompt": prompt, "completion": 9, "cached": cached})
        for step, (prompt, cached) in zip(steps, counts, strict=True)
    ]
    done = pool.do("make it add", replies=tuple(replies))
    assert done.returncode == 0
    gone, template = notices(pool)
    assert "read 3600 of 3600 known prompt tokens again" in gone and "restarted" in gone
    assert "read 1400 of 5400" in template and "template" in template
    types = [e["type"] for e in pool.events()]
    assert types[types.index("notice", types.index("model.replied")) - 1] == "model.replied"
    assert "took this one's slot" in done.stderr + done.stdout


def test_compacting_and_resuming_are_excused(tmp_path: Path) -> None:
    run = Run("r", tmp_path, NoLog())
    said = []

    def replied(prompt: int, cached: int) -> None:
        usage = {"prompt": prompt, "completion": 9, "cached": cached}
        run.emit("model.replied", message=to_json(Message("assistant", ())), usage=usage)
        said.append(bool(run.cache.news))

    replied(4000, 0)
    run.emit("compacted", text="what was done")
    replied(2000, 300)
    run.emit("run.resumed")
    replied(2500, 0)
    replied(3000, 0)
    assert said == [False, False, False, True]
