"""The child process that runs a model server: for one process of pool, or for all of a user's.

Started as a program of its own (it imports nothing of pool). The order comes as one JSON line on stdin, so that
the API key is in no argument list. All that it prints goes to stderr, the log.

A private server ends when the process that started it does: stdin stays open for as long as that lives. Once it
listens, or is about to, one line `{"port": N}` goes to stdout.

A shared server outlives its starter. It keeps `server.json` in its folder, and ends by itself when for some time
no process has held the lock on `leases` (docs/decisions/0009-shared-local-server.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
#: Settings of a user's own llama-server that would make ours fetch models, run tools or serve pages.
UNWANTED = ("HF_REPO", "HF_FILE", "MODEL_URL", "MODELS_DIR", "MODELS_PRESET", "TOOLS", "API_PREFIX")
#: Names in the folder of a shared server.
STATE, LOCK, LEASES, LOG, KEY = "server.json", "lock", "leases", "log", "key"
#: Says which server was ended on purpose: whoever serves it in the foreground need not bring it back.
STOPPED = "stopped"
#: How often a shared server looks whether anybody still needs it: at least this many times in its idle time.
LOOKS = 10
#: Seconds that an external server has to end by itself before it is killed.
GRACE = 2.0


def main() -> None:
    """Read the order and serve until nobody needs it any more or a signal ends the process."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return  # the parent died before it said what to do
    report = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not be taken for the report
    owner: Private | Shared
    if order.get("folder"):
        os.close(report)
        owner = Shared(order)
    else:
        die_with_parent()
        owner = Private(report)
    owner.begin()
    if order["command"]:
        run_external(order, owner)
    else:
        run_embedded(order, owner)


class Private:
    """A server for the process that started it, and for as long as that lives."""

    def __init__(self, report: int) -> None:
        self._report = report

    def begin(self) -> None:
        """Nothing to do before the server listens."""

    def listens(self, port: int) -> None:
        """Say where the server is. A parent that has gone cannot hear it, which is no error here."""
        with contextlib.suppress(OSError):
            os.write(self._report, json.dumps({"port": port}).encode() + b"\n")

    def until_unneeded(self, end: Callable[[], object]) -> None:
        """Call `end`, in another thread, once the parent has closed its end of stdin, or died."""

        def watch() -> None:
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    pass
            end()

        threading.Thread(target=watch, daemon=True).start()

    def leave(self) -> None:
        """Nothing to clean up."""


class Shared:
    """A server for all processes of a user: its files, and when it may end."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._folder = Path(order["folder"])
        self._lock: int | None = order["lock"]  # held from before our start, so that nobody else starts one
        self._idle = float(order["idle"])
        self._state = {**order["state"], "pid": os.getpid(), "started": started(os.getpid()), "port": 0}

    def begin(self) -> None:
        """Say that a server is being loaded, and by whom: it can be stopped then."""
        write_file(self._folder / KEY, f"{self._state['key']}\n")
        write_file(self._folder / STATE, json.dumps(self._state))

    def listens(self, port: int) -> None:
        """Say where the server is, and let others in."""
        write_file(self._folder / STATE, json.dumps({**self._state, "port": port}))
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def until_unneeded(self, end: Callable[[], object]) -> None:
        """Call `end`, in another thread, once nobody has held a lease for the idle time.

        The lock is kept from then on until this process is gone: whoever comes meanwhile waits and starts anew.
        """

        def watch() -> None:
            last = time.monotonic()
            while True:
                time.sleep(min(self._idle / LOOKS, 5.0))
                if self._lock is not None or in_use(self._folder):
                    last = time.monotonic()
                elif time.monotonic() - last >= self._idle and self._closed():
                    end()
                    return

        threading.Thread(target=watch, daemon=True).start()

    def _closed(self) -> bool:
        """Shut the door unless somebody is in it."""
        if not self._folder.is_dir():
            return True  # somebody removed it: nobody can find us any more
        lock = try_lock(self._folder / LOCK)
        if lock is None:
            return False
        if in_use(self._folder):
            os.close(lock)
            return False
        self._lock = lock  # until the process ends
        return True

    def leave(self) -> None:
        """Remove our files, when nobody else needs them. Needs no lock: only what is ours goes."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            lock = self._lock if self._lock is not None else try_lock(self._folder / LOCK)
            if lock is None:
                return  # somebody is joining; they will see that we are gone and clean up
            if json.loads((self._folder / STATE).read_bytes())["pid"] == os.getpid():
                clear(self._folder)


def write_file(path: Path, text: str) -> None:
    """Write a file: whole or not at all, readable by its owner alone."""
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
    whole.replace(path)


def clear(folder: Path) -> None:
    """Remove the files of a server that is gone; the caller holds the lock. The log stays.

    Leases and slots in use stay as well: their holders wait for the next server.
    """
    for name in (STATE, KEY):
        for file in (folder / name, *folder.glob(f"{name}.*")):
            file.unlink(missing_ok=True)
    if not in_use(folder):
        for slot in (*folder.glob("slot-*.lock"), folder / STOPPED, folder / LEASES, folder / LOCK):
            slot.unlink(missing_ok=True)


def try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock of this file, None when another has it.

    The file may be removed by the one who held it last: a lock on a removed file is none. Raises OSError where
    files cannot be locked at all.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def in_use(folder: Path) -> bool:
    """Whether a process holds a lease."""
    try:
        file = os.open(folder / LEASES, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True  # also where files cannot be locked: rather a server too long than one too short
    finally:
        os.close(file)
    return False


def started(pid: int) -> str:
    """When a process began, as a text that no other process of this number ever has; '' when there is none."""
    if pid <= 0:
        return ""
    if sys.platform != "linux":
        argv = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
        said = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.split()
        return " ".join(said[1:]) if said and not said[0].startswith("Z") else ""
    try:
        # The name of the program may hold anything, so the fields are counted from its closing bracket.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux); elsewhere the end of stdin does it."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# Servers --------------------------------------------------------------------------------------------------------


def run_embedded(order: dict[str, Any], owner: Private | Shared) -> None:
    """The server inside this process, from the xllamacpp package; returns when it could not start."""

    def end(*_: object) -> None:
        owner.leave()
        os._exit(0)

    if isinstance(owner, Private):
        owner.until_unneeded(end)  # also while it loads
    import xllamacpp

    params = embedded_params(xllamacpp, order)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        owner.leave()
        sys.exit(str(error))  # the reason itself is already in the log
    # Only now: while it loads, native code would keep a handler of Python waiting.
    signal.signal(signal.SIGTERM, end)
    owner.listens(int(server.listening_address.rpartition(":")[2]))
    if isinstance(owner, Shared):
        owner.until_unneeded(end)
    while True:
        signal.pause()


def embedded_params(xllamacpp: Any, order: dict[str, Any]) -> Any:
    """The order in the package's terms."""
    params = xllamacpp.CommonParams()
    params.model.path = order["gguf"]
    params.model_alias = {order["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = usable(order["port"])
    params.api_keys = [order["api_key"]]
    params.n_parallel = order["slots"]
    params.n_ctx = order["ctx"] * order["slots"]
    # A unified cache gives pinned slots no reuse at all; without it the context is divided among the slots.
    params.kv_unified = False
    # The cache in host memory may hand one conversation's content to another; pinned slots do not need it.
    params.cache_ram_mib = 0
    params.endpoint_metrics = True
    params.ui = False
    params.offline = True
    if order["threads"]:
        params.cpuparams.n_threads = order["threads"]
        params.cpuparams_batch.n_threads = order["threads"]
    wanted: dict[str, Any] = {}
    if order.get("gpu_layers", -1) >= 0:
        wanted["n_gpu_layers"] = order["gpu_layers"]
    if order.get("kv_type", "f16") != "f16":
        kind = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{order['kv_type'].upper()}")
        wanted["cache_type_k"] = wanted["cache_type_v"] = kind
    if order.get("lora"):
        wanted["lora_adapters"] = [
            xllamacpp.CommonAdapterLoraInfo(path=path, scale=scale) for path, scale in order["lora"]
        ]
    for name, value in wanted.items():
        if not hasattr(params, name):
            sys.exit(f"error: this xllamacpp knows no {name}; update it")
        setattr(params, name, value)
    return params


def run_external(order: dict[str, Any], owner: Private | Shared) -> None:
    """A server program as a child of this process; both end together, with the same exit code."""
    port = usable(order["port"]) or free_port()
    argv, environment = EXTERNAL[order["engine"]](order, port)
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment, preexec_fn=die_with_parent)

    def end(*_: object) -> None:
        child.terminate()
        threading.Timer(GRACE, child.kill).start()

    signal.signal(signal.SIGTERM, end)
    owner.listens(port)
    owner.until_unneeded(end)
    code = child.wait()
    owner.leave()
    os._exit(128 - code if code < 0 else code)


def llama_server(order: dict[str, Any], port: int) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of llama.cpp's own server."""
    argv = [
        *order["command"],
        *("-m", order["gguf"], "--alias", order["name"]),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("-np", str(order["slots"]), "-c", str(order["ctx"] * order["slots"])),
        *(("-t", str(order["threads"])) if order["threads"] else ()),
    ]
    for path, scale in order.get("lora", ()):
        argv += ["--lora", path] if scale == 1 else ["--lora-scaled", f"{path}:{scale:g}"]
    return argv, external_environment(order)


def external_environment(order: dict[str, Any]) -> dict[str, str]:
    """Options that not every release of llama-server knows: it ignores unknown variables, not arguments."""
    unwanted = {f"LLAMA_ARG_{name}" for name in UNWANTED}
    chosen = {}
    if order.get("gpu_layers", -1) >= 0:
        chosen["LLAMA_ARG_N_GPU_LAYERS"] = str(order["gpu_layers"])
    if (kind := order.get("kv_type", "f16")) != "f16":
        chosen |= {"LLAMA_ARG_CACHE_TYPE_K": kind, "LLAMA_ARG_CACHE_TYPE_V": kind}
    return {
        **{name: value for name, value in os.environ.items() if name not in unwanted},
        "LLAMA_API_KEY": order["api_key"],
        "LLAMA_ARG_KV_UNIFIED": "0",
        "LLAMA_ARG_CACHE_RAM": "0",
        "LLAMA_ARG_ENDPOINT_METRICS": "1",
        "LLAMA_ARG_JINJA": "1",
        "LLAMA_ARG_WEBUI": "0",
        "LLAMA_ARG_UI": "0",
        "LLAMA_ARG_NO_WEBUI": "1",
        "LLAMA_OFFLINE": "1",
        "LLAMA_ARG_OFFLINE": "1",
        **chosen,
    }


def vllm(order: dict[str, Any], port: int) -> tuple[list[str], dict[str, str]]:
    """`vllm serve`: it pages its cache itself, so slots only bound how many requests it works on at once."""
    argv = [*order["command"], "serve", order["gguf"], "--served-model-name", order["name"]]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--max-num-seqs", str(order["slots"])]
    argv += ["--max-model-len", str(order["ctx"])] if order["ctx"] else []
    return argv, {**os.environ, "VLLM_API_KEY": order["api_key"]}


def ollama(order: dict[str, Any], port: int) -> tuple[list[str], dict[str, str]]:
    """`ollama serve`: it takes its settings from the environment only, and knows no key."""
    chosen = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NUM_PARALLEL": str(order["slots"])}
    if order["ctx"]:
        chosen["OLLAMA_CONTEXT_LENGTH"] = str(order["ctx"])
    return [*order["command"], "serve"], {**os.environ, **chosen}


EXTERNAL = {"llama-server": llama_server, "vllm": vllm, "ollama": ollama}


def usable(port: int) -> int:
    """The port, which clients know from before, when it is free now; else 0."""
    if port:
        with socket.socket() as probe:
            # As servers do: connections of the server that died may still linger.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return 0
    return port


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
