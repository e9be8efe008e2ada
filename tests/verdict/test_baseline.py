"""Kept results of the base, and tests that are unsteady on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from poolcli.verdict import baseline, flaky
from poolcli.verdict.baseline import Baseline, Baselines, fingerprint, key
from poolcli.verdict.comparison import compare
from poolcli.verdict.flaky import Memory, differing, find, suspects, unsteady
from poolcli.verdict.results import Case, Results

STEADY = Results({"a": Case("a", "passed"), "b": Case("b", "failed", "assert 1 == 2")}, source="junit")


def ended(**outcomes: str) -> Results:
    return Results({test: Case(test, outcome) for test, outcome in outcomes.items()}, source="junit")


# --- kept results ----------------------------------------------------------------------------------------------


def test_what_was_kept_comes_back_whole(tmp_path: Path) -> None:
    kept = Baseline(STEADY, ("b",), 1.5, 1)
    assert Baselines(tmp_path / "made" / "when needed").get("k") is None
    assert Baselines(tmp_path / "made" / "when needed").put("k", kept)
    store = Baselines(tmp_path / "made" / "when needed")
    assert store.get("k") == kept
    assert store.get("other") is None
    assert store.put("../../k", kept) and store.get("../../k") == kept
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != store.folder] == []


@pytest.mark.parametrize(
    "results",
    [
        Results(),
        msgspec.structs.replace(STEADY, problem="the report stops"),
        msgspec.structs.replace(STEADY, hung="a"),
        msgspec.structs.replace(STEADY, crashed="out of memory"),
    ],
)
def test_what_may_be_better_the_next_time_is_not_kept(results: Results, tmp_path: Path) -> None:
    assert not Baselines(tmp_path).put("k", Baseline(results))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"results": 3}', b"\xff\xfe"])
def test_a_damaged_entry_is_none(content: bytes, tmp_path: Path) -> None:
    store = Baselines(tmp_path)
    assert store.put("k", Baseline(STEADY))
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(content)
    assert store.get("k") is None
    assert store.put("k", Baseline(STEADY)) and store.get("k") == Baseline(STEADY)


def test_a_folder_that_cannot_be_written_keeps_nothing_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Baselines(tmp_path / "file")
    assert not store.put("k", Baseline(STEADY))
    assert store.get("k") is None


def test_only_so_many_are_kept_and_those_in_use_stay(tmp_path: Path) -> None:
    store = Baselines(tmp_path)
    (tmp_path / ".left-by-a-killed-process.json.1").write_text("x")
    os.utime(tmp_path / ".left-by-a-killed-process.json.1", ns=(0, 0))
    for number in range(baseline.ENTRIES + 10):
        assert store.put(str(number), Baseline(STEADY))
        for path in tmp_path.iterdir():
            stat = path.stat()  # everything is a second older now, so that the order is sure
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))
        assert store.get("0") is not None  # used each time
    assert len(list(tmp_path.iterdir())) == baseline.ENTRIES
    assert store.get("1") is None and store.get(str(baseline.ENTRIES + 9)) is not None
    assert not list(tmp_path.glob(".*"))


def test_too_large_a_result_is_not_kept(tmp_path: Path) -> None:
    huge = Results({"a": Case("a", "failed", "x" * baseline.ENTRY_BYTES)}, source="junit")
    assert not Baselines(tmp_path).put("k", Baseline(huge))
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from poolcli.verdict.baseline import Baseline, Baselines
from poolcli.verdict.results import Case, Results
store, letter = Baselines(Path(sys.argv[1])), sys.argv[2]
results = Results({str(n): Case(str(n), "failed", letter * 200) for n in range(300)}, source="junit")
for _ in range(40):
    assert store.put("k", Baseline(results))
    found = store.get("k")
    assert found and len({case.text for case in found.results.cases.values()}) == 1, "torn"
"""


def test_processes_that_write_at_once_never_read_half_an_entry(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), letter]) for letter in "xyz"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_everything_that_a_result_hangs_on_is_in_its_key(tmp_path: Path) -> None:
    assert len({key("t", "c", "e"), key("u", "c", "e"), key("t", "d", "e"), key("t", "c", "f")}) == 4
    assert key("t", "c", "e") == key("t", "c", "e")
    assert key("ab", "c", "e") != key("a", "bc", "e")


def test_the_fingerprint_changes_with_the_environment_and_with_nothing_else(tmp_path: Path) -> None:
    site = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    (site / "six-1.0.dist-info").mkdir(parents=True)
    program = tmp_path / "bin" / "runner"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    variables = {"PATH": str(program.parent), "HOME": "/one", "PYTHONHASHSEED": "0"}

    def now(**changed: str) -> str:
        return fingerprint(["runner", "absent"], [tmp_path / ".venv"], variables | changed)

    first = now()
    assert now() == first == now(HOME="/two")
    assert now(PYTHONHASHSEED="1") != first
    (site / "six-1.0.dist-info").rename(site / "six-1.1.dist-info")
    second = now()
    assert second != first
    (site / "__pycache__").mkdir()
    assert now() == second
    program.write_text("#!/bin/sh\nexit 1\n")
    assert now() != second
    program.unlink()
    assert now() not in (first, second)


def test_the_fingerprint_of_node_modules_is_its_lock_file(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    (modules / "left-pad").mkdir(parents=True)
    bare = fingerprint(folders=[modules], variables={})
    (modules / ".package-lock.json").write_text('{"left-pad": "1.0"}')
    locked = fingerprint(folders=[modules], variables={})
    (modules / ".cache").mkdir()
    assert fingerprint(folders=[modules], variables={}) == locked != bare
    (modules / ".package-lock.json").write_text('{"left-pad": "1.1"}')
    assert fingerprint(folders=[modules], variables={}) != locked


# --- unsteady tests --------------------------------------------------------------------------------------------


class Runs:
    """Gives back prepared results and notes what was asked for."""

    def __init__(self, *results: Results) -> None:
        self.results = list(results)
        self.asked: list[tuple[str, ...]] = []

    async def __call__(self, tests: Sequence[str]) -> Results:
        self.asked.append(tuple(tests))
        return self.results.pop(0)


def test_what_differs_is_what_a_verdict_would_see() -> None:
    one = ended(a="passed", b="failed", c="passed", d="skipped", e="passed")
    two = ended(a="xfailed", b="error", c="failed", d="passed", f="passed")
    assert differing(one, two) == ("c", "d", "e", "f")
    assert differing(one, one) == ()


def test_only_what_differs_is_run_again() -> None:
    one, two = ended(a="passed", b="passed", c="passed"), ended(a="passed", b="failed", c="passed")
    runs = Runs(ended(b="failed"), ended(b="passed"))
    found = asyncio.run(find(one, two, runs, times=2))
    assert runs.asked == [("b",), ("b",)]
    assert found.tests == ("b",)
    assert found.seen == {"b": ("passed", "failed", "failed", "passed")}
    nothing = Runs()
    assert asyncio.run(find(one, one, nothing)).tests == () and nothing.asked == []


def test_suspects_are_run_until_they_are_caught() -> None:
    first = ended(a="failed", b="failed", c="passed")
    runs = Runs(ended(a="passed", b="failed", c="passed"), ended(b="error", c="skipped"), ended(b="failed"))
    found = asyncio.run(unsteady(first, ("a", "b", "c"), runs))
    assert found.tests == ("a", "c")
    assert runs.asked == [("a", "b", "c"), ("b", "c"), ("b",)]


def test_runs_that_say_nothing_catch_nobody() -> None:
    first = ended(a="failed", b="failed")
    hung = msgspec.structs.replace(ended(a="passed"), hung="b")
    runs = Runs(Results(problem="nothing parsed"), hung, ended(a="failed"))
    assert asyncio.run(unsteady(first, ("a", "b"), runs)).tests == ()


def test_too_many_suspects_are_not_all_run() -> None:
    tests = tuple(f"t{n}" for n in range(flaky.SUSPECTS + 5))
    first = Results({test: Case(test, "failed") for test in tests}, source="junit")
    runs = Runs(first)
    found = asyncio.run(unsteady(first, tests, runs, times=1))
    assert len(runs.asked[0]) == flaky.SUSPECTS and len(found.unchecked) == 5


def test_suspects_are_what_a_change_is_said_to_have_turned() -> None:
    before = {"fixed": "failed", "broken": "passed", "lost": "passed", "same": "passed", "still": "failed"}
    after = {"fixed": "passed", "broken": "failed", "same": "passed", "still": "failed", "new": "passed"}
    assert suspects(compare(before, after, new_on_base={"new": "failed"})) == ("broken", "fixed")


FLIPPING = """\
from pathlib import Path

def test_steady():
    assert True

def test_flips():
    state = Path(__file__).with_name("state")
    count = int(state.read_text()) if state.exists() else 0
    state.write_text(str(count + 1))
    assert count % 2

def test_always_fails():
    assert False
"""


def test_a_real_unsteady_test_is_caught_on_real_runs(tmp_path: Path) -> None:
    (tmp_path / "test_f.py").write_text(FLIPPING)
    commands = []

    async def run(tests: Sequence[str]) -> Results:
        commands.append(tuple(tests))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *tests),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode()
        lines = [line.split(" - ")[0].split() for line in said.splitlines()]
        outcomes = {"PASSED": "passed", "FAILED": "failed"}
        cases = {
            line[1]: Case(line[1], outcomes[line[0]])
            for line in lines
            if len(line) == 2 and line[0] in outcomes
        }
        return Results(cases, source="log")

    async def all_of_it() -> flaky.Found:
        first, second = await run(()), await run(())
        assert len(first.cases) == 3
        return await find(first, second, run, times=2)

    found = asyncio.run(all_of_it())
    assert found.tests == ("test_f.py::test_flips",)
    assert found.seen["test_f.py::test_flips"] == ("failed", "passed", "failed", "passed")
    assert commands[2:] == [("test_f.py::test_flips",)] * 2


def test_what_was_caught_is_remembered_for_a_while(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    memory = Memory(tmp_path / "state" / "flaky.json", now=lambda: clock[0])
    assert memory.tests() == ()
    memory.remember([])
    assert not memory.path.exists()
    memory.remember(["b", "a"])
    clock[0] += flaky.MEMORY / 2
    memory.remember(["b", "c"])
    assert Memory(memory.path, now=lambda: clock[0]).tests() == ("a", "b", "c")
    clock[0] += flaky.MEMORY / 2 + 1
    assert memory.tests() == ("b", "c")
    memory.path.write_text("{")
    assert memory.tests() == ()
    memory.remember(["d"])
    assert memory.tests() == ("d",)
    assert [path.name for path in memory.path.parent.iterdir()] == ["flaky.json"]


def test_memory_is_bounded_and_a_disk_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    clock = [0.0]
    memory = Memory(tmp_path / "flaky.json", now=lambda: clock[0])
    memory.remember(f"old{n}" for n in range(flaky.REMEMBERED))
    clock[0] = 1.0
    memory.remember(["new"])
    assert len(memory.tests()) == flaky.REMEMBERED and "new" in memory.tests()
    (tmp_path / "file").write_text("")
    Memory(tmp_path / "file" / "flaky.json").remember(["a"])
