"""Tokens counted offline, calibrated by replies, and asked of the real llama.cpp server."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
from collections import Counter as Count
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from poolcli import paths
from poolcli.errors import ModelError
from poolcli.models.connection import Connection
from poolcli.models.endpoint import Endpoint
from poolcli.models.llama_server import start
from poolcli.models.local import demo_model
from poolcli.models.tokens import (
    LEAST_TEXT,
    LONGEST_RUN,
    MERGES,
    PATTERN,
    VOCABULARY,
    Counter,
    count,
    encoding,
    exact,
    pack,
    unpack,
)
from scripts.make_vocabulary import KINDS, count_pieces, main, train
from tests.models.misbehaving import answer, misbehaving

ROOT = Path(__file__).resolve().parents[2]
CODE = [path.read_text() for path in sorted((ROOT / "poolcli").rglob("*.py"))]

#: Counts under an audit hook that ends the process when a socket is touched, or a name looked up.
NO_SOCKET = """
import os, sys
from pathlib import Path
sys.addaudithook(lambda event, args: event.startswith("socket.") and os._exit(7))
from poolcli.models.tokens import count
print(count("def add(a, b):"))
import socket
socket.socket()
"""


def test_the_shipped_vocabulary_is_whole_and_small() -> None:
    data = (paths.data_dir("models") / VOCABULARY).read_bytes()
    tokens = unpack(data)
    assert len(tokens) == len(set(tokens)) == 256 + MERGES
    assert len(data) == 4 * MERGES <= 100_000


def test_code_and_english_take_three_to_five_characters_a_token() -> None:
    code = "".join(CODE)
    prose = (ROOT / "README.md").read_text()
    assert 3 < len(code) / count(code) < 5
    assert 3 < len(prose) / count(prose) < 5
    assert count("") == 0
    assert count("        return") == 2, "an indentation is a token, its last space the word's"


def test_counting_opens_no_socket() -> None:
    done = subprocess.run([sys.executable, "-c", NO_SOCKET], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().isdigit(), done.stderr
    assert done.returncode == 7, "the hook works: the socket made at the end was noticed"


@given(st.text())
def test_no_text_is_refused_and_none_is_altered(text: str) -> None:
    assert encoding().decode(encoding().encode_ordinary(text)) == text
    assert (count(text) > 0) == (text != "")


@pytest.mark.parametrize("text", ["<|endoftext|>", "<|im_start|>user\n", "[INST] </s>", "<tool_call>"])
def test_what_looks_special_is_plain_text(text: str) -> None:
    assert count(text) > 1


def test_half_a_surrogate_pair_is_counted() -> None:
    assert count("\ud800") == count("\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        "\n",
        " \n",
        "\t",
        "-",
        "1",
        "é",
        "错",
        "\N{GRINNING FACE}",
        "e\u0301",
        "\u3000",
        "\x1c",
        "\x85",
    ],
)
def test_a_megabyte_without_a_break_takes_time_in_proportion(piece: str) -> None:
    run = piece * (LONGEST_RUN // len(piece))
    assert count(run * 4096) <= 4096 * count(run), "cut into runs: the whole is never more than its parts"
    assert count("x" + run * 4096 + "x") <= 4096 * count(run) + 4


def test_cutting_long_runs_hardly_changes_the_count() -> None:
    blob = base64.b64encode(random.Random(0).randbytes(30_000)).decode()
    assert len(encoding().encode_ordinary(blob)) == pytest.approx(count(blob), rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=40))
def test_a_file_of_merges_is_read_back_or_refused(merges: list[tuple[int, int]]) -> None:
    data = pack(merges)
    if all(max(pair) < 256 + at for at, pair in enumerate(merges)):
        tokens = unpack(data)
        assert len(tokens) == 256 + len(merges)
        assert all(tokens[256 + at] == tokens[a] + tokens[b] for at, (a, b) in enumerate(merges))
    else:
        with pytest.raises(ValueError, match="not there yet"):
            unpack(data)
    with pytest.raises(ValueError, match="no pairs"):
        unpack(data + b"x")


# Training


def slowly(counts: Mapping[bytes, int], merges: int) -> list[tuple[int, int]]:
    """What `train` does, in the way that is plain to see: count everything again for each merge."""
    tokens = [bytes([value]) for value in range(256)]
    pieces = {piece: list(piece) for piece in counts}
    made: list[tuple[int, int]] = []
    while len(made) < merges:
        pairs: Count[tuple[int, int]] = Count()
        for piece, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[piece]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        token = tokens[best[0]] + tokens[best[1]]
        if token not in tokens:
            tokens.append(token)
            made.append(best)
        for parts in pieces.values():
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [tokens.index(token)]
                at += 1
    return made


@given(st.dictionaries(st.text("abc", max_size=12).map(str.encode), st.integers(1, 9), max_size=12))
def test_the_trainer_finds_the_merges_that_the_plain_way_finds(counts: dict[bytes, int]) -> None:
    assert train(counts, 20) == slowly(counts, 20)


def test_tiktoken_takes_what_was_trained() -> None:
    counts = count_pieces(CODE[:20])
    ranks = {token: rank for rank, token in enumerate(unpack(pack(train(counts, 500))))}
    small = tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert small.decode(small.encode_ordinary(CODE[3])) == CODE[3]
    assert small.encode_ordinary(" return") == [ranks[b" return"]]


def test_the_same_files_give_the_same_vocabulary_wherever_they_lie(tmp_path: Path) -> None:
    for folder, order in (("one", CODE[:8]), ("two/deep", CODE[7::-1])):
        (tmp_path / folder).mkdir(parents=True)
        for text in order:
            (tmp_path / folder / f"{abs(hash((folder, text)))}.py").write_text(text)
        (tmp_path / folder / "not-text.py").write_bytes(b"\xff\0" * 100)
        main([str(tmp_path / folder), "--out", str(tmp_path / f"{folder[:3]}.bpe"), "--merges", "200"])
    assert (tmp_path / "one.bpe").read_bytes() == (tmp_path / "two.bpe").read_bytes()
    assert "python" in KINDS


# Calibration


def another_vocabulary() -> tiktoken.Encoding:
    """A coarser one than ours, as if a server had it: the most frequent eighth of the merges."""
    tokens = unpack((paths.data_dir("models") / VOCABULARY).read_bytes())[: 256 + MERGES // 8]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return tiktoken.Encoding("other", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def test_one_reply_makes_estimates_near() -> None:
    other, counter = another_vocabulary(), Counter()
    first, *rest = (text for text in CODE if len(text) > 4000)
    counter.feed(count(first), len(other.encode_ordinary(first)))
    errors, before = [], []
    for text in rest:
        truth = len(other.encode_ordinary(text))
        errors.append(abs(counter.estimate(text) / truth - 1))
        before.append(abs(count(text) / truth - 1))
    assert sum(errors) / len(errors) < 0.05 < sum(before) / len(before)


def test_the_ratio_follows_the_replies_and_no_single_one() -> None:
    counter = Counter()
    assert counter.ratio == 1.0 and counter.estimate("def add(a, b):") == count("def add(a, b):")
    counter.feed(1000, 1200)
    assert counter.ratio == 1.2
    counter.feed(2000, 2400)
    counter.feed(3000, 40)  # a server that counted only what it computed
    assert counter.ratio == 1.2
    for _ in range(2):
        counter.feed(1000, 900)
    assert counter.ratio == 0.9


def test_the_ratio_stays_within_reason() -> None:
    low, high, untouched = Counter(), Counter(), Counter()
    low.feed(10_000, 100)
    high.feed(1000, 90_000)
    for ours, theirs in ((LEAST_TEXT - 1, 500), (0, 10), (1000, 0), (1000, -1)):
        untouched.feed(ours, theirs)
    assert (low.ratio, high.ratio, untouched.ratio) == (0.5, 2.0, 1.0)


@given(st.lists(st.tuples(st.integers(), st.integers())))
def test_no_report_takes_the_ratio_out_of_bounds(reports: list[tuple[int, int]]) -> None:
    counter = Counter()
    for ours, theirs in reports:
        counter.feed(ours, theirs)
    assert 0.5 <= counter.ratio <= 2.0


# Asking the server


def test_the_real_llama_cpp_server_counts(tmp_path: Path) -> None:
    async def ask() -> None:
        server = await start(demo_model(), ctx=512, threads=1, log=tmp_path / "log")
        connection = Connection(Endpoint(server.base_url, server.name, server.api_key))
        try:
            one = await exact(connection, "def add(a, b):\n", dialect="llama.cpp")
            two = await exact(connection, "def add(a, b):\n" * 2, dialect="llama.cpp")
            assert 4 <= one <= 15 and two == 2 * one
            assert await exact(connection, "", dialect="llama.cpp") == 0
        finally:
            await connection.aclose()
            await server.stop()

    asyncio.run(ask())


def test_vllm_is_asked_in_its_own_words() -> None:
    async def ask() -> None:
        reply = {"count": 3, "max_model_len": 4096, "tokens": [750, 912, 2]}
        async with misbehaving(answer(200, reply)) as server:
            connection = Connection(Endpoint(f"{server.base_url}/v1", "qwen"))
            assert await exact(connection, "def add", dialect="vllm", model="qwen") == 3
            await connection.aclose()
            assert server.heads[0].startswith("POST /tokenize ")
            assert json.loads(server.bodies[0]) == {
                "model": "qwen",
                "prompt": "def add",
                "add_special_tokens": False,
            }

    asyncio.run(ask())


@pytest.mark.parametrize(
    "reply",
    [
        answer(404, {"error": {"message": "no such path"}}),
        answer(200, b"<html>", "text/html"),
        answer(200, {"count": 3}),
        answer(200, {"tokens": "many"}),
        answer(200, b"[" * 100_000),
    ],
)
def test_a_server_that_does_not_count_is_a_fault_in_words(reply: bytes) -> None:
    async def ask() -> None:
        async with misbehaving(reply) as server:
            connection = Connection(Endpoint(server.base_url, "m"))
            try:
                with pytest.raises(ModelError, match="/tokenize"):
                    await exact(connection, "text", dialect="llama.cpp")
            finally:
                await connection.aclose()

    asyncio.run(ask())
