from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.models.sse import Events, Lines, TooLong

texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n"), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    return [data[a:b] for a, b in pairwise(points)]


@given(
    st.lists(texts, max_size=8), st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 500), max_size=12)
)
def test_lines_are_the_same_however_the_bytes_are_cut(
    lines: list[str], end: bytes, places: list[int]
) -> None:
    data = b"".join(line.encode() + end for line in lines) + b"rest"
    splitter = Lines()
    found = [line for piece in cut(data, places) for line in splitter.feed(piece)]
    assert [line.decode() for line in found] == lines
    assert splitter.close() == b"rest"


@given(st.lists(texts.filter(bool), max_size=6), st.lists(st.integers(0, 500), max_size=12), st.booleans())
def test_events_are_the_same_however_the_bytes_are_cut(
    data: list[str], places: list[int], ended: bool
) -> None:
    stream = b"".join(b": ping\n\nid: 7\ndata: " + text.encode() + b"\n\n" for text in data)
    if not ended:
        stream = stream.removesuffix(b"\n\n")
    events = Events()
    found = [event for piece in cut(stream, places) for event in events.feed(piece)]
    assert [*found, *events.close()] == data


def test_one_event_may_have_several_data_lines_and_no_space() -> None:
    assert Events().feed(b'data:{"a":\ndata: 1}\n\n') == ['{"a":\n1}']


def test_llama_cpps_error_field_is_an_event() -> None:
    assert Events().feed(b'error: {"code":500}\n\n') == ['{"error": {"code":500}}']


def test_invalid_utf8_is_replaced() -> None:
    assert Events().feed(b"data: a\xffb\n\n") == ["a\N{REPLACEMENT CHARACTER}b"]


@pytest.mark.parametrize("piece", [b"x" * 7, b"data: x\n"], ids=["an endless line", "endless data lines"])
def test_what_never_ends_is_refused(piece: bytes) -> None:
    events = Events(limit=1000)
    with pytest.raises(TooLong):
        for _ in range(2000):
            events.feed(piece)


def test_a_long_line_in_one_piece_is_refused() -> None:
    with pytest.raises(TooLong):
        Lines(limit=10).feed(b"x" * 11 + b"\n")
