"""Demonstrations: what the expert does works with pool's own tools and ends green."""

from itertools import pairwise
from random import Random

from training.episodes import demonstrate, snippet
from training.family import make_instance


def demonstrations(seed, count):
    random = Random(seed)
    found = []
    while len(found) < count:
        messages = demonstrate(make_instance(random), random)
        if messages:
            found.append(messages)
    return found


def calls(messages, *, trained):
    return [
        call["function"]
        for message in messages
        if message["role"] == "assistant" and message["trained"] == trained
        for call in message.get("tool_calls", ())
    ]


def test_every_call_has_one_result_and_roles_alternate():
    for messages in demonstrations(1, 40):
        for message, following in pairwise(messages):
            expected = (
                "assistant"
                if message["role"] != "assistant"
                else "tool"
                if message.get("tool_calls")
                else "user"
            )
            assert following["role"] == expected
        assert messages[-1]["role"] == "assistant"
        assert "tool_calls" not in messages[-1]


def test_reads_then_edits_then_runs_the_tests_until_green():
    for messages in demonstrations(2, 40):
        names = [call["name"] for call in calls(messages, trained=True)]
        assert names[0] == "read"
        assert names[-1] == "run_tests"
        # Each edit is made with the function in view as it is: a red run is followed by reading again.
        for message, following in pairwise(messages):
            if message.get("evidence") and " failed" in message["content"]:
                assert following["tool_calls"][0]["function"]["name"] == "read"
        last = messages[-2]["content"]
        assert last.endswith(" passed")
        assert "failed" not in last


def test_mistakes_are_shown_but_not_taught():
    wrong = [call for messages in demonstrations(3, 120) for call in calls(messages, trained=False)]
    assert wrong
    assert {call["name"] for call in wrong} == {"edit"}


def test_every_function_that_is_edited_stands_in_the_evidence_before():
    for messages in demonstrations(4, 40):
        evidence = ""
        for message in messages:
            if message["role"] == "user" or message.get("evidence"):
                evidence = message["content"]
            if message.get("tool_calls", [{}])[0].get("function", {}).get("name") == "edit":
                assert message["content"].split("`")[1] + "(" in evidence


def test_a_line_that_occurs_twice_is_edited_with_a_neighbour():
    source = "def f(a):\n    return a\n\n\ndef g(a):\n    return a\n"
    assert snippet(source, 1) == (0, 1)
    assert snippet(source, 5) == (4, 5)
    assert snippet("def f(a):\n    b = a\n    return b\n", 2) == (2, 2)
