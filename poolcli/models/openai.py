"""A model behind any OpenAI-compatible `/v1/chat/completions`: llama.cpp, vLLM, Ollama and the like."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.messages import Message
from poolcli.models import faults
from poolcli.models.base import ModelInfo, Notice, Piece, Reply
from poolcli.models.connection import FACTS_DEADLINE, Connection, read, within
from poolcli.models.dialects.base import Dialect
from poolcli.models.dialects.native import Native
from poolcli.models.discovery import Catalogue, catalogue, props_window
from poolcli.models.endpoint import Endpoint, Limits
from poolcli.models.faults import ContextExceededError
from poolcli.models.reply import Assembler
from poolcli.models.sse import MAX_LINE, Events, TooLong
from poolcli.models.wire import Wire

if TYPE_CHECKING:
    import httpx

__all__ = ["ContextExceededError", "Endpoint", "Limits", "OpenAIModel"]

#: Bytes of a whole streamed reply. A token costs about 300 bytes as an event, so this is 200,000 tokens.
MAX_REPLY = 64_000_000
#: Seconds that a stream may still take to end once the server has said why the model stopped.
CLOSING_DEADLINE = 5.0
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
        self._dialect: Dialect = dialect or Native(tools)
        streaming = {"stream": True, "stream_options": {"include_usage": True}}
        kind = streaming if self._dialect.streamed else {"stream": False}
        constants = {**kind, **endpoint.extra_body, **self._dialect.constants()}
        self._endpoint = endpoint
        self._url = endpoint.url
        self._wire = Wire(constants, self._dialect.render)
        self._info = ModelInfo(endpoint.model, self._url, endpoint.window)
        self._connection = Connection(endpoint)

    @property
    def info(self) -> ModelInfo:
        """Which model and where; `probe` or the first request fill in what was not configured."""
        return self._info

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncGenerator[Piece | Notice | Reply, None]:
        """See `Model.stream`. Raises ContextExceededError, a ModelError, when the messages do not fit."""
        if not self._info.name:
            await self._choose()
        body = self._wire.body(self._info.name, messages, max_tokens=max_tokens)
        start, first = time.monotonic(), 0.0
        assembler = Assembler()
        async with aclosing(self._chunks(body, assembler)) as chunks:
            async for chunk in chunks:
                for piece in assembler.feed(chunk):
                    first = first or time.monotonic() - start
                    yield piece
        message = self._dialect.read(assembler.message(self._wire.ids))
        total = time.monotonic() - start
        finish = assembler.finish or ("tool_calls" if message.calls else "stop")
        extra = {"timings": assembler.timings} if assembler.timings else {}
        yield Reply(message, finish, assembler.tokens(), first or total, total, extra)

    async def probe(self) -> ModelInfo:
        """Ask the server for its model and window, in one request where that is enough.

        May run beside another request. Raises ModelError only when no model is named and the server lists
        none; an unknown window stays 0.
        """
        if not self._info.name:
            await self._choose()
        if not self._info.window:
            self._info = replace(self._info, window=await self._window())
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
        except faults.UnreachableError:
            raise
        except ModelError:
            pass  # not llama.cpp
        try:
            return (await self.models()).windows.get(self._info.name, 0)
        except ModelError:
            return 0

    async def _chunks(self, body: bytes, assembler: Assembler) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON chunks of a reply. `assembler` has taken each one before the next is asked for."""
        limits = self._endpoint.limits
        url, end = f"{self._url}/chat/completions", time.monotonic() + limits.total
        head = min(limits.first, limits.total)
        try:
            async with (
                self._connection.open("POST", url, body=body, seconds=head) as response,
                aclosing(self._data(response, assembler, end)) as data,
            ):
                async for text in data:
                    yield self._chunk(text)
        except faults.NotFoundError as error:
            raise await self._explained(error) from error
        except ModelError:
            if not assembler.finish:  # what breaks after the last word took nothing with it
                raise

    def _data(self, response: httpx.Response, assembler: Assembler, end: float) -> AsyncGenerator[str, None]:
        """The JSON texts of a reply, as many as its kind has."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return self._whole(response, assembler, end)
        return self._events(response, assembler, end, kind)

    async def _whole(
        self, response: httpx.Response, assembler: Assembler, end: float
    ) -> AsyncGenerator[str, None]:
        """The one text of a reply that is not streamed."""
        body = await read(response, MAX_REPLY, min(self._endpoint.limits.first, end - time.monotonic()))
        yield body.decode("utf-8", "replace")
        if not (assembler.finish or assembler.begun):
            said = self._connection.quote(body)
            raise ModelError(f"{self._url} sent JSON that is no reply: {said}", faults.DOCTOR)

    async def _events(
        self, response: httpx.Response, assembler: Assembler, end: float, kind: str
    ) -> AsyncGenerator[str, None]:
        """The data of each event of a stream, up to `[DONE]`."""
        if kind in PAGES:
            page = self._connection.quote(await read(response, MAX_PAGE, FACTS_DEADLINE, cut=True))
            raise ModelError(f"{self._url} sent a web page, no reply: {page}", "is the base URL right?")
        events, pieces, size, piece = Events(), response.aiter_raw(), 0, b"-"
        while piece:
            piece = await self._piece(pieces, assembler, end)
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

    async def _piece(self, pieces: AsyncIterator[bytes], assembler: Assembler, end: float) -> bytes:
        """The next bytes, b'' at the end."""
        limits, left = self._endpoint.limits, end - time.monotonic()
        wait = limits.idle if assembler.begun else limits.first
        if assembler.finish:
            wait = CLOSING_DEADLINE
        what = f"{self._url} has sent nothing for {wait:g} s"
        if left < wait:
            what = f"the reply of {self._url} has not ended within {limits.total:g} s"
        return await within(anext(pieces, b""), min(wait, left), what)

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
