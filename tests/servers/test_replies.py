"""Replies that are whole and yet no turn of work, and calls in all the forms in which servers send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from poolcli.lapses import CUT, CUT_THOUGHT, EMPTY, THOUGHT
from poolcli.models.dialects.text import call_text
from tests.models.misbehaving import SSE, answer, event
from tests.servers.harness import DONE, FIX, OVER, ask, call, calling, part, saying

NOTHING = SSE + event({"role": "assistant", "content": None}) + event({}, "stop") + DONE
THINKING = SSE + event({"reasoning_content": "add should add."}) + event({}, "stop") + DONE


def steered(done) -> list[str]:
    return [data["text"] for data in done.events("steered")]


# Nothing, or only thought.


def test_an_empty_reply_is_told_once_and_the_work_goes_on(do) -> None:
    done = do(NOTHING, FIX, OVER)
    assert done.code == 0, done.out
    assert steered(done) == [EMPTY]


def test_only_empty_replies_are_exit_4(do) -> None:
    done = do(NOTHING)
    assert done.code == 4 and done.why == "the model sent only empty replies"
    assert len(done.server.bodies) == 3


def test_thought_only_is_told_in_words_of_its_own(do) -> None:
    done = do(THINKING, FIX, OVER)
    assert done.code == 0, done.out
    assert steered(done) == [THOUGHT]
    messages = json.loads(done.server.bodies[1])["messages"]
    assert messages[-2]["reasoning_content"] == "add should add."  # it goes back as it came
    assert done.server.bodies[1].startswith(done.server.bodies[0].removesuffix(b"]}"))


def test_thought_only_is_never_done_and_exit_4(do) -> None:
    """Also where the checks pass already, so that nothing else would stop it."""
    done = do(THINKING, args=("--test", "true"))
    assert done.code == 4, done.out
    assert done.why == "the model only thought: no reply held a call or an answer"
    assert len(done.server.bodies) == 3
    assert done.events("checks.done")[-1]["phase"] == "baseline"


def test_lapses_of_changing_sorts_end_too(do) -> None:
    plays = [NOTHING, THINKING] * 10
    done = do(*plays)
    assert done.code == 4 and len(done.server.bodies) == 5


# Cut off by the limit of tokens.

USAGE = {"prompt_tokens": 900, "completion_tokens": 64}


def cut_call(arguments: str) -> bytes:
    return calling(part("write", arguments, index=0, id="c1"), finish="length", usage=USAGE)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        '{"path": "calc.py", "content": "def add(a, b):',
        '{"path": "calc.py", "content": ""',
        '{"path": "a"}}',
    ],
)
def test_a_call_that_was_cut_off_does_not_run(do, arguments: str) -> None:
    done = do(cut_call(arguments), FIX, OVER)
    assert done.code == 0, done.out
    first = done.events("tool.done")[0]
    assert not first["ok"] and first["why"] == "invalid"
    assert "cut off at 64 tokens" in first["text"] and "smaller pieces" in first["text"]
    assert [started["name"] for started in done.events("tool.started")] == ["edit"]
    assert steered(done) == []  # its result says it


def test_whole_calls_before_the_cut_run(do) -> None:
    edit = call("edit", path="calc.py", old="return a - b", new="return a + b")
    both = calling(edit, part("write", '{"path": "x', index=1, id="c2"), finish="length", usage=USAGE)
    done = do(both, OVER)
    assert done.code == 0, done.out
    assert [(d["name"], d["ok"]) for d in done.events("tool.done")] == [("edit", True), ("write", False)]


def test_a_whole_call_at_the_limit_runs(do) -> None:
    done = do(FIX.replace(b'"tool_calls"}', b'"length"}'), OVER)
    assert done.code == 0, done.out
    assert [d["ok"] for d in done.events("tool.done")] == [True]


def test_text_that_was_cut_off_is_not_done(do) -> None:
    done = do(saying("I will now", "length", usage=USAGE), FIX, OVER)
    assert done.code == 0, done.out
    assert steered(done) == [CUT.format(limit="64 tokens")]
    assert not [data for data in done.events("checks.done") if data["phase"] == "round"][:-1]


def test_thought_that_was_cut_off(do) -> None:
    thinking = SSE + event({"reasoning_content": "First"}) + event({}, "length", usage=USAGE) + DONE
    done = do(thinking, FIX, OVER)
    assert done.code == 0, done.out
    assert steered(done) == [CUT_THOUGHT.format(limit="64 tokens")]


@pytest.mark.parametrize("play", [saying("and so on", "length", usage=USAGE), cut_call('{"path": "x')])
def test_always_cut_off_is_exit_4_and_names_the_setting(do, play: bytes) -> None:
    done = do(play)
    assert done.code == 4, done.out
    why = "every reply of the model was cut off at 64 tokens: allow longer ones (max_reply, or a larger context)"
    assert done.why == why
    called = {
        c["id"] for r in done.events("model.replied") for c in r["message"]["parts"] if c["type"] == "call"
    }
    assert called == {d["id"] for d in done.events("tool.done")}  # each call has its result, also the last


def test_cut_off_because_the_window_is_full_is_another_matter(do) -> None:
    """The conversation is made shorter then, or said to be too long: nobody is told to go on."""
    full = saying("and so", "length", usage={"prompt_tokens": 32_700, "completion_tokens": 68})
    done = do(full, FIX, OVER)
    assert CUT.format(limit="68 tokens") not in steered(done)


def test_a_reply_that_alone_fills_the_window_does_not_end_the_run(do) -> None:
    """A model that thinks without end: there is nothing in the conversation that could be left out for it."""
    usage = {"prompt_tokens": 900, "completion_tokens": 31_868}
    done = do(
        SSE + event({"reasoning_content": "First"}) + event({}, "length", usage=usage) + DONE, FIX, OVER
    )
    assert done.code == 0, done.out
    assert steered(done) == [CUT_THOUGHT.format(limit="31868 tokens")]


# Calls in odd forms: they run, once each.

EDIT = {"path": "calc.py", "old": "return a - b", "new": "return a + b"}
TEXT = json.dumps(EDIT)

FORMS: dict[str, bytes] = {
    "arguments as an object": calling(part("edit", EDIT, index=0, id="c1")),
    "no index": calling(part("edit", TEXT, id="c1")),
    "no index, in pieces": calling(part("edit", id="c1"), part(arguments=TEXT[:9]), part(arguments=TEXT[9:])),
    "no id": calling(part("edit", TEXT, index=0)),
    "an id of null": calling(part("edit", TEXT, index=0, id=None)),
    "neither index nor id": calling(part("edit", TEXT)),
    "the name in every piece": calling(
        part("edit", TEXT[:9], index=0, id="c1"), part("edit", TEXT[9:], index=0, id="c1")
    ),
    "arguments encoded twice": calling(part("edit", json.dumps(TEXT), index=0, id="c1")),
    "finish stop": calling(part("edit", TEXT, index=0, id="c1"), finish="stop"),
    "no finish": SSE + event({"tool_calls": [part("edit", TEXT, index=0, id="c1")]}) + DONE,
    "an empty list after it": SSE
    + event({"tool_calls": [part("edit", TEXT, index=0, id="c1")]})
    + event({"tool_calls": []}, "tool_calls")
    + DONE,
    "not streamed": answer(
        200,
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [part("edit", EDIT, id="c1")],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("play", FORMS.values(), ids=FORMS.keys())
def test_a_call_in_an_odd_form_runs_once(do, play: bytes) -> None:
    done = do(play, OVER)
    assert done.code == 0, done.out
    assert [(d["name"], d["ok"]) for d in done.events("tool.done")] == [("edit", True)]
    sent = json.loads(done.server.bodies[1])["messages"]
    (made,) = next(m["tool_calls"] for m in sent if m.get("tool_calls"))
    assert (
        isinstance(made["function"]["arguments"], str) and json.loads(made["function"]["arguments"]) == EDIT
    )
    assert made["id"] and sent[-1]["tool_call_id"] == made["id"]


def test_an_empty_list_of_calls_is_none(do) -> None:
    said = SSE + event({"content": "Done.", "tool_calls": []}) + event({"tool_calls": []}, "stop") + DONE
    done = do(FIX, said)
    assert done.code == 0, done.out
    assert len(done.server.bodies) == 2


def ids(asked) -> list[str]:
    return [c.id for c in asked.message.calls]


@pytest.mark.parametrize(
    "parts",
    [
        [part("list", "{}", index=0, id="x"), part("run_tests", "{}", index=1, id="x")],
        [part("list", "{}", index=0), part("run_tests", "{}", index=1)],
        [part("list", "{}"), part("run_tests", "{}")],
        [part("list", "{}", index=0, id=""), part("run_tests", "{}", index=1, id="")],
    ],
    ids=["the same id", "no ids", "neither ids nor indexes", "empty ids"],
)
def test_calls_with_the_same_id_or_none_are_told_apart(tmp_path: Path, parts: list[dict[str, Any]]) -> None:
    asked = ask(tmp_path, calling(*parts))
    assert asked.message is not None
    assert [c.name for c in asked.message.calls] == ["list", "run_tests"]
    assert len(set(ids(asked))) == 2 and all(ids(asked))


def test_an_id_of_an_earlier_reply_is_told_apart(do) -> None:
    look = calling(call("list"))
    done = do(look, look, FIX, OVER)
    assert done.code == 0, done.out
    results = [d["id"] for d in done.events("tool.done")]
    assert len(results) == len(set(results)) == 3


def test_calls_in_fields_and_in_the_text_are_told_apart(do) -> None:
    """A server that parses calls which it was not asked for, and one of which it left in the text."""
    half = "I look. <tool_call>\n<function=re"
    read = SSE + event({"content": half}) + event({"tool_calls": [call("read", "call_1", path="calc.py")]})
    edit = call_text("edit", json.loads(TEXT))
    no = "is not supported"
    refusals = [answer(400, {"error": {"message": f"{what} {no}"}}) for what in ("tools", "response_format")]
    done = do(*refusals, read + event({}, "stop") + DONE, saying(edit), OVER)
    assert done.code == 0, done.out
    results = done.events("tool.done")
    assert [d["name"] for d in results] == ["read", "unfinished_call", "edit"]
    assert len({d["id"] for d in results}) == 3
    assert "cut off" in results[1]["text"] and "no tool" not in results[1]["text"]
