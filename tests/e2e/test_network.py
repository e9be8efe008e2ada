"""A whole run: no network, unless a host is named; then that host alone, and every request is in the log."""

from __future__ import annotations

import http.server
import shutil
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import FIX, Pool, call, reply

FETCH = (
    "import sys,urllib.request as u\\n"
    "try: print('got', u.urlopen(sys.argv[1], timeout=10).read())\\n"
    "except OSError as e: print('none', e)"
)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server of this machine, at an address that programs ask through a proxy; what it was asked for."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None: ...

    it = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    threading.Thread(target=it.serve_forever, daemon=True).start()
    yield f"127.0.0.2:{it.server_port}", asked
    it.shutdown()
    it.server_close()


def fetch(pool: Pool, url: str, *flags: str) -> str:
    """What a command of a run got from a URL."""
    command = f"{sys.base_prefix}/bin/python3 -c \"exec('''{FETCH}''')\" {url}"
    replies = (reply("", call("shell", command=command), call("edit", **FIX)), reply("Done."))
    done = pool.do("Fix add", "--sandbox", "bubblewrap", *flags, replies=replies)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(e["data"]["text"] for e in pool.events() if e["type"] == "tool.done")


def test_only_the_named_host_is_reached(pool: Pool, server: tuple[str, list[str]]) -> None:
    place, asked = server
    url = f"http://{place}/x"
    assert "none" in fetch(pool, url) and asked == []
    # Another host is allowed: this one still is not.
    assert "403" in fetch(pool, url, "--allow-net", "pkgs.example") and asked == []
    (refused,) = [e["data"] for e in pool.events() if e["type"] == "network.asked"]
    assert refused["host"] == "127.0.0.2" and not refused["allowed"] and "does not allow" in refused["why"]
    # The control.
    assert "hello" in fetch(pool, url, "--allow-net", place) and asked == ["/x"]
    (allowed,) = [e["data"] for e in pool.events() if e["type"] == "network.asked"]
    assert allowed["allowed"] and allowed["address"] == "127.0.0.2"
    assert not [p for p in pool.runs()[-1].iterdir() if p.name == "proxy"]


def test_a_projects_file_opens_nothing(pool: Pool, server: tuple[str, list[str]]) -> None:
    place, asked = server
    (pool.repo / ".pool").mkdir()
    (pool.repo / ".pool" / "config.toml").write_text(f'allow_net = ["{place}"]\n')
    assert "none" in fetch(pool, f"http://{place}/x", "--trust-project") and asked == []


def test_a_sandbox_that_cannot_is_refused(pool: Pool) -> None:
    done = pool.do("Fix add", "--sandbox", "landlock", "--allow-net", "pkgs.example")
    assert done.returncode == 8 and "can let no single host through" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "python3 -c 'import urllib.request as u; u.urlopen(\"https://pkgs.example\")'",
        "git clone -q https://github.com/x/y",
        "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 5)'",
    ],
)
def test_a_model_is_told_why_there_is_no_network(pool: Pool, server: object, command: str) -> None:
    replies = (
        reply("", call("shell", command=command), call("shell", command="exit 1")),
        reply("", call("edit", **FIX)),
        reply("Done."),
    )
    done = pool.do("Fix add", "--sandbox", "bubblewrap", replies=replies)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [e["data"]["text"] for e in pool.events() if e["type"] == "tool.done"]
    assert "the network is off in this sandbox" in said[0] and "exit code" in said[0]
    assert "network" not in said[1]  # the control: another failure
