"""What the scripted server reads and sends: HTTP/1.1 for a client on the same machine, replies as streams."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.models.script import ScriptReply

#: Bytes of a request; a conversation of a million tokens is smaller.
MAX_REQUEST = 64_000_000
#: A text is streamed in pieces of at least so many characters, and in at most so many pieces.
PIECE, PIECES = 24, 16
#: Bytes that count as a token, in the usage that the server reports.
TOKEN = 4

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Request(Struct, frozen=True):
    """A request; header names are in lower case, the path has no query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None at its end, and for what is no request."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    size = headers.get("content-length", "0")
    if not size.isdecimal() or int(size) > MAX_REQUEST:
        return None
    body = await reader.readexactly(int(size))
    return Request(method, rest.partition(" ")[0].partition("?")[0], headers, body)


def send(
    writer: asyncio.StreamWriter, status: int, body: object, kind: str = "application/json", more: str = ""
) -> None:
    """A whole reply: bytes as they are, anything else as JSON. `more` holds further header lines."""
    content = body if isinstance(body, bytes) else _encode(body).encode()
    size = len(content)
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
    writer.write(head.encode("latin-1") + content)


async def stream(writer: asyncio.StreamWriter, events: Sequence[bytes], delay: float = 0.0) -> None:
    """Begin a chunked event stream with these events; its end is the caller's."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for event in events:
        writer.write(b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event))
        if delay:
            await writer.drain()
            await asyncio.sleep(delay)
    await writer.drain()


def error(type: str, message: str) -> dict[str, Any]:
    """An error as servers of the dialect word it."""
    return {"error": {"type": type, "message": message}}


def context_error(tokens: int, window: int) -> dict[str, Any]:
    """The error that llama.cpp answers a conversation with that does not fit."""
    said = f"request ({tokens} tokens) exceeds the available context size ({window} tokens)"
    error = {"code": 400, "message": said, "type": "exceed_context_size_error"}
    return {"error": {**error, "n_prompt_tokens": tokens, "n_ctx": window}}


def _pieces(text: str) -> Iterator[str]:
    size = max(PIECE, -(-len(text) // PIECES))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _encode({"object": "chat.completion.chunk", "choices": [choice]}).encode()


def chunks(reply: ScriptReply, number: int) -> Iterator[bytes]:
    """The reply as the pieces of a stream, without its end."""
    yield _chunk({"role": "assistant", "content": None})
    for piece in _pieces(reply.think):
        yield _chunk({"reasoning_content": piece})
    for piece in _pieces(reply.text):
        yield _chunk({"content": piece})
    for index, call in enumerate(reply.calls):
        id = call.id or f"call_{number}_{index + 1}"
        function = {"name": call.name, "arguments": ""}
        yield _chunk({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
        for piece in _pieces(call.arguments):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})


def ending(reply: ScriptReply, usage: Mapping[str, Any]) -> Iterator[bytes]:
    """The end of a good reply's stream: why it ended, and what it cost."""
    yield _chunk({}, reply.finish or ("tool_calls" if reply.calls else "stop"))
    yield _encode({"object": "chat.completion.chunk", "choices": [], "usage": usage}).encode()


def usage_of(reply: ScriptReply, prompt: int, cached: int) -> dict[str, Any]:
    """The usage of a good reply, as the script says or as bytes tell (tokens)."""
    given = reply.usage or {}
    written = len(reply.text) + len(reply.think) + sum(len(c.name) + len(c.arguments) for c in reply.calls)
    prompt, completion = given.get("prompt", prompt), given.get("completion", -(-written // TOKEN))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": given.get("cached", cached)},
    }


async def fail(
    reply: ScriptReply, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Play a reply's fault. A connection that is not fit for another request is closed."""
    if reply.fault.startswith("http:"):
        more = f"Retry-After: {reply.retry_after:g}\r\n" if reply.retry_after else ""
        status = int(reply.fault.removeprefix("http:"))
        return send(writer, status, error("scripted_fault", reply.message), more=more)
    match reply.fault:
        case "html":
            return send(writer, 200, b"<html><body>Welcome</body></html>", "text/html")
        case "context":
            return send(writer, 400, context_error(2, 1))
        case "empty":
            await stream(writer, ())
            return writer.write(b"0\r\n\r\n")
        case "hang":
            await reader.read(1)  # until the client goes away
            return writer.close()
    whole = list(chunks(reply, number))
    half = whole[: max(len(whole) // 2, 1)]
    if reply.fault == "garbage":
        half.append(b'{"choices":[{"delta"')
    if reply.fault == "error":
        half.append(_encode({"error": {"code": 500, "message": reply.message}}).encode())
    await stream(writer, half, reply.delay)
    match reply.fault:
        case "truncate" | "garbage" | "error":
            return writer.write(b"0\r\n\r\n")
        case "stall":
            await reader.read(1)
        case "reset":
            # Lingering for zero seconds makes closing a reset.
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
    writer.close()
