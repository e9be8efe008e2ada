"""One real server for several processes: joined, shared, killed, restarted, left; nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poolcli.errors import ModelError, UsageError
from poolcli.messages import user
from poolcli.models import llama_worker as files
from poolcli.models import local, shared_server
from poolcli.models.base import Notice, Reply
from poolcli.models.llama_server import Order
from poolcli.models.shared_server import SharedServer, State

pytest.importorskip("xllamacpp")

#: A pool process in small: opens the model, says how, then asks whenever it is told a number of turns.
CLIENT = """
import asyncio, json, sys
from pathlib import Path
from poolcli.errors import ModelError
from poolcli.messages import user
from poolcli.models import local
from poolcli.models.base import Notice, Reply

def say(**facts):
    print(json.dumps(facts), flush=True)

async def ask(model, messages, turns):
    replies, notices = [], []
    for _ in range(turns):
        messages.append(user(sys.argv[3] + " The tests fail. Look again, please, and say what is wrong."))
        for _ in range(5):
            try:
                async for piece in model.stream(messages, max_tokens=6):
                    if isinstance(piece, Notice):
                        notices.append(piece.code)
                    if isinstance(piece, Reply):
                        messages.append(piece.message)
                        replies.append([piece.usage.prompt, piece.usage.cached])
                break
            except ModelError as error:
                if not error.retryable:
                    raise
    return replies, notices

async def main():
    file, more = Path(sys.argv[1]), json.loads(sys.argv[2])
    model = await local.open_local(file, [], log=Path("/dev/null"), ctx=1024, threads=1, **more)
    server = model.server
    say(pid=server.pid, slot=server.slot, starter=server.starter, url=server.base_url, notice=model.info.notice)
    # Alike at the beginning, as all conversations of an agent are: left to itself, the server takes them for one.
    messages = [user("Read the file, run the tests, edit one line, run the tests again. " * 8)]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "0":
            break
        replies, notices = await ask(model, messages, int(line))
        say(replies=replies, notices=notices, pid=server.pid, slot=server.slot)
    await model.aclose()

asyncio.run(main())
"""


class Client:
    """A process that uses the model."""

    def __init__(self, file: Path, words: str = "fix it", **more: Any) -> None:
        argv = [sys.executable, "-c", CLIENT, str(file), json.dumps({"idle": 60, **more}), words]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(local.__file__).parents[2],
        )

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended"
        return dict(json.loads(line))

    def ask(self, turns: int) -> dict[str, Any]:
        self.tell(turns)
        return self.read()

    def tell(self, turns: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{turns}\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        self.tell(0)
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that only a fault keeps from happening."""
    for _ in range(1500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError(what)


def gone(pid: int) -> bool:
    return not files.started(pid)


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model of a user's own, and a state folder for its servers; all of them are ended afterwards."""
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    file = tmp_path / "mine.gguf"
    shutil.copy(local.demo_model(), file)
    yield file
    for running in shared_server.running():
        shared_server.stop(running.folder)


@pytest.fixture
def client(model_file: Path) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(words: str = "fix it", **more: Any) -> Client:
        clients.append(Client(model_file, words, **more))
        return clients[-1]

    yield start
    for one in clients:
        one.kill()


def only() -> shared_server.Running:
    (running,) = shared_server.running()
    return running


def order(file: Path, **more: Any) -> Order:
    return local.order_for(file, ctx=1024, threads=1, **more)


async def joined(file: Path, **more: Any) -> SharedServer:
    server = SharedServer(order(file), **{"idle": 60.0, **more})
    await server.join()
    return server


def test_two_processes_share_one_server_and_keep_their_caches(client: Callable[..., Client]) -> None:
    one, two = client("This is about sorting."), client("Here is another one.")
    first, second = one.read(), two.read()
    assert first["pid"] == second["pid"] and first["url"] == second["url"]
    assert first["slot"] != second["slot"]
    assert first["starter"] + second["starter"] == 1
    joiner = second if first["starter"] else first
    assert f"runs already (process {first['pid']})" in joiner["notice"]
    assert "fit into" in first["notice"] and "fit into" in second["notice"]
    caches: dict[Client, list[list[int]]] = {one: [], two: []}
    for _ in range(4):  # turn and turn about, which is what makes conversations steal each other's slot
        for each, replies in caches.items():
            replies += each.ask(1)["replies"]
    for replies in caches.values():
        for (prompt, _), (_, cached) in itertools.pairwise(replies):
            assert cached >= prompt, "all that was sent the last time is in the cache of its own slot"
    assert only().used
    one.leave()
    two.leave()
    assert not only().used


def test_a_conversation_without_a_slot_queues_and_says_so(client: Callable[..., Client]) -> None:
    one = client(slots=1)
    assert one.read()["slot"] == 0
    two = client(slots=1)
    assert two.read()["slot"] is None
    said = two.ask(2)
    assert said["notices"] == ["slots"], "once is enough"
    assert len(said["replies"]) == 2 and said["slot"] is None
    one.leave()
    said = two.ask(2)
    assert said["slot"] == 0 and said["notices"] == []


def test_five_at_once_start_one(client: Callable[..., Client]) -> None:
    clients = [client() for _ in range(5)]
    seen = [each.read() for each in clients]
    assert len({facts["pid"] for facts in seen}) == 1
    assert sum(facts["starter"] for facts in seen) == 1
    log = (only().folder / files.LOG).read_text()
    assert log.count("--- pool starts a server ---") == 1


def test_a_server_killed_in_use_is_started_again_for_all(client: Callable[..., Client]) -> None:
    one, two = client(), client("other")
    first = one.read()
    two.read()
    one.ask(1)
    os.kill(first["pid"], signal.SIGKILL)
    again, other = one.ask(1), two.ask(1)
    assert len(again["replies"]) == len(other["replies"]) == 1
    assert again["pid"] == other["pid"] != first["pid"]
    assert only().state.base_url == first["url"], "at the address, and with the key, that they know"


def test_killing_its_starter_does_not_end_the_server(client: Callable[..., Client]) -> None:
    one = client()
    first = one.read()
    two = client("other")
    assert two.read()["pid"] == first["pid"]
    one.kill()
    said = two.ask(2)
    assert said["pid"] == first["pid"] and len(said["replies"]) == 2
    three = client("a third")
    assert three.read()["slot"] == first["slot"], "the slot of the dead is free"


def test_a_starter_killed_at_any_moment_leaves_one_good_server(client: Callable[..., Client]) -> None:
    for pause in (0.02, 0.15, 0.25, 0.35):
        killed = client()
        time.sleep(pause)
        killed.kill()
        good = client()
        pid = good.read()["pid"]
        assert len(good.ask(1)["replies"]) == 1
        assert [running.state.pid for running in shared_server.running()] == [pid]
        good.leave()
        shared_server.stop(only().folder)


def test_nobody_there_ends_it_and_leaves_the_log_alone(model_file: Path) -> None:
    async def use() -> tuple[SharedServer, int]:
        server = await joined(model_file, idle=0.5)
        await server.close()
        return server, server.pid

    server, pid = asyncio.run(use())
    until(lambda: server._reap() or gone(pid), "it did not end")
    assert [file.name for file in server.folder.iterdir()] == [files.LOG]
    assert shared_server.running() == []


def test_as_long_as_somebody_is_there_it_stays(model_file: Path) -> None:
    async def use() -> None:
        server = await joined(model_file, idle=0.2)
        other = await joined(model_file, idle=0.2)
        await server.close()
        await asyncio.sleep(1.0)
        assert other.alive
        await other.close()

    asyncio.run(use())


def test_who_comes_while_it_ends_gets_a_server_all_the_same(model_file: Path) -> None:
    async def use() -> None:
        for pause in (0.0, 0.08, 0.11, 0.14, 0.2):
            server = await joined(model_file, idle=0.1)
            assert server.alive
            await server.close()
            await asyncio.sleep(pause)

    asyncio.run(use())


def test_a_server_that_ends_lets_nobody_in_any_more(tmp_path: Path) -> None:
    lock = files.try_lock(tmp_path / files.LOCK)
    assert lock is not None
    server = files.Shared({"folder": str(tmp_path), "lock": lock, "idle": 1, "state": {"key": "k"}})
    server.begin()
    assert files.try_lock(tmp_path / files.LOCK) is None, "nobody else starts one meanwhile"
    server.listens(1)
    lease = os.open(tmp_path / files.LEASES, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lease, fcntl.LOCK_SH)
    assert not server._closed(), "somebody is in"
    other = files.try_lock(tmp_path / files.LOCK)
    assert other is not None, "and others may come"
    assert not server._closed(), "somebody is coming"
    os.close(other)
    os.close(lease)
    assert server._closed()
    assert files.try_lock(tmp_path / files.LOCK) is None, "whoever comes now waits for its end"
    server.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_files_and_the_key_are_the_users_alone(model_file: Path) -> None:
    async def look() -> None:
        server = await joined(model_file)
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        for file in server.folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        key = server.api_key.encode()
        for where in ("cmdline", "environ"):
            assert key not in Path(f"/proc/{server.pid}/{where}").read_bytes()
        assert key not in server.log.read_bytes() and server.api_key not in repr(server.state)
        assert (server.folder / files.KEY).read_bytes().strip() == key
        assert os.getsid(server.pid) == server.pid, "Ctrl-C and a closed terminal do not reach it"
        await server.close()

    asyncio.run(look())


def written(folder: Path, **more: Any) -> State:
    """A server.json as some past might have left it."""
    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "started": "",
        "port": 9,
        "key": "old",
        "model": "m",
        "name": "mine",
        "engine": "xllamacpp",
        "context": 1024,
        "slots": 2,
        **more,
    }
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    files.write_file(folder / files.STATE, json.dumps(facts))
    return State(**facts)


def test_a_number_that_another_process_has_now_is_left_alone(model_file: Path) -> None:
    """After a reboot the number of the dead server may be anybody's."""
    other = subprocess.Popen(["sleep", "600"])
    try:
        folder = shared_server.root() / shared_server.identity(order(model_file))
        written(folder, pid=other.pid, started="another boot 123")
        assert shared_server.running() == [] and not shared_server.stop(folder)

        async def use() -> None:
            server = await joined(model_file)
            assert server.starter and server.pid != other.pid
            await server.close()

        asyncio.run(use())
        # Also when everything is right but that it is no worker of ours.
        shared_server.stop(folder)
        written(folder, pid=other.pid, started=files.started(other.pid))
        assert not shared_server.stop(folder)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": 1}', b"\xff" * 50, b"x" * 200_000])
def test_damaged_state_is_as_good_as_none(model_file: Path, content: bytes) -> None:
    folder = shared_server.root() / shared_server.identity(order(model_file))
    folder.mkdir(parents=True, mode=0o700)
    (folder / files.STATE).write_bytes(content)
    (folder / files.STATE).chmod(0o600)
    assert shared_server.read_state(folder) is None and shared_server.running() == []


def test_state_that_others_could_have_written_is_not_believed(model_file: Path) -> None:
    async def use() -> None:
        first = await joined(model_file)
        pid, key = first.pid, first.api_key
        await first.close()
        (first.folder / files.STATE).chmod(0o644)
        assert shared_server.read_state(first.folder) is None
        second = await joined(model_file)
        assert second.starter and second.api_key != key
        await second.close()
        assert gone(pid), "whoever could read its key could use it"

    asyncio.run(use())


def test_a_folder_that_others_could_enter_is_closed_and_what_was_in_it_dropped(model_file: Path) -> None:
    folder = shared_server.root() / shared_server.identity(order(model_file))
    written(folder, started=files.started(os.getpid()))
    folder.chmod(0o777)

    async def use() -> None:
        server = await joined(model_file)
        assert server.starter and server.api_key != "old"
        await server.close()

    asyncio.run(use())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_a_link_is_refused(model_file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shared_server.root().parent.mkdir(parents=True)
    shared_server.root().symlink_to(elsewhere)
    with pytest.raises(ModelError, match="not a folder of yours"):
        asyncio.run(joined(model_file))
    assert list(elsewhere.iterdir()) == []


def test_identity_is_the_content_and_what_was_asked_for(model_file: Path, tmp_path: Path) -> None:
    one = shared_server.identity(order(model_file))
    link = tmp_path / "mine-too" / "mine.gguf"
    link.parent.mkdir()
    link.symlink_to(model_file)
    assert shared_server.identity(order(link)) == one
    assert shared_server.identity(order(model_file, engine="xllamacpp")) == one, (
        "which is what auto means here"
    )
    others = [
        order(model_file, slots=3),
        order(model_file, kv_type="q8_0"),
        order(model_file, gpu_layers=0),
        order(model_file, engine="llama-server"),
        local.order_for(model_file, ctx=2048, threads=1),
        local.order_for(model_file, ctx=1024, threads=2),
    ]
    assert len({one, *map(shared_server.identity, others)}) == len(others) + 1
    os.utime(model_file, ns=(1, 1))
    assert shared_server.identity(order(model_file)) != one, "another version of the file"


def test_what_cannot_be_served_says_so_and_leaves_only_the_log(model_file: Path) -> None:
    with model_file.open("r+b") as file:
        file.truncate(1_000_000)
    server = SharedServer(order(model_file))
    with pytest.raises(UsageError, match="is cut off"):
        asyncio.run(server.join())
    assert {file.name for file in server.folder.iterdir()} <= {files.LOG}
    model_file.write_bytes(b"PK")
    with pytest.raises(UsageError, match="not a GGUF"):
        SharedServer(order(model_file))


def test_a_file_that_llama_cpp_refuses_is_explained_with_its_words(model_file: Path) -> None:
    whole = model_file.read_bytes()
    model_file.write_bytes(whole.replace(b"blk.0.attn_norm.weight", b"blk.0.attn_gorm.weight"))
    server = SharedServer(order(model_file))
    with pytest.raises(ModelError) as caught:
        asyncio.run(server.join())
    assert "attn_norm" in str(caught.value) and str(server.log) in caught.value.hint
    assert {file.name for file in server.folder.iterdir()} <= {files.LOG}


def test_stop_ends_a_server_also_while_it_is_used(model_file: Path) -> None:
    async def use() -> None:
        model = await local.open_local(model_file, [], log=Path("/dev/null"), ctx=1024, threads=1)
        before = model.server.pid
        running = only()
        assert running.used and await asyncio.to_thread(shared_server.stop, running.folder)
        assert not model.server.alive and shared_server.was_stopped(running.folder, before)
        pieces = [piece async for piece in model.stream([user("fix")], max_tokens=4)]
        assert isinstance(pieces[-1], Reply) and model.server.pid != before
        assert isinstance(pieces[0], Notice) and pieces[0].code == "server"
        await model.aclose()

    asyncio.run(use())


def test_a_worker_that_hangs_is_killed(model_file: Path) -> None:
    async def use() -> tuple[Path, int]:
        server = await joined(model_file)
        await server.close()
        return server.folder, server.pid

    folder, pid = asyncio.run(use())
    os.kill(pid, signal.SIGSTOP)
    assert shared_server.stop(folder)
    assert gone(pid) and not (folder / files.STATE).exists()


def test_a_long_log_is_put_aside(model_file: Path) -> None:
    folder = shared_server.root() / shared_server.identity(order(model_file))
    folder.mkdir(parents=True, mode=0o700)
    (folder / files.LOG).write_bytes(b"x" * (shared_server.LARGEST_LOG + 1))

    async def use() -> None:
        server = await joined(model_file)
        await server.close()

    asyncio.run(use())
    assert (folder / "log.1").stat().st_size > shared_server.LARGEST_LOG
    assert (folder / files.LOG).stat().st_size < 1_000_000


def test_the_plan_reaches_the_server(model_file: Path) -> None:
    async def use() -> list[int]:
        server = SharedServer(order(model_file, slots=3, kv_type="q8_0"))
        await server.join()
        import urllib.request

        request = urllib.request.Request(
            f"http://127.0.0.1:{server.state.port}/slots",
            headers={"Authorization": f"Bearer {server.api_key}"},
        )
        slots = json.load(await asyncio.to_thread(urllib.request.urlopen, request, timeout=30))
        assert "3 slots, q8_0" in server.state.says
        await server.close()
        return [slot["n_ctx"] for slot in slots]

    assert asyncio.run(use()) == [1024, 1024, 1024]


def test_what_does_not_fit_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.models import gguf_files

    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    # 2 TB of weights, as a hole in the file.
    values = {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 4096}
    file = gguf_files.write(tmp_path / "vast.gguf", values, [("blk.0.w", 0, (1 << 20, 1 << 19))])
    server = SharedServer(order(file))
    with pytest.raises(ModelError, match=r"2199 GB of weights .* do not fit into"):
        asyncio.run(server.join())
    assert not server.log.exists(), "nothing was started"


def test_an_adapter_is_loaded_at_the_start(model_file: Path, tmp_path: Path) -> None:
    lora = tmp_path / "none.gguf"
    lora.write_bytes(b"GGUF")

    async def use() -> None:
        server = SharedServer(order(model_file, lora=[(lora, 0.5)]))
        await server.join()

    with pytest.raises(ModelError) as caught:
        asyncio.run(use())
    assert "lora" in str(caught.value) or "adapter" in str(caught.value) or "none.gguf" in str(caught.value)


# Other servers on PATH: stand-ins that speak their dialect's first words, for lack of the real ones.

STAND_IN = """#!{python}
import http.server, json, os, sys
port = int({port})
with open({record!r}, "w") as file:
    json.dump({{"pid": os.getpid(), "argv": sys.argv[1:], "env": dict(os.environ)}}, file)
key, asked = {key}, 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        code = 200 if self.path == {health!r} and asked > 2 else 404
        if self.path == "/v1/models":
            code = 200 if self.headers.get("Authorization") == f"Bearer {{key}}" or not key else 401
        body = b'{{"data": [{{"id": "m", "max_model_len": 4096}}]}}'
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)

    def install(name: str, *, port: str, key: str, health: str) -> Path:
        record = tmp_path / f"{name}.json"
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        text = STAND_IN.format(python=sys.executable, port=port, key=key, health=health, record=str(record))
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return record

    return install


def end_all() -> None:
    for running in shared_server.running():
        assert shared_server.stop(running.folder)


def test_vllm_is_run_as_a_shared_server(stand_in: Callable[..., Path]) -> None:
    record = stand_in(
        "vllm",
        port='sys.argv[sys.argv.index("--port") + 1]',
        key='os.environ["VLLM_API_KEY"]',
        health="/health",
    )

    async def use() -> None:
        model = await local.open_named("org/model", [], engine="vllm", ctx=4096, slots=4)
        assert isinstance(model, local.LocalModel)
        assert model.server.slot is None and not model.server.waits, "it pages its cache itself"
        seen = json.loads(record.read_text())
        assert seen["argv"][:2] == ["serve", "org/model"]
        given = dict(zip(seen["argv"][2::2], seen["argv"][3::2], strict=True))
        assert given["--host"] == "127.0.0.1" and given["--max-model-len"] == "4096"
        assert given["--max-num-seqs"] == "4" and given["--served-model-name"] == "org/model"
        assert model.server.api_key not in seen["argv"] and only().state.name == "org/model"
        again = await local.open_named("org/model", [], engine="vllm", ctx=4096, slots=4)
        assert isinstance(again, local.LocalModel) and again.server.pid == model.server.pid
        await again.aclose()
        await model.aclose()

    try:
        asyncio.run(use())
    finally:
        end_all()
    assert gone(json.loads(record.read_text())["pid"]), "it ends with its worker"


def test_ollama_is_started_when_none_runs(
    stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{files.free_port()}")  # where none runs
    record = stand_in(
        "ollama", port='os.environ["OLLAMA_HOST"].rpartition(":")[2]', key='""', health="/api/version"
    )

    async def use() -> None:
        model = await local.open_named("qwen3:8b", [], engine="ollama", ctx=8192)
        assert isinstance(model, local.LocalModel) and model.info.name == "qwen3:8b"
        seen = json.loads(record.read_text())
        assert seen["argv"] == ["serve"] and seen["env"]["OLLAMA_CONTEXT_LENGTH"] == "8192"
        # One that runs is used, not joined: it is somebody else's.
        monkeypatch.setenv("OLLAMA_HOST", f"http://localhost:{only().state.port}/")
        other = await local.open_named("llama3", [], engine="ollama")
        assert not isinstance(other, local.LocalModel) and other.info.name == "llama3"
        assert str(only().state.port) in other.info.url
        await other.aclose()
        await model.aclose()

    try:
        asyncio.run(use())
    finally:
        end_all()


def test_an_ollama_of_another_machine_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu.example:11434")
    assert asyncio.run(local.running_ollama()) == ""


@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_a_program_that_is_not_there(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{files.free_port()}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match=f"no `{engine}` on PATH"):
        asyncio.run(local.open_named("m", [], engine=engine))


def test_a_llama_server_on_path_is_shared_with_all_that_was_asked_for(
    stand_in: Callable[..., Path], tmp_path: Path
) -> None:
    record = stand_in(
        "llama-server",
        port='sys.argv[sys.argv.index("--port") + 1]',
        key='os.environ["LLAMA_API_KEY"]',
        health="/health",
    )
    file, lora = tmp_path / "mine.gguf", tmp_path / "adapter.gguf"
    shutil.copy(local.demo_model(), file)
    lora.write_bytes(b"GGUF")

    async def use() -> int:
        wanted = order(
            file, engine="llama-server", kv_type="q8_0", gpu_layers=0, lora=[(lora, 1.0), (lora, 0.5)]
        )
        server = SharedServer(wanted, idle=0.5)
        await server.join()
        seen = json.loads(record.read_text())
        given = dict(zip(seen["argv"][::2], seen["argv"][1::2], strict=True))
        assert (given["-np"], given["-c"], given["-t"]) == ("2", "2048", "1")
        assert given["--lora"] == str(lora) and given["--lora-scaled"] == f"{lora}:0.5"
        for name, value in (("N_GPU_LAYERS", "0"), ("CACHE_TYPE_K", "q8_0"), ("CACHE_TYPE_V", "q8_0")):
            assert seen["env"][f"LLAMA_ARG_{name}"] == value
        os.kill(seen["pid"], signal.SIGKILL)
        assert await server.died()
        assert "killed" in str(await server.failure())
        await server.restart()
        pid = int(json.loads(record.read_text())["pid"])
        assert pid != seen["pid"]
        await server.close()
        return pid

    pid = asyncio.run(use())
    until(lambda: gone(pid) and not shared_server.running(), "the idle server did not end")
