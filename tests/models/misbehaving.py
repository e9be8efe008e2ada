"""A server that sends exactly the bytes a test says, however wrong, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Play = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def answer(status: int, body: bytes | dict, kind: str = "application/json", *headers: str) -> bytes:
    """A whole reply with a length."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content


def event(delta: dict | None = None, finish: str | None = None, **more: object) -> bytes:
    """One event of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


def good(text: str = "fine") -> bytes:
    """A whole good reply."""
    return SSE + event({"content": text}) + event({}, "stop") + b"data: [DONE]\n\n"


def silence(first: bytes) -> Play:
    """Sends these bytes and then nothing, until the client goes away."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.read()

    return play


def endless(first: bytes, again: bytes, pause: float = 0.0) -> Play:
    """Sends the second bytes for ever."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return play


def reset(first: bytes) -> Play:
    """Sends these bytes, then breaks the connection as a killed process does (RST)."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.02)  # a reset overtakes what is still in the buffers
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return play


def slowly(data: bytes) -> Play:
    """Sends every byte on its own."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    return play


async def _perform(play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if isinstance(play, bytes):
        writer.write(play)
        await writer.drain()
    else:
        await play(reader, writer)


@dataclass
class Misbehaving:
    """What a server was sent so far: heads and bodies, in order; `asked` are paths that `facts` answered."""

    base_url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    gone: int = 0


@asynccontextmanager
async def misbehaving(*plays: Play, facts: Mapping[str, Play] | None = None) -> AsyncIterator[Misbehaving]:
    """Plays one after another, one per connection; the last one again and again.

    With `facts` (plays by path), all but requests for replies are answered from there (404 where it has none), and
    are counted apart from these.
    """
    seen = Misbehaving()
    left = list(plays)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            sizes = [
                line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")
            ]
            body = await reader.readexactly(int(sizes[0])) if sizes else b""
            path = head.split(" ", 2)[1]
            if facts is not None and not path.endswith("/chat/completions"):
                seen.asked.append(path)
                await _perform(facts.get(path, answer(404, b"")), reader, writer)
                return
            seen.heads.append(head)
            seen.bodies.append(body)
            play = left.pop(0) if len(left) > 1 else left[0]
            await _perform(play, reader, writer)
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            seen.gone += 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    seen.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
