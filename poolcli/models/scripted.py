"""A small real HTTP server that plays a script file as a model, and checks every request it gets.

Three ways to use it: `async with ScriptedServer(load(path)) as server` in tests, `open_scripted` for the
model `scripted:FILE`, and `python -m poolcli.models.scripted FILE`, which prints its base URL, for programs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from poolcli.models.base import ModelInfo
from poolcli.models.endpoint import Endpoint
from poolcli.models.openai import OpenAIModel
from poolcli.models.playing import (
    TOKEN,
    Request,
    chunks,
    context_error,
    ending,
    error,
    fail,
    read_request,
    send,
    stream,
    usage_of,
)
from poolcli.models.rules import Conversation, Violation
from poolcli.models.script import Script, load


class Log(Struct):
    """What a server has seen: `GET /_log` answers with it."""

    #: Bytes of each accepted request, and how many of them were known from the one before.
    sizes: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    #: Replies given, requests that were too long, faults played, rules broken.
    served: int = 0
    refused: int = 0
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
        self._conversation = Conversation(compaction=self.script.compaction)
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
            while (request := await read_request(reader)) is not None:
                await self._answer(request, reader, writer)
                if writer.is_closing() or request.headers.get("connection", "").lower() == "close":
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server is closing
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self.script
        bearer = request.headers.get("authorization", "")
        if script.key and request.path != "/health" and bearer != f"Bearer {script.key}":
            return send(writer, 401, error("authentication_error", "Invalid API Key"))
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                await self._complete(request.body, reader, writer)
            case "GET", "/health":
                send(writer, 200, {"status": "ok"})
            case "GET", "/v1/models":
                entry = {"id": script.model, "object": "model", "owned_by": "script"}
                send(writer, 200, {"object": "list", "data": [entry]})
            case "GET", "/props":
                send(writer, 200, {"default_generation_settings": {"n_ctx": script.window}})
            case "GET", "/_log":
                send(writer, 200, self._report())
            case "GET", "/_last":
                send(writer, 200, self._conversation.body)
            case "POST", "/_reset":
                self.reset()
                send(writer, 200, {})
            case _:
                send(writer, 404, error("not_found_error", f"no {request.method} {request.path} here"))
        await writer.drain()

    def _report(self) -> dict[str, Any]:
        log = self.log
        return {
            "requests": len(log.sizes), "served": log.served, "refused": log.refused, "faults": log.faults,
            "restarts": self._conversation.restarts,
            "left": len(self.script.replies) - self._next, "violations": log.violations,
            "sizes": log.sizes, "known": log.known,
        }  # fmt: skip

    async def _complete(
        self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self.script
        if len(body) // TOKEN > script.window:
            self.log.refused += 1
            return send(writer, 400, context_error(len(body) // TOKEN, script.window))
        first, repeated = not self.log.sizes, body == self._conversation.body
        try:
            known = self._conversation.accept(body)
        except Violation as violation:
            self.log.violations.append(str(violation))
            return send(writer, 400, error("script_assertion", str(violation)))
        self.log.sizes.append(len(body))
        self.log.known.append(known)
        if first and script.resume:
            self._skip(self._conversation.state.replies)
        if not (repeated and self._answered):
            self._next += 1
        if self._next > len(script.replies):
            self._next, self._answered = len(script.replies), False
            said = f"{script.name} has no reply for this request: all {len(script.replies)} were given"
            return send(writer, 400, error("script_exhausted", said))
        number = self._next
        reply = script.replies[number - 1]
        self._answered = not reply.fault
        self.log.faults += bool(reply.fault)
        if reply.fault:
            await fail(reply, number, reader, writer)
        else:
            usage = usage_of(reply, len(body) // TOKEN, known // TOKEN)
            await stream(writer, [*chunks(reply, number), *ending(reply, usage), b"[DONE]"], reply.delay)
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
