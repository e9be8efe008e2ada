"""Requests to one endpoint: opened, bounded in bytes and seconds, their failures worded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from poolcli.errors import ConfigError, ModelError
from poolcli.models import faults
from poolcli.models.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
#: Waits for the head of a reply in its own way.
Wait = Callable[[Awaitable["httpx.Response"]], Awaitable["httpx.Response"]]

#: Bytes of a list of models or of a server's properties (these hold a chat template).
MAX_FACTS = 2_000_000
#: Seconds for such small questions.
FACTS_DEADLINE = 5.0


class Connection:
    """What an endpoint is asked through. Loads the HTTP library at the first request, not before."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def open(
        self, method: str, url: str, *, body: bytes = b"", seconds: float, wait: Wait | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A reply with a good status, its body still to be read. `seconds` is for the head, unless `wait` is given,
        which then waits for it.

        Raises ModelError, also for a connection that breaks while the body is read.
        """
        client = self._opened()
        import httpx  # after `_opened`, which knows the cheap way to load it

        headers = {"Content-Type": "application/json"} if body else {}
        try:
            request = client.build_request(method, url, content=body or None, headers=headers)
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(f"the base URL {self.endpoint.base_url!r} is not a URL: {error}") from error
        response: httpx.Response | None = None
        try:
            sent = client.send(request, stream=True)
            late = f"{url} has not answered within {seconds:g} s"
            response = await (wait(sent) if wait else within(sent, seconds, late))
            await self._check(response)
            yield response
        except httpx.HTTPError as error:
            raise faults.network(error, url) from error
        finally:
            if response is not None:
                await response.aclose()

    async def facts(self, url: str) -> object:
        """The JSON that the server answers a small question with. Raises ModelError."""
        async with self.open("GET", url, seconds=FACTS_DEADLINE) as response:
            body = await read(response, MAX_FACTS, FACTS_DEADLINE)
        try:
            answer: object = json.loads(body)
        except (ValueError, RecursionError):
            raise ModelError(f"{url} did not answer with JSON: {self.quote(body)}", faults.DOCTOR) from None
        return answer

    def quote(self, body: bytes | str) -> str:
        """A server's words, fit to be repeated in a message."""
        text = body if isinstance(body, str) else body[: 4 * faults.MAX_QUOTE].decode("utf-8", "replace")
        return faults.quote(text, self.endpoint.api_key.strip())

    async def aclose(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            from poolcli.models.transport import client

            endpoint = self.endpoint
            headers = endpoint.request_headers()
            self._client = client(headers, connect=endpoint.limits.connect, proxy=endpoint.proxy)
        return self._client

    async def _check(self, response: httpx.Response) -> None:
        """Raise for a status that is no reply, and for a body that we would have to unpack."""
        url, status = str(response.request.url), response.status_code
        if 300 <= status < 400:
            target = self.quote(response.headers.get("location", "")) or "nowhere"
            raise ModelError(
                f"{url} redirects to {target} ({status}); pool follows no redirect with your code and key",
                "if that is the right place, make it the base URL",
            )
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            # Never unpacked: a megabyte can hold a gigabyte.
            raise ModelError(f"{url} packs its replies though it was asked not to", faults.DOCTOR)
        if status < 400:
            return
        said: str = ""
        details: Mapping[str, Any] = {}
        try:
            body = await read(response, faults.MAX_ERROR_BODY, FACTS_DEADLINE, cut=True)
            said, details = faults.explanation(body)
            said = said or body.decode("utf-8", "replace")
        except ModelError:
            pass  # a status without its reason is still the status
        wait = faults.retry_after(response.headers.get("retry-after", ""))
        raise faults.refusal(status, said, details, self.endpoint, url, wait)


async def within(step: Awaitable[T], seconds: float, what: str) -> T:
    """The step's outcome; without one in `seconds`, a retryable ModelError that says `what`."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            return await step
    except TimeoutError:
        raise ModelError(what, faults.DOCTOR, retryable=True) from None


async def read(response: httpx.Response, limit: int, seconds: float, *, cut: bool = False) -> bytes:
    """The whole body. More than `limit` bytes are a ModelError, or left out with `cut`."""
    body = bytearray()

    async def collect() -> None:
        async for piece in response.aiter_raw():
            body.extend(piece)
            if len(body) > limit:
                return

    url = response.request.url
    await within(collect(), seconds, f"{url} has not ended its reply within {seconds:g} s")
    if len(body) > limit and not cut:
        raise ModelError(f"the reply of {url} is larger than {limit // 1_000_000} MB")
    return bytes(body[:limit])
