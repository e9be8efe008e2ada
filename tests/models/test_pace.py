"""Deadlines from measured speed: what is not measured or was chosen by a person stays as it is."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.models.base import Usage
from poolcli.models.connection import Connection
from poolcli.models.endpoint import Endpoint, Limits
from poolcli.models.faults import StalledError
from poolcli.models.health import look, patiently
from poolcli.models.pace import USUAL, Deadline, Pace, Silence, Speeds
from tests.models.misbehaving import Play, answer, misbehaving

SLOW = Speeds(prefill=20.0, decode=2.0)


def test_a_slow_prefill_has_as_long_as_it_needs() -> None:
    """100,000 bytes are about 30,000 tokens: 25 minutes at 20 tokens a second, where 10 were the limit."""
    assert Pace(Limits(), SLOW).first(100_000).end > 30_000 / 20
    assert Pace(Limits(), SLOW).first(100).end == USUAL.first  # never less than the usual
    assert Pace(Limits()).first(100_000).end == USUAL.first  # nothing is known


def test_a_server_that_shows_that_it_reads_has_no_limit_but_the_total() -> None:
    assert Pace(Limits()).first(100).longest == USUAL.total


def test_a_slow_decode_may_be_silent_for_longer() -> None:
    """A whole file written in one call, which some servers hand out only at its end."""
    slow, quick = Pace(Limits(), SLOW).idle(), Pace(Limits(), Speeds(1000.0, 100.0)).idle()
    assert slow.end > 2000 / 2 and slow.ask >= 200 / 2
    assert quick.end == USUAL.idle and quick.ask < quick.end < quick.longest
    assert Pace(Limits()).idle() == quick


@given(st.floats(0.5, 5000), st.integers(0, 10_000_000), st.floats(0, 1e5), st.floats(0, 1e5))
def test_what_a_person_chose_is_kept(seconds: float, size: int, prefill: float, decode: float) -> None:
    pace = Pace(Limits(first=seconds, idle=seconds), Speeds(prefill, decode))
    if seconds not in (USUAL.first, USUAL.idle):
        assert pace.first(size) == pace.idle() == Silence(seconds, seconds, seconds)


@given(st.integers(0, 10_000_000), st.floats(0, 1e7), st.floats(0, 1e7))
def test_no_deadline_is_shorter_than_the_usual_or_without_end(
    size: int, prefill: float, decode: float
) -> None:
    pace = Pace(Limits(), Speeds(prefill, decode))
    for silence, usual in ((pace.first(size), USUAL.first), (pace.idle(), USUAL.idle)):
        assert usual <= silence.end < float("inf") and silence.ask <= max(silence.end, silence.longest)


TIMINGS = {"prompt_n": 500, "prompt_per_second": 250.0, "predicted_n": 80, "predicted_per_second": 40.0}


def test_speeds_are_taken_from_llama_cpps_timings() -> None:
    pace = Pace(Limits())
    pace.learn(Usage(500, 80, 0), TIMINGS, 9.0, 9.0)
    assert pace.speeds == Speeds(250.0, 40.0)
    pace.learn(Usage(500, 80, 0), {**TIMINGS, "prompt_per_second": 150.0}, 9.0, 9.0)
    assert 150 < pace.speeds.prefill < 250 and pace.speeds.decode == 40.0


def test_speeds_are_measured_where_a_server_tells_none() -> None:
    pace = Pace(Limits())
    pace.learn(Usage(1000, 100, 200), {}, 4.0, 9.0)
    assert pace.speeds == Speeds(200.0, 20.0)
    pace = Pace(Limits())
    pace.learn(Usage(1000, 100, None), {}, 4.0, 9.0)
    assert pace.speeds == Speeds(0.0, 20.0)  # how much came from a cache is not known


@pytest.mark.parametrize(
    "timings",
    [
        {**TIMINGS, "prompt_n": 3, "predicted_n": 2},  # so few tokens say nothing
        {**TIMINGS, "prompt_per_second": 0, "predicted_per_second": -1},
        {**TIMINGS, "prompt_per_second": float("nan"), "predicted_per_second": 1e300},
        {**TIMINGS, "prompt_per_second": "fast", "predicted_per_second": True},
        {"unknown": 1},
    ],
)
def test_nonsense_changes_nothing(timings: dict) -> None:
    pace = Pace(Limits(), SLOW)
    pace.learn(Usage(1000, 100, 0), timings, 1.0, 2.0)
    assert pace.speeds == SLOW


def test_the_limit_for_all_counts_anew_while_the_prompt_is_read_but_not_for_ever() -> None:
    deadline = Deadline(Limits())
    first = deadline.end
    for _ in range(3):
        time.sleep(0.01)
        deadline.reading()
    assert first < deadline.end < first + 1
    deadline._start -= 100 * USUAL.total  # as if it had been read for days
    deadline.reading()
    assert deadline.end < time.monotonic()
    chosen = Deadline(Limits(total=60.0))
    end = chosen.end
    chosen.reading()
    assert chosen.end == end


# How a server is.


def seen(play: Play) -> str:
    async def run() -> str:
        async with misbehaving(answer(404, b""), facts={"/slots": play}) as server:
            connection = Connection(Endpoint(server.base_url))
            try:
                return await look(connection, Endpoint(server.base_url).root)
            finally:
                await connection.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("play", "health"),
    [
        (answer(200, b'[{"is_processing": false}, {"is_processing": true}]'), "working"),
        (answer(200, b'[{"is_processing": false}, {"is_processing": false}]'), "idle"),
        (answer(200, b"[]"), "unknown"),
        (answer(200, b'[{"id": 1}]'), "unknown"),
        (answer(200, b'{"status": "ok"}'), "unknown"),
        (answer(200, b"<html>"), "unknown"),
        (answer(404, b""), "unknown"),
        (answer(501, {"error": "this server does not support slots endpoint"}), "unknown"),
        (answer(503, b"busy"), "unknown"),
        (b"", "unknown"),
    ],
)
def test_what_servers_show_of_themselves(play: Play, health: str) -> None:
    assert seen(play) == health


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        endpoint = Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert asyncio.run(look(Connection(endpoint), endpoint.root)) == "gone"


@pytest.mark.parametrize(
    ("health", "begun", "words"),
    [("gone", False, "and is gone"), ("gone", True, "and is gone"), ("idle", True, "and works on nothing")],
)
def test_what_is_lost_is_not_waited_for(
    health: str, begun: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolcli.models.health.GRACE", 0.02)

    async def check() -> str:
        return health

    async def run() -> None:
        step = asyncio.Event().wait()
        silence = Silence(0.05, 3600.0, 3600.0)
        await patiently(step, silence, time.monotonic() + 3600, check, begun=begun)  # type: ignore[arg-type]

    with pytest.raises(StalledError, match=words):
        asyncio.run(asyncio.wait_for(run(), 20))


def test_before_a_reply_an_idle_slot_proves_nothing() -> None:
    """Several servers may be behind one address, and the one that was asked is not the one that reads."""

    async def check() -> str:
        return "idle"

    async def run() -> str:
        step = asyncio.sleep(0.3, "came")
        silence = Silence(0.05, 3600.0, 3600.0)
        return await patiently(step, silence, time.monotonic() + 3600, check, begun=False)  # type: ignore[arg-type]

    assert asyncio.run(asyncio.wait_for(run(), 20)) == "came"


def test_leaving_stops_what_is_waited_for() -> None:
    ended: list[str] = []

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("step")

    async def check() -> str:
        return "working"

    async def run() -> None:
        silence = Silence(0.05, 3600.0, 3600.0)
        task = asyncio.create_task(patiently(step(), silence, time.monotonic() + 3600, check, begun=True))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(run(), 20))
    assert ended == ["step"]
