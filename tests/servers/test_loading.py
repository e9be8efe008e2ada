"""A server that still loads its model is waited for: it is no failure, and takes minutes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from poolcli import asking
from poolcli.models.faults import LoadingError
from tests.models.misbehaving import Play, answer
from tests.servers.harness import FIX, LOADING, OVER, ask, saying

BUSY = answer(503, LOADING)


def test_loading_is_waited_for_and_is_no_retry(tmp_path: Path) -> None:
    many = 3 * len(asking.RETRIES)
    asked = ask(tmp_path, *[BUSY] * many, saying("fine"))
    assert asked.error is None and asked.same_bytes
    assert len(asked.server.bodies) == many + 1
    assert asked.notices("retry") == []
    (told,) = asked.notices("loading")  # once, not once for each look
    assert "is loading its model; waiting up to 30 min" in told
    assert asked.live("progress") == ["the server is loading its model"] * many


def test_faults_after_loading_have_all_their_retries(tmp_path: Path) -> None:
    broken = answer(500, {"error": "boom"})
    asked = ask(tmp_path, BUSY, *[broken] * 2, BUSY, *[broken] * 2, saying("fine"))
    assert asked.error is None and asked.same_bytes
    assert len(asked.notices("retry")) == 4 == len(asking.RETRIES)


def test_people_are_told_again_but_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOADING_TOLD", 0.05)
    asked = ask(tmp_path, *[BUSY] * 30, saying("fine"))
    assert 2 <= len(asked.notices("loading")) < 15


def test_loading_for_ever_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOADING_LIMIT", 0.2)
    asked = ask(tmp_path, BUSY)
    assert asked.error is not None and not asked.error.retryable
    assert "is loading its model, and is not done after" in str(asked.error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Loading model", "code": 503}},
        {"error": "Model Qwen/Qwen2.5-Coder is currently loading", "estimated_time": 20.0},
        {"detail": "the server is still starting"},
        {"error": {"message": "model is loading, please wait"}},
    ],
)
def test_other_words_for_loading(tmp_path: Path, body: dict) -> None:
    asked = ask(tmp_path, answer(503, body), saying("fine"))
    assert asked.error is None and asked.notices("loading")


@pytest.mark.parametrize(
    "body", [{"error": "error loading model: out of memory"}, {"error": "failed to load model"}]
)
def test_a_model_that_could_not_be_loaded_is_not_waited_for(tmp_path: Path, body: dict) -> None:
    asked = ask(tmp_path, answer(503, body))
    assert asked.error is not None and not isinstance(asked.error, LoadingError)
    assert asked.notices("loading") == []


def test_the_window_is_asked_again_once_the_model_is_there(tmp_path: Path) -> None:
    props = {"/props": BUSY}
    asked = ask(tmp_path, BUSY, saying("fine"), facts=props, probe=True)
    assert asked.error is None
    assert asked.server.asked.count("/props") > 1


def test_a_server_that_answers_nothing_but_loading(do) -> None:
    """llama.cpp while it loads: no list, no properties. The run begins, and knows the window once it is told."""
    loaded = False

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal loaded
        loaded = True
        writer.write(BUSY)

    def once_loaded(body: dict) -> Play:
        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(200, body) if loaded else BUSY)

        return play

    facts = {
        "/v1/models": once_loaded({"data": [{"id": "m"}]}),
        "/props": once_loaded({"default_generation_settings": {"n_ctx": 12_288}}),
    }
    done = do(reply, FIX, OVER, facts=facts)
    assert done.code == 0, done.out
    assert len(done.notices("loading")) == 1
    assert done.pool.result()["model"]["window"] == 12_288


def test_the_command_waits_for_a_server_that_loads(do) -> None:
    done = do(BUSY, BUSY, FIX, OVER)
    assert done.code == 0, done.out
    assert done.same_bytes == [1, 2]
    assert len(done.notices("loading")) == 1 and "is loading its model" in done.out
