"""One model server for all of a user's pool processes: joined when it runs, started when it does not.

Who wants it takes the folder's lock, then a lease, then looks whether the server in `server.json` lives. The
starter hands the lock on to the worker, which keeps it until it serves: a starter that is killed meanwhile changes
nothing. The worker ends by itself when nobody has held a lease for a while. Nothing here trusts a number in a file
before the process behind it is known to be that one (docs/decisions/0009-shared-local-server.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poolcli import __version__, paths
from poolcli.errors import ModelError
from poolcli.models import llama_worker as files
from poolcli.models.fit import Plan, Wishes
from poolcli.models.llama_server import (
    GRACE,
    LOADING,
    Order,
    check_files,
    choose_engine,
    failure,
    has_xllamacpp,
    send,
    spawn,
    status,
)

#: Seconds that a server stays when nobody uses it: loading it again takes longer than a look at the result.
IDLE = 600.0
#: Bytes of a log above which a new start puts it aside, as `log.1`.
LARGEST_LOG = 4_000_000
#: Bytes of a server.json; more is none.
LARGEST_STATE = 100_000
#: Seconds between two looks at a lock or a server that is starting.
PAUSE = 0.05
#: Seconds for a running server to answer; one that swaps may be slow, one that hangs never does.
PATIENCE = 60.0
#: Seconds that a server has to end when asked; an external one below it has GRACE of them.
STOPPING = GRACE + 1.0
#: How often a server that ends while it loads is started again by one join.
ATTEMPTS = 2
#: Seconds that the log of a server that is gone is kept: a month.
KEPT = 30 * 86_400.0

#: Workers that this process started: to be reaped, and to know how they ended.
_children: dict[int, subprocess.Popen[bytes]] = {}


class State(Struct, frozen=True):
    """What `server.json` says of a server. `port` is 0 while it loads; `says` is its plan in words."""

    pid: int
    started: str
    port: int
    key: str
    model: str
    name: str
    engine: str
    context: int
    slots: int
    health: str = "/health"
    says: str = ""
    version: str = ""
    pool: str = ""
    since: float = 0.0

    def __repr__(self) -> str:
        # A traceback or a log must never show the key.
        return f"State({self.name!r}, pid {self.pid}, port {self.port})"

    @property
    def base_url(self) -> str:
        """Where requests go, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def alive(self) -> bool:
        """Whether that very process still runs, not another one of its number."""
        return bool(self.started) and files.started(self.pid) == self.started


class Running(Struct, frozen=True):
    """A server of this user, for lists. `users` is how many pool processes need it now."""

    folder: Path
    state: State
    users: int

    @property
    def used(self) -> bool:
        """Whether a pool process needs it now."""
        return self.users > 0

    @property
    def says(self) -> str:
        """What runs, in words."""
        one = "1 user" if self.users == 1 else f"{self.users} users"
        return f"{self.state.name}, served by pool (process {self.state.pid}, {one})"


def root() -> Path:
    """Where the folders of shared servers are."""
    return paths.state_dir() / "servers"


def identity(order: Order) -> str:
    """The name of a server's folder: equal for equal orders for the same content.

    It holds what was asked for, not what the plan made of it: that depends on the memory free at the time.
    """
    engine = order.engine
    if engine == "auto":
        engine = "xllamacpp" if has_xllamacpp() else "llama-server"
    what: list[Any] = [engine, order.ctx, order.slots, order.threads, order.kv_type, order.gpu_layers]
    for path in [] if order.by_name else [order.gguf, *(path for path, _ in order.lora)]:
        real = path.resolve()
        about = real.stat()
        what += [str(real), about.st_size, about.st_mtime_ns]
    what += [order.name, [scale for _, scale in order.lora]]
    digest = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", order.name)[:60].strip(".-") or "model"
    return f"{name}-{digest}"


class SharedServer:
    """This process' use of a server that others may use too: a lease, and a slot of its own where one is free."""

    def __init__(self, order: Order, *, idle: float = IDLE, port: int = 0, force: bool = False) -> None:
        """`port` is a wish, for a server that is not there yet. `force` loads what does not seem to fit.

        Raises UsageError for what is not a GGUF file to read.
        """
        check_files(order)
        self.order = order
        self.folder = root() / identity(order)
        #: Whether it was this process that started the server.
        self.starter = False
        self._idle, self._port, self._force = idle, port, force
        self._state: State | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lease: int | None = None
        self._slot: tuple[int, int] | None = None  # number, file

    # What a model needs to know --------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What is known of the server; only after `join`."""
        assert self._state is not None, "not joined"
        return self._state

    @property
    def base_url(self) -> str:
        """Where requests go, `/v1` included. It may be another one after a restart."""
        return self.state.base_url

    @property
    def api_key(self) -> str:
        """The server's own random key."""
        return self.state.key

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self.order.name

    @property
    def context(self) -> int:
        """Tokens of each conversation, as it was planned; 0 when that was left to it."""
        return self.state.context

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self.state.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        self._reap()
        return self._state is not None and self._state.alive

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.folder / files.LOG

    @property
    def slot(self) -> int | None:
        """The slot that is this conversation's alone; None while others have them all. Asks anew each time."""
        if self._slot is None and self._lease is not None and self._state is not None and self._pins:
            # From the end: clients that name no slot tend to get the first ones.
            for number in reversed(range(self._state.slots)):
                file = files.try_lock(self.folder / f"slot-{number}.lock")
                if file is not None:
                    self._slot = number, file
                    break
        return self._slot[0] if self._slot else None

    @property
    def waits(self) -> bool:
        """Whether this conversation would have a slot of its own were one free."""
        return self._pins and self.slot is None

    @property
    def _pins(self) -> bool:
        return not self.order.by_name  # only llama.cpp has slots

    # Joining and leaving ---------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Use the running server, or start it; returns when it answers. Raises ModelError."""
        _private(root())
        _private(self.folder)
        end = time.monotonic() + LOADING
        try:
            for _ in range(ATTEMPTS + 1):
                process = await self._begin(end)
                if await self._ready(process, end):
                    return
            raise failure(self.order.gguf.name, None, self.log)
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError):  # a full disk
                raise _unusable(self.folder, error) from error
            raise

    async def restart(self) -> None:
        """Start it again after it died, or join the one that another process started meanwhile."""
        await self.join()

    async def died(self) -> bool:
        """Whether it is gone, or is so within a moment: a broken stream is seen first."""
        for _ in range(10):
            if not self.alive:
                return True
            await asyncio.sleep(PAUSE)
        return False

    async def failure(self) -> ModelError:
        """Why it is gone, as far as that is known here."""
        self._reap()
        code = self._process.poll() if self._process else None
        return failure(self.order.gguf.name, code, self.log)

    async def close(self) -> None:
        """Leave the server to the others; it ends by itself when there are none for a while."""
        if self._slot is not None:
            os.close(self._slot[1])
            self._slot = None
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None
            _tidy(self.folder)

    async def stop_if_unused(self) -> bool:
        """Leave, and end a server that we started when no other process uses it; whether it was ended."""
        await self.close()
        if not self.starter or files.in_use(self.folder):
            return False
        return await asyncio.to_thread(stop, self.folder)

    async def _begin(self, end: float) -> subprocess.Popen[bytes] | None:
        """Under the lock: take a lease; start a worker unless one lives. Gives the worker that was started."""
        lock = await self._locked(end)
        try:
            self._take_lease()
            state = read_state(self.folder)
            if state is not None and state.alive:
                return None
            if state is None:
                await asyncio.to_thread(_distrust, self.folder)
            return await self._spawn(lock, state)
        finally:
            os.close(lock)  # a worker that was started holds it still

    async def _locked(self, end: float) -> int:
        while (lock := self._try_lock()) is None:
            if time.monotonic() > end:
                raise ModelError(
                    f"another process has been starting the server for {self.name} for {LOADING:g} s",
                    f"`pool models stop` ends it; its log: {self.log}",
                )
            await asyncio.sleep(PAUSE)
            self.folder.mkdir(mode=0o700, exist_ok=True)  # somebody may have removed it
        return lock

    def _try_lock(self) -> int | None:
        try:
            return files.try_lock(self.folder / files.LOCK)
        except OSError as error:
            raise ModelError(
                f"files in {self.folder} cannot be locked: {error.strerror}",
                "set POOL_STATE to a folder on a local disk",
            ) from error

    def _take_lease(self) -> None:
        if self._lease is not None:
            os.close(self._lease)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lease = os.open(self.folder / files.LEASES, flags, 0o600)
        # The worker's look at the leases takes microseconds; it alone ever wants this one exclusively.
        fcntl.flock(self._lease, fcntl.LOCK_SH)

    async def _spawn(self, lock: int, old: State | None) -> subprocess.Popen[bytes]:
        """Start a worker. After a crash it gets the address and the key that clients know."""
        command = choose_engine(self.order.engine)
        order, says = await asyncio.to_thread(_planned, self.order, command, self._force)
        files.clear(self.folder)
        (self.folder / files.STOPPED).unlink(missing_ok=True)
        _rotate(self.log)
        key = old.key if old else secrets.token_urlsafe(32)
        about = State(
            pid=0,
            started="",
            port=0,
            key=key,
            model=str(order.gguf if order.by_name else order.gguf.resolve()),
            name=order.name,
            engine=Path(command[0]).name if command else "xllamacpp",
            context=order.ctx,
            slots=order.slots,
            health="/api/version" if order.engine == "ollama" else "/health",
            says=says,
            version=_version(command),
            pool=__version__,
            since=time.time(),
        )
        process = spawn(self.log, keep=(lock,))
        _children[process.pid] = process
        port = old.port if old and old.port else self._port
        line = order.line(command, port=port, api_key=key)
        shared = {
            "folder": str(self.folder),
            "lock": lock,
            "idle": self._idle,
            "state": msgspec.to_builtins(about),
        }
        send(process, {**line, **shared})
        assert process.stdin is not None
        process.stdin.close()
        self.starter = True
        return process

    async def _ready(self, process: subprocess.Popen[bytes] | None, end: float) -> bool:
        """Wait until the server answers; False when it is gone before. Raises ModelError when it cannot serve."""
        asked = 0.0
        while True:
            if process is not None and process.poll() is not None:
                self._process = process
                raise await self.failure()
            state = read_state(self.folder)
            if state is None or not state.alive:
                if process is None:
                    return False  # it ended, or somebody stopped it, since we looked
            elif state.port:
                asked = asked or time.monotonic()
                if await self._answers(state):
                    self._know(state, process)
                    return True
            now = time.monotonic()
            if now > end or (process is None and asked and now - asked > PATIENCE):
                seconds = PATIENCE if asked else LOADING
                raise ModelError(
                    f"the server for {self.name} has not answered for {seconds:g} s",
                    f"`pool models stop` ends it; its log: {self.log}",
                )
            await asyncio.sleep(PAUSE)

    async def _answers(self, state: State) -> bool:
        if await status(state.port, state.health) != 200:
            return False
        if state.health != "/health":
            return True  # ollama knows no key
        code = await status(state.port, "/v1/models", state.key)
        if code in (401, 403):
            raise ModelError(
                f"what answers at {state.base_url} does not know the key of the server for {self.name}",
                "`pool models stop` ends the server; the next run starts it again",
            )
        return code == 200

    def _know(self, state: State, process: subprocess.Popen[bytes] | None) -> None:
        self._state = state
        self._process = process or _children.get(state.pid)
        if self._slot is not None and self._slot[0] >= state.slots:
            os.close(self._slot[1])  # it was started again with fewer slots
            self._slot = None

    def _reap(self) -> None:
        for process in _children.values():
            process.poll()  # a dead child is a zombie until then


def _planned(order: Order, command: tuple[str, ...], force: bool) -> tuple[Order, str]:
    """The order as this machine can serve it, and a sentence about that. Raises ModelError and UsageError."""
    if order.by_name:
        return order, ""  # their servers size themselves
    from msgspec.structs import replace

    from poolcli.models import fit, gguf, hardware

    wishes = Wishes(
        context=order.ctx,
        slots=order.slots,
        kv_type="q8_0" if order.kv_type == "q8_0" else "f16",
        gpu_layers=order.gpu_layers,
        fixed=frozenset((*order.fixed, *(["kv_type"] if order.kv_type else []))),
    )
    model, machine = gguf.read(order.gguf), hardware.look(command)
    plan: Plan = fit.plan(model, machine, wishes) if force else fit.check(model, machine, wishes)
    says = plan.says + _trouble(model)
    # Without a GPU the number means nothing, and llama.cpp's own choice is as good.
    layers = plan.gpu_layers if machine.gpus or order.gpu_layers >= 0 else -1
    return (
        replace(order, ctx=plan.context, slots=plan.slots, kv_type=plan.kv_type, gpu_layers=layers),
        says,
    )


def _trouble(model: Any) -> str:
    return "" if model.chat_template else "; the file has no chat template: tool calls may not work"


def _version(command: tuple[str, ...]) -> str:
    if command:
        return command[0]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"xllamacpp {version('xllamacpp')}"
    except PackageNotFoundError:
        return "xllamacpp"


# Files ----------------------------------------------------------------------------------------------------------


def read_state(folder: Path, *, trusted: bool = True) -> State | None:
    """What `server.json` says; None when there is none that only its owner could have written and read.

    With `trusted` False the latter does not matter: for ending a server whose key others may know.
    """
    try:
        file = os.open(folder / files.STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid():
            return None
        if about.st_mode & 0o077 and trusted:
            return None
        state = msgspec.json.decode(os.read(file, LARGEST_STATE), type=State)
        return state if 0 <= state.port < 65_536 and state.pid > 1 and state.slots > 0 else None
    except (OSError, msgspec.MsgspecError):
        return None
    finally:
        os.close(file)


def _private(folder: Path) -> None:
    """See to it that only this user can enter a folder. Raises ModelError when it is somebody else's.

    What lay in one that others could write to is not trusted: it could name their server, or make us end a
    process of ours.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise ModelError(f"{folder} is not a folder of yours", "remove it, or set POOL_STATE")
        if about.st_mode & 0o077:
            folder.chmod(0o700)
            _distrust(folder)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> ModelError:
    what = f"the folder {folder} for the model server cannot be used: {error.strerror}"
    return ModelError(what, "set POOL_STATE to another folder")


def _distrust(folder: Path) -> None:
    """End the server that an untrusted file names, if it is one of ours, and drop the file."""
    state = read_state(folder, trusted=False)
    if state is not None:
        _end(state)
    (folder / files.STATE).unlink(missing_ok=True)


def _rotate(log: Path) -> None:
    """Put a long log aside, and remove the folders of servers that nobody has used for a month."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_name(f"{files.LOG}.1"))
    with contextlib.suppress(OSError):
        for folder in root().iterdir():
            names = {file.name for file in folder.iterdir()}
            old = time.time() - (folder / files.LOG).stat().st_mtime > KEPT
            if old and names <= {files.LOG, f"{files.LOG}.1"}:
                shutil.rmtree(folder, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what a dead server left, when nobody else needs it."""
    lock = None
    with contextlib.suppress(OSError):
        lock = files.try_lock(folder / files.LOCK)
    if lock is None:
        return
    try:
        state = read_state(folder)
        if (state is None or not state.alive) and not files.in_use(folder):
            files.clear(folder)
    finally:
        os.close(lock)


# For the commands -----------------------------------------------------------------------------------------------


def running() -> list[Running]:
    """The shared servers of this user that are alive, by name."""
    found = []
    with contextlib.suppress(OSError):
        for folder in sorted(root().iterdir()):
            state = read_state(folder)
            if state is not None and state.alive:
                found.append(Running(folder, state, _users(folder)))
    return found


def _users(folder: Path) -> int:
    """How many processes hold a lease; 1 also for more, where the system does not list its locks."""
    if not files.in_use(folder):
        return 0
    try:
        about = (folder / files.LEASES).stat()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return 1
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    return max(1, sum(place in line.split() and "->" not in line for line in locks))


def folders() -> list[Path]:
    """The folders that hold a log, of servers that run or ran."""
    try:
        return sorted(folder for folder in root().iterdir() if (folder / files.LOG).is_file())
    except OSError:
        return []


def was_stopped(folder: Path, pid: int) -> bool:
    """Whether the server of this number was ended by `stop` rather than by an accident."""
    try:
        return (folder / files.STOPPED).read_text() == str(pid)
    except OSError:
        return False


def stop(folder: Path) -> bool:
    """End the server of a folder: asked first, killed if it does not; whether there was one. Blocks some seconds.

    Only a process that is known to be our worker is ever sent a signal.
    """
    state = read_state(folder)
    if state is None or not state.alive:
        return False
    files.write_file(folder / files.STOPPED, str(state.pid))
    if not _end(state):
        return False
    _tidy(folder)
    return True


def _end(state: State) -> bool:
    """End a server's process; whether there was one. Blocks until it is gone."""
    if not state.alive or not _is_worker(state.pid):
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        end = time.monotonic() + STOPPING
        while _still(state) and time.monotonic() < end:
            time.sleep(0.02)
        if not _still(state):
            break
    return True


def _still(state: State) -> bool:
    if state.pid in _children:
        _children[state.pid].poll()
    return state.alive


def _is_worker(pid: int) -> bool:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return any(part.endswith(b"llama_worker.py") for part in argv)
        return False
    said = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout
    return "llama_worker.py" in said
