"""`pool apply --patch` at a real terminal, what is left afterwards, and the way back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.conftest import Pool, call, git, reply, snapshot

OLD = "".join(f"line {i}\n" for i in range(40))
NEW = OLD.replace("line 3\n", "three\n").replace("line 5\n", "five\n").replace("line 33\n", "")
PROMPT = r"Take this [\w ]+ \[[^\]]*\]\? "


@pytest.fixture
def pool(make_pool: Callable[[dict[str, str]], Pool]) -> Pool:
    """A run that changed two places of a file, three lines apart in the first, and made another file."""
    pool = make_pool({"a.txt": OLD, "keep.txt": "k\n"})
    writes = (call("write", path="a.txt", content=NEW), call("write", path="new.txt", content="n\x1b[31m\n"))
    done = pool.do("change it", "--no-checks", replies=(reply("", *writes), reply("Done.")))
    assert done.returncode == 0, done.stderr
    return pool


def at_terminal(pool: Pool, *args: str, columns: int = 100, rows: int = 50, **env: str) -> pexpect.spawn:
    argv = pool.argv(*args)
    return pexpect.spawn(
        argv[0],
        argv[1:],
        cwd=str(pool.repo),
        env={**pool.environment(), "TERM": "xterm", "CI": "", "NO_COLOR": "1", **env},
        dimensions=(rows, columns),
        encoding="utf-8",
        timeout=30,
    )


def answer(child: pexpect.spawn, *keys: str) -> str:
    """Give an answer at each question; everything that was shown."""
    said = ""
    for key in keys:
        child.expect(PROMPT)
        said += child.before + child.after
        child.sendline(key)
    return said


def ending(child: pexpect.spawn) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before


def choose(pool: Pool, *keys: str, args: tuple[str, ...] = (), **more: Any) -> str:
    child = at_terminal(pool, "apply", "-p", *args, **more)
    said = answer(child, *keys)
    code, rest = ending(child)
    assert code == 0, said + rest
    return said + rest


def text(pool: Pool) -> str:
    return (pool.repo / "a.txt").read_text()


def last(pool: Pool) -> dict[str, Any]:
    event = pool.events()[-1]
    assert event["type"] == "applied"
    return event["data"]


def fate(pool: Pool) -> str:
    return json.loads(pool("log", "--json").stdout.splitlines()[0])["fate"]


def test_some_now_and_the_rest_later(pool: Pool) -> None:
    said = choose(pool, "n", "y", "y")
    assert (
        "(1/3) Take this hunk [y,n,e,s,a,d,q,?]? " in said
        and "(3/3) Take this new file [y,n,a,d,q,?]? " in said
    )
    assert "+n\\x1b[31m" in said and "\x1b" not in said, "shown, not obeyed; and no colours"
    assert "1 hunk was not taken" in said
    assert text(pool) == OLD.replace("line 33\n", "") and (pool.repo / "new.txt").read_text() == "n\x1b[31m\n"
    event = last(pool)
    assert [(h["file"], h["outcome"]) for h in event["hunks"]] == [
        ("a.txt", "refused"),
        ("a.txt", "taken"),
        ("new.txt", "taken"),
    ]
    assert all(re.fullmatch("[0-9a-f]{16}", h["id"]) for h in event["hunks"])
    assert len(event["hunks"][0]["parts"]) == 2
    assert (event["offered"], event["taken"], event["edited"], event["left"]) == (3, 2, 0, 1)
    assert event["files"] == ["a.txt", "new.txt"] and event["to"] == "checkout"
    assert fate(pool) == "partly applied" and "partly applied" in pool("log").stdout
    assert "partly applied: 2 of 3 hunks, to your checkout" in pool("show", "--plain").stdout
    assert pool.result()["status"] == "unchecked"
    # Only what was not taken is offered again.
    said = choose(pool, "s", "n", "y")
    assert "(1/1) Take this hunk" in said and "split into 2 hunks" in said
    assert text(pool) == OLD.replace("line 33\n", "").replace("line 5\n", "five\n")
    done = pool("apply")
    assert done.returncode == 0 and "what you took of it before is left out" in done.stderr
    assert text(pool) == NEW and fate(pool) == "applied"
    again = pool("apply")
    assert again.returncode == 2 and "was applied already" in again.stderr
    child = at_terminal(pool, "apply", "-p")
    code, said = ending(child)
    assert code == 2 and "was applied already" in said
    # Each landing is taken back alone, the last one first.
    assert pool("undo").returncode == 0
    assert text(pool) == OLD.replace("line 33\n", "").replace("line 5\n", "five\n")
    assert fate(pool) == "partly applied"
    assert pool("undo").returncode == 0 and pool("undo").returncode == 0
    assert git(pool.repo, "status", "--porcelain") == "" and fate(pool) == ""
    none = pool("undo")
    assert none.returncode == 2 and "nothing to take back" in none.stderr
    assert pool("apply").returncode == 0 and text(pool) == NEW


def test_all_and_none_of_a_file_and_quitting(pool: Pool) -> None:
    choose(pool, "d", "y")
    assert text(pool) == OLD and (pool.repo / "new.txt").exists()
    assert pool("undo").returncode == 0
    choose(pool, "y", "q")
    assert text(pool) == NEW.replace("line 32\n", "line 32\nline 33\n")
    assert [h["outcome"] for h in last(pool)["hunks"]] == ["taken", "unanswered", "unanswered"]
    assert pool("undo").returncode == 0
    choose(pool, "a", "n")
    assert text(pool) == NEW and not (pool.repo / "new.txt").exists()


def test_nothing_is_taken(pool: Pool) -> None:
    before = snapshot(pool.repo)
    said = choose(pool, "q")
    assert "nothing was taken" in said and snapshot(pool.repo) == before
    assert last(pool)["taken"] == 0 and last(pool)["left"] == 3 and last(pool)["files"] == []
    assert fate(pool) == ""
    assert "none of 3 hunks was applied" in pool("show", "--plain").stdout
    assert pool("undo").returncode == 2
    assert pool("apply").returncode == 0 and text(pool) == NEW


def test_help_and_what_is_no_answer(pool: Pool) -> None:
    said = choose(pool, "?", "x", "", "d", "e", "s", "n")
    assert said.count("s - split it into smaller ones") == 2
    assert "this one can only be taken as it is" in said and "this one cannot be split" in said


def editor(pool: Pool, body: str) -> str:
    script = pool.home / "editor.py"
    script.write_text(f"import sys\npath = sys.argv[1]\ntext = open(path, 'rb').read()\n{body}\n")
    return f"'{sys.executable}' '{script}'"


def test_editing_a_hunk(pool: Pool) -> None:
    by_hand = editor(pool, "open(path, 'wb').write(text.replace(b'+three', b'+drei\\xff\\r'))")
    said = choose(pool, "e", "n", "n", EDITOR=by_hand)
    assert "2 hunks were not taken" in said
    changed = OLD.replace("line 3\n", "drei\xff\r\n").replace("line 5\n", "five\n")
    assert (pool.repo / "a.txt").read_bytes() == changed.encode("latin-1")
    assert last(pool)["edited"] == 1 and last(pool)["hunks"][0]["outcome"] == "edited"
    assert not list(pool.state.rglob("addp-hunk-edit.diff"))
    assert "1 of them edited" in pool("show", "--plain").stdout
    assert "(1/2) Take this hunk" in choose(pool, "y", "y")
    assert pool("undo").returncode == 0 and pool("undo").returncode == 0
    assert git(pool.repo, "status", "--porcelain") == ""


def test_an_edit_that_does_not_fit_is_made_again_or_given_up(pool: Pool) -> None:
    count = pool.home / "count"
    body = f"""
import os
n = int(open({str(count)!r}).read()) if os.path.exists({str(count)!r}) else 0
open({str(count)!r}, 'w').write(str(n + 1))
changed = [text.replace(b' line 4', b' line four'), b'', text.replace(b' line 4', b'+more'), text.replace(b'+', b'x')]
open(path, 'wb').write(changed[n] if n < 4 else text)
sys.exit(0 if n < 4 else 3)
"""
    child = at_terminal(pool, "apply", "-p", EDITOR=editor(pool, body))
    answer(child, "e")
    child.expect("not those of the file")
    child.expect(r"Edit it again\? \[y\]es  \[n\]o: ")
    child.sendline("n")
    answer(child, "e")
    child.expect("the hunk stays as it was")
    answer(child, "e")
    child.expect("not those of the file")  # a line of the file is missing
    child.expect(r"\[n\]o: ")
    child.sendline("y")
    child.expect("begins with none of")
    child.expect(r"\[n\]o: ")
    child.sendline("n")
    answer(child, "e")
    child.expect("the editor ended with 3")
    answer(child, "y", "q")
    assert ending(child)[0] == 0
    assert [h["outcome"] for h in last(pool)["hunks"]] == ["taken", "unanswered", "unanswered"]
    child = at_terminal(pool, "apply", "-p", EDITOR="no-such-editor-here")
    answer(child, "e")
    child.expect("set EDITOR to your editor")
    answer(child, "q")
    assert ending(child)[0] == 0


def test_without_a_terminal_there_is_nobody_to_ask(pool: Pool) -> None:
    before = snapshot(pool.repo)
    done = pool("apply", "--patch", input="y\ny\ny\n")
    assert done.returncode == 2 and "needs a terminal" in done.stderr
    assert snapshot(pool.repo) == before and pool.events()[-1]["type"] == "run.ended"


@pytest.mark.parametrize("how", ["eof", "interrupt"])
def test_leaving_in_the_middle_applies_nothing(pool: Pool, how: str) -> None:
    before = snapshot(pool.repo)
    child = at_terminal(pool, "apply", "-p")
    answer(child, "y")
    child.expect(PROMPT)
    child.sendeof() if how == "eof" else child.sendintr()
    code, said = ending(child)
    assert code == (2 if how == "eof" else 130), said
    assert snapshot(pool.repo) == before and pool.events()[-1]["type"] == "run.ended"


def test_a_branch_and_a_commit_of_what_was_chosen(pool: Pool) -> None:
    git(pool.repo, "config", "user.name", "me")
    git(pool.repo, "config", "user.email", "me@localhost")
    before = snapshot(pool.repo)
    choose(pool, "n", "y", "n", args=("--branch", "part"))
    assert {k: v for k, v in snapshot(pool.repo).items() if k != "refs"} == {
        k: v for k, v in before.items() if k != "refs"
    }
    assert git(pool.repo, "show", "part:a.txt") == OLD.replace("line 33\n", "")
    assert last(pool)["to"] == "branch" and last(pool)["branch"] == "part"
    only = pool("undo", "last")
    assert only.returncode == 2 and "git branch -D part" in only.stderr
    # A branch has nothing to do with what is in the checkout: all is offered.
    said = choose(pool, "y", "n", "n", args=("--commit", "--message", "some"))
    assert "(1/3)" in said
    assert (
        git(pool.repo, "log", "-1", "--format=%s").strip() == "some" and git(pool.repo, "status", "-s") == ""
    )
    assert pool("undo").returncode == 0
    assert {k: v for k, v in snapshot(pool.repo).items() if k != "refs"} == {
        k: v for k, v in before.items() if k != "refs"
    }


def test_what_was_taken_and_is_gone_again_is_offered_again(pool: Pool) -> None:
    choose(pool, "n", "y", "n")
    git(pool.repo, "checkout", "-q", "--", "a.txt")
    done = pool("apply")
    assert done.returncode == 0 and "no longer in your checkout" in done.stderr
    assert text(pool) == NEW and (pool.repo / "new.txt").exists()


def test_undo_keeps_what_the_user_changed_since_and_works_after_discard(pool: Pool) -> None:
    choose(pool, "y", "y", "y")
    (pool.repo / "a.txt").write_text(NEW + "mine\n")
    refused = pool("undo")
    assert refused.returncode == 2 and "changed since it was applied: a.txt" in refused.stderr
    assert text(pool) == NEW + "mine\n" and (pool.repo / "new.txt").exists()
    (pool.repo / "a.txt").write_text(NEW)
    gone = pool("discard")
    assert "what you applied of it stays" in gone.stderr
    assert pool("apply", "-p").returncode == 2
    assert pool("undo").returncode == 0 and git(pool.repo, "status", "--porcelain") == ""


def test_a_narrow_terminal_breaks_rows_and_pages_long_parts(
    make_pool: Callable[[dict[str, str]], Pool],
) -> None:
    pool = make_pool({"a.txt": "a\n"})
    long = "(1/1) Take this hunk [y,n]? " + "x" * 120 + "\n" + "".join(f"row {i}\n" for i in range(40))
    replies = (reply("", call("write", path="new.txt", content=long)), reply("Done."))
    assert pool.do("x", "--no-checks", replies=replies).returncode == 0
    child = at_terminal(pool, "apply", "-p", columns=60, rows=20)
    child.expect(r"\((\d+) more rows: Enter shows them\)")
    first = child.before
    assert "row 0" in first and "row 39" not in first
    shown = re.split(r"\r+\n", first)
    assert all(len(row) <= 60 for row in shown)
    # What a file says cannot stand where the question stands.
    posing = [row for row in shown if "Take this hunk" in row]
    assert posing and all(row.startswith("+") for row in posing)
    assert [row[:2] for row in shown if row.endswith("x" * 20) and not row.startswith("+")] == [": ", ": "]
    child.expect(PROMPT)
    child.sendline("")
    child.expect("row 25")
    child.expect(PROMPT)
    child.sendline("")
    child.expect("row 39")
    child.expect(PROMPT)
    child.sendline("y")
    assert ending(child)[0] == 0
    assert (pool.repo / "new.txt").read_text() == long


def test_colours_where_they_are_wanted(pool: Pool) -> None:
    child = at_terminal(pool, "apply", "-p", NO_COLOR="")
    child.expect_exact("\x1b[31m-line 3\x1b[m")
    child.expect_exact("\x1b[32m+three\x1b[m")
    child.expect(r"\]\?")
    child.sendline("q")
    assert ending(child)[0] == 0


HALF = """
import os, signal, sys
from poolcli import landing
place = landing._place
def once(*args):
    place(*args)
    os.kill(os.getpid(), signal.SIGKILL)
landing._place = once
sys.argv = ["pool", "apply", "-p"]
from poolcli.__main__ import main
main()
"""


def test_killed_in_the_middle_the_next_command_finishes_it(pool: Pool) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-c", HALF],
        cwd=str(pool.repo),
        env={**pool.environment(), "TERM": "xterm", "CI": "", "NO_COLOR": "1", "PYTHONPATH": os.getcwd()},
        encoding="utf-8",
        timeout=30,
    )
    answer(child, "y", "n", "y")
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus == signal.SIGKILL
    assert pool.events()[-1]["type"] == "run.ended"
    done = pool("undo")
    assert done.returncode == 0 and "it is finished now" in done.stderr
    assert [e["type"] for e in pool.events()[-2:]] == ["applied", "undone"]
    assert git(pool.repo, "status", "--porcelain") == ""


def test_a_run_that_had_ended_is_known_to_have_when_it_goes_on(
    make_pool: Callable[[dict[str, str]], Pool],
) -> None:
    """What was applied after its end does not make it look as if it was killed: the model hears what is red."""
    pool = make_pool({"a.txt": "a\n"})
    replies = (reply("", call("write", path="a.txt", content="b\n")), *[reply("Done.")] * 3)
    assert pool.do("x", "--test", "grep -q c a.txt", replies=replies).returncode == 4
    assert pool("apply").returncode == 0 and pool.events()[-1]["type"] == "applied"
    fix = (reply("", call("write", path="a.txt", content="c\n")), reply("Done."))
    assert pool("resume", "--model", pool.scripted(*fix)).returncode == 0
    types = [event["type"] for event in pool.events()]
    after = types[types.index("run.resumed") :]
    assert "checks.done" in after[: after.index("model.replied")]


def test_resuming_goes_on_after_a_landing(pool: Pool) -> None:
    choose(pool, "y", "n", "n")
    model = pool.scripted(reply("", call("write", path="more.txt", content="m\n")), reply("Done."))
    done = pool("resume", "--message", "more", "--model", model)
    assert done.returncode == 0, done.stderr
    said = choose(pool, "y", "n", "n")
    assert "(1/3) Take this hunk" in said and "more.txt" in said
    assert Path(pool.repo / "a.txt").read_text() == NEW
    assert subprocess.run(["git", "-C", str(pool.repo), "diff", "--check"]).returncode == 0
