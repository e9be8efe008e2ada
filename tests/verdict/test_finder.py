"""Which command is found for which repository, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from poolcli.verdict.finder import Checks, find

EVERYTHING = frozenset({"python3", "pytest", "npm", "pnpm", "yarn", "bun", "cargo", "go", "make"})
UNITTEST = "import unittest\n\n\nclass TestIt(unittest.TestCase):\n    def test_it(self): pass\n"
PYTEST = "import pytest\n\n\ndef test_it(): pass\n"
BARE = "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
PACKAGE = '{"name": "x", "scripts": {"test": "jest"}}'
VENV = {".venv/pyvenv.cfg": "home = /usr/bin\n", ".venv/bin/pytest": "#!/bin/sh\n"}


def chosen(
    files: Mapping[str, str],
    installed: frozenset[str] = EVERYTHING,
    ignored: Mapping[str, str] | None = None,
) -> Checks | None:
    """What is found in a repository of these files; `ignored` can be read but are not among its files."""

    def which(name: str) -> str | None:
        return f"/usr/bin/{name}" if name in installed else None

    return find(list(files), {**files, **(ignored or {})}.get, which)


def command(files: Mapping[str, str], **options: object) -> str | None:
    found = chosen(files, **options)  # type: ignore[arg-type]
    return found.command if found else None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"main.c": "", "README.md": "run the tests"}, None),
        ({"test_calc.py": UNITTEST}, "python3 -m unittest -v"),
        ({"calc_test.py": UNITTEST}, "python3 -m unittest discover -p '*_test.py' -v"),
        ({"tests/test_calc.py": UNITTEST}, "python3 -m unittest discover -s tests -v"),
        ({"tests/__init__.py": "", "tests/test_calc.py": UNITTEST}, "python3 -m unittest -v"),
        (
            {"tests/unit/__init__.py": "", "tests/unit/test_calc.py": UNITTEST},
            "python3 -m unittest discover -s tests -v",
        ),
        ({"my tests/test_a.py": UNITTEST}, "python3 -m unittest discover -s 'my tests' -v"),
        ({"test_calc.py": PYTEST}, "python3 -m pytest --tb=short"),
        ({"tests/test_calc.py": BARE}, "python3 -m pytest --tb=short"),
        ({"pytest.ini": "[pytest]\n", "tests/test_a.py": UNITTEST}, "python3 -m pytest --tb=short"),
        ({"tests/conftest.py": "", "tests/test_a.py": UNITTEST}, "python3 -m pytest --tb=short"),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, "python3 -m pytest --tb=short"),
        ({"pyproject.toml": "[tool.pytest]\n"}, "python3 -m pytest --tb=short"),
        ({"setup.cfg": "[metadata]\n[tool:pytest]\n"}, "python3 -m pytest --tb=short"),
        ({"tox.ini": "[pytest]\n"}, "python3 -m pytest --tb=short"),
        ({"pyproject.toml": "[project]\n", "test_a.py": UNITTEST}, "python3 -m unittest -v"),
        ({"package.json": PACKAGE}, "npm test --silent"),
        ({"package.json": PACKAGE, "pnpm-lock.yaml": ""}, "pnpm test"),
        ({"package.json": PACKAGE, "yarn.lock": ""}, "yarn test"),
        ({"package.json": PACKAGE, "bun.lock": ""}, "bun run test"),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, None),
        ({"package.json": '{"scripts": {"build": "tsc"}}'}, None),
        ({"package.json": "not json"}, None),
        ({"package.json": '["test"]'}, None),
        ({"Cargo.toml": "", "src/lib.rs": ""}, "cargo test -q"),
        ({"go.mod": "module x\n"}, "go test ./..."),
        ({"Makefile": "all:\n\ntest: all\n\t./run\n"}, "make test"),
        ({"Makefile": "test := 3\ntests:\n"}, None),
        ({"node_modules/x/package.json": PACKAGE, "vendor/y/go.mod": ""}, None),
    ],
)
def test_command(files, expected):
    assert command(files) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # The more specific one at the same depth.
        ({"Makefile": "test:\n", "pytest.ini": ""}, "python3 -m pytest --tb=short"),
        ({"Makefile": "test:\n", "package.json": PACKAGE}, "npm test --silent"),
        # The one nearest to the root.
        ({"package.json": PACKAGE, "scripts/tools/test_a.py": UNITTEST}, "npm test --silent"),
        ({"package.json": PACKAGE, "scripts/tools/test_a.py": PYTEST}, "npm test --silent"),
        ({"web/package.json": PACKAGE, "go.mod": ""}, "go test ./..."),
        ({"web/package.json": PACKAGE, "a/b/Cargo.toml": ""}, "cd web && npm test --silent"),
        (
            {"back end/pytest.ini": "", "back end/test_a.py": ""},
            "cd 'back end' && python3 -m pytest --tb=short",
        ),
    ],
)
def test_order(files, expected):
    assert command(files) == expected


def test_it_says_why():
    found = chosen({"tests/test_a.py": UNITTEST})
    assert found is not None
    assert (found.source, found.why) == ("found", "unittest: tests/test_a.py uses it")
    found = chosen({"pyproject.toml": "[tool.pytest.ini_options]\n"})
    assert found is not None
    assert found.why == "pytest: pyproject.toml has [tool.pytest.ini_options]"


def test_the_environment_of_the_project_comes_first():
    files = {"test_a.py": PYTEST}
    assert command(files, ignored=VENV) == ".venv/bin/python -m pytest --tb=short"
    assert (
        command(files, ignored=VENV, installed=frozenset({"python3"}))
        == ".venv/bin/python -m pytest --tb=short"
    )
    assert command({"test_a.py": UNITTEST}, ignored=VENV) == ".venv/bin/python -m unittest -v"


def test_environment_of_the_root_for_a_project_below():
    files = {"backend/pytest.ini": "", "backend/test_a.py": PYTEST}
    assert command(files, ignored=VENV) == "cd backend && ../.venv/bin/python -m pytest --tb=short"


def test_environment_without_pytest():
    ignored = {".venv/pyvenv.cfg": ""}
    assert command({"test_a.py": PYTEST}, ignored=ignored) == "python3 -m pytest --tb=short"


def test_pytest_of_another_interpreter():
    def which(name: str) -> str | None:
        return {"pytest": "/opt/pipx/bin/pytest", "python3": "/usr/bin/python3"}.get(name)

    found = find(["test_a.py"], {"test_a.py": PYTEST}.get, which)
    assert found is not None
    assert found.command == "pytest --tb=short"


def test_what_cannot_run_comes_last_and_says_so():
    only_python = frozenset({"python3"})
    assert (
        command({"test_a.py": PYTEST, "test_b.py": UNITTEST}, installed=only_python)
        == "python3 -m unittest -v"
    )
    found = chosen({"test_a.py": PYTEST}, installed=only_python)
    assert found is not None
    assert found.command == "python3 -m pytest --tb=short"
    assert found.why.endswith(", but pytest (in .venv or on PATH) was not found")
    assert command({"go.mod": "", "Makefile": "test:\n"}, installed=frozenset({"make"})) == "make test"


def test_the_order_of_the_files_changes_nothing():
    files = {
        "a/package.json": PACKAGE,
        "b/package.json": PACKAGE,
        "c/test_a.py": UNITTEST,
        "c/test_b.py": BARE,
    }
    names = list(files)
    found = set()
    for seed in range(10):
        Random(seed).shuffle(names)
        found.add(find(names, files.get, lambda name: f"/usr/bin/{name}"))
    assert len(found) == 1
