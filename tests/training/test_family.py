"""The synthetic family: every instance is what it claims to be."""

from random import Random

import pytest

from training.checks import run_checks
from training.family import SPLITS, make_instance
from training.kinds import HELD_KINDS, KINDS
from training.names import HELD_WORDS


@pytest.mark.parametrize("split", ["train", *SPLITS])
def test_instances_fail_as_they_are_and_pass_when_repaired(split):
    random = Random(f"test {split}")
    for _ in range(12):
        instance = make_instance(random, split)
        before = run_checks(instance.files, instance.module, instance.test)
        after = run_checks(instance.files | {instance.module: instance.fixed}, instance.module, instance.test)
        assert before.status == "failed"
        assert after.status == "passed"


@pytest.mark.parametrize("split", ["train", *SPLITS])
def test_bugs_are_whole_lines_and_each_is_needed(split):
    random = Random(f"lines {split}")
    for _ in range(12):
        instance = make_instance(random, split)
        lines = instance.source.split("\n")
        for bug in instance.bugs:
            assert lines[bug.line] == bug.bad
            lines[bug.line] = bug.good
            green = run_checks(
                instance.files | {instance.module: "\n".join(lines)}, instance.module, instance.test
            ).ok
            assert green == (bug is instance.bugs[-1])
        assert "\n".join(lines) == instance.fixed


def test_number_of_bugs_is_as_the_split_says():
    random = Random(1)
    assert {len(make_instance(random, "one").bugs) for _ in range(20)} == {1}
    assert {len(make_instance(random, "two").bugs) for _ in range(20)} == {2}
    assert {len(make_instance(random).bugs) for _ in range(40)} == {1, 2}


def test_training_never_shows_what_is_held_back():
    random = Random(2)
    marks = {kind.name: kind.body[0].split("{")[0] for kind in KINDS if kind.name in HELD_KINDS}
    assert set(marks) == HELD_KINDS
    for _ in range(300):
        instance = make_instance(random)
        assert all(bug.kind not in HELD_KINDS for bug in instance.bugs)
        words = set(instance.source.replace("_", " ").replace("(", " ").split())
        assert words.isdisjoint(HELD_WORDS)


def test_the_same_seed_gives_the_same_instances():
    first, second = Random(3), Random(3)
    assert [make_instance(first) for _ in range(5)] == [make_instance(second) for _ in range(5)]
