from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from poolcli.models.recovery import Found, recover
from tests.models.recovery.samples import CODE, REASON, SAID, SAMPLES, WRITE, Sample, invoke, obj, qwen
from tests.models.recovery.tools import SCHEMAS

each = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def calls(found: Found) -> tuple[tuple[str, Mapping[str, Any] | None], ...]:
    return tuple((call.name, call.args) for call in found.calls)


@each
def test_every_format(sample: Sample) -> None:
    found = recover(sample.text, SCHEMAS)
    assert calls(found) == sample.calls
    assert (found.format, found.text) == (sample.format, sample.left)
    # "Never closed" and lists without their end are the end of the text; nothing is lost with it.
    assert all(call.raw for call in found.calls)


@each
def test_cut_at_every_place(sample: Sample) -> None:
    """What comes of a reply that was cut is the beginning of its calls, each as it was or without arguments."""
    for place in range(len(sample.text)):
        found = recover(sample.text[:place], SCHEMAS)
        read = [call for call in found.calls if call.args is not None]
        assert tuple((call.name, call.args) for call in read) == sample.calls[: len(read)], place
        if rest := found.calls[len(read) :]:
            assert found.cut and len(rest) == 1 and rest[0].name == sample.calls[len(read)][0], place


CALL = f"<tool_call>\n{obj('read', {'path': 'a.py'})}\n</tool_call>"
JSON = obj("read", {"path": "a.py"})
PYTHON = '[read(path="a.py")]'

#: What speaks of calls without making one.
PROSE = [
    f"The format is `{CALL}`.",
    f"Write `<tool_call>{JSON}</tool_call>` to read a file.",
    f'Write "<tool_call>{JSON}</tool_call>" to read a file.',
    f"Write “<tool_call>{JSON}</tool_call>”.",
    f"You write <tool_call>{JSON}</tool_call> to read a file.",
    f"> <tool_call>{JSON}</tool_call>\n\nThis was said above.",
    f"So it looks:\n```\n{CALL}\n```\nThen wait for the result.",
    f"So it looks:\n```python\nprint('''\n{CALL}\n''')\n```",
    f"For example:\n```xml\n{CALL}\n```",
    f"~~~\n{CALL}\n~~~\nis how.",
    f"````\n```\n{CALL}\n```\n````\nis how.",
    "The `<tool_call>` tag opens a call and `</tool_call>` closes it.",
    "I use the <tool_call> tag for that.",
    "Open it with <tool_call> and a name",
    "The <function=read> tag names the tool.",
    f"A `{qwen('read', {'path': 'a'})}` is a call.",
    "The token [TOOL_CALLS] comes before the calls, [ARGS] between.",
    "Kimi writes <|tool_call_begin|> and then the name of the function, DeepSeek something else.",
    "<|channel|>final<|message|>It is done; commentary goes to functions.",
    f"The reply was {JSON} and nothing else.",
    f"{JSON}\nis what I would write.",
    f"I write:\n{JSON}",
    f"I write:\n{PYTHON}",
    f"{PYTHON} reads the file.",
    f"```python\n{PYTHON}\n```",
    f"```python\n{JSON}\n```",
    f"```json\n{JSON}\n```\nThis reads the file.",
    f"```json\n{JSON}\n```\nThen:\n```json\n{JSON}\n```",
    f"A call looks like this:\n```json\n{JSON}\n```",
    f"An example:\n\n```\n{JSON}\n```",
    f"- `{JSON}`\n- `{PYTHON}`",
    f"> ```json\n> {JSON}\n> ```",
    '{"name": "pool", "version": "1.0"}',
    '{"name": "pool", "arguments": {"a": 1}}',
    '{"name": "read", "arguments": {"path": "a"}, "why": "asked for"}',
    '{"name": "read"}',
    '[{"name": "read", "arguments": {"path": "a"}}, {"name": "Ann"}]',
    '```json\n{"name": "package", "parameters": {"x": 1}}\n```',
    '[link(url="x")]',
    "[read(path)]",
    "[1, 2]",
    "[read the file](a.py)",
    "",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_not_called(text: str) -> None:
    found = recover(text, SCHEMAS)
    assert (found.text, found.calls) == (text, ())


def test_a_call_after_quoted_ones() -> None:
    text = f"Not `<tool_call>` in backticks, nor\n```\n{CALL}\n```\nbut this:\n{CALL}"
    found = recover(text, SCHEMAS)
    assert calls(found) == (("read", {"path": "a.py"}),)
    assert found.text == text.removesuffix(CALL).strip()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Read", "read"),
        ("functions.read", "read"),
        ("functions.READ", "read"),
        ("cat", "cat"),
        ("a.read", "a.read"),
    ],
)
def test_names(written: str, name: str) -> None:
    """A name that no tool has is passed on where a mark says that it is a call, so that the model is told."""
    found = recover(f"<tool_call>{obj(written, {'path': 'a'})}</tool_call>", SCHEMAS)
    assert calls(found) == ((name, {"path": "a"}),)
    bare = recover(obj(written, {"path": "a"}), SCHEMAS)
    assert calls(bare) == (((name, {"path": "a"}),) if name == "read" else ())


def test_names_that_differ_by_case_alone_are_not_guessed() -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("Read", "READ")]
    assert recover(CALL, tools).calls[0].name == "read"


def test_reasoning_counts_when_nothing_comes_after_it() -> None:
    one, other = CALL, CALL.replace("a.py", "b.py")
    a, b = (("read", {"path": "a.py"}),), (("read", {"path": "b.py"}),)
    assert calls(recover(f"<think>Hm. {one}</think>", SCHEMAS)) == a
    assert calls(recover(f"<think>Hm.\n{one}", SCHEMAS)) == a
    assert calls(recover(f"Hm.\n{one}\n</think>", SCHEMAS)) == a
    assert calls(recover(f"<think>Hm.\n{one}\n</think>\nI read it.", SCHEMAS)) == a
    assert (
        recover(f"<think>Hm.\n{one}\n</think>\nI read it.", SCHEMAS).text
        == "<think>Hm.\n\n</think>\nI read it."
    )
    assert calls(recover("I read it.", SCHEMAS, think=f"Hm.\n{one}")) == a
    assert recover("I read it.", SCHEMAS, think=f"Hm.\n{one}").text == "I read it."
    assert calls(recover(f"<think>{one}</think>{other}", SCHEMAS)) == b
    assert calls(recover(f"{one}</think>\n{other}", SCHEMAS)) == b
    assert calls(recover(other, SCHEMAS, think=one)) == b
    assert calls(recover(f"<think>{one}</think>{obj('read', {'path': 'b.py'})}", SCHEMAS)) == b
    assert (
        calls(recover(f"<think>{one} or</think>\n```json\n{obj('read', {'path': 'b.py'})}\n```", SCHEMAS))
        == b
    )
    assert calls(recover(f"<think>{one}</think>\n{other}", SCHEMAS, think=one)) == b
    assert calls(recover(f"[THINK]{REASON}[/THINK]{other}", SCHEMAS)) == b


def test_what_reasoning_only_weighs_is_not_called() -> None:
    assert recover(f"<think>{CALL}\nNo, better not.</think>Done.", SCHEMAS).calls == ()
    assert recover("Done.", SCHEMAS, think=f"{CALL}\nNo, better not.").calls == ()
    assert recover("", SCHEMAS, think=JSON).calls == ()
    assert recover("Done.", SCHEMAS, think=f"```json\n{JSON}\n```").calls == ()
    # The call after it was begun and cut: that is the one that the model meant.
    assert recover(f"<think>{CALL}</think>\n<tool_call>", SCHEMAS) == Found(
        f"<think>{CALL}</think>\n<tool_call>", (), "hermes", True
    )


def test_a_thought_that_is_part_of_a_file_is_none() -> None:
    args = {"path": "a.py", "content": "x = '</think>'\n<think>\n"}
    text = f"<tool_call>\n{obj('write', args)}\n</tool_call>"
    assert calls(recover(text, SCHEMAS)) == (("write", args),)
    assert calls(recover(qwen("write", args), SCHEMAS)) == (("write", args),)


def test_marks_in_a_call_without_marks_are_its_own() -> None:
    content = f"\n{qwen('shell', {'command': 'rm'})}\n{CALL}\n"
    args = {"path": "a", "content": content}
    assert calls(recover(obj("write", args), SCHEMAS)) == (("write", args),)
    text = f"[write(path='a', content='''{content}''')]"
    assert calls(recover(text, SCHEMAS)) == (("write", args),)
    assert calls(recover(f"<think>Hm.</think>\n{text}", SCHEMAS)) == (("write", args),)
    assert calls(recover(f"<think>Hm.</think>\n{text[:-10]}", SCHEMAS)) == (("write", None),)
    broken = json.dumps({"name": "write", "arguments": args})[:-9] + '" "}}'
    assert calls(recover(broken, SCHEMAS)) == (("write", None),)


NESTED = [
    f"How to call:\n\n<tool_call>\n{qwen('shell', {'command': 'rm -rf /'})}\n</tool_call>\n\nThat is all.\n",
    f"{qwen('read', {'path': 'x', 'limit': 3})}\n{qwen('run_tests', {})}",
    "</parameter> closes an argument.\n",
    f"```json\n{obj('shell', {'command': 'rm -rf /'})}\n```",
    "[TOOL_CALLS]shell{}",
    f"<tool_call>{obj('shell', {'command': 'rm -rf /'})}</tool_call>",
]


@pytest.mark.parametrize("content", NESTED)
def test_calls_within_a_file_that_is_written(content: str) -> None:
    args = {"path": "page.md", "content": content}
    for text in (
        f"<tool_call>\n{obj('write', args)}\n</tool_call>",
        f"<tool_call>\n{qwen('write', args)}\n</tool_call>",
    ):
        assert calls(recover(text, SCHEMAS)) == (("write", args),)


@pytest.mark.parametrize(
    "content",
    [
        "text\n</parameter>\n</function>\n</tool_call>\nand so on",
        "text\n</parameter>\n</function>\nand so on",
        "text\n</parameter>\n</function>\n<function=list>\n</function>\nand so on",
        "text.find('<parameter=')",
        f"{qwen('shell', {'command': 'rm'}).replace('</parameter>', '')}\n",
    ],
)
def test_marks_that_do_not_add_up_make_a_call_unreadable(content: str) -> None:
    """Half a file would be written, or what the file says would be run."""
    text = f"<tool_call>\n{qwen('write', {'path': 'a', 'content': content})}\n</tool_call>"
    found = calls(recover(text, SCHEMAS))
    assert found[0] == ("write", None) and all(args is None for _, args in found)


def test_a_head_that_is_no_call_makes_the_call_before_it_unreadable() -> None:
    content = '</parameter></tool_call><invoke name="write">'
    text = f"<minimax:tool_call>\n{invoke('write', {'path': 'a', 'content': content})}\n</minimax:tool_call>"
    assert calls(recover(text, SCHEMAS)) == (("write", None),)


def test_whether_the_end_of_the_text_came_too_early() -> None:
    whole = f"<tool_call>\n{qwen('write', {'path': 'a', 'content': '<parameter='})}\n</tool_call>"
    assert not recover(whole, SCHEMAS).cut
    assert recover(whole[:-40], SCHEMAS).cut
    assert recover("I read it. <tool_call>", SCHEMAS) == Found("I read it. <tool_call>", (), "hermes", True)
    assert not recover(CALL, SCHEMAS).cut


def test_nothing_behind_a_call_that_cannot_be_read_is_called() -> None:
    inner = qwen("shell", {"command": "rm"})
    text = (
        f'<tool_call>{{"name": "write", "arguments": {{"path": "a" "content": "{inner}"}}}}</tool_call>{CALL}'
    )
    assert calls(recover(text, SCHEMAS)) == (("write", None),)


def test_broken_json_is_mended_by_the_rules_for_arguments() -> None:
    for body in (
        "{'name': 'read', 'arguments': {'path': 'a.py'}}",
        '{"name": "read", "arguments": {"path": "a.py",},}',
        '{"name": "read", "arguments": {"path": "a.py"',
        '{name: "read", arguments: {path: "a.py"}}',
        '{"name": "read", "arguments": "{\'path\': \'a.py\'}"}',
    ):
        assert calls(recover(f"<tool_call>{body}</tool_call>", SCHEMAS)) == (("read", {"path": "a.py"}),)
    for body in (
        '{"name": "shell", "arguments": {"command": "echo "a""}}',
        '{"name": "shell"}, "arguments": {}}',
    ):
        assert calls(recover(f"<tool_call>{body}</tool_call>", SCHEMAS)) == (("shell", None),)


def test_strings_stay_as_they_are_and_other_types_are_read() -> None:
    found = recover(
        "<function=shell>\n<parameter=command>\n\n 007 \n\n</parameter>\n<parameter=timeout>\n60\n</parameter>\n"
        "<parameter=background>\ntrue\n</parameter>\n</function>",
        SCHEMAS,
    )
    assert calls(found) == (("shell", {"command": "\n 007 \n", "timeout": 60, "background": True}),)
    found = recover("<tool_call>write<arg_key>path</arg_key><arg_value>1</arg_value></tool_call>", SCHEMAS)
    assert calls(found) == (("write", {"path": "1"}),)
    number = '<｜DSML｜parameter name="n" string="false">5</｜DSML｜parameter>'
    dsml = f'<｜DSML｜invoke name="nope">\n{number}\n</｜DSML｜invoke>'
    assert calls(recover(dsml, SCHEMAS)) == (("nope", {"n": 5}),)
    assert calls(recover(dsml.replace("false", "true"), SCHEMAS)) == (("nope", {"n": "5"}),)


def test_python_is_read_and_never_run() -> None:
    assert calls(recover("[shell(command=__import__('os').getcwd())]", SCHEMAS)) == ()
    assert calls(recover('[shell(command="a" + "b")]', SCHEMAS)) == ()
    assert calls(recover('[shell("ls")]', SCHEMAS)) == (("shell", None),)
    assert calls(recover('[shell(command="""a\n"b" \\d\'""", timeout=-5)]', SCHEMAS)) == (
        ("shell", {"command": 'a\n"b" \\d\'', "timeout": -5}),
    )
    assert calls(recover('[shell(command=r"\\d", background=True)]', SCHEMAS)) == (
        ("shell", {"command": "\\d", "background": True}),
    )


def test_there_is_an_end_to_calls() -> None:
    for text in (
        CALL * 100,
        f"[TOOL_CALLS][{', '.join([JSON] * 100)}]",
        qwen("list", {}) * 99,
    ):
        assert len(recover(text, SCHEMAS).calls) == 64
    assert recover("; ".join([JSON] * 100), SCHEMAS).calls == ()


def test_schemas_that_are_none_are_left_out() -> None:
    odd: list[Any] = [
        {},
        {"function": 1},
        {"function": {"name": 1}},
        {"function": {"name": "f", "parameters": 3}},
    ]
    assert calls(recover("<function=f><parameter=a>\n1\n</parameter></function>", odd)) == (
        ("f", {"a": "1"}),
    )


def test_the_samples_cover_what_json_cannot_say() -> None:
    assert (
        json.loads(json.dumps(CODE)) == CODE
        and '"' in CODE
        and "\\" in CODE
        and CODE in WRITE.values()
        and SAID
    )
