"""Labels are those of SWE-bench 5, and what cannot be judged is said to be so.

`python -m tests.verdict.test_grade` records the answers of the package swebench anew, where it is installed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from poolcli.verdict.comparison import compare
from poolcli.verdict.grade import RUNNER, Grade, grade, rejected
from poolcli.verdict.results import OUTCOMES, Case, Results

RECORDED = Path(__file__).with_name("swebench-labels.jsonl")
#: Our outcome as SWE-bench's log parsers word it. It knows no unexpected pass; to the runner that is a pass.
STATUS = {
    "passed": "PASSED",
    "failed": "FAILED",
    "error": "ERROR",
    "skipped": "SKIPPED",
    "xfailed": "XFAIL",
    "xpassed": "PASSED",
}


def results(**outcomes: str) -> Results:
    return Results({test: Case(test, outcome) for test, outcome in outcomes.items()}, source="junit")


def maps(rng: random.Random) -> tuple[dict[str, str], dict[str, str]]:
    """A base and what came of it: sizes and shares vary so that every label is common."""
    ids = [f"a.py::t[{n}]" for n in range(rng.randrange(12))]
    bad, loss = rng.choice((0.0, 0.05, 0.3)), rng.choice((0.0, 0.02, 0.3))
    before = {test: rng.choice(OUTCOMES) for test in ids}
    after = {}
    for test in ids:
        if rng.random() < loss:
            continue  # it is gone
        good = rng.choice(("passed", "passed", "xfailed", "xpassed"))
        if before[test] in ("passed", "xfailed", "xpassed"):
            good = rng.choice((good, good, "skipped"))
        after[test] = rng.choice(OUTCOMES) if rng.random() < bad else good
        if before[test] in ("failed", "error") and rng.random() < 0.2:
            after[test] = rng.choice(OUTCOMES)
    for n in range(rng.randrange(3)):
        after[f"b.py::t{n}"] = rng.choice(OUTCOMES)
    return before, after


def lists(rng: random.Random, before: dict[str, str]) -> tuple[list[str], list[str]]:
    """A task's lists: mostly what the base says, now and then a test that is nowhere, or in both."""
    wanted = [test for test, outcome in before.items() if outcome in ("failed", "error")]
    kept = [test for test, outcome in before.items() if outcome in ("passed", "xfailed", "xpassed")]
    if rng.random() < 0.1:
        wanted.append("a.py::nowhere")
    if rng.random() < 0.05:
        kept.append("a.py::vanished")
    if wanted and rng.random() < 0.05:
        kept.append(wanted[0])
    return wanted, kept


def asked(grading: Any, after: dict[str, str], wanted: list[str], kept: list[str]) -> str:
    """What SWE-bench says."""
    said = grading.get_eval_tests_report(
        {test: STATUS[outcome] for test, outcome in after.items()},
        {"FAIL_TO_PASS": wanted, "PASS_TO_PASS": kept},
    )
    return grading.get_resolution_status(said).removeprefix("RESOLVED_")


def by_hand(before: dict[str, str], after: dict[str, str]) -> tuple[list[str], list[str]]:
    """The lists that a run without a task's lists goes by."""
    bad, good = ("failed", "error"), ("passed", "xfailed", "xpassed")
    wanted = [test for test in before if before[test] in bad]
    wanted += [test for test in after if after[test] in bad and before.get(test, "skipped") == "skipped"]
    return wanted, [test for test in before if before[test] in good]


@pytest.mark.slow
def test_ten_thousand_labels_are_those_of_swebench() -> None:
    grading = pytest.importorskip(
        "swebench.harness.grading",
        reason="needs the package swebench 5, in an environment of its own (docs/verdict.md); "
        "its recorded answers are tested without it",
    )
    rng = random.Random(5)
    seen = dict.fromkeys(("FULL", "PARTIAL", "NO"), 0)
    for _ in range(10_000):
        before, after = maps(rng)
        wanted, kept = lists(rng, before)
        label = compare(before, after, wanted=wanted, kept=kept).label
        assert label == asked(grading, after, wanted, kept), (before, after, wanted, kept)
        assert compare(before, after).label == asked(grading, after, *by_hand(before, after)), (before, after)
        seen[label] += 1
    assert min(seen.values()) > 1000, seen


def test_the_recorded_labels_of_swebench() -> None:
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    assert len(rows) == 300
    for row in rows:
        assert compare({}, row["after"], wanted=row["wanted"], kept=row["kept"]).label == row["label"], row
    assert {row["label"] for row in rows} == {"FULL", "PARTIAL", "NO"}


# before, after -> where the one test ends up
@pytest.mark.parametrize(
    ("before", "after", "group"),
    [
        ("failed", "passed", "fail_to_pass"),
        ("error", "passed", "fail_to_pass"),
        ("failed", "xfailed", "fail_to_pass"),
        ("failed", "skipped", "fail_to_fail"),
        ("failed", "error", "fail_to_fail"),
        ("error", None, "fail_to_fail"),
        ("passed", "passed", "pass_to_pass"),
        ("passed", "skipped", "pass_to_pass"),
        ("xfailed", "xpassed", "pass_to_pass"),
        ("passed", "failed", "pass_to_fail"),
        ("passed", "error", "pass_to_fail"),
        ("xpassed", None, "pass_to_fail"),
        ("skipped", "passed", ""),
        ("skipped", None, ""),
        ("skipped", "failed", "fail_to_fail"),
        (None, "failed", "fail_to_fail"),
        (None, "passed", ""),
        (None, "skipped", ""),
    ],
)
def test_where_a_test_ends_up(before: str | None, after: str | None, group: str) -> None:
    found = compare({"t": before} if before else {}, {"t": after} if after else {})
    groups = ("fail_to_pass", "pass_to_pass", "pass_to_fail", "fail_to_fail")
    assert [name for name in groups if "t" in getattr(found, name)] == ([group] if group else [])
    assert found.gone == (("t",) if after is None else ())
    assert found.new == (("t",) if before is None else ())
    assert found.skipped == (("t",) if (before, after) == ("passed", "skipped") else ())
    assert found.unproved == (("t",) if (before, after) == (None, "passed") else ())


def test_new_tests_count_only_when_they_fail_on_the_base() -> None:
    before = {"old": "passed"}
    after = before | {"proves": "passed", "says nothing": "passed", "not tried": "passed", "breaks": "failed"}
    found = compare(
        before, after, new_on_base={"proves": "failed", "says nothing": "passed", "breaks": "passed"}
    )
    assert found.fail_to_pass == ("proves",)
    assert found.unproved == ("not tried", "says nothing")
    assert found.pass_to_fail == ("breaks",)
    # Where the task names its tests, those alone count.
    found = compare(before, after, wanted=["old"], kept=[], new_on_base={"proves": "failed"})
    assert (found.fail_to_pass, found.pass_to_fail, found.label) == (("old",), (), "FULL")


def test_flaky_tests_count_for_nothing() -> None:
    before, after = results(a="failed", b="passed", c="failed"), results(a="passed", b="failed", c="failed")
    assert grade(before, after).label == "NO"
    assert grade(before, after, flaky=["b"]).label == "PARTIAL"
    done = grade(before, after, flaky=["b", "c", "unheard of"])
    assert (done.label, done.flaky, done.valid) == ("FULL", ("b", "c"), True)
    nothing = grade(before, after, flaky=["a", "b", "c"])
    assert (nothing.valid, nothing.reason, nothing.label, nothing.reward) == (False, "flaky base", "NO", 0.0)
    assert nothing.flaky == ("a", "b", "c")


FIXED = (results(a="failed", b="passed"), results(a="passed", b="passed"))


def replaced(given: Results, **changes: Any) -> Results:
    from msgspec.structs import replace

    return replace(given, **changes)


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (grade(*FIXED, timed_out=True), "timeout"),
        (grade(FIXED[0], replaced(FIXED[1], hung="a")), "timeout"),
        (grade(FIXED[0], replaced(FIXED[1], crashed="out of memory (killed)")), "out of memory"),
        (grade(replaced(FIXED[0], crashed="out of memory"), FIXED[1]), "out of memory"),
        (grade(*FIXED, infrastructure="the disk is full"), "infrastructure"),
        (grade(FIXED[0], Results()), "recipe"),
        (grade(Results(), FIXED[1]), "recipe"),
        (grade(FIXED[0], replaced(FIXED[1], problem="exit code 1, and no test failed")), "recipe"),
        (grade(replaced(FIXED[0], problem="the report stops"), FIXED[1]), "recipe"),
    ],
)
def test_what_cannot_be_judged_says_why_and_is_never_full(done: Grade, reason: str) -> None:
    assert (done.valid, done.reason, done.label, done.reward) == (False, reason, "NO", 0.0)
    assert done.why and not done.resolved


def test_a_task_with_lists_of_its_own_needs_no_base() -> None:
    assert grade(Results(), FIXED[1], wanted=["a"], kept=["b"]).resolved
    assert not grade(Results(), FIXED[1], wanted=["a", "c"], kept=["b"]).resolved


def test_a_base_that_hung_or_crashed_is_a_base() -> None:
    hung = replaced(results(a="error", b="passed"), hung="a", problem="the report stops in the middle")
    after = results(a="passed", b="passed", never_came_to="passed")
    assert grade(hung, after).resolved
    assert grade(hung, after).comparison.unproved == ("never_came_to",)
    assert not grade(hung, results(a="passed", b="passed", never_came_to="failed")).resolved
    assert grade(replaced(hung, hung="", crashed="segmentation fault"), after).resolved


def test_a_runner_that_dies_after_the_last_test_is_a_regression() -> None:
    died = replaced(FIXED[1], crashed="segmentation fault")
    done = grade(FIXED[0], died)
    assert (done.valid, done.label, done.comparison.pass_to_fail) == (True, "NO", (RUNNER,))
    assert grade(replaced(FIXED[0], crashed="segmentation fault"), died).resolved  # it always did
    assert not grade(Results(), died, wanted=["a"], kept=["b"]).resolved


def test_a_rejected_change_is_judged_and_worth_nothing() -> None:
    done = rejected("the patch does not apply")
    assert (done.valid, done.label, done.reward, done.why) == (True, "NO", 0.0, "the patch does not apply")


def record() -> None:
    """Write what SWE-bench says of 300 cases, 100 of each label."""
    from swebench.harness import grading  # type: ignore[import-not-found]

    rng = random.Random(50)
    left = dict.fromkeys(("FULL", "PARTIAL", "NO"), 100)
    rows = []
    while any(left.values()):
        before, after = maps(rng)
        wanted, kept = lists(rng, before)
        label = asked(grading, after, wanted, kept)
        if left[label] and (wanted or kept):
            left[label] -= 1
            rows.append({"wanted": wanted, "kept": kept, "after": after, "label": label})
    RECORDED.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


if __name__ == "__main__":
    record()
