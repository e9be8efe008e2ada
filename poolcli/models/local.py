"""Models that run on this machine: in a server of pool's own, or in one that pool starts for the asking."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from poolcli import paths
from poolcli.errors import ModelError
from poolcli.messages import Message
from poolcli.models.base import Model, ModelInfo, Notice, Piece, Reply
from poolcli.models.llama_server import Order, start, status
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
#: Conversations that a shared server keeps apart when nothing was asked for: a second terminal beside the first.
DEFAULT_SLOTS = 2
#: So small a model gains nothing from a second thread, and where other programs keep the cores busy, threads
#: wait for each other: 390 tokens per second with one, 3 to 40 with two.
DEMO_THREADS = 1
#: How often one model's server is started again after it died in the middle of a run.
RESTARTS = 2
#: Where a running ollama listens unless OLLAMA_HOST says otherwise.
OLLAMA_PORT = 11434


class Server(Protocol):
    """A server that pool started or joined: private (`LocalServer`) or shared (`SharedServer`)."""

    @property
    def base_url(self) -> str:
        """Where requests go; may change with a restart."""

    @property
    def api_key(self) -> str:
        """Its random key."""

    @property
    def name(self) -> str:
        """What it calls the model."""

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    @property
    def context(self) -> int:
        """Tokens of each conversation, as it was started; 0 when that was left to it."""

    @property
    def slot(self) -> int | None:
        """The slot to pin requests to; None for none."""

    @property
    def waits(self) -> bool:
        """Whether requests have to queue because other conversations have all slots."""

    async def died(self) -> bool:
        """Whether it has ended, or does so within a moment."""

    async def failure(self) -> ModelError:
        """Why it ended."""

    async def restart(self) -> None:
        """Have it again after it died. Raises ModelError."""

    async def close(self) -> None:
        """Need it no more."""


def demo_model() -> Path:
    """The demonstration model's file. Raises ModelError when this installation lacks it."""
    path = paths.data_dir("models") / DEMO_FILE
    if not path.is_file():
        raise ModelError(
            "the demonstration model's file is missing from this installation",
            "`make model` trains it again; or name a model with --base-url or --model",
        )
    return path


class Speaker(Model, Protocol):
    """A model at an endpoint, as OpenAIModel is one."""

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncGenerator[Piece | Notice | Reply, None]:
        """See `Model.stream`."""

    async def probe(self) -> ModelInfo:
        """Ask the server for what is not known yet."""


#: How a model is spoken to at an endpoint.
Speak = Callable[[Endpoint], Speaker]


class LocalModel:
    """A `Model` in such a server. A server that died is started again with the next request."""

    def __init__(self, server: Server, make: Callable[[Server], Speaker], notice: str = "") -> None:
        """`make` gives the model at the server as it is now; `notice` is what people should know of it."""
        self.server = server
        self._make = make
        self._notice = notice
        self._restarts = 0
        self._waited = False
        self._place = self._where()
        self._model = make(server)

    @property
    def info(self) -> ModelInfo:
        """Which model and where."""
        # What the demonstration model cannot do is a warning; how a model was fitted in is not.
        level: Literal["info", "warning"] = "warning" if DEMO_NOTICE in self._notice else "info"
        return replace(self._model.info, notice=self._notice, level=level)

    async def probe(self) -> ModelInfo:
        """Ask the server for the window. Raises ModelError."""
        await self._model.probe()
        return self.info

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncIterator[Piece | Notice | Reply]:
        """See `Model.stream`."""
        if not self.server.alive:
            self._restarts += 1
            await self.server.restart()
            # It has read nothing yet: the whole conversation is computed anew.
            yield Notice(f"the model server had ended; it runs again (process {self.server.pid})", "server")
        if self.server.waits and not self._waited:
            self._waited = True
            yield Notice(
                "other conversations have all slots of the shared server: waiting for a free slot; "
                "`slots` gives it more",
                "slots",
                "info",
            )
        await self._follow()
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
        """Close connections and need the server no more."""
        try:
            await self._model.aclose()
        finally:
            await self.server.close()

    async def _follow(self) -> None:
        """Speak to the server where it is now: a restart or a freed slot may have changed that."""
        if (place := self._where()) != self._place:
            old, self._model, self._place = self._model, self._make(self.server), place
            await old.aclose()
            await self._model.probe()

    def _where(self) -> tuple[str, str, int | None]:
        return self.server.base_url, self.server.api_key, self.server.slot


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
    shared: bool | None = None,
    slots: int = 0,
    kv_type: str = "",
    gpu_layers: int = -1,
    lora: Sequence[tuple[Path, float]] = (),
    idle: float = 0.0,
    force: bool = False,
    speak: Speak | None = None,
) -> LocalModel:
    """A model of a GGUF file, in a server that is joined or started, its window known.

    `shared` False gives it a server of its own that ends with it and writes to `log`; by default that is only
    the demonstration model's. `ctx`, `slots`, `idle` 0, `kv_type` '' and `gpu_layers` -1 take what fits, see
    models/fit.py; what is given stays as it is. `idle` is how many seconds a shared server outlives its last
    user. `lora` are adapters with their scales. `force` loads what does not seem to fit. `extra_body` and
    `limits` are those of an Endpoint; `speak` makes the model at it, by default an OpenAIModel with these tools.
    Raises UsageError for what is not a GGUF file to read, ModelError when no server can be started.
    """
    order = order_for(
        gguf,
        ctx=ctx,
        threads=threads,
        engine=engine,
        shared=shared,
        slots=slots,
        kv_type=kv_type,
        gpu_layers=gpu_layers,
        lora=lora,
    )
    say = _Saying(tools, extra_body or {}, limits or Limits(), speak)
    demo = is_demo(gguf)
    notice = DEMO_NOTICE if demo else ""
    if shared or (shared is None and not demo):
        return await _open_shared(order, say, idle=idle, force=force, notice=notice)
    return await say.open(await start(order, log=log), notice)


def is_demo(gguf: Path) -> bool:
    """Whether a file is the demonstration model that ships with pool."""
    return gguf == paths.data_dir("models") / DEMO_FILE


def order_for(
    gguf: Path,
    *,
    ctx: int = 0,
    threads: int = 0,
    engine: str = "auto",
    shared: bool | None = None,
    slots: int = 0,
    kv_type: str = "",
    gpu_layers: int = -1,
    lora: Sequence[tuple[Path, float]] = (),
) -> Order:
    """What is asked of a server for a GGUF file; as in `open_local`. Equal questions are the same shared server."""
    demo = is_demo(gguf)
    shared = not demo if shared is None else shared
    return Order(
        gguf,
        ctx or (DEMO_CONTEXT if demo else DEFAULT_CONTEXT),
        slots or (DEFAULT_SLOTS if shared else 1),
        threads or (DEMO_THREADS if demo else 0),
        engine,
        kv_type,
        gpu_layers,
        tuple(lora),
        tuple(name for name, given in (("context", ctx), ("slots", slots)) if given),
    )


async def open_named(
    name: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    engine: str,
    ctx: int = 0,
    slots: int = 0,
    extra_body: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    idle: float = 0.0,
    speak: Speak | None = None,
) -> LocalModel | Speaker:
    """A model that `vllm` or `ollama` (`engine`) knows by name, in a server of theirs.

    An ollama that runs already is used as it is; otherwise the program on PATH is started, shared and ended as a
    llama.cpp server is. Raises ModelError when there is no such program or it does not come up.
    """
    say = _Saying(tools, extra_body or {}, limits or Limits(), speak)
    if engine == "ollama" and (url := await running_ollama()):
        return say.model(Endpoint(url, name, extra_body=say.extra_body, window=ctx, limits=say.limits))
    return await _open_shared(order_named(name, engine=engine, ctx=ctx, slots=slots), say, idle=idle)


def order_named(name: str, *, engine: str, ctx: int = 0, slots: int = 0) -> Order:
    """What is asked of `vllm` or `ollama` for a model that it knows by name; `ctx` 0 leaves that to it."""
    return Order(Path(name), ctx, slots or DEFAULT_SLOTS, engine=engine)


async def running_ollama() -> str:
    """The base URL of an ollama that runs on this machine, '' when there is none."""
    import os

    host = os.environ.get("OLLAMA_HOST", "").strip().rpartition("://")[2].rstrip("/")
    name, _, port = host.partition(":")
    if name not in ("", "127.0.0.1", "localhost", "0.0.0.0"):
        return ""  # another machine's is for --base-url
    number = int(port) if port.isdecimal() and int(port) < 65_536 else OLLAMA_PORT
    answers = await status(number, "/api/version") == 200
    return f"http://127.0.0.1:{number}/v1" if answers else ""


async def _open_shared(
    order: Order, say: _Saying, *, idle: float = 0.0, force: bool = False, notice: str = ""
) -> LocalModel:
    from poolcli.models.shared_server import IDLE, SharedServer

    server = SharedServer(order, idle=idle or IDLE, force=force)
    await server.join()
    says = server.state.says
    if not server.starter:
        says = f"uses the model server that runs already (process {server.pid})" + (
            f": {says}" if says else ""
        )
    return await say.open(server, "; ".join(filter(None, (notice, says))))


class _Saying(Struct, frozen=True):
    """How the model in a server is spoken to, wherever that server is at the time."""

    tools: Sequence[Mapping[str, Any]]
    extra_body: Mapping[str, Any]
    limits: Limits
    speak: Speak | None

    def model(self, endpoint: Endpoint) -> Speaker:
        return self.speak(endpoint) if self.speak else OpenAIModel(endpoint, self.tools)

    def at(self, server: Server) -> Speaker:
        slot = server.slot
        pin = {} if slot is None else {"id_slot": slot, "cache_prompt": True}
        return self.model(
            Endpoint(
                server.base_url,
                server.name,
                server.api_key,
                extra_body={**pin, **self.extra_body},
                window=server.context,
                limits=self.limits,
                key_name="the local server's key",
            )
        )

    async def open(self, server: Server, notice: str) -> LocalModel:
        try:
            model = LocalModel(server, self.at, notice)
            await model.probe()
        except BaseException:
            await server.close()
            raise
        return model
