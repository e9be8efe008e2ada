"""Every recipe with its real runner on a tiny project: the report names what ran, and only what was asked for runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from poolcli.verdict import reports
from poolcli.verdict.finder import find
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import Results
from tests.verdict.installed import installed
from tests.verdict.languages import EXAMPLES, Example
from tests.verdict.projects import write

#: How a name that ran stands in the output of runners without a report.
LOGGED = {
    "unittest": r"^(test\w+) \(.*\.\.\. \w+$",
    "cargo": r"^test ([\w:]+) \.\.\. \w+$",
    "prove": r"^(?:not )?ok \d+ - (.*)$",
    "minitest": r"^\w+#(test\w+) = ",
}


def params() -> list[object]:
    return [
        pytest.param(example, id=example.runner, marks=[pytest.mark.slow] if example.slow else [])
        for example in EXAMPLES
    ]


def which(name: str) -> str | None:
    """As in a shell in which the environment of these tests is active."""
    here = Path(sys.executable).parent
    return installed(name, f"{here}{os.pathsep}{os.environ['PATH']}")


def shell(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    home = os.environ.get("HOME", "/")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": home, "LC_ALL": "C.UTF-8", "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("RUSTUP_HOME", "CARGO_HOME", "GOCACHE", "JAVA_HOME"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )


def reported(kind: str, report: Path) -> set[str]:
    """The names of the tests that ran, by the report alone."""
    if report.is_dir():
        return set().union(*(reported(kind, file) for file in report.glob("*.xml")))
    text = report.read_text()
    if kind in ("junit", "ctest-junit"):
        cases = ElementTree.fromstring(text).iter("testcase")
        return {str(case.get("name")).removesuffix("()") for case in cases if case.find("skipped") is None}
    if kind == "jest-json":
        cases = [case for suite in json.loads(text)["testResults"] for case in suite["assertionResults"]]
        return {case["title"] for case in cases if case["status"] in ("passed", "failed")}
    if kind == "rspec-json":
        return {case["description"] for case in json.loads(text)["examples"]}
    assert kind == "go-json"
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {event["Test"] for event in events if event["Action"] in ("pass", "fail") and "Test" in event}


def ran(recipe: Recipe, output: str, report: Path) -> set[str]:
    if recipe.report_kind:
        # Vitest puts the suites before the name.
        return {name.rpartition(" > ")[2] for name in reported(recipe.report_kind, report)}
    return set(re.findall(LOGGED[recipe.runner], output, re.M))


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Example, Path, Recipe]:
    example: Example = request.param
    if which(example.program) is None:
        pytest.skip(f"{example.program} is not installed")
    files = example.files
    root = tmp_path / "the project"
    write(root, files)
    if example.needs and example.needs != "maven":
        (root / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
    found = find(list(files), lambda path: _read(root / path), which)
    assert found is not None
    assert found.recipe is not None
    return example, root, found.recipe


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _unreachable(output: str) -> bool:
    """Whether Maven lacks something that it would have to fetch."""
    return re.search(r"could not be resolved|offline mode and the artifact", output) is not None


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """jest, vitest and mocha from the registry; in $POOL_TEST_NODE_MODULES when that is set."""
    if given := os.environ.get("POOL_TEST_NODE_MODULES"):
        return Path(given)
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"name": "x", "private": true}')
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "jest", "vitest", "mocha"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr[-200:]}")
    return folder / "node_modules"


@pytest.mark.parametrize("project", params(), indirect=True)
def test_all(project: tuple[Example, Path, Recipe], tmp_path: Path) -> None:
    example, root, recipe = project
    assert recipe.runner == example.runner
    plain = shell(root, recipe.command)
    if recipe.runner == "maven" and _unreachable(plain.stdout):
        pytest.skip("Maven lacks plugins, and nothing to fetch them from")
    assert plain.returncode not in (0, 126, 127), plain.stdout
    report = tmp_path / "re'port x"
    asked = shell(root, recipe.reporting(str(report)) or recipe.detailed())
    assert ran(recipe, asked.stdout, report) == example.names, asked.stdout
    assert asked.returncode == plain.returncode


@pytest.mark.parametrize("project", params(), indirect=True)
def test_selected(project: tuple[Example, Path, Recipe], tmp_path: Path) -> None:
    example, root, recipe = project
    recording = bool(recipe.report_kind)

    def run(tests: list[str], name: str) -> tuple[int, set[str]]:
        report = tmp_path / name
        command = recipe.selecting(tests, str(report) if recording else "")
        assert command
        done = shell(root, command)
        if recipe.runner == "maven" and _unreachable(done.stdout):
            pytest.skip("Maven lacks plugins, and nothing to fetch them from")
        try:
            return done.returncode, ran(recipe, done.stdout, report)
        except (OSError, ElementTree.ParseError) as error:
            raise AssertionError(f"{command}\n{done.stdout}") from error

    code, names = run([example.passing], "one")
    if recipe.runner == "node-test":  # runs the whole suite
        assert names == example.names - example.in_file
    else:
        assert (code, names) == (0, {example.alone})
    code, names = run([example.passing, example.failing], "two")
    assert names >= {example.alone}
    assert names < example.names or len(example.names) == 2 or recipe.runner == "prove"
    assert code != 0
    if example.file:
        code, names = run([example.file], "file")
        assert (code, names) == (0, example.in_file)


@pytest.mark.parametrize("project", params(), indirect=True)
def test_ids_of_results_can_be_selected(project: tuple[Example, Path, Recipe], tmp_path: Path) -> None:
    """What the readers call a test is what the runner is asked for."""
    example, root, recipe = project
    where = str(root)

    def results(command: str, report: Path) -> Results:
        done = shell(root, command)
        if recipe.runner == "maven" and _unreachable(done.stdout):
            pytest.skip("Maven lacks plugins, and nothing to fetch them from")
        read = reports.read_report(recipe.report_kind, report, root=where) if recipe.report_kind else None
        if read is None:
            read = reports.from_log(recipe.runner, done.stdout, root=where, exit_code=done.returncode)
        return reports.checked(read, done.returncode)

    first = results(recipe.reporting(str(tmp_path / "first")) or recipe.detailed(), tmp_path / "first")
    assert not first.problem
    # prove's scripts count as tests, too.
    cases = [case for case in first.cases if recipe.runner != "prove" or " > " in case]
    assert len(cases) == len(example.names), list(first.cases)
    for number, case in enumerate(first.cases.values()):
        report = tmp_path / str(number)
        command = recipe.selecting([case.id], str(report) if recipe.report_kind else "")
        assert command, case.id
        again = results(command, report)
        assert case.id in again.cases, (command, list(again.cases))
        assert again.cases[case.id].outcome == case.outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "files"),
    [
        ("tox", {"tox.ini": "[tox]\nskipsdist = true\n\n[testenv]\ndeps = pytest\ncommands = pytest\n"}),
        (
            "nox",
            {
                "noxfile.py": "import nox\n\n\n@nox.session\ndef tests(session):\n"
                "    session.install('pytest')\n    session.run('pytest')\n"
            },
        ),
    ],
)
def test_wrappers_of_pytest(program: str, files: dict[str, str], tmp_path: Path) -> None:
    """They make an environment from the package index: minutes, and a network."""
    if which(program) is None:
        pytest.skip(f"{program} is not installed")
    root = write(tmp_path / "p", {**files, "tests/test_a.py": "def test_a(): pass\ndef test_b(): assert 0\n"})
    # Without pytest at hand the wrapper is the way that can run.
    found = find(
        [*files, "tests/test_a.py"],
        lambda path: _read(root / path),
        lambda name: None if name in ("pytest", "python3", "python") else which(name),
    )
    assert found is not None and found.recipe is not None and found.recipe.runner == program
    report = tmp_path / "re port.xml"
    done = shell(root, found.recipe.reporting(str(report)))
    if not report.exists() and re.search(r"No matching distribution|Connection|resolve", done.stdout):
        pytest.skip("no package index")
    assert done.returncode != 0
    assert reported("junit", report) == {"test_a", "test_b"}, done.stdout


STAND_IN = """\
#!/bin/sh
# In place of a build: what it leaves behind, and its exit code.
for module in a b; do
  mkdir -p $module/PLACE
  echo "<testsuite><testcase name='in_$module'/></testsuite>" > $module/PLACE/TEST-x.CalcTest.xml
done
exit 7
"""


@pytest.mark.parametrize(
    ("wrapper", "marker", "place", "stale"),
    [
        ("gradlew", "settings.gradle", "build/test-results/test", False),
        ("mvnw", "pom.xml", "target/surefire-reports", True),
    ],
)
def test_files_of_all_modules_are_collected(
    wrapper: str, marker: str, place: str, stale: bool, tmp_path: Path
) -> None:
    """Two modules test a class of one name; Maven leaves files of earlier runs behind."""
    root = write(tmp_path / "p", {marker: "", wrapper: STAND_IN.replace("PLACE", place)})
    (root / wrapper).chmod(0o755)
    old = root / "c" / place / "TEST-x.GoneTest.xml"
    if stale:
        old.parent.mkdir(parents=True)
        old.write_text("<testsuite><testcase name='gone'/></testsuite>")
        os.utime(old, (1, 1))
    found = find([marker, wrapper], lambda path: _read(root / path), lambda name: f"/usr/bin/{name}")
    assert found is not None and found.recipe is not None
    report = tmp_path / "it's here"
    done = shell(root, found.recipe.reporting(str(report)))
    assert done.returncode == 7, done.stdout
    assert reported("junit", report) == {"in_a", "in_b"}


def test_nextest_is_told_by_a_file(tmp_path: Path) -> None:
    """A stand-in for cargo reads the file that the real one would."""
    import tomllib

    cargo = tmp_path / "bin" / "cargo"
    write(tmp_path / "bin", {"cargo": '#!/bin/sh\nfor word; do echo "$word"; done\n'})
    cargo.chmod(0o755)
    recipe = Recipe("nextest", "", "cargo nextest run", "", report_kind="junit")
    report = tmp_path / "re port.xml"
    done = shell(tmp_path, f"PATH={cargo.parent}:$PATH; {recipe.reporting(str(report))}")
    words = done.stdout.splitlines()
    assert words[:3] == ["nextest", "run", "--no-fail-fast"]
    file = Path(words[words.index("--tool-config-file") + 1].removeprefix("pool:"))
    assert tomllib.loads(file.read_text()) == {"profile": {"default": {"junit": {"path": str(report)}}}}
