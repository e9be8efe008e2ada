"""The grade of a change: its label, its reward, and whether it could be judged at all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from poolcli.verdict.comparison import Comparison, Label, compare
from poolcli.verdict.results import Results
from poolcli.verdict.reward import Refinement, reward

#: Why a change could not be judged; '' when it could.
Reason = Literal["", "timeout", "out of memory", "infrastructure", "flaky base", "recipe"]

#: Stands for the runner itself, which is a test of its own: it has to come to its end.
RUNNER = "(test runner)"


class Grade(Struct, frozen=True):
    """What is to be thought of a change.

    `valid` is False when it could not be judged; then `reason` says why, the label is NO and the reward 0.0, and
    neither says anything of the change: a trainer leaves the sample out. `why` is one sentence for people. `flaky`
    are the tests that were left out.
    """

    label: Label
    valid: bool = True
    reason: Reason = ""
    reward: float = 0.0
    comparison: Comparison = field(default_factory=Comparison)
    flaky: tuple[str, ...] = ()
    why: str = ""

    @property
    def resolved(self) -> bool:
        """Judged, and FULL."""
        return self.valid and self.label == "FULL"


def outcomes(results: Results) -> dict[str, str]:
    """Test id to outcome."""
    return {case.id: case.outcome for case in results.cases.values()}


def grade(
    before: Results,
    after: Results,
    *,
    wanted: Iterable[str] | None = None,
    kept: Iterable[str] | None = None,
    new_on_base: Mapping[str, str] | None = None,
    flaky: Collection[str] = (),
    timed_out: bool = False,
    infrastructure: str = "",
    refinement: Refinement | None = None,
    weights: Mapping[str, float] | None = None,
) -> Grade:
    """Grade a change that applies and builds by what its tests said on the base and say now.

    `wanted`, `kept`, `new_on_base` and `flaky` are as in `compare`, `weights` as in `reward`. `timed_out` says that
    the time for the run after the change was over; `infrastructure` says in words what kept pool from running it
    (disk full, no sandbox), '' when nothing did.

    A base that hung or crashed is a base like any other, since that may be what the change mends: tests that it did
    not come to are unknown there and prove nothing. A base of which nothing could be read is not, unless the task
    names its tests.
    """
    named = wanted is not None and kept is not None
    if infrastructure:
        return unjudged("infrastructure", infrastructure)
    if timed_out or after.hung:
        where = f" in {after.hung}" if after.hung else ""
        return unjudged("timeout", f"the checks did not end in time{where}")
    for results, place in ((after, "after the change"), (before, "on the base")):
        if results is before and named:
            continue
        if "memory" in results.crashed.lower():
            return unjudged("out of memory", f"the checks ran out of memory {place}")
        started = results.cases and (results.crashed or results.hung)
        if not started and (results.problem or not results.cases):
            return unjudged("recipe", f"{place}: {results.problem or 'no test could be read'}")

    wanted = None if wanted is None else list(wanted)
    comparison = compare(
        outcomes(before), outcomes(after), wanted=wanted, kept=kept, new_on_base=new_on_base, flaky=flaky
    )
    if after.crashed and (named or not before.crashed):
        # Every test may have passed before the runner died: still nobody knows what would have come.
        comparison = replace(comparison, pass_to_fail=(*comparison.pass_to_fail, RUNNER))
    if not comparison.wanted and _was_wanted(comparison.flaky, outcomes(before), wanted):
        return replace(
            unjudged("flaky base", "every test that the change should make pass is unsteady on the base"),
            comparison=comparison,
            flaky=comparison.flaky,
        )
    return Grade(
        comparison.label,
        reward=reward(comparison, refinement, weights=weights),
        comparison=comparison,
        flaky=comparison.flaky,
        why=_why(comparison),
    )


def unjudged(reason: Reason, why: str) -> Grade:
    """A change that could not be judged."""
    return Grade("NO", valid=False, reason=reason, why=why)


def rejected(why: str) -> Grade:
    """A change that is worth nothing whatever its tests say: it does not apply, does not build, or tampers."""
    return Grade("NO", why=why)


def _was_wanted(flaky: Iterable[str], before: Mapping[str, str], wanted: Collection[str] | None) -> bool:
    if wanted is not None:
        return any(test in wanted for test in flaky)
    return any(before.get(test) in ("failed", "error") for test in flaky)


def _why(comparison: Comparison) -> str:
    fixed, wanted, broken = len(comparison.fail_to_pass), comparison.wanted, len(comparison.pass_to_fail)
    said = f"{fixed} of {wanted} failing tests pass now" if wanted else "no test failed before"
    if broken == 1:
        return f"{said}; 1 that passed fails now or is gone"
    return f"{said}; {broken or 'none'} that passed fail now or are gone"
