"""Profiles on disk, and how a run uses one: kept, damaged, refreshed when the server is another, corrected."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import config
from poolcli.errors import ConfigError, ModelError
from poolcli.messages import user
from poolcli.models import profiles, slots
from poolcli.models.base import Model, ModelInfo, Reply
from poolcli.models.faults import LoadingError
from poolcli.models.opening import adapter_files, open_reference, reference_of
from poolcli.models.profile import Profile
from poolcli.models.reference import LocalFile
from tests.models.known_servers import MODEL, Known, Traits, serving

SCHEMA = {
    "type": "function",
    "function": {"name": "read", "description": "", "parameters": {"type": "object"}},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("POOL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("POOL_MODELS", str(tmp_path / "models"))
    return tmp_path / "home"


def opened(server: Known, use: Callable[[Model], Any] | None = None, **flags: Any) -> Any:
    """What `use` gives, with the model open at the server; the model's info without it."""

    async def run() -> Any:
        settings = config.load(flags={"base_url": server.url, "model": MODEL, **flags})
        model = await open_reference(settings, lambda info: [SCHEMA], log=Path("/dev/null"))
        try:
            return await use(model) if use else model.info
        finally:
            await model.aclose()

    return asyncio.run(run())


async def ask(model: Model) -> Reply:
    async for piece in model.stream([user("hello")], max_tokens=9):
        if isinstance(piece, Reply):
            return piece
    raise AssertionError("no reply")


# On disk


def test_kept_and_found_again() -> None:
    one = Profile("http://a/v1", "org/m:8b", server="vllm", window=9000, unknown=("rung",), probed=5.0)
    assert profiles.load(one.url, one.model) is None and profiles.every() == []
    assert profiles.save(one) and profiles.load(one.url, one.model) == one
    assert profiles.load(one.url, "other") is None and profiles.load("http://b/v1", one.model) is None
    profiles.save(msgspec.structs.replace(one, url="http://b/v1", probed=6.0))
    assert [profile.url for profile in profiles.every()] == ["http://b/v1", "http://a/v1"]
    path = profiles.path_of(one.url, one.model)
    assert path.name.startswith("org-m-8b-") and path.parent == profiles.folder()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(path.parent.glob(".new-*"))
    profiles.forget(one.url, one.model)
    assert profiles.load(one.url, one.model) is None


def test_names_cannot_leave_the_folder() -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "..", "", "a\0b", "ü" * 500):
        assert profiles.path_of("u", name).parent == profiles.folder()
        assert len(profiles.path_of("u", name).name) < 80


def test_one_of_another_version_is_read_as_far_as_it_goes() -> None:
    path = profiles.path_of("u", "m")
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"url": "u", "model": "m", "rung": "telepathy", "window": "big", "new": [1], "slots": 3})
    )
    assert profiles.load("u", "m") == Profile("u", "m", slots=3)
    for damage in (
        "",
        "{",
        "[]",
        '{"url": "u"}',
        "null",
        '{"url": "u", "model": "m", "window": -5}',
        "9" * 70_000,
    ):
        path.write_text(damage)
        assert profiles.load("u", "m") in (None, Profile("u", "m"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from([field.name for field in msgspec.structs.fields(Profile)]), inner
        ),
    )
)
def test_no_text_on_disk_is_too_wild(found: Any) -> None:
    profile = profiles.from_json(found)
    assert profile is None or (isinstance(profile.window, int) and profile.window >= 0)


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    assert not profiles.save(Profile("u", "m")) and profiles.every() == []


# In a run


def test_without_a_profile_nothing_is_measured_and_evidence_is_kept() -> None:
    with serving() as server:
        assert opened(server).window == 32768
        assert server.chats == [] and profiles.every() == []  # a model that was only opened taught nothing
        opened(server, ask)
        assert len(server.chats) == 1 and "id_slot" not in server.chats[0]
    (kept,) = profiles.every()
    assert kept.probed == 0 and kept.decode > 0 and kept.server == "llama.cpp"


def test_a_step_down_is_remembered() -> None:
    with serving(refuses_tools=True) as server:
        opened(server, ask)
        (kept,) = profiles.every()
        assert kept.rung == "text"  # replies of this server are not held to a schema either
        before = len(server.chats)
        opened(server, ask)
        assert len(server.chats) == before + 1 and "tools" not in server.chats[-1]


def test_a_profile_decides_what_is_sent() -> None:
    stored = Profile("", MODEL, server="llama.cpp", version="b6789", slots=4, probed=1.0)
    with serving() as server:
        plain = msgspec.structs.replace(stored, url=server.url)
        profiles.save(plain)
        opened(server, ask)
        assert not {"id_slot", "cache_prompt", "return_progress"} & server.chats[-1].keys()
        profiles.save(msgspec.structs.replace(plain, pinning=True, cache_report=True, progress=True))
        opened(server, ask)
        assert server.chats[-1]["id_slot"] == 3 and server.chats[-1]["cache_prompt"] is True
        assert server.chats[-1]["return_progress"] is True


def test_a_server_that_changed_is_measured_again() -> None:
    with serving() as server:
        old = Profile(server.url, MODEL, server="llama.cpp", version="b1", rung="text", probed=1.0, window=5)
        profiles.save(old)
        info = opened(server)
        assert "the server changed from llama.cpp b1 to llama.cpp b6789" in info.notice
        assert info.rung == "native" and info.window == 32768
        kept = profiles.load(server.url, MODEL)
        assert kept is not None and kept.version == "b6789" and kept.rung == "native" and kept.pinning
        count = len(server.chats)
        assert count > 5 and opened(server).notice == "" and len(server.chats) == count


def test_a_measurement_that_fails_does_not_end_a_run() -> None:
    with serving(dumb=["/v1/chat/completions"]) as server:
        profiles.save(Profile(server.url, MODEL, "llama.cpp", "b1", rung="text", probed=1.0))
        info = opened(server)
        assert "could not be measured again" in info.notice and info.rung == "native"
        kept = profiles.load(server.url, MODEL)
        assert kept is not None and kept.version == "b6789" and kept.probed == 0.0


def test_another_context_needs_no_new_measurement() -> None:
    with serving() as server:
        profiles.save(Profile(server.url, MODEL, "llama.cpp", "b6789", window=5, rung="whole", probed=1.0))
        info = opened(server)
        assert (info.window, info.rung, info.notice) == (32768, "whole", "") and server.chats == []


def test_what_was_learnt_without_measuring_is_forgotten_with_the_server() -> None:
    with serving() as server:
        profiles.save(Profile(server.url, MODEL, "llama.cpp", "b1", rung="text"))
        assert opened(server).rung == "native" and server.chats == []


def test_the_real_context_counts_more_than_the_configured_one() -> None:
    with serving(window=8192) as server:
        info = opened(server, context=20000)
        assert info.window == 8192 and "20000" in info.notice
        assert opened(server, context=4096).window == 4096
    with serving(Traits("ollama")) as server:  # not loaded: nobody knows
        assert opened(server, context=20000).window == 20000


def test_the_first_of_several_models_is_said() -> None:
    with serving(models=["a", "b"]) as server:
        info = opened(server, model="")
        assert info.name == "a" and "the first of 2" in info.notice


def test_a_server_that_still_loads_does_not_end_a_run() -> None:
    async def patiently(model: Model) -> Reply:
        while True:
            try:
                return await ask(model)
            except LoadingError:
                pass  # a run says so, waits and tries again

    with serving(loading=6) as server:
        reply, info = opened(server, patiently), opened(server)
        assert reply.message.text == "OK" and info.window == 32768


def test_nobody_there() -> None:
    with serving() as server:
        pass
    with pytest.raises(ModelError):
        opened(server)


# Requests


def test_sampling_comes_from_the_family_until_a_person_says_otherwise(home: Path) -> None:
    with serving() as server:
        opened(server, ask)
        sent = server.chats[-1]
        assert (sent["temperature"], sent["top_p"], sent["top_k"]) == (0.7, 0.8, 20)
        opened(server, ask, temperature=0.1, seed=7, min_p=0.02)
        sent = server.chats[-1]
        assert (sent["temperature"], sent["top_p"], sent["seed"], sent["min_p"]) == (0.1, 0.8, 7, 0.02)
    with serving(Traits("ollama", loaded=9000)) as server:
        opened(server, ask)
        assert "top_k" not in server.chats[-1] and server.chats[-1]["temperature"] == 0.7
        opened(server, ask, reasoning="off")
        assert server.chats[-1]["reasoning_effort"] == "none"


def test_reasoning_is_told_as_the_family_wants_it() -> None:
    with serving(models=["qwen3-8b"]) as server:
        opened(server, ask, model="qwen3-8b", reasoning="off")
        assert server.chats[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    with serving(models=["mystery"]) as server:
        assert "may do nothing" in opened(server, model="mystery", reasoning="low").notice


def test_own_fields_and_adapters() -> None:
    with serving() as server:
        own: Mapping[str, Any] = {"top_k": 5, "x": {"y": 1}}
        opened(server, ask, request=own, lora=("0:0.5", "1:2"))
        sent = server.chats[-1]
        assert sent["top_k"] == 5 and sent["x"] == {"y": 1}
        assert sent["lora"] == [{"id": 0, "scale": 0.5}, {"id": 1, "scale": 2.0}]
        with pytest.raises(ConfigError, match="which pool sets itself"):
            opened(server, request={"messages": []})
        for bad in ("x", "0", "0:much", ":1", "0:nan"):
            with pytest.raises(ConfigError, match="neither ID:SCALE nor FILE:SCALE"):
                opened(server, lora=(bad,))
        with pytest.raises(ConfigError, match="cannot be sent"):
            opened(server, lora=("a.gguf:1",))
    with serving(Traits("vllm", "1")) as server, pytest.raises(ConfigError, match="takes no adapters"):
        opened(server, lora=("0:1",))
    assert adapter_files(["~/a:b.gguf:0.5", "3:1"], "--lora") == [(Path("~/a:b.gguf").expanduser(), 0.5)]


def test_tools_are_chosen_once_the_window_is_known() -> None:
    seen: list[ModelInfo] = []

    def tools(info: ModelInfo) -> list[Any]:
        seen.append(info)
        return [SCHEMA]

    async def run(url: str) -> None:
        settings = config.load(flags={"base_url": url, "model": MODEL})
        model = await open_reference(settings, tools, log=Path("/dev/null"))
        await model.aclose()

    with serving(window=9000) as server:
        asyncio.run(run(server.url))
    assert [(info.name, info.window) for info in seen] == [(MODEL, 9000)]


def test_a_fetched_model_goes_by_its_name(tmp_path: Path) -> None:
    from poolcli.models import library

    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF")
    library.register("tiny", file)
    assert reference_of("tiny", "") == LocalFile(file)


# Slots


def test_a_slot_belongs_to_one_process(tmp_path: Path) -> None:
    first, second = slots.lease("u", 3), slots.lease("u", 3)
    assert first is not None and second is not None and {first.number, second.number} == {1, 2}
    code = "from poolcli.models.slots import lease; a = lease('u', 3); print(a.number if a else None, lease('u', 3))"
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == ["0", "None"]
    first.release()
    first.release()
    third = slots.lease("u", 3)
    assert third is not None and third.number == first.number
    assert slots.lease("other", 1) is None
    third.release()
    second.release()
