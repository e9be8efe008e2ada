"""Replies as models of each family write them, with the calls that they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class Sample(Struct, frozen=True):
    """A reply, the format's name, its calls, and what is left of the text."""

    name: str
    format: str
    text: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    left: str = ""


CODE = 'def greet(name):\n    """Say "hello"."""\n    return f"hi {name}\\n"  # </b> [x](y) {z}\n'
EDIT = {"path": "src/app.py", "old": "  a = '1'", "new": '  a = "2" if x < 3 else {}'}
WRITE = {"path": "greet.py", "content": CODE}
READ = {"path": "src/app.py", "offset": 10, "limit": 20}


def obj(name: str, args: Mapping[str, Any], key: str = "arguments") -> str:
    return json.dumps({"name": name, key: args}, ensure_ascii=False)


def qwen(name: str, args: Mapping[str, Any]) -> str:
    body = "".join(f"<parameter={key}>\n{plain(value)}\n</parameter>\n" for key, value in args.items())
    return f"<function={name}>\n{body}</function>"


def invoke(name: str, args: Mapping[str, Any], bar: str = "") -> str:
    mark = f"{bar}DSML{bar}" if bar else ""
    kind = {True: ' string="true"', False: ' string="false"'}
    body = "".join(
        f'<{mark}parameter name="{key}"{kind[isinstance(value, str)] if bar else ""}>{plain(value)}</{mark}parameter>\n'
        for key, value in args.items()
    )
    return f'<{mark}invoke name="{name}">\n{body}</{mark}invoke>'


def glm(name: str, args: Mapping[str, Any]) -> str:
    pairs = "".join(f"<arg_key>{k}</arg_key>\n<arg_value>{plain(v)}</arg_value>\n" for k, v in args.items())
    return f"<tool_call>{name}\n{pairs}</tool_call>"


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def python(name: str, args: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})"


def deepseek(name: str, args: Mapping[str, Any]) -> str:
    return f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{json.dumps(args)}\n```<｜tool▁call▁end｜>"


def kimi(name: str, args: Mapping[str, Any], number: int = 0) -> str:
    head = f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>"
    return f"{head}{json.dumps(args)}<|tool_call_end|>"


def harmony(name: str, args: Mapping[str, Any]) -> str:
    return (
        f"<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        f"{json.dumps(args)}<|call|>"
    )


def action(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return json.dumps(
        [
            {"tool_call_id": str(n), "tool_name": name, "parameters": args}
            for n, (name, args) in enumerate(calls)
        ],
        indent=4,
    )


ONE = (("write", WRITE),)
TWO = (("read", READ), ("edit", EDIT))
SAID = "I look at the file first."
REASON = "I could run the tests, or read it. Reading is better."


def both(write: Any, between: str = "\n") -> str:
    return between.join(write(name, args) for name, args in TWO)


SAMPLES = [
    Sample("hermes", "hermes", f"{SAID}\n<tool_call>\n{obj('write', WRITE)}\n</tool_call>", ONE, SAID),
    Sample("hermes, two", "hermes", both(lambda n, a: f"<tool_call>\n{obj(n, a)}\n</tool_call>"), TWO),
    Sample("hermes, two in one", "hermes", f"<tool_call>\n{both(obj)}\n</tool_call>", TWO),
    Sample("hermes, never closed", "hermes", both(lambda n, a: f"<tool_call>\n{obj(n, a)}"), TWO),
    Sample("hermes, on one line", "hermes", f"{SAID} <tool_call>{obj('write', WRITE)}</tool_call>", ONE, SAID),
    Sample("hermes, turn ended", "hermes", f"<tool_call>{obj('write', WRITE)}</tool_call><|im_end|>\n", ONE),
    Sample("hermes, a bracket too many", "hermes", f"<tool_call>{obj('write', WRITE)}}}\n</tool_call>", ONE),
    Sample("hermes, a bracket too few", "hermes", f"<tool_call>{obj('write', WRITE)[:-1]}\n</tool_call>", ONE),
    Sample("hermes, parameters", "hermes", f"<tool_call>{obj('write', WRITE, 'parameters')}</tool_call>", ONE),
    Sample(
        "hermes, encoded twice",
        "hermes",
        f"<tool_call>{json.dumps({'name': 'write', 'arguments': json.dumps(WRITE)})}</tool_call>",
        ONE,
    ),
    Sample(
        "hermes, as Python",
        "hermes",
        f"<tool_call>\n{ {'name': 'read', 'arguments': READ}!r}\n</tool_call>",
        (("read", READ),),
    ),
    Sample("hermes, no arguments", "hermes", '<tool_call>\n{"name": "run_tests"}\n</tool_call>', (("run_tests", {}),)),
    Sample("hermes, a call in Python", "hermes", f"<tool_call>{python('write', WRITE)}</tool_call>", ONE),
    Sample("qwen3-coder", "qwen3-coder", f"{SAID}\n\n<tool_call>\n{qwen('write', WRITE)}\n</tool_call>", ONE, SAID),
    Sample("qwen3-coder, two", "qwen3-coder", both(lambda n, a: f"<tool_call>\n{qwen(n, a)}\n</tool_call>"), TWO),
    Sample("qwen3-coder, two in one", "qwen3-coder", f"<tool_call>\n{both(qwen)}\n</tool_call>", TWO),
    Sample("qwen3-coder, bare", "qwen3-coder", both(qwen, "\n\n"), TWO),
    Sample("qwen3-coder, half open", "qwen3-coder", f"{qwen('write', WRITE)}\n</tool_call>", ONE),
    Sample("qwen3-coder, JSON within", "qwen3-coder", f"<function=write>{json.dumps(WRITE)}</function>", ONE),
    Sample("qwen3-coder, no arguments", "qwen3-coder", f"<tool_call>\n{qwen('run_tests', {})}\n</tool_call>",
           (("run_tests", {}),)),
    Sample("llama3", "llama3", f"<|python_tag|>{obj('write', WRITE, 'parameters')}<|eom_id|>", ONE),
    Sample("llama3, two", "llama3", f"<|python_tag|>{both(lambda n, a: obj(n, a, 'parameters'), '; ')}", TWO),
    Sample("llama3, built in", "llama3", '<|python_tag|>search.call(pattern="x y")', (("search", {"pattern": "x y"}),)),
    Sample("json", "json", obj("write", WRITE, "parameters"), ONE),
    Sample("json, two", "json", both(lambda n, a: obj(n, a, "parameters"), "; "), TWO),
    Sample("json, a list", "json", f"[{both(obj, ', ')}]", TWO),
    Sample("json, of chat completions", "json",
           json.dumps({"tool_calls": [
               {"id": "a", "type": "function", "function": {"name": n, "arguments": json.dumps(a)}} for n, a in TWO
           ]}), TWO),
    Sample("pythonic", "pythonic", f"[{both(python, ', ')}]", TWO),
    Sample("pythonic, marked", "pythonic", f"<|tool_call_start|>[{both(python, ', ')}]<|tool_call_end|>", TWO),
    Sample("mistral", "mistral", f"{SAID}[TOOL_CALLS][{obj('write', WRITE)}]", ONE, SAID),
    Sample("mistral, two", "mistral", f"[TOOL_CALLS] [{both(obj, ', ')}]</s>", TWO),
    Sample("mistral, names", "mistral", both(lambda n, a: f"[TOOL_CALLS]{n}[ARGS]{json.dumps(a)}", ""), TWO),
    Sample("mistral, names alone", "mistral", both(lambda n, a: f"[TOOL_CALLS]{n}{json.dumps(a)}", ""), TWO),
    Sample("mistral, ids", "mistral",
           both(lambda n, a: f"[TOOL_CALLS]{n}[CALL_ID]aB3dE6gH9[ARGS]{json.dumps(a)}", ""), TWO),
    Sample("deepseek", "deepseek",
           f"{SAID}<｜tool▁calls▁begin｜>{both(deepseek)}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>", TWO, SAID),
    Sample("deepseek, V3.1", "deepseek",
           "<｜tool▁calls▁begin｜>" + both(
               lambda n, a: f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{json.dumps(a)}<｜tool▁call▁end｜>", ""
           ) + "<｜tool▁calls▁end｜>", TWO),
    Sample("deepseek, no section", "deepseek", deepseek("write", WRITE), ONE),
    Sample("deepseek, plain bars", "deepseek",
           f"<|tool▁calls▁begin|>{deepseek('write', WRITE).replace('｜', '|')}<|tool▁calls▁end|>", ONE),
    Sample("deepseek, V3.2", "deepseek",
           f"{SAID}\n\n<｜DSML｜function_calls>\n{both(lambda n, a: invoke(n, a, '｜'))}\n</｜DSML｜function_calls>",
           TWO, SAID),
    Sample("deepseek, V4", "deepseek",
           f"<|DSML|tool_calls>\n{both(lambda n, a: invoke(n, a, '|'))}\n</|DSML|tool_calls>", TWO),
    Sample("glm", "glm", f"{SAID}\n{glm('write', WRITE)}", ONE, SAID),
    Sample("glm, two", "glm", both(glm), TWO),
    Sample("glm, 4.7", "glm", glm("read", READ).replace("\n", ""), (("read", READ),)),
    Sample("glm, no arguments", "glm", "<tool_call>run_tests\n</tool_call>", (("run_tests", {}),)),
    Sample("kimi", "kimi", f"{SAID}<|tool_calls_section_begin|>{kimi('write', WRITE)}<|tool_calls_section_end|>",
           ONE, SAID),
    Sample("kimi, two", "kimi",
           f"<|tool_calls_section_begin|>{kimi('read', READ)}{kimi('edit', EDIT, 1)}<|tool_calls_section_end|>", TWO),
    Sample("kimi, one section", "kimi",
           f"<|tool_call_section_begin|>\n{kimi('write', WRITE)}\n<|tool_call_section_end|>", ONE),
    Sample("kimi, no section", "kimi", kimi("write", WRITE), ONE),
    Sample("kimi, invoke", "minimax", f"<tool_call>\n{invoke('write', WRITE)}\n</tool_call>", ONE),
    Sample("minimax", "minimax", f"{SAID}\n<minimax:tool_call>\n{both(invoke)}\n</minimax:tool_call>", TWO, SAID),
    Sample("function_calls", "minimax", f"<function_calls>\n{invoke('write', WRITE)}\n</function_calls>", ONE),
    Sample("harmony", "harmony", harmony("write", WRITE), ONE),
    Sample("harmony, two", "harmony", both(harmony, ""), TWO),
    Sample("harmony, with reasoning", "harmony",
           f"<|channel|>analysis<|message|>{REASON}<|end|><|start|>assistant<|channel|>commentary<|message|>{SAID}<|end|>"
           + harmony("write", WRITE), ONE, SAID),
    Sample("harmony, to whom first", "harmony",
           f" to=functions.write<|channel|>commentary json<|message|>{json.dumps(WRITE)}<|call|>", ONE),
    Sample("harmony, in the role", "harmony",
           "<|start|>assistant to=functions.write<|channel|>commentary <|constrain|>json<|message|>"
           + json.dumps(WRITE), ONE),
    Sample("granite", "granite", f"<|tool_call|>[{both(obj, ', ')}]", TWO),
    Sample("granite, a tag", "granite", f"<tool_call>[{both(obj, ', ')}]", TWO),
    Sample("granite, 20b", "granite", both(lambda n, a: f"<function_call> {obj(n, a)}"), TWO),
    Sample("command-r", "command-r",
           f"<|START_THINKING|>{REASON}<|END_THINKING|><|START_ACTION|>{action(TWO)}<|END_ACTION|>", TWO,
           f"<|START_THINKING|>{REASON}<|END_THINKING|>"),
    Sample("command-r, old", "fenced", f"Action: ```json\n{action(TWO)}\n```", TWO),
    Sample("fenced", "fenced", f"{SAID}\n\n```json\n{obj('write', WRITE)}\n```\n", ONE, SAID),
    Sample("fenced, two", "fenced", both(lambda n, a: f"```json\n{obj(n, a)}\n```", "\n\n"), TWO),
    Sample("fenced, a list", "fenced", f"```\n[{both(obj, ', ')}]\n```", TWO),
    Sample("fenced, tool_call", "fenced", f"{SAID}\n```tool_call\n{obj('write', WRITE)}\n```", ONE, SAID),
    Sample("fenced, tool_code", "fenced", f"```tool_code\n{both(python)}\n```", TWO),
    Sample("fenced, marked", "hermes", f"{SAID}\n```xml\n<tool_call>{obj('write', WRITE)}</tool_call>\n```", ONE, SAID),
]  # fmt: skip
