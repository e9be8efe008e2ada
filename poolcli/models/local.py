"""A llama.cpp server of our own: started for one model file, reachable only from this machine, ended with pool.

It runs in a child process (`llama_worker.py`): a crash in its native code or a lack of memory must not take the
run with it. One server serves one process of pool; sharing one among several is not done yet.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from poolcli import paths
from poolcli.errors import ModelError, UsageError
from poolcli.messages import Message
from poolcli.models.base import Model, ModelInfo, Piece, Reply

Engine = Literal["xllamacpp", "llama-server"]
#: What can be asked for: `auto` takes the xllamacpp package, else a llama-server on PATH.
ENGINES = ("auto", "xllamacpp", "llama-server")

DEMO_NOTICE = (
    "demonstration model: knows one family of one-line Python bugs; "
    "for real work name a model with --base-url or --model"
)
#: Context per slot in tokens when none was asked for. Cache memory grows with it; the server itself lowers it
#: to what the model was trained for.
DEFAULT_CONTEXT = 16384
DEMO_CONTEXT = 8192
#: Seconds that loading may take: a file of tens of GB on a slow disk needs minutes.
LOADING = 900.0
#: Seconds that a server has to end by itself before it is killed.
GRACE = 2.0
#: How often one model's server is started again after it died in the middle of a run.
RESTARTS = 2

INSTALL = "pip install 'poolcli[local]', or give the server of a model with --base-url URL"


@dataclass(frozen=True, slots=True)
class Order:
    """What a server is to serve, and how. `ctx` is per slot, in tokens; `threads` 0 lets llama.cpp choose."""

    gguf: Path
    ctx: int
    slots: int = 1
    threads: int = 0
    engine: str = "auto"


@dataclass(slots=True)
class LocalServer:
    """A running server. `api_key` is its own random key; `log` is the file that it writes to."""

    order: Order
    api_key: str
    log: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _ended: asyncio.Task[bytes] | None = field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        """Where requests go, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self.order.gguf.stem

    @property
    def pid(self) -> int:
        """The process that was started, 0 when there is none. With llama-server, its supervisor."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    async def launch(self) -> None:
        """Start the process and wait until it answers. Raises ModelError, and leaves no process then.

        Must be called from the main thread: Linux ends the child with the thread that started it.
        """
        engine = choose_engine(self.order.engine)
        try:
            self._process = process = _spawn(self.log)
            self._send(engine)
            assert process.stdout is not None
            reader = await _reader(process.stdout)
            async with asyncio.timeout(LOADING):
                line = await reader.readline()
                if line:
                    self.port = json.loads(line)["port"]
                    # The worker alone holds the other end, so the end of this pipe is the end of the worker.
                    self._ended = asyncio.ensure_future(reader.read())
                    await self._until_healthy()
            if not line or self._ended is None or self._ended.done():
                raise self.failure(await self._exit_code())
        except TimeoutError:
            await self.stop()
            raise ModelError(
                f"the llama.cpp server did not finish loading {self.order.gguf} in {LOADING:g} s",
                f"its log: {self.log}",
            ) from None
        except BaseException:
            await self.stop()
            raise

    def _send(self, engine: tuple[str, ...]) -> None:
        order = self.order
        line = {
            "command": list(engine),
            "gguf": str(order.gguf.absolute()),
            "name": self.name,
            "port": self.port,  # 0 the first time; after a crash the one that clients know
            "api_key": self.api_key,
            "ctx": order.ctx,
            "slots": order.slots,
            "threads": order.threads,
        }
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended already; the reader sees that and says why

    async def _until_healthy(self) -> None:
        assert self._ended is not None
        while not self._ended.done() and await _health(self.port) != 200:
            await asyncio.wait({self._ended}, timeout=0.02)

    async def _exit_code(self) -> int | None:
        """The exit code of a process that is ending; None when it does not."""
        assert self._process is not None
        await self._wait(GRACE)
        return self._process.poll()

    async def _wait(self, seconds: float) -> bool:
        """Wait for the end of the process without blocking the loop; whether it came in time."""
        process = self._process
        pause, waited = 0.002, 0.0
        while process is not None and process.poll() is None:
            if waited >= seconds:
                return False
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 2, 0.05)
        return True

    def failure(self, code: int | None) -> ModelError:
        """Why the server is not there, from its exit code and the last errors in its log."""
        name = self.order.gguf.name
        why = "; ".join(last_errors(self.log)) or "it wrote no reason"
        if code in (-9, 137):
            return ModelError(
                f"the llama.cpp server for {name} was killed, probably for lack of memory",
                f"use a smaller model, or a smaller context with --context; its log: {self.log}",
            )
        if code is not None and (code < 0 or code >= 128):
            return ModelError(
                f"the llama.cpp server for {name} crashed (signal {-code if code < 0 else code - 128}): {why}",
                f"another build may do: set local.server in the configuration; its log: {self.log}",
            )
        return ModelError(
            f"the llama.cpp server could not serve {name}: {why}",
            f"is it a whole GGUF file that this llama.cpp knows? its log: {self.log}",
        )

    async def restart(self) -> None:
        """Start again after the process died, at the same address and with the same key. Raises ModelError."""
        await self.stop()
        await self.launch()

    async def stop(self) -> None:
        """End the server; safe to call at any time and more than once."""
        process = self._process
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass
        for end in (None, process.terminate, process.kill):
            if end is not None:
                end()
            # A cancelled stop must not leave the process behind.
            try:
                gone = await self._wait(GRACE)
            except asyncio.CancelledError:
                process.kill()
                process.wait()
                raise
            if gone:
                break
        if self._ended is not None:
            self._ended.cancel()
            self._ended = None
        if process.stdout is not None:
            process.stdout.close()
        self._process = None


async def start(
    gguf: Path, *, ctx: int, slots: int = 1, threads: int | None = None, log: Path, engine: str = "auto"
) -> LocalServer:
    """Start a server for a GGUF file and wait until it answers.

    `ctx` is the context of each slot in tokens, `engine` one of ENGINES, `log` a file that is appended to.
    Raises UsageError for a file that is not there or not a GGUF file, ModelError when no server can be started.
    """
    check_file(gguf)
    server = LocalServer(Order(gguf, ctx, slots, threads or 0, engine), secrets.token_urlsafe(32), log)
    await server.launch()
    return server


def check_file(gguf: Path) -> None:
    """Raise UsageError unless there is a GGUF file to read: llama.cpp's own words for this help nobody."""
    try:
        with gguf.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise UsageError(f"the model file {gguf} cannot be read: {error.strerror}", "check the path") from error
    if magic.startswith(b"version "):
        raise UsageError(f"the model file {gguf} is a Git LFS pointer, not the model", "fetch it: git lfs pull")
    if not magic.startswith(b"GGUF"):
        raise UsageError(f"the model file {gguf} is not a GGUF file", "llama.cpp reads only GGUF files")


def choose_engine(wanted: str = "auto") -> tuple[str, ...]:
    """The command of an external llama-server, or () for the xllamacpp package. Raises ModelError for neither."""
    if wanted in ("auto", "xllamacpp") and has_xllamacpp():
        return ()
    if wanted in ("auto", "llama-server") and (found := shutil.which("llama-server")):
        return (found,)
    if wanted == "llama-server":
        raise ModelError("there is no `llama-server` on PATH", "install llama.cpp, or use " + INSTALL)
    if wanted == "xllamacpp":
        raise ModelError("the package xllamacpp is not installed", INSTALL)
    raise ModelError("a local model needs llama.cpp: neither xllamacpp nor `llama-server` is installed", INSTALL)


def has_xllamacpp() -> bool:
    """Whether the package is installed; does not load its 100 MB."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def demo_model() -> Path:
    """The demonstration model's file. Raises ModelError when this installation lacks it."""
    path = paths.data_dir("models") / "pool-demo.gguf"
    if not path.is_file():
        raise ModelError(
            "the demonstration model's file is missing from this installation",
            "`make model` trains it again; or name a model with --base-url or --model",
        )
    return path


#: An ERROR line of llama.cpp: time since start, level, and who says it.
ERROR_LINE = re.compile(r"^(?:[\d.]+ )?E (.*)$|^(error: .*)$", re.MULTILINE)
WHO = re.compile(r"^(?:\w+ +)?[\w()~]+: +")


def last_errors(log: Path, count: int = 3) -> list[str]:
    """What went wrong according to the end of a server's log: its first `count` ERROR lines, else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # Only what the last start wrote: the file is appended to.
    text = text.rpartition(STARTED)[2]
    found = [WHO.sub("", a or b).strip() for a, b in ERROR_LINE.findall(text)]
    # The first says the cause; the others mostly say that the layer above failed as well.
    return list(dict.fromkeys(found))[:count] or text.strip().splitlines()[-1:]


STARTED = "--- pool starts a server ---\n"


def _spawn(log: Path) -> subprocess.Popen[bytes]:
    worker = Path(__file__).with_name("llama_worker.py")
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as errors:
        errors.write(STARTED.encode())
        errors.flush()
        # -P: nothing in the working folder, a repository perhaps, may pose as a module of the worker. A session
        # of its own: Ctrl-C at the terminal is for pool alone. The folder `/`: it must not hold a worktree.
        return subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != "POOL_API_KEY"},
            start_new_session=True,
        )


async def _reader(pipe: Any) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _health(port: int) -> int:
    """The HTTP status of /health, 0 when nobody answers. By hand: importing an HTTP client costs 60 ms."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.close()
            return int(line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0
