"""A model behind any OpenAI-compatible `/v1/chat/completions`: llama.cpp, vLLM, Ollama and the like."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.messages import Call, Message
from poolcli.models import faults
from poolcli.models.base import ModelInfo, Notice, Piece, Reply
from poolcli.models.connection import FACTS_DEADLINE, Connection, read
from poolcli.models.dialects.base import Dialect
from poolcli.models.dialects.native import Native
from poolcli.models.discovery import Catalogue, catalogue, props_window
from poolcli.models.endpoint import Endpoint, Limits
from poolcli.models.faults import ContextExceededError, LoadingError, RefusedArgumentsError, StalledError
from poolcli.models.health import look, patiently
from poolcli.models.pace import ASK, Deadline, Pace, Silence
from poolcli.models.progress import Prefill
from poolcli.models.reply import Assembler
from poolcli.models.sse import MAX_LINE, Events, TooLong
from poolcli.models.wire import Wire

if TYPE_CHECKING:
    import httpx

__all__ = ["ContextExceededError", "Endpoint", "Limits", "OpenAIModel"]

T = TypeVar("T")

#: Bytes of a whole streamed reply. A token costs about 300 bytes as an event, so this is 200,000 tokens.
MAX_REPLY = 64_000_000
#: How long a stream may still take to end once the server has said why the model stopped (seconds).
CLOSING = Silence(5.0, 5.0, 5.0)
#: Content types of web pages: what a wrong base URL usually answers with.
PAGES = ("text/html", "application/xhtml+xml")
#: Bytes of a web page that a message repeats the beginning of.
MAX_PAGE = 2000
#: How many names of models a message repeats.
MAX_NAMES = 8


class OpenAIModel:
    """A `Model` at an endpoint. Nothing is sent, and no HTTP library loaded, before the first request."""

    def __init__(
        self, endpoint: Endpoint, tools: Sequence[Mapping[str, Any]] = (), dialect: Dialect | None = None
    ) -> None:
        """`tools` are function schemas, sent in this order and never changed; a `dialect` has its own."""
        self._endpoint = endpoint
        self._url = endpoint.url
        self.speak(dialect or Native(tools))
        self._info = ModelInfo(endpoint.model, self._url, endpoint.window)
        self._connection = Connection(endpoint)
        self._pace = Pace(endpoint.limits, endpoint.speeds)
        #: Whether the server was still loading when it was asked for its model and window.
        self._unprobed = False
        self._schemas = {tool["function"]["name"]: tool for tool in tools}
        #: Ids of calls whose arguments a server could not read; they go back as `{}`.
        self._emptied: set[str] = set()

    def speak(self, dialect: Dialect) -> None:
        """Go on in this dialect: what is known of the server stays, the bytes of the next request start anew."""
        streaming: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        if self._endpoint.progress:
            streaming["return_progress"] = True
        kind = streaming if dialect.streamed else {"stream": False}
        self._dialect = dialect
        constants = {**kind, **self._endpoint.extra_body, **dialect.constants()}
        self._wire = Wire(constants, dialect.render, guide=dialect.guide, system_role=dialect.system_role)

    @property
    def info(self) -> ModelInfo:
        """Which model and where; `probe` or the first request fill in what was not configured."""
        return self._info

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncGenerator[Piece | Notice | Reply, None]:
        """See `Model.stream`. Raises ContextExceededError, a ModelError, when the messages do not fit."""
        if self._unprobed:
            await self.probe()
        if not self._info.name:
            await self._choose()
        body = self._wire.body(self._info.name, self._sendable(messages), max_tokens=max_tokens)
        start, first = time.monotonic(), 0.0
        assembler, prefill = Assembler(self._schemas), Prefill()
        try:
            async with aclosing(self._chunks(body, assembler, prefill)) as chunks:
                async for chunk in chunks:
                    if told := prefill.feed(chunk):
                        yield told
                    for piece in assembler.feed(chunk):
                        first = first or time.monotonic() - start
                        yield piece
                    if assembler.repeating:
                        break  # leaving the stream stops the server
        except RefusedArgumentsError as error:
            raise self._emptying(error, messages) from error
        total = time.monotonic() - start
        if assembler.repeating:
            yield Notice("the model repeated itself without end; the reply was stopped", "repetition")
        yield self._reply(assembler, first or total, total)

    def _reply(self, assembler: Assembler, first: float, total: float) -> Reply:
        message, usage, timings = assembler.message(self._wire.ids), assembler.tokens(), assembler.timings
        extra: dict[str, Any] = {"timings": timings} if timings else {}
        if assembler.repeating:
            # What repeats may look like calls; none of them was meant.
            finish = "repetition"
            extra["written"] = assembler.written
        else:
            message = self._dialect.read(message, cut=assembler.cut)
            finish = assembler.finish or ("tool_calls" if message.calls else "stop")
            self._pace.learn(usage, timings, first, total)
        speeds = self._pace.speeds
        extra["speeds"] = {"prefill": speeds.prefill, "decode": speeds.decode}
        return Reply(message, finish, usage, first, total, extra)

    def _sendable(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages, without the arguments that the server could not read."""
        return [self._without(message) for message in messages] if self._emptied else messages

    def _without(self, message: Message) -> Message:
        parts = (
            replace(p, args={}) if isinstance(p, Call) and p.id in self._emptied else p for p in message.parts
        )
        return Message(message.role, tuple(parts))

    def _emptying(self, error: RefusedArgumentsError, messages: Sequence[Message]) -> RefusedArgumentsError:
        """The error, retryable when the next request leaves out the arguments that may have caused it.

        All that is sent is a JSON object, so no server should ever say this. One that says it of the newest calls
        would say it at every later turn too.
        """
        newest = next((m.calls for m in reversed(messages) if m.calls), ())
        ids = {call.id for call in newest} - self._emptied
        if not ids:
            return error
        self._emptied |= ids
        return RefusedArgumentsError(
            f"{error}; they are sent as {{}} from now on", error.hint, retryable=True
        )

    async def probe(self) -> ModelInfo:
        """Ask the server for its model and window, in one request where that is enough.

        May run beside another request. Raises ModelError only when nothing answers, or when no model is named and
        the server lists none; an unknown window stays 0. What a server does not say while it loads its model is
        asked again before the next request.
        """
        self._unprobed = False
        try:
            if not self._info.name:
                await self._choose()
            if not self._info.window:
                self._info = replace(self._info, window=await self._window())
        except LoadingError:
            self._unprobed = True
        return self._info

    async def models(self) -> Catalogue:
        """What the server lists. Raises ModelError when it cannot be asked."""
        return catalogue(await self._connection.facts(f"{self._url}/models"))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._connection.aclose()

    async def _choose(self) -> None:
        listed = await self.models()
        if not listed.names:
            raise ModelError(f"{self._url} lists no model", "name one with --model")
        name, notice = listed.names[0], ""
        if len(listed.names) > 1:
            notice = f"no model was named: {name} is used, the first of {len(listed.names)} at {self._url}"
        self._info = ModelInfo(name, self._url, self._info.window or listed.windows.get(name, 0), notice)

    async def _window(self) -> int:
        try:
            if window := props_window(await self._connection.facts(f"{self._endpoint.root}/props")):
                return window
        except (faults.UnreachableError, LoadingError):
            raise
        except ModelError:
            pass  # not llama.cpp
        try:
            return (await self.models()).windows.get(self._info.name, 0)
        except ModelError:
            return 0

    async def _chunks(
        self, body: bytes, assembler: Assembler, prefill: Prefill
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON chunks of a reply. `assembler` and `prefill` have taken each before the next is asked for."""
        url, limits = f"{self._url}/chat/completions", self._endpoint.limits
        deadline, first = Deadline(limits), self._pace.first(len(body))
        # The head of a reply that is not streamed comes with all of it.
        head = first if self._dialect.streamed else Silence(ASK, limits.total, limits.total)
        wait = partial(self._patiently, silence=head, deadline=deadline)
        try:
            async with (
                self._connection.open("POST", url, body=body, seconds=limits.first, wait=wait) as response,
                aclosing(self._data(response, assembler, deadline, first)) as data,
            ):
                async for text in data:
                    grew = prefill.grew
                    yield self._chunk(text)
                    if prefill.grew > grew:
                        deadline.reading()
        except faults.NotFoundError as error:
            raise await self._explained(error) from error
        except ModelError:
            if not assembler.finish:  # what breaks after the last word took nothing with it
                raise

    async def _patiently(
        self, step: Awaitable[T], *, silence: Silence, deadline: Deadline, begun: bool = False
    ) -> T:
        """The step's outcome; a StalledError when it takes too long, whatever the server says of itself."""
        check = partial(look, self._connection, self._endpoint.root)
        try:
            return await patiently(step, silence, deadline.end, check, begun=begun)
        except TimeoutError:
            limit = self._endpoint.limits.total
            said = f"the reply of {self._url} has not ended within {limit:g} s"
        except StalledError as error:
            said = f"{self._url} has sent {error}"
        raise StalledError(said, faults.DOCTOR, retryable=True)

    def _data(
        self, response: httpx.Response, assembler: Assembler, deadline: Deadline, first: Silence
    ) -> AsyncGenerator[str, None]:
        """The JSON texts of a reply, as many as its kind has."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return self._whole(response, assembler, deadline)
        return self._events(response, assembler, deadline, first, kind)

    async def _whole(
        self, response: httpx.Response, assembler: Assembler, deadline: Deadline
    ) -> AsyncGenerator[str, None]:
        """The one text of a reply that is not streamed."""
        seconds = min(self._endpoint.limits.first, deadline.end - time.monotonic())
        body = await read(response, MAX_REPLY, seconds)
        yield body.decode("utf-8", "replace")
        if not (assembler.finish or assembler.begun):
            said = self._connection.quote(body)
            raise ModelError(f"{self._url} sent JSON that is no reply: {said}", faults.DOCTOR)

    async def _events(
        self, response: httpx.Response, assembler: Assembler, deadline: Deadline, first: Silence, kind: str
    ) -> AsyncGenerator[str, None]:
        """The data of each event of a stream, up to `[DONE]`."""
        if kind in PAGES:
            page = self._connection.quote(await read(response, MAX_PAGE, FACTS_DEADLINE, cut=True))
            raise ModelError(f"{self._url} sent a web page, no reply: {page}", "is the base URL right?")
        events, pieces, size, piece = Events(), response.aiter_raw(), 0, b"-"
        while piece:
            silence = self._pace.idle() if assembler.begun else first
            if assembler.finish:
                silence = CLOSING
            piece = await self._patiently(
                anext(pieces, b""), silence=silence, deadline=deadline, begun=assembler.begun
            )
            size += len(piece)
            if size > MAX_REPLY:
                raise ModelError(f"the reply of {self._url} is larger than {MAX_REPLY // 1_000_000} MB")
            try:
                texts = events.feed(piece) if piece else events.close()
            except TooLong:
                raise ModelError(f"{self._url} sent a line of more than {MAX_LINE // 1_000_000} MB") from None
            for text in texts:
                if text == "[DONE]":
                    return
                yield text
        if assembler.finish:
            return
        if kind not in ("text/event-stream", "") and not assembler.begun:
            said = self._connection.quote(kind)
            raise ModelError(f"{self._url} sent {said}, no event stream", faults.DOCTOR)
        said = f"the stream of {self._url} ended in the middle of the reply"
        raise ModelError(said, faults.DOCTOR, retryable=True)

    def _chunk(self, text: str) -> dict[str, Any]:
        try:
            chunk = json.loads(text)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            said = self._connection.quote(text)
            raise ModelError(f"{self._url} sent a line that is no JSON object: {said}", retryable=True)
        if chunk.get("error"):
            raise faults.in_reply(chunk["error"], self._endpoint, self._url)
        return chunk

    async def _explained(self, error: faults.NotFoundError) -> ModelError:
        """A 404 with what the server does have."""
        try:
            names = (await self.models()).names
        except ModelError:
            return ModelError(str(error), f"is the base URL right? {faults.DOCTOR}")
        listed = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
        hint = f"it lists {self._connection.quote(listed)}; name one with --model"
        return ModelError(f"{error} (model {self._info.name!r})", hint if names else "it lists no model")
