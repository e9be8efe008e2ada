"""The grade of a run, from its log alone: what the checks said of the base, and what they say of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poolcli.events import Event
from poolcli.verdict.results import Case, Results


def grade(events: Sequence[Event]) -> dict[str, Any] | None:
    """The grade as `run.ended` and `result.json` hold it; None when the checks did not run before and after.

    The last run of all tests counts, in a fresh place where there was one. Chosen tests say too little.
    """
    done = [event.data for event in events if event.type == "checks.done" and not event.data.get("chosen")]
    before = next((data for data in done if data["phase"] == "baseline"), None)
    after = next((data for data in reversed(done) if data["phase"] in ("round", "verdict")), None)
    if before is None or after is None:
        return None
    from poolcli.verdict import grade as grades
    from poolcli.verdict.reward import Refinement

    # The last of each: what was mended counts.
    extra = {data["name"]: data for data in done if data["phase"] == "extra"}
    # Of a command that names no test, before and after, the command itself is the test.
    unnamed = not before.get("built", True) or (not before["tests"] and not after["tests"])
    found = grades.grade(
        _results(before, unnamed=unnamed),
        _results(after, unnamed=unnamed),
        flaky=[test for data in done for test in data.get("flaky") or ()],
        timed_out=after["status"] == "timeout",
        refinement=Refinement(lint=_share(extra.get("lint")), types=_share(extra.get("types"))),
    )
    if not after.get("built", True):
        found = grades.rejected("the change does not build")
    elif found.label == "FULL" and after["status"] != "passed":
        why = after.get("problem") or f"the checks ended with {after['status']}, though no test failed"
        found = grades.unjudged("recipe", why)
    tampering = (event.data["findings"] for event in reversed(events) if event.type == "tampering.found")
    if any(finding["severity"] == "high" for finding in next(tampering, [])):
        found = grades.rejected("the change tampers with what judges it")
    comparison = found.comparison
    return {
        "label": found.label,
        "valid": found.valid,
        "reason": found.reason,
        "reward": round(found.reward, 6),
        "why": found.why,
        "fail_to_pass": list(comparison.fail_to_pass),
        "pass_to_pass": list(comparison.pass_to_pass),
        "pass_to_fail": list(comparison.pass_to_fail),
        "fail_to_fail": list(comparison.fail_to_fail),
        "flaky": list(found.flaky),
    }


def _share(data: Mapping[str, Any] | None) -> float | None:
    return data["share"] if data is not None else None


def _results(data: Mapping[str, Any], *, unnamed: bool) -> Results:
    """What a `checks.done` says test by test."""
    tests: Mapping[str, str] = data["tests"]
    if unnamed and data["status"] in ("passed", "failed"):
        tests = {data["command"]: data["status"]}
    problem = (
        "" if tests else data.get("problem") or f"no test by name; the checks ended with {data['status']}"
    )
    return Results(
        {test: Case(test, outcome) for test, outcome in tests.items()},
        problem=problem,
        hung=data.get("hung", ""),
        crashed=data.get("crashed", ""),
    )
