"""An HTTP server for large files that fails as told, and plays a hub of models. Threads and real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Served:
    """One file, and how it is served."""

    content: bytes
    etag: str = '"one"'
    modified: str = ""
    #: Whether Range is understood, and whether the length is said.
    ranges: bool = True
    length: bool = True
    #: For each request in turn: after how many bytes of the body the connection is cut; none when used up.
    cuts: list[int] = field(default_factory=list)
    #: For each request in turn: a status with headers instead of the file; none when used up.
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: Sent with every reply.
    headers: dict[str, str] = field(default_factory=dict)
    #: Set by a test: the body stops after `cuts` bytes until this is set, and the connection stays open.
    hold: threading.Event | None = None


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]


class FileServer:
    """Serves `files` by path; `asked` is what came so far."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.json: dict[str, tuple[int, object, dict[str, str]]] = {}
        self.asked: list[Asked] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of(self, path: str, *, bodies: bool = False) -> list[Asked]:
        """Requests for a path; `bodies` leaves out the ones that only wanted to know the length."""
        return [
            asked
            for asked in self.asked
            if asked.path.split("?")[0] == path and not (bodies and asked.headers.get("range") == "bytes=0-0")
        ]

    def hub(
        self, repository: str, files: dict[str, bytes], *, licence: str = "apache-2.0", **wrong: str
    ) -> str:
        """Play a hub that holds a repository; returns its commit. `wrong` are checksums to lie about, by path."""
        commit = hashlib.sha1(repository.encode()).hexdigest()
        siblings = []
        for name, content in files.items():
            digest = wrong.get(name) or hashlib.sha256(content).hexdigest()
            siblings.append(
                {
                    "rfilename": name,
                    "size": len(content),
                    "blobId": "0" * 40,
                    "lfs": {"sha256": digest, "size": len(content), "pointerSize": 134},
                }
            )
            self.files[f"/cdn/{digest}"] = Served(content, etag=f'"{digest}"')
            linked = {
                "Location": f"/cdn/{digest}?signature=secret",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
            }
            for revision in (commit, "main"):
                self.json[f"/{repository}/resolve/{revision}/{name}"] = (302, {}, linked)
        about = {
            "_id": "1",
            "id": repository,
            "modelId": repository,
            "sha": commit,
            "private": False,
            "gated": False,
            "tags": [f"license:{licence}"],
            "cardData": {"license": licence} if licence else {},
            "siblings": siblings,
        }
        for path in (
            f"/api/models/{repository}",
            *(f"/api/models/{repository}/revision/{r}" for r in ("main", commit)),
        ):
            self.json[path] = (200, about, {})
        return commit

    def _answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in to.headers.items()}
        self.asked.append(Asked(to.command, to.path, headers))
        path = to.path.split("?")[0]
        if path in self.json:
            status, body, more = self.json[path]
            data = json.dumps(body).encode()
            _head(to, status, {**more, "Content-Type": "application/json", "Content-Length": str(len(data))})
            to.wfile.write(data)
        elif path in self.files:
            self._file(to, self.files[path], headers)
        else:
            # What the hub says of a repository that it does not have.
            _head(to, 404, {"Content-Length": "0", "X-Error-Code": "RepoNotFound"})

    def _file(self, to: http.server.BaseHTTPRequestHandler, file: Served, headers: dict[str, str]) -> None:
        if file.refusals:
            status, more = file.refusals.pop(0)
            _head(to, status, {**more, "Content-Length": "0"})
            return
        more = {**file.headers, **({"ETag": file.etag} if file.etag else {})}
        if file.modified:
            more["Last-Modified"] = file.modified
        start, end, status = 0, len(file.content), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        condition = headers.get("if-range")
        if asked and file.ranges and condition in (None, file.etag, file.modified):
            start, end = int(asked[1]), min(int(asked[2] or end) + 1 if asked[2] else end, end)
            if start >= len(file.content):
                _head(
                    to, 416, {**more, "Content-Range": f"bytes */{len(file.content)}", "Content-Length": "0"}
                )
                return
            status = 206
            more["Content-Range"] = f"bytes {start}-{end - 1}/{len(file.content)}"
        body = file.content[start:end]
        if file.length:
            more["Content-Length"] = str(len(body))
        else:
            more["Connection"] = "close"
            to.close_connection = True
        # Taken before the head is sent: the client may go, and the test on, while this thread still writes.
        cut = file.cuts.pop(0) if file.cuts and headers.get("range") != "bytes=0-0" else None
        _head(to, status, more)
        if cut is None:
            to.wfile.write(body)
            return
        to.wfile.write(body[:cut])
        to.wfile.flush()
        if file.hold is not None:
            file.hold.wait(60)
        to.close_connection = True
        with contextlib.suppress(OSError):
            to.connection.shutdown(socket.SHUT_RDWR)


def _head(to: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server for the time of a test."""
    server = FileServer()
    try:
        yield server
    finally:
        server.close()
