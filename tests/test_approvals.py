"""The approver by itself: what answers hold for, and that nobody is waited for."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from poolcli.approvals import Answer, Approver, Remembered
from poolcli.events import Event
from poolcli.person import Question, Reply
from poolcli.policy import Rule, forbidding
from poolcli.run import Run
from poolcli.views.terminal import TerminalView


class Memory:
    """A log in memory."""

    def append(self, event: Event) -> None:
        pass

    def sync(self) -> None:
        pass


class Somebody:
    """A person with prepared answers."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.questions = list(replies), []  # type: ignore[var-annotated]

    async def ask(self, question: Question) -> Reply:
        self.questions.append(question)
        return self.replies.pop(0)


def settle(approver: Approver, run: Run, tool: str = "shell", kind: str = "execute", **args: Any) -> Answer:
    decision = approver.decide(tool, kind, args)
    return asyncio.run(approver.settle(run, "c1", tool, kind, args, decision))


@pytest.fixture
def run() -> Run:
    return Run("r", Path("."), Memory())


ASK = (Rule("ask", "shell", "x:1", tool="shell"), Rule("ask", "edit", "x:2", tool="edit"))


def test_an_answer_holds_for_its_sandbox_only(tmp_path: Path, run: Run) -> None:
    remembered = Remembered(tmp_path / "approvals.json")
    confined = Approver(ASK, sandbox="bubblewrap", person=Somebody(Reply("project")), remembered=remembered)
    assert settle(confined, run, command="make").yes
    again = Approver(ASK, sandbox="bubblewrap", remembered=remembered)
    assert settle(again, run, command="make").yes
    for command in ("make x", " make", "make ", "MAKE", "make\n"):
        assert not settle(again, run, command=command).yes, command
    assert not settle(Approver(ASK, sandbox="none", remembered=remembered), run, command="make").yes


def test_an_answer_about_a_file_is_about_that_file(run: Run) -> None:
    person = Somebody(Reply("run"), Reply("no"))
    approver = Approver(ASK, sandbox="bubblewrap", person=person)
    assert settle(approver, run, "edit", "edit", path="a.py", old="x", new="y").yes
    assert settle(approver, run, "edit", "edit", path="a.py", old="y", new="").yes
    assert not settle(approver, run, "edit", "edit", path="b.py", old="y", new="").yes
    assert [dict(question.parts)["path"] for question in person.questions] == ["a.py", "b.py"]


def test_a_denied_call_is_denied_whatever_was_remembered(tmp_path: Path, run: Run) -> None:
    remembered = Remembered(tmp_path / "approvals.json")
    approver = Approver(ASK, sandbox="x", person=Somebody(Reply("project")), remembered=remembered)
    assert settle(approver, run, command="make").yes
    denying = Approver((*ASK, *forbidding(["shell"], "x:3")), sandbox="x", remembered=remembered)
    assert denying.decide("shell", "execute", {"command": "make"}).verdict == "deny"


def test_the_real_path_counts_too(run: Run) -> None:
    rule = Rule("deny", "edit:.github/**", "x:1", tool="edit", pattern=".github/**")
    approver = Approver(
        [rule], sandbox="x", real=lambda path: ".github/w.yml" if path == "link/w.yml" else path
    )
    assert approver.decide("write", "edit", {"path": "link/w.yml", "content": ""}).verdict == "deny"
    assert approver.decide("write", "edit", {"path": "other", "content": ""}).verdict == "allow"


def test_nobody_is_asked_for_what_lies_outside(run: Run) -> None:
    approver = Approver(mode="ask", sandbox="x", real=lambda path: None if path.startswith("/") else path)
    assert approver.decide("read", "read", {"path": "/home/.ssh/id_rsa"}).verdict == "deny"
    assert approver.decide("read", "read", {"path": "id_rsa"}).verdict == "ask"
    asked = Approver([Rule("ask", "read", "x:1", tool="read")], sandbox="x", real=lambda path: None)
    assert asked.decide("read", "read", {"path": "/x"}).verdict == "ask"


def test_the_file_is_private_and_a_damaged_one_remembers_nothing(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path / "approvals.json")
    key = {"tool": "shell", "sha256": "0", "sandbox": "x"}
    assert key not in remembered
    remembered.add(key, "make \x1b[2J\ud800")
    path = tmp_path / "approvals.json"
    assert key in remembered and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {**key, "sandbox": ""} not in remembered
    for text in ("", "{}", "[1, null]", "[" * 100_000, json.dumps([{"tool": "shell"}])):
        path.write_text(text)
        assert key not in remembered
    path.unlink()
    path.mkdir()
    assert key not in remembered
    remembered.add(key, "x")  # cannot be written: nothing is remembered, and nothing fails


class Screen(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


def test_the_terminal_view_is_still_while_a_question_stands() -> None:
    import threading
    import time

    screen = Screen()
    view = TerminalView(screen, 80, live=True)
    started = {"model": {"name": "m", "window": 1}, "task": "x", "checks": {"command": "true"}}
    view(Event("r", 1, 0.0, "run.started", started))
    view(Event("r", 2, 0.0, "asked", {"id": "q", "text": "shell: ls", "why": "mode ask"}))
    assert not [thread for thread in threading.enumerate() if thread.name == "pool-footer"]
    before = screen.getvalue()
    view(Event("r", 3, 0.0, "notice", {"level": "info", "text": "n"}))
    time.sleep(0.3)  # three pictures of the spinner
    assert "\x1b[?25l" not in screen.getvalue()[len(before) :]
    view(Event("r", 4, 0.0, "answered", {"id": "q", "text": "yes"}))
    assert [thread for thread in threading.enumerate() if thread.name == "pool-footer"]
    view.close()
