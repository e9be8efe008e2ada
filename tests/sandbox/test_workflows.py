"""What projects do in their tests works inside the sandbox as it does outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sandbox.inside import PYTHON, Place, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "runs")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes(method: str, place: Place) -> None:
    program = """
import multiprocessing, sys

def square(number):
    return number * number

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Manager() as manager, context.Pool(2) as pool:
        shared = manager.list(pool.map(square, range(4)))
        with context.Lock():
            print(list(shared))
"""
    assert place.python(program, method).output == "[0, 1, 4, 9]\n"


def test_shared_memory(place: Place) -> None:
    program = """
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(create=True, size=1 << 20)
block.buf[:3] = b"abc"
again = SharedMemory(block.name)
print(bytes(again.buf[:3]))
again.close()
block.close()
block.unlink()
"""
    assert place.python(program).output.startswith("b'abc'\n")


def test_a_database_with_a_write_ahead_log(place: Place) -> None:
    program = """
import sqlite3
first = sqlite3.connect("data.db")
print(first.execute("pragma journal_mode=wal").fetchone())
first.execute("create table t(x)")
first.commit()
second = sqlite3.connect("data.db")
first.execute("insert into t values (1)")
first.commit()
print(second.execute("select count(*) from t").fetchone())
"""
    assert place.python(program).output == "('wal',)\n(1,)\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_on_the_loopback(host: str, place: Place) -> None:
    program = """
import asyncio, socket, sys

async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(answer, sys.argv[1], 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(sys.argv[1], port)
    writer.write(b"hello\\n")
    print(await reader.readline())
    writer.close()

asyncio.run(main())
print(socket.gethostbyname(socket.gethostname()), len(socket.if_nameindex()) >= 1)
"""
    control = place.plain([PYTHON, "-c", program, host])
    if control.exit_code != 0 and host == "::1":
        pytest.skip("no IPv6 here")
    done = place.python(program, host)
    assert done.output.splitlines()[0] == "b'HELLO\\n'", done.output
    assert done.output.splitlines()[1] == "127.0.0.1 True"


def test_a_server_on_a_unix_socket(place: Place) -> None:
    program = """
import asyncio, sys

async def answer(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()

async def main(path):
    async with await asyncio.start_unix_server(answer, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello\\n")
        print(await reader.readline())
        writer.close()

for path in ("here.sock", "/tmp/there.sock", "\\0abstract"):
    asyncio.run(main(path))
"""
    assert place.python(program).output == "b'hello\\n'\n" * 3


def test_a_pseudo_terminal(place: Place) -> None:
    program = """
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/sh", ["sh", "-c", "tty >/dev/null && stty size >/dev/null && echo terminal"])
out = b""
try:
    while piece := os.read(fd, 100):
        out += piece
except OSError:
    pass
print(out)
"""
    assert "terminal" in place.python(program).output


def test_a_new_virtual_environment(place: Place) -> None:
    done = place.inside(
        '"$PYTHON" -m venv --without-pip made && made/bin/python -c "import sys; print(sys.prefix)"'
    )
    assert done.output.strip() == str(place.main / "made"), done.output


def test_git_from_nothing(place: Place) -> None:
    done = place.inside(
        "git init -q new && cd new && echo x > a && git add a && git commit -qm one && git log --format=%an"
    )
    assert done.output == "pool\n", done.output


def test_tests_that_run_tests(place: Place) -> None:
    (place.root / "test_it.py").write_text("def test_it(tmp_path):\n    (tmp_path / 'a').write_text('x')\n")
    import sys

    done = place.inside([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"])
    assert "1 passed" in done.output, done.output


def test_home_lasts_for_the_run_and_is_not_the_user_s(place: Place) -> None:
    assert (
        place.inside('mkdir -p ~/.cache && echo kept > ~/.cache/file && echo "$XDG_CACHE_HOME"').exit_code
        == 0
    )
    done = place.inside('cat ~/.cache/file "$XDG_CACHE_HOME/file"; cd && pwd')
    assert done.output == "kept\nkept\n/run/pool/home\n"
    assert (place.home / ".cache/file").exists()


def test_a_debugger_may_look_at_its_child(place: Place) -> None:
    if shutil.which("strace", path="/usr/bin") is None:
        pytest.skip("no strace here")
    assert "exited with 3" in place.inside("strace -f sh -c 'exit 3'").output


def test_node(place: Place) -> None:
    if shutil.which("node", path="/usr/bin:/usr/local/bin") is None:
        pytest.skip("no node here")
    program = """
const http = require('http'), os = require('os'), { Worker } = require('worker_threads');
const server = http.createServer((_, reply) => reply.end('hello')).listen(0, '127.0.0.1', () => {
  http.get({ port: server.address().port, host: '127.0.0.1' }, (reply) => reply.on('data', (piece) => {
    console.log(String(piece), Object.keys(os.networkInterfaces()).length);
    new Worker("process.exit(0)", { eval: true }).on('exit', () => process.exit(0));
  }));
});
"""
    (place.root / "program.js").write_text(program)
    done = place.inside("node program.js")
    assert done.output == "hello 1\n", done.output


def test_input_is_at_its_end(place: Place) -> None:
    assert place.inside("cat; read -r x; echo $?").output == "1\n"


def test_signals_and_exit_codes_come_through(place: Place) -> None:
    assert place.inside("exit 7").exit_code == 7
    assert place.inside("kill -SEGV $$").exit_code == 128 + 11
    assert place.inside("no-such-program").exit_code == 127
