"""How a project's Python tests are run: pytest or unittest, by what its files say; nox and tox around them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from poolcli.verdict.recipes.shell import quoted
from poolcli.verdict.survey import LOOKED_INTO, PYTEST_FILES, Candidate, Project, depth, join, without_tests

_PYTEST_SECTION = re.compile(r"^\[(?:tool\.pytest(?:\.ini_options)?|tool:pytest|pytest)\]", re.M)
_PYTEST_IMPORT = re.compile(r"^\s*(?:import pytest\b|from pytest\b)", re.M)
_UNITTEST_IMPORT = re.compile(r"^\s*(?:import unittest\b|from unittest\b)", re.M)
_TEST_CASE = re.compile(r"^class \w+\([^)\n]*TestCase\)", re.M)
_TEST_FUNCTION = re.compile(r"^(?:async )?def test\w*\(", re.M)
_NOX_SESSION = re.compile(r"^def (tests?|unit_?tests?|pytest)\(", re.M)
_TOX_SECTION = re.compile(r"^\[(?:testenv\b|tool\.tox\b)", re.M)


def python(project: Project) -> Iterator[Candidate]:
    """pytest where something says so, unittest where test cases are."""
    looked = [(path, project.read(path) or "") for path in project.tests[:LOOKED_INTO]]
    config = _pytest_config(project)
    by_import = next((path for path, text in looked if _PYTEST_IMPORT.search(text)), None)
    by_case = [path for path, text in looked if _UNITTEST_IMPORT.search(text) or _TEST_CASE.search(text)]
    bare = next((path for path, text in looked if path not in by_case and _TEST_FUNCTION.search(text)), None)
    if config is not None:
        yield _pytest(project, config[0], config[1])
    elif by_import:
        yield _pytest(project, "", f"{by_import} imports pytest", by_import)
    elif bare:
        yield _pytest(project, "", f"{bare} has test functions without a class", bare)
    if by_case:
        yield _unittest(project, by_case)


def _pytest_config(project: Project) -> tuple[str, str] | None:
    """The nearest folder with a configuration of pytest, and what it is."""
    found: list[tuple[int, int, str, str]] = []
    for rank, name in enumerate(PYTEST_FILES):
        for folder in project.folders(name):
            path = f"{folder}/{name}" if folder else name
            if name == "conftest.py":
                reason, folder = f"{path} exists", without_tests(folder)
            elif name.endswith("pytest.ini"):
                reason = f"{path} exists"
            elif section := _PYTEST_SECTION.search(project.read(path) or ""):
                reason = f"{path} has {section[0]}"
            else:
                continue
            found.append((depth(folder), rank, folder, reason))
    return min(found)[2:] if found else None


def _pytest(project: Project, folder: str, reason: str, example: str = "") -> Candidate:
    command, missing = _pytest_command(project, folder)
    subject = without_tests(example.rpartition("/")[0])
    why = f"pytest: {reason}"
    return Candidate(
        f"{command} --tb=short", why, folder, 0, missing, subject, runner="pytest", family="python"
    )


def _pytest_command(project: Project, folder: str) -> tuple[str, str]:
    """How pytest is started in the folder, and what is missing for that.

    `--tb=short` (added by the caller) keeps places and messages; everything else is the project's own choice.
    """
    python, environment = _venv(project, folder)
    if python and project.has(f"{environment}/bin/pytest"):
        return f"{python} -m pytest", ""
    program, interpreter = project.which("pytest"), _interpreter(project)
    if program is None:
        return f"{python or interpreter} -m pytest", "pytest (in .venv or on PATH)"
    beside = project.which(interpreter) or ""
    if beside.rpartition("/")[0] == program.rpartition("/")[0]:
        # `-m` puts the folder itself on the import path, which flat layouts need.
        return f"{interpreter} -m pytest", ""
    return "pytest", ""


def _unittest(project: Project, tests: list[str]) -> Candidate:
    starts: dict[str, int] = {}
    for path in tests:
        start = _start(project, path)
        starts[start] = starts.get(start, 0) + 1
    # The start with the most files; the nearest of those.
    start = min(starts, key=lambda folder: (-starts[folder], depth(folder), folder))
    python = _venv(project, "")[0] or _interpreter(project)
    command = f"{python} -m unittest"
    if start:
        command += f" discover -s {quoted(start)}"
    mine = [path for path in tests if _start(project, path) == start]
    if not any(path.rpartition("/")[2].startswith("test") for path in mine):
        command += " -p '*_test.py'" if start else " discover -p '*_test.py'"
    command += " -v"  # names the tests that pass, too: the result says per test what changed
    # Run at the root, wherever the tests lie.
    subject = without_tests(mine[0].rpartition("/")[0])
    why = f"unittest: {mine[0]} uses it"
    return Candidate(command, why, "", 1, subject=subject, runner="unittest", family="python")


def _start(project: Project, path: str) -> str:
    """The folder that unittest's discovery has to start in to see this file; '' is the root."""
    folder = path.rpartition("/")[0]
    while folder and f"{folder}/__init__.py" in project.files:
        folder = folder.rpartition("/")[0]
    return folder


def wrappers(project: Project) -> Iterator[Candidate]:
    """nox and tox, which make environments of their own: slow, and often in need of a network."""
    for folder in project.folders("noxfile.py")[:1]:
        path = join(folder, "noxfile.py")
        text = project.read(path) or ""
        if session := _NOX_SESSION.search(text):
            kind = "junit" if "pytest" in text else ""
            missing = "" if project.which("nox") else "nox"
            why = f"nox: {path} has a session {session[1]}"
            yield Candidate(f"nox -s {session[1]}", why, folder, 13, missing, runner="nox", report_kind=kind)
    for name in ("tox.ini", "pyproject.toml", "setup.cfg"):
        for folder in project.folders(name):
            path = join(folder, name)
            text = project.read(path) or ""
            if _TOX_SECTION.search(text):
                kind = "junit" if "pytest" in text else ""
                missing = "" if project.which("tox") else "tox"
                # One environment, that of the interpreter at hand: a report has room for one run.
                yield Candidate(
                    "tox -e py",
                    f"tox: {path} has its environments",
                    folder,
                    14,
                    missing,
                    runner="tox",
                    report_kind=kind,
                )
                return


def _venv(project: Project, folder: str) -> tuple[str, str]:
    """The nearest virtual environment: its interpreter as seen from the folder, and its own path."""
    homes = [(0, folder)]
    if folder:
        homes.append((depth(folder), ""))
    if project.base:
        up = depth(project.base)
        homes.append((depth(folder) + up, ("../" * up).removesuffix("/")))
    for up, home in homes:
        for name in (".venv", "venv"):
            environment = join(home, name)
            if project.has(f"{environment}/pyvenv.cfg"):
                return "../" * up + f"{name}/bin/python", environment
    return "", ""


def _interpreter(project: Project) -> str:
    return "python3" if project.which("python3") or not project.which("python") else "python"
