"""Taking a landing back: every byte and permission as before, or nothing and the names of what is in the way."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli import acceptance, landing
from poolcli.events import Event
from poolcli.landing import LandingError
from poolcli.store import reading
from poolcli.store.trace import Trace
from poolcli.workspace import Workspace
from tests.repositories import commit, content, make, private_state, put, sh
from tests.test_landing import every_kind, every_shape, own_state, start

__all__ = ["own_state"]

RECORD = {"offered": 1, "taken": 1, "left": 0, "hunks": []}


def begun(top: Path, tmp_path: Path) -> Workspace:
    """A run with a log, as landing finds it."""
    space = start(top, tmp_path)
    trace = Trace.create(space.run_dir, "undo-1")
    trace.append(Event("undo-1", 1, 1.0, "run.started", {"task": "t"}))
    trace.append(Event("undo-1", 2, 2.0, "run.ended", {"status": "verified"}))
    trace.close()
    (space.run_dir / "result.json").write_text("{}")
    return space


def land(space: Workspace, **options: str) -> str:
    landing.apply(space.repo, space.patch(), run_dir=space.run_dir, base=space.base, record=RECORD, **options)
    return landing.landings(space.run_dir)[-1]


def here(top: Path) -> dict[str, tuple[str, bytes, int]]:
    """Files with their permission bits, and which folders there are."""
    found = {
        n: (*v, 0 if v[0] == "link" else stat.S_IMODE((top / n).stat().st_mode))
        for n, v in content(top).items()
    }
    return found | {
        "folders": ("", b"", len([p for p in top.rglob("*") if p.is_dir() and ".git" not in p.parts]))
    }


def types(space: Workspace) -> list[str]:
    return [event.type for event in reading.read(space.run_dir)][2:]


def test_every_kind_of_change_is_taken_back(tmp_path: Path) -> None:
    top = every_shape(tmp_path / "r")
    put(top, {"f0": "uncommitted\n", "untracked": "u\n", "f3": "odd mode\n"})
    (top / "f0").chmod(0o640)
    (top / "f1").chmod(0o600)
    (top / "bin").chmod(0o755)
    space = begun(top, tmp_path)
    every_kind(space.root)
    (space.root / "bin").chmod(0o644)
    (top / "bin").chmod(0o754)  # the user's own bits, which no patch knows
    before, git_before = here(top), private_state(top / ".git")
    one = land(space)
    assert content(top) == content(space.root)
    assert acceptance.fate(reading.read(space.run_dir)) == "applied" and (space.run_dir / "applied").exists()
    landing.undo(space.repo, space.run_dir, one)
    assert here(top) == before and private_state(top / ".git") == git_before
    assert types(space) == ["applied", "undone"] and not (space.run_dir / "applied").exists()
    assert (space.run_dir / "result.json").exists(), "the run's result is not stale"
    assert landing.landings(space.run_dir) == []
    two = land(space)
    assert content(top) == content(space.root)
    landing.undo(space.repo, space.run_dir, two)
    assert here(top) == before
    with pytest.raises(LandingError, match="taken back already"):
        landing.undo(space.repo, space.run_dir, two)


@pytest.mark.parametrize("what", ["content", "mode", "gone", "came back", "in the folder"])
def test_what_the_user_changed_since_is_never_lost(tmp_path: Path, what: str) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n", "b.py": "b\n", "old": "o\n", "turns": "t\n"})
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "new": "n\n"})
    for name in ("old", "turns"):
        (space.root / name).unlink()
    put(space.root, {"turns/in": "i\n"})
    one = land(space)
    named = "a.py"
    match what:
        case "content":
            put(top, {"a.py": "agent\nuser\n"})
        case "mode":
            (top / "a.py").chmod(0o600)
        case "gone":
            (top / "a.py").unlink()
        case "came back":
            put(top, {"old": "mine\n"})
            named = "old"
        case "in the folder":
            put(top, {"turns/mine": "mine\n"})
            named = "turns/mine"
    before = here(top)
    with pytest.raises(LandingError, match=named) as caught:
        landing.undo(space.repo, space.run_dir, one)
    assert here(top) == before and caught.value.hint
    assert types(space) == ["applied"] and landing.landings(space.run_dir) == [one]


def test_a_commit_is_taken_off_its_branch(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "".join(f"{i}\n" for i in range(30)), "b.py": "b\n"})
    put(top, {"a.py": "user\n" + (top / "a.py").read_text(), "staged": "s\n"})
    sh(top, "add", "staged")
    space = begun(top, tmp_path)
    put(space.root, {"a.py": (top / "a.py").read_text().replace("25\n", "agent\n"), "new": "n\n"})
    before, head = here(top), sh(top, "rev-parse", "HEAD")
    status, index = sh(top, "status", "--porcelain"), sh(top, "ls-files", "-s")
    one = land(space, commit_message="m")
    assert sh(top, "rev-parse", "HEAD^") == head
    landing.undo(_again(space), space.run_dir, one)
    assert here(top) == before and sh(top, "rev-parse", "HEAD") == head
    assert (sh(top, "status", "--porcelain"), sh(top, "ls-files", "-s")) == (status, index)


def _again(space: Workspace) -> landing.Repository:
    from poolcli.git import find_repository

    return find_repository(space.repo.top)


def test_a_commit_that_others_build_on_stays(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n", "b.py": "b\n"})
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    one = land(space, commit_message="m")
    pushed = sh(top, "rev-parse", "HEAD").decode().strip()
    sh(top, "update-ref", "refs/remotes/origin/main", pushed)
    with pytest.raises(LandingError, match="pushed") as caught:
        landing.undo(_again(space), space.run_dir, one)
    assert caught.value.hint.startswith("git revert")
    sh(top, "update-ref", "-d", "refs/remotes/origin/main")
    put(top, {"b.py": "user\n"})
    commit(top)
    with pytest.raises(LandingError, match="not the last one"):
        landing.undo(_again(space), space.run_dir, one)
    assert (top / "a.py").read_text() == "agent\n"


def test_only_the_checkout_it_was_in(tmp_path: Path) -> None:
    top = make(tmp_path / "r")
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    one = land(space)
    sh(top, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "other")
    from poolcli.git import find_repository

    other = find_repository(tmp_path / "other")
    assert landing.is_here(space.repo, space.run_dir, one) and not landing.is_here(other, space.run_dir, one)
    with pytest.raises(LandingError, match="was applied in"):
        landing.undo(other, space.run_dir, one)


KILLED = """
import os, signal, sys
from pathlib import Path
from poolcli import acceptance, landing
from poolcli.git import find_repository
top, run_dir, base, message, undo, after = sys.argv[1:]
count = 0
def counted(module, name):
    function = getattr(module, name)
    def call(*args, **more):
        global count
        value = function(*args, **more)
        count += 1
        if name == after or (after.isdigit() and count > int(after)):
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    setattr(module, name, call)
for name in ("_place", "_remove", "_publish", "_settle"):
    counted(landing, name)
counted(acceptance, "record")
repo, run_dir = find_repository(Path(top)), Path(run_dir)
if undo:
    landing.undo(repo, run_dir, undo)
else:
    patch = (run_dir / "patch.diff").read_bytes()
    landing.apply(repo, patch, run_dir=run_dir, base=base, commit_message=message or None,
                  record={"offered": 1, "taken": 1, "left": 0, "hunks": []})
"""


def killed(space: Workspace, after: int | str, message: str = "", undo: str = "") -> int:
    arguments = [str(space.repo.top), str(space.run_dir), space.base, message, undo, str(after)]
    return subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parent.parent
    ).returncode


@pytest.mark.parametrize("message", ["", "m"])
def test_killed_anywhere_it_is_finished_and_recorded_once(tmp_path: Path, message: str) -> None:
    """Both ways, at every step in turn, until one gets through."""
    top = every_shape(tmp_path / "r")
    put(top, {"untracked": "u\n"})
    space = begun(top, tmp_path)
    every_kind(space.root)
    (space.run_dir / "patch.diff").write_bytes(space.patch())
    before, after = here(top), content(space.root)
    head = sh(top, "rev-parse", "HEAD")
    expected: list[str] = []
    ended = -9
    for step in (0, 7, "_publish", "record", "_settle", 99):
        ended = killed(space, step, message)
        landing.recover(_again(space), tmp_path / "st")
        assert content(top) == after
        assert types(space) == [*expected, "applied"], step
        (one,) = landing.landings(space.run_dir)
        ended = killed(space, step, undo=one)
        landing.recover(_again(space), tmp_path / "st")
        assert here(top) == before, step
        expected += ["applied", "undone"]
        assert types(space) == expected, step
        assert landing.landings(space.run_dir) == [] and sh(top, "rev-parse", "HEAD") == head
        assert not (space.run_dir / landing.STAGE).exists()
    assert ended == 0


def test_a_landing_that_cannot_be_recorded_says_so_and_does_not_stay_half_done(tmp_path: Path) -> None:
    from poolcli.errors import StoreError

    top = make(tmp_path / "r")
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n"})
    log = space.run_dir / "events.jsonl"
    log.write_bytes(b"rubbish\n" + log.read_bytes())
    with pytest.raises(StoreError, match="your files are changed, but that could not be recorded"):
        land(space)
    assert (top / "a.py").read_text() == "agent\n"
    assert not (space.run_dir / landing.STAGE).exists()
    assert landing.recover(space.repo, tmp_path / "st") == ""


def test_the_log_decides_what_is_taken(tmp_path: Path) -> None:
    def applied(id: str, **more: object) -> Event:
        return Event("r", 1, 0.0, "applied", {"landing": id, "to": "checkout", "taken": 1, "left": 2, **more})

    first = applied(
        "1", hunks=[{"id": "x", "outcome": "taken", "parts": ["p", "q"]}, {"id": "y", "outcome": "refused"}]
    )
    second = applied("2", hunks=[{"id": "z", "outcome": "edited"}])
    assert acceptance.taken([first]).plain == {"x", "p", "q"}
    assert acceptance.taken([first, second]).edited == {"z"}
    assert acceptance.fate([first, second]) == "partly applied"
    undone = Event("r", 2, 0.0, "undone", {"landing": "1"})
    assert acceptance.taken([first, second, undone]).plain == set()
    assert acceptance.fate([first, undone]) == ""
    assert not acceptance.taken([applied("3", to="branch", left=0)]).any
    assert acceptance.fate([applied("4", taken=0)]) == ""
    assert acceptance.fate([first, applied("5", left=0)]) == "applied"


def test_what_a_kill_left_before_anything_was_done_does_not_count(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n"})
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "new": "n\n"})
    stage = space.run_dir / landing.STAGE
    put(stage, {"tree/new": "stale\n", "before/tree/new": "stale\n", "before/tree/a.py": "stale\n"})
    before = here(top)
    one = land(space)
    assert content(top) == content(space.root)
    put(stage, {"tree/other": "stale\n"})
    landing.undo(space.repo, space.run_dir, one)
    assert here(top) == before


def test_a_landing_half_done_elsewhere_is_not_run_over(tmp_path: Path) -> None:
    top = make(tmp_path / "r", {"a.py": "a\n", "b.py": "b\n"})
    space = begun(top, tmp_path)
    put(space.root, {"a.py": "agent\n", "b.py": "agent\n"})
    (space.run_dir / "patch.diff").write_bytes(space.patch())
    assert killed(space, 0) == -9
    sh(top, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "other")
    from poolcli.git import find_repository

    with pytest.raises(LandingError, match="interrupted in"):
        landing.apply(
            find_repository(tmp_path / "other"),
            (space.run_dir / "patch.diff").read_bytes(),
            run_dir=space.run_dir,
            base=space.base,
            record=RECORD,
        )
    assert (tmp_path / "other/a.py").read_text() == "a\n"
    assert "is finished now" in landing.recover(space.repo, tmp_path / "st")
    assert (top / "b.py").read_text() == "agent\n" and types(space) == ["applied"]
