"""Connections that break and streams that stall: the same bytes again, and no effect twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from poolcli import asking
from poolcli.models import health, pace
from poolcli.models.endpoint import Limits
from poolcli.models.faults import StalledError
from poolcli.views.status import Status
from tests.models.misbehaving import SSE, Play, answer, endless, event, reset, silence
from tests.servers.harness import DONE, FACTS, OVER, ask, call, calling, part, saying

TEXT = SSE + event({"content": "half a se"})
CALL = json.dumps({"command": "echo done >> ran.txt"})
#: In the middle of a call, and after one that is whole but for the server's word that it is.
IN_CALL = SSE + event({"tool_calls": [part("shell", CALL[:20], index=0, id="c1")]})
AFTER_CALL = SSE + event({"tool_calls": [part("shell", CALL, index=0, id="c1")]})
SHELL = calling(part("shell", CALL, index=0, id="c1"))
QUICK = Limits(connect=5, first=0.3, idle=0.3, total=5)

BREAKS = {
    "before the reply": b"",
    "in the head": SSE[:20],
    "before the first piece": SSE,
    "in the middle of text": TEXT,
    "in the middle of a call": IN_CALL,
    "after a call": AFTER_CALL,
}


@pytest.mark.parametrize("first", BREAKS.values(), ids=BREAKS.keys())
@pytest.mark.parametrize("end", [reset, lambda first: first], ids=["reset", "closed"])
def test_a_connection_that_breaks_is_asked_with_the_same_bytes(tmp_path: Path, first: bytes, end) -> None:
    asked = ask(tmp_path, end(first), saying("whole"))
    assert asked.error is None and asked.same_bytes
    assert asked.message is not None and asked.message.text == "whole" and not asked.message.calls
    assert len(asked.notices("retry")) == 1


@pytest.mark.parametrize("name", ["in the middle of a call", "after a call"])
def test_a_call_whose_reply_broke_runs_once(do, name: str) -> None:
    done = do(reset(BREAKS[name]), SHELL, saying("Done."), args=("--test", "test $(wc -l < ran.txt) = 1"))
    assert done.code == 0, done.out
    assert done.same_bytes == [1]
    assert len(done.events("tool.started")) == 1
    assert len(done.notices("retry")) == 1


def test_what_was_shown_of_a_broken_reply_is_forgotten(tmp_path: Path) -> None:
    asked = ask(tmp_path, reset(TEXT), saying("whole"))
    # What may begin a secret is held back for a moment: the pieces are others, the text is the same.
    assert "".join(asked.live("delta")) == "half a sewhole"
    assert "the reply begins anew in" in asked.notices("retry")[0]
    status = Status()
    shown = []
    for seen in asked.seen:
        status.feed(seen)
        shown.append(status.streamed())
    assert "half a se" in shown and "whole" in shown and "half a sewhole" not in shown


def test_a_server_that_always_breaks_ends_the_run_with_its_error(tmp_path: Path) -> None:
    asked = ask(tmp_path, reset(TEXT))
    assert asked.error is not None and "broke" in str(asked.error)
    assert len(asked.server.bodies) == len(asking.RETRIES) + 1 and asked.same_bytes


@pytest.mark.slow  # the command's waits between its tries are 18 s together
def test_a_server_that_is_gone_is_exit_6_and_one_sentence(do) -> None:
    done = do(reset(b""), args=("--timeout", "60"))
    assert done.code == 6, done.out
    assert "the connection to" in done.why and "broke" in done.why and "\n" not in done.why


# A stall. Nobody waits for minutes here: the deadlines are those of a server that was set to be quick.


def stalled(first: bytes) -> Play:
    return silence(first)


@pytest.mark.parametrize("first", [b"", SSE, TEXT, IN_CALL, AFTER_CALL], ids=str)
def test_a_stall_is_counted_and_asked_again(tmp_path: Path, first: bytes) -> None:
    asked = ask(tmp_path, stalled(first), saying("whole"), limits=QUICK)
    assert asked.error is None and asked.same_bytes
    (told,) = asked.notices("stalled")
    assert "has sent nothing for 0.3 s" in told


def test_a_stall_in_the_middle_through_the_command(do) -> None:
    done = do(stalled(IN_CALL), SHELL, saying("Done."), args=("--test", "test $(wc -l < ran.txt) = 1"),
              POOL_IDLE_DEADLINE="1")  # fmt: skip
    assert done.code == 0, done.out
    assert done.same_bytes == [1] and len(done.events("tool.started")) == 1
    assert len(done.notices("stalled")) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines as measured ones are, in hundredths of a second instead of minutes."""
    monkeypatch.setattr(pace, "ASK", 0.1)
    monkeypatch.setattr(health, "GRACE", 0.05)


#: `idle` has its default, so that it is measured; the default is short here.
@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch, impatient: None) -> Limits:
    limits = Limits(idle=0.5, total=8)
    monkeypatch.setattr(pace, "USUAL", limits)
    return limits


def slots(*working: bool) -> dict[str, Play]:
    states = [{"id": n, "is_processing": state} for n, state in enumerate(working)]
    return {**FACTS, "/slots": answer(200, json.dumps(states).encode())}


def late(seconds: float) -> Play:
    """Text, then silence for a while, then the rest."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(TEXT)
        await writer.drain()
        await asyncio.sleep(seconds)
        writer.write(event({"content": "ntence"}) + event({}, "stop") + DONE)

    return play


def test_a_silent_server_that_works_is_waited_for(tmp_path: Path, half_a_second: Limits) -> None:
    asked = ask(tmp_path, late(1.2), limits=half_a_second, facts=slots(False, True))
    assert asked.error is None and len(asked.server.bodies) == 1
    assert asked.message is not None and asked.message.text == "half a sentence"
    assert "/slots" in asked.server.asked


def test_a_silent_server_that_works_for_ever_is_not(tmp_path: Path, half_a_second: Limits) -> None:
    asked = ask(tmp_path, stalled(TEXT), saying("whole"), limits=half_a_second, facts=slots(True))
    assert asked.error is None and len(asked.notices("stalled")) == 1


def test_a_silent_server_of_which_nothing_is_known_has_the_limit(
    tmp_path: Path, half_a_second: Limits
) -> None:
    asked = ask(tmp_path, late(1.2), saying("whole"), limits=half_a_second)
    assert asked.message is not None and asked.message.text == "whole"
    assert len(asked.notices("stalled")) == 1


def test_a_server_that_works_on_nothing_has_lost_the_request(tmp_path: Path, impatient: None) -> None:
    """Long before the limit of 120 s."""
    asked = ask(tmp_path, stalled(TEXT), saying("whole"), facts=slots(False))
    assert asked.error is None and asked.same_bytes
    assert "and works on nothing" in asked.notices("stalled")[0]


def test_a_stall_without_end_is_a_stalled_error(tmp_path: Path) -> None:
    asked = ask(tmp_path, stalled(TEXT), limits=QUICK)
    assert isinstance(asked.error, StalledError)
    assert len(asked.server.bodies) == len(asking.RETRIES) + 1


# What never ends.


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (endless(SSE + b"data: ", b"x" * 65_536), "a line of more than 8 MB"),
        (endless(SSE, (b"data: " + b"x" * 1000 + b"\n") * 50), "a line of more than 8 MB"),
    ],
    ids=["line", "event"],
)
def test_an_endless_line_is_an_error_and_no_flood(tmp_path: Path, play: Play, words: str) -> None:
    asked = ask(tmp_path, play)
    assert asked.error is not None and words in str(asked.error)
    assert len(asked.server.bodies) == 1  # the same again would be the same


def test_an_endless_line_is_exit_6(do) -> None:
    done = do(endless(SSE + b"data: ", b"x" * 65_536))
    assert done.code == 6 and "a line of more than 8 MB" in done.why


def test_keep_alives_for_ever_end(tmp_path: Path) -> None:
    asked = ask(tmp_path, endless(SSE, b": ping\n\n", 0.01), saying("whole"),
                limits=Limits(connect=5, first=5, idle=5, total=0.3))  # fmt: skip
    assert asked.error is None and asked.same_bytes
    assert "has not ended within 0.3 s" in asked.notices("stalled")[0]


def test_progress_for_ever_ends(tmp_path: Path) -> None:
    again = event({}, prompt_progress={"total": 9, "cache": 0, "processed": 3, "time_ms": 1})
    asked = ask(tmp_path, endless(SSE, again, 0.01), saying("whole"),
                limits=Limits(connect=5, first=5, idle=5, total=0.3))  # fmt: skip
    assert asked.error is None and len(asked.notices("stalled")) == 1


def test_keep_alive_comments_are_a_sign_of_life(tmp_path: Path) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE)
        for _ in range(10):
            await asyncio.sleep(0.06)  # altogether twice the limit to the first piece
            writer.write(b": ping\n\n")
        writer.write(saying("fine")[len(SSE) :])

    asked = ask(tmp_path, play, limits=QUICK)
    assert asked.message is not None and asked.message.text == "fine" and len(asked.server.bodies) == 1


def test_progress_of_the_prompt_is_a_sign_of_life_and_shown(tmp_path: Path) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE)
        for read in range(100, 1001, 100):
            await asyncio.sleep(0.06)
            writer.write(
                event({}, prompt_progress={"total": 1000, "cache": 0, "processed": read, "time_ms": 9})
            )
        writer.write(saying("fine")[len(SSE) :])

    asked = ask(tmp_path, play, limits=QUICK, progress=True)
    assert json.loads(asked.server.bodies[0])["return_progress"] is True
    assert asked.message is not None and asked.message.text == "fine" and len(asked.server.bodies) == 1
    assert asked.live("progress") == [f"reading the prompt {n} %" for n in range(10, 101, 10)]
    status = Status()
    for seen in asked.seen:
        if seen.type == "progress":
            status.feed(seen)
    assert "reading the prompt 100 %" in status.activity()


def test_no_effect_is_repeated_when_every_second_reply_breaks(do) -> None:
    step = [calling(call("shell", id=f"c{n}", command="echo x >> ran.txt")) for n in range(3)]
    plays = [play for one in step for play in (reset(one[:-60]), one)]
    done = do(*plays, OVER, args=("--test", "test $(wc -l < ran.txt) = 3"))
    assert done.code == 0, done.out
    assert done.same_bytes == [1, 3, 5]
    assert len(done.events("tool.started")) == 3
