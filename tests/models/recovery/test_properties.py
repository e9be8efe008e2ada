"""Whatever a model writes: nothing breaks the parser, nothing makes it slow, and no call becomes another one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.models.recovery import recover
from tests.models.recovery import samples
from tests.models.recovery.samples import SAMPLES
from tests.models.recovery.tools import BY_NAME, SCHEMAS

#: Pieces of all formats, of what quotes them, and of what tears them apart.
PIECES = [
    "<tool_call>", "</tool_call>", "<function=write>", "<function=list>", "</function>", "<parameter=content>",
    "<parameter=path>", "</parameter>", "<arg_key>", "path</arg_key>", "<arg_value>", "</arg_value>", "write", "list",
    "<minimax:tool_call>", '<invoke name="write">', '<parameter name="path">', "</invoke>", "</minimax:tool_call>",
    "<｜DSML｜function_calls>", '<｜DSML｜invoke name="list">', "</｜DSML｜invoke>", "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>", "function<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>functions.list:0", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "[TOOL_CALLS]",
    "[ARGS]",
    "<|start|>assistant", "<|channel|>", "commentary to=functions.list", "<|message|>", "<|call|>", "<|end|>",
    "<|channel|>analysis<|message|>", "<|python_tag|>", "<|START_ACTION|>", "<|END_ACTION|>", "<|tool_call|>",
    "<think>", "</think>", "```json\n", "```\n", "```", "`", "> ", '"', "'", "\\", "[", "]", "{", "}", "(", ")", ":",
    ",", "=", "\n", " ", "}}", '{"name": "list", "arguments": {}}', '{"name": "write", "arguments": {"path": "',
    "list()", 'write(path="', "word", "Action: ", "1", "true", "null", "\x00", "\ud800", "é", "<|im_end|>",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@given(texts | st.text(max_size=60), texts)
def test_nothing_breaks_it(text: str, think: str) -> None:
    found = recover(text, SCHEMAS, think=think)
    assert len(found.calls) <= 64
    assert found == recover(text, SCHEMAS, think=think)
    if not found.calls:
        assert found.text == text
    if found.format in ("json", "pythonic", "fenced"):
        assert {call.name for call in found.calls} <= set(BY_NAME)
    for call in found.calls[:-1]:
        assert call.raw in text or call.raw in think
    for call in found.calls:
        assert call.args is None or isinstance(json.loads(json.dumps(dict(call.args), allow_nan=False)), dict)


@given(texts, st.integers(0, 400))
def test_without_tools_only_marks_count(text: str, place: int) -> None:
    assert recover(text, []).format not in ("json", "pythonic", "fenced")
    assert recover(text[:place], []).format not in ("json", "pythonic", "fenced")


WRITERS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "hermes": lambda n, a: f"<tool_call>\n{samples.obj(n, a)}\n</tool_call>",
    "qwen3-coder": lambda n, a: f"<tool_call>\n{samples.qwen(n, a)}\n</tool_call>",
    "qwen3-coder, bare": samples.qwen,
    "llama3": lambda n, a: "<|python_tag|>" + samples.obj(n, a, "parameters"),
    "json": samples.obj,
    "pythonic": lambda n, a: f"[{samples.python(n, a)}]",
    "mistral": lambda n, a: f"[TOOL_CALLS]{n}[ARGS]{json.dumps(a)}",
    "deepseek": lambda n, a: f"<｜tool▁calls▁begin｜>{samples.deepseek(n, a)}<｜tool▁calls▁end｜>",
    "dsml": lambda n, a: f"<｜DSML｜function_calls>\n{samples.invoke(n, a, '｜')}\n</｜DSML｜function_calls>",
    "glm": samples.glm,
    "kimi": lambda n, a: f"<|tool_calls_section_begin|>{samples.kimi(n, a)}<|tool_calls_section_end|>",
    "minimax": lambda n, a: f"<minimax:tool_call>\n{samples.invoke(n, a)}\n</minimax:tool_call>",
    "harmony": samples.harmony,
    "granite": lambda n, a: f"<|tool_call|>[{samples.obj(n, a)}]",
    "command-r": lambda n, a: f"<|START_ACTION|>{samples.action([(n, a)])}<|END_ACTION|>",
    "fenced": lambda n, a: f"```json\n{samples.obj(n, a)}\n```",
}
PLAIN_TEXT = ("qwen3-coder", "qwen3-coder, bare", "dsml", "glm", "minimax")


@pytest.mark.parametrize("format", WRITERS)
@given(content=texts.filter(lambda text: "\ud800" not in text), place=st.integers(0, 1000))
def test_no_call_becomes_another_one(format: str, content: str, place: int) -> None:
    """Also when the file to write is full of marks, and also when the reply is cut."""
    args = {"path": "a.md", "content": content}
    text = WRITERS[format]("write", args)
    found = recover(text, SCHEMAS)
    first = [call.args for call in found.calls][:1]
    if format not in PLAIN_TEXT:
        assert first == [args] and len(found.calls) == 1
    else:
        # Where nothing is escaped, a text may close its own marks; then no call that is read may be a wrong one.
        assert all(call.args in (None, args) for call in found.calls)
        assert found.calls
    if format not in PLAIN_TEXT:
        cut = recover(text[: place % len(text)], SCHEMAS)
        assert all(call.args in (None, args) for call in cut.calls)


#: What a hostile or broken model repeats for a million characters.
ENDLESS = [
    "<tool_call>",
    "<tool_call>{",
    '<tool_call>{"name":"read","arguments":{"a":"',
    "<tool_call>read<arg_key>a</arg_key><arg_value>",
    "<function=read><parameter=path>",
    "<function=list>\n</function>",
    "<think></think>",
    "```json\n{}\n```\n",
    "```\n<tool_call>",
    "x `<tool_call>",
    '<tool_call>{"name":"list","arguments":{}}</tool_call>',
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>read\n```json\n",
    "<|channel|>commentary to=functions.read<|message|>{",
    '<minimax:tool_call><invoke name="read">',
    "[TOOL_CALLS]read[ARGS]",
    "[read(",
    '{"name":"read","arguments":{"path":"a"}};',
    "{",
    " ",
]


@pytest.mark.parametrize("piece", ENDLESS)
@pytest.mark.parametrize(
    "head", ["", '<tool_call>{"name": "write", "arguments": {"content": "'], ids=["", "in a call"]
)
def test_the_time_is_linear(piece: str, head: str) -> None:
    """Eight times the text takes about eight times as long; were it quadratic, sixty-four times."""
    seconds = []
    for size in (125_000, 1_000_000):
        text = head + piece * (size // len(piece))
        times = []
        for _ in range(3 if size < 1_000_000 else 1):
            start = time.process_time()
            recover(text, SCHEMAS)
            times.append(time.process_time() - start)
        seconds.append(min(times))
    # Ten milliseconds are what a collection of garbage or a cold cache may add.
    assert seconds[1] < 25 * (seconds[0] + 0.01)


def test_the_endless_are_read_at_all() -> None:
    """What they repeat is not passed over for some other reason than its length."""
    assert any(recover(piece, SCHEMAS).calls for piece in ENDLESS)
    assert all(recover(sample.text, SCHEMAS).calls for sample in SAMPLES)
