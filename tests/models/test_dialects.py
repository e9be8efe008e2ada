"""The ways in which calls are asked for, written, read and sent back."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.messages import Call, Message, Result, Text, Think, from_json, system, to_json, user
from poolcli.models.dialects import blocks, schema, shell, text
from poolcli.models.dialects.base import RUNGS, Dialect
from poolcli.models.dialects.choose import make
from poolcli.models.profile import Profile
from poolcli.models.rules import Conversation
from poolcli.models.wire import Wire
from poolcli.tools import contract, registry
from tests.models.test_wire import rounds

TOOLS = [contract.schema(tool.contract) for tool in registry.load().values()]
SMALL = [contract.schema(tool.contract) for tool in registry.load(window=4096).values()]
TEXTUAL = ("schema", "text", "shell")


def dialect_of(rung: str, **known: Any) -> Dialect:
    return make(rung, TOOLS, profile=Profile("u", "m", **known))


def wire_of(dialect: Dialect) -> Wire:
    constants = {"stream": True, **dialect.constants()}
    return Wire(constants, dialect.render, guide=dialect.guide, system_role=dialect.system_role)


def sent(dialect: Dialect, messages: Sequence[Message]) -> list[dict[str, Any]]:
    return json.loads(wire_of(dialect).body("m", messages))["messages"]


def said(*parts: Any) -> Message:
    return Message("assistant", parts)


def heard(dialect: Dialect, content: str, *more: Any) -> Message:
    return dialect.read(said(*more, Text(content)))


def stored(message: Message) -> Message:
    return from_json(json.loads(json.dumps(to_json(message))))


ROLES = [dict(zip(("system_role", "tool_role"), given, strict=True)) for given in
         itertools.product((True, False), repeat=2)]  # fmt: skip


# What all of them keep.


@pytest.mark.parametrize("rung", RUNGS)
@given(steps=rounds(), roles=st.sampled_from(ROLES))
def test_each_request_begins_with_the_one_before(
    rung: str, steps: list[list[Message]], roles: dict[str, bool]
) -> None:
    wire, messages, last = wire_of(dialect_of(rung, **roles)), [], b""
    conversation = Conversation()
    for step in steps:
        messages += step
        body = wire.body("m", messages)
        assert body.startswith(last) and body.endswith(b"]}")
        conversation.accept(body)  # roles alternate, calls have their results
        last = body[:-2]


@pytest.mark.parametrize("rung", RUNGS)
@given(steps=rounds(), roles=st.sampled_from(ROLES))
def test_another_process_sends_the_same_bytes(
    rung: str, steps: list[list[Message]], roles: dict[str, bool]
) -> None:
    messages = [message for step in steps for message in step]
    wire = wire_of(dialect_of(rung, **roles))
    for end in range(2, len(steps)):
        wire.body("m", [message for step in steps[:end] for message in step])
    again = wire_of(dialect_of(rung, **roles)).body("m", [stored(m) for m in messages])
    assert wire.body("m", messages) == again


#: Replies as models write them in each dialect, each to be read, stored and sent back.
WRITTEN = {
    "schema": [
        '{"thought": "look", "tool": "read", "arguments": {"path": "a.py", "limit": 3}}',
        '{ "thought":"",\n"tool":"shell","arguments":{"command":"ls\\n"} }',
        '{"thought": "green", "tool": "done", "answer": "It adds now."}',
        '{"thought": "cut of',
        "no object at all",
        "",
    ],
    "text": [
        "Done.\n",
        "",
        "  It works. ",
        "I look.\n\n" + text.call_text("read", {"path": "a.py"}),
        text.call_text("edit", {"path": "a", "old": "  x\n", "new": "\n y", "all": True}),
        text.call_text("read", {"path": "a"}) + "\n" + text.call_text("run_tests", {}),
    ],
    "shell": [
        "Done.\n",
        "I look.\n\n```bash\nls\n```",
        "```sh\nls\n```\nand then\n```bash\ncat a\n```\ntrailing",
        "Now\n```bash\ncut of",
    ],
}


@pytest.mark.parametrize(("rung", "content"), [(r, c) for r in WRITTEN for c in WRITTEN[r]])
def test_what_was_read_goes_back_the_same_for_ever(rung: str, content: str) -> None:
    dialect = dialect_of(rung)
    message = heard(dialect, content, Think("hm", {"field": "reasoning_content"}))
    first = list(dialect.render(message))
    assert first == list(dialect_of(rung).render(stored(message)))
    assert first[0]["reasoning_content"] == "hm"
    assert "tool_calls" not in first[0]
    # Reading its own canonical form changes nothing any more: the model sees what it would have to write.
    again = heard(dialect, first[0]["content"], Think("hm", {"field": "reasoning_content"}))
    assert list(dialect.render(again)) == first


@pytest.mark.parametrize("rung", RUNGS)
def test_results_go_out_together_in_the_order_of_the_calls(rung: str) -> None:
    calls = said(Call("a", "read", {"path": "x"}), Call("b", "list", {}))
    second, first = (
        Message("tool", (Result(id, name, f"<{id}>"),)) for id, name in (("b", "list"), ("a", "read"))
    )
    found = sent(dialect_of(rung), [system("s"), user("u"), calls, second, first])[3:]
    if rung in TEXTUAL:
        assert [m["role"] for m in found] == ["user"]
        assert found[0]["content"] == (
            '<result tool="read">\n<a>\n</result>\n<result tool="list">\n<b>\n</result>'
        )
    else:
        assert [(m["role"], m["tool_call_id"]) for m in found] == [("tool", "a"), ("tool", "b")]


marks = st.lists(st.sampled_from(["</result>", "</result-2>", "</result-3>", "x", "\n"]), max_size=6)


@given(marks.map("".join), st.text(max_size=10))
def test_no_result_can_end_its_own_block(content: str, name: str) -> None:
    block = blocks.results(Message("tool", (Result("c", name, content),)))
    tag = re.match(r"<([\w-]+) tool=", block)
    assert tag and block.endswith(f"\n{content}\n</{tag[1]}>")
    assert block.count(f"</{tag[1]}>") == 1


@pytest.mark.parametrize("rung", RUNGS)
def test_without_a_system_role_the_first_message_begins_with_it(rung: str) -> None:
    dialect = dialect_of(rung, system_role=False)
    messages = [system("You are pool."), user("Fix it."), said(Text("Done.")), user("No.")]
    found = sent(dialect, messages)
    assert [m["role"] for m in found] == ["user", "assistant", "user"]
    before = "\n\n".join(part for part in ("You are pool.", dialect.guide) if part)
    assert found[0]["content"] == f"{before}\n\nFix it."
    assert found[2]["content"] == "No."


@pytest.mark.parametrize("rung", RUNGS)
def test_the_tools_are_told_of_even_without_a_system_message(rung: str) -> None:
    found = sent(dialect_of(rung), [user("u")])
    assert [m["role"] for m in found] == (["system", "user"] if rung in TEXTUAL else ["user"])
    if rung in ("schema", "text"):
        for tool in TOOLS:
            assert f"## {tool['function']['name']}\n" in found[0]["content"]


def test_only_the_native_rungs_send_tools() -> None:
    for rung in RUNGS:
        body = json.loads(wire_of(dialect_of(rung)).body("m", [user("u")]))
        assert ("tools" in body) == (rung in ("native", "whole"))
        assert ("response_format" in body) == (rung == "schema")
        assert (dialect_of(rung).name, dialect_of(rung).streamed) == (rung, rung != "whole")
    with pytest.raises(ValueError, match="steam"):
        make("steam", TOOLS)


@pytest.mark.parametrize("rung", TEXTUAL)
@pytest.mark.parametrize("tools", [SMALL, TOOLS], ids=["small window", "all"])
def test_the_instructions_are_short(rung: str, tools: Any) -> None:
    """In tokens of four characters. A window of 8,000 has to hold them and still be one to work in."""
    assert len(SMALL) == 6
    assert len(make(rung, tools).guide) / 4 < 1300


@pytest.mark.parametrize("rung", RUNGS)
def test_reasoning_is_not_sent_where_it_is_refused(rung: str) -> None:
    messages = [user("u"), said(Think("x", {"field": "reasoning"}), Text("a")), user("v")]
    for back in (True, False):
        assert ("reasoning" in sent(dialect_of(rung, reasoning_back=back), messages)[-2]) is back


def test_without_a_tool_role_calls_and_results_are_plain() -> None:
    messages = [user("u"), said(Text("I look."), Call("a", "read", {"path": "x"}))]
    messages.append(Message("tool", (Result("a", "read", "1\tx"),)))
    found = sent(dialect_of("native", tool_role=False), messages)
    assert found[1] == {
        "role": "assistant",
        "content": "I look.\n\n" + text.call_text("read", {"path": "x"}),
    }
    assert found[2] == {"role": "user", "content": '<result tool="read">\n1\tx\n</result>'}


def test_arguments_that_could_not_be_read_are_never_sent_back() -> None:
    call = Call("a", "shell", None, raw='{"command": "rm -rf')
    for rung in RUNGS:
        body = wire_of(dialect_of(rung)).body(
            "m", [user("u"), said(call), Message("tool", (Result("a", "shell", "error"),))]
        )
        assert b"rm -rf" not in body


# Replies that a schema holds.

plain = st.text(max_size=40)
words = plain.filter(str.strip)


@st.composite
def arguments(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tool and arguments of the right types."""
    kinds = {"string": plain, "integer": st.integers(-(10**15), 10**15), "boolean": st.booleans()}
    function = draw(st.sampled_from(TOOLS))["function"]
    args = {}
    for name, spec in blocks.properties(function).items():
        if name in blocks.required(function) or draw(st.booleans()):
            args[name] = draw(st.sampled_from(spec["enum"]) if "enum" in spec else kinds[spec["type"]])
    return function["name"], args


@given(plain, arguments())
def test_a_call_under_a_schema_is_read_as_it_was_rendered(thought: str, call: tuple[str, Any]) -> None:
    dialect = dialect_of("schema")
    thinks = (Think(thought, {"field": "thought"}),) if thought else ()
    message = said(*thinks, Call("call_1", *call))
    (one,) = dialect.render(message)
    assert json.loads(one["content"]) == {"thought": thought, "tool": call[0], "arguments": call[1]}
    assert heard(dialect, one["content"]) == message


@given(plain, words)
def test_done_under_a_schema_is_a_text_without_a_call(thought: str, answer: str) -> None:
    content = json.dumps({"thought": thought, "tool": "done", "answer": answer})
    message = heard(dialect_of("schema"), content)
    assert (message.text, message.calls) == (answer, ())
    assert json.loads(next(iter(dialect_of("schema").render(message)))["content"]) == json.loads(content)


def test_done_without_a_word_is_still_done() -> None:
    assert heard(dialect_of("schema"), '{"thought": "", "tool": "done", "answer": " "}').text == "Done."
    assert heard(dialect_of("schema"), '{"thought": "all green", "tool": "done"}').text == "all green"


def test_an_object_that_was_cut_off_runs_nothing() -> None:
    whole = '{"thought": "x", "tool": "write", "arguments": {"path": "a", "content": "b"}}'
    for end in range(1, len(whole)):
        message = heard(dialect_of("schema"), whole[:end])
        assert all(call.args is None for call in message.calls), whole[:end]
        assert not message.text.strip(), "a piece of JSON is no answer"
    assert heard(dialect_of("schema"), whole[:50]).calls[0].name == "write"
    assert heard(dialect_of("schema"), whole).calls[0].args == {"path": "a", "content": "b"}


def test_the_constraint_is_one_that_every_converter_knows() -> None:
    """An unknown word of a schema fails open at some servers, and with an error 500 at others."""
    known = {"anyOf", "type", "properties", "required", "additionalProperties", "enum"}

    def check(node: Any) -> None:
        assert set(node) <= known
        assert node.get("type", "object") in ("object", "string", "integer", "number", "boolean")
        for inner in (*node.get("anyOf", ()), *node.get("properties", {}).values()):
            check(inner)

    found = schema.constraint(TOOLS)
    check(found)
    tools = [choice["properties"]["tool"]["enum"] for choice in found["anyOf"]]
    assert tools == [[t["function"]["name"]] for t in TOOLS] + [["done"]]
    assert [list(choice["properties"])[:2] for choice in found["anyOf"]] == [["thought", "tool"]] * len(tools)


def test_a_grammar_where_no_schema_is_taken() -> None:
    assert "grammar" in dialect_of("schema", grammar=True).constants()
    assert "response_format" in dialect_of("schema", grammar=True, schema=True).constants()


# Calls as text.

#: Text that could not be told from a tag of ours is another matter: recovery decides about it.
code = st.text(max_size=60).filter(lambda t: "<" not in t and "\r" not in t)


@given(
    words.filter(lambda t: not set("<{[`") & set(t)),
    st.lists(st.tuples(code, code, code), min_size=1, max_size=3),
)
def test_calls_as_text_are_read_as_they_were_rendered(prose: str, edits: list[tuple[str, str, str]]) -> None:
    dialect = dialect_of("text")
    calls = [
        Call(f"call_{n}", "edit", {"path": path, "old": old, "new": new})
        for n, (path, old, new) in enumerate(edits, 1)
    ]
    (one,) = dialect.render(said(Text(prose), *calls))
    assert heard(dialect, one["content"]).calls == tuple(calls)


def test_any_form_that_a_model_writes_is_read() -> None:
    hermes = 'I look.\n<tool_call>\n{"name": "read", "arguments": {"path": "a.py"}}\n</tool_call>'
    for rung in ("native", "whole", "schema", "text"):
        message = heard(dialect_of(rung), hermes)
        assert [(c.name, c.args) for c in message.calls] == [("read", {"path": "a.py"})], rung
        assert message.text.strip() == "I look."


def test_calls_in_fields_are_not_searched_for_more() -> None:
    dialect = dialect_of("native")
    both = said(Text(text.call_text("shell", {"command": "x"})), Call("a", "read", {"path": "y"}))
    assert dialect.read(both) == both
    assert dialect.heard == both


def test_a_call_in_reasoning_is_taken_and_the_reasoning_kept() -> None:
    think = Think("so\n" + text.call_text("read", {"path": "a"}), {"field": "reasoning_content"})
    message = dialect_of("native").read(said(think))
    assert message.parts[0] == think and message.calls[0].args == {"path": "a"}


def test_a_plain_answer_stays_the_same_message() -> None:
    answer = said(Text("The sign was wrong; add adds now."))
    for rung in ("native", "whole", "schema", "text", "shell"):
        assert dialect_of(rung).read(answer) is answer


# Blocks of shell commands.


def command(content: str) -> str | None:
    """What would be run; None for nothing."""
    calls = heard(dialect_of("shell"), content).calls
    assert len(calls) <= 1
    return calls[0].args["command"] if calls and calls[0].args is not None else None


@given(st.text(alphabet=st.sampled_from("a`~<E\n '\"-OF"), max_size=80).filter(lambda t: t.strip()))
def test_a_block_is_read_as_it_was_rendered(given: str) -> None:
    (one,) = dialect_of("shell").render(said(Text("Now."), Call("c", "shell", {"command": given})))
    assert command(one["content"]) == given


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Look:\n```bash\nls -l\n```", "ls -l"),
        ("```sh\nls\n```\n", "ls"),
        ("```shell\n\n  ls\n```", "\n  ls"),
        ("~~~bash\nls\n~~~", "ls"),
        ("```python\nprint(1)\n```", None),
        ("```\nls\n```", None),
        ("Write ```bash in a line``` of its own.", None),
        ("```bash\n```", None),
        ("```markdown\n```bash\nrm -rf x\n```\n", None),
        ("```bash\ncat > a <<'EOF'\n```python\nx\n```\nEOF\nls\n```", "cat > a <<'EOF'\n```python\nx\n```\nEOF\nls"),
        ("```bash\ncat <<-A <<B\n\tA\n```\nB\n```\n", "cat <<-A <<B\n\tA\n```\nB"),
        ("```bash\necho $((1<<n))\n```\nThat is it.", "echo $((1<<n))"),
        ("```bash\ncat <<< word\n```", "cat <<< word"),
        ("````bash\necho '```'\n````", "echo '```'"),
        ("No block.", None),
    ],
)  # fmt: skip
def test_which_block_is_run(content: str, expected: str | None) -> None:
    assert command(content) == expected


def test_of_several_blocks_the_last_is_run_and_the_model_told_so() -> None:
    content = "First\n```bash\nrm a\n```\nthen\n```bash\nls\n```\nIt prints: a"
    message = heard(dialect_of("shell"), content)
    assert message.calls == (Call("call_1", "shell", {"command": "ls"}),)
    assert message.text == f"First\n{shell.NOT_RUN}\nthen\n\nIt prints: a"
    (one,) = dialect_of("shell").render(message)
    # What it made up of the output is not shown to it again.
    assert one["content"] == f"First\n{shell.NOT_RUN}\nthen\n\n```bash\nls\n```"


def test_a_block_that_was_cut_off_is_not_run() -> None:
    (call,) = heard(dialect_of("shell"), "Now\n```bash\nrm -rf build/tm").calls
    assert (call.name, call.args, call.raw) == ("shell", None, "rm -rf build/tm")


def test_a_fence_in_a_file_that_was_cut_off_does_not_end_the_block() -> None:
    """Otherwise half of the file would be written, and nobody told."""
    content = "```bash\ncat > README.md <<'EOF'\n# Title\n\n```\nusage\n```\n\nMo"
    (call,) = dialect_of("shell").read(said(Text(content)), cut=True).calls
    assert (call.name, call.args) == ("shell", None)


def test_many_blocks_take_linear_time() -> None:
    """Each looks as if a heredoc began in it. In quadratic time this would take an hour."""
    content = "```bash\necho $((1<<n))\n```\n" * 50_000
    assert command(content) == "echo $((1<<n))"


def test_calls_from_higher_rungs_are_shown_as_what_was_done() -> None:
    call = Call("a", "edit", {"path": "x", "old": "a", "new": "b"})
    (one,) = dialect_of("shell").render(said(Text("I fix it."), call))
    assert one["content"] == 'I fix it.\n\n(used the tool edit with {"path": "x", "old": "a", "new": "b"})'
