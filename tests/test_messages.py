"""Messages survive the log."""

import json

from hypothesis import given
from hypothesis import strategies as st

from poolcli.messages import (
    Call,
    Message,
    Result,
    Text,
    Think,
    from_json,
    part_from_json,
    system,
    to_json,
    user,
)

texts = st.text()
args = st.dictionaries(
    texts, st.none() | st.booleans() | st.integers() | texts | st.lists(st.integers()), max_size=4
)
parts = st.one_of(
    st.builds(Text, texts),
    st.builds(Think, texts, st.dictionaries(texts, texts, max_size=2)),
    st.builds(Call, id=texts, name=texts, args=args),
    st.builds(Call, id=texts, name=texts, args=st.none(), raw=texts),
    st.builds(Result, texts, texts, texts),
)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(parts, max_size=5).map(tuple)
)


@given(messages)
def test_round_trip_through_json(message):
    assert from_json(json.loads(json.dumps(to_json(message)))) == message


@given(messages)
def test_the_same_message_has_the_same_bytes(message):
    first = json.dumps(to_json(message))
    assert json.dumps(to_json(from_json(json.loads(first)))) == first


def test_unreadable_arguments_keep_what_the_model_wrote():
    broken = Call("c1", "read", None, '{"path": ')
    assert part_from_json(to_json(Message("assistant", (broken,)))["parts"][0]) == broken
    assert "raw" not in to_json(Message("assistant", (Call("c1", "read", {}, "{}"),)))["parts"][0]


def test_parts_of_a_newer_version_are_skipped():
    data = {"role": "assistant", "parts": [{"type": "hologram"}, {"type": "text", "text": "x", "new": 1}]}
    assert from_json(data) == Message("assistant", (Text("x"),))


def test_text_and_calls():
    call = Call("c1", "read", {})
    message = Message("assistant", (Think("hm"), Text("a"), call, Text("b")))
    assert (message.text, message.calls) == ("ab", (call,))
    assert system("s") == Message("system", (Text("s"),))
    assert user("u").role == "user"
