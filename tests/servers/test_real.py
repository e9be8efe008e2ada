"""The real llama.cpp server, with the demonstration model: that it does what the conformance suite takes it to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolcli import asking
from poolcli.errors import ModelError
from poolcli.models.connection import Connection
from poolcli.models.endpoint import Endpoint
from poolcli.models.faults import (
    ConstraintUnsupportedError,
    ContextExceededError,
    RefusedArgumentsError,
)
from poolcli.models.health import look
from poolcli.models.llama_server import start
from poolcli.models.local import demo_model
from poolcli.models.openai import OpenAIModel
from poolcli.run import Run
from tests.servers.harness import Watching
from tests.test_gate import Memory

pytest.importorskip("xllamacpp")


def with_server(folder: Path, work: Callable[[Endpoint], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        server = await start(demo_model(), ctx=4096, threads=1, log=folder / "server.log", engine="xllamacpp")
        try:
            return await work(Endpoint(server.base_url, server.name, server.api_key, progress=True))
        finally:
            await server.stop()

    return asyncio.run(asyncio.wait_for(run(), 100))


def test_progress_speeds_and_health(tmp_path: Path) -> None:
    text = "\n".join(f"line {n} of a file, {n * n} and {n * 7}" for n in range(120))

    async def work(endpoint: Endpoint) -> None:
        view = Watching()
        run = Run("r", tmp_path, Memory(), views=[view])
        run.emit("run.started", system="You repair code.")
        run.emit("turn.started", text=text)
        # A model that ends too soon would be over before anybody looks.
        endpoint = replace(endpoint, extra_body={"ignore_eos": True})
        model, connection = OpenAIModel(endpoint), Connection(endpoint)
        assert await look(connection, endpoint.root) == "idle"
        await asking.ask(run, model, max_reply=40)
        told = [e.data["text"] for e in view.events if e.type == "progress"]
        assert told and told[-1] == "reading the prompt 100 %"
        replied = next(e for e in run.events if e.type == "model.replied")
        assert replied.data["timings"]["prefill"] > 0 and replied.data["timings"]["decode"] > 0
        # In the middle of a reply the server shows that it is at work.
        stream = model.stream(run.projection.messages[:2], max_tokens=2000)
        async for piece in stream:
            if getattr(piece, "kind", "") == "text":
                break
        assert await look(connection, endpoint.root) == "working"
        await stream.aclose()
        await model.aclose()
        await connection.aclose()

    with_server(tmp_path, work)


def broken_arguments() -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"path": "x'}}
    return {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        ],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}],
    }


REFUSALS = [
    (broken_arguments(), RefusedArgumentsError),
    (
        {
            "messages": [
                {"role": role, "content": "return self.value"} for role in ("user", "assistant") * 2000
            ]
        },
        ContextExceededError,
    ),
    ({"messages": [{"role": "user", "content": "x"}], "grammar": "root ::= ("}, ConstraintUnsupportedError),
    (
        {
            "messages": [{"role": "user", "content": "x"}],
            "grammar": 'root ::= "a"',
            "tools": broken_arguments()["tools"],
        },
        ConstraintUnsupportedError,
    ),
    (
        {
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "date"}}},
        },
        ConstraintUnsupportedError,
    ),
]


def test_its_refusals_are_what_they_are_taken_for(tmp_path: Path) -> None:
    async def work(endpoint: Endpoint) -> list[type[ModelError]]:
        found: list[type[ModelError]] = []
        connection = Connection(endpoint)
        for body, _ in REFUSALS:
            data = json.dumps({"model": "m", "max_tokens": 4, **body}).encode()
            with pytest.raises(ModelError) as caught:
                async with connection.open("POST", f"{endpoint.url}/chat/completions", body=data, seconds=60):
                    pass
            found.append(caught.type)
        await connection.aclose()
        return found

    assert with_server(tmp_path, work) == [kind for _, kind in REFUSALS]
