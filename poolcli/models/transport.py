"""HTTP/1.1 for httpx over asyncio streams and h11; one connection per request.

httpx's own transport brings httpcore and anyio with it: 40 ms of CPU more at the start of every command (118
instead of 160 up to the first reply) and 0.4 ms more for each request. What it would give, a pool of kept
connections, is worth little beside an inference, and servers close idle ones after seconds while our turns
are minutes apart. httpx checks, builds and types everything as always; a proxy, when one is configured, still
goes through httpx's transport.

This module is imported at the first request, never at start-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from collections.abc import AsyncIterator

# httpx's package imports its own command line, and with it rich, click and pygments wherever they are
# installed, as they are here: 154 ms of CPU instead of 96. An entry of None makes that one import fail, which
# httpx expects and handles.
_NO_CLI = "httpx._main" not in sys.modules
if _NO_CLI:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
import h11  # noqa: E402
import httpx  # noqa: E402

if _NO_CLI:
    del sys.modules["httpx._main"]

#: Bytes taken from the socket at once.
READ = 65_536
#: The longest head of a reply in bytes; h11 refuses a longer one.
MAX_HEAD = 65_536
#: Informational replies (100, 103) before the real one; more is a flood.
MAX_INFORMATIONAL = 10


def tls_context() -> ssl.SSLContext:
    """Full verification against the system's certificates, and certifi's where the user named no file."""
    context = ssl.create_default_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def client(headers: dict[str, str], *, connect: float, proxy: str = "") -> httpx.AsyncClient:
    """A client that follows no redirect, keeps no cookie and takes nothing from the environment.

    Only connecting has a deadline here (`connect`, seconds); the caller knows how long a reply may take.
    """
    transport: httpx.AsyncBaseTransport
    # `trust_env` would read proxy variables and .netrc: loopback traffic led elsewhere, other keys.
    if proxy:
        transport = httpx.AsyncHTTPTransport(proxy=proxy, verify=tls_context(), trust_env=False)
    else:
        transport = Transport()
    return httpx.AsyncClient(
        transport=transport,
        headers={"Accept-Encoding": "identity", "Connection": "close", **headers},
        timeout=httpx.Timeout(None, connect=connect),
        follow_redirects=False,
        trust_env=False,
    )


class Transport(httpx.AsyncBaseTransport):
    """Sends one request over one new connection. Errors are httpx's own."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The reply, its head read and its body still to come."""
        link = await _connect(request)
        try:
            await link.send(request)
            head = await link.head()
        except BaseException:
            link.close()
            raise
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=_Body(link))


async def _connect(request: httpx.Request) -> _Link:
    url, limit = request.url, request.extensions["timeout"]["connect"]
    context = tls_context() if url.scheme == "https" else None
    port = url.port or (443 if context else 80)
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(url.host, port, ssl=context)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"no connection within {limit:g} s", request=request) from error
    except OSError as error:  # refused, unknown host, untrusted certificate
        raise httpx.ConnectError(_why(error), request=request) from error
    return _Link(reader, writer)


def _why(error: OSError) -> str:
    """Why there is no connection: the system's words, for asyncio's own are for programmers."""
    if isinstance(error, ssl.SSLError) or not error.errno:
        return str(error)
    # A name that was not found has a negative number.
    return (os.strerror(error.errno) if error.errno > 0 else str(error.strerror)).lower()


class _Link:
    """One connection for one request and its reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._ended = False

    async def send(self, request: httpx.Request) -> None:
        url = request.url
        try:
            start = h11.Request(method=request.method, target=url.raw_path, headers=request.headers.raw)
            parts = [self._http.send(start), self._http.send(h11.Data(data=request.content))]
        except h11.LocalProtocolError:  # its words repeat the header, which may be the key
            raise httpx.LocalProtocolError("a header or the URL cannot be sent") from None
        self._writer.write(b"".join(part for part in parts if part))
        self._http.send(h11.EndOfMessage())
        with contextlib.suppress(OSError):  # a server may refuse before it has read all; its reply says why
            await self._writer.drain()

    async def head(self) -> h11.Response:
        """The head of the reply, when those of informational ones have gone by."""
        heads = 0
        while heads < MAX_INFORMATIONAL:
            event = self._parsed()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                await self._more()
            else:
                heads += 1
        raise httpx.RemoteProtocolError("the reply has no head")

    async def data(self) -> bytes:
        """All of the body that has come, or else what comes next; b'' at the end."""
        pieces: list[bytes] = []
        while not self._ended:
            event = self._parsed()
            if isinstance(event, h11.Data):
                pieces.append(event.data)
            elif event is not h11.NEED_DATA:
                self._ended = True
            elif pieces:
                break
            else:
                await self._more()
        return b"".join(pieces)

    def _parsed(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error

    async def _more(self) -> None:
        try:
            data = await self._reader.read(READ)
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        self._http.receive_data(data)

    def close(self) -> None:
        # Not a polite close: a reply that nobody reads must stop the server's work at once.
        self._writer.transport.abort()


class _Body(httpx.AsyncByteStream):
    def __init__(self, link: _Link) -> None:
        self._link = link

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._link.data():
            yield data

    async def aclose(self) -> None:
        self._link.close()
