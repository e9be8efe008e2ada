"""The child process that runs a llama.cpp server, and ends when the process that started it does.

Started by `models/local.py` as a program of its own (it imports nothing of pool). The order comes as one JSON
line on stdin, so that the API key is in no argument list; stdin then stays open for as long as the parent
lives. Once the server listens, or is about to, one line `{"port": N}` goes to stdout, all else to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
#: Settings of a user's own llama-server that would make ours fetch models, run tools or serve pages.
UNWANTED = ("HF_REPO", "HF_FILE", "MODEL_URL", "MODELS_DIR", "MODELS_PRESET", "TOOLS", "API_PREFIX")


def main() -> None:
    """Read the order and serve until the parent is gone or a signal ends the process."""
    die_with_parent()
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return  # the parent died before it said what to do
    report = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not be taken for the report
    if order["command"]:
        run_external(order, report)
    else:
        run_embedded(order, report)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux); elsewhere the end of stdin does it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def at_end_of_input(act: Callable[[], object]) -> None:
    """Call `act` once the parent has closed its end of stdin, or died."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        act()

    threading.Thread(target=watch, daemon=True).start()


def tell(report: int, port: int) -> None:
    """Say where the server is. A parent that has gone cannot hear it, which is no error here."""
    with contextlib.suppress(OSError):
        os.write(report, json.dumps({"port": port}).encode() + b"\n")


def run_embedded(order: dict[str, Any], report: int) -> None:
    """The server inside this process, from the xllamacpp package; returns when it could not start."""
    at_end_of_input(lambda: os._exit(0))
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["gguf"]
    params.model_alias = {order["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = order["port"]
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
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))  # the reason itself is already in the log
    tell(report, int(server.listening_address.rpartition(":")[2]))
    while True:
        signal.pause()


def run_external(order: dict[str, Any], report: int) -> None:
    """A `llama-server` program as a child of this process; both end together, with the same exit code."""
    port = order["port"] or free_port()
    argv = [
        *order["command"],
        *("-m", order["gguf"], "--alias", order["name"]),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("-np", str(order["slots"]), "-c", str(order["ctx"] * order["slots"])),
        *(("-t", str(order["threads"])) if order["threads"] else ()),
    ]
    env = external_environment(order)
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=env, preexec_fn=die_with_parent)

    def end(*_: object) -> None:
        child.terminate()

    signal.signal(signal.SIGTERM, end)
    at_end_of_input(end)
    tell(report, port)
    code = child.wait()
    sys.exit(128 - code if code < 0 else code)


def external_environment(order: dict[str, Any]) -> dict[str, str]:
    """Options that not every release of llama-server knows: it ignores unknown variables, not arguments."""
    unwanted = {f"LLAMA_ARG_{name}" for name in UNWANTED}
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
    }


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
