"""A model that repeats itself without end: stopped, counted, told once, and given up at the second time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolcli.lapses import REPEATED
from poolcli.messages import Text, Think
from tests.models.misbehaving import SSE, Play, endless, event
from tests.servers.harness import FIX, OVER, ask, part

LINE = "Let me look at the file again to be sure.\n"
PARAGRAPH = "First I read calc.py. " + "Then I think about it, at length. " * 8 + "It seems right.\n\n"


def repeating(unit: str, field: str = "content", size: int = 12) -> Play:
    """A stream that says a word of sense and then the unit for ever, in pieces of a few characters."""
    many = unit * (4000 // len(unit) + 2)
    pieces = b"".join(
        event({field: many[n : n + size]}) for n in range(0, len(many) // len(unit) * len(unit), size)
    )
    return endless(SSE + event({field: "I begin. "}), pieces)


@pytest.mark.parametrize("unit", [LINE, PARAGRAPH, "!", "\n", " the", "0, "])
def test_text_without_end_is_stopped_and_kept_short(tmp_path: Path, unit: str) -> None:
    asked = ask(tmp_path, repeating(unit))
    assert asked.reply.data["finish"] == "repetition"
    assert len(asked.notices("repetition")) == 1
    assert asked.message is not None
    (text,) = asked.message.parts
    assert isinstance(text, Text) and text.text.startswith("I begin. ")
    assert len(text.text) <= len("I begin. ") + 3 * len(unit)
    assert len(asked.server.bodies) == 1 and asked.server.gone == 1  # stopped, not asked again
    # What it cost is counted by what came, not by what was kept.
    assert asked.reply.data["usage"]["completion"] > 1000


def test_thought_without_end(tmp_path: Path) -> None:
    asked = ask(tmp_path, repeating(LINE, "reasoning_content"))
    assert asked.reply.data["finish"] == "repetition" and asked.message is not None
    (think,) = asked.message.parts
    assert isinstance(think, Think) and len(think.text) < 4 * len(LINE)


def in_arguments() -> Play:
    begin = SSE + event({"tool_calls": [part("write", '{"path": "x.py", "content": "', index=0, id="c1")]})
    return endless(begin, event({"tool_calls": [part(arguments="x = 1\\n" * 10, index=0)]}))


def test_arguments_without_end_are_no_call(tmp_path: Path) -> None:
    asked = ask(tmp_path, in_arguments())
    assert asked.reply.data["finish"] == "repetition" and asked.message is not None
    (call,) = asked.message.calls
    assert (call.name, call.args) == ("write", None)


def test_it_is_told_and_goes_on(do) -> None:
    done = do(repeating(LINE), FIX, OVER)
    assert done.code == 0, done.out
    assert [s["text"] for s in done.events("steered")] == [REPEATED]
    messages = json.loads(done.server.bodies[1])["messages"]
    assert messages[-1] == {"role": "user", "content": REPEATED}
    assert messages[-2]["content"].count(LINE.strip()) <= 3
    # What was sent before is the beginning of what is sent now.
    assert done.server.bodies[1].startswith(done.server.bodies[0].removesuffix(b"]}"))


def test_the_second_time_in_a_row_is_exit_4(do) -> None:
    done = do(repeating(LINE))
    assert done.code == 4, done.out
    assert done.why == "the model repeated itself without end, also after it was told"
    assert len(done.server.bodies) == 2
    assert [r["finish"] for r in done.events("model.replied")] == ["repetition"] * 2


def test_a_call_in_it_is_not_run(do) -> None:
    done = do(in_arguments(), FIX, OVER)
    assert done.code == 0, done.out
    first = done.events("tool.done")[0]
    assert not first["ok"] and "repeated themselves without end" in first["text"]
    assert [started["name"] for started in done.events("tool.started")] == ["edit"]


def test_code_that_repeats_lines_is_none(tmp_path: Path) -> None:
    table = "".join(f"    ({n}, {n * n}),\n    # -----\n    (0, 0),\n    (0, 0),\n" for n in range(400))
    same = "assert x == 1\n" * 200 + "def f():\n" + "    return None\n" * 150
    for n, text in enumerate((table, same, "=" * 4000 + "\n" + "-" * 4000, " " * 4900)):
        body = b"".join(event({"content": text[i : i + 50]}) for i in range(0, len(text), 50))
        asked = ask(tmp_path / str(n), SSE + body + event({}, "stop"))
        assert asked.reply.data["finish"] == "stop"
        assert asked.message is not None and asked.message.text == text


def test_the_work_of_looking_is_linear() -> None:
    """Ten times the text is looked at in about ten times the steps: counted in characters compared, not seconds."""
    from poolcli.models import repetition

    looked: list[int] = []
    real = repetition.find

    def counting(text: str) -> repetition.Loop | None:
        looked.append(len(text))
        return real(text)

    def cost(size: int) -> int:
        looked.clear()
        watch = repetition.Watch()
        for n in range(size // 10):
            watch.feed("text", f"{n:9d}\n")
        assert not watch.found
        return sum(looked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repetition, "find", counting)
        assert cost(1_000_000) <= 11 * cost(100_000)
