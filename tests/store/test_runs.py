"""Runs are listed, found by what people type, and have a result however they ended."""

import json
import re
from pathlib import Path

import pytest

from poolcli.errors import StoreError, UnknownRunError
from poolcli.events import Event
from poolcli.store import result
from poolcli.store.runs import find, info, new_run_id, runs, short
from poolcli.store.trace import Trace

GOLDEN = Path(__file__).parent.parent / "golden" / "events-v1.jsonl"


def make(state, run_id, *types, close=True):
    trace = Trace.create(state / "runs" / run_id, run_id)
    for seq, type in enumerate(types, 1):
        data = {"run.started": {"task": f"task of {run_id}", "model": {"name": "m"}}}.get(type, {})
        if type == "run.ended":
            data = {"status": "verified", "exit_code": 0, "seconds": 2.5, "patch": {"files": 1}}
        trace.append(Event(run_id, seq, 100.0 + seq, type, data))
    if close:
        trace.close()
    return trace


def test_ids_sort_by_time_and_differ():
    ids = [new_run_id() for _ in range(50)]
    assert all(re.fullmatch(r"\d{8}-\d{6}\.\d{3}-[0-9a-f]{4}", id) for id in ids)
    assert [id[:19] for id in ids] == sorted(id[:19] for id in ids)
    assert len(set(ids)) > 45
    assert short("20261123-234501-4f2a") == "4f2a"


def test_listing_tells_how_each_stands(tmp_path):
    make(tmp_path, "20260101-000001-aaaa", "run.started", "run.ended")
    make(tmp_path, "20260101-000002-bbbb", "run.started")
    make(tmp_path, "20260101-000003-cccc", "run.started")
    make(tmp_path, "20260101-000005-eeee")  # killed before it began: no run
    living = make(tmp_path, "20260101-000004-dddd", "run.started", close=False)
    listed = runs(tmp_path)
    assert [(r.id[-4:], r.status) for r in listed] == [
        ("dddd", "running"),
        ("cccc", "killed"),
        ("bbbb", "killed"),
        ("aaaa", "verified"),
    ]
    assert listed[-1].task == "task of 20260101-000001-aaaa"
    assert (listed[-1].started, listed[-1].seconds, listed[-1].exit_code, listed[-1].model) == (
        101.0,
        2.5,
        0,
        "m",
    )
    living.close()
    assert runs(tmp_path / "nowhere") == []
    assert (listed[-1].files, listed[-1].added) == (1, 0)
    assert json.loads(json.dumps(listed[-1].to_json()))["run"] == "20260101-000001-aaaa"


def test_a_run_whose_last_record_is_long_or_torn_is_listed(tmp_path):
    trace = make(tmp_path, "20260101-000001-aaaa", "run.started", close=False)
    trace.append(Event("r", 2, 107.0, "notice", {"text": "x" * 200_000}))
    trace.close()
    with (tmp_path / "runs/20260101-000001-aaaa/events.jsonl").open("ab") as file:
        file.write(b'{"torn')
    assert info(tmp_path / "runs/20260101-000001-aaaa").status == "killed"


def test_finding(tmp_path):
    with pytest.raises(UnknownRunError, match="no runs"):
        find(tmp_path, "")
    for id in ("20260101-000001-aaaa", "20260101-000002-abab", "20260102-000001-cccc"):
        make(tmp_path, id, "run.started")
    name = lambda ref: find(tmp_path, ref).name  # noqa: E731
    assert name("") == name("last") == name("cccc") == name("20260102") == "20260102-000001-cccc"
    assert name("abab") == name("20260101-000002") == "20260101-000002-abab"
    with pytest.raises(UnknownRunError, match="aaaa"):
        find(tmp_path, "20260101")
    for ref in ("nope", "../runs", "20260101-000001-aaaa/.."):
        with pytest.raises(UnknownRunError, match="no run"):
            find(tmp_path, ref)


def test_a_result_is_whole_or_not_there(tmp_path):
    result.write(tmp_path, {"status": "verified", "task": "ü\ud800"})
    assert result.read(tmp_path)["status"] == "verified"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    (tmp_path / "result.json").write_text("{")
    assert result.read(tmp_path) is None
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / "none" / "result.json"))):
        result.write(tmp_path / "none", {})


def test_a_result_goes_to_any_place(tmp_path):
    (tmp_path / "link").symlink_to("real")
    result.write_to(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink() and json.loads((tmp_path / "real").read_text()) == {"a": 1}
    result.write_to(Path("/dev/null"), {"a": 1})
    assert Path("/dev/null").is_char_device()
    with pytest.raises(StoreError, match="/dev/full"):
        result.write_to(Path("/dev/full"), {"a": 1})


def test_a_killed_run_gets_its_result(tmp_path):
    make(tmp_path, "20260101-000001-aaaa", "run.started")
    folder = tmp_path / "runs" / "20260101-000001-aaaa"
    (folder / "patch.diff").write_text("x")
    assert len(result.repair_all(tmp_path)) == 1
    written = result.read(folder)
    assert (written["status"], written["exit_code"], written["task"]) == (
        "killed",
        None,
        "task of " + folder.name,
    )
    assert written["patch"]["file"] == str(folder / "patch.diff")
    assert result.repair(folder) is None, "once is enough"
    assert info(folder).status == "killed"


def test_a_run_killed_after_its_end_keeps_that_end(tmp_path):
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(GOLDEN.read_bytes())
    fixed = result.repair(folder)
    assert (fixed["status"], fixed["exit_code"], fixed["usage"]["turns"]) == ("verified", 0, 5)
    assert fixed["task"].startswith("add() is wrong")
    json.dumps(fixed)


def test_a_resumed_run_that_was_killed_is_killed(tmp_path):
    make(tmp_path, "r1", "run.started", "run.ended", "run.resumed")
    assert result.repair(tmp_path / "runs" / "r1")["status"] == "killed"


def test_living_and_damaged_runs_are_left_alone(tmp_path):
    living = make(tmp_path, "r1", "run.started", close=False)
    make(tmp_path, "r2", "run.started")
    (tmp_path / "runs" / "r2" / "events.jsonl").write_bytes(b"damage\n" + GOLDEN.read_bytes())
    (tmp_path / "runs" / "empty").mkdir()
    assert result.repair_all(tmp_path) == []
    assert result.read(tmp_path / "runs" / "r1") is None
    assert {r.id for r in runs(tmp_path)} == {"r1", "r2"}
    living.close()
