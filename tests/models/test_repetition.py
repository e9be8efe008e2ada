"""The repetition that a text ends in: found exactly when it is one by the rule, whatever the text."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.models.repetition import KEPT, MAX_PERIOD, MIN_LENGTH, MIN_TIMES, STEP, Watch, find, shorten

units = st.text(alphabet="ab \n", min_size=1, max_size=40) | st.text(
    alphabet=string.printable + "äß漢", min_size=1, max_size=MAX_PERIOD
)
prose = st.text(alphabet=string.printable, max_size=300)


def smallest_period(unit: str) -> int:
    return (unit + unit).find(unit, 1)


def many(unit: str, spare: int = 0) -> str:
    """The unit, repeated as often as it takes to be noticed."""
    need = max(MIN_LENGTH, MIN_TIMES * len(unit)) + MAX_PERIOD + spare
    return unit * (need // len(unit) + 1)


@settings(max_examples=200, deadline=None)
@given(prose, units, st.integers(0, 50))
def test_whatever_repeats_is_found_with_its_period(before: str, unit: str, cut: int) -> None:
    text = before + many(unit)
    text = text[: len(text) - cut]
    loop = find(text)
    assert loop is not None
    assert loop.period == smallest_period(unit)
    assert text[-loop.length + loop.period :] == text[-loop.length : len(text) - loop.period]


@settings(max_examples=100, deadline=None)
@given(prose, units)
def test_what_is_kept_is_a_beginning_and_short(before: str, unit: str) -> None:
    text = before + many(unit)
    short = shorten(text)
    assert text.startswith(short)
    # A period may begin up to its own length before the place where it is first seen whole.
    assert len(short) <= len(before) + (KEPT + 1) * len(unit)
    assert shorten(short) == short


@settings(max_examples=200, deadline=None)
@given(prose, units, st.integers(1, MIN_TIMES - 1))
def test_less_than_the_rule_is_none(before: str, unit: str, times: int) -> None:
    if len(unit) * times < MIN_LENGTH - len(before) - MAX_PERIOD:
        # Whatever comes before, it cannot make this long enough.
        assert find(before + unit * times) is None
        assert shorten(before + unit * times) == before + unit * times


@given(st.text(max_size=3000))
def test_no_text_breaks_it(text: str) -> None:
    assert find(text) is None  # too short to be one
    assert shorten(text) == text


@settings(max_examples=50, deadline=None)
@given(units, st.integers(1, 3000))
def test_a_watch_sees_it_in_pieces_of_any_size(unit: str, size: int) -> None:
    watch = Watch()
    text = many(unit, spare=2 * STEP + size)
    for n in range(0, len(text), size):
        watch.feed("text", text[n : n + size])
        watch.feed("call", str(n))
    assert watch.found == "text"


def test_a_period_longer_than_the_longest_is_none() -> None:
    unit = "".join(f"{n:05d}" for n in range(MAX_PERIOD // 5 + 1))
    assert find(unit * 20) is None
