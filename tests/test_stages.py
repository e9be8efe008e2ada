"""What runs before everything: the failed and the affected tests, and when choosing is worth it."""

from __future__ import annotations

from pathlib import Path

from poolcli.stages import LEAST, Stages
from poolcli.verdict.evidence import Report
from poolcli.verdict.recipes.given import recognised
from poolcli.verdict.results import Case, Results

RECIPE = recognised("python -m pytest", "")


class Place:
    """A project on disk, and what of it was changed."""

    def __init__(self, root: Path, changed: list[str]) -> None:
        self.root, self._changed = root, changed

    def files(self) -> list[tuple[str, int]]:
        return [(str(path.relative_to(self.root)), 1) for path in sorted(self.root.rglob("*.py"))]

    def changed(self) -> list[str]:
        return self._changed


def project(root: Path) -> Path:
    for name, text in {
        "shop/__init__.py": "",
        "shop/cart.py": "def total(): ...\n",
        "shop/mail.py": "def send(): ...\n",
        "tests/test_cart.py": "from shop.cart import total\n",
        "tests/test_mail.py": "from shop.mail import send\n",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def report(outcomes: dict[str, str], seconds: float) -> Report:
    cases = {
        test: Case(test, outcome, seconds=seconds / len(outcomes), file=test.partition("::")[0])
        for test, outcome in outcomes.items()
    }
    return Report("failed", 1, seconds, None, outcomes, "", Results(cases))


def outcomes(**failed: str) -> dict[str, str]:
    tests = {f"tests/test_{name}.py::test_{n}": "passed" for name in ("cart", "mail") for n in range(10)}
    # Enough others that a handful of tests is worth choosing.
    tests |= {f"tests/test_other{n}.py::test_x": "passed" for n in range(100)}
    return tests | dict.fromkeys(failed.values(), "failed")


def learned(root: Path, changed: list[str], seconds: float, **failed: str) -> Stages:
    stages = Stages(Place(project(root), changed), RECIPE)
    tests = outcomes(**failed)
    stages.learn(tests, seconds, chosen=False, report=report(tests, seconds))
    return stages


def test_what_failed_comes_first_and_then_what_lies_near(tmp_path: Path) -> None:
    stages = learned(tmp_path, ["shop/cart.py"], 100.0, one="tests/test_mail.py::test_3")
    failed, near = stages.plan()
    assert failed == ("tests/test_mail.py::test_3",)
    assert set(near) == {f"tests/test_cart.py::test_{n}" for n in range(10)}


def test_what_failed_since_everything_ran_stays_among_the_first(tmp_path: Path) -> None:
    stages = learned(tmp_path, ["shop/cart.py"], 100.0)
    stages.learn({"tests/test_cart.py::test_1": "failed"}, 1.0, chosen=True, report=None)
    stages.learn({"tests/test_cart.py::test_1": "passed"}, 1.0, chosen=True, report=None)
    assert stages.plan()[0] == ("tests/test_cart.py::test_1",)


def test_a_quick_suite_is_always_run_whole(tmp_path: Path) -> None:
    assert learned(tmp_path, ["shop/cart.py"], 1.0, one="tests/test_mail.py::test_3").plan() == ()


def test_nothing_is_chosen_without_a_way_to_choose(tmp_path: Path) -> None:
    stages = Stages(Place(project(tmp_path), ["shop/cart.py"]), recognised("make check", ""))
    tests = outcomes(one="tests/test_mail.py::test_3")
    stages.learn(tests, 100.0, chosen=False, report=report(tests, 100.0))
    assert stages.plan() == ()


def test_chosen_tests_have_a_limit_of_their_own(tmp_path: Path) -> None:
    assert learned(tmp_path, [], 1.0).limit == LEAST
    assert learned(tmp_path, [], 100.0).limit == 500.0
