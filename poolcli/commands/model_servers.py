"""`pool models serve`, `stop` and `logs`: the model servers that pool runs on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_codec
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolcli import config
from poolcli.errors import Exit, ModelError, RepositoryError, UsageError
from poolcli.models import llama_worker as files
from poolcli.models import shared_server
from poolcli.models.llama_server import Order
from poolcli.models.reference import Demo, LocalFile
from poolcli.models.shared_server import Running, SharedServer
from poolcli.sanitize import clean, in_json

#: Seconds between two looks at a server that is being served, or at a log that is followed.
LOOK = 0.5
#: How often a served model that died is started again before we give up.
RESTARTS = 3
#: Bytes of a log's end in which its last lines are looked for.
TAIL = 2_000_000
#: What `serve` takes beside the settings of config.py.
EXTRAS = ("force", "show_key")


def serve(reference: str, flags: Mapping[str, Any], *, port: int = 0, json: bool = False) -> int:
    """Serve a model until interrupted, or join the server that does; returns the exit code.

    `reference` is as for `--model`, or a fetched model; '' is the configured one. `flags` are settings by name
    (`context`, `slots`, `kv_type`, `gpu_layers`, `threads`, `server`, `idle`, …) and EXTRAS: `force` (load what
    does not seem to fit), `show_key`. None means not given.
    Raises UsageError for what is no model file, ModelError when it cannot be served.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    extras = {name: given.pop(name) for name in EXTRAS if name in given}
    settings = config.load(_top(), flags={**given, **({"model": reference} if reference else {})})
    server = SharedServer(
        _order(settings, settings.base_url if not reference else ""),
        idle=settings.idle,
        port=port,
        force=bool(extras.get("force")),
    )
    return asyncio.run(_serve(server, port, json=json, show_key=bool(extras.get("show_key"))))


def _order(settings: config.Config, base_url: str) -> Order:
    """The same as `pool do` asks for with these settings: it is to find the server that runs here."""
    from poolcli.models import local
    from poolcli.models.opening import Named, adapter_files, reference_of

    try:
        found = reference_of(settings.model, base_url, settings.server)
    except UsageError as error:
        raise UsageError(
            f"`{settings.model}` is no model file", "`pool models list` shows those that are here"
        ) from error
    match found:
        case Named(name):
            return local.order_named(name, engine=settings.server, ctx=settings.context, slots=settings.slots)
        case Demo():
            path = local.demo_model()
        case LocalFile(path):
            pass
        case _:
            raise UsageError(
                f"`{settings.model or base_url}` is served elsewhere; pool serves model files",
                "name a .gguf file, a fetched model (`pool models list`) or `demo`",
            )
    return local.order_for(
        path,
        ctx=settings.context,
        threads=settings.threads,
        engine=settings.server,
        shared=True,
        slots=settings.slots,
        kv_type=settings.kv_type,
        gpu_layers=settings.gpu_layers,
        lora=adapter_files(settings.lora, settings.origins["lora"]),
    )


def _top() -> Path | None:
    from poolcli.git import find_repository

    try:
        return find_repository(Path.cwd()).top
    except RepositoryError:
        return None


async def _serve(server: SharedServer, port: int, *, json: bool, show_key: bool) -> int:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    ended_by: list[int] = []

    def stop(number: int) -> None:
        ended_by.append(number)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    joining = asyncio.ensure_future(server.join())
    waiting = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({joining, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():
            joining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await joining
            return int(Exit.INTERRUPTED)
        await joining
        _announce(server, port, json=json, show_key=show_key)
        return await _watch(server, stopped)
    finally:
        waiting.cancel()
        ended = await server.stop_if_unused()
        if stopped.is_set() and server.starter:
            _tell(
                "stopped" if ended else "other processes use it: it stays until they do not need it any more"
            )


async def _watch(server: SharedServer, stopped: asyncio.Event) -> int:
    """Until interrupted; a server that dies is started again, one that was stopped is not."""
    restarts = 0
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK)
        if stopped.is_set() or server.alive:
            continue
        if shared_server.was_stopped(server.folder, server.pid):
            _tell("the server was stopped")
            return 0
        failure = await server.failure()
        restarts += 1
        if restarts > RESTARTS:
            raise failure
        _tell(f"{failure}; starting it again")
        await server.restart()
        _tell(f"it is back at {server.base_url}")
    return 0


def _announce(server: SharedServer, port: int, *, json: bool, show_key: bool) -> None:
    """Say where the model is served: on stdout what programs need, on stderr what people want to know."""
    state, key_file = server.state, server.folder / files.KEY
    facts: dict[str, Any] = {
        "base_url": state.base_url,
        "model": state.name,
        "key_file": str(key_file),
        "context": state.context,
        "slots": state.slots,
        "pid": state.pid,
        "started": server.starter,
        "log": str(server.log),
    }
    if show_key:
        facts["key"] = state.key
    if json:
        sys.stdout.write(in_json(json_codec.dumps(facts, ensure_ascii=False)) + "\n")
    else:
        what = "serving" if server.starter else "joined the server of"
        key = state.key if show_key else f"in {key_file}"
        lines = [f"{what} {state.name} at {state.base_url}", f"its key: {key}"]
        sys.stdout.write("".join(clean(line, keep_newlines=False) + "\n" for line in lines))
        if state.says:
            _tell(state.says)
        _tell("Ctrl-C ends this")
    sys.stdout.flush()
    if port and port != state.port:
        _tell(f"port {port} was not to be had; it is {state.port}")


def stop(name: str = "", *, all: bool = False) -> int:
    """End a server that pool started, or all of them; returns the exit code. Raises UsageError for no such one."""
    chosen = shared_server.running() if all else [_one(name)]
    if not chosen:
        _tell("no model server runs")
    for running in chosen:
        if not shared_server.stop(running.folder):
            raise ModelError(
                f"the server of {running.state.name} (process {running.state.pid}) could not be ended",
                "is it still there? `pool models logs` shows its last words",
            )
        _tell(f"stopped the server of {running.state.name} (process {running.state.pid})")
        if running.used:
            _tell("a pool process uses it: its next request starts it again")
    return 0


def _one(name: str) -> Running:
    found = shared_server.running()
    if not found:
        raise UsageError("no model server runs", "`pool models serve` starts one")
    if name:
        found = [one for one in found if name in (one.state.name, one.folder.name)] or [
            one for one in found if one.folder.name.startswith(name)
        ]
        if not found:
            raise UsageError(f"no model server called {name} runs", f"there is: {_names()}")
    if len(found) > 1:
        raise UsageError(
            "several model servers run", f"name one: {', '.join(one.folder.name for one in found)}"
        )
    return found[0]


def _names() -> str:
    return ", ".join(running.state.name for running in shared_server.running())


def logs(name: str = "", *, follow: bool = False, lines: int = 50) -> int:
    """Print the last lines of a server's log, then go on as it grows when told to; returns the exit code.

    Logs of servers that have ended are there for a month. Raises UsageError when there is none of that name.
    """
    log = _log(name)
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - TAIL))
            text = file.read(TAIL).decode("utf-8", "replace").splitlines()
            _print(text[-lines:] if lines else [])
            while follow:
                if piece := file.read(TAIL):
                    _print(piece.decode("utf-8", "replace").splitlines())
                elif not _grows(log, file.tell()):
                    return 0
                else:
                    time.sleep(LOOK)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except OSError as error:
        raise UsageError(f"the log {log} cannot be read: {error.strerror}") from error
    return 0


def _log(name: str) -> Path:
    with contextlib.suppress(UsageError):
        return _one(name).folder / files.LOG
    ended = [folder for folder in shared_server.folders() if folder.name.startswith(name)]
    found = sorted(ended, key=lambda folder: (folder / files.LOG).stat().st_mtime)
    if not found:
        raise UsageError(
            f"there is no log of a server called {name}" if name else "there is no log of a model server",
            "logs of single runs are in their own folders; `pool log` lists the runs",
        )
    return found[-1] / files.LOG


def _grows(log: Path, position: int) -> bool:
    """Whether more may come: the file is still this one, and longer, or its server lives."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > position:
            return True
    state = shared_server.read_state(log.parent)
    return state is not None and state.alive


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(clean(line, keep_newlines=False) + "\n" for line in lines))
    sys.stdout.flush()


def _tell(text: str) -> None:
    sys.stderr.write(clean(text, keep_newlines=False) + "\n")
