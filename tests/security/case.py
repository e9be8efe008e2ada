"""What one attack is, and the place it happens in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from poolcli.sandbox import NONE, Sandbox, detect
from poolcli.tools.base import Ctx, Output
from tests.repositories import commit, make, put, sh

if TYPE_CHECKING:
    from poolcli.workspace import Workspace

CANARY = "canary-7f3a-of-the-user"


class Case(Struct, frozen=True):
    """One attack. `attack(field, protected)` sets up, acts, and says whether the attacker got through.

    `off` says what stands in for the missing protection. A case without `attack` is shown by `tests`, each of which
    has its own control; else `tests` show more of it. `needs` is what the machine has to have.
    """

    id: str
    title: str
    off: str = ""
    attack: Callable[[Field, bool], bool] | None = None
    tests: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    slow: bool = False


class Group:
    """The cases of one chapter, in the order of their definition. `boxed`: their field has a sandbox."""

    def __init__(self, title: str, *, boxed: bool = True) -> None:
        self.title = title
        self._always = ("bubblewrap",) if boxed else ()
        self.cases: list[Case] = []
        #: Those that cannot be expressed: id, title, reason.
        self.left_out: list[tuple[str, str, str]] = []

    def case(
        self,
        id: str,
        title: str,
        off: str,
        *,
        tests: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        slow: bool = False,
    ) -> Callable[[Callable[[Field, bool], bool]], Callable[[Field, bool], bool]]:
        """Registers a function as an attack."""

        def register(attack: Callable[[Field, bool], bool]) -> Callable[[Field, bool], bool]:
            all_needs = tuple(dict.fromkeys((*self._always, *needs)))
            self.cases.append(Case(id, title, off, attack, tests, all_needs, slow))
            return attack

        return register

    def shell(
        self,
        id: str,
        title: str,
        command: str,
        *,
        needs: tuple[str, ...] = (),
        tests: tuple[str, ...] = (),
        reached: str = "REACHED",
    ) -> None:
        """A command of the model's that prints `reached` when it got through."""

        def attack(field: Field, protected: bool) -> bool:
            return reached in field.shell(command, protected)

        self.cases.append(
            Case(id, title, "no sandbox", attack, tests, ("bubblewrap", *needs)),
        )

    def shown(self, id: str, title: str, *tests: str, off: str = "the test's own control") -> None:
        """A case that other tests show, with a control of their own."""
        self.cases.append(Case(id, title, off, None, tests))

    def leave_out(self, id: str, title: str, reason: str) -> None:
        self.left_out.append((id, title, reason))


class Field:
    """A user's machine, small: a home with secrets, a checkout, pool's state; made as far as it is used."""

    def __init__(self, tmp: Path, setenv: Callable[[str, str], None]) -> None:
        self.tmp = tmp.resolve()
        self.setenv = setenv
        #: No two runs of tests on one machine may have it: what carries it is ended with the run.
        self.run_id = f"security-{secrets.token_hex(6)}"
        self.home, self.state = self.tmp / "home", self.tmp / "state"
        self.mark = self.tmp / "PWN"
        self.variables: dict[str, str] = {}
        self._main: Path | None = None
        self._spaces: dict[str, Workspace] = {}
        self._stack = contextlib.ExitStack()
        put(self.home, {".ssh/id_ed25519": CANARY, ".ssh/authorized_keys": "mine\n", ".bashrc": "# mine\n"})
        put(self.home, {".aws/credentials": CANARY, ".git-credentials": f"https://u:{CANARY}@example.com\n"})
        put(self.home, {".gitconfig": "[credential]\n\thelper = store\n"})
        for name, value in {
            "HOME": str(self.home),
            "POOL_STATE": str(self.tmp / "pool-state"),
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "XDG_CONFIG_HOME": str(self.home / ".config"),
        }.items():
            setenv(name, value)

    def close(self) -> None:
        self._stack.close()
        for space in self._spaces.values():
            space.remove()

    @property
    def main(self) -> Path:
        """The user's checkout: a secret that git ignores, branches, a tag, a stash, a remote with a token."""
        if self._main is None:
            files = {"a.py": "one\n", "sub/b.py": "b\n", ".gitignore": ".env\n", "run.sh": "#!/bin/sh\n"}
            top = self._main = make(self.tmp / "main", dict(files))
            put(top, {"a.py": "two\n"})
            sh(top, "commit", "-qam", "second")
            sh(top, "branch", "other")
            sh(top, "tag", "v1")
            put(top, {"a.py": "kept aside\n"})
            sh(top, "stash")
            put(top, {".env": f"SECRET={CANARY}\n"})
            sh(top, "remote", "add", "origin", f"https://ada:{CANARY}@127.0.0.1:9/x.git")
        return self._main

    def file(self, name: str, text: str, *, run: bool = False) -> Path:
        """A file of the user's outside of the checkout."""
        put(self.tmp, {name: text})
        if run:
            (self.tmp / name).chmod(0o755)
        return self.tmp / name

    def evil(self, name: str = "evil") -> Path:
        """A program that leaves a mark when it is run, and else does nothing."""
        return self.file(name, f"#!/bin/sh\n: > {self.mark}\ncat 2>/dev/null\nexit 0\n", run=True)

    def space(self, protected: bool = True) -> Workspace:
        """A worktree of the checkout, as a run has it."""
        from poolcli import workspace
        from poolcli.git import find_repository

        sandbox = box() if protected else NONE
        if sandbox.name not in self._spaces:
            run_id = f"{self.run_id}-{sandbox.name}"
            repo = find_repository(self.main)
            self._spaces[sandbox.name] = workspace.create(
                repo, run_id=run_id, state=self.state, sandbox=sandbox
            )
        return self._spaces[sandbox.name]

    def shell(self, command: str, protected: bool, timeout: float = 30) -> str:
        """What a command of the model's prints."""
        space = self.space(protected)
        names = {
            "HOME_OF_USER": self.home, "MAIN": self.main, "STATE": self.state, "PWN": self.mark, "CANARY": CANARY,
            "PYTHON": PYTHON, "TMP": self.tmp, **self.variables,
        }  # fmt: skip
        head = "".join(f"{name}={quoted(str(value))}; " for name, value in names.items())
        return asyncio.run(space.run(head + command, timeout=timeout)).output

    def tool(self, name: str, protected: bool, **args: Any) -> str:
        """What a call of a file tool gives: pool's through the gate, or a naive one that opens what it is told to."""
        if not protected:
            return naive(self.space(False).root, name, args)
        return self.gate(name, **args)[1]

    def gate(self, name: str, mode: str = "auto", **args: Any) -> tuple[bool, str]:
        """A call through the real gate: whether it went well, and the result that the model gets."""
        from poolcli.approvals import Approver
        from poolcli.gate import Gate
        from poolcli.messages import Call
        from poolcli.run import Run
        from poolcli.tools.registry import load
        from tests.test_gate import Memory

        space = self.space(True)
        outputs = self.tmp / "outputs"
        outputs.mkdir(exist_ok=True)
        run = Run("r", self.tmp, Memory())
        run.emit("run.started", system="s")

        async def checks() -> Output:
            return Output("passed")

        def real(path: str) -> str | None:
            with contextlib.suppress(ValueError):
                return str(space.resolve(path).relative_to(space.root))
            return None

        approver = Approver(mode=mode, sandbox=space.sandbox.name, real=real)
        gate = Gate(run, load(), Ctx(space, checks, lambda text: None, outputs), approver)
        asyncio.run(gate.calls([Call("1", name, args)]))
        (done,) = [e.data for e in run.events if e.type == "tool.done"]
        return bool(done["ok"]), str(done["text"])

    def listen(self, address: Any, family: socket.AddressFamily = socket.AF_INET) -> list[int]:
        """A server that counts who connects; the list grows by one for each. The port is in `port`."""
        server = self._stack.enter_context(socket.socket(family))
        server.bind(address)
        server.listen()
        came: list[int] = []
        self.port = server.getsockname()[1] if isinstance(address, tuple) else 0

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    came.append(1)
                    link.close()

        threading.Thread(target=serve, daemon=True).start()
        # Closing alone does not end an accept that waits.
        self._stack.callback(lambda: contextlib.suppress(OSError).__enter__() or _shut(server))
        return came

    def process(self, *argv: str, **more: Any) -> subprocess.Popen[bytes]:
        """A process of the user's, ended with the field."""
        child = subprocess.Popen(argv, **more)
        self._stack.callback(child.wait)
        self._stack.callback(child.kill)
        return child

    def folder(self, parent: str) -> Path:
        """A folder of the user's elsewhere on the machine, removed with the field."""
        import tempfile

        return Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix=".pool-test-", dir=parent))
        ).resolve()


def _shut(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def box() -> Sandbox:
    """The sandbox that a run gets here by default."""
    return Sandbox("bubblewrap", "", str(detect.bubblewrap().program))


def _python() -> str:
    import sys

    return os.path.realpath(sys.executable)


#: The tests' own Python, at a path that commands see too.
PYTHON = _python()


def naive(root: Path, name: str, args: Mapping[str, Any]) -> str:
    """A tool as it is written when nobody thinks of attacks: the path is joined and opened."""
    path = root / os.path.expanduser(os.path.expandvars(str(args.get("path", "."))))
    try:
        if name == "read":
            return path.read_text(errors="replace")
        if name == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(args["content"])
        elif name == "edit":
            path.write_text(path.read_text().replace(args["old"], args["new"]))
        elif name == "list":
            return "\n".join(os.listdir(path))
        elif name == "search":
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            return "\n".join(
                text for p in files if args["pattern"] in (text := p.read_text(errors="replace"))
            )
    except (OSError, ValueError) as error:
        return f"error: {error}"
    return "done"


def comes(condition: Callable[[], bool], seconds: float = 20, pause: float = 0.01) -> bool:
    """Whether something becomes true; seconds only end the waiting for what never will."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True


def running(mark: str) -> list[int]:
    """Processes with this word on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def end(mark: str) -> None:
    """End what the control left running: processes that carry this very word."""
    for pid in running(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, 9)


@contextlib.contextmanager
def flipping(place: Path, outside: Path) -> Iterator[Path]:
    """`d` in a folder is a folder with `f` and a link to outside by turns, as fast as another process can."""
    (place / "d").mkdir()
    (place / "d/f").write_text("inside\n")
    (place / "other").symlink_to(outside)
    program = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\na, b = (word.encode() for word in sys.argv[1:])\n"
        "while True: libc.renameat2(-100, a, -100, b, 2)\n"
    )
    child = subprocess.Popen([PYTHON, "-c", program, str(place / "d"), str(place / "other")])
    try:
        yield place / "d"
    finally:
        child.kill()
        child.wait()


__all__ = ["CANARY", "PYTHON", "Case", "Field", "Group", "box", "comes", "commit", "end", "flipping", "naive"]
