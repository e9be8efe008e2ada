from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.messages import Call, Message, Result, Text, Think, from_json, system, to_json, user
from poolcli.models.dialects.native import Native
from poolcli.models.rules import Conversation
from poolcli.models.wire import INTERRUPTED, Wire

TOOLS = [{"type": "function", "function": {"name": "read", "parameters": {}}}]
CONSTANTS = {"stream": True}


def wire_of(constants: dict[str, Any], tools: Any) -> Wire:
    dialect = Native(tools)
    return Wire({**constants, **dialect.constants()}, dialect.render)


words = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
args = st.none() | st.dictionaries(words, json_values, max_size=3)


@st.composite
def rounds(draw: st.DrawFn) -> list[list[Message]]:
    """Conversations as they grow: each item is what came between two requests."""
    steps: list[list[Message]] = [[system(draw(words)), user(draw(words))]]
    for turn in range(draw(st.integers(0, 5))):
        parts: list[Any] = []
        if draw(st.booleans()):
            name = draw(st.sampled_from(["reasoning_content", "reasoning", "other"]))
            parts.append(Think(draw(words), {"field": name}))
        if draw(st.booleans()):
            parts.append(Text(draw(words)))
        for number in range(draw(st.integers(0, 3))):
            parts.append(Call(f"c{turn}-{number}", draw(words), draw(args), raw="{broken"))
        message = Message("assistant", tuple(parts))
        results = [Result(c.id, c.name, draw(words)) for c in message.calls]
        step = [message]
        if draw(st.booleans()):
            step += [Message("tool", (result,)) for result in reversed(results)]
        elif results:
            step.append(Message("tool", tuple(results)))
        if not results or draw(st.booleans()):
            step.append(user(draw(words)))
            if draw(st.booleans()):
                step.append(user(draw(words)))
        steps.append(step)
    return steps


@given(rounds())
def test_each_request_begins_with_the_one_before(steps: list[list[Message]]) -> None:
    wire, conversation, messages, last = wire_of(CONSTANTS, TOOLS), Conversation(), [], b""
    for step in steps:
        messages += step
        body = wire.body("m", messages)
        assert body.startswith(last)
        conversation.accept(body)  # and is valid in itself: roles, calls, results
        last = body[:-2]
        assert body[-2:] == b"]}"


@given(rounds())
def test_another_process_sends_the_same_bytes(steps: list[list[Message]]) -> None:
    """A resumed run reads its messages from the log."""
    messages = [message for step in steps for message in step]
    stored = [from_json(json.loads(json.dumps(to_json(m)))) for m in messages]
    wire = wire_of(CONSTANTS, TOOLS)
    for end in range(2, len(steps)):
        wire.body("m", [message for step in steps[:end] for message in step])
    assert wire.body("m", messages) == wire_of(CONSTANTS, TOOLS).body("m", stored)


def test_a_message_is_encoded_once() -> None:
    """Encoding is counted, not timed: the content of an old message is never read again."""
    encodings = 0

    class Counting(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            nonlocal encodings
            encodings += 1
            return super().items()

    wire, messages = wire_of(CONSTANTS, TOOLS), [system("s"), user("u")]
    for turn in range(50):
        call = Call(f"c{turn}", "read", Counting(path="a"))
        messages += [Message("assistant", (call,)), Message("tool", (Result(call.id, "read", "x"),))]
        wire.body("m", messages)
    body = wire.body("m", messages)
    assert encodings == 50
    assert len(json.loads(body)["messages"]) == 102


def test_broken_arguments_are_never_sent_back() -> None:
    call = Call("c1", "edit", None, raw='{"path": "a')
    infinite = Call("c2", "edit", {"a": float("inf")})
    messages = [user("u"), Message("assistant", (call, infinite))]
    messages += [Message("tool", (Result("c1", "edit", "error"), Result("c2", "edit", "error")))]
    body = wire_of(CONSTANTS, TOOLS).body("m", messages)
    assert b"path" not in body.partition(b'"messages"')[2]
    calls = json.loads(body)["messages"][1]["tool_calls"]
    assert [c["function"]["arguments"] for c in calls] == ["{}", "{}"]


def test_reasoning_goes_back_under_its_name() -> None:
    parts = (
        Think("a", {"field": "reasoning_content"}),
        Think("b", {"field": "reasoning_content"}),
        Text("c"),
    )
    messages = [
        user("u"),
        Message("assistant", parts),
        user("v"),
        Message("assistant", (Think("x"),)),
        user("w"),
    ]
    sent = json.loads(wire_of(CONSTANTS, TOOLS).body("m", messages))["messages"]
    assert sent[1] == {"role": "assistant", "content": "c", "reasoning_content": "ab"}
    assert sent[3] == {"role": "assistant", "content": ""}


def test_roles_alternate_after_an_interruption() -> None:
    messages = [system("s"), user("a"), user("b")]
    sent = json.loads(wire_of(CONSTANTS, TOOLS).body("m", messages))["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert sent[2]["content"] == INTERRUPTED


def test_the_body_is_head_then_tools_then_messages() -> None:
    request = json.loads(wire_of({"stream": True, "seed": 1}, TOOLS).body("m", [user("u")], max_tokens=9))
    assert list(request) == ["model", "stream", "seed", "max_tokens", "tools", "messages"]
    assert "tools" not in json.loads(wire_of({}, ()).body("m", [user("u")]))


def test_a_shorter_conversation_starts_anew() -> None:
    wire = wire_of(CONSTANTS, TOOLS)
    wire.body("m", [system("s"), user("a"), Message("assistant", (Text("b"),)), user("c")])
    assert wire.body("m", [system("s"), user("d")]) == wire_of(CONSTANTS, TOOLS).body(
        "m", [system("s"), user("d")]
    )


def test_lone_surrogates_do_not_break_a_request() -> None:
    body = wire_of(CONSTANTS, TOOLS).body("m", [user("a\udc80b")])
    assert json.loads(body)["messages"][0]["content"] == "a?b"


CALL = Message("assistant", (Call("c1", "read", {}),))
RESULT = Message("tool", (Result("c1", "read", "x"),))


@pytest.mark.parametrize(
    "messages",
    [
        [user("u"), CALL],
        [user("u"), CALL, user("v")],
        [user("u"), CALL, RESULT, RESULT],
        [user("u"), RESULT],
        [user("u"), Message("assistant", (Call("c", "a", {}), Call("c", "a", {})))],
    ],
    ids=[
        "no result",
        "user before the result",
        "two results",
        "a result without a call",
        "two calls, one id",
    ],
)
def test_a_call_has_exactly_one_result(messages: list[Message]) -> None:
    with pytest.raises(AssertionError):
        wire_of(CONSTANTS, TOOLS).body("m", messages)
