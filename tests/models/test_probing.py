"""What a server is and what it does, found out against servers of each kind, honest and dishonest ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from poolcli.errors import ModelError
from poolcli.models import discovery, faults, local
from poolcli.models.connection import Connection
from poolcli.models.discovery import Facts
from poolcli.models.endpoint import Endpoint
from poolcli.models.llama_server import start
from poolcli.models.probing import ask_facts, changed, probe, profile_of
from poolcli.models.profile import Profile
from tests.models.known_servers import MODEL, Known, Traits, serving


def measured(server: Known, model: str = MODEL, key: str = "") -> Profile:
    async def run() -> Profile:
        connection = Connection(Endpoint(server.url, model, key))
        try:
            return await probe(connection, model)
        finally:
            await connection.aclose()

    return asyncio.run(run())


def facts(server: Known, model: str = MODEL, kind: str = "", **more: Any) -> Facts:
    async def run() -> Facts:
        connection = Connection(Endpoint(server.url, model))
        try:
            return await ask_facts(connection, model, server=kind, **more)
        finally:
            await connection.aclose()

    return asyncio.run(run())


# What servers say of themselves


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        (Traits("llama.cpp"), ("llama.cpp", "b6789", 32768, 262144, 4)),
        (Traits("vllm", "0.12.1"), ("vllm", "0.12.1", 32768, 0, 0)),
        (Traits("sglang", "0.5.4"), ("sglang", "0.5.4", 32768, 0, 4)),
        (Traits("ollama", "0.14.0", loaded=4096), ("ollama", "0.14.0", 4096, 262144, 0)),
        (Traits("lmstudio"), ("lmstudio", "", 32768, 262144, 0)),
    ],
    ids=lambda value: value.kind if isinstance(value, Traits) else "",
)
def test_each_kind_is_recognised(traits: Traits, said: tuple[Any, ...]) -> None:
    with serving(traits) as server:
        found = facts(server)
    assert (found.server, found.version, found.window, found.largest, found.slots) == said
    assert found.model == MODEL and found.names == (MODEL,)


def test_a_proxy_that_renames_the_owner_is_seen_through() -> None:
    """The list of models says nothing useful; the other questions tell the kind."""
    for kind, path in (("vllm", "/version"), ("sglang", "/server_info"), ("ollama", "/api/version")):
        with serving(Traits(kind, "1.0", dumb=["/v1/models"])) as server:
            assert facts(server, thorough=True).server == kind, kind
            assert path in [asked[1] for asked in server.asked]
            assert facts(server).server == ""  # not at the start of a run: that would be ten questions


def test_a_known_kind_is_asked_in_one_round() -> None:
    with serving() as server:
        facts(server, kind="llama.cpp")
        assert sorted(asked[1] for asked in server.asked) == ["/props", "/v1/models"]


def test_the_context_of_a_model_that_is_not_loaded_is_unknown_not_guessed() -> None:
    """Ollama's `model_info` says what the model was made for; it is loaded with a small part of that."""
    with serving(Traits("ollama", window=4096)) as server:
        found = facts(server)
        assert (found.window, found.largest) == (0, 262144)
        assert measured(server).window == 4096  # after a first request it is loaded


def test_a_num_ctx_in_the_model_counts() -> None:
    assert (
        discovery.facts(
            "u",
            "m",
            discovery.server_named("ollama"),
            {
                "/api/show": {"parameters": 'stop "x"\nnum_ctx 16384\n', "model_info": {}},
            },
        ).window
        == 16384
    )


def test_nobody_a_wrong_key_and_no_model() -> None:
    with serving() as server:
        pass
    with pytest.raises(faults.UnreachableError):
        facts(server)
    with serving(key="right") as server, pytest.raises(ModelError, match="401"):
        facts(server)
    with serving(models=[]) as server, pytest.raises(ModelError, match="lists no model"):
        facts(server, "")


def test_a_server_that_loads_is_waited_for_or_not() -> None:
    with serving(loading=4) as server:
        assert facts(server).window == 32768
    with serving(loading=100) as server, pytest.raises(faults.LoadingError):
        facts(server, patience=0.0)


def test_hostile_answers_are_no_facts() -> None:
    for bad in (
        None,
        [],
        {},
        {"data": 5},
        {"data": [{"id": 7}, 3]},
        {"default_generation_settings": {"n_ctx": -1}},
    ):
        for kind in ("llama.cpp", "vllm", "ollama", "lmstudio", "sglang"):
            paths = {q.path: bad for q in discovery.server_named(kind).ask} | {"/v1/models": bad}
            found = discovery.facts("u", "m", discovery.server_named(kind), paths)
            assert (found.window, found.slots, found.version) == (0, 0, "")
    version = discovery.facts(
        "u", "m", discovery.server_named("llama.cpp"), {"/props": {"build_info": "a\x1b[2J" * 99}}
    )
    assert "\x1b" not in version.version and len(version.version) <= discovery.MAX_WORD


# What they do


def test_a_good_server() -> None:
    with serving() as server:
        found = measured(server)
    assert found.unknown == () and found.probed > 0
    assert found.rung == "native" and found.parallel and found.schema and found.grammar
    assert found.system_role and found.tool_role and found.tokenize == "llama.cpp"
    assert found.cache_report and found.progress and found.pinning
    assert (found.prefill, found.decode, found.family) == (1200.0, 40.0, "qwen3-coder")


def test_the_others_in_their_dialect() -> None:
    with serving(Traits("vllm", "0.12.1")) as server:
        vllm = measured(server)
    assert vllm.tokenize == "vllm" and vllm.grammar and vllm.cache_report
    assert not vllm.progress and not vllm.pinning and vllm.prefill > 0 and vllm.decode > 0
    with serving(Traits("ollama", loaded=8192)) as server:
        ollama = measured(server)
        assert not any("grammar" in body or "id_slot" in body for body in server.chats)
    assert ollama.tokenize == "" and not ollama.grammar and ollama.rung == "native"


@pytest.mark.parametrize(
    ("more", "rung"),
    [
        ({"streamed": False}, "whole"),
        ({"whole": False}, "native"),
        ({"writes": True}, "schema"),
        ({"writes": True, "schema": False}, "text"),
        ({"refuses_tools": True}, "schema"),
        ({"refuses_tools": True, "schema": False}, "text"),
    ],
)
def test_the_rung_is_what_works(more: dict[str, Any], rung: str) -> None:
    """Pain 4: a server whose streaming parser loses calls is found out, whatever it says of itself."""
    with serving(**more) as server:
        found = measured(server)
    assert found.rung == rung and "rung" not in found.unknown


def test_a_model_that_makes_no_call_leaves_the_rung_unknown() -> None:
    with serving(idle=True) as server:
        found = measured(server)
    assert found.rung == "native" and {"rung", "parallel"} <= set(found.unknown)


def test_roles_that_the_template_refuses() -> None:
    """Pain 12: llama.cpp answers 500 when a template raises."""
    with serving(system=False) as server:
        found = measured(server)
    assert not found.system_role and found.tool_role
    with serving(tool=False) as server:
        found = measured(server)
    assert found.system_role and not found.tool_role


def test_reasoning_and_whether_it_is_taken_back() -> None:
    """Pain 10."""
    with serving(thinks="reasoning_content") as server:
        found = measured(server)
    assert found.reasoning == "reasoning_content" and found.reasoning_back
    with serving(thinks="reasoning", takes_thought=False) as server:
        found = measured(server)
    assert found.reasoning == "reasoning" and not found.reasoning_back


def test_constraints_are_believed_only_when_they_hold() -> None:
    with serving(schema=False, grammar=False) as server:
        found = measured(server)
    assert not found.schema and not found.grammar


def test_caches() -> None:
    with serving(Traits("vllm", reports_cache=False)) as server:
        assert not measured(server).cache_report
    with serving(loses_slots=True) as server:
        found = measured(server)
        assert found.cache_report and not found.pinning
    with serving(slots=1) as server:
        assert not measured(server).pinning
        assert not any("id_slot" in body for body in server.chats)


def test_probing_goes_on_when_one_probe_fails() -> None:
    with serving(dumb=["/tokenize"]) as server:
        found = measured(server)
    assert found.tokenize == "" and found.decode == 40.0
    with serving(dumb=["/v1/chat/completions"]) as server, pytest.raises(ModelError):
        measured(server)  # a model that does not answer at all has no profile


def test_what_changed() -> None:
    old = Profile("u", "m", server="llama.cpp", version="b1", identity="/a/x.gguf")
    assert changed(old, Facts("u", "m", "llama.cpp", "b1", "/a/x.gguf")) == ""
    assert changed(old, Facts("u", "m")) == ""  # silence is no change
    assert changed(old, Facts("u", "m", "llama.cpp", "b2")) == "from llama.cpp b1 to llama.cpp b2"
    assert changed(old, Facts("u", "m", "vllm", "1.0")) == "from llama.cpp b1 to vLLM 1.0"
    assert changed(old, Facts("u", "m", "llama.cpp", "b1", "/a/y.gguf")) == "from the model x.gguf to y.gguf"
    new = profile_of(Facts("u", "m", "llama.cpp", "b1", window=9), Profile("u", "m", window=5, rung="text"))
    assert (new.window, new.rung) == (9, "text")


def test_the_real_llama_cpp(tmp_path: Path) -> None:
    async def run() -> Profile:
        server = await start(local.demo_model(), ctx=1024, slots=2, threads=1, log=tmp_path / "log")
        connection = Connection(Endpoint(server.base_url, api_key=server.api_key))
        try:
            return await probe(connection)
        finally:
            await connection.aclose()
            await server.stop()

    found = asyncio.run(run())
    assert (found.server, found.model, found.window, found.slots) == ("llama.cpp", "pool-demo", 1024, 2)
    assert found.largest == 4096 and found.identity.endswith("pool-demo.gguf")
    assert found.schema and found.grammar and found.tokenize == "llama.cpp"
    assert found.cache_report and found.progress and found.pinning
    assert found.prefill > 0 and found.decode > 0 and found.system_role and found.tool_role
    # The demonstration model makes no call outside its one kind of task.
    assert set(found.unknown) <= {"rung", "parallel"}
