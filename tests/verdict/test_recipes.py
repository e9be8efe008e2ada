"""Recipes as text: what is asked of each runner, what is found where, and what is left alone."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.verdict.finder import find, find_all
from poolcli.verdict.recipes import KINDS, LONGEST, Recipe, nearest
from poolcli.verdict.recipes.given import recognised

UNITTEST = "import unittest\n\n\nclass TestIt(unittest.TestCase):\n    def test_it(self): pass\n"
PYTEST = "import pytest\n\n\ndef test_it(): pass\n"
PYTEST_CONFIG = "[tool.pytest.ini_options]\n"
JEST = '{"scripts": {"test": "jest"}}'


def every(name: str) -> str | None:
    return None if name in ("cargo-nextest", "pytest-missing") else f"/usr/bin/{name}"


def all_of(files: Mapping[str, str]) -> list[Recipe]:
    return find_all(list(files), files.get, every)


def one(files: Mapping[str, str]) -> Recipe:
    found = find(list(files), files.get, every)
    assert found is not None and found.recipe is not None
    assert found.recipe.command == found.command
    return found.recipe


# What is found


@pytest.mark.parametrize(
    ("files", "runner", "command"),
    [
        ({"noxfile.py": "import nox\n\n@nox.session\ndef tests(session): pass\n"}, "nox", "nox -s tests"),
        ({"tox.ini": "[tox]\n\n[testenv]\ncommands = pytest\n"}, "tox", "tox -e py"),
        ({"package.json": '{"devDependencies": {"vitest": "3"}}'}, "vitest", "npx --no-install vitest run"),
        ({"package.json": "{}", "jest.config.js": ""}, "jest", "npx --no-install jest"),
        ({".mocharc.yml": "", "package.json": "{}"}, "mocha", "npx --no-install mocha"),
        ({"a.test.mjs": 'import test from "node:test";'}, "node-test", "node --test"),
        ({"pom.xml": ""}, "maven", "mvn -B -ntp test"),
        ({"pom.xml": "", "mvnw": ""}, "maven", "./mvnw -B -ntp test"),
        ({"build.gradle.kts": "", "gradlew": ""}, "gradle", "./gradlew test"),
        ({"settings.gradle": "", "app/build.gradle": ""}, "gradle", "gradle test"),
        ({"spec/a_spec.rb": ""}, "rspec", "rspec"),
        ({"spec/a_spec.rb": "", "Gemfile": ""}, "rspec", "bundle exec rspec"),
        ({"test/a_test.rb": 'require "test_helper"', "bin/rails": ""}, "minitest", "bin/rails test"),
        ({"test/test_a.rb": 'require "minitest"', "Rakefile": "Rake::TestTask.new"}, "minitest", "rake test"),
        ({"phpunit.xml.dist": "", "vendor/bin/phpunit": ""}, "phpunit", "vendor/bin/phpunit"),
        ({"tests/ATest.php": ""}, "phpunit", "phpunit tests"),
        ({"t/a.t": ""}, "prove", "prove -lr t"),
        ({"Makefile": "check: all\n"}, "make", "make check"),
        ({"Makefile.am": "", "configure": ""}, "make", "./configure && make check"),
    ],
)
def test_command(files: dict[str, str], runner: str, command: str) -> None:
    recipe = one(files)
    assert (recipe.runner, recipe.command) == (runner, command)


@pytest.mark.parametrize(
    "files",
    [
        {"CMakeLists.txt": "project(x)\n"},
        {"package.json": "{}"},
        {"test/helper.rb": "minitest"},
        {"pyproject.toml": "[project]\n"},
        {"noxfile.py": "import nox\n\ndef docs(session): pass\n"},
        {"README.t.md": ""},
    ],
)
def test_nothing_to_find(files: dict[str, str]) -> None:
    assert find(list(files), files.get, every) is None
    assert all_of(files) == []


def test_the_build_folder_of_cmake_hides_and_takes_no_folder_of_the_project() -> None:
    recipe = one({"CMakeLists.txt": "enable_testing()\n", "build/tool.sh": ""})
    assert "mkdir -p _build && echo '*' > _build/.gitignore" in recipe.command
    assert "-B build " in one({"CMakeLists.txt": "include(CTest)\n"}).command


@pytest.mark.parametrize(
    ("scripts", "runner", "direct"),
    [
        ({"test": "jest --ci"}, "jest", "npm test --silent --"),
        ({"test": "cross-env NODE_ENV=test jest"}, "jest", "npm test --silent --"),
        ({"test": "npm run unit", "unit": "vitest run"}, "vitest", "npm run unit --silent --"),
        ({"test": "eslint . && mocha"}, "mocha", "npm test --silent --"),
        ({"test": "mocha && eslint ."}, "mocha", 'export PATH="$PWD/node_modules/.bin:$PATH" && mocha'),
        (
            {"test": "tsc && node --import tsx --test a.ts"},
            "node-test",
            'export PATH="$PWD/node_modules/.bin:$PATH" && tsc && node --import tsx --test a.ts',
        ),
        (
            {"test": "node --test", "pretest": "tsc"},
            "node-test",
            'export PATH="$PWD/node_modules/.bin:$PATH" && npm run pretest && node --test',
        ),
        ({"test": "jest && vitest"}, "script", ""),
        ({"test": "jest | tee log"}, "script", ""),
        ({"test": "jest; true"}, "script", ""),
        ({"test": "node test.js"}, "script", ""),
        ({"test": "./jest-like"}, "script", ""),
        ({"test": "npm run test"}, "script", ""),
    ],
)
def test_what_a_script_comes_down_to(scripts: dict[str, str], runner: str, direct: str) -> None:
    import json

    recipe = one({"package.json": json.dumps({"scripts": scripts})})
    assert (recipe.runner, recipe.direct) == (runner, direct)
    assert recipe.command == "npm test --silent"
    assert bool(recipe.reporting("/r")) == (runner != "script")


def test_a_makefile_that_starts_pytest_passes_the_environment_on() -> None:
    recipe = one({"Makefile": "test: deps\n\tpython -m pytest tests\n\nlint:\n\truff .\n"})
    assert recipe.reporting("/r").startswith('PYTEST_ADDOPTS="${PYTEST_ADDOPTS-} "\'--junitxml=/r ')
    assert recipe.reporting("/r").endswith(" make test")
    for text in ("test:\n\tdocker run x pytest\n", "test:\n\tgo test\n", "test:\n\tpytest a\n\tpytest b\n"):
        assert one({"Makefile": text}).reporting("/r") == ""


# Fallbacks


def test_pytest_without_the_options_that_block_it() -> None:
    recipe = one({"pyproject.toml": PYTEST_CONFIG, "test_a.py": UNITTEST, "Makefile": "test:\n"})
    assert [other.runner for other in recipe.fallbacks] == ["pytest", "unittest", "make"]
    assert recipe.fallbacks[0].command == "python3 -m pytest --tb=short -o addopts= -o required_plugins="
    assert " --junitxml=/r " in recipe.fallbacks[0].reporting("/r")


# Monorepos

MONOREPO = {
    "pyproject.toml": PYTEST_CONFIG,
    "tests/test_a.py": PYTEST,
    "services/api/pyproject.toml": PYTEST_CONFIG,
    "services/api/tests/test_b.py": PYTEST,
    "services/jobs/setup.py": "",
    "services/jobs/tests/test_c.py": UNITTEST,
    "web/package.json": JEST,
    "web/admin/package.json": JEST,
    "cli/go.mod": "",
    "core/Cargo.toml": "[workspace]\n",
    "core/parser/Cargo.toml": "",
    "vendor/x/go.mod": "",
    "Makefile": "test:\n\techo\n",
}


def test_a_monorepo_has_many() -> None:
    found = all_of(MONOREPO)
    assert [(recipe.runner, recipe.folder) for recipe in found] == [
        ("pytest", ""),
        ("jest", "web"),
        ("cargo", "core"),
        ("go", "cli"),
        ("pytest", "services/api"),
        ("unittest", "services/jobs"),
        ("jest", "web/admin"),
    ]
    assert found[5].command == "cd services/jobs && python3 -m unittest discover -s tests -v"
    assert [other.command for other in found[0].fallbacks][-1] == "make test"


def test_the_root_environment_serves_a_project_below() -> None:
    files = {**MONOREPO, ".venv/pyvenv.cfg": "", ".venv/bin/pytest": ""}
    found = find_all(list(MONOREPO), files.get, every)
    assert found[4].command == "cd services/api && ../../.venv/bin/python -m pytest --tb=short"


def test_a_script_for_all_packages_is_enough() -> None:
    files = {"package.json": '{"scripts": {"test": "npm test --workspaces"}}', "a/package.json": JEST}
    assert [recipe.folder for recipe in all_of(files)] == [""]
    files["package.json"] = '{"scripts": {"test": "jest"}}'
    assert [recipe.folder for recipe in all_of(files)] == ["", "a"]


def test_the_order_of_the_files_changes_nothing() -> None:
    names = list(MONOREPO)
    expected = all_of(MONOREPO)
    for seed in range(10):
        Random(seed).shuffle(names)
        assert find_all(names, MONOREPO.get, every) == expected


@given(
    st.lists(st.sampled_from(["web/admin/a.js", "web/b.js", "cli/x.go", "README.md", "services/api/y.py"]))
)
def test_nearest_first_all_in_the_end(changed: list[str]) -> None:
    found = all_of(MONOREPO)
    ordered = nearest(found, changed)
    assert sorted(recipe.folder for recipe in ordered) == sorted(recipe.folder for recipe in found)
    near = [bool(r.folder) and any(path.startswith(r.folder + "/") for path in changed) for r in ordered]
    first_far = near.index(False)
    assert not any(near[first_far:])
    if "web/admin/a.js" in changed:
        order = [recipe.folder for recipe in ordered]
        assert order.index("web/admin") < order.index("web")
    if not changed:
        assert ordered == found


# Asking


@pytest.mark.parametrize("runner", sorted(KINDS))
@given(report=st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1))
def test_the_path_of_a_report_is_one_word(runner: str, report: str) -> None:
    """No character of it is the shell's: what is left of the words without it is the same for every path."""
    command = {
        "node-test": "node --test",
        "go": "go test ./...",
        "nextest": "cargo nextest run",
        "ctest": "ctest",
    }.get(runner, runner)
    recipe = Recipe(runner, "", command, "", report_kind=KINDS[runner])
    path = f"/tmp/{report}"

    def words(where: str) -> list[str]:
        found = shlex.split(recipe.reporting(where))
        return [word.replace(where, "") for word in found]

    if runner == "nextest" and set("'\"\\") & set(report):
        return  # written into a file of TOML, too; such paths are not made
    assert words(path) == words("/tmp/plain")


@settings(max_examples=25)  # a process each
@pytest.mark.parametrize(
    "runner", ["pytest", "jest", "vitest", "mocha", "node-test", "rspec", "maven", "gradle"]
)
@given(tests=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_names_of_tests_never_reach_the_shell(runner: str, tests: list[str]) -> None:
    recipe = Recipe(runner, "", "node --test" if runner == "node-test" else runner, "")
    command = recipe.selecting(tests)
    if any(test.startswith("-") for test in tests):
        assert command == ""
        return
    # A function in place of the runner prints its words: the shell has to see one command with just those.
    name = command.split()[0]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{name}() {{ printf '%s\\0' \"$@\"; }}; {command}"],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split("\0")[:-1] == shlex.split(command)[1:]
    if runner == "pytest":
        assert shlex.split(command)[1:] == tests


def test_ids_lose_the_folder_that_they_run_in() -> None:
    recipe = Recipe("pytest", "a b", "cd 'a b' && pytest", "", report_kind="junit")
    assert recipe.selecting(["a b/test_x.py::test_y"]) == "cd 'a b' && pytest test_x.py::test_y"
    assert recipe.reporting("/r").startswith("cd 'a b' && pytest --junitxml=/r ")


def test_too_many_tests_are_all_tests() -> None:
    recipe = Recipe("pytest", "", "pytest", "")
    assert recipe.selecting(["test_x.py::" + "y" * LONGEST]) == ""
    assert recipe.selecting([]) == ""


def test_what_cannot_be_selected() -> None:
    assert Recipe("script", "", "./check", "").selecting(["x"]) == ""
    assert Recipe("make", "", "make test", "").selecting(["x"]) == ""
    assert Recipe("prove", "", "prove -lr t", "").selecting(["adds"]) == ""
    assert Recipe("unittest", "", "python3 -m unittest -v", "").selecting(["a[1]"]) == ""


@pytest.mark.parametrize(
    ("runner", "command", "tests", "expected"),
    [
        ("go", "go test ./...", ["m/p.TestA/x", "m/p.TestB"], "go test -run '^(TestA|TestB)$' m/p"),
        ("cargo", "cargo test -q", ["c::t::a"], "cargo test --no-fail-fast -- t::a"),
        (
            "maven",
            "mvn test",
            ["p.ATest.b(int)[1]", "p.ATest.a", "src/test/java/p/BTest.java"],
            "mvn test -Dtest='p.ATest#a+b,p.BTest' -DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false",
        ),
        ("gradle", "gradle test", ["p.ATest.a", "p.B"], "gradle test --tests p.ATest.a --tests p.B"),
        (
            "minitest",
            "rake test",
            ["ATest#test_a"],
            """rake test TESTOPTS='-v -n '"'"'/test_a$/'"'"''""",
        ),
        ("nextest", "cargo nextest run", ["c::t::a"], "cargo nextest run t::a"),
    ],
)
def test_selection(runner: str, command: str, tests: list[str], expected: str) -> None:
    assert Recipe(runner, "", command, "").selecting(tests) == expected


@pytest.mark.parametrize("test", ["-c=x", "a/-c=x", "--co", "m::--logfile=x"])
def test_no_test_is_an_option(test: str) -> None:
    for runner, command in (("cargo", "cargo test"), ("nextest", "cargo nextest run")):
        assert Recipe(runner, "a", f"cd a && {command}", "").selecting([test]) == ""
    if "::" not in test:
        assert Recipe("pytest", "a", "cd a && pytest", "").selecting([test]) == ""


def test_whose_test_is_it() -> None:
    pytest_, cargo = Recipe("pytest", "", "pytest", ""), Recipe("cargo", "", "cargo test", "")
    for test in ("tests/test_a.py", "tests/test_a.py::T::t[a.rs]"):
        assert pytest_.speaks_of(test) and not cargo.speaks_of(test)
    assert cargo.speaks_of("c::t") and cargo.speaks_of("src/lib.rs")
    assert pytest_.speaks_of("folder/x.txt")


# Commands that somebody wrote


@pytest.mark.parametrize(
    ("command", "runner", "folder"),
    [
        ("pytest -x tests", "pytest", ""),
        (".venv/bin/python -m pytest", "pytest", ""),
        ("PYTHONPATH=src python -m unittest -v", "unittest", ""),
        ("cd sub && pytest", "pytest", "sub"),
        ("make build && pytest", "script", ""),
        ("pip install -e . && pytest", "pytest", ""),
        ("cd .. && pytest", "pytest", ""),
        ("pytest a && pytest b", "script", ""),
        ("pytest | tee log", "script", ""),
        ("pytest; true", "script", ""),
        ("pytest || true", "script", ""),
        ("pytest > log", "script", ""),
        ("./run-pytest-things.sh", "script", ""),
        ("tox -e py -- pytest", "tox", ""),
        ("npm test", "jest", ""),
        ("yarn test", "jest", ""),
        ("npx jest", "jest", ""),
        ("node --test x/", "node-test", ""),
        ("go test ./pkg/...", "go", ""),
        ("mvn -q test", "maven", ""),
        ("./gradlew :app:test", "gradle", ""),
        ("bundle exec rspec", "rspec", ""),
        ("vendor/bin/phpunit", "phpunit", ""),
        ("cmake --build b && ctest --test-dir b", "ctest", ""),
        ("true", "script", ""),
        ("", "script", ""),
    ],
)
def test_recognised(command: str, runner: str, folder: str) -> None:
    recipe = recognised(command, "given", {"package.json": JEST}.get)
    assert (recipe.runner, recipe.folder, recipe.command) == (runner, folder, command)


@given(st.text())
def test_any_command_is_a_recipe(command: str) -> None:
    recipe = recognised(command, "given")
    assert recipe.command == command
    recipe.reporting("/r")
    recipe.selecting(["x"], "/r")
    recipe.detailed()
