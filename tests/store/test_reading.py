"""Readers take what an older or newer pool wrote, and refuse only what would mislead."""

from pathlib import Path

import pytest

from poolcli.errors import StoreError
from poolcli.events import CATALOGUE, LIVE, Event, to_line
from poolcli.store.reading import load, locked, parse, read

GOLDEN = Path(__file__).parent.parent / "golden"


def line(seq, type="notice", **data):
    return to_line(Event("r1", seq, 1.0, type, data))


def test_the_golden_log_holds_every_stored_type_and_is_read_whole():
    path = GOLDEN / "events-v1.jsonl"
    log = parse(path.read_bytes(), path)
    assert {e.type for e in log.events} == CATALOGUE.keys() - LIVE
    assert [e.seq for e in log.events] == list(range(1, len(log.events) + 1))
    assert log.torn == 0 and log.notes == []


def test_the_golden_log_has_every_field_of_the_catalogue():
    path = GOLDEN / "events-v1.jsonl"
    seen = {}
    for event in parse(path.read_bytes(), path).events:
        seen.setdefault(event.type, set()).update(event.data)
    assert {name: set(spec.fields) - seen[name] for name, spec in CATALOGUE.items() if not spec.live} == {
        name: set() for name, spec in CATALOGUE.items() if not spec.live
    }


def test_unknown_types_count_and_are_reported(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(
        line(1) + line(2, "from.the.future") + line(3, new_field={"x": 1})
    )
    said = []
    assert [e.seq for e in read(tmp_path, said.append)] == [1, 2, 3]
    assert len(said) == 1 and "from.the.future" in said[0]


def test_a_torn_end_is_reported(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1) + line(2)[:-5])
    said = []
    assert [e.seq for e in read(tmp_path, said.append)] == [1]
    assert "cut off" in said[0]


@pytest.mark.parametrize(
    "tail", [b"\0" * 4096, b"\0\0\n", b"\n", b"[]\n", b"\xff\xfe\n", b'{"type":3}\n', b"[" * 100_000]
)
def test_rubbish_behind_the_last_record_is_a_torn_end(tmp_path, tail):
    (tmp_path / "events.jsonl").write_bytes(line(1) + tail)
    log = load(tmp_path)
    assert [e.seq for e in log.events] == [1]
    assert (log.end, log.torn) == (len(line(1)), len(tail))


def test_damage_in_the_middle_is_refused_by_line(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1) + b"damaged\n" + line(3))
    with pytest.raises(StoreError, match=r"events\.jsonl, line 2"):
        read(tmp_path)


def test_a_log_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1, "run.started", log=2))
    with pytest.raises(StoreError, match="log version 2"):
        read(tmp_path)


def test_no_log_is_an_error_and_an_empty_one_is_not(tmp_path):
    with pytest.raises(StoreError, match="cannot read"):
        read(tmp_path)
    (tmp_path / "events.jsonl").write_bytes(b"")
    assert read(tmp_path) == []
    assert not locked(tmp_path)


def test_line_separators_inside_text_are_text(tmp_path):
    text = "a\r\nb\u2028c\x85d\x0be"
    (tmp_path / "events.jsonl").write_bytes(line(1, text=text))
    assert read(tmp_path)[0].data["text"] == text
