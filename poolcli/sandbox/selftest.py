"""Whether a sandbox holds on this machine, shown before the first command of a model runs in it.

A small program tries what must not work, inside the very confinement of the run: to write outside, to read a
file in the user's HOME, to connect to a server on this machine and to a socket of a service. What it wrote and
whom it reached is looked up from outside as well: a file in a private /tmp is no breach, and a program that did
not run proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from poolcli import process
from poolcli.errors import RefusedError
from poolcli.sandbox.base import Confinement, Sandbox, wrap

#: Seconds for one small program; slower machines than this have no use for a sandbox.
_PATIENCE = 30.0

#: How folders of a trial are called: where, by which process, started when, and what mkdtemp adds.
_TRIAL = ".pool-trial-"
_NAME = re.compile(r"\.pool-trial-([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[a-z0-9_]{8}")
#: In the place of a machine that says nothing of itself.
_UNKNOWN = "00000000"
#: Entries of a folder that are looked at for leftovers: a /tmp with more has other worries.
_ENTRIES = 20_000
#: Seconds after which a trial that cannot be asked for is over: it takes one, and is ended after 30.
_LONG_OVER = 3600.0

#: What each sandbox promises. One that reaches less does not promise it in its note either.
PROMISES: Mapping[str, tuple[str, ...]] = {
    "bubblewrap": ("write", "read", "connect", "service"),
    "landlock": ("write", "read", "connect"),
    "seatbelt": ("write", "read", "connect"),
}

_MEANING = {
    "write": "files outside of the worktree cannot be changed",
    "read": "files in your home folder cannot be read",
    "connect": "servers on this machine cannot be reached",
    "service": "sockets of services in /tmp and /run cannot be reached",
}

#: Prints what it reached as one line of JSON. Only the standard library, and no site packages.
_PROGRAM = r"""
import json, socket, sys
asked = json.loads(sys.argv[1])
reached = {}
def attempt(name, do):
    try:
        do()
        reached[name] = ""
    except Exception as error:
        reached[name] = type(error).__name__
def write():
    done = 0
    for path in asked["write"]:
        try:
            with open(path, "w") as file:
                file.write(asked["mark"])
            done += 1
        except OSError:
            pass
    if not done:
        raise PermissionError
def read():
    if open(asked["read"]).read() != asked["mark"]:
        raise ValueError
def connect():
    with socket.create_connection(("127.0.0.1", asked["connect"]), 5) as link:
        link.sendall(asked["mark"].encode())
def service():
    done = 0
    for path in asked["service"]:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(5)
                link.connect(path)
                link.sendall(asked["mark"].encode())
            done += 1
        except OSError:
            pass
    if not done:
        raise ConnectionError
for name, do in (("write", write), ("read", read), ("connect", connect), ("service", service)):
    attempt(name, do)
print(json.dumps(reached))
"""


class Check(Struct, frozen=True):
    """One protection: whether it held, and one line that says so."""

    name: str
    held: bool
    line: str


class SelfTest(Struct, frozen=True):
    """What came of it. Goes into the log as it is."""

    sandbox: str
    checks: tuple[Check, ...]
    #: Seconds of the whole test.
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Check, ...]:
        """The protections that the sandbox promises and that did not hold."""
        return tuple(
            check for check in self.checks if not check.held and check.name in PROMISES.get(self.sandbox, ())
        )


async def run(sandbox: Sandbox, confinement: Confinement, environment: Mapping[str, str]) -> SelfTest:
    """Try the sandbox on itself. Raises RefusedError when the trial cannot be made at all.

    For a sandbox that promises nothing (`none`, `external`) too: what it says then is true of this machine.
    """
    mark = secrets.token_hex(16)
    own = (Path(sys.prefix), Path(sys.base_prefix))
    # Pool's own Python runs the trial; where it lies in a hidden folder, that one is shown.
    here = msgspec.structs.replace(
        confinement, readable=tuple(dict.fromkeys([*confinement.readable, *_hidden_only(own)]))
    )
    with _canaries(confinement, mark) as canaries:
        asked = json.dumps({"mark": mark, **canaries.asked})
        argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", _PROGRAM, asked]
        launch = wrap(sandbox, argv, here, environment)
        serving = asyncio.create_task(canaries.serve())
        try:
            done = await process.run(
                launch.argv, cwd=confinement.root, env=launch.env, timeout=_PATIENCE, pass_fds=launch.fds
            )
        except OSError as error:
            raise RefusedError(f"the sandbox {sandbox.name} does not start: {error}", _FIX) from None
        finally:
            launch.close()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        said = _said(done.output)
        if done.exit_code != 0 or said is None:
            reason = " ".join(done.output.split())[-300:] or f"exit code {done.exit_code}"
            raise RefusedError(f"the sandbox {sandbox.name} does not run a command: {reason}", _FIX)
        checks = tuple(
            Check(name, held, _line(name, held))
            for name in _MEANING
            for held in [not canaries.reached(name) and (name == "write" or said.get(name) != "")]
        )
    return SelfTest(sandbox.name, checks, done.seconds)


def require(result: SelfTest) -> None:
    """Raises RefusedError when a promised protection did not hold."""
    if result.failed:
        lines = "; ".join(check.line for check in result.failed)
        raise RefusedError(f"the sandbox {result.sandbox} does not hold on this machine: {lines}", _FIX)


_FIX = (
    "`pool doctor` says what this machine can do; a container of its own with --sandbox external is a way too"
)


def _line(name: str, held: bool) -> str:
    return f"held: {_MEANING[name]}" if held else f"NOT held: {_MEANING[name]}"


def _said(output: str) -> dict[str, str] | None:
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            if isinstance(said := json.loads(line), dict):
                return said
    return None


def _hidden_only(folders: tuple[Path, ...]) -> Iterator[Path]:
    from poolcli.sandbox import bubblewrap, surroundings

    masked = bubblewrap.masked(surroundings.home())
    for folder in folders:
        real = Path(os.path.realpath(folder))
        if any(real.is_relative_to(place) and real != place for place in masked):
            yield real


class _Canaries:
    """Files, a server and a socket that nobody but the trial touches."""

    def __init__(self, folders: list[Path], mark: str, server: socket.socket) -> None:
        self._mark = mark
        self._server = server
        self._services: list[socket.socket] = []
        self._met: set[str] = set()
        self._written = [folder / "written" for folder in folders]
        readable = folders[0] / "secret"
        readable.write_text(mark)
        paths = [str(folder / "socket") for folder in folders[1:]]
        for path in paths:
            service = socket.socket(socket.AF_UNIX)
            service.bind(path)
            service.listen()
            service.setblocking(False)
            self._services.append(service)
        self.asked = {
            "write": [str(path) for path in self._written],
            "read": str(readable),
            "connect": server.getsockname()[1],
            "service": paths,
        }

    def reached(self, name: str) -> bool:
        """Whether the trial got through to what is outside."""
        if name == "write":
            return any(path.exists() for path in self._written)
        return name in self._met

    async def serve(self) -> None:
        """Take connections until cancelled. A stranger who does not know the mark does not count."""
        await asyncio.gather(
            self._take(self._server, "connect"),
            *(self._take(service, "service") for service in self._services),
        )

    async def _take(self, server: socket.socket, name: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            link, _ = await loop.sock_accept(server)
            with link, contextlib.suppress(OSError, TimeoutError):
                link.setblocking(False)
                async with asyncio.timeout(1):
                    if await loop.sock_recv(link, 64) == self._mark.encode():
                        self._met.add(name)

    def close(self) -> None:
        for service in (self._server, *self._services):
            service.close()


def _sweep(place: Path) -> None:
    """Remove what trials left here whose process was killed: this user's folders with such a name, and no link."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in itertools.islice(entries, _ENTRIES):
            named = _NAME.fullmatch(entry.name)
            if not named or not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.geteuid() and _is_over(named, status.st_mtime):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _is_over(named: re.Match[str], changed: float) -> bool:
    machine, process_id, born = named.groups()
    if machine == _machine() != _UNKNOWN:
        return _born(int(process_id)) != born
    # From before a start of the machine, or of a container that shares the folder: its processes are not seen here.
    return time.time() - changed > _LONG_OVER


def _machine() -> str:
    """What tells apart where numbers of processes mean something else: 8 hexadecimal digits."""
    parts = []
    with contextlib.suppress(OSError):
        parts = [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return f"{zlib.crc32(' '.join(parts).encode()):08x}" if parts else _UNKNOWN


def _born(pid: int) -> str:
    """When a process started, in ticks of the kernel; 0 when there is none (or no /proc)."""
    try:
        # The name of the program, in brackets, may hold spaces and brackets itself.
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


@contextlib.contextmanager
def _canaries(confinement: Confinement, mark: str) -> Iterator[_Canaries]:
    from poolcli.sandbox import surroundings

    with contextlib.ExitStack() as stack:
        folders: list[Path] = []
        prefix = f"{_TRIAL}{_machine()}-{os.getpid()}-{_born(os.getpid())}-"
        # HOME first: its file is the one to be read. A machine without a writable HOME has nothing there to lose.
        for place in (surroundings.home(), Path("/tmp"), Path("/run"), Path("/var/tmp")):
            with contextlib.suppress(OSError):
                _sweep(place)
                name = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
                )
                folders.append(Path(name))
        if len(folders) < 2:
            raise RefusedError("no folder to try the sandbox with: HOME and /tmp cannot be written")
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.setblocking(False)
        canaries = _Canaries(folders, mark, server)
        stack.callback(canaries.close)
        yield canaries
