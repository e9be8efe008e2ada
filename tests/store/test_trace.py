"""The log survives what happens to processes and disks: kills, full disks, a second writer."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from poolcli.errors import StoreError
from poolcli.events import Event
from poolcli.store.reading import load, locked, read
from poolcli.store.trace import Trace


def event(seq, type="notice", **data):
    return Event("r1", seq, 1.5, type, data)


def filled(run_dir, count):
    trace = Trace.create(run_dir, "r1")
    for seq in range(1, count + 1):
        trace.append(event(seq, text=f"number {seq} ünïcode"))
    trace.sync()
    trace.close()


def test_what_was_appended_is_read_back(tmp_path):
    filled(tmp_path, 3)
    assert read(tmp_path) == [event(seq, text=f"number {seq} ünïcode") for seq in (1, 2, 3)]


def test_it_is_in_the_file_when_append_returns(tmp_path):
    trace = Trace.create(tmp_path / "runs" / "r1", "r1")
    trace.append(event(1, text="x"))
    assert [e.seq for e in read(tmp_path / "runs" / "r1")] == [1]
    trace.close()
    trace.close()


def test_live_events_are_not_stored(tmp_path):
    trace = Trace.create(tmp_path, "r1")
    trace.append(Event("r1", 0, 0.0, "delta", {"kind": "text", "text": "x"}))
    trace.append(event(1))
    trace.close()
    assert [e.type for e in read(tmp_path)] == ["notice"]


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_a_gap_or_a_repetition_is_refused(tmp_path, seq):
    trace = Trace.create(tmp_path, "r1")
    trace.append(event(1))
    with pytest.raises(ValueError, match="follows event 1"):
        trace.append(event(seq))
    trace.close()


def test_one_writer_only(tmp_path):
    trace = Trace.create(tmp_path, "r1")
    assert locked(tmp_path)
    with pytest.raises(StoreError, match=f"process {os.getpid()}"):
        Trace.reopen(tmp_path)
    trace.close()
    assert not locked(tmp_path)
    Trace.reopen(tmp_path).close()


def test_a_run_is_created_once(tmp_path):
    filled(tmp_path, 1)
    with pytest.raises(StoreError, match="already"):
        Trace.create(tmp_path, "r1")
    assert not locked(tmp_path)


def test_reopening_goes_on_where_it_ended_and_drops_the_stale_result(tmp_path):
    filled(tmp_path, 2)
    (tmp_path / "result.json").write_text("{}")
    trace = Trace.reopen(tmp_path)
    assert trace.seq == 2
    assert (tmp_path / "result.json").exists(), "nothing was added yet"
    trace.append(event(3, "run.resumed"))
    trace.close()
    assert not (tmp_path / "result.json").exists()
    assert [e.seq for e in read(tmp_path)] == [1, 2, 3]


def test_cut_off_at_every_byte_of_the_last_record(tmp_path):
    filled(tmp_path, 3)
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        log = load(tmp_path)
        assert [e.seq for e in log.events] == [1, 2]
        assert (log.end, log.torn) == (start, cut - start)
        assert bool(log.notes) == (cut > start)
        trace = Trace.reopen(tmp_path)
        trace.append(event(3, text="after the repair"))
        trace.close()
        assert [e.data.get("text", "")[:5] for e in read(tmp_path)] == ["numbe", "numbe", "after"]


FILL = """
import resource, signal, sys
from pathlib import Path
from poolcli.errors import StoreError
from poolcli.events import Event
from poolcli.store.trace import Trace

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
trace = Trace.create(folder, "r1")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
seq = 0
try:
    while seq < 100_000:
        trace.append(Event("r1", seq + 1, 0.0, "notice", {"text": "x" * 3000}))
        seq += 1
except StoreError as error:
    print(seq, error, "|", error.hint)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        trace.append(Event("r1", seq + 1, 0.0, "run.ended", {"status": "failed"}))
"""


def test_a_full_disk_leaves_whole_lines_and_names_the_file(tmp_path):
    # The limit is hit in the middle of a record: the kernel takes a part of it first.
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path), "20000"], capture_output=True, text=True, check=True
    )
    count, _, message = done.stdout.partition(" ")
    assert str(tmp_path / "events.jsonl") in message and "free some space" in message
    log = load(tmp_path)
    assert log.torn == 0
    # Acknowledged ones are there, and once there is room again the log goes on as if nothing had happened.
    assert [e.seq for e in log.events] == list(range(1, int(count) + 2))
    assert log.events[-1].type == "run.ended"


def test_a_small_file_system_that_fills(tmp_path):
    script = f'mount -t tmpfs -o size=64k none "{tmp_path}" && exec "$0" -c "$1" "{tmp_path}/run" 0'
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True
    )
    if probe.returncode:
        pytest.skip("needs the right to mount")
    check = (
        FILL
        + "\nfrom poolcli.store.reading import load\nlog = load(folder)\nprint(len(log.events), log.torn)\n"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, check],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert "No space left" in first
    assert second == f"{first.split()[0]} 0"


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/run"):
        Trace.create(tmp_path / "file" / "run", "r1")


WRITE = """
import sys
from pathlib import Path
from poolcli.events import Event
from poolcli.store.trace import Trace

trace = Trace.reopen(Path(sys.argv[1]))
out = open(1, "wb", buffering=0)
for seq in range(trace.seq + 1, trace.seq + 1_000_000):
    trace.append(Event("r1", seq, 0.0, "notice", {"text": "x" * (seq * 997 % 20_000)}))
    out.write(b"%d\\n" % seq)  # acknowledged
"""


def test_no_acknowledged_event_is_lost_by_kills(tmp_path):
    Trace.create(tmp_path, "r1").close()
    rng = random.Random(7)
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        first = child.stdout.readline()  # it is writing now
        time.sleep(rng.random() * 0.03)
        child.kill()
        acknowledged = [int(line) for line in (first + child.stdout.read()).split(b"\n")[:-1]]
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        assert not locked(tmp_path), "the lock is free at death"
        seqs = [e.seq for e in read(tmp_path)]
        assert seqs == list(range(1, len(seqs) + 1))
        assert seqs[-1] >= acknowledged[-1]
        if (tmp_path / "events.jsonl").stat().st_size > 20_000_000:
            break
