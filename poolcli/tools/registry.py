"""The tools there are: a contract and one function each, the function imported when it is first called."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from poolcli import paths
from poolcli.errors import ConfigError
from poolcli.tools import contract as contracts
from poolcli.tools.base import Ctx, Output
from poolcli.tools.bounds import bounded, within
from poolcli.tools.contract import Contract

#: The order in which a model reads about them: look, change, check, anything else.
ORDER = ("read", "search", "list", "edit", "write", "undo", "run_tests", "shell", "terminal")

#: The tool in the place of `edit` for models that were trained to edit in another format, by that format; contracts of
#: other tools that name `edit` have another text in the folder of the format's name.
EDITS = {"patch": "apply_patch"}

#: A window below this many tokens is small: prompts are short, these tools are offered, `tools/small/` comes first.
SMALL_WINDOW = 8192
SMALL = ("read", "search", "edit", "write", "run_tests", "shell")

#: Characters of one result: an eighth of the window at four characters a token, so that some always fit. In small
#: windows 4,000, which a short file and the evidence of failing tests need, as far as that is a quarter of it.
SHARE, SMALL_RESULT = 2, 4000


class Tool(Struct, frozen=True):
    """A contract and the function behind it."""

    contract: Contract

    async def run(self, ctx: Ctx, /, **args: str | int | float | bool) -> Output:
        """Run a call with checked arguments. The result is never longer than the contract's limit.

        Raises ToolError when the tool could not do what was asked.
        """
        module = importlib.import_module(f"poolcli.tools.{self.contract.name}")
        with within(self.contract.limit):
            output: Output = await module.run(ctx, **args)
        if len(output.text) <= self.contract.limit:
            return output
        text = bounded(output.text, self.contract.limit, ctx.outputs, self.contract.name)
        return replace(output, text=text)


def load(names: Collection[str] | None = None, *, window: int = 0, edits: str = "") -> dict[str, Tool]:
    """The built-in tools by name, always in the same order; only those of `names` where given.

    `window` is the model's in tokens, 0 when unknown: in a small one there are fewer tools, and results are shorter.
    `edits` is the format that the model was trained to edit in (a key of EDITS), '' for old and new text.
    Raises ConfigError for a broken contract, or a name that there is no tool of.
    """
    folder = paths.data_dir("tools")
    small = 0 < window < SMALL_WINDOW
    if names is None:
        names = [_instead(name, edits) for name in (SMALL if small else ORDER)]
    known = [one for name in ORDER for one in (name, *(EDITS.values() if name == "edit" else ()))]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"there is no tool {', '.join(unknown)}", f"there are {', '.join(known)}")
    folders = [folder / form for form, tool in EDITS.items() if tool in names]
    folders += [folder / "small", folder] if small else [folder]
    return {name: Tool(_limited(_contract(folders, name), window)) for name in known if name in names}


def understood(tools: Mapping[str, Tool], *, window: int = 0) -> dict[str, Tool]:
    """The tools that are offered, and `edit` where another is offered in its place: calls of it work all the same."""
    if "edit" in tools or not any(tool in tools for tool in EDITS.values()):
        return dict(tools)
    return {**tools, **load(["edit"], window=window)}


def _instead(name: str, edits: str) -> str:
    return EDITS.get(edits, name) if name == "edit" else name


def _limited(contract: Contract, window: int) -> Contract:
    if not window:
        return contract
    most = max(window // SHARE, min(SMALL_RESULT, window))
    return replace(contract, limit=min(contract.limit, most))


def _contract(folders: Sequence[Path], name: str) -> Contract:
    file = next(
        (f for folder in folders if (f := folder / f"{name}.toml").is_file()), folders[-1] / f"{name}.toml"
    )
    contract = contracts.load(file)
    if contract.name != name:
        raise ConfigError(f"tool contract {name}.toml calls itself {contract.name}")
    return contract
