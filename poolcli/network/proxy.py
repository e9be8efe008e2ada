"""A proxy on a unix socket: lets out what goes to a listed host, at an address that was checked, and nothing else.

One request for each connection. h11 reads it and writes it anew, so what the host gets is what was judged. Names
are resolved here and the checked address itself is dialled: a name cannot mean one address to us and another to the
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
from msgspec import Struct

from poolcli.network import hosts

#: Bytes of a request's head at most; pip's and npm's are below 1 KB.
MAX_HEAD = 16_384
#: Bytes taken from a socket at once.
PIECE = 65_536
#: Seconds for a request's head, for a name, for a connection: a client on this machine, a slow network.
HEAD, RESOLVE, CONNECT = 30.0, 15.0, 15.0
#: Seconds in which a connection may be silent in both directions: a registry that packs a large archive.
IDLE = 120.0
#: Connections at a time; npm opens 15, cargo more.
CONNECTIONS = 128
#: Headers that are between a client and its proxy, or about the connection: not for the host.
_HOP = frozenset(
    b"connection proxy-connection proxy-authorization proxy-authenticate keep-alive te trailer upgrade host "
    b"transfer-encoding content-length expect".split()
)

#: From name and port to addresses. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[hosts.Address]]]


class Decision(Struct, frozen=True):
    """What became of one request; `address` is what was dialled, `why` is '' when it was let out."""

    host: str
    port: int
    allowed: bool
    why: str = ""
    address: str = ""

    def to_json(self) -> dict[str, Any]:
        """The decision as an event holds it."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Traffic(Struct):
    """What went through so far: connections that were let out and refused, bytes to hosts and from them."""

    allowed: int = 0
    refused: int = 0
    sent: int = 0
    received: int = 0


class Refused(Exception):
    """A request that is not let out: a status, and the reason as its phrase (clients show that)."""

    def __init__(self, status: int, why: str, host: str = "", port: int = 0) -> None:
        super().__init__(why)
        self.status, self.why, self.host, self.port = status, why, host, port


class Target(Struct, frozen=True):
    """Where a request wants to go: a normal name or address, and for plain HTTP the path to ask for."""

    host: str
    port: int
    path: str = ""


def target_of(method: str, target: str) -> Target:
    """Read a request's target: `HOST:PORT` of CONNECT, an absolute http URL otherwise. Raises Refused."""
    if not target.isascii() or any(c <= " " or c == "\x7f" for c in target):
        raise Refused(400, "the target holds characters that no target has")
    try:
        if method == "CONNECT":
            name, port = hosts.split(target)
            if port is None:
                raise ValueError("CONNECT needs a port")
            return Target(_host(name), port)
        if not target.lower().startswith("http://"):
            raise ValueError("a proxy is asked for a whole http:// URL, or with CONNECT")
        url = urlsplit(target)
        # The part before the path, taken from the text itself: what a parser makes of it does not count.
        authority = target[len("http://") :].split("/", 1)[0].split("?", 1)[0]
        if authority != url.netloc or "#" in target or "\\" in target:
            raise ValueError("the URL can be read in more than one way")
        name, port = hosts.split(authority)
        path = url.path or "/"
        return Target(_host(name), port or 80, f"{path}?{url.query}" if url.query else path)
    except ValueError as error:
        raise Refused(400, str(error)) from None


def _host(name: str) -> str:
    address = hosts.literal(name)
    return str(address) if address is not None else hosts.normal(name)


async def resolved(host: str, port: int) -> Sequence[hosts.Address]:
    """The addresses behind a name. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in found))


class Proxy:
    """Listens on a unix socket for one run. `on_decision` is told of every request, once."""

    def __init__(
        self,
        rules: Sequence[hosts.Rule],
        on_decision: Callable[[Decision], None] = lambda decision: None,
        *,
        resolve: Resolve = resolved,
        idle: float = IDLE,
    ) -> None:
        self.traffic = Traffic()
        self._rules, self._decided, self._resolve, self._idle = tuple(rules), on_decision, resolve, idle
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        """Listen at `path`, a new socket in a private folder. Raises OSError, also for a path that is too long."""
        # The mode is set before anybody can connect: a socket that is bound does not listen yet.
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            # 108 bytes are all that a socket's name may have; through its folder's descriptor it is short.
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                listener.bind(f"/proc/self/fd/{folder}/{path.name}" if sys.platform == "linux" else str(path))
            finally:
                os.close(folder)
            path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=MAX_HEAD)
        except BaseException:
            listener.close()
            raise
        self._path = path

    async def close(self) -> None:
        """Stop: connections end at once, the socket is removed. More than once is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(tuple(self._open), timeout=1.0)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) > CONNECTIONS:
                raise Refused(503, "too many connections at a time")
            await self._serve(reader, writer)
        except Refused as refused:
            self.traffic.refused += 1
            self._tell(Decision(refused.host, refused.port, False, refused.why))
            await _answer(writer, refused)
        except (OSError, TimeoutError, asyncio.CancelledError, h11.ProtocolError):
            pass  # it broke, was silent for too long, or pool ends
        finally:
            self._open.discard(task)
            writer.transport.abort() if writer.is_closing() else writer.close()

    def _tell(self, decision: Decision) -> None:
        # A log that cannot be written ends the run at its next event; here it would only leave a client waiting.
        with contextlib.suppress(Exception):
            self._decided(decision)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            async with asyncio.timeout(HEAD):
                request = await _head(client, reader)
        except TimeoutError:
            raise Refused(408, "no request came") from None
        except h11.RemoteProtocolError as error:
            raise Refused(400, f"this is no request: {error}") from None
        target = target_of(request.method.decode("ascii"), request.target.decode("latin-1"))
        far_reader, far_writer, address = await self._dial(target)
        self.traffic.allowed += 1
        self._tell(Decision(target.host, target.port, True, address=address))
        try:
            if request.method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                early, _ = client.trailing_data
                far_writer.write(early)
                self.traffic.sent += len(early)
                await self._both(reader, writer, far_reader, far_writer)
            else:
                await self._forward(client, request, target, reader, writer, far_reader, far_writer)
        finally:
            far_writer.transport.abort()

    async def _dial(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """A connection to the target, at the address that was checked. Raises Refused."""
        host, port = target.host, target.port

        def refuse(status: int, why: str) -> Refused:
            return Refused(status, why, host, port)

        if not any(rule.fits(host, port) for rule in self._rules):
            raise refuse(403, f"pool does not allow {_shown(host, port)} (see --allow-net)")
        address = hosts.literal(host if ":" not in host else f"[{host}]")
        try:
            addresses = [address] if address else await asyncio.wait_for(self._resolve(host, port), RESOLVE)
        except (OSError, TimeoutError):
            raise refuse(502, f"the name {host} is not known") from None
        good = [a for a in addresses if hosts.may_dial(self._rules, a, port)]
        if not good:
            first = _shown(str(addresses[0]), port) if addresses else "nowhere"
            raise refuse(
                403, f"{host} leads to {first}, which is not public (list that address and port as well)"
            )
        for address in good:
            with contextlib.suppress(OSError, TimeoutError):
                link = await asyncio.wait_for(
                    asyncio.open_connection(str(address), port, limit=PIECE), CONNECT
                )
                return (*link, str(address))
        raise refuse(502, f"{_shown(host, port)} does not answer")

    async def _forward(
        self,
        client: h11.Connection,
        request: h11.Request,
        target: Target,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """One plain request, written anew, and its reply as it comes until the host closes."""
        far = h11.Connection(h11.CLIENT)
        head = [(b"host", _authority(target)), (b"connection", b"close")]
        named = {
            token.strip().lower()
            for name, value in request.headers
            if name == b"connection"
            for token in value.split(b",")
        }
        head += [(n, v) for n, v in request.headers if n not in _HOP and n not in named]
        # With both, chunks count and a length would tell the host another end of the body.
        framing = [(n, v) for n, v in request.headers if n in (b"content-length", b"transfer-encoding")]
        chunked = [item for item in framing if item[0] == b"transfer-encoding"]
        head += chunked or framing
        start = h11.Request(method=request.method, target=target.path.encode("ascii"), headers=head)

        async def up() -> None:
            await self._up(far_writer, far.send(start))
            while True:
                event = client.next_event()
                if event is h11.NEED_DATA:
                    client.receive_data(await reader.read(PIECE))
                elif isinstance(event, h11.Data):
                    await self._up(far_writer, far.send(h11.Data(data=bytes(event.data))))
                elif isinstance(event, h11.EndOfMessage):
                    await self._up(far_writer, far.send(h11.EndOfMessage()))
                    return
                else:  # the client has gone
                    raise ConnectionResetError

        sending = asyncio.ensure_future(up())
        try:
            await self._pump(far_reader, writer, "received")
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending

    async def _up(self, writer: asyncio.StreamWriter, data: bytes | None) -> None:
        if data:
            self.traffic.sent += len(data)
            writer.write(data)
            await asyncio.wait_for(writer.drain(), self._idle)

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Carry bytes both ways until both sides have ended, or neither says anything for too long."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, far_writer, "sent"))
            tasks.create_task(self._pump(far_reader, writer, "received"))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while True:
            before = self.traffic.sent + self.traffic.received
            try:
                data = await asyncio.wait_for(reader.read(PIECE), self._idle)
            except TimeoutError:
                # One direction of a download is silent all the time: only both together are a dead connection.
                if self.traffic.sent + self.traffic.received == before:
                    writer.transport.abort()
                    return
                continue
            except OSError:
                data = b""
            if not data:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                return
            setattr(self.traffic, way, getattr(self.traffic, way) + len(data))
            try:
                writer.write(data)
                await asyncio.wait_for(writer.drain(), self._idle)
            except (OSError, TimeoutError):
                writer.transport.abort()
                return


async def _head(client: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    while True:
        event = client.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise ConnectionResetError
        client.receive_data(await reader.read(MAX_HEAD))


async def _answer(writer: asyncio.StreamWriter, refused: Refused) -> None:
    # In the status line, because that is all that pip, npm and curl show of a proxy's answer.
    why = refused.why.encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")[:300]
    body = b"pool: " + why + b"\n"
    head = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(head % (refused.status, why, len(body)) + body)
        await asyncio.wait_for(writer.drain(), 1.0)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _authority(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return (host if target.port == 80 else f"{host}:{target.port}").encode("ascii")
