"""A chat-completions server for measuring: quick, streaming, and it keeps count of every byte it is sent.

`poolcli.models.scripted` checks the dialect; this one checks nothing and costs next to nothing, can end a client
at its first request, and lives in a thread of the measuring process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: What `GET /props` says the window is, as llama.cpp does: large enough for the longest run here.
WINDOW = 1_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: calls as (tool, arguments), or text in that many pieces."""

    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    text: str = ""
    pieces: int = 1


@dataclass(slots=True)
class Session:
    """One measured run: the replies to give, and what was asked. `stop`: end the client at its first request."""

    replies: Sequence[Reply]
    stop: bool = False
    first: bytes = b""
    #: Bytes of each request without its closing brackets, and how many of them the one before began with.
    sizes: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    _last: bytes = b""
    _pid: int = 0
    _started: threading.Event = field(default_factory=threading.Event)

    def started(self, pid: int) -> None:
        """The client runs under this number."""
        self._pid = pid
        self._started.set()

    def take(self, body: bytes) -> Reply:
        """Count a request; the reply to it."""
        prompt = body.removesuffix(b"]}")
        self.first = self.first or body
        known = len(self._last) if prompt.startswith(self._last) else _common(prompt, self._last)
        self.sizes.append(len(prompt))
        self.known.append(known)
        self._last = prompt
        if self.stop:
            self._started.wait(10)
            os.kill(self._pid, signal.SIGKILL)
        return self.replies[min(len(self.sizes), len(self.replies)) - 1]

    @property
    def reread(self) -> float:
        """Bytes that a prefix cache computes over those it must when every request begins with the one before."""
        computed = sum(self.sizes) - sum(self.known)
        return computed / self.sizes[-1] if self.sizes else 0.0


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with in common."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


class Server:
    """Serves on a free port of the loopback until closed; `session` is the run that is measured now."""

    def __init__(self) -> None:
        self.session = Session([Reply(text="Done.")])
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader:
            try:
                while self._one(client, reader):
                    pass
            except OSError:
                pass  # the client was ended or went away

    def _one(self, client: socket.socket, reader: Any) -> bool:
        request = reader.readline().split()
        headers: dict[bytes, bytes] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if len(request) != 3:
            return False
        body = reader.read(int(headers.get(b"content-length", b"0")))
        if request[0] == b"POST":
            client.sendall(_stream(self.session.take(body), len(self.session.sizes)))
        else:
            known = {
                b"/props": {"default_generation_settings": {"n_ctx": WINDOW}},
                b"/v1/models": {"data": [{"id": "bench"}]},
            }
            answer = json.dumps(known.get(request[1], {})).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(answer) + answer)
        return headers.get(b"connection", b"").lower() != b"close"


def _stream(reply: Reply, number: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return (
        head
        + b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in map(_event, _events(reply, number)))
        + b"0\r\n\r\n"
    )


def _event(data: dict[str, Any] | None) -> bytes:
    return b"data: " + (json.dumps(data, separators=(",", ":")).encode() if data else b"[DONE]") + b"\n\n"


def _events(reply: Reply, number: int) -> list[dict[str, Any] | None]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    if reply.text:
        size = -(-len(reply.text) // reply.pieces)
        deltas += [{"content": reply.text[at : at + size]} for at in range(0, len(reply.text), size)]
    for index, (name, arguments) in enumerate(reply.calls):
        text, id = json.dumps(arguments), f"call{number}x{index}"
        half = len(text) // 2
        start = {
            "index": index,
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": text[:half]},
        }
        deltas += [
            {"tool_calls": [start]},
            {"tool_calls": [{"index": index, "function": {"arguments": text[half:]}}]},
        ]
    chunks: list[dict[str, Any] | None] = [_chunk(delta, None) for delta in deltas]
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    return [
        *chunks,
        _chunk({}, "tool_calls" if reply.calls else "stop"),
        {"choices": [], "usage": usage},
        None,
    ]


def _chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "bench",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}  # fmt: skip
