"""The network: this machine, other machines, sockets of services."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from tests.security.case import PYTHON, Field, Group, comes

GROUP = Group("Network")
case, shell = GROUP.case, GROUP.shell

CONNECT = """
import socket, sys
family, where = sys.argv[1], sys.argv[2:]
if family == "unix":
    target = "\\0" + where[0][1:] if where[0][0] == "@" else where[0]
    socket.socket(socket.AF_UNIX).connect(target)
else:
    kind = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    link = socket.socket(kind)
    link.settimeout(5)
    link.connect((where[0], int(where[1])))
"""


@case("NET-01", "A server on this machine's loopback, by three programs", "no sandbox", needs=("bubblewrap",))
def loopback(field: Field, protected: bool) -> bool:
    came = field.listen(("127.0.0.1", 0))
    port = field.port
    field.variables["CONNECT"] = CONNECT
    field.shell(
        f'"$PYTHON" -c "$CONNECT" inet 127.0.0.1 {port}; (exec 3<>/dev/tcp/127.0.0.1/{port});'
        f" curl -sm 5 http://127.0.0.1:{port}/",
        protected,
    )
    return bool(came)


@case(
    "NET-02",
    "The same by IPv6, by 0.0.0.0 and by the machine's own address",
    "no sandbox",
    needs=("bubblewrap",),
)
def other_addresses(field: Field, protected: bool) -> bool:
    field.variables["CONNECT"] = CONNECT
    try:
        came = field.listen(("::1", 0), socket.AF_INET6)
        commands = [f'"$PYTHON" -c "$CONNECT" inet ::1 {field.port}']
    except OSError:
        came, commands = [], []
    others = field.listen(("0.0.0.0", 0))
    commands += [
        f'"$PYTHON" -c "$CONNECT" inet {at} {field.port}' for at in ("0.0.0.0", "127.0.0.3", *_own())
    ]
    field.shell("; ".join(commands), protected)
    return bool(came or others)


def _own() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks which address would be used
            return [probe.getsockname()[0]]
        except OSError:
            return []


@case(
    "NET-04",
    "Sockets of services with a path, in HOME, /tmp and /run, and without one",
    "no sandbox",
    needs=("bubblewrap",),
    tests=("tests/sandbox/test_bubblewrap.py::test_attacks",),
)
def services(field: Field, protected: bool) -> bool:
    from poolcli.sandbox import surroundings

    places = [field.home / "agent.sock", field.folder("/tmp") / "default"]
    if os.access("/run", os.W_OK):
        places.append(field.folder("/run") / "bus")
    abstract = f"pool-{field.run_id}"
    came = [field.listen(str(place), socket.AF_UNIX) for place in places]
    came.append(field.listen(f"\0{abstract}", socket.AF_UNIX))
    surroundings._sockets.cache_clear()
    field.variables["CONNECT"] = CONNECT
    where = " ".join(f'"{place}"' for place in [*places, f"@{abstract}"])
    field.shell(f'for at in {where}; do "$PYTHON" -c "$CONNECT" unix "$at"; done', protected)
    surroundings._sockets.cache_clear()
    time.sleep(0.05)  # the server counts in a thread of its own
    return any(came) if protected else all(came)


shell(
    "NET-06",
    "Other kinds of sockets and io_uring",
    '"$PYTHON" -c \'import ctypes, socket\n'
    "def made(kind, how):\n"
    "    try: socket.socket(kind, how); return True\n"
    "    except OSError: return False\n"
    "ring = ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(240))\n"
    'print("REACHED" if ring >= 0 or any(made(k, t) for k, t in [(40, 1), (17, 3), (38, 5)]) else "")\'',
    tests=(
        "tests/sandbox/test_seccomp.py::test_dangerous_arguments",
        "tests/sandbox/test_seccomp.py::test_every_refused_call_gives_its_error",
    ),
)


@case(
    "NET-07",
    "Honest commands that need the network: not told why, they are tried again and again",
    "the sandbox without its hint",
    needs=("bubblewrap",),
    tests=("tests/e2e/test_network.py::test_a_model_is_told_why_there_is_no_network",),
)
def told(field: Field, protected: bool) -> bool:
    from poolcli import process

    command = "curl -sS https://example.org; git ls-remote https://example.org/x"
    space = field.space(True)
    start = time.monotonic()
    if protected:
        said = field.shell(command, True)
    else:
        launch = space.launch(command)
        done = asyncio.run(
            process.run(launch.argv, cwd=space.root, env=launch.env, timeout=30, pass_fds=launch.fds)
        )
        launch.close()
        said = done.output
    return "network is off in this sandbox" not in said or time.monotonic() - start > 15


@case(
    "NET-10",
    "An empty list of allowed hosts, taken for no restriction",
    "a list with the host",
    tests=("tests/network/test_hosts.py::test_an_empty_list_allows_nothing",),
)
def empty_list(field: Field, protected: bool) -> bool:
    from tests.network.test_proxy import Host, ask, proxy

    async def go() -> int:
        async with Host() as host:
            where = f"127.0.0.1:{host.port}"
            async with proxy(field.tmp, *([] if protected else [where])) as (path, _, _):
                await ask(
                    path, f"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\n\r\n".encode(), until_eof=False
                )
            return host.accepted

    return asyncio.run(go()) > 0


GROUP.shown(
    "NET-11",
    "A redirect of an allowed host to another one",
    "tests/network/test_proxy.py::test_a_redirect_is_the_clients_next_request_and_is_judged",
)


@case(
    "NET-12",
    "The way out through the proxy, left by unsetting its variables",
    "no sandbox",
    needs=("bubblewrap",),
)
def around_the_proxy(field: Field, protected: bool) -> bool:
    from msgspec.structs import replace

    from poolcli.network.inside import PROGRAM
    from tests.network.test_proxy import proxy

    came = field.listen(("127.0.0.1", 0))
    port = field.port
    command = (
        f"env -u http_proxy -u HTTP_PROXY -u ALL_PROXY -u all_proxy curl -sm 5 http://127.0.0.1:{port}/;"
        f" NO_PROXY='*' no_proxy='*' curl --noproxy '*' -sm 5 http://127.0.0.1:{port}/;"
        f" (exec 3<>/dev/tcp/127.0.0.1/{port})"
    )

    async def go() -> None:
        space = field.space(protected)
        async with proxy(field.tmp, "example.org") as (path, _, _):
            if protected:
                space.confine = lambda whole: replace(
                    whole, proxy=path, readable=(*whole.readable, PROGRAM.parent)
                )
            await space.run(command, timeout=30)

    asyncio.run(go())
    return bool(came)


@case(
    "NET-15",
    "Honest tests with a server on loopback: they fail where the loopback is down",
    "a network namespace and nothing more",
    needs=("bubblewrap", "unshare"),
    tests=("tests/sandbox/test_workflows.py::test_a_server_on_the_loopback",),
)
def own_servers(field: Field, protected: bool) -> bool:
    program = (
        "import socket\n"
        "for host in ('127.0.0.1', 'localhost', socket.gethostbyname(socket.gethostname())):\n"
        "    with socket.create_server((host, 0)) as server:\n"
        "        socket.create_connection((host, server.getsockname()[1]), 5).close()\n"
        "print('WORKS')\n"
    )
    if protected:
        field.variables["PROGRAM"] = program
        return "WORKS" not in field.shell('"$PYTHON" -c "$PROGRAM"', True)
    done = subprocess.run(["unshare", "-rn", PYTHON, "-c", program], capture_output=True, text=True)
    return "WORKS" not in done.stdout


@case(
    "NET-16",
    "A command listens where a service of the user's is expected",
    "no sandbox",
    needs=("bubblewrap",),
)
def squatting(field: Field, protected: bool) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    field.variables["PROGRAM"] = (
        f"import socket, time\nserver = socket.create_server(('127.0.0.1', {port}))\n"
        "open('listening', 'w').close()\nserver.settimeout(3)\n"
        "try: server.accept()\nexcept OSError: pass\n"
    )
    thread = threading.Thread(target=field.shell, args=('"$PYTHON" -c "$PROGRAM"', protected))
    root: Path = field.space(protected).root
    thread.start()
    try:
        assert comes(lambda: (root / "listening").exists())
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
        except OSError:
            return False
        return True
    finally:
        thread.join()


GROUP.leave_out("NET-13", "An address as argument of a tool", "no tool takes an address; a test holds that")
