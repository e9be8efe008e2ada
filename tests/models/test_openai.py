from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poolcli.errors import ConfigError, ModelError
from poolcli.messages import Call, Message, Result, Text, Think, user
from poolcli.models import openai, transport
from poolcli.models.base import Piece, Reply, Usage
from poolcli.models.openai import ContextExceededError, Endpoint, Limits, OpenAIModel
from poolcli.models.reply import Assembler, parse_arguments
from tests.models.misbehaving import (
    SSE,
    Misbehaving,
    Play,
    answer,
    endless,
    event,
    good,
    misbehaving,
    silence,
    slowly,
)

QUICK = Limits(connect=5, first=0.3, idle=0.3, total=5)
KEY = "sk-secret-0123456789"
ASK = (user("hello"),)


async def ask(
    endpoint: Endpoint, messages: Sequence[Message] = ASK, **more: Any
) -> tuple[list[Piece], Reply]:
    model = OpenAIModel(endpoint)
    try:
        *pieces, reply = [piece async for piece in model.stream(messages, **more)]
    finally:
        await model.aclose()
    assert isinstance(reply, Reply)
    return [p for p in pieces if isinstance(p, Piece)], reply


def reply_to(*plays: Play, limits: Limits = QUICK, **more: Any) -> tuple[list[Piece], Reply]:
    """What comes of asking a server that plays these."""

    async def run() -> tuple[list[Piece], Reply]:
        async with misbehaving(*plays) as server:
            return await ask(Endpoint(server.base_url, "m", limits=limits, **more))

    return asyncio.run(run())


def fault_of(*plays: Play, limits: Limits = QUICK, **more: Any) -> tuple[ModelError, Misbehaving]:
    """The error that asking such a server ends in, and what the server saw."""

    async def run() -> tuple[ModelError, Misbehaving]:
        async with misbehaving(*plays) as server:
            with pytest.raises(ModelError) as caught:
                await ask(Endpoint(server.base_url, "m", api_key=KEY, limits=limits, **more))
            return caught.value, server

    error, server = asyncio.run(run())
    assert KEY not in f"{error} {error.hint}"
    return error, server


# Good replies, in all the forms that servers give them.


def test_text_reasoning_calls_and_usage() -> None:
    stream = (
        SSE
        + event({"role": "assistant", "content": None})
        + event({"reasoning_content": "hm"})
        + event({"reasoning_content": "m"})
        + event({"content": "I re"})
        + event({"content": "ad."})
        + event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "read", "arguments": ""}}]})
        + event({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "list", "arguments": "{}"}}]})
        + event({"tool_calls": [{"index": 0, "function": {"arguments": '{"path": '}}]})
        + event({"tool_calls": [{"index": 0, "function": {"arguments": '"x.py"}'}}]})
        + event({}, "tool_calls")
        + event(
            usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 7}}
        )
        + b"data: [DONE]\n\n"
    )
    pieces, reply = reply_to(stream)
    assert pieces == [Piece("think", "hm"), Piece("think", "m"), Piece("text", "I re"), Piece("text", "ad.")]
    assert reply.message.parts == (
        Think("hmm", {"field": "reasoning_content"}),
        Text("I read."),
        Call("a", "read", {"path": "x.py"}),
        Call("b", "list", {}),
    )
    assert (reply.finish, reply.usage) == ("tool_calls", Usage(9, 4, 7))
    assert 0 < reply.first <= reply.total


def test_a_reply_in_single_bytes_and_chunks() -> None:
    _, reply = reply_to(slowly(good("größer – ok")))
    assert reply.message.text == "größer – ok"
    body = event({"content": "ö"}) + event({}, "stop")
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0\r\n\r\n"
    _, reply = reply_to(SSE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert reply.message.text == "ö"


def test_a_reply_that_is_not_streamed() -> None:
    call = {"id": "a", "function": {"name": "read", "arguments": {"path": "x"}}}
    choice = {
        "message": {"role": "assistant", "content": "ok", "tool_calls": [call]},
        "finish_reason": "stop",
    }
    pieces, reply = reply_to(
        answer(200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    )
    assert pieces == [Piece("text", "ok")]
    assert reply.message.parts == (Text("ok"), Call("a", "read", {"path": "x"}))
    assert reply.usage == Usage(3, 1, None)


def test_no_word_after_the_last_one_is_missed() -> None:
    """Servers that leave out [DONE], close hard after the finish, or never close, have said all the same."""
    told = SSE + event({"content": "x"}) + event({}, "stop")
    for play in (told, told + b"data: {half", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n" + told[17:]):
        assert reply_to(play)[1].message.text == "x"
    _, reply = reply_to(SSE + event({"content": "x"}) + b"data: [DONE]\n\n")
    assert (reply.message.text, reply.finish) == ("x", "stop")


def test_an_empty_reply_is_a_reply() -> None:
    """What to do about it is the loop's decision."""
    assert reply_to(SSE + event({}, "stop") + b"data: [DONE]\n\n")[1].message == Message("assistant", ())


def test_llama_cpps_timings_stand_in_for_usage() -> None:
    stream = SSE + event({}, "stop", timings={"cache_n": 307, "prompt_n": 41, "predicted_n": 5})
    reply = reply_to(stream)[1]
    assert reply.usage == Usage(348, 5, 307)
    assert reply.extra["timings"]["prompt_n"] == 41


def assembled(*deltas: dict[str, Any], used: set[str] | None = None) -> tuple[Call, ...]:
    assembler = Assembler()
    for delta in deltas:
        assert not list(assembler.feed({"choices": [{"delta": {"tool_calls": [delta]}}]}))
    return assembler.message(used or set()).calls


def part(name: str = "", arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {**({"name": name} if name else {}), **({} if arguments is None else {"arguments": arguments})}
    return {"function": function, **more}


@pytest.mark.parametrize(
    "deltas",
    [
        [part("f", '{"a":1}', index=0, id="x"), part("g", "{}", index=1, id="y")],
        [part("f", '{"a":1}', id="x"), part("g", "{}", id="y")],
        [part("f", id="x"), part(arguments='{"a"'), part(arguments=":1}"), part("g", "{}", id="y")],
        [part("f", '{"a":1}', index=0, id="x"), part("g", "{}", index=0, id="y")],
        [part("f", {"a": 1}, index=0, id="x"), part("g", {}, index=1, id="y")],
        [
            part("f", '{"a":', index=0, id="x"),
            part("f", "1}", index=0, id="x"),
            part("g", "", index=1, id="y"),
        ],
        [part("f", index=0, id="x"), part("g", index=1, id="y"), part(arguments='{"a":1}', index=0)],
    ],
    ids=[
        "numbered",
        "whole, not numbered",
        "pieces, not numbered",
        "all numbered 0",
        "objects",
        "repeated",
        "mixed",
    ],
)
def test_the_forms_of_call_deltas(deltas: list[dict[str, Any]]) -> None:
    assert assembled(*deltas) == (Call("x", "f", {"a": 1}), Call("y", "g", {}))


def test_calls_without_ids_get_the_same_fresh_ones_every_time() -> None:
    deltas = [part("f", "{}"), part("f", "{}"), part("g", "{}", id="call_1"), part("g", "{}", id="call_1")]
    first = assembled(*deltas, used={"call_0"})
    assert [(c.id, c.name) for c in first] == [
        ("call_1", "f"),
        ("call_2", "f"),
        ("call_3", "g"),
        ("call_4", "g"),
    ]
    assert first == assembled(*deltas, used={"call_0"})
    assert assembled(part("f", "{}", id="call_7"), used={"call_7"})[0].id != "call_7"


def test_ids_of_earlier_turns_are_not_used_again() -> None:
    async def run() -> Reply:
        stream = SSE + event({"tool_calls": [part("f", "{}", id="x")]}) + event({}, "tool_calls")
        async with misbehaving(stream) as server:
            call = Message("assistant", (Call("x", "f", {}),))
            return (
                await ask(
                    Endpoint(server.base_url, "m"), (*ASK, call, Message("tool", (Result("x", "f", ""),)))
                )
            )[1]

    assert asyncio.run(run()).message.calls[0].id != "x"


@pytest.mark.parametrize(
    "raw", ['{"a": ', "[1]", "7", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, '{"a":1} x']
)
def test_arguments_that_are_no_object_keep_what_was_written(raw: str) -> None:
    assert assembled(part("f", raw, id="x")) == (Call("x", "f", None, raw),)


@pytest.mark.parametrize(
    ("raw", "args"), [("", {}), ("null", {}), (' {"a":1} ', {"a": 1}), ('"{\\"a\\":1}"', {"a": 1})]
)
def test_arguments_in_odd_forms(raw: str, args: dict[str, Any]) -> None:
    assert parse_arguments(raw) == args


WORDS = [
    "choices",
    "delta",
    "message",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "index",
    "id",
]
WORDS += ["usage", "finish_reason", "reasoning_content", "timings", "text"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(WORDS), inner, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.lists(values, max_size=4))
def test_no_chunk_breaks_the_assembler(chunks: list[Any]) -> None:
    assembler = Assembler()
    for chunk in chunks:
        for wrapped in (
            chunk,
            {"choices": [{"delta": chunk}]},
            {"choices": [{"delta": {"tool_calls": chunk}}]},
        ):
            if isinstance(wrapped, dict):
                list(assembler.feed(wrapped))
    message = assembler.message(set())
    assert len({c.id for c in message.calls}) == len(message.calls)
    assembler.tokens()


# Requests.


def test_what_is_sent() -> None:
    async def run() -> Misbehaving:
        async with misbehaving(good()) as server:
            endpoint = Endpoint(server.base_url + "/v1/", "m", KEY, {"X-Team": "a"}, {"seed": 1})
            await ask(endpoint, max_tokens=7)
            return server

    server = asyncio.run(run())
    head = server.heads[0].lower()
    assert head.startswith("post /v1/chat/completions http/1.1")
    assert f"authorization: bearer {KEY}" in head
    assert "accept-encoding: identity" in head and "x-team: a" in head
    assert json.loads(server.bodies[0]) == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "seed": 1, "max_tokens": 7,
        "messages": [{"role": "user", "content": "hello"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/api/v1", "https://h/api/v1"),
        ("http://h/v1/chat/completions", "http://h/v1"),
    ],
)
def test_base_urls(given_url: str, url: str) -> None:
    assert Endpoint(given_url).url == url


@pytest.mark.parametrize(
    "more",
    [
        {"base_url": "h:1"},
        {"base_url": "ftp://h"},
        {"base_url": f"http://u:{KEY}@h"},
        {"base_url": "http://h", "api_key": f"{KEY}\nX: y"},
        {"base_url": "http://h", "headers": {"X": f"{KEY}\r\nY: z"}},
        {"base_url": "http://h", "extra_body": {"messages": []}},
    ],
)
def test_an_endpoint_that_cannot_be(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(**more)
    assert KEY not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "key", "in_clear"),
    [
        ("http://10.0.0.5", KEY, True),
        ("http://localhost.example/v1", KEY, True),
        ("http://127.0.0.1.example/v1", KEY, True),
        ("http://0.0.0.0:8080/v1", KEY, True),
        ("https://10.0.0.5", KEY, False),
        ("http://10.0.0.5", "", False),
        ("http://127.0.0.1:8080", KEY, False),
        ("http://localhost:8080/v1", KEY, False),
        ("http://[::1]:8080", KEY, False),
    ],
)
def test_a_key_in_clear_is_noticed(url: str, key: str, in_clear: bool) -> None:
    assert Endpoint(url, api_key=key).in_clear is in_clear


def test_the_key_is_not_in_reprs() -> None:
    assert KEY not in repr(Endpoint("http://h", api_key=KEY, headers={"X": KEY}))


def test_proxy_variables_are_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert reply_to(good())[1].message.text == "fine"


def test_a_configured_proxy_is_used() -> None:
    async def run() -> tuple[Reply, Misbehaving]:
        async with misbehaving(good("by proxy")) as proxy:
            return (await ask(Endpoint("http://model.invalid:1/v1", "m", proxy=proxy.base_url)))[1], proxy

    reply, proxy = asyncio.run(run())
    assert reply.message.text == "by proxy"
    assert proxy.heads[0].startswith("POST http://model.invalid:1/v1/chat/completions ")


def test_starting_costs_no_http_library() -> None:
    """And the first request loads neither httpx's own command line nor its default transport's libraries."""
    code = (
        "import sys; from poolcli.models.openai import OpenAIModel, Endpoint\n"
        "model = OpenAIModel(Endpoint('http://127.0.0.1:9', 'm'))\n"
        "assert not {'httpx', 'h11', 'ssl', 'rich', 'certifi'} & sys.modules.keys() - {'ssl'}\n"
        "import poolcli.models.transport\n"
        "assert not {'httpcore', 'anyio', 'rich', 'click', 'pygments', 'httpx._main'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Faults.


def test_a_refused_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ModelError, match=f"cannot connect to {url}") as caught:
            asyncio.run(ask(Endpoint(url, "m")))
    assert caught.value.retryable and "pool doctor" in caught.value.hint
    assert str(caught.value).endswith(": connection refused")


BEGUN = SSE + event({"content": "half"})


@pytest.mark.parametrize(
    ("play", "words", "retryable"),
    [
        (BEGUN, "ended in the middle", True),
        (SSE, "ended in the middle", True),
        (SSE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\ndata", "broke", True),
        (SSE[:-2] + b"Content-Length: 500\r\n\r\n" + event({"content": "x"}), "broke", True),
        (b"", "broke", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "ended in the middle", True),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP", False),
        (SSE + b"data: {nonsense\n\n", "no JSON object", True),
        (SSE + b"data: [1]\n\n", "no JSON object", True),
        (SSE + b'data: {"error": {"code": 500, "message": "out of memory"}}\n\n', "500: out of memory", True),
        (SSE + b'error: {"code": 400, "message": "bad grammar"}\n\n', "400: bad grammar", False),
        (answer(200, b"<html><body>Welcome</body></html>", "text/html"), "web page.*Welcome", False),
        (answer(200, b"welcome", "text/plain"), "sent text/plain, no event stream", False),
        (answer(200, {"hello": 1}), "no reply", False),
        (answer(200, b"{", "application/json"), "no JSON object", True),
        (answer(401, {"error": {"message": "Invalid API Key"}}), "401: Invalid API Key", False),
        (answer(403, f"no {KEY}".encode(), "text/plain"), r"403: no \*\*\*", False),
        (answer(500, {"error": "boom"}), "500: boom", True),
        (answer(503, {"error": {"message": "Loading model", "code": 503}}), "is loading its model", True),
        (answer(429, {"detail": "slow down"}), "429: slow down", True),
        (answer(413, b""), "413: no reason given", False),
        (answer(422, {"detail": [{"loc": "body"}]}), "422: .*loc", False),
        (answer(400, b"\x1b[31mred\x00" + b"x" * 100_000, "text/plain"), "400: .{490,520}$", False),
    ],
)
def test_what_a_server_may_do(play: bytes, words: str, retryable: bool) -> None:
    error, server = fault_of(play)
    with pytest.raises(ModelError, match=words):
        raise error
    assert error.retryable is retryable
    assert str(error).isprintable()
    assert len(server.heads) == 1


def test_a_wrong_key_names_its_variable() -> None:
    error, _ = fault_of(answer(401, b""), key_name="TEAM_KEY")
    assert "TEAM_KEY" in error.hint


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    async def run() -> tuple[ModelError, Misbehaving]:
        async with misbehaving(good()) as other:
            play = answer(status, b"", "text/plain", f"Location: {other.base_url}/v1")
            async with misbehaving(play) as server:
                with pytest.raises(ModelError, match=other.base_url) as caught:
                    await ask(Endpoint(server.base_url, "m", KEY))
            return caught.value, other

    error, other = asyncio.run(run())
    assert not error.retryable
    assert other.heads == [] and other.bodies == []


@pytest.mark.parametrize(
    ("play", "limits", "words"),
    [
        (silence(b""), QUICK, "sent nothing for 0.3 s"),
        (silence(SSE), QUICK, "sent nothing for 0.3 s"),
        (silence(BEGUN), replace(QUICK, first=60), "sent nothing for 0.3 s"),
        (
            silence(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n{"),
            QUICK,
            "has not ended its reply",
        ),
        (endless(SSE, b": ping\n\n", 0.01), replace(QUICK, total=0.3), "not ended within 0.3 s"),
        (endless(BEGUN, event({"content": "x"}), 0.01), replace(QUICK, total=0.3), "not ended within 0.3 s"),
    ],
    ids=["no head", "no first piece", "stall", "endless JSON", "keep-alives for ever", "words for ever"],
)
def test_deadlines(play: Play, limits: Limits, words: str) -> None:
    error, _ = fault_of(play, limits=limits)
    with pytest.raises(ModelError, match=words):
        raise error
    assert error.retryable


def test_keep_alive_comments_keep_a_long_prompt_alive() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE)
        for _ in range(10):
            await asyncio.sleep(0.06)  # 0.6 s altogether, twice the deadline to the first piece
            writer.write(b": ping\n\n")
        writer.write(good()[len(SSE) :])

    assert reply_to(play)[1].message.text == "fine"


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (endless(SSE + b"data: ", b"x" * 65_536), "a line of more than 8 MB"),
        (endless(SSE, (b"data: " + b"x" * 1000 + b"\n") * 50), "a line of more than 8 MB"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000), "does not speak HTTP|broke"),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "broke"),
    ],
    ids=["endless line", "endless event", "endless head", "100 for ever"],
)
def test_what_never_ends(play: Play, words: str) -> None:
    error, _ = fault_of(play, limits=Limits())
    with pytest.raises(ModelError, match=words):
        raise error


def test_a_reply_of_small_events_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MAX_REPLY", 1_000_000)
    error, _ = fault_of(endless(SSE, event({}, padding="x" * 50_000)), limits=Limits())
    assert "larger than 1 MB" in str(error)


def test_too_many_calls() -> None:
    calls = b"".join(event({"tool_calls": [part("f", "{}", index=n, id=f"c{n}")]}) for n in range(100))
    error, _ = fault_of(SSE + calls + event({}, "tool_calls"))
    assert "more than 64 calls" in str(error)


def test_a_packed_reply_is_never_unpacked() -> None:
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000)
    error, server = fault_of(answer(200, bomb, "text/event-stream", "Content-Encoding: gzip"))
    assert "packs its replies" in str(error) and not error.retryable
    assert "accept-encoding: identity" in server.heads[0].lower()


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        ("1e9", 86_400, 86_400),
        ("nan", 0, 0),
        ("inf", 0, 0),
        ("soon", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 21 Oct 2095 07:28:00 GMT", 86_400, 86_400),
    ],
)
def test_retry_after(value: str, low: float, high: float) -> None:
    error, _ = fault_of(answer(503, b"", "text/plain", f"Retry-After: {value}"))
    assert low <= error.retry_after <= high and error.retryable


LLAMA = {
    "error": {
        "code": 400,
        "message": "request (5405 tokens) exceeds the available context size (2048 tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5405,
        "n_ctx": 2048,
    }
}
#: What servers say when a conversation does not fit, and the sizes of prompt and window in it (0: none is named).
OTHERS: list[tuple[int, Any, int, int]] = [
    # llama.cpp: before it gave figures; when a reply grows out of the window; without context shift
    (500, {"error": {"code": 500, "message": "the request exceeds the available context size. try increasing the "
     "context size or enable context shift", "type": "server_error"}}, 0, 0),
    (400, {"error": {"code": 400, "message": "request (901 tokens) exceeds the available context size (512 tokens), "
     "try increasing it", "type": "invalid_request_error"}}, 901, 512),
    (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}, 0, 0),
    (500, {"error": {"message": "context shift is disabled", "type": "server_error"}}, 0, 0),
    # vLLM, oldest to newest; Aphrodite has the first
    (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested "
     "5060 tokens (4036 in the messages, 1024 in the completion). Please reduce the length of the messages or "
     "completion.", "type": "BadRequestError", "param": None, "code": 400}, 4036, 4096),
    (400, {"object": "error", "message": "This model's maximum context length is 16384 tokens. However, your request "
     "has 122946 input tokens. Please reduce the length of the input messages. None", "code": 400}, 122946, 16384),
    (400, {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum "
     "context length is 8192 tokens and your request has 7000 input tokens (2048 > 8192 - 7000)."}}, 7000, 8192),
    (400, {"object": "error", "message": "max_tokens must be at least 1, got -1205."}, 0, 0),
    (400, {"error": {"message": "The decoder prompt (length 21535) is longer than the maximum model length of 16384. "
     "Make sure that `max_model_len` is no smaller than the number of text tokens."}}, 21535, 16384),
    (400, {"error": {"message": "Prompt length of 5016 is longer than the maximum model length of 4096."}}, 5016, 4096),
    (400, {"error": {"message": "This model's maximum context length is 131072 tokens. However, you requested 1024 "
     "output tokens and your prompt contains at least 130049 input tokens, for a total of at least 131073 tokens. "
     "(parameter=input_tokens, value=130049)", "param": "input_tokens"}}, 130049, 131072),
    (400, {"error": {"message": "You passed 31745 input tokens and requested 1024 output tokens. However, the model's "
     "context length is only 32768 tokens, resulting in a maximum input length of 31744 tokens."}}, 31745, 32768),
    # the bug that names what is left beside the reply: no window
    (400, {"error": {"message": "This model's maximum context length is 3 tokens. However, your request has 8 input "
     "tokens."}}, 8, 0),
    # SGLang
    (400, {"object": "error", "message": "The input (61709 tokens) is longer than the model's context length (40960 "
     "tokens).", "type": "BadRequestError", "code": 400}, 61709, 40960),
    (400, {"object": "error", "message": "Requested token count exceeds the model's maximum context length of 32768 "
     "tokens. You requested a total of 48598 tokens: 40406 tokens from the input messages and 8192 tokens for the "
     "completion."}, 48598, 32768),
    (400, {"message": "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens)."},
     160062, 59862),
    # Ollama
    (400, {"error": "the input length exceeds the context length"}, 0, 0),
    (400, {"error": {"message": "prompt too long; exceeded max context length by 100918 tokens"}}, 0, 0),
    # LM Studio
    (400, {"error": "Trying to keep the first 10136 tokens when context the overflows. However, the model is loaded "
     "with context length of only 7866 tokens, which is not enough. Try to load the model with a larger context "
     "length, or provide a shorter input"}, 10136, 7866),
    (400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: "
     "15028>= n_ctx: 7424). Try to load the model with a larger context length"}, 15028, 7424),
    (400, {"error": "Cannot truncate prompt with n_keep (11378) >= n_ctx (4096)"}, 11378, 4096),
    (500, {"error": "Engine protocol predict stream returned an error: {code:500, message:'Context size has been "
     "exceeded'}"}, 0, 0),
    # TGI
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3474 `inputs` "
     "tokens and 60 `max_new_tokens`", "error_type": "validation"}, 3474, 2048),
    (422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1168"}, 1168, 1024),
    # TabbyAPI, rkllama, mistral.rs, Mistral, mlx-serve, text-generation-webui
    (400, {"detail": "Request length 71599 + 2048 is greater than max_seq_len 65536"}, 71599, 65536),
    (400, {"error": "Prompt is 11543 tokens but the model context window is 4096 tokens."}, 11543, 4096),
    (500, {"message": "The prompt sequence length is greater than 4096, perhaps consider using `truncate_sequence`?"},
     0, 0),
    (400, {"message": "Prompt contains 140000 tokens, too large for model with 131072 maximum context length"},
     140000, 131072),
    (400, {"error": {"message": "Prompt exceeds maximum context length"}}, 0, 0),
    (400, {"error": {"message": "This model maximum context length is 2048 tokens. However, your messages resulted in "
     "over 1900 tokens."}}, 0, 2048),
    # proxies: LiteLLM around others, OpenRouter, OpenAI, Azure
    (400, {"error": {"message": "litellm.BadRequestError: litellm.ContextWindowExceededError: AnthropicError - "
     "{\"message\":\"prompt is too long: 209303 tokens > 200000 maximum\"}", "code": "400"}}, 209303, 200000),
    (400, {"error": {"message": "litellm.ContextWindowExceededError: too much", "code": "400"}}, 0, 0),
    (400, {"error": {"message": "This endpoint's maximum context length is 65536 tokens. However, you requested about "
     "92208 tokens (60833 of text input, 10042 of tool input, 21333 in the output).", "code": 400}}, 60833, 65536),
    (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, 0, 0),
    (400, {"error": {"message": "Your input exceeds the context window of this model."}}, 0, 0),
    (400, {"error": {"message": "Input tokens exceed the configured limit of 272,000 tokens. Your messages resulted in "
     "509,178 tokens."}}, 509178, 272000),
]  # fmt: skip


def test_llama_cpps_exceeded_context_comes_with_its_sizes() -> None:
    for play in (answer(400, LLAMA), SSE + b"data: " + json.dumps(LLAMA).encode() + b"\n\n"):
        error, _ = fault_of(play)
        assert isinstance(error, ContextExceededError) and error.context_exceeded
        assert (error.prompt, error.window, error.retryable) == (5405, 2048, False)


@pytest.mark.parametrize(("status", "body", "prompt", "window"), OTHERS)
def test_an_exceeded_context_in_others_words(status: int, body: Any, prompt: int, window: int) -> None:
    """As a status, and as an error in a stream that began well (LM Studio reports all its faults there)."""
    inside = body if isinstance(body, dict) and "error" in body else {"error": body}
    for play in (answer(status, body), SSE + b"data: " + json.dumps(inside).encode() + b"\n\n"):
        error, _ = fault_of(play)
        assert isinstance(error, ContextExceededError), error
        assert not error.retryable
        assert (error.prompt, error.window) == (prompt, window)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "max_tokens must be at least 1"),
        (400, "the context parameter is not supported"),
        (429, "Rate limit reached: limit 6000 tokens per minute, requested 7000"),
        (400, "input is too large to process. increase the physical batch size"),
        (413, "Request Entity Too Large"),
        (500, "the model has a maximum of 4 slots"),
    ],
)
def test_other_refusals_are_no_exceeded_context(status: int, said: str) -> None:
    error, _ = fault_of(answer(status, {"error": {"message": said}}))
    assert not isinstance(error, ContextExceededError)


def test_an_unknown_model_lists_the_known_ones() -> None:
    listed = {"data": [{"id": "qwen"}, {"id": "llama"}]}
    error, server = fault_of(answer(404, {"error": {"message": "no such model"}}), answer(200, listed))
    assert "no such model" in str(error) and "'m'" in str(error) and "qwen, llama" in error.hint
    assert server.heads[1].startswith("GET /v1/models ")
    error, _ = fault_of(answer(404, b"nothing here", "text/plain"))
    assert "nothing here" in str(error) and "base URL" in error.hint


def test_leaving_a_stream_stops_the_server() -> None:
    async def run() -> int:
        async with misbehaving(endless(SSE, event({"content": "x"}), 0.001)) as server:
            model = OpenAIModel(Endpoint(server.base_url, "m"))
            stream = model.stream(ASK)
            async for _ in stream:
                break
            await stream.aclose()
            while not server.gone:
                await asyncio.sleep(0.01)
            task = asyncio.create_task(anext(model.stream(ASK)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await model.aclose()
            return server.gone

    assert asyncio.run(asyncio.wait_for(run(), 30)) >= 1


def test_tls_is_verified(tmp_path: Any) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    seen: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(good("by TLS"))
        await writer.drain()
        writer.close()

    async def run() -> tuple[ModelError, Reply]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        endpoint = Endpoint(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "m", KEY)
        with pytest.raises(ModelError, match="not trusted") as caught:
            await ask(endpoint)
        assert seen == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            reply = (await ask(endpoint))[1]
        server.close()
        return caught.value, reply

    error, reply = asyncio.run(run())
    assert not error.retryable and "SSL_CERT_FILE" in error.hint
    assert reply.message.text == "by TLS"


# Which model, and how large its context is.


def probed(*plays: Play, model: str = "") -> tuple[Any, list[str]]:
    async def run() -> tuple[Any, list[str]]:
        async with misbehaving(*plays) as server:
            made = OpenAIModel(Endpoint(server.base_url, model))
            return await made.probe(), [head.split(" HTTP")[0] for head in server.heads]

    return asyncio.run(run())


def test_vllm_says_all_in_one_request() -> None:
    info, asked = probed(answer(200, {"data": [{"id": "qwen", "max_model_len": 32768}]}))
    assert (info.name, info.window, info.notice) == ("qwen", 32768, "")
    assert asked == ["GET /v1/models"]


def test_llama_cpp_says_its_context_in_props() -> None:
    props = answer(200, {"default_generation_settings": {"n_ctx": 8192}, "chat_template": "x" * 100_000})
    info, asked = probed(props, model="m")
    assert (info.name, info.window) == ("m", 8192)
    assert asked == ["GET /props"]
    listed = answer(200, {"data": [{"id": "a", "meta": {"n_ctx_train": 1_000_000}}, {"id": "b"}]})
    info, _ = probed(listed, props)
    assert (info.name, info.window) == ("a", 8192)
    assert "a is used, the first of 2" in info.notice


def test_a_server_that_says_nothing_has_no_known_window() -> None:
    info, _ = probed(answer(404, b""), model="m")
    assert info.window == 0
    with pytest.raises(ModelError, match="lists no model"):
        probed(answer(200, {"data": []}))
    with pytest.raises(ModelError, match="did not answer with JSON"):
        probed(answer(200, b"<html>", "text/html"))


def test_the_model_is_asked_for_before_the_first_request_only_when_none_is_named() -> None:
    async def run() -> list[str]:
        async with misbehaving(answer(200, {"data": [{"id": "only"}]}), good()) as server:
            model = OpenAIModel(Endpoint(server.base_url))
            for _ in range(2):
                [_ async for _ in model.stream(ASK)]
            await model.aclose()
            assert model.info.name == json.loads(server.bodies[1])["model"] == "only"
            return [head.split(" ")[1] for head in server.heads]

    assert asyncio.run(run()) == ["/v1/models", "/v1/chat/completions", "/v1/chat/completions"]


def test_certifi_is_a_fallback_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    empty = tmp_path / "none.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    assert transport.tls_context().get_ca_certs() == []
    monkeypatch.delenv("SSL_CERT_FILE")
    context = transport.tls_context()
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname and context.get_ca_certs()
