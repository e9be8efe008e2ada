"""The signs of a conversation that does not fit, where a server does not say it in so many words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.messages import Call, Message, Part, Text, Think
from poolcli.models import overflow
from poolcli.models.base import Reply, Usage

WHOLE = Call("c1", "read", {"path": "a"})
BROKEN = Call("c1", "read", None, '{"path": "a')


def reply(*parts: Part, finish: str = "length", prompt: int | None = 3000, completion: int = 1096) -> Reply:
    return Reply(Message("assistant", parts), finish, Usage(prompt, completion), 0.0, 0.0)


@pytest.mark.parametrize(
    ("found", "window", "max_reply", "is_cut"),
    [
        (reply(Text("I th")), 4096, 0, True),
        (reply(Text("I th"), completion=1090), 4096, 0, True),  # servers stop some tokens before
        (reply(Text("I th"), completion=900), 4096, 0, False),  # a limit of the server's own
        (reply(Text("I th"), finish="stop"), 4096, 0, False),
        (reply(Text("I th")), 0, 0, False),  # nothing is known
        (reply(Text("I th"), prompt=None), 4096, 0, False),
        (reply(Text("I th")), 4096, 1096, False),  # as long as was asked for
        (reply(Text("I th")), 4096, 2000, True),
        (reply(Think("Let me")), 4096, 0, True),
        (reply(Think("Let me"), prompt=900, completion=3196), 4096, 0, False),  # it is the reply that is long
        (reply(BROKEN), 4096, 0, True),
        (reply(WHOLE), 4096, 0, False),
        (
            reply(finish="stop", prompt=5000, completion=0),
            4096,
            0,
            True,
        ),  # LM Studio: empty, and no word of why
        (reply(finish="stop", prompt=500, completion=0), 4096, 0, False),
    ],
)
def test_replies_that_end_with_the_window(found: Reply, window: int, max_reply: int, is_cut: bool) -> None:
    assert overflow.cut_off(found, window, max_reply) is is_cut


@pytest.mark.parametrize(
    ("prompt", "least", "characters", "is_cut"),
    [
        (3900, 5000, 0, True),
        (4990, 5000, 0, False),  # counts differ a little
        (900, 5000, 0, False),  # only what was computed anew
        (2048, 0, 40_000, True),
        (2048, 0, 8000, False),
        (6000, 5000, 24_000, False),
    ],
)
def test_counts_that_are_too_low(prompt: int, least: int, characters: int, is_cut: bool) -> None:
    assert overflow.cut_silently(prompt, least, characters) is is_cut


def test_reasoning_counts_for_nothing_in_what_was_sent() -> None:
    message = Message("assistant", (Think("x" * 1000), Text("abc"), Call("c", "read", {"a": 1})))
    assert overflow.characters(message) == 3 + len("{'a': 1}")


@given(st.text(max_size=300))
def test_any_words_give_sizes_or_none(said: str) -> None:
    prompt, window = overflow.sizes(said)
    assert prompt >= 0 and (window == 0 or window >= overflow.PLAUSIBLE)


def test_absurd_numbers_are_none() -> None:
    said = f"This model's maximum context length is {'9' * 5000} tokens. However, your request has 1,000 input tokens"
    assert overflow.sizes(said) == (1000, 0)


def test_no_wording_takes_long() -> None:
    """Linear: a page of near misses costs what a page costs (seconds would be noticed as a hang)."""
    text = (
        "maximum context context " * 300
        + "prompt has " * 300
        + "n_keep " * 300
        + "exceeds the model's " * 300
    )
    began = time.process_time()
    overflow.refused(text)
    overflow.sizes(text)
    assert time.process_time() - began < 5  # quadratic would be minutes
