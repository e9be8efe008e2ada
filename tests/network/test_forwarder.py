"""The forwarder as it runs: in a network of its own, with the proxy's socket as the only way out."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolcli.network import forwarder, hosts
from poolcli.network.proxy import Decision, Proxy
from tests.network.test_proxy import Host

FORWARDER = [sys.executable, "-I", "-S", forwarder.__file__]
#: Asks by the proxy that the variables name; 3 where there is no way.
FETCH = """
import sys, urllib.request, urllib.error
try:
    with urllib.request.urlopen(sys.argv[1], timeout=20) as reply:
        print(reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.reason); sys.exit(2)
except OSError as error:
    print(error); sys.exit(3)
"""


def bubblewrap() -> list[str]:
    program = shutil.which("bwrap")
    if (
        program is None
        or subprocess.run([program, "--ro-bind", "/", "/", "--unshare-net", "true"]).returncode
    ):
        pytest.skip("needs bubblewrap")
    return [
        program,
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--unshare-net",
        "--unshare-pid",
        "--die-with-parent",
        "--",
    ]


async def output(*argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_PROXY": "", "no_proxy": "", **(env or {})},
    )
    said, _ = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode is not None
    return child.returncode, said.decode()


def test_the_only_way_out_of_a_network_of_its_own(tmp_path: Path) -> None:
    sandbox = bubblewrap()

    async def test() -> None:
        decided: list[Decision] = []
        async with Host() as host:
            url = f"http://127.0.0.2:{host.port}/"  # not in NO_PROXY; for the host the same loopback
            server = await asyncio.start_server(host._serve, "127.0.0.2", host.port)
            it = Proxy(hosts.allowed([f"127.0.0.2:{host.port}"]), decided.append)
            await it.start(tmp_path / "proxy")
            ask = [*FORWARDER, "0", str(tmp_path / "proxy"), "--", sys.executable, "-c", FETCH]
            # The control: without the network of its own, the host is there for everybody.
            assert await output(sys.executable, "-c", FETCH, url) == (0, "hello\n")
            assert await output(*sandbox, *ask, url) == (0, "hello\n")
            code, said = await output(*sandbox, *ask, "http://other.example/")
            assert code == 2 and "403" in said and "does not allow other.example:80" in said
            # Who does not ask the proxy finds nothing at all.
            direct = f"import os; [os.environ.pop(n, 0) for n in list(os.environ) if 'proxy' in n.lower()]\n{FETCH}"
            plain = [*FORWARDER, "0", str(tmp_path / "proxy"), "--", sys.executable, "-c", direct]
            assert (await output(*sandbox, *plain, url))[0] == 3
            await it.close()
            assert (await output(*sandbox, *ask, url))[0] == 3
            server.close()
        assert [(d.host, d.allowed) for d in decided] == [("127.0.0.2", True), ("other.example", False)]

    asyncio.run(test())


def test_many_bytes_both_ways_at_once(tmp_path: Path) -> None:
    code = (
        "import os,socket,threading,hashlib\n"
        "s=socket.create_connection(('127.0.0.1',int(os.environ['HTTP_PROXY'].rpartition(':')[2])))\n"
        "s.sendall(b'CONNECT 127.0.0.1:%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "assert b'200' in s.recv(100)\n"
        "data=os.urandom(8_000_000)\n"
        "t=threading.Thread(target=lambda:(s.sendall(data),s.shutdown(1)));t.start()\n"
        "got=b''\n"
        "while p:=s.recv(65536): got+=p\n"
        "print(got==data)\n"
    )

    async def test() -> None:
        async with Host() as host:
            it = Proxy(hosts.allowed([f"127.0.0.1:{host.port}"]))
            await it.start(tmp_path / "proxy")
            argv = [*FORWARDER, "0", str(tmp_path / "proxy"), "--", sys.executable, "-c", code % host.port]
            assert await output(*argv) == (0, "True\n")
            assert it.traffic.sent == it.traffic.received == 8_000_000
            await it.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
def test_the_exit_code_is_the_commands(command: str, code: int, tmp_path: Path) -> None:
    argv = [*FORWARDER, "0", str(tmp_path / "nothing"), "--", "sh", "-c", command]
    assert subprocess.run(argv).returncode == code


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run([*FORWARDER, "0", "x", "--", "no-such-program"], capture_output=True, text=True)
    assert done.returncode == 127 and done.stderr == "no-such-program: No such file or directory\n"
    assert subprocess.run([*FORWARDER, "0", "x"], capture_output=True).returncode == 1


def test_a_signal_goes_to_the_command(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'echo got it; exit 5' TERM; : > {ready}; while :; do sleep 0.05; done"
    child = subprocess.Popen([*FORWARDER, "0", "x", "--", "sh", "-c", script], stdout=subprocess.PIPE)
    for _ in range(600):
        if ready.exists():
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=20)
    assert said == b"got it\n" and child.returncode == 5


def test_commands_start_with_the_usual_signals(tmp_path: Path) -> None:
    plain = subprocess.run(["sh", "-c", "grep Sig[IB] /proc/self/status"], capture_output=True).stdout
    argv = [*FORWARDER, "0", "x", "--", "sh", "-c", "grep Sig[IB] /proc/self/status"]
    assert subprocess.run(argv, capture_output=True).stdout == plain
