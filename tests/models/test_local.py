"""The real llama.cpp server in a child process: started, asked, ended, killed with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolcli.errors import Exit, ModelError, UsageError
from poolcli.messages import user
from poolcli.models import local
from poolcli.models.base import Reply
from poolcli.models.llama_server import LocalServer, last_errors, start

DEMO = local.demo_model()

#: Starts a server, says where it is, and waits: a parent to kill.
PARENT = """
import asyncio, json, signal, sys
from pathlib import Path
from poolcli.models.llama_server import start
from poolcli.models.local import demo_model

async def main():
    server = await start(demo_model(), ctx=512, threads=1, log=Path(sys.argv[1]), engine=sys.argv[2])
    print(json.dumps({"pid": server.pid, "port": server.port}), flush=True)
    await asyncio.sleep(600)

if sys.argv[3:] == ["deaf"]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
asyncio.run(main())
"""

#: A llama-server in a few lines: loading for two requests, then healthy. Writes down how it was started.
LLAMA_SERVER = """#!{python}
import http.server, json, os, sys
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({record!r}, "w") as file:
    json.dump({{"pid": os.getpid(), "argv": sys.argv[1:], "env": dict(os.environ)}}, file)
if {failing!r}:
    sys.exit("error: invalid argument: --port")
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        self.send_response(503 if asked < 3 or {loading!r} else 200)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer((args["--host"], int(args["--port"])), Handler).serve_forever()
"""


def gone(pid: int) -> bool:
    """Whether a process ends within a time that only a hung one needs."""
    for _ in range(1000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def status(port: int, path: str, key: str = "") -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def serve(log: Path, **more: Any) -> Any:
    return start(DEMO, ctx=512, threads=1, log=log, **more)


def test_a_chat_through_the_server(tmp_path: Path) -> None:
    async def chat() -> tuple[Reply, Reply, local.LocalModel]:
        model = await local.open_local(DEMO, [], log=tmp_path / "log", ctx=1024)
        try:
            replies = []
            for messages in ([user("fix")], [user("fix"), user("it")]):
                async for piece in model.stream(messages, max_tokens=8):
                    if isinstance(piece, Reply):
                        replies.append(piece)
            return replies[0], replies[1], model
        finally:
            await model.aclose()

    first, second, model = asyncio.run(chat())
    assert first.message.role == "assistant" and first.usage.completion
    assert second.usage.cached, "the second request begins like the first: its prompt is in the cache"
    assert model.info.name == "pool-demo" and model.info.window == 1024
    assert "demonstration" in model.info.notice
    assert not model.server.alive


def test_the_server_is_closed_to_others(tmp_path: Path) -> None:
    async def look() -> None:
        server = await serve(tmp_path / "log", slots=2)
        try:
            assert status(server.port, "/health") == 200
            assert status(server.port, "/v1/models") == 401
            assert status(server.port, "/v1/models", server.api_key) == 200
            assert status(server.port, "/metrics", server.api_key) == 200
            assert status(server.port, "/", server.api_key) == 404, "no web pages"
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.port}/slots", headers={"Authorization": f"Bearer {server.api_key}"}
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                slots = json.load(reply)
            assert [slot["n_ctx"] for slot in slots] == [512, 512], (
                "the context asked for is that of each slot"
            )
            key = server.api_key.encode()
            for where in ("cmdline", "environ"):
                assert key not in Path(f"/proc/{server.pid}/{where}").read_bytes()
            assert os.getsid(server.pid) == server.pid, "a session of its own: Ctrl-C does not reach it"
            assert (tmp_path / "log").stat().st_mode & 0o077 == 0
            assert key not in (tmp_path / "log").read_bytes()
        finally:
            await server.stop()

    asyncio.run(look())


def test_two_servers_at_once(tmp_path: Path) -> None:
    async def both() -> tuple[int, int]:
        one, two = await asyncio.gather(serve(tmp_path / "1"), serve(tmp_path / "2"))
        assert one.port != two.port
        assert status(one.port, "/v1/models", one.api_key) == 200
        assert status(two.port, "/v1/models", one.api_key) == 401
        pids = one.pid, two.pid
        await one.stop()
        assert status(two.port, "/health") == 200
        await two.stop()
        await two.stop()
        return pids

    for pid in asyncio.run(both()):
        assert gone(pid)


def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    async def chat() -> None:
        model = await local.open_local(DEMO, [], log=tmp_path / "log", ctx=512)
        before = model.info.url
        try:
            os.kill(model.server.pid, signal.SIGKILL)
            tries = 0
            while tries < 5:
                tries += 1
                try:
                    pieces = [piece async for piece in model.stream([user("fix")], max_tokens=4)]
                    break
                except ModelError as error:
                    assert error.retryable and "killed" in str(error)
            assert isinstance(pieces[-1], Reply) and model.info.url == before
        finally:
            await model.aclose()

    asyncio.run(chat())


@pytest.fixture
def parent(tmp_path: Path) -> Any:
    """Starts a process that starts a server; gives the process, and where the server is."""
    started = []

    def run(*more: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        argv = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *(more or ("auto",))]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_parent(parent: Callable[..., Any], number: signal.Signals) -> None:
    process, server = parent()
    assert status(server["port"], "/health") == 200
    process.send_signal(number)
    process.wait()
    assert gone(server["pid"])


def test_ctrl_c_does_not_reach_the_server(parent: Callable[..., Any]) -> None:
    process, server = parent("auto", "deaf")
    os.killpg(process.pid, signal.SIGINT)
    assert status(server["port"], "/health") == 200
    assert process.poll() is None


def test_the_end_of_its_input_ends_the_worker(tmp_path: Path) -> None:
    """What ends it where the kernel does not: the pipe from its parent."""

    async def cut() -> None:
        server: LocalServer = await serve(tmp_path / "log")
        process = server._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
        await server.stop()

    asyncio.run(cut())


def test_a_damaged_file_is_named_with_the_servers_own_words(tmp_path: Path) -> None:
    damaged = tmp_path / "half.gguf"
    damaged.write_bytes(DEMO.read_bytes()[:1_000_000])
    with pytest.raises(ModelError) as caught:
        asyncio.run(start(damaged, ctx=512, log=tmp_path / "log"))
    assert caught.value.exit_code == Exit.MODEL and not caught.value.retryable
    assert "half.gguf" in str(caught.value) and "not within the file bounds" in str(caught.value)
    assert str(tmp_path / "log") in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "No such file"),
        (b"", "not a GGUF"),
        (b"PK\3\4 and so on", "not a GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_what_is_no_model_file_starts_nothing(tmp_path: Path, content: bytes | None, word: str) -> None:
    file = tmp_path / "x.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        asyncio.run(start(file, ctx=512, log=tmp_path / "log"))
    assert word in f"{caught.value} {caught.value.hint}" and str(file) in str(caught.value)
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="log"):
        asyncio.run(serve(tmp_path / "no" / "log"))


@pytest.fixture
def llama_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a stand-in for llama-server on PATH; gives the file that it writes down its start in."""

    def install(*, failing: bool = False, loading: bool = False) -> Path:
        record = tmp_path / "record.json"
        program = tmp_path / "bin" / "llama-server"
        program.parent.mkdir()
        text = LLAMA_SERVER.format(
            python=sys.executable, record=str(record), failing=failing, loading=loading
        )
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return record

    return install


def test_a_llama_server_on_path(
    tmp_path: Path, llama_server: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = llama_server()
    monkeypatch.setenv("LLAMA_ARG_TOOLS", "all")
    monkeypatch.setenv("LLAMA_ARG_N_GPU_LAYERS", "99")

    async def run() -> LocalServer:
        server: LocalServer = await serve(tmp_path / "log", slots=2, engine="llama-server")
        assert status(server.port, "/health") == 200
        await server.stop()
        return server

    server = asyncio.run(run())
    seen = json.loads(record.read_text())
    assert gone(seen["pid"])
    given = dict(zip(seen["argv"][::2], seen["argv"][1::2], strict=True))
    assert given["-m"] == str(DEMO) and given["--host"] == "127.0.0.1"
    assert (given["-c"], given["-np"], given["-t"]) == ("1024", "2", "1")
    assert server.api_key not in " ".join(seen["argv"]) and seen["env"]["LLAMA_API_KEY"] == server.api_key
    assert seen["env"]["LLAMA_ARG_KV_UNIFIED"] == "0"
    assert "LLAMA_ARG_TOOLS" not in seen["env"] and seen["env"]["LLAMA_ARG_N_GPU_LAYERS"] == "99"


def test_a_llama_server_ends_with_a_killed_parent(
    parent: Callable[..., Any], llama_server: Callable[..., Path]
) -> None:
    record = llama_server()
    process, supervisor = parent("llama-server")
    process.kill()
    process.wait()
    assert gone(supervisor["pid"]) and gone(json.loads(record.read_text())["pid"])


def test_a_llama_server_that_refuses_its_options(tmp_path: Path, llama_server: Callable[..., Path]) -> None:
    llama_server(failing=True)
    with pytest.raises(ModelError, match="invalid argument: --port"):
        asyncio.run(serve(tmp_path / "log", engine="llama-server"))


def test_giving_up_while_it_loads_leaves_nothing(tmp_path: Path, llama_server: Callable[..., Path]) -> None:
    record = llama_server(loading=True)

    async def give_up() -> None:
        task = asyncio.ensure_future(serve(tmp_path / "log", engine="llama-server"))
        while not (record.exists() and record.stat().st_size):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert gone(json.loads(record.read_text())["pid"])


@pytest.mark.parametrize("engine", ["auto", "xllamacpp", "llama-server"])
def test_without_any_llama_cpp_the_message_says_what_to_install(engine: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "sys.modules['xllamacpp'] = None\n"  # as where it is not installed
        "from poolcli.models.llama_server import choose_engine\n"
        "try: choose_engine(sys.argv[1])\n"
        "except Exception as error: print(int(error.exit_code), error, error.hint)\n"
    )
    root = str(Path(local.__file__).parents[2])
    argv = [sys.executable, "-E", "-c", code, engine, root]
    said = subprocess.run(argv, capture_output=True, text=True, env={"PATH": "/nowhere"}, check=True).stdout
    assert said.startswith("6 ") and "pip install 'poolcli[local]'" in said and "--base-url" in said


def test_last_errors_are_those_of_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "0.00.001.000 E old: before\n--- pool starts a server ---\n"
        "0.00.009.264 E llama_model_load: error loading model: tensor 'x' is missing\n"
        "0.00.009.285 I srv          init: fine\n"
        "0.00.009.289 E cmn  common_init_: failed to load model\n"
        "0.00.009.289 E cmn  common_init_: failed to load model\n"
    )
    assert last_errors(log) == ["error loading model: tensor 'x' is missing", "failed to load model"]
    log.write_text("Traceback:\n  x\nImportError: no such library\n\n")
    assert last_errors(log) == ["ImportError: no such library"]
    assert last_errors(tmp_path / "none") == []
