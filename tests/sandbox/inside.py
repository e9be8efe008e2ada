"""A small place for trials: a user's checkout, a worktree of it, and commands run with and without a sandbox."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

from poolcli import process
from poolcli.process import Finished
from poolcli.sandbox import NONE, Confinement, Limits, Sandbox, wrap
from poolcli.sandbox.bubblewrap import HOME, masked
from poolcli.sandbox.environment import confined_environment
from poolcli.sandbox.toolchains import readable

#: The tests' own Python, at a path that commands see too.
PYTHON = os.path.realpath(sys.executable)


@cache
def why_not() -> str:
    """Why bubblewrap cannot run here; '' when it can."""
    program = shutil.which("bwrap", path="/usr/bin:/usr/local/bin")
    if program is None:
        return "bubblewrap is not installed"
    options = ["--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc"]
    done = subprocess.run([program, *options, "--", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"bubblewrap cannot run here: {done.stderr.strip()}"


def bubblewrap() -> Sandbox:
    return Sandbox(
        "bubblewrap", "", shutil.which("bwrap", path="/usr/bin:/usr/local/bin") or "/usr/bin/bwrap"
    )


class Place:
    """`main` is the user's, `root` the worktree, `outside` a folder of the user's that is nobody's business."""

    def __init__(self, tmp: Path) -> None:
        tmp = tmp.resolve()
        self.tmp = tmp
        self.main, self.outside, self.state = tmp / "main", tmp / "outside", tmp / "state"
        self.root, self.home = self.state / "worktrees" / "run", self.state / "home"
        for folder in (self.main / ".git" / "objects", self.outside, self.root, self.home):
            folder.mkdir(parents=True)
        self.variables: dict[str, str] = {}
        self.confinement = Confinement(
            root=self.root,
            seen=self.main,
            home=self.home,
            readable=readable(
                os.environ,
                home=Path.home(),
                hidden=masked(Path.home()),
                checkout=self.main,
            ),
            hidden=(self.state,),
            limits=Limits(tmp=64 << 20),
        )

    def run(
        self, command: str | list[str], *, sandbox: Sandbox, timeout: float = 60, **changes: object
    ) -> Finished:
        """Run a shell command, or a program; `changes` are to the confinement."""
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else command
        confinement = msgspec.structs.replace(self.confinement, **changes)
        confined = sandbox.name != "none"
        variables = {
            **confined_environment(os.environ, run_id="trial", home=str(HOME if confined else self.home)),
            **self.variables,
            "PYTHON": PYTHON,
        }

        async def go() -> Finished:
            launch = wrap(sandbox, argv, confinement, variables)
            try:
                return await process.run(
                    launch.argv, cwd=self.root, env=launch.env, timeout=timeout, pass_fds=launch.fds
                )
            finally:
                launch.close()

        return asyncio.run(go())

    def inside(self, command: str | list[str], **changes: object) -> Finished:
        """In bubblewrap."""
        return self.run(command, sandbox=bubblewrap(), **changes)

    def plain(self, command: str | list[str], **changes: object) -> Finished:
        """With the rights of the tests."""
        return self.run(command, sandbox=NONE, **changes)

    def python(self, program: str, *words: str, **changes: object) -> Finished:
        """A Python program in bubblewrap, from a file: some start methods of processes want one."""
        (self.root / "program.py").write_text(program)
        return self.inside([PYTHON, "program.py", *words], **changes)
