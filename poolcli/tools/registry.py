"""The tools there are: a contract and one function each, the function imported when it is first called."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from poolcli import paths
from poolcli.errors import ConfigError
from poolcli.tools import contract as contracts
from poolcli.tools.base import Ctx, Output
from poolcli.tools.bounds import bounded
from poolcli.tools.contract import Contract

#: The order in which a model reads about them: look, change, check, anything else.
ORDER = ("read", "search", "list", "edit", "write", "run_tests", "shell", "terminal")


class Tool(Struct, frozen=True):
    """A contract and the function behind it."""

    contract: Contract

    async def run(self, ctx: Ctx, /, **args: str | int | float | bool) -> Output:
        """Run a call with checked arguments. The result is never longer than the contract's limit.

        Raises ToolError when the tool could not do what was asked.
        """
        module = importlib.import_module(f"poolcli.tools.{self.contract.name}")
        output: Output = await module.run(ctx, **args)
        if len(output.text) <= self.contract.limit:
            return output
        text = bounded(output.text, self.contract.limit, ctx.outputs, self.contract.name)
        return replace(output, text=text)


def load(names: Collection[str] | None = None) -> dict[str, Tool]:
    """The built-in tools by name, always in the same order; only those of `names` where given.

    Raises ConfigError for a broken contract, or a name that there is no tool of.
    """
    folder = paths.data_dir("tools")
    wanted: Sequence[str] = ORDER if names is None else [name for name in ORDER if name in names]
    if unknown := sorted(set(names or ()) - set(ORDER)):
        raise ConfigError(f"there is no tool {', '.join(unknown)}", f"there are {', '.join(ORDER)}")
    return {name: Tool(_contract(folder, name)) for name in wanted}


def _contract(folder: Path, name: str) -> Contract:
    contract = contracts.load(folder / f"{name}.toml")
    if contract.name != name:
        raise ConfigError(f"tool contract {name}.toml calls itself {contract.name}")
    return contract
