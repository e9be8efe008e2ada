"""What a model reference means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import UsageError
from poolcli.models.reference import Demo, LocalFile, Remote, Scripted, parse

URL = "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize(
    ("model", "base_url", "meaning"),
    [
        ("", "", Demo()),
        ("demo", "", Demo()),
        ("scripted:a b.toml", "", Scripted(Path("a b.toml"))),
        ("scripted:x.toml", URL, Scripted(Path("x.toml"))),
        ("x.gguf", "", LocalFile(Path("x.gguf"))),
        ("dir/X.GGUF", "", LocalFile(Path("dir/X.GGUF"))),
        ("local:x.gguf", URL, LocalFile(Path("x.gguf"))),
        ("local:odd-name", "", LocalFile(Path("odd-name"))),
        ("qwen3", URL, Remote("qwen3", URL)),
        ("qwen3:8b", URL, Remote("qwen3:8b", URL)),
        ("org/name", URL, Remote("org/name", URL)),
        ("", URL, Remote("", URL)),
        ("remote:demo", URL, Remote("demo", URL)),
        ("remote:x.gguf", URL, Remote("x.gguf", URL)),
    ],
)
def test_meanings(model: str, base_url: str, meaning: object) -> None:
    assert parse(model, base_url) == meaning


def test_a_home_folder_is_filled_in() -> None:
    assert parse("local:~/x.gguf") == LocalFile(Path.home() / "x.gguf")


@pytest.mark.parametrize(
    ("model", "base_url", "word"),
    [
        ("qwen3", "", "--base-url"),
        ("remote:x", "", "--base-url"),
        ("scripted:", "", "scripted:"),
        ("local:", URL, "local:"),
        ("x.gguf", URL, "local:x.gguf"),
        ("demo", URL, "remote:demo"),
    ],
)
def test_what_names_nothing_or_two_things_is_refused(model: str, base_url: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(model, base_url)
    assert word in caught.value.hint


@given(st.text(), st.sampled_from(["", URL]))
def test_any_text_is_a_reference_or_a_usage_error(model: str, base_url: str) -> None:
    try:
        parse(model, base_url)
    except UsageError as error:
        assert error.hint
