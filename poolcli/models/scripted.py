"""A small real HTTP server that plays a script file as a model, and checks every request it gets.

Three ways to use it: `async with ScriptedServer(load(path)) as server` in tests, `open_scripted` for the
model `scripted:FILE`, and `python -m poolcli.models.scripted FILE`, which prints its base URL, for programs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolcli.models.base import ModelInfo
from poolcli.models.endpoint import Endpoint
from poolcli.models.openai import OpenAIModel
from poolcli.models.rules import Conversation, Violation
from poolcli.models.script import Script, ScriptReply, load

#: Bytes of a request; a conversation of a million tokens is smaller.
MAX_REQUEST = 64_000_000
#: A text is streamed in pieces of at least so many characters, and in at most so many pieces.
PIECE, PIECES = 24, 16
#: Bytes that count as a token, in the usage that the server reports.
TOKEN = 4

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Log:
    """What a server has seen: `GET /_log` answers with it."""

    #: Bytes of each accepted request, and how many of them were known from the one before.
    sizes: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    #: Replies given, faults played, rules broken.
    served: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)


class ScriptedServer:
    """Plays a script at `base_url` while entered. One conversation at a time."""

    def __init__(self, script: Script, *, port: int = 0) -> None:
        self.script = script
        self.port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.reset()

    def reset(self) -> None:
        """Back to the first reply and a new conversation."""
        self.log = Log()
        self._conversation = Conversation()
        self._next = 0
        self._answered = False  # the last request got a good reply, so the same one again gets it again

    @property
    def base_url(self) -> str:
        """What to give as --base-url."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def violations(self) -> list[str]:
        """The rules that requests broke, in words."""
        return self.log.violations

    @property
    def last_request(self) -> dict[str, Any]:
        """The last accepted request."""
        request: dict[str, Any] = json.loads(self._conversation.body)
        return request

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        assert self._server is not None
        await self._server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                await self._answer(request, reader, writer)
                if writer.is_closing() or request.headers.get("connection", "").lower() == "close":
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server is closing
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self.script
        bearer = request.headers.get("authorization", "")
        if script.key and request.path != "/health" and bearer != f"Bearer {script.key}":
            return _send(writer, 401, _error("authentication_error", "Invalid API Key"))
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                await self._complete(request.body, reader, writer)
            case "GET", "/health":
                _send(writer, 200, {"status": "ok"})
            case "GET", "/v1/models":
                entry = {"id": script.model, "object": "model", "owned_by": "script"}
                _send(writer, 200, {"object": "list", "data": [entry]})
            case "GET", "/props":
                _send(writer, 200, {"default_generation_settings": {"n_ctx": script.window}})
            case "GET", "/_log":
                _send(writer, 200, self._report())
            case "GET", "/_last":
                _send(writer, 200, self._conversation.body)
            case "POST", "/_reset":
                self.reset()
                _send(writer, 200, {})
            case _:
                _send(writer, 404, _error("not_found_error", f"no {request.method} {request.path} here"))
        await writer.drain()

    def _report(self) -> dict[str, Any]:
        log = self.log
        return {
            "requests": len(log.sizes), "served": log.served, "faults": log.faults,
            "left": len(self.script.replies) - self._next, "violations": log.violations,
            "sizes": log.sizes, "known": log.known,
        }  # fmt: skip

    async def _complete(
        self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self.script
        if len(body) // TOKEN > script.window:
            return _send(writer, 400, _context_error(len(body) // TOKEN, script.window))
        first, repeated = not self.log.sizes, body == self._conversation.body
        try:
            known = self._conversation.accept(body)
        except Violation as violation:
            self.log.violations.append(str(violation))
            return _send(writer, 400, _error("script_assertion", str(violation)))
        self.log.sizes.append(len(body))
        self.log.known.append(known)
        if first and script.resume:
            self._skip(self._conversation.state.replies)
        if not (repeated and self._answered):
            self._next += 1
        if self._next > len(script.replies):
            self._next, self._answered = len(script.replies), False
            said = f"{script.name} has no reply for this request: all {len(script.replies)} were given"
            return _send(writer, 400, _error("script_exhausted", said))
        number = self._next
        reply = script.replies[number - 1]
        self._answered = not reply.fault
        self.log.faults += bool(reply.fault)
        if reply.fault:
            await _fail(reply, number, reader, writer)
        else:
            usage = _usage(reply, len(body) // TOKEN, known // TOKEN)
            await _stream(writer, [*_chunks(reply, number), *_ending(reply, usage), b"[DONE]"], reply.delay)
            writer.write(b"0\r\n\r\n")
            self.log.served += 1

    def _skip(self, replies: int) -> None:
        """Go on behind as many good replies as the conversation holds."""
        while replies and self._next < len(self.script.replies):
            replies -= not self.script.replies[self._next].fault
            self._next += 1


class ScriptedModel:
    """The model `scripted:FILE`: a client of a server of its own, over real HTTP."""

    def __init__(self, server: ScriptedServer, model: OpenAIModel) -> None:
        self.server = server
        self._model = model
        self.stream = model.stream

    @property
    def info(self) -> ModelInfo:
        """Which model and where."""
        return self._model.info

    async def aclose(self) -> None:
        """Close the client, then the server."""
        await self._model.aclose()
        await self.server.aclose()


async def open_scripted(path: Path, tools: Sequence[Mapping[str, Any]] = ()) -> ScriptedModel:
    """Start a server for the script on the running loop. Raises ConfigError for a bad script."""
    script = load(path)
    server = await ScriptedServer(script).__aenter__()
    endpoint = Endpoint(server.base_url, script.model, script.key, window=script.window)
    return ScriptedModel(server, OpenAIModel(endpoint, tools))


# HTTP/1.1, as far as one client on the same machine needs it.


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def _read(reader: asyncio.StreamReader) -> _Request | None:
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
    return _Request(method, rest.partition(" ")[0].partition("?")[0], headers, body)


def _send(
    writer: asyncio.StreamWriter, status: int, body: object, kind: str = "application/json", more: str = ""
) -> None:
    content = body if isinstance(body, bytes) else _encode(body).encode()
    size = len(content)
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
    writer.write(head.encode("latin-1") + content)


async def _stream(writer: asyncio.StreamWriter, events: Sequence[bytes], delay: float = 0.0) -> None:
    """Begin a chunked event stream with these events; its end is the caller's."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for event in events:
        writer.write(b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event))
        if delay:
            await writer.drain()
            await asyncio.sleep(delay)
    await writer.drain()


def _error(type: str, message: str) -> dict[str, Any]:
    return {"error": {"type": type, "message": message}}


def _context_error(tokens: int, window: int) -> dict[str, Any]:
    said = f"request ({tokens} tokens) exceeds the available context size ({window} tokens)"
    error = {"code": 400, "message": said, "type": "exceed_context_size_error"}
    return {"error": {**error, "n_prompt_tokens": tokens, "n_ctx": window}}


# Replies.


def _pieces(text: str) -> Iterator[str]:
    size = max(PIECE, -(-len(text) // PIECES))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _encode({"object": "chat.completion.chunk", "choices": [choice]}).encode()


def _chunks(reply: ScriptReply, number: int) -> Iterator[bytes]:
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


def _ending(reply: ScriptReply, usage: Mapping[str, Any]) -> Iterator[bytes]:
    yield _chunk({}, reply.finish or ("tool_calls" if reply.calls else "stop"))
    yield _encode({"object": "chat.completion.chunk", "choices": [], "usage": usage}).encode()


def _usage(reply: ScriptReply, prompt: int, cached: int) -> dict[str, Any]:
    given = reply.usage or {}
    written = len(reply.text) + len(reply.think) + sum(len(c.name) + len(c.arguments) for c in reply.calls)
    prompt, completion = given.get("prompt", prompt), given.get("completion", -(-written // TOKEN))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": given.get("cached", cached)},
    }


async def _fail(
    reply: ScriptReply, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Play a reply's fault. A connection that is not fit for another request is closed."""
    if reply.fault.startswith("http:"):
        more = f"Retry-After: {reply.retry_after:g}\r\n" if reply.retry_after else ""
        status = int(reply.fault.removeprefix("http:"))
        return _send(writer, status, _error("scripted_fault", reply.message), more=more)
    match reply.fault:
        case "html":
            return _send(writer, 200, b"<html><body>Welcome</body></html>", "text/html")
        case "context":
            return _send(writer, 400, _context_error(2, 1))
        case "empty":
            await _stream(writer, ())
            return writer.write(b"0\r\n\r\n")
        case "hang":
            await reader.read(1)  # until the client goes away
            return writer.close()
    chunks = list(_chunks(reply, number))
    half = chunks[: max(len(chunks) // 2, 1)]
    if reply.fault == "garbage":
        half.append(b'{"choices":[{"delta"')
    if reply.fault == "error":
        half.append(_encode({"error": {"code": 500, "message": reply.message}}).encode())
    await _stream(writer, half, reply.delay)
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


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m poolcli.models.scripted FILE [--port N]`: serve until a signal, the base URL on stdout."""
    import argparse
    import contextlib
    import sys

    from poolcli.errors import PoolError

    parser = argparse.ArgumentParser(prog="python -m poolcli.models.scripted", description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args(argv)

    async def serve() -> None:
        async with ScriptedServer(load(given.file), port=given.port) as server:
            sys.stdout.write(server.base_url + "\n")
            sys.stdout.flush()
            await server.serve_forever()

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
    except PoolError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
