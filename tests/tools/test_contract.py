"""Contracts: what they say, that the functions keep them, and what arguments become."""

import importlib
import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import ConfigError
from poolcli.tools import contract as contracts
from poolcli.tools import registry
from poolcli.tools.base import ToolError

TOOLS = registry.load()
ANNOTATIONS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


@pytest.mark.parametrize("name", TOOLS)
def test_function_keeps_its_contract(name):
    function = importlib.import_module(f"poolcli.tools.{name}").run
    assert inspect.iscoroutinefunction(function)
    first, *given_ = inspect.signature(function).parameters.values()
    assert first.name == "ctx"
    assert [(p.name, p.annotation, None if p.default is p.empty else p.default) for p in given_] == [
        (p.name, ANNOTATIONS[p.type], p.default) for p in TOOLS[name].contract.params
    ]
    assert [p.default is p.empty for p in given_] == [p.required for p in TOOLS[name].contract.params]


def test_the_tools_and_their_order():
    names = ["read", "search", "list", "edit", "write", "undo", "run_tests", "shell", "terminal"]
    assert list(TOOLS) == names
    assert list(registry.load(["write", "read"])) == ["read", "write"]
    with pytest.raises(ConfigError):
        registry.load(["read", "fly"])


def test_schemas_are_flat_small_and_always_the_same():
    schemas = [contracts.schema(tool.contract) for tool in TOOLS.values()]
    text = json.dumps(schemas)
    # About 850 tokens: half of what a small model's instructions and tools may take together.
    assert len(text) < 3400
    assert text == json.dumps([contracts.schema(tool.contract) for tool in registry.load().values()])
    for schema in schemas:
        for spec in schema["function"]["parameters"]["properties"].values():
            assert spec["type"] in contracts.TYPES and set(spec) <= {"type", "description", "enum"}


def test_what_changes_nothing_may_run_side_by_side():
    parallel = {name for name, tool in TOOLS.items() if tool.contract.parallel}
    assert parallel == {"read", "search", "list"}


def check(tool, **args):
    return contracts.check(TOOLS[tool].contract, args)


def test_arguments_are_forgiven_what_cannot_be_misread():
    assert check("read", path="a", offset="5", limit=7.0) == {"path": "a", "offset": 5, "limit": 7}
    assert check("edit", path="a", old="x", new=5, all="True")["all"] is True
    assert check("read", path="a", offset=None) == {"path": "a"}
    assert check("run_tests") == {}


@pytest.mark.parametrize(
    ("tool", "args", "said"),
    [
        ("read", {}, "missing `path`; read takes path and optionally offset, limit"),
        ("edit", {"path": "a"}, "missing `old`, `new`; edit takes path, old, new and optionally all"),
        ("read", {"file": "a"}, "read has no parameter `file`; read takes path and optionally offset, limit"),
        ("run_tests", {"x": 1}, "run_tests has no parameter `x`; run_tests takes no parameters"),
        ("read", {"path": "a", "offset": "ten"}, "offset of read must be a whole number, not 'ten'"),
        ("read", {"path": "a", "offset": 1.5}, "offset of read must be a whole number, not 1.5"),
        ("read", {"path": "a", "offset": True}, "offset of read must be a whole number, not True"),
        ("read", {"path": ["a"]}, "path of read must be a string, not ['a']"),
        ("edit", {"path": "a", "old": "", "new": "", "all": 1.5},
         "all of edit must be true or false, not 1.5"),
        ("terminal", {"action": "jump", "name": "x"},
         "action of terminal must be one of start, send, expect, close, not 'jump'"),
    ],
)  # fmt: skip
def test_wrong_arguments_say_what_is_right(tool, args, said):
    with pytest.raises(ToolError) as error:
        check(tool, **args)
    assert str(error.value) == said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(TOOLS)), st.data())
def test_checked_arguments_are_of_the_contracts_types(name, data):
    contract = TOOLS[name].contract
    names = st.sampled_from([p.name for p in contract.params] or ["none"]) | st.text(max_size=5)
    values = (
        JSON | st.integers().map(str) | st.sampled_from(["true", "FALSE", " 7 ", "1e400", "nan", "start"])
    )
    args = data.draw(st.dictionaries(names, values, max_size=6))
    try:
        checked = contracts.check(contract, args)
    except ToolError as error:
        assert len(str(error)) < 1000
        return
    params = {p.name: p for p in contract.params}
    for key, value in checked.items():
        assert type(value) is contracts.TYPES[params[key].type]
    assert {p.name for p in contract.params if p.required} <= set(checked)
    # Checking what was checked changes nothing.
    assert contracts.check(contract, checked) == checked


@given(st.text())
def test_titles_are_one_short_line(text):
    for tool in TOOLS.values():
        title = contracts.title(tool.contract, {p.name: text for p in tool.contract.params})
        assert len(title.splitlines()) == 1
        assert len(title) < 250


def test_titles():
    assert contracts.title(TOOLS["search"].contract, {"pattern": "a\n b"}) == "Search a b in ."
    assert contracts.title(TOOLS["read"].contract, {"path": "{x}" + "y" * 90}) == "Read {x}" + "y" * 56 + "…"


@pytest.mark.parametrize(
    "text",
    [
        "name = 'x'",
        "name = 'x'\nkind = 'fly'\ndescription = ''\nlimit = 1",
        "name = 'x'\nkind = 'read'\ndescription = ''\nlimit = 1\n[params.a]\ntype = 'object'",
        "not toml",
        "\x00",
    ],
)
def test_a_broken_contract_names_its_file(tmp_path, text):
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.toml"):
        contracts.load(file)
