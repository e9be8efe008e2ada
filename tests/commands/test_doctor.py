"""`pool doctor` against real repositories and a real, small HTTP server."""

from __future__ import annotations

import http.server
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poolcli import config, trust
from poolcli.commands import doctor
from poolcli.errors import Exit
from poolcli.sandbox import detect
from tests.models.known_servers import MODEL, serving


class Report:
    """What doctor said: exit code, and text and fix by name."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        self.status: dict[str, str] = {}
        self.said: dict[str, str] = {}
        name = ""
        for line in text.splitlines():
            if not line.startswith(" "):
                name = line[6 : doctor.INDENT].strip()
                self.status[name] = line[:6].strip()
            self.said[name] = self.said.get(name, "") + line[doctor.INDENT :] + "\n"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    # What this machine has is the subject of few tests; the others must be right wherever they run.
    monkeypatch.setenv("POOL_SANDBOX", "external")
    for name in ("XDG_CONFIG_HOME", "POOL_MODEL", "POOL_BASE_URL", "POOL_API_KEY", "POOL_TEST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "repo"
    top.mkdir()
    (top / "test_x.py").write_text("import unittest\n\nclass T(unittest.TestCase):\n    pass\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(top)]
    subprocess.run([*git, "init", "-q", "-b", "trunk"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    monkeypatch.chdir(top)
    return top


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Serves a list of models, and llama.cpp's properties when it is given a window."""
    servers = []

    def serve(names: list[str], window: int = 0, key: str = "") -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body: Any = {"data": [{"id": name} for name in names]}
                status = 200
                if self.path == "/props":
                    body = {"default_generation_settings": {"n_ctx": window}}
                    status = 200 if window else 404
                if key and self.headers["Authorization"] != f"Bearer {key}":
                    status, body = 401, {"error": {"message": "Invalid API Key"}}
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        started = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=started.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(started)
        return f"http://127.0.0.1:{started.server_port}/v1"

    yield serve
    for started in servers:
        started.shutdown()
        started.server_close()


def examine(**flags: Any) -> Report:
    out = io.StringIO()
    return Report(doctor.run(flags, out=out), out.getvalue())


def test_all_is_well(repo: Path, server: Callable[..., str]) -> None:
    report = examine(base_url=server(["qwen"], 32768), model="qwen")
    assert report.code == 0 and "fail" not in report.status.values()
    assert report.status["git"] == report.status["model"] == report.status["checks"] == "ok"
    assert "trunk" in report.said["repository"]
    assert "qwen" in report.said["model"] and "32,768" in report.said["context"]
    assert report.status["server"] == "ok" and "llama.cpp" in report.said["server"]
    assert "--probe" in report.said["profile"]
    assert "-m unittest" in report.said["checks"]
    assert "GB free" in report.said["state"]
    assert "container" in report.said["sandbox"] and report.status["sandbox"] == "warn"
    assert "\x1b" not in report.text


@pytest.mark.skipif(not detect.bubblewrap().works, reason="bubblewrap does not start here")
def test_the_sandbox_that_works(repo: Path) -> None:
    said = doctor.sandbox(config.load(repo, flags={"sandbox": "auto"}))
    assert said.status == "ok" and "bwrap" in said.text and "not protected" in said.text


def test_a_sandbox_that_was_named(repo: Path) -> None:
    said = doctor.sandbox(config.load(repo, flags={"sandbox": "none"}))
    assert said.status == "warn" and "rights" in said.text and said.fix


def test_a_sandbox_that_cannot_be_had(repo: Path) -> None:
    absent = "seatbelt" if sys.platform == "linux" else "bubblewrap"
    said = doctor.sandbox(config.load(repo, flags={"sandbox": absent}))
    assert said.status == "fail" and said.fix and said.code == Exit.REFUSED


def test_every_line_that_is_not_ok_has_a_fix(repo: Path) -> None:
    report = examine(base_url="http://127.0.0.1:9/v1", model="m")
    for name, status in report.status.items():
        assert status == "ok" or "fix: " in report.said[name]


def test_the_demonstration_model_is_really_started(repo: Path) -> None:
    report = examine()
    assert report.code == 0 and report.status["model"] == report.status["local server"] == "ok"
    assert "demonstration model" in report.said["model"] and "4096" in report.said["model"]


def test_not_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    report = examine(base_url=server(["m"], 32768))
    assert report.code == 2 and report.status["repository"] == "fail" and "checks" not in report.status
    assert "git init" in report.said["repository"] and report.status["model"] == "ok"


def test_unreachable_server(repo: Path) -> None:
    report = examine(base_url="http://127.0.0.1:9/v1", model="m")
    assert report.code == 6 and report.status["model"] == "fail"
    assert "http://127.0.0.1:9/v1" in report.said["model"]
    assert "--base-url" in report.said["model"] and "doctor" not in report.said["model"]


def test_wrong_key(repo: Path, server: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_API_KEY", "s3cret")
    report = examine(base_url=server(["m"], 32768, key="right"))
    assert report.code == 6 and "401" in report.said["model"] and "s3cret" not in report.text
    monkeypatch.setenv("POOL_API_KEY", "right")
    assert examine(base_url=server(["m"], 32768, key="right")).code == 0


def test_small_unknown_and_unlisted(repo: Path, server: Callable[..., str]) -> None:
    small = examine(base_url=server(["m"], 4096))
    assert small.status["context"] == "warn"
    assert (
        "4,096 tokens" in small.said["context"] and "start the server with -c 32768" in small.said["context"]
    )
    unknown = examine(base_url=server(["m"]))
    assert unknown.status["context"] == "warn" and "does not say" in unknown.said["context"]
    unlisted = examine(base_url=server(["m"], 32768), model="n")
    assert unlisted.status["model"] == "warn" and "it lists: m" in unlisted.said["model"]
    assert small.code == unknown.code == unlisted.code == 0


def test_the_stored_profile_is_shown_and_measured_again_on_request(repo: Path) -> None:
    with serving(streamed=False, window=40960) as known:
        fresh = examine(base_url=known.url, model=MODEL)
        assert "--probe" in fresh.said["profile"] and "tool calls" not in fresh.said and known.chats == []
        out = io.StringIO()
        assert doctor.run({"base_url": known.url, "model": MODEL}, out=out, probe=True) == 0
        measured, count = examine(base_url=known.url, model=MODEL), len(known.chats)
        assert measured.status["tool calls"] == "warn" and "in whole replies" in measured.said["tool calls"]
        assert "reads 1,200 tokens/s" in measured.said["speed"] and "profile" not in measured.said
        assert count > 5 and "whole replies" in out.getvalue()
        known.traits.version = "b9999"  # what was measured is about another server
        again = examine(base_url=known.url, model=MODEL)
        assert "b9999" in again.said["server"] and "tool calls" not in again.said
        assert len(known.chats) == count and again.code == 0


def test_a_fetched_model(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poolcli.models import library

    monkeypatch.setenv("POOL_MODELS", str(tmp_path / "models"))
    (tmp_path / "x.gguf").write_bytes(b"GGUF\0\0\0\0")
    library.register("tiny", tmp_path / "x.gguf")
    assert "x.gguf" in examine(model="tiny").said["model"]


def test_a_model_reference_that_names_nothing(repo: Path, tmp_path: Path) -> None:
    assert examine(model="scripted:nope.toml").status["model"] == "fail"
    assert examine(model="nope.gguf").code == 2
    assert examine(model="qwen").code == 2
    (tmp_path / "x.toml").write_text("")
    assert examine(model=f"scripted:{tmp_path / 'x.toml'}").status["model"] == "ok"


def test_checks(repo: Path, server: Callable[..., str]) -> None:
    url = server(["m"], 32768)
    named = examine(base_url=url, test="make test")
    assert named.status["checks"] == "ok" and "make test (--test)" in named.said["checks"]
    (repo / "test_x.py").unlink()
    none = examine(base_url=url)
    assert none.status["checks"] == "warn" and "--test CMD" in none.said["checks"] and none.code == 0


def test_settings(repo: Path, server: Callable[..., str]) -> None:
    (repo / ".pool").mkdir()
    (repo / ".pool" / "config.toml").write_text('base_url = "http://127.0.0.1:9"\n')
    unknown = examine(base_url=server(["m"], 32768))
    assert unknown.status["settings"] == "warn" and "pool trust" in unknown.said["settings"]
    assert "pool config show" not in unknown.said["settings"]
    trust.trust(repo, trust.read(repo))
    warned = examine(base_url=server(["m"], 32768))
    assert warned.status["settings"] == "warn" and "model endpoint" in warned.said["settings"]
    (repo / ".pool" / "config.toml").write_text("max_turn = 1\n")
    trust.trust(repo, trust.read(repo))
    broken = examine()
    assert broken.code == 2 and broken.status["settings"] == "fail" and "max_turns" in broken.said["settings"]
    assert "model" not in broken.status and broken.status["state"] == "ok"


def test_state_folder_in_the_way(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    report = examine(model="demo")
    assert report.code == 2 and report.status["state"] == "fail" and "POOL_STATE" in report.said["state"]


def test_without_git(repo: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[..., str]) -> None:
    url = server(["m"], 32768)
    monkeypatch.setenv("PATH", "/nowhere")
    report = examine(base_url=url)
    assert report.code == 2 and report.status["git"] == "fail" and "install git" in report.said["git"]
    assert report.status["ripgrep"] == "warn"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_lines_are_wrapped_and_coloured(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    doctor.run({"base_url": "http://127.0.0.1:9/v1"}, out=out)
    assert "\x1b[31mfail" in out.getvalue()
    plain = out.getvalue().replace("\x1b[0m", "")
    for code in doctor.COLOURS.values():
        plain = plain.replace(f"\x1b[{code}m", "")
    assert "\x1b" not in plain and max(len(line) for line in plain.splitlines()) <= 60
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    doctor.run({"base_url": "http://127.0.0.1:9/v1"}, out=out)
    assert "\x1b" not in out.getvalue()


def test_shared_servers_that_run(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    import asyncio
    import shutil

    from poolcli.models import local, shared_server

    file = tmp_path / "mine.gguf"
    shutil.copy(local.demo_model(), file)
    monkeypatch.setenv("POOL_MODEL", f"local:{file}")
    server = shared_server.SharedServer(local.order_for(file, ctx=1024, threads=1))

    async def look() -> str:
        await server.join()
        try:
            return (await asyncio.to_thread(examine)).said["running"]
        finally:
            await server.stop_if_unused()

    said = asyncio.run(look())
    assert said == f"mine, served by pool (process {server.pid}, 1 user) at {server.base_url}\n"
