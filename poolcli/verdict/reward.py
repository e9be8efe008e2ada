"""One number for "more correct" and "less correct". Pure; docs/verdict.md has the formula with its reasons.

0                                            the patch does not apply, does not build, or tampers
(0.1 + 0.6 s) / 2^b                          not resolved: s of the wanted tests pass, b kept ones broke
0.8                                          resolved, but no test shows it: nothing was wanted
0.9 + 0.1 (0.2 l + 0.2 t + 0.3 c + 0.3 m)    resolved: lint, types, changed lines covered, mutants killed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from poolcli.verdict.comparison import Comparison

#: A patch that applies and builds and does nothing else is worth more than one that does not.
BUILDS = 0.1
#: What the wanted tests add before all of them pass. BUILDS + SOLVED stays clear of UNPROVED, so that no share of
#: solved tests comes near to solving the task.
SOLVED = 0.6
#: Each broken test halves what there is: one alone costs more than any refinement gives, five leave next to nothing.
PER_REGRESSION = 0.5
#: Nothing broken and nothing shown: above every unresolved change, below every one that a test speaks for.
UNPROVED = 0.8
#: Resolved, and a test shows it. What is above refines.
RESOLVED = 0.9
#: Parts of the top band; their sum is 1. What tests say of the change weighs more than what reads it.
LINT, TYPES, COVERAGE, MUTATION = 0.2, 0.2, 0.3, 0.3
#: What all tests that the change itself brings weigh together: as much as one test. Else writing many would count
#: for more than fixing what was asked for.
NEW_TESTS = 1.0


class Refinement(Struct, frozen=True):
    """How good a resolved change is, each from 0.0 to 1.0; None when it was not measured.

    `lint` and `types` see `cleanliness`. `coverage` is the share of the changed lines that the tests run, `mutation`
    that of the mutants of those lines that the tests notice. What was not measured adds nothing: else it would pay
    to keep it from being measured.
    """

    lint: float | None = None
    types: float | None = None
    coverage: float | None = None
    mutation: float | None = None

    @property
    def value(self) -> float:
        """0.0 to 1.0."""
        return (
            LINT * _unit(self.lint)
            + TYPES * _unit(self.types)
            + COVERAGE * _unit(self.coverage)
            + MUTATION * _unit(self.mutation)
        )


def reward(
    comparison: Comparison,
    refinement: Refinement | None = None,
    *,
    weights: Mapping[str, float] | None = None,
) -> float:
    """The reward of a change that applies and builds, from 0.0 to 1.0.

    `weights` are those of wanted tests, positive; those that are missing weigh as `by_test` says.
    """
    if comparison.label != "FULL":
        return (BUILDS + SOLVED * solved(comparison, weights)) * PER_REGRESSION ** len(
            comparison.pass_to_fail
        )
    if not comparison.wanted:
        return UNPROVED
    return RESOLVED + (1 - RESOLVED) * (refinement or Refinement()).value


def solved(comparison: Comparison, weights: Mapping[str, float] | None = None) -> float:
    """The weighted share of the wanted tests that pass now; 1.0 when none are wanted."""
    passing, failing = comparison.fail_to_pass, comparison.fail_to_fail
    new = frozenset(comparison.new)
    weigh = by_test((*passing, *failing)) | dict(weights or {})
    total = got = 0.0
    new_total = new_got = 0.0
    for tests, passes in ((passing, True), (failing, False)):
        for test in tests:
            if test in new:
                new_total += weigh[test]
                new_got += weigh[test] * passes
            else:
                total += weigh[test]
                got += weigh[test] * passes
    if new_total:
        total += NEW_TESTS
        got += NEW_TESTS * new_got / new_total
    return min(got / total, 1.0) if total else 1.0


def by_test(ids: Iterable[str]) -> dict[str, float]:
    """The weight of each id: the cases of one parametrised test share the weight 1."""
    tests = {test: _without_case(test) for test in ids}
    cases = Counter(tests.values())
    return {test: 1 / cases[name] for test, name in tests.items()}


def cleanliness(before: int, after: int) -> float:
    """What a linter or type checker says, as 0.0 to 1.0, by its numbers of complaints.

    1.0 when there are no more than on the base, else less with each: 1/2 for one more, 1/3 for two.
    """
    return 1 / (1 + max(after - before, 0))


def _without_case(test: str) -> str:
    """`test_x[1-a]` is a case of `test_x`. Other runners' ids are their own."""
    return test[: test.index("[")] if test.endswith("]") and "[" in test else test


def _unit(value: float | None) -> float:
    # `not >=` also catches what is no number.
    if value is None or not value >= 0:
        return 0.0
    return min(value, 1.0)
