from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.models.arguments import MAX_MEND, mend, parse_arguments
from poolcli.models.reply import Assembler
from tests.models.recovery.tools import BY_NAME

WRITE, READ, EDIT, SHELL = (BY_NAME[name] for name in ("write", "read", "edit", "shell"))


@pytest.mark.parametrize(
    ("raw", "schema", "args"),
    [
        ('{"path": "a.py",}', READ, {"path": "a.py"}),
        ("{'path': 'a.py', 'limit': 5}", READ, {"path": "a.py", "limit": 5}),
        ("{'path': 'it\\'s \"here\"'}", READ, {"path": 'it\'s "here"'}),
        ('{"command": "it\\\'s", }', SHELL, {"command": "it's"}),
        ('{path: "a.py", limit: 5}', READ, {"path": "a.py", "limit": 5}),
        ('{"path": "a", "old": "b", "new": "c", "all": True}', EDIT,
         {"path": "a", "old": "b", "new": "c", "all": True}),
        ('{"path": "a", "limit": None}', READ, {"path": "a", "limit": None}),
        ('{"path": "a", "content": "one\n\ttwo\n"}', WRITE, {"path": "a", "content": "one\n\ttwo\n"}),
        ('{"path": "a", "content": "one\\n"', WRITE, {"path": "a", "content": "one\n"}),
        ('{"path": "a", "content": ""', WRITE, {"path": "a", "content": ""}),
        ('```json\n{"path": "a",}\n```', READ, {"path": "a"}),
        ('```\n{"path": "a"}\n```', READ, {"path": "a"}),
        ('"{\\"path\\": \\"a\\",}"', READ, {"path": "a"}),
        ('{"path": "a"}}', READ, {"path": "a"}),
        ('{"path": "a", "limit": "5",}', READ, {"path": "a", "limit": "5"}),
        ('{"command": 5,}', SHELL, {"command": 5}),
        ("{'a': 1}", None, {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_mended(raw: str, schema: Any, args: dict[str, Any]) -> None:
    assert parse_arguments(raw) is None
    assert mend(raw, schema) == args


@pytest.mark.parametrize(
    ("raw", "schema"),
    [
        ('{"path": "a.py", "content": "def f(', WRITE),  # half a file
        ('{"path": "a.py", "content"', WRITE),
        ('{"path": "a.py", "content":', WRITE),
        ('{"path": "a.py",', READ),
        ('{"path": "a.py", "limit": 12', READ),  # may have been 120
        ('{"path": "a", "old": "b", "new": "c", "all": tru', EDIT),
        ('{"path": "a", "old": "b", "new": "c", "all": true', EDIT),
        ('{"command": "echo "hi""}', SHELL),
        ('{"command": "a" "b"}', SHELL),
        ("{\"command\": 'it's'}", SHELL),
        ('{"command": "grep \\d \\bx"}', SHELL),  # is \b a backspace here?
        ('{"command": ls -l}', SHELL),
        ('{"command": "a", "command": "b",}', SHELL),
        ('{"command": "a"}{"command": "a"}', SHELL),
        ('{"command": "a"} and so on', SHELL),
        ('{"cmd": "a",}', SHELL),
        ('{"command": ["a"],}', SHELL),
        ('{"command": {"a": "b"},}', SHELL),
        ('{"command", "a"}', SHELL),
        ('{"path": "a", "limit": "soon",}', READ),
        ('{"path": "a", "limit": true,}', READ),
        ('{"path": "a", "limit": 007}', READ),
        ('{"path": "a", "limit": NaN}', READ),
        ('{"path": "a", "limit": 1e999,}', READ),
        ('["a",]', READ),
        ("path: a", READ),
        ("{", READ),
        ("", READ),
        ("{'path': 'a'} // no comment", READ),
    ],
)
def test_what_is_refused(raw: str, schema: Any) -> None:
    assert mend(raw, schema) is None


def test_a_cut_reply_mends_nothing_that_may_go_on() -> None:
    assert mend('{"path": "a", "old": "b", "new": "c"', EDIT) == {"path": "a", "old": "b", "new": "c"}
    assert mend('{"path": "a", "old": "b", "new": "c"', EDIT, cut=True) is None  # "all": true may follow
    assert mend("{'path': 'a'}", READ, cut=True) == {"path": "a"}


def test_what_is_enormous_is_refused_at_once() -> None:
    assert mend('{"path": "' + "a" * MAX_MEND + '",}', READ) is None
    assert mend("[" * 100_000, READ) is None
    assert mend('{"a":' * 50_000, None) is None
    assert mend("{" + "".join(f"'k{n}': 1," for n in range(5000)) + "}", None) is None


scalars = st.text(max_size=12) | st.integers(-(10**6), 10**6) | st.booleans() | st.none()
awkward = st.lists(
    st.sampled_from(['"', "'", "\\", ",", ":", "{", "}", "[", "]", "\n", "\t", "a", " ", "path", "```", "1"]),
    max_size=8,
).map("".join)
objects = st.dictionaries(st.sampled_from(["path", "old", "new", "all", "n"]), scalars | awkward, max_size=4)


def whole(args: dict[str, Any]) -> str:
    return json.dumps(args, ensure_ascii=False)


def damages(args: dict[str, Any]) -> list[str]:
    """What models make of an object, none of it JSON in general."""
    good = whole(args)
    python = repr(args)
    return [
        python,
        good[:-1] + ",}",
        good.replace("\\n", "\n").replace("\\t", "\t"),
        f"```json\n{good}\n```",
        f"```json\n{python}\n```",
        good + "}",
        json.dumps(good[:-1] + ",}"),
        "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in args.items()) + "}",
    ]


@given(objects, st.integers(0, 7))
def test_mild_damage_gives_the_same_object_or_none(args: dict[str, Any], kind: int) -> None:
    raw = damages(args)[kind]
    found = parse_arguments(raw)
    if found is None:
        found = mend(raw, None)
    # Raw line breaks: "\\n" in the JSON of a backslash and an n was no line break, and is none now either.
    if kind != 2 or "\\\\" not in whole(args):
        assert found is None or (found == args and whole(found) == whole(args))


@given(objects, st.data())
def test_a_lost_character_gives_the_same_object_or_none(args: dict[str, Any], data: st.DataObject) -> None:
    good = whole(args)
    place = data.draw(st.sampled_from([n for n, one in enumerate(good) if one in '"{}:,\\']))
    raw = good[:place] + good[place + 1 :]
    if parse_arguments(raw) is None:  # else it is JSON, and says something else with all certainty
        found = mend(raw, None)
        assert found is None or whole(found) == whole(args)


@given(objects, st.data())
def test_a_cut_gives_the_same_object_or_none(args: dict[str, Any], data: st.DataObject) -> None:
    good = whole(args)
    raw = good[: data.draw(st.integers(0, len(good)))]
    assert mend(raw, None, cut=True) in (None, args)
    found = mend(raw, None)
    # Without the word that it was cut, only whole values are taken, and in their order.
    if found is not None:
        assert list(found.items()) == list(args.items())[: len(found)]


@given(st.text(alphabet="{}[]\"':,\\ab1.-e\n `", max_size=40), st.sampled_from([None, READ]))
def test_nothing_breaks_it(raw: str, schema: Any) -> None:
    for found in (mend(raw, schema), mend(raw, schema, cut=True)):
        assert found is None or isinstance(found, dict)
        assert found is None or schema is None or set(found) <= {"path", "offset", "limit"}


def assembled(raw: str, finish: str, name: str = "write") -> Any:
    assembler = Assembler(BY_NAME)
    call = {"index": 0, "id": "x", "function": {"name": name, "arguments": raw}}
    list(assembler.feed({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": finish or None}]}))
    return assembler.message(set()).calls[0]


def test_calls_of_a_stream_are_mended() -> None:
    raw = "{'path': 'a', 'content': 'x'"
    call = assembled(raw, "tool_calls")
    assert (call.args, call.raw) == ({"path": "a", "content": "x"}, "")
    for finish in ("length", ""):
        call = assembled(raw, finish)
        assert (call.args, call.raw) == (None, raw)
    assert assembled("{'path': 'a', 'text': 'x'}", "tool_calls").args is None
