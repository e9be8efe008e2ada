"""What is said about a run, apart from how it is drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.events import CATALOGUE, Event
from poolcli.views import calls, checks
from poolcli.views.blocks import Change, Note, Prose, Quote, Said, Step, Thought, Verdict
from poolcli.views.phrases import beginning, count, place, seconds
from poolcli.views.wording import Wording


def say(*events, **options):
    wording = Wording(**options)
    blocks = []
    for seq, (type, data) in enumerate(events, 1):
        blocks += wording.blocks(Event("20260101-000000-4f2a", seq, 0.0, type, data))
    return blocks + wording.rest()


def tool(name="read", title="Read a.py", **data):
    return {
        "id": "c",
        "name": name,
        "title": title,
        "ok": True,
        "why": "",
        "text": "",
        "show": [],
        "seconds": 0.0,
    } | data


EXIT = {"type": "exit", "code": None, "timed_out": False}
DIFF = {"type": "diff", "path": "a.py", "diff": "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n+z\n"}


def words(step):
    facts = [" ".join(text for text, _ in fact) for fact in step.facts]
    return "  ".join(filter(None, [step.label, step.subject, *facts]))


@pytest.mark.parametrize("type", [*CATALOGUE, "from.the.future"])
def test_every_type_is_readable_without_any_field(type):
    say((type, {}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tool(), "read  a.py"),
        (tool("read", "a.py"), "read  a.py"),
        (tool("shell", "ls", ok=False, show=[EXIT | {"code": 1}], seconds=0.31), "shell  ls  exit 1  0.3s"),
        (tool("shell", "cat", ok=False, show=[EXIT | {"timed_out": True}]), "shell  cat  timed out"),
        (tool("shell", "x", ok=False, show=[{"type": "exit", "code": -9}]), "shell  x  signal 9"),
        (tool("shell", "a\nb", show=[{"type": "exit", "code": 0}]), "shell  a ↵ b"),
        (tool("run_tests", "Run the checks", ok=False), "tests"),
        (tool("edit", "Edit a.py", show=[DIFF]), "edit  a.py  +2 −1"),
        (tool("read", "read", ok=False, why="invalid"), "read  not a valid call"),
        (tool("list", "List src", show=[{"type": "text", "text": "12 files"}]), "list  src  12 files"),
        (tool("\x1b[31mevil", "\x1b]0;x\x07y"), "evil  \\x1b]0;x\\x07y"),
    ],
)  # fmt: skip
def test_calls(data, said):
    assert words(calls.done(data)[0]) == said


def test_the_end_of_failing_output_is_shown_and_the_exit_line_is_not():
    text = "\n".join(f"line {n}" for n in range(30)) + "\nexit code 2"
    _, quote = calls.done(tool("shell", ok=False, text=text, show=[{"type": "exit", "code": 2}]))
    assert quote == Quote(tuple(f"line {n}" for n in range(22, 30)), above=22)
    assert len(calls.done(tool("shell", text=text, show=[{"type": "exit", "code": 0}]))) == 1
    verbose = calls.done(tool("shell", text=text, show=[{"type": "exit", "code": 0}]), verbose=True)
    assert len(verbose[1].rows) == 30


def test_an_error_shows_its_beginning():
    _, quote = calls.done(tool("edit", ok=False, text="error: old text not found in a.py\n1\n2\n3\n4"))
    assert quote == Quote(("old text not found in a.py", "1", "2"), below=2)


def test_diffs_are_numbered_and_bounded():
    diff = "--- a/x\n+++ b/x\n@@ -3,3 +3,3 @@ def f\n a\n-b\n+B\n c\n@@ -10 +10,2 @@\n+new\n"
    change = calls.parse_diff("x", diff)
    assert [(r.kind, r.number, r.text) for r in change.rows] == [
        (" ", 3, "a"), ("-", 4, "b"), ("+", 4, "B"), (" ", 5, "c"), ("…", 0, ""), ("+", 10, "new"),
    ]  # fmt: skip
    long = calls.parse_diff("x", "@@ -0,0 +1,99 @@\n" + "+x\n" * 99)
    assert (len(long.rows), long.more) == (calls.DIFF_ROWS, 99 - calls.DIFF_ROWS)


@given(st.text())
def test_any_diff_is_read(diff):
    assert isinstance(calls.parse_diff("x", "@@ -1 +1 @@\n" + diff), Change)


def run(failed=0, passed=0, ok=None, **more):
    ok = not failed if ok is None else ok
    counts = {"failed": failed, "passed": passed} if failed or passed else None
    return {
        "ok": ok,
        "status": "passed" if ok else "failed",
        "counts": counts,
        "exit_code": 0 if ok else 1,
        **more,
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (run(1, 3, seconds=0.4), "tests  1 failed, 3 passed  0.4s"),
        (run(0, 12), "tests  12 passed"),
        (run(0, 12, phase="round"), "tests  12 passed  checked by pool"),
        (run(ok=False), "tests  failed, exit 1"),
        (run(ok=True), "tests  passed"),
        (run(0, 3, ok=False), "tests  3 passed, failed, exit 1"),
        ({"ok": False, "status": "timeout"}, "tests  timed out"),
        ({"ok": False, "status": "none"}, "tests  no test ran"),
    ],
)
def test_checks(data, said):
    assert words(checks.done(data)[0]) == said


def test_failing_tests_are_named_and_the_rest_counted():
    names = {f"t{n}": "failed" for n in range(6)} | {"good": "passed"}
    assert checks.done(run(6, 1, tests=names))[1] == Quote(("t0", "t1", "t2", "t3"), below=2, tone="bad")
    assert checks.done(run(ok=False, text="a\n\nb"))[1] == Quote(("a", "b"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (run(3, 9), run(0, 12), "3 failing → all 12 passing"),
        (run(3, 9), run(1, 11), "3 failing → 1 failing, 11 passing"),
        (run(0, 12), run(0, 12), "12 passing → all 12 passing"),
        (run(1, 2), run(0, 3, counts={"passed": 3, "skipped": 1}), "1 failing → 3 passing, 1 skipped"),
        (run(ok=False, built=False), run(0, 3), "not run: the build fails → all 3 passing"),
        (run(ok=False), run(ok=True), "failing → passing"),
        (run(2, 1), None, "2 failing before, not decided since"),
        (None, run(0, 2), "all 2 passing"),
        (None, None, ""),
    ],
)
def test_before_and_after(before, after, said):
    assert checks.before_after(before, after) == said


def test_checks_that_a_call_ran_are_shown_once():
    shown = tool("run_tests", "Run the tests", show=[{"type": "checks", "status": "failed"}])
    begin = ("tool.started", {"id": "c"})
    assert len(say(begin, ("checks.done", run(0, 1, phase="tool")), ("tool.done", shown))) == 1
    assert len(say(begin, ("tool.done", shown))) == 1


def test_thought_is_shortened_and_words_are_not():
    long = "\n".join(f"line {n} of a long thought" for n in range(30))
    parts = [{"type": "think", "text": long}, {"type": "text", "text": long}, {"type": "call", "id": "c"}]
    thought, prose = say(("model.replied", {"message": {"role": "assistant", "parts": parts}}))
    assert isinstance(thought, Thought) and thought.text.startswith("line 0") and thought.more == 22
    assert prose == Prose(long)
    verbose, _ = say(("model.replied", {"message": {"parts": parts}}), verbose=True)
    assert verbose == Thought(long)


@given(st.text(st.sampled_from("a \n"), max_size=300), st.integers(1, 40))
def test_a_beginning_accounts_for_all_lines(text, limit):
    head, more = beginning(text, limit)
    assert len(head) <= limit
    assert (more > 0) == (len(" ".join(text.split())) > limit)


def test_a_cut_off_reply_is_said():
    assert any(
        isinstance(b, Note) for b in say(("model.replied", {"message": {"parts": []}, "finish": "length"}))
    )


def test_later_messages_of_a_person_are_shown_without_what_pool_added():
    first = ("turn.started", {"text": "<task>\nfirst\n</task>"})
    later = ("turn.started", {"text": "<changes>x</changes>\n\n<task>\nsecond\nline\n</task>"})
    assert say(first, later) == [Said("second\nline")]
    assert say(("steered", {"text": "stop", "source": "user"})) == [Said("stop")]
    assert say(("steered", {"text": "1\n2\n3\n4\n5\n6", "source": "user"})) == [
        Said("1\n2\n3\n4\n… 2 more lines")
    ]


START = ("run.started", {"checks": {"command": "t"}})


def end(status, files=1):
    return "run.ended", {
        "status": status,
        "why": "because",
        "patch": {"files": files, "added": 2, "removed": 1, "file": "/p"},
    }


@pytest.mark.parametrize(
    ("status", "files", "word", "commands"),
    [
        ("verified", 1, "VERIFIED", ["pool diff 4f2a", "pool apply 4f2a"]),
        ("verified", 0, "VERIFIED", []),
        ("not_verified", 1, "NOT VERIFIED", ["pool diff 4f2a", "pool resume 4f2a"]),
        ("interrupted", 0, "INTERRUPTED", ["pool resume 4f2a"]),
        ("usage", 0, "NOT RUN", ["pool doctor"]),
        ("model_failed", 0, "MODEL FAILED", ["pool doctor", "pool resume 4f2a"]),
        ("something_new", 0, "SOMETHING_NEW", ["pool resume 4f2a"]),
    ],
)
def test_the_end(status, files, word, commands):
    *_, verdict = say(START, end(status, files))
    assert isinstance(verdict, Verdict)
    assert verdict.word == word
    assert [command for command, _ in verdict.next] == commands
    assert dict(verdict.facts)["change"] == ("1 file  +2 −1" if files else "nothing was changed")
    assert ("why" in dict(verdict.facts)) == (status != "verified")
    assert say(START, end(status, files), next_steps=False)[-1].next == ()


def test_a_run_without_checks_says_that_nothing_was_verified():
    verdict = say(("run.started", {"checks": {"command": ""}}), end("unchecked"))[-1]
    assert dict(verdict.facts)["tests"] == "none, so nothing was verified"


def test_a_log_that_just_ends_says_so():
    *_, note = say(START)
    assert isinstance(note, Note) and "pool resume 4f2a" in note.text
    wording = Wording()
    wording.blocks(Event("r-4f2a", 1, 0.0, *START))
    (note,) = wording.rest(running=True)
    assert "still running" in note.text and "resume" not in note.text
    assert isinstance(say(START, end("verified"))[-1], Verdict)
    assert isinstance(say(START, end("verified"), ("run.resumed", {}))[-1], Note)
    assert say() == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m 00s"), (185, "3m 05s"), (3720, "1h 02m")],
)
def test_seconds(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(812, "812"), (7520, "7.5k"), (1000, "1k"), (32768, "33k"), (1_200_000, "1.2M")]
)
def test_counts(value, text):
    assert count(value) == text


def test_places_below_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert place("/home/ada/x") == "~/x"
    assert place("/home/adam/x") == "/home/adam/x"


def test_a_failed_step_is_marked():
    step = calls.done(tool(ok=False, text="error: no"))[0]
    assert isinstance(step, Step) and step.mark == "bad"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"text": "so far"}, "the conversation was summarised to make room"),
        (
            {"level": 1, "before": 5900, "after": 2700, "dropped": {str(n): "x" for n in range(12)}},
            "context made shorter: 5,900 → 2,700 tokens (12 results dropped)",
        ),
        (
            {"level": 2, "before": 5900, "after": 2700, "text": "x"},
            "context made shorter: 5,900 → 2,700 tokens (earlier work summed up)",
        ),
        (
            {"level": 3, "before": 2400, "after": 1700, "text": "x"},
            "context made shorter: 2,400 → 1,700 tokens (overview of the repository left out)",
        ),
    ],
)
def test_a_shorter_context_is_one_line(data, said):
    assert say(("compacted", data)) == [Note("info", said)]


def test_a_finding_without_a_place_has_no_empty_prefix():
    findings = [
        {"text": "no place"},
        {"path": "", "line": 0, "text": "none"},
        {"path": "a", "line": 0, "text": "b"},
    ]
    notes = say(START, ("tampering.found", {"findings": [*findings, {"path": "a", "line": 2, "text": "c"}]}))
    assert [note.text for note in notes[1:5]] == ["no place", "none", "a: b", "a:2: c"]
