"""Before and after a change, test by test, and the label that follows from it. Pure.

What counts is what SWE-bench 5 counts. A test that is *wanted* (it failed before, or the task names it) has to pass;
a skip is not a pass. A test that is *kept* (it passed before, or the task names it) must not fail or vanish; a skip
is no regression. An expected failure is a pass, an error is a failure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from msgspec import Struct

Label = Literal["FULL", "PARTIAL", "NO"]

#: Outcomes that count as a pass. `xpassed` is one that the runner was content with: strict runners say `failed`.
PASSING = frozenset({"passed", "xfailed", "xpassed"})
SKIPPED = "skipped"


class Comparison(Struct, frozen=True):
    """What became of each test that counts, each group sorted by id.

    The first four are what counts. `pass_to_pass` holds the kept tests that are skipped now, `skipped` names them
    once more. `gone` are tests of before that have no result now: each also stands in `pass_to_fail` or
    `fail_to_fail` when it counted. `new` are tests that before does not have, of which those that are proved to fail
    on the base also stand in `fail_to_pass`; `unproved` are those that pass now and say nothing, because they pass
    on the base too or were not tried there. `flaky` were left out.
    """

    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    pass_to_fail: tuple[str, ...] = ()
    fail_to_fail: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()

    @property
    def wanted(self) -> int:
        """How many tests the change has to make pass."""
        return len(self.fail_to_pass) + len(self.fail_to_fail)

    @property
    def label(self) -> Label:
        """FULL, PARTIAL or NO, as SWE-bench 5 says it.

        FULL: everything wanted passes and everything kept is kept. PARTIAL: some of what is wanted passes, and
        everything kept is kept. NO: all else. Where nothing is wanted, nothing is missing: keeping is enough.
        """
        if self.pass_to_fail:
            return "NO"
        if not self.fail_to_fail:
            return "FULL"
        return "PARTIAL" if self.fail_to_pass else "NO"


def compare(
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    wanted: Iterable[str] | None = None,
    kept: Iterable[str] | None = None,
    new_on_base: Mapping[str, str] | None = None,
    flaky: Collection[str] = (),
) -> Comparison:
    """Compare the outcomes by test id of the base with those after the change.

    `wanted` and `kept` are the lists of a task that comes with them; then no other test counts, new ones neither.
    Without them wanted is what failed before, kept is what passed before, and tests that were skipped before count
    for nothing as long as they do not fail now.

    `new_on_base` are outcomes on the base of tests that the change brings: the changed test files run on the old
    code. One that fails there is wanted; one that passes there and fails now is a regression; one that was not
    tried there proves nothing when it passes and is a failure when it fails. `flaky` tests count for nothing.
    """
    flaky = frozenset(flaky)
    on_base = new_on_base or {}
    new = after.keys() - before.keys()
    must, keep = set(wanted or ()), set(kept or ())
    if wanted is None:
        must = {test for test, outcome in before.items() if _failed(outcome)}
        # Fails now and never passed: also what was skipped before, or is new and was not tried on the base.
        must |= {
            test
            for test in after
            if _failed(after[test]) and before.get(test, on_base.get(test, SKIPPED)) == SKIPPED
        }
        must |= {test for test in new if test in on_base and _failed(on_base[test])}
    if kept is None:
        keep = {test for test, outcome in before.items() if outcome in PASSING} - must
        if wanted is None:
            # Passing new tests are not kept ones: a hundred of them would say nothing about what was there.
            keep |= {test for test in new if on_base.get(test) in PASSING and _failed(after[test])}
    # A task may name a test twice; what it wants is the stricter of the two.
    left_out = (must | keep) & flaky
    must, keep = must - flaky, keep - flaky
    solved = {test for test in must if after.get(test) in PASSING}
    held = {test for test in keep if after.get(test) in PASSING or after.get(test) == SKIPPED}
    return Comparison(
        fail_to_pass=_sorted(solved),
        pass_to_pass=_sorted(held),
        pass_to_fail=_sorted(keep - held),
        fail_to_fail=_sorted(must - solved),
        gone=_sorted((before.keys() | must | keep) - after.keys() - flaky),
        new=_sorted(new),
        skipped=_sorted(test for test in held if after[test] == SKIPPED),
        unproved=_sorted(test for test in new - must - keep - flaky if after[test] in PASSING),
        flaky=_sorted(left_out),
    )


def _failed(outcome: str) -> bool:
    return outcome not in PASSING and outcome != SKIPPED


def _sorted(tests: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(tests))
