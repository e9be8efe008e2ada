"""A plain folder as workspace, with real git and real processes."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from poolcli import process
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
        if not path or "\0" in path:
            raise ValueError("the path is empty or holds a NUL character")
        file = Path(os.path.realpath(self.root / path))
        if not file.is_relative_to(self.root) or ".git" in file.parts:
            raise ValueError(f"{path} is outside the repository")
        return file

    def argv(self, command):
        return ["bash", "-c", command]

    async def run(self, command, *, timeout, log=None, on_output=None):
        return await process.run(
            self.argv(command),
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
