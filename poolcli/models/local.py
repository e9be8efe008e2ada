"""Models that run on this machine: a GGUF file in a llama.cpp server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from poolcli import paths
from poolcli.errors import ModelError
from poolcli.messages import Message
from poolcli.models.base import ModelInfo, Notice, Piece, Reply
from poolcli.models.llama_server import LocalServer, start
from poolcli.models.openai import Endpoint, Limits, OpenAIModel

DEMO_NOTICE = (
    "demonstration model: knows one family of one-line Python bugs; "
    "for real work name a model with --base-url or --model"
)
DEMO_FILE = "pool-demo.gguf"
#: Context per slot in tokens when none was asked for. Cache memory grows with it; the server itself lowers it
#: to what the model was trained for.
DEFAULT_CONTEXT = 16384
DEMO_CONTEXT = 4096
#: So small a model gains nothing from a second thread, and where other programs keep the cores busy, threads
#: wait for each other: 390 tokens per second with one, 3 to 40 with two.
DEMO_THREADS = 1
#: How often one model's server is started again after it died in the middle of a run.
RESTARTS = 2


def demo_model() -> Path:
    """The demonstration model's file. Raises ModelError when this installation lacks it."""
    path = paths.data_dir("models") / DEMO_FILE
    if not path.is_file():
        raise ModelError(
            "the demonstration model's file is missing from this installation",
            "`make model` trains it again; or name a model with --base-url or --model",
        )
    return path


class LocalModel:
    """A `Model` in a server of our own. A server that died is started again with the next request."""

    def __init__(self, server: LocalServer, model: OpenAIModel, notice: str = "") -> None:
        """`notice` is what people should know of the model."""
        self.server = server
        self._model = model
        self._notice = notice
        self._restarts = 0

    @property
    def info(self) -> ModelInfo:
        """Which model and where."""
        return replace(self._model.info, notice=self._notice)

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncIterator[Piece | Notice | Reply]:
        """See `Model.stream`."""
        if not self.server.alive:
            self._restarts += 1
            await self.server.restart()
        try:
            async with aclosing(self._model.stream(messages, max_tokens=max_tokens)) as pieces:
                async for piece in pieces:
                    yield piece
        except ModelError as error:
            if not error.retryable or not await self.server.died():
                raise
            failure = await self.server.failure()
            failure.retryable = self._restarts < RESTARTS
            raise failure from error

    async def aclose(self) -> None:
        """Close connections and end the server."""
        try:
            await self._model.aclose()
        finally:
            await self.server.stop()


async def open_local(
    gguf: Path,
    tools: Sequence[Mapping[str, Any]],
    *,
    log: Path,
    ctx: int = 0,
    threads: int = 0,
    engine: str = "auto",
    extra_body: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> LocalModel:
    """Start a server for a GGUF file and give the model in it, its window known.

    `ctx` 0 takes the default for the file; `extra_body` and `limits` are those of an Endpoint.
    Raises as `start` does.
    """
    demo = gguf == paths.data_dir("models") / DEMO_FILE
    ctx = ctx or (DEMO_CONTEXT if demo else DEFAULT_CONTEXT)
    threads = threads or (DEMO_THREADS if demo else 0)
    server = await start(gguf, ctx=ctx, threads=threads, log=log, engine=engine)
    try:
        endpoint = Endpoint(
            server.base_url,
            server.name,
            server.api_key,
            extra_body=extra_body or {},
            limits=limits or Limits(),
            key_name="the local server's key",
        )
        model = OpenAIModel(endpoint, tools)
        await model.probe()
    except BaseException:
        await server.stop()
        raise
    return LocalModel(server, model, DEMO_NOTICE if demo else "")
