"""A mutant meets the tests near its file first, and all the others only when those notice nothing."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from pathlib import Path

import pytest

from poolcli import process
from poolcli.verdict import imports
from poolcli.verdict.mutants import Scratch, strength
from poolcli.verdict.near_tests import hasty, near_tests
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import Case

PYTEST = Recipe("pytest", "", f"'{sys.executable}' -m pytest -q -p no:cacheprovider", "", report_kind="junit")
FILES = {
    "shop/__init__.py": "",
    "shop/tax.py": "def tax(x):\n    return x + 2\n",
    "shop/cart.py": "def total(x):\n    return x * 2\n",
    "tests/test_tax.py": "from shop.tax import tax\n\ndef test_tax():\n    assert tax(1) > 1\n",
    "tests/test_cart.py": "from shop.cart import total\n\ndef test_total():\n    assert total(3) == 6\n",
    # The module's name is put together, so that no reader of imports sees it.
    "tests/test_exact.py": "def test_all():\n    import importlib\n"
    "    assert importlib.import_module('sh' 'op.tax').tax(1) == 3\n",
}
CASES = {
    "tests/test_tax.py::test_tax": Case("tests/test_tax.py::test_tax", "passed", seconds=0.1),
    "tests/test_cart.py::test_total": Case("tests/test_cart.py::test_total", "passed", seconds=0.1),
    "tests/test_exact.py::test_all": Case("tests/test_exact.py::test_all", "passed", seconds=9.0),
}


def project(root: Path, files: dict[str, str] = FILES) -> imports.Graph:
    for path, text in files.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return imports.build(root, files)


def test_which_tests_are_near(tmp_path):
    graph = project(tmp_path)
    found = near_tests(CASES, lambda test: PYTEST, graph, ["shop/tax.py", "shop/cart.py"], whole=9.5)
    assert found == {
        "shop/tax.py": hasty(PYTEST, f"{PYTEST.command} tests/test_tax.py"),
        "shop/cart.py": hasty(PYTEST, f"{PYTEST.command} tests/test_cart.py"),
    }


def test_when_all_tests_are_the_better_start(tmp_path):
    graph = project(tmp_path)

    def find(cases=CASES, source=lambda test: PYTEST, path="shop/tax.py", whole=9.5):
        return near_tests(cases, source, graph, [path], whole=whole)

    dear = {
        **CASES,
        "tests/test_tax.py::test_tax": Case("tests/test_tax.py::test_tax", "passed", seconds=20.0),
    }
    assert find(cases=dear) == {}
    assert find(whole=100.0) == {}  # nearly all of it is the start
    assert find(path="shop/new.py") == {} and find(cases={}) == {}
    assert find(source=lambda test: None) == {}
    assert find(source=lambda test: Recipe("make", "", "make check", "")) == {}


def test_many_recipes_are_joined(tmp_path):
    graph = project(tmp_path)
    other = Recipe("unittest", "", f"'{sys.executable}' -m unittest", "")
    cases = {**CASES, "tests.test_tax.T.test_two": Case("tests.test_tax.T.test_two", "passed", seconds=0.1)}
    found = near_tests(
        cases, lambda test: PYTEST if "::" in test else other, graph, ["shop/tax.py"], whole=9.5
    )
    first, _, second = found["shop/tax.py"].partition(" && ")
    assert "tests/test_tax.py" in first and "test_tax.T.test_two" in second
    assert first[0] == second[0] == "(" and first[-1] == second[-1] == ")"


def tried(root: Path, *, near: bool, paths=("shop/tax.py", "shop/cart.py"), files=FILES) -> tuple:
    """What came of all mutants, and which commands ran."""
    graph, ran = project(root, files), []

    async def command(timeout: float, *, text: str, name: str) -> process.Finished:
        ran.append(name)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        return await process.run(["sh", "-c", text], cwd=root, env=environment, timeout=timeout)

    first = near_tests(CASES, lambda test: PYTEST, graph, paths, whole=9.5) if near else {}
    run = Scratch(
        root,
        functools.partial(command, text=hasty(PYTEST, PYTEST.command), name="all"),
        timeout=60,
        near={path: functools.partial(command, text=text, name=path) for path, text in first.items()},
    )
    sources = {path: files[path] for path in paths}
    return asyncio.run(strength(sources, {path: {2} for path in paths}, run, most=99)), ran


def test_only_who_is_not_noticed_meets_all(tmp_path):
    found, ran = tried(tmp_path, near=True)
    plainly, plain = tried(tmp_path, near=False)
    assert (found.killed, found.tried, found.survivors) == (plainly.killed, plainly.tried, plainly.survivors)
    assert found.problem == "" and found.tried == 6 and found.killed == 6
    # All tests once before and once after, and for `x + 3`, which only the last of them notices.
    assert ran.count("all") == 3 and plain.count("all") == 8
    # Near by: each mutant, and once without any for each file, so that what fails anyway is not taken for notice.
    assert ran.count("shop/tax.py") == 4 and ran.count("shop/cart.py") == 4


def test_tests_that_fail_by_themselves_are_not_believed(tmp_path):
    """They need another to have run before them: what they say alone is nothing, and all are asked instead."""
    files = {
        **FILES,
        "tests/test_cart.py": "import sys\nfrom shop.cart import total\n\n"
        "def test_total():\n    sys.order = 1\n    assert total(3) == 6\n",
        "tests/test_tax.py": "import sys\nfrom shop.tax import tax\n\n"
        "def test_tax():\n    assert sys.order and tax(1) > 1\n",
    }
    found, ran = tried(tmp_path, near=True, paths=("shop/tax.py",), files=files)
    assert found.problem == "" and found.tried == 3
    # Tried with the first mutant and then without; from there on all tests, for every mutant.
    assert ran.count("shop/tax.py") == 2 and ran.count("all") == 5


@pytest.mark.parametrize(
    "recipe", [Recipe("go", "", "go test ./...", ""), Recipe("make", "", "make check", "")]
)
def test_runners_that_cannot_be_told_run_on(recipe):
    assert hasty(recipe, recipe.command) == recipe.command


def test_pytest_stops_at_the_first_failure(tmp_path):
    (tmp_path / "test_a.py").write_text("def test_a(): assert 0\ndef test_b(): assert 0\n")
    for command in (PYTEST.command, PYTEST.selecting(["test_a.py"])):

        async def run(text: str) -> process.Finished:
            environment = {"PATH": os.environ["PATH"], "PYTEST_ADDOPTS": "-v"}
            return await process.run(["sh", "-c", text], cwd=tmp_path, env=environment, timeout=60)

        done = asyncio.run(run(hasty(PYTEST, command)))
        assert done.exit_code == 1 and "1 failed" in done.output and "2 failed" not in done.output
