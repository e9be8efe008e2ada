"""Families: which one a name belongs to, what it brings to a request, and the user's own table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import ConfigError
from poolcli.models import discovery, families
from poolcli.models.discovery import Server, server_named
from poolcli.models.families import EFFORTS, Family, family_of, reasoning, sampling

NAMES = {
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-coder",
    "qwen3-coder:30b": "qwen3-coder",
    "unsloth/Qwen3-Coder-Next-GGUF": "qwen3-coder",
    "Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf": "qwen3-instruct",
    "Qwen_Qwen3-30B-A3B-Q4_K_M": "qwen3",
    "qwen3:8b": "qwen3",
    "Qwen/Qwen3.6-27B": "qwen3.5",
    "Qwen2.5-Coder-7B-Instruct": "qwen2.5-coder",
    "hf.co/unsloth/Devstral-Small-2507-GGUF:Q4_K_M": "devstral",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": "mistral",
    "openai/gpt-oss-20b": "gpt-oss",
    "GLM-4.5-Air": "glm-4.5",
    "zai-org/GLM-4.6": "glm-4.6",
    "glm-4.7-flash": "glm-4.7",
    "deepseek-r1:14b": "deepseek-r1",
    "deepseek-ai/DeepSeek-V3.2": "deepseek-v3.2",
    "DeepSeek-Coder-V2-Lite-Instruct": "deepseek",
    "moonshotai/Kimi-K2-Thinking": "kimi-k2-thinking",
    "moonshotai/Kimi-K2-Instruct": "kimi-k2",
    "MiniMaxAI/MiniMax-M2.1": "minimax-m2",
    "Meta-Llama-3.1-8B-Instruct": "llama-3",
    "gemma-3-27b-it": "gemma",
    "granite-4.0-h-small": "granite",
    "microsoft/Phi-4-reasoning-plus": "phi-4-reasoning",
    "phi4:14b": "phi",
    "c4ai-command-r-plus": "command-r",
    "pool-demo": "",
    "gpt-4o": "",
}


@pytest.fixture(autouse=True)
def own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    families.families.cache_clear()
    discovery.servers.cache_clear()
    yield tmp_path / "pool" / "models"
    families.families.cache_clear()
    discovery.servers.cache_clear()


@pytest.mark.parametrize(("model", "family"), NAMES.items())
def test_names(model: str, family: str) -> None:
    assert family_of(model).name == family


@given(st.text(max_size=300))
def test_any_name_is_a_name(model: str) -> None:
    assert isinstance(family_of(model), Family)


def test_the_shipped_tables_are_whole() -> None:
    for family in families.families():
        assert family.name and family.match and set(family.reasoning) <= set(EFFORTS)
        assert family.sampling.keys() <= {"temperature", "top_p", "top_k", "min_p"}
        assert 0 <= family.sampling.get("temperature", 0) <= 1.5
    for server in discovery.servers():
        assert (
            server.title
            and server.ports
            and server.ask
            and server.context
            and server.tools
            and server.caching
        )
    assert [server.name for server in discovery.servers() if server.run] == ["llama.cpp"]


def test_formats_of_calls_are_known_to_the_parser_or_plain() -> None:
    known = {
        "hermes",
        "qwen3-coder",
        "llama3",
        "mistral",
        "deepseek",
        "glm",
        "kimi",
        "minimax",
        "harmony",
        "granite",
    }
    known |= {"command-r", "fenced"}
    assert {family.tools for family in families.families()} <= known


def test_sampling_is_what_the_server_takes() -> None:
    coder = family_of("qwen3-coder")
    assert sampling(coder, server_named("llama.cpp")) == {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
    assert sampling(coder, server_named("ollama")) == {"temperature": 0.7, "top_p": 0.8}
    assert sampling(Family(), server_named("vllm")) == {}


def test_reasoning() -> None:
    qwen, oss, none = family_of("qwen3"), family_of("gpt-oss-20b"), Family()
    llama, ollama = server_named("llama.cpp"), server_named("ollama")
    assert reasoning("", qwen, llama) == {}
    assert reasoning("off", qwen, llama) == {"chat_template_kwargs": {"enable_thinking": False}}
    assert reasoning("off", qwen, ollama) == {"reasoning_effort": "none"}
    assert reasoning("high", oss, llama)["reasoning_effort"] == "high"
    assert reasoning("low", none, Server("")) == {"reasoning_effort": "low"}
    for effort in EFFORTS:
        for family in families.families():
            assert reasoning(effort, family, llama)


def test_a_users_tables_come_first_and_add(own_table: Path) -> None:
    own_table.mkdir(parents=True)
    (own_table / "families.toml").write_text(
        '[[family]]\nname = "mine"\nmatch = ["*qwen3-coder*"]\nsampling = { temperature = 0 }\n'
    )
    (own_table / "servers.toml").write_text(
        '[[server]]\nname = "mine"\ntitle = "Mine"\nports = [9999]\n[[server.ask]]\npath = "/who"\nhas = [["mine"]]\n'
        '[[server]]\nname = "vllm"\ntitle = "Our vLLM"\nports = [8001]\n'
    )
    assert family_of("qwen3-coder").name == "mine" and family_of("qwen3").name == "qwen3"
    assert server_named("vllm").ports == (8001,) and server_named("mine").ports == (9999,)
    assert len(discovery.servers()) == 6
    assert discovery.recognise(discovery.servers(), {"/who": {"mine": 1}}, "m") == "mine"


@pytest.mark.parametrize(
    "text", ["[[family]]\n", "family = 3\n", "x = [\n", '[[family]]\nname = 3\nmatch = ["x"]\n']
)
def test_a_broken_table_of_the_user_is_said(own_table: Path, text: str) -> None:
    own_table.mkdir(parents=True)
    (own_table / "families.toml").write_text(text)
    if text == "[[family]]\n":
        assert family_of("qwen3").name == "qwen3"  # an entry that matches nothing
        return
    with pytest.raises(ConfigError, match=r"families\.toml cannot be used"):
        family_of("qwen3")


def test_only_what_was_trained_on_patches_edits_by_them(own_table: Path) -> None:
    assert [family.name for family in families.families() if family.edits] == ["gpt-oss"]
    assert family_of("openai/gpt-oss-120b").edits == "patch" and family_of("unheard-of").edits == ""
    own_table.mkdir(parents=True)
    file = own_table / "families.toml"
    file.write_text('[[family]]\nname = "mine"\nmatch = ["*gpt-oss*"]\nedits = ""\n')
    families.families.cache_clear()
    assert family_of("gpt-oss-20b").edits == ""
    file.write_text('[[family]]\nname = "mine"\nmatch = ["x"]\nedits = "diff"\n')
    families.families.cache_clear()
    with pytest.raises(ConfigError, match="edits"):
        family_of("x")
