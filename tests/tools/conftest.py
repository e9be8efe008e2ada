"""A plain folder as workspace, with real git and real processes."""

import asyncio
import os
import subprocess

import pytest

from poolcli import beneath, process
from poolcli.sandbox import Launch
from poolcli.tools import contract as contracts
from poolcli.tools import registry
from poolcli.tools.base import Ctx, Output


class Folder:
    """The part of a workspace that tools use."""

    def __init__(self, root):
        self.root = root
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }

    def resolve(self, path):
        with beneath.Folder(self.root) as folder:
            return self.root / folder.real(path)

    @property
    def seen(self):
        return self.root

    def pinned(self):
        return (f"--git-dir={self.root}/.git", f"--work-tree={self.root}"), {}

    def launch(self, command):
        return Launch(["bash", "-c", command], self.environment)

    async def run(self, command, *, timeout, log=None, on_output=None):
        return await process.run(
            self.launch(command).argv,
            cwd=self.root,
            env=self.environment,
            timeout=timeout,
            log=log,
            on_output=on_output,
        )


async def _green():
    return Output("4 passed")


@pytest.fixture
def ctx(tmp_path, monkeypatch):
    """A repository without commits, and a folder for outputs beside it."""
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    root, outputs = tmp_path.resolve() / "repo", tmp_path.resolve() / "outputs"
    root.mkdir()
    outputs.mkdir()
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return Ctx(Folder(root), _green, lambda text: None, outputs)


@pytest.fixture
def root(ctx):
    return ctx.workspace.root


async def acall(ctx, tool_name, /, **args):
    tool = registry.load()[tool_name]
    return await tool.run(ctx, **contracts.check(tool.contract, args))


@pytest.fixture
def call(ctx):
    """Call a tool as the gate does: arguments checked, result bounded."""
    return lambda tool_name, /, **args: asyncio.run(acall(ctx, tool_name, **args))
