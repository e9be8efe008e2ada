"""A model server of our own: started for one model, for this machine alone, ended with pool.

It runs in a child process (`llama_worker.py`): a crash in its native code or a lack of memory must not take
the run with it. This one serves one process of pool; `shared_server.py` has one for all of a user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from poolcli.errors import ModelError, UsageError

#: What can be asked for: `auto` takes the xllamacpp package, else a llama-server on PATH.
ENGINES = ("auto", "xllamacpp", "llama-server", "vllm", "ollama")

#: Seconds that loading may take: a file of tens of GB on a slow disk needs minutes.
LOADING = 900.0
#: Seconds that a server has to end by itself before it is killed.
GRACE = 2.0
INSTALL = "pip install 'poolcli[local]', or give the server of a model with --base-url URL"


class Order(Struct, frozen=True):
    """What a server is to serve, and how. `ctx` is per slot, in tokens; `threads` 0 lets llama.cpp choose.

    `gguf` is a file; for vllm and ollama, which know models by name, the name. `gpu_layers` -1 leaves that to
    the server, as `kv_type` '' does. `lora` are adapters loaded at the start, each with its scale. `fixed` names
    what a person set (`context`, `slots`): that is not made smaller to fit.
    """

    gguf: Path
    ctx: int
    slots: int = 1
    threads: int = 0
    engine: str = "auto"
    kv_type: str = ""
    gpu_layers: int = -1
    lora: tuple[tuple[Path, float], ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def by_name(self) -> bool:
        """Whether the model is a name that the server knows, no file."""
        return self.engine in ("vllm", "ollama")

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return str(self.gguf) if self.by_name else self.gguf.stem

    def line(self, command: Sequence[str], *, port: int, api_key: str) -> dict[str, Any]:
        """The order as the worker reads it. `port` 0 lets it choose."""
        return {
            "command": list(command),
            "engine": self.engine if self.by_name else "llama-server",
            "gguf": str(self.gguf if self.by_name else self.gguf.absolute()),
            "name": self.name,
            "port": port,
            "api_key": api_key,
            "ctx": self.ctx,
            "slots": self.slots,
            "threads": self.threads,
            "kv_type": self.kv_type or "f16",
            "gpu_layers": self.gpu_layers,
            "lora": [[str(path.absolute()), scale] for path, scale in self.lora],
        }


class LocalServer(Struct):
    """A running server. `api_key` is its own random key; `log` is the file that it writes to."""

    order: Order
    api_key: str
    log: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _ended: asyncio.Task[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where requests go, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self.order.name

    @property
    def context(self) -> int:
        """Tokens of each conversation, as it was asked for."""
        return self.order.ctx

    @property
    def slot(self) -> int | None:
        """The slot that requests are pinned to: none, for a server that has one client."""
        return None

    @property
    def waits(self) -> bool:
        """Whether requests queue behind other conversations: never."""
        return False

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
        command = choose_engine(self.order.engine)
        try:
            self._process = process = spawn(self.log, stdout=subprocess.PIPE)
            self._send(command)
            assert process.stdout is not None
            reader = await _reader(process.stdout)
            async with asyncio.timeout(LOADING):
                line = await reader.readline()
                # The worker alone holds the other end, so the end of this pipe is the end of the worker.
                self._ended = asyncio.ensure_future(reader.read())
                if line:
                    self.port = json.loads(line)["port"]
                    await self._until_healthy()
            if not line or self._ended.done():
                raise await self.failure()
        except TimeoutError:
            await self.stop()
            raise ModelError(
                f"the llama.cpp server did not finish loading {self.order.gguf} in {LOADING:g} s",
                f"its log: {self.log}",
            ) from None
        except BaseException:
            await self.stop()
            raise

    def _send(self, command: Sequence[str]) -> None:
        # The port is 0 the first time; after a crash the one that clients know.
        assert self._process is not None
        send(self._process, self.order.line(command, port=self.port, api_key=self.api_key))

    async def _until_healthy(self) -> None:
        assert self._ended is not None
        while not self._ended.done() and await status(self.port) != 200:
            await asyncio.wait({self._ended}, timeout=0.02)

    async def _wait(self, seconds: float) -> bool:
        return self._process is None or await gone(self._process, seconds)

    async def failure(self) -> ModelError:
        """Why the server is not there, from its exit code and the errors in its log."""
        await self._wait(GRACE)
        return failure(self.order.gguf.name, self._process.poll() if self._process else None, self.log)

    async def died(self) -> bool:
        """Whether the process has ended, or does so within a moment: a broken stream is seen first."""
        return await self._wait(0.5)

    async def restart(self) -> None:
        """Start again after the process died, at the same address, with the same key. Raises ModelError."""
        await self.stop()
        await self.launch()

    async def close(self) -> None:
        """End the server: nobody else uses it."""
        await self.stop()

    async def stop(self) -> None:
        """End the server; safe to call at any time and more than once."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._ended is not None:
            self._ended.cancel()
            self._ended = None
        try:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()  # asks it to end
            if not await gone(process, GRACE):
                process.terminate()
                await gone(process, GRACE)
        finally:
            # Also when this was cancelled: nothing may stay behind.
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


async def gone(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a process without blocking the loop; whether it came in time."""
    pause, waited = 0.002, 0.0
    while process.poll() is None:
        if waited >= seconds:
            return False
        await asyncio.sleep(pause)
        waited += pause
        pause = min(pause * 2, 0.05)
    return True


async def start(
    gguf: Path | Order,
    *,
    ctx: int = 0,
    slots: int = 1,
    threads: int | None = None,
    log: Path,
    engine: str = "auto",
) -> LocalServer:
    """Start a server for a GGUF file and wait until it answers.

    `ctx` is the context of each slot in tokens, `engine` one of ENGINES, `log` a file that is appended to; an
    Order says all but the log at once. Raises UsageError for what is not a GGUF file to read, ModelError when no
    server can be started.
    """
    order = gguf if isinstance(gguf, Order) else Order(gguf, ctx, slots, threads or 0, engine)
    check_files(order)
    server = LocalServer(order, secrets.token_urlsafe(32), log)
    await server.launch()
    return server


def check_files(order: Order) -> None:
    """Raise UsageError unless the order's model and adapters are files to read; names are not looked at."""
    if not order.by_name:
        check_file(order.gguf)
        for path, _ in order.lora:
            check_file(path, "adapter")


def check_file(gguf: Path, what: str = "model file") -> None:
    """Raise UsageError unless there is a GGUF file to read: llama.cpp's own words for this help nobody."""
    try:
        str(gguf).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of the {what} {gguf} is not UTF-8 text", "give it another name") from None
    try:
        with gguf.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise UsageError(f"the {what} {gguf} cannot be read: {error.strerror}", "check the path") from error
    if magic == b"version ":
        raise UsageError(f"the {what} {gguf} is only a Git LFS pointer", "fetch it: git lfs pull")
    if not magic.startswith(b"GGUF"):
        raise UsageError(f"the {what} {gguf} is not a GGUF file", "llama.cpp reads only GGUF files")


def choose_engine(wanted: str = "auto") -> tuple[str, ...]:
    """The command of an external server; () for xllamacpp. ModelError when there is none of the kind."""
    if wanted in ("auto", "xllamacpp") and has_xllamacpp():
        return ()
    program = "llama-server" if wanted == "auto" else wanted
    if wanted != "xllamacpp" and (found := shutil.which(program)):
        return (found,)
    if wanted in ("vllm", "ollama"):
        raise ModelError(
            f"there is no `{wanted}` on PATH", f"install it, or set `server` to another; {INSTALL}"
        )
    if wanted == "llama-server":
        raise ModelError("there is no `llama-server` on PATH", "install llama.cpp, or use " + INSTALL)
    if wanted == "xllamacpp":
        raise ModelError("the package xllamacpp is not installed", INSTALL)
    raise ModelError("a local model needs llama.cpp: there is neither xllamacpp nor `llama-server`", INSTALL)


def has_xllamacpp() -> bool:
    """Whether the package is installed; does not load its 100 MB."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


#: An ERROR line of llama.cpp: time since start, level, and who says it.
ERROR_LINE = re.compile(r"^(?:[\d.]+ )?E (.*)$|^(error: .*)$", re.MULTILINE)
WHO = re.compile(r"^(?:\w+ +)?[\w()~]+: +")


def last_errors(log: Path, count: int = 3) -> list[str]:
    """What went wrong according to a server's log: its first ERROR lines since the start, else its last."""
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


def spawn(
    log: Path, *, stdout: int = subprocess.DEVNULL, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a worker that writes to this log; its order is still to be sent. `keep` are files left open in it."""
    worker = Path(__file__).with_name("llama_worker.py")
    try:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ModelError(f"the server's log {log} cannot be written: {error.strerror}") from error
    try:
        os.write(errors, STARTED.encode())
        # -P: nothing in the working folder, a repository perhaps, may pose as a module of the worker.
        # A session of its own: Ctrl-C at the terminal is for pool alone. `/`: it must not hold a worktree.
        return subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=errors,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != "POOL_API_KEY"},
            start_new_session=True,
            pass_fds=keep,
        )
    finally:
        os.close(errors)


def send(process: subprocess.Popen[bytes], line: Mapping[str, Any]) -> None:
    """Give a worker its order."""
    assert process.stdin is not None
    # A broken pipe: it ended already; whoever waits for it sees that and says why.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()


def failure(name: str, code: int | None, log: Path) -> ModelError:
    """Why the server of a model is not there, from its exit code (None: unknown) and its log."""
    where = f"its log: {log}"
    why = "; ".join(last_errors(log)) or "it wrote no reason"
    if code in (-9, 137):
        what = f"the model server for {name} was killed, probably for lack of memory"
        return ModelError(what, f"use a smaller model, or set a smaller `context`; {where}")
    if code is not None and (code < 0 or code > 128):
        number = -code if code < 0 else code - 128
        what = f"the model server for {name} crashed (signal {number}): {why}"
        return ModelError(what, f"another build may do: see `server` in `pool config show`; {where}")
    if code is None:
        return ModelError(f"the model server for {name} is gone; its last words: {why}", where)
    what = f"the model server could not serve {name}: {why}"
    return ModelError(what, f"is it a whole model that this server knows? {where}")


async def _reader(pipe: IO[bytes]) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def status(port: int, path: str = "/health", key: str = "") -> int:
    """The HTTP status of a path, 0 when nobody answers. By hand: importing an HTTP client costs 60 ms."""
    sign = f"Authorization: Bearer {key}\r\n" if key else ""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{sign}Connection: close\r\n\r\n".encode()
            )
            line = await reader.readline()
            writer.close()
            return int(line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0
