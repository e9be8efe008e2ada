"""The grade of a run from its log."""

from __future__ import annotations

from typing import Any

from poolcli.events import Event
from poolcli.grading import grade


def done(phase: str, tests: dict[str, str], **more: Any) -> Event:
    failed = any(outcome == "failed" for outcome in tests.values())
    data = {
        "phase": phase,
        "command": "make check",
        "status": "failed" if failed else "passed",
        "tests": tests,
    }
    return Event("r", 1, 0.0, "checks.done", data | more)


def test_before_and_after() -> None:
    found = grade(
        [done("baseline", {"a": "failed", "b": "passed"}), done("round", {"a": "passed", "b": "passed"})]
    )
    assert found is not None
    assert (found["label"], found["valid"], found["reward"]) == ("FULL", True, 0.9)
    assert (found["fail_to_pass"], found["pass_to_pass"]) == (["a"], ["b"])


def test_a_regression_is_no_and_worth_little() -> None:
    found = grade(
        [done("baseline", {"a": "failed", "b": "passed"}), done("round", {"a": "passed", "b": "failed"})]
    )
    assert found is not None and found["label"] == "NO" and found["reward"] < 0.5
    assert found["pass_to_fail"] == ["b"]


def test_chosen_tests_do_not_count() -> None:
    events = [
        done("baseline", {"a": "failed", "b": "failed"}),
        done("round", {"a": "passed", "b": "failed"}),
        done("round", {"b": "passed"}, chosen=1),
    ]
    found = grade(events)
    assert found is not None and found["label"] == "PARTIAL"


def test_without_names_the_command_is_the_test() -> None:
    before, after = done("baseline", {}, status="failed"), done("verdict", {})
    found = grade([before, after])
    assert found is not None and found["fail_to_pass"] == ["make check"]


def test_names_on_one_side_only_cannot_be_compared() -> None:
    found = grade([done("baseline", {}, status="failed"), done("round", {"a": "passed"})])
    assert found is not None and (found["valid"], found["reason"]) == (False, "recipe")


def test_a_time_out_says_nothing_of_the_change() -> None:
    found = grade([done("baseline", {"a": "failed"}), done("round", {}, status="timeout", hung="a")])
    assert found is not None and (found["valid"], found["reason"]) == (False, "timeout")


def test_tampering_is_worth_nothing() -> None:
    tampered = Event("r", 3, 0.0, "tampering.found", {"findings": [{"severity": "high"}]})
    found = grade([done("baseline", {"a": "failed"}), done("round", {"a": "passed"}), tampered])
    assert found is not None and (found["label"], found["reward"]) == ("NO", 0.0)


def test_unsteady_tests_are_left_out() -> None:
    events = [
        done("baseline", {"a": "failed", "b": "passed"}),
        done("verdict", {"a": "passed", "b": "failed"}, flaky=["b"], status="passed"),
    ]
    found = grade(events)
    assert found is not None and (found["label"], found["flaky"]) == ("FULL", ["b"])


def test_no_grade_without_both_sides() -> None:
    assert grade([]) is None
    assert grade([done("baseline", {"a": "failed"})]) is None
