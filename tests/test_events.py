"""The log's contract: lines round-trip, and the page about them is current."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.events import CATALOGUE, LIVE, Event, from_line, to_line

ROOT = Path(__file__).parent.parent

texts = st.text(st.characters())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
events = st.builds(
    Event,
    run=texts,
    seq=st.integers(0, 2**53),
    t=st.floats(0, 4e9),
    type=st.sampled_from(sorted(CATALOGUE)) | texts,
    data=st.dictionaries(texts, values, max_size=4),
)


@given(events)
def test_a_line_gives_the_event_back(event):
    line = to_line(event)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert from_line(line) == event


def test_lone_surrogates_are_no_error():
    line = to_line(Event("r", 1, 0.0, "notice", {"text": "\ud800"}))
    assert json.loads(line)["data"]["text"] == "\ud800"


@given(st.binary())
def test_what_is_no_event_is_a_value_error(line):
    with contextlib.suppress(ValueError):
        assert isinstance(from_line(line).type, str)


@given(events, st.data())
def test_a_torn_line_is_no_event(event, data):
    line = to_line(event)
    cut = data.draw(st.integers(0, len(line) - 2))
    with pytest.raises(ValueError):
        from_line(line[:cut])


def test_missing_fields_have_defaults():
    assert from_line(b'{"type":"notice"}') == Event("", 0, 0.0, "notice", {})


def test_live_types_are_those_marked_so():
    assert {"delta", "progress", "tool.output"} == LIVE


def test_the_page_is_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
