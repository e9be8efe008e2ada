"""Rule 5: what a model was sent stays the beginning of what it is sent next."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolcli.context import Projection, compacted, project, unanswered
from poolcli.events import CATALOGUE, Event
from poolcli.messages import Result

text = st.text(max_size=20)
ids = st.integers(0, 99).map(str)


def _replied(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "message": {"role": "assistant", "parts": parts},
        "finish": "stop",
        "usage": {},
        "timings": {},
        "turn": 1,
    }


PARTS = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, text),
    st.builds(lambda t: {"type": "think", "text": t}, text),
    st.builds(lambda i, t: {"type": "call", "id": i, "name": "read", "args": {"path": t}}, ids, text),
    st.builds(lambda i, t: {"type": "call", "id": i, "name": "read", "args": None, "raw": t}, ids, text),
    st.just({"type": "from-a-newer-version"}),
)
EVENTS = st.one_of(
    st.builds(lambda t: ("turn.started", {"text": t}), text),
    st.builds(lambda t: ("steered", {"text": t, "source": "harness"}), text),
    st.builds(lambda p: ("model.replied", _replied(p)), st.lists(PARTS, max_size=3)),
    st.builds(lambda i, t: ("tool.done", {"id": i, "name": "read", "text": t}), ids, text),
    st.builds(lambda t: ("notice", {"level": "info", "text": t}), text),
    st.builds(lambda t: ("from.a.newer.version", {"text": t}), text),
)


def log(items: list[tuple[str, dict[str, Any]]]) -> list[Event]:
    started = ("run.started", {"system": "You are pool."})
    return [Event("r", n, 0.0, kind, data) for n, (kind, data) in enumerate([started, *items], 1)]


@given(st.lists(EVENTS, max_size=12))
def test_messages_of_a_log_are_a_prefix_of_those_of_any_longer_log(
    items: list[tuple[str, dict[str, Any]]],
) -> None:
    events = log(items)
    for n in range(1, len(events)):
        shorter, longer = project(events[:n]), project(events[: n + 1])
        assert longer[: len(shorter)] == shorter


@given(st.lists(EVENTS, max_size=12))
def test_feeding_keeps_the_very_objects(items: list[tuple[str, dict[str, Any]]]) -> None:
    """The wire encodes a message once; it knows a message by its identity."""
    projection = Projection()
    seen: list[int] = []
    for event in log(items):
        projection.feed(event)
        now = [id(m) for m in projection.messages]
        assert now[: len(seen)] == seen
        seen = now


COMPACTED = st.builds(
    lambda t, k, d: ("compacted", {"text": t, "keep": k, "dropped": d}),
    st.one_of(st.just(""), text),
    st.integers(0, 5),
    st.dictionaries(ids, text, max_size=3),
)


@given(st.lists(st.one_of(EVENTS, COMPACTED), max_size=14))
def test_only_a_compaction_begins_anew(items: list[tuple[str, dict[str, Any]]]) -> None:
    """Before it and after it every log's messages are a prefix; the event alone says what it makes of them."""
    events = log(items)
    for n in range(1, len(events)):
        shorter, longer = project(events[:n]), project(events[: n + 1])
        if events[n].type == "compacted":
            assert longer == compacted(shorter, events[n].data)
            assert longer[:1] == shorter[:1]
        else:
            assert longer[: len(shorter)] == shorter
    projection = Projection()
    for event in events:
        projection.feed(event)
    assert projection.messages == project(events)


def test_a_compaction_drops_results_and_keeps_the_last_messages() -> None:
    parts = [{"type": "call", "id": i, "name": "read", "args": {}} for i in ("a", "b")]
    items = [
        ("turn.started", {"text": "task"}),
        ("model.replied", _replied([{"type": "text", "text": "hm"}])),
        ("steered", {"text": "go on"}),
        ("model.replied", _replied(parts)),
        ("tool.done", {"id": "a", "name": "read", "text": "long"}),
        ("tool.done", {"id": "b", "name": "read", "text": "short"}),
        ("compacted", {"text": "so far", "keep": 3, "dropped": {"a": "(dropped)"}}),
    ]
    before, after = project(log(items[:-1])), project(log(items))
    assert [(m.role, m.text) for m in after] == [
        ("system", "You are pool."), ("user", "so far"), ("assistant", ""), ("tool", ""), ("tool", ""),
    ]  # fmt: skip
    assert [p.text for m in after[3:] for p in m.parts if isinstance(p, Result)] == ["(dropped)", "short"]
    assert after[2] == before[4] and after[4] == before[6]
    thinner = project(log([*items[:-1], ("compacted", {"text": "", "dropped": {"a": "(dropped)"}})]))
    assert thinner[:5] == before[:5] and len(thinner) == len(before)


def test_compaction_keeps_the_system_message() -> None:
    events = log([("turn.started", {"text": "a"}), ("compacted", {"text": "so far: a"})])
    assert [(m.role, m.text) for m in project(events)] == [("system", "You are pool."), ("user", "so far: a")]


def test_unanswered_calls_are_found_in_order() -> None:
    parts = [{"type": "call", "id": i, "name": "read", "args": {}} for i in ("a", "b", "c")]
    items = [
        ("turn.started", {"text": "x"}),
        ("model.replied", _replied(parts)),
        ("tool.done", {"id": "b", "name": "read", "text": ""}),
    ]
    assert unanswered(project(log(items))) == ["a", "c"]
    assert unanswered(project(log(items[:1]))) == []


def test_the_projection_covers_the_catalogue() -> None:
    """Every type that feeds the model is one the contract knows."""
    assert {"run.started", "turn.started", "steered", "model.replied", "tool.done", "compacted"} <= set(
        CATALOGUE
    )
