"""Which tools there are, and how much they give back, by the model's window."""

import asyncio
import json

import pytest

from poolcli.errors import ConfigError
from poolcli.tools import contract as contracts
from poolcli.tools import registry
from poolcli.tools.base import ToolError


def limits(window):
    return {name: tool.contract.limit for name, tool in registry.load(window=window).items()}


def test_large_and_unknown_windows_change_nothing():
    assert limits(131_072) == limits(0)
    assert list(limits(0)) == list(registry.ORDER)


@pytest.mark.parametrize(
    ("window", "most"), [(2048, 2048), (4096, 4000), (8191, 4095), (8192, 4096), (32_768, 16_384)]
)
def test_no_result_takes_more_than_its_share_of_the_window(window, most):
    assert max(limits(window).values()) == most


def test_a_small_window_gets_fewer_and_shorter_tools():
    small, all_tools = registry.load(window=8191), registry.load(window=8192)
    assert list(small) == ["read", "search", "edit", "write", "run_tests", "shell"]
    assert list(all_tools) == list(registry.ORDER)
    sizes = [
        len(json.dumps([contracts.schema(t.contract) for t in tools.values()]))
        for tools in (small, all_tools)
    ]
    assert sizes[0] < 0.7 * sizes[1]
    assert "terminal" not in json.dumps([contracts.schema(t.contract) for t in small.values()])
    assert "background" not in [p.name for p in small["shell"].contract.params]


def test_recorded_tools_are_those_that_are_loaded():
    assert list(registry.load(["shell", "terminal", "read"], window=4096)) == ["read", "shell", "terminal"]
    with pytest.raises(ConfigError, match="there is no tool fly"):
        registry.load(["fly"], window=4096)


def test_tools_cut_by_themselves_and_say_how_to_go_on(ctx, root):
    (root / "long.txt").write_text("".join(f"word {n}\n" for n in range(5000)))

    def called(name, **args):
        tool = registry.load(window=4096)[name]
        return asyncio.run(tool.run(ctx, **contracts.check(tool.contract, args))).text

    read = called("read", path="long.txt", limit=5000)
    assert "more lines; read on with offset=" in read and "@output" not in read
    assert "more matches; narrow the pattern" in called("search", pattern="word")
    shell = called("shell", command="cat long.txt")
    assert "whole output: @output/shell-1.txt (5000 lines)" in shell
    assert shell.startswith("word 0\n") and "word 4999" in shell
    for name, args in (
        ("read", {"path": "long.txt"}),
        ("search", {"pattern": "word"}),
        ("shell", {"command": "cat long.txt"}),
    ):
        assert len(called(name, **args)) <= 4000


@pytest.mark.parametrize("window", [0, 4096])
def test_a_model_trained_on_patches_gets_them_in_the_place_of_edit(window):
    plain, patch = registry.load(window=window), registry.load(window=window, edits="patch")
    assert [{"apply_patch": "edit"}.get(name, name) for name in patch] == list(plain)
    said = json.dumps([contracts.schema(tool.contract) for tool in patch.values()])
    assert "use edit" not in said and "use apply_patch" in said
    rest = {"read", "search", "run_tests", "shell"}
    assert {name: patch[name] for name in rest} == {name: plain[name] for name in rest}
    assert registry.load(list(patch), window=window) == patch
    understood = registry.understood(patch, window=window)
    assert understood == {**patch, "edit": plain["edit"]}
    assert registry.understood(plain, window=window) == plain
    assert "edit" not in registry.understood(registry.load(["read"]))


def test_what_is_no_patch_is_said_to_be_none(ctx, root):
    tool = registry.load(edits="patch")["apply_patch"]
    with pytest.raises(ToolError, match=r"the first line is `\*\*\* Begin Patch`"):
        asyncio.run(tool.run(ctx, **contracts.check(tool.contract, {"patch": "x = 1"})))
