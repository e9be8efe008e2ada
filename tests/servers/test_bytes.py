"""Bytes that are not as they should be: read all the same, or one clear sentence; never unpacked, never followed."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from tests.models.misbehaving import SSE, answer, event, good, misbehaving, slowly
from tests.servers.harness import FIX, OVER, ask, question, saying, serving


def test_invalid_utf8_is_read_with_a_mark_in_its_place(tmp_path: Path) -> None:
    broken = SSE + b'data: {"choices":[{"delta":{"content":"a\xff\xfeb \xc3"}}]}\n\n' + event({}, "stop")
    asked = ask(tmp_path, broken)
    assert asked.message is not None
    assert asked.message.text.startswith("a") and "b" in asked.message.text
    assert "\N{REPLACEMENT CHARACTER}" in asked.message.text


def test_invalid_utf8_through_the_command(do) -> None:
    said = SSE + b'data: {"choices":[{"delta":{"content":"add \xff adds"}}]}\n\n' + event({}, "stop")
    done = do(FIX, said)
    assert done.code == 0 and "add \N{REPLACEMENT CHARACTER} adds" in done.out


def test_characters_that_are_cut_in_pieces(tmp_path: Path) -> None:
    asked = ask(tmp_path, slowly(saying("größer – ok 漢")))
    assert asked.message is not None and asked.message.text == "größer – ok 漢"


def test_keep_alive_comments_between_all_pieces(tmp_path: Path) -> None:
    comments = b": OPENROUTER PROCESSING\n\n:\n\n: ping\n"
    body = comments.join([event({"content": "fi"}), event({"content": "ne"}), event({}, "stop"), b""])
    asked = ask(tmp_path, SSE + comments + body + b"data: [DONE]\n\n")
    assert asked.message is not None and asked.message.text == "fine" and len(asked.server.bodies) == 1


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000)
    asked = ask(tmp_path, answer(200, bomb, "text/event-stream", "Content-Encoding: gzip"))
    assert asked.error is not None and "packs its replies" in str(asked.error)
    assert len(asked.server.bodies) == 1


def test_a_packed_refusal_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    asked = ask(tmp_path, answer(500, bomb, "application/json", "Content-Encoding: gzip"))
    assert asked.error is not None and "packs its replies" in str(asked.error)


def test_a_gzip_bomb_is_exit_6(do) -> None:
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000)
    done = do(answer(200, bomb, "text/event-stream", "Content-Encoding: gzip"))
    assert done.code == 6 and "packs its replies though it was asked not to" in done.why


@pytest.mark.parametrize("status", [307, 308, 302])
def test_another_origin_never_sees_the_conversation_or_the_key(tmp_path: Path, status: int) -> None:
    async def run() -> None:
        async with misbehaving(good()) as other:
            play = answer(status, b"", "text/plain", f"Location: {other.base_url}/v1/chat/completions")
            asked = await question(tmp_path, play, api_key="sk-secret")
            assert asked.error is not None and other.base_url in str(asked.error)
            assert "follows no redirect with your code and key" in str(asked.error)
            assert other.heads == [] and len(asked.server.bodies) == 1

    asyncio.run(run())


def test_a_redirect_is_exit_6(do) -> None:
    with serving(good()) as other:
        done = do(answer(307, b"", "text/plain", f"Location: {other.base_url}/v1/chat/completions"))
        assert done.code == 6 and other.base_url in done.why and "make it the base URL" in done.why
        assert other.heads == []


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (answer(200, b"<html>Welcome</html>", "text/html"), "sent a web page, no reply"),
        (answer(200, b"hello", "text/plain"), "sent text/plain, no event stream"),
        (
            answer(200, b"\x00\x01", "application/octet-stream"),
            "sent application/octet-stream, no event stream",
        ),
        (answer(200, {"hello": 1}), "sent JSON that is no reply"),
    ],
    ids=["web page", "text", "binary", "other JSON"],
)
def test_a_wrong_content_type_is_one_sentence(do, play: bytes, words: str) -> None:
    done = do(play)
    assert done.code == 6 and words in done.why and "\n" not in done.why
    assert len(done.server.bodies) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/x-ndjson", ""])
def test_a_stream_by_another_name_is_read(do, kind: str) -> None:
    play = FIX.replace(b"text/event-stream", kind.encode())
    done = do(play, OVER)
    assert done.code == 0, done.out


def test_lines_that_are_no_json_are_asked_for_again(tmp_path: Path) -> None:
    asked = ask(tmp_path, SSE + b"data: {nonsense\n\n", saying("fine"))
    assert asked.error is None and asked.same_bytes
