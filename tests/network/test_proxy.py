"""The proxy over real sockets. Each refusal has its control: the same request, allowed, gets through."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.network import hosts
from poolcli.network.proxy import Decision, Proxy, Refused, target_of


class Host:
    """A server on loopback that keeps what it is sent; answers an HTTP request, and echoes anything else."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Host:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if b"content-length: " in data.lower() and not data.endswith(b"abc"):
                    data += await reader.readuntil(b"abc")
                self.got.append(data)
                if data.startswith((b"GET", b"POST")):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                else:
                    writer.write(data)
                if b"connection: close" in data.lower():
                    break
        writer.close()


@contextlib.asynccontextmanager
async def proxy(
    tmp_path: Path,
    *entries: str,
    names: dict[str, list[str]] | None = None,
    idle: float = 5.0,
) -> AsyncIterator[tuple[Path, list[Decision], Proxy]]:
    """A proxy for these hosts; `names` is what the resolver knows."""

    async def resolve(host: str, port: int) -> Sequence[hosts.Address]:
        if host not in (names or {}):
            raise OSError("unknown")
        return [ipaddress.ip_address(a) for a in (names or {})[host]]

    decided: list[Decision] = []
    it = Proxy(hosts.allowed(entries), decided.append, resolve=resolve, idle=idle)
    path = tmp_path / "proxy"
    await it.start(path)
    try:
        yield path, decided, it
    finally:
        await it.close()


async def ask(path: Path, data: bytes, *, more: bytes = b"", until_eof: bool = True) -> bytes:
    """Send bytes to the proxy; what comes back until it closes (or the first piece)."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        if more:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(more)
        with contextlib.suppress(OSError):
            if until_eof:
                writer.write_eof() if more else None
                return await asyncio.wait_for(reader.read(-1), 10)
            return await asyncio.wait_for(reader.read(65536), 10)
        return b""
    finally:
        writer.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def test_a_tunnel_to_a_listed_host(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, decided, it):
            got = await ask(
                path, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % host.port, more=b"\x16\x03 hi"
            )
            assert got == b"\x16\x03 hi" and host.got == [b"\x16\x03 hi"]
            assert decided == [Decision("127.0.0.1", host.port, True, address="127.0.0.1")]
            assert it.traffic.allowed == 1 and it.traffic.sent == it.traffic.received == 5
            assert path.stat().st_mode & 0o777 == 0o600
        assert not path.exists()

    run(test)


def test_bytes_that_come_with_the_request_are_not_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % host.port)
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"early"
            writer.close()

    run(test)


def test_plain_http_is_written_anew(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
            url = b"http://127.0.0.1:%d/a?b=c" % host.port
            got = await ask(
                path,
                b"POST " + url + b" HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: Basic eA==\r\n"
                b"Connection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nContent-Length: 3\r\n\r\nabc"
                b"GET http://second.example/ HTTP/1.1\r\nHost: second.example\r\n\r\n",
            )
            assert got.endswith(b"hello")
            sent = b"".join(host.got).lower()
            assert sent.startswith(b"post /a?b=c http/1.1\r\n") and sent.endswith(b"\r\n\r\nabc")
            assert b"host: 127.0.0.1:%d" % host.port in sent and b"x-kept: 2" in sent
            for gone in (b"other.example", b"proxy-", b"x-hop", b"second"):
                assert gone not in sent

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT [::1]:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT localhost:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT 2130706433:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT 0x7f.1:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT good.example\0.evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT good.example%00.evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT good.example HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT u@good.example:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "GET http://good.example@127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "GET http://127.0.0.1:{port}\\@good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}#@good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET https://good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET gopher://good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "GET http://private.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT private.example:{port} HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT metadata.example:80 HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "GET  http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "\x05\x01\x00",
    ],
)
def test_what_is_refused(tmp_path: Path, request_: str) -> None:
    """The server is there and would answer; the control below reaches it by an allowed name."""

    async def test() -> None:
        async with Host() as host:
            names = {
                "good.example": ["127.0.0.1"],
                "private.example": ["127.0.0.1"],
                "metadata.example": ["169.254.169.254"],
            }
            entries = ["good.example:1", f"private.example:{host.port}", "metadata.example"]
            async with proxy(tmp_path, *entries, names=names) as (path, decided, it):
                data = request_.format(port=host.port).encode("latin-1")
                got = await ask(path, data + (b"" if b"\r\n\r\n" in data else b"\r\n\r\n"))
                assert got.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")) or not got
                assert host.accepted == 0 and it.traffic.allowed == 0
                assert [d.allowed for d in decided] in ([False], [])
                assert not decided or decided[0].why

    run(test)


def test_the_control_an_address_that_is_listed_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host:
            entries = [f"private.example:{host.port}", f"127.0.0.1:{host.port}"]
            async with proxy(tmp_path, *entries, names={"private.example": ["127.0.0.1"]}) as (
                path,
                decided,
                _,
            ):
                got = await ask(
                    path, b"GET http://private.example:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % host.port
                )
                assert got.endswith(b"hello") and decided[0].address == "127.0.0.1"

    run(test)


def test_the_address_that_was_checked_is_dialled(tmp_path: Path) -> None:
    """A name with a bad address among its addresses, in any order, reaches only the others."""

    async def test() -> None:
        async with Host() as host:
            names = {"two.example": ["10.255.255.1", "127.0.0.1"]}
            entries = [f"two.example:{host.port}", f"127.0.0.1:{host.port}"]
            async with proxy(tmp_path, *entries, names=names) as (path, decided, _):
                await ask(path, b"GET http://two.example:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % host.port)
                assert decided == [Decision("two.example", host.port, True, address="127.0.0.1")]

    run(test)


def test_a_redirect_is_the_clients_next_request_and_is_judged(tmp_path: Path) -> None:
    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % there.port
        )
        writer.close()

    async def test() -> None:
        nonlocal there
        async with Host() as there:
            server = await asyncio.start_server(redirecting, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            for also, reached in ((), 0), ((f"127.0.0.1:{there.port}",), 1):
                async with proxy(tmp_path, f"127.0.0.1:{port}", *also) as (path, _, _):
                    for at in (port, there.port):
                        await ask(path, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % at)
                assert there.accepted == reached
            server.close()

    there = Host()
    run(test)


def test_heads_are_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
            for size, begins in ((1_000, b"HTTP/1.1 200"), (100_000, b"HTTP/1.1 4")):
                head = (
                    b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nX: " % host.port
                    + b"x" * size
                    + b"\r\n\r\n"
                )
                assert (await ask(path, head)).startswith(begins)

    run(test)


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 3\r\nContent-Length: 5\r\n",
        "Content-Length: +3\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X: a\r\n b: c\r\n\x00: d\r\n",
        "X\t: a\r\n",
    ],
)
def test_a_body_that_could_be_read_in_two_ways(tmp_path: Path, head: str) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
            begin = f"POST http://127.0.0.1:{host.port}/ HTTP/1.1\r\nHost: x\r\n"
            got = await ask(path, (begin + head + "\r\nabcGET / HTTP/1.1\r\n\r\n").encode("latin-1"))
            assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")) and host.accepted == 0
            good = await ask(path, (begin + "Content-Length: 3\r\n\r\nabc").encode())
            assert good.endswith(b"hello")

    run(test)


def test_both_lengths_are_made_one(tmp_path: Path) -> None:
    """A length and chunks: the host gets chunks only, so it can't take the rest for another request."""

    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
            begin = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" % host.port
            await ask(path, begin + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n")
            sent = b"".join(host.got).lower()
            assert b"evil" not in sent and b"content-length" not in sent

    run(test)


def test_a_connection_that_is_silent_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host, proxy(tmp_path, f"127.0.0.1:{host.port}", idle=0.2) as (path, _, _):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % host.port)
            await reader.readuntil(b"\r\n\r\n")
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()

    run(test)


def test_closing_ends_open_connections(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host() as host:
            async with proxy(tmp_path, f"127.0.0.1:{host.port}") as (path, _, _):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % host.port)
                await reader.readuntil(b"\r\n\r\n")
            with contextlib.suppress(OSError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    run(test)


def test_a_socket_deep_in_the_file_system(tmp_path: Path) -> None:
    async def test() -> None:
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        async with proxy(deep) as (path, _, _):
            assert path.is_socket()

    run(test)


def test_a_real_resolver(tmp_path: Path) -> None:
    """localhost leads to loopback, which is not public; with its address listed it is reached."""

    async def test() -> None:
        async with Host() as host:
            for more, reached in ((), 0), ((f"127.0.0.1:{host.port}",), 1):
                decided: list[Decision] = []
                it = Proxy(hosts.allowed([f"localhost:{host.port}", *more]), decided.append)
                await it.start(tmp_path / "p")
                await ask(tmp_path / "p", b"GET http://localhost:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % host.port)
                await it.close()
                assert host.accepted == reached and decided[0].allowed is bool(reached)

    run(test)


URLISH = st.text(alphabet="abz.:/@#?\\%[]0129-_ \0\té", max_size=24)


@given(URLISH, st.sampled_from(["http://", "HTTP://", "http:/", "", "https://"]))
def test_a_target_means_one_host_or_is_refused(text: str, scheme: str) -> None:
    try:
        target = target_of("GET", scheme + text)
    except Refused:
        return
    assert scheme.lower() == "http://"
    # Whatever reads the URL, it finds the same host.
    from urllib.parse import urlsplit

    import httpx

    url = urlsplit(scheme + text)
    assert url.username is None and (url.hostname or "").removesuffix(".") == target.host
    assert (url.port or 80) == target.port and target.path.startswith("/")
    assert httpx.URL(scheme + text).host.removesuffix(".") == target.host


@given(URLISH)
def test_a_tunnels_target(text: str) -> None:
    try:
        target = target_of("CONNECT", text)
    except Refused:
        return
    host, _, port = text.rpartition(":")
    assert (
        int(port) == target.port and host.strip("[]").rstrip(".").lower() == target.host.lower()
    ) or "[" in host
