"""The reward is monotone: what is more correct never earns less."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poolcli.verdict.comparison import Comparison, compare
from poolcli.verdict.reward import (
    RESOLVED,
    UNPROVED,
    Refinement,
    by_test,
    cleanliness,
    reward,
    solved,
)

IDS = [*(f"t.py::test_p[{n}]" for n in range(4)), *(f"t.py::test_{n}" for n in range(8))]
parts = st.none() | st.floats(0, 1)
refinements = st.builds(Refinement, lint=parts, types=parts, coverage=parts, mutation=parts)
weighings = st.none() | st.dictionaries(st.sampled_from(IDS), st.floats(0.01, 100))


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    places = draw(st.lists(st.sampled_from("FSPB-"), min_size=len(IDS), max_size=len(IDS)))
    put = {
        place: tuple(t for t, its in zip(IDS, places, strict=True) if its == place) for place in set(places)
    }
    wanted = [*put.get("F", ()), *put.get("S", ())]
    return Comparison(
        fail_to_fail=put.get("F", ()),
        fail_to_pass=put.get("S", ()),
        pass_to_pass=put.get("P", ()),
        pass_to_fail=put.get("B", ()),
        new=tuple(draw(st.sets(st.sampled_from(wanted)))) if wanted else (),
    )


@given(comparisons(), refinements, weighings)
def test_it_is_between_zero_and_one_and_the_label_decides_the_band(
    comparison: Comparison, refinement: Refinement, weights: dict[str, float] | None
) -> None:
    got = reward(comparison, refinement, weights=weights)
    if comparison.label != "FULL":
        assert 0 < got < UNPROVED
    elif comparison.wanted:
        assert RESOLVED <= got <= 1
    else:
        assert got == UNPROVED


@given(comparisons(), comparisons(), refinements, refinements, weighings)
def test_resolved_is_above_unresolved(
    one: Comparison,
    other: Comparison,
    better: Refinement,
    worse: Refinement,
    weights: dict[str, float] | None,
) -> None:
    if one.label == "FULL" and other.label != "FULL":
        assert reward(one, weights=weights) > reward(other, better, weights=weights)
        assert reward(one, worse, weights=weights) >= reward(one, weights=weights)


@given(comparisons(), refinements, weighings, st.data())
def test_solving_one_more_never_lowers_it(
    comparison: Comparison, refinement: Refinement, weights: dict[str, float] | None, data: st.DataObject
) -> None:
    if not comparison.fail_to_fail:
        return
    test = data.draw(st.sampled_from(comparison.fail_to_fail))
    more = replace(
        comparison,
        fail_to_fail=tuple(t for t in comparison.fail_to_fail if t != test),
        fail_to_pass=(*comparison.fail_to_pass, test),
    )
    assert reward(more, refinement, weights=weights) > reward(comparison, refinement, weights=weights)


@given(comparisons(), refinements, weighings, st.data())
def test_breaking_one_more_always_lowers_it_by_half_at_least(
    comparison: Comparison, refinement: Refinement, weights: dict[str, float] | None, data: st.DataObject
) -> None:
    if not comparison.pass_to_pass:
        return
    test = data.draw(st.sampled_from(comparison.pass_to_pass))
    worse = replace(
        comparison,
        pass_to_pass=tuple(t for t in comparison.pass_to_pass if t != test),
        pass_to_fail=(*comparison.pass_to_fail, test),
    )
    before = reward(comparison, refinement, weights=weights)
    assert reward(worse, refinement, weights=weights) <= before / 2


@given(
    comparisons(), refinements, st.sampled_from(["lint", "types", "coverage", "mutation"]), st.floats(0, 1)
)
def test_a_better_refinement_never_lowers_it_and_measuring_never_costs(
    comparison: Comparison, refinement: Refinement, name: str, value: float
) -> None:
    now = getattr(refinement, name)
    better = replace(refinement, **{name: value if now is None else max(now, value)})
    assert reward(comparison, better) >= reward(comparison, refinement)
    if comparison.label != "FULL":
        assert reward(comparison, better) == reward(comparison)  # refinements are for what is resolved


@given(comparisons(), st.integers(1, 300))
def test_many_new_tests_do_not_stand_for_what_was_asked(comparison: Comparison, number: int) -> None:
    if not comparison.fail_to_fail or set(comparison.new):
        return
    new = tuple(f"mine.py::test_{n}" for n in range(number))
    padded = replace(comparison, fail_to_pass=(*comparison.fail_to_pass, *new), new=new)
    one = replace(comparison, fail_to_pass=(*comparison.fail_to_pass, new[0]), new=new[:1])
    assert math.isclose(reward(padded), reward(one))
    assert reward(padded) >= reward(comparison)


def test_the_formula_by_hand() -> None:
    half = Comparison(fail_to_pass=("a",), fail_to_fail=("b",), pass_to_pass=("c", "d"))
    assert math.isclose(reward(half), 0.1 + 0.6 * 0.5)
    assert math.isclose(
        reward(replace(half, pass_to_pass=("c",), pass_to_fail=("d",))), (0.1 + 0.6 * 0.5) / 2
    )
    done = Comparison(fail_to_pass=("a", "b"), pass_to_pass=("c", "d"))
    assert math.isclose(reward(done), 0.9)
    assert math.isclose(reward(done, Refinement(1, 0.5, 1, 0.5)), 0.9 + 0.1 * (0.2 + 0.1 + 0.3 + 0.15))
    assert math.isclose(reward(done, Refinement(1, 1, 1, 1)), 1.0)
    assert reward(Comparison(pass_to_pass=("c",)), Refinement(1, 1, 1, 1)) == 0.8
    # All solved and one test broken is worth less than nothing solved and nothing broken would be with a half solved.
    assert math.isclose(reward(replace(done, pass_to_fail=("e",))), 0.35)


def test_cases_of_a_parametrised_test_share_its_weight() -> None:
    cases = tuple(f"t.py::test_p[{n}-[x]]" for n in range(10))
    assert by_test([*cases, "t.py::test_q"]) == dict.fromkeys(cases, 0.1) | {"t.py::test_q": 1.0}
    assert math.isclose(solved(Comparison(fail_to_pass=cases, fail_to_fail=("t.py::test_q",))), 0.5)
    assert math.isclose(
        solved(Comparison(fail_to_pass=cases, fail_to_fail=("t.py::test_q",)), {"t.py::test_q": 3.0}), 0.25
    )
    # Not every bracket is a case.
    assert by_test(["a > reads [1", "list[0] > works"]) == {"a > reads [1": 1.0, "list[0] > works": 1.0}


@pytest.mark.parametrize(("before", "after", "value"), [(0, 0, 1), (5, 3, 1), (5, 6, 1 / 2), (0, 3, 1 / 4)])
def test_cleanliness_is_about_what_the_change_brings(before: int, after: int, value: float) -> None:
    assert cleanliness(before, after) == value


def test_what_is_no_number_refines_nothing() -> None:
    done = compare({"a": "failed"}, {"a": "passed"})
    assert reward(done, Refinement(math.nan, -1.0, None, math.nan)) == RESOLVED
    assert reward(done, Refinement(9.0, 9.0, 9.0, math.inf)) == 1.0
