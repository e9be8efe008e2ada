"""Inside a sandbox: listens on its loopback, carries what comes to pool's proxy, and runs the command meanwhile.

    python -I -S forwarder.py PORT SOCKET -- command…

A program of its own, with nothing but the standard library: it runs where pool's packages may not be readable. It
ends with the command and passes its exit code on; signals that ask it to end go to the command. PORT 0 is a free one.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import sys

#: Bytes that are held for a side that does not read; then the other is not read either.
HELD = 65536
#: Connections that wait to be accepted.
BACKLOG = 128
#: How programs are told of a proxy. Loopback is the sandbox's own.
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOCAL = "localhost,127.0.0.1,::1"


class Side:
    """One end of a connection: what is to be written to it, and whether more can come from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other: Side = self
        self.out = bytearray()
        self.ended = False  # it sends no more
        self.shut = False  # it was told that there is no more


def main(port: int, path: str, argv: list[str]) -> int:
    """Serve until the command has ended; its exit code, 128 + number for a signal."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in VARIABLES:
        os.environ[name] = url
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = LOCAL
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    child = os.fork()
    if child == 0:
        _become(argv)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _pass_on(child, number))
    chooser = selectors.DefaultSelector()
    chooser.register(listener, selectors.EVENT_READ)
    chooser.register(wake, selectors.EVENT_READ)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        for key, events in chooser.select():
            if key.fileobj is listener:
                _accept(chooser, listener, path)
            elif key.fileobj == wake:
                _drain(wake)
            elif key.data.sock.fileno() >= 0:
                _move(chooser, key.data, events)


def _become(argv: list[str]) -> None:
    """In the child: the command, with signals as they were."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        os._exit(127 if error.errno == errno.ENOENT else 126)


def _pass_on(child: int, number: int) -> None:
    try:  # noqa: SIM105 (contextlib costs a millisecond of every command)
        os.kill(child, number)
    except ProcessLookupError:
        pass


def _drain(wake: int) -> None:
    try:  # noqa: SIM105
        os.read(wake, 4096)
    except BlockingIOError:
        pass


def _accept(chooser: selectors.BaseSelector, listener: socket.socket, path: str) -> None:
    try:
        near, _ = listener.accept()
    except OSError:
        return
    far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        far.connect(path)
    except OSError:  # pool has ended its proxy
        near.close()
        far.close()
        return
    one, two = Side(near), Side(far)
    one.other, two.other = two, one
    for side in (one, two):
        side.sock.setblocking(False)
        chooser.register(side.sock, selectors.EVENT_READ, side)


def _move(chooser: selectors.BaseSelector, side: Side, events: int) -> None:
    other = side.other
    try:
        if events & selectors.EVENT_READ and not side.ended and len(other.out) < HELD:
            piece = side.sock.recv(HELD)
            other.out += piece
            side.ended = not piece
        for end in (side, other):
            if end.out:
                del end.out[: end.sock.send(end.out)]
            if end.other.ended and not end.out and not end.shut:
                end.shut = True
                end.sock.shutdown(socket.SHUT_WR)
    except BlockingIOError:
        pass
    except OSError:
        _close(chooser, side)
        return
    if side.ended and other.ended and side.shut and other.shut:
        _close(chooser, side)
        return
    for end in (side, other):
        wanted = 0
        if not end.ended and len(end.other.out) < HELD:
            wanted |= selectors.EVENT_READ
        if end.out:
            wanted |= selectors.EVENT_WRITE
        _want(chooser, end, wanted)


def _want(chooser: selectors.BaseSelector, side: Side, wanted: int) -> None:
    known = side.sock in chooser.get_map()
    if wanted and known:
        chooser.modify(side.sock, wanted, side)
    elif wanted:
        chooser.register(side.sock, wanted, side)
    elif known:
        chooser.unregister(side.sock)


def _close(chooser: selectors.BaseSelector, side: Side) -> None:
    for end in (side, side.other):
        _want(chooser, end, 0)
        end.sock.close()


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[3] != "--":
        sys.exit("usage: forwarder.py PORT SOCKET -- command…")
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[4:]))
