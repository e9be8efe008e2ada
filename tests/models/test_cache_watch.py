"""The watch on the prefix cache: what servers really report, and the real llama.cpp server losing its cache."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import ModelError
from poolcli.messages import Message, Text, system, user
from poolcli.models import local
from poolcli.models.base import Reply, Usage
from poolcli.models.cache_watch import PATIENCE, WORTH, CacheWatch


def watch(*counts: tuple[int, int]) -> tuple[list[str], CacheWatch]:
    """Feeds replies given as llama.cpp's `timings` do, (cache_n, prompt_n); what was said of each."""
    watching = CacheWatch()
    return [watching.feed(Usage(a + b, 20, a)) for a, b in counts], watching


# As recorded from the real server


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([(0, 307), *((307 + 41 * n, 41) for n in range(19))], id="append-only"),
        pytest.param([(0, 30), (33, 113), (162, 120), (320, 12), (335, 8)], id="replies echoed"),
        pytest.param([(0, 5000), *((16 * (312 + 40 * n), 640) for n in range(9))], id="blocks of 16"),
        pytest.param([(0, 3000), (2900, 700), (3500, 500), (3996, 500)], id="a few percent"),
        pytest.param([(0, 250), (0, 200), (0, 240), (0, 250)], id="too little to matter"),
    ],
)
def test_a_cache_that_holds_is_not_spoken_of(counts: list[tuple[int, int]]) -> None:
    said, _ = watch(*counts)
    assert not any(said)


def test_the_figures_of_a_run() -> None:
    _, held = watch((0, 307), *((307 + 41 * n, 41) for n in range(19)))
    assert held.over_optimum == 1.0
    assert held.prompt == sum(307 + 41 * n for n in range(20))
    assert held.share == pytest.approx(1 - (307 + 19 * 41) / held.prompt)
    # A clock at the end of the system prompt: all behind it is read anew each time.
    _, clock = watch((0, 307), (301, 57), (301, 98), (301, 139))
    assert (clock.fresh, clock.repeated) == (307 + 51 + 41 + 41, 6 + 57 + 98)
    assert clock.over_optimum == pytest.approx(1 + 161 / 440)
    assert CacheWatch().share == 0.0 and CacheWatch().over_optimum == 1.0


def test_a_server_that_does_not_tell_is_not_judged() -> None:
    silent = CacheWatch()
    for prompt in (5000, 6000, 7000, 8000, 9000):
        assert silent.feed(Usage(prompt, 10, None)) == ""
    assert silent.feed(Usage()) == ""
    assert silent.share == 0.0 and silent.over_optimum == 1.0


def test_a_reply_without_figures_in_between_excuses_the_next() -> None:
    watching = CacheWatch()
    watching.feed(Usage(5000, 10, 0))
    watching.feed(Usage(6000, 10, 5000))
    watching.feed(Usage())
    assert watching.feed(Usage(7000, 10, 0)) == ""


# Losses


def test_a_restart_is_told_once_until_the_cache_has_held_again() -> None:
    start = [(0, 3000), (3000, 500), (3500, 500)]
    said, watching = watch(*start, (0, 4500), (0, 5000), (5000, 500), (0, 6000))
    assert [bool(text) for text in said] == [False, False, False, True, False, False, True]
    assert said[3].startswith("the server read 4000 of 4000 known prompt tokens again: it restarted")
    assert "slot" in said[3]
    assert watching.news == said[-1]


def test_another_conversation_with_the_same_system_prompt_took_the_slot() -> None:
    said, _ = watch((0, 2000), (2000, 900), (296, 3000), (296, 4000))
    assert "another conversation" in said[2] and said[3] == ""


def test_a_template_that_drops_reasoning_is_told_once() -> None:
    said, _ = watch((0, 2000), (2100, 900), (3100, 900), (2090, 2500), (4600, 300), (3000, 3000))
    assert [bool(text) for text in said] == [False, False, False, True, False, False]
    assert "template" in said[3]


def test_a_loss_of_another_kind_is_told_too() -> None:
    said, _ = watch((0, 2000), (2000, 2000), (2500, 2500), (0, 6000))
    assert "template" in said[2] and "restarted" in said[3]


def test_a_server_without_a_cache_is_told_after_some_patience() -> None:
    said, watching = watch(*((0, 2000 + 500 * n) for n in range(8)))
    assert [bool(text) for text in said] == [n == PATIENCE - 1 for n in range(8)]
    assert "no prefix cache" in said[PATIENCE - 1]
    assert watching.over_optimum == pytest.approx(sum(2000 + 500 * n for n in range(8)) / 5500)


def test_compaction_and_resuming_are_excused() -> None:
    watching = CacheWatch()
    for prompt, cached in ((5000, 0), (6000, 5000), (7000, 6000)):
        assert watching.feed(Usage(prompt, 10, cached)) == ""
    watching.excuse()
    assert watching.feed(Usage(2000, 10, 300)) == ""
    assert watching.feed(Usage(2600, 10, 2000)) == ""
    assert "restarted" in watching.feed(Usage(3000, 10, 0)), "only the next one was excused"
    watching.excuse()
    assert watching.feed(Usage(3500, 10, 0)) == ""
    assert watching.feed(Usage(4000, 10, 0)) == "", "the loss from before still goes on"


COUNT = st.none() | st.integers(0, 100_000)


@given(st.lists(st.tuples(COUNT, COUNT, st.booleans()), max_size=30))
def test_whatever_is_reported_the_sums_hold(reports: list[tuple[int | None, int | None, bool]]) -> None:
    watching = CacheWatch()
    for at, (prompt, cached, excused) in enumerate(reports):
        if excused:
            watching.excuse()
        said = watching.feed(Usage(prompt, 0, cached))
        assert not said or (at and prompt is not None and cached is not None and not excused)
    assert watching.fresh >= 0 and watching.repeated >= 0 and 0.0 <= watching.share <= 1.0
    assert watching.fresh + watching.repeated + watching.cached == watching.prompt
    assert watching.over_optimum >= 1.0


@given(st.integers(1, 5000), st.lists(st.tuples(st.integers(0, 800), st.integers(0, 300)), max_size=30))
def test_an_append_only_conversation_is_never_accused(first: int, turns: list[tuple[int, int]]) -> None:
    """Whatever the replies are, and whether the cache keeps them: what was in the last prompt is there."""
    watching, prompt, written = CacheWatch(), first, 0
    watching.feed(Usage(prompt, 0, 0))
    for added, reply in turns:
        before, prompt = prompt, prompt + written + added
        kept = before - before % 16 if added % 2 else before + max(written - 1, 0)
        assert watching.feed(Usage(prompt, reply, kept)) == ""
        written = reply


# The real server


async def ask(model: local.LocalModel, messages: list[Message], limit: int = 8) -> Reply:
    """One reply; a server that died is started again, as a run does."""
    for _ in range(4):
        try:
            async for piece in model.stream(messages, max_tokens=limit):
                if isinstance(piece, Reply):
                    return piece
        except ModelError as error:
            assert error.retryable
    raise AssertionError("no reply")


def talked(turns: int, about: str) -> list[Message]:
    """A conversation that went on for some turns; 40 of them are well over 512 tokens to the demonstration model."""
    said = (f"I look at {about} once more.", f"The checks fail still in {about}: look again.")
    return [user("Fix the failing test in calc.py.")] + [
        Message("assistant", (Text(said[0]),)) if n % 2 == 0 else user(said[1]) for n in range(2 * turns)
    ]


def more(reply: Reply, number: int) -> list[Message]:
    return [reply.message, user(f"The checks fail still: expected {number * 7}, got {number * 3}.")]


def test_llama_cpp_computes_one_token_a_turn_twice(tmp_path: Path) -> None:
    """20 turns in one slot, by the server's own `timings.cache_n`: nothing of a prompt, and of a reply the last
    token, which was never computed. (A reply cut off within a call is read by the server in other words.)"""

    async def talk() -> tuple[list[int], CacheWatch]:
        greedy = {"temperature": 0.0}
        model = await local.open_local(local.demo_model(), [], log=tmp_path / "log", extra_body=greedy)
        watching, twice, prompt, slot = CacheWatch(), [], 0, 0
        messages = [system("Fix it."), user("Fix the failing test in calc.py.")]
        try:
            for number in range(20):
                reply = await ask(model, messages)
                timings = reply.extra["timings"]
                assert timings["cache_n"] >= prompt
                twice.append(slot - timings["cache_n"])
                prompt = timings["cache_n"] + timings["prompt_n"]
                slot = prompt + timings["predicted_n"]
                assert watching.feed(reply.usage) == ""
                messages += more(reply, number)
        finally:
            await model.aclose()
        return twice, watching

    twice, watching = asyncio.run(talk())
    assert len(twice) == 20 and sum(twice) <= 2 * 20, twice
    assert watching.over_optimum == 1.0


def test_a_server_that_was_killed_has_lost_its_cache(tmp_path: Path) -> None:
    async def talk() -> list[str]:
        model = await local.open_local(local.demo_model(), [], log=tmp_path / "log")
        watching, said = CacheWatch(), []
        messages = talked(40, "calc.py")
        try:
            for number in range(4):
                if number == 2:
                    os.kill(model.server.pid, signal.SIGKILL)
                reply = await ask(model, messages)
                assert (reply.usage.prompt or 0) > 2 * WORTH
                said.append(watching.feed(reply.usage))
                messages += more(reply, number)
        finally:
            await model.aclose()
        return said

    said = asyncio.run(talk())
    assert [bool(text) for text in said] == [False, False, True, False]
    assert "restarted" in said[2]


def test_a_conversation_in_the_same_slot_takes_the_cache(tmp_path: Path) -> None:
    async def talk() -> list[str]:
        model = await local.open_local(local.demo_model(), [], log=tmp_path / "log")
        watching, said = CacheWatch(), []
        messages = talked(40, "calc.py")
        # Begins as the other does. What it shares stays in the slot, more than half of the slot's content, and so
        # llama.cpp keeps no copy of the rest in memory.
        others = [*messages[:51], *talked(30, "other.py")[1:]]
        try:
            for number in range(3):
                reply = await ask(model, messages)
                said.append(watching.feed(reply.usage))
                messages += more(reply, number)
                await ask(model, others)
        finally:
            await model.aclose()
        return said

    first, second, third = asyncio.run(talk())
    assert first == "" and "took this one's slot" in second and third == ""
