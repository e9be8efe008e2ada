"""Finds the command that checks a repository, and says in one sentence why it was chosen.

Each kind of project contributes candidates. What can be run comes first, then what is nearest to the root,
then the most specific. The answer depends on the files alone, not on their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from msgspec import Struct

Read = Callable[[str], "str | None"]
Which = Callable[[str], "str | None"]

#: Test files looked into, to tell which framework they use: the nearest ones speak for the others.
LOOKED_INTO = 12

_PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_MARKERS = frozenset({*_PYTEST_FILES, *_MAKEFILES, "package.json", "Cargo.toml", "go.mod"})
_LOCKS = {
    "pnpm-lock.yaml": ("pnpm", "pnpm test"),
    "yarn.lock": ("yarn", "yarn test"),
    "bun.lock": ("bun", "bun run test"),
    "bun.lockb": ("bun", "bun run test"),
}
#: Folders whose projects are not this repository's own.
_SKIPPED = re.compile(
    r"(?:^|/)(?:node_modules|vendor|third_party|\.?venv|target|fixtures|testdata|examples?)/"
)

_PYTEST_SECTION = re.compile(r"^\[(?:tool\.pytest(?:\.ini_options)?|tool:pytest|pytest)\]", re.M)
_PYTEST_IMPORT = re.compile(r"^\s*(?:import pytest\b|from pytest\b)", re.M)
_UNITTEST_IMPORT = re.compile(r"^\s*(?:import unittest\b|from unittest\b)", re.M)
_TEST_CASE = re.compile(r"^class \w+\([^)\n]*TestCase\)", re.M)
_TEST_FUNCTION = re.compile(r"^(?:async )?def test\w*\(", re.M)
_MAKE_TEST = re.compile(r"^test[ \t]*::?(?!=)", re.M)


class Checks(Struct, frozen=True):
    """The command that decides whether the work is done: what runs, who said so, and why it was chosen."""

    command: str
    #: `--test`, the configuration file that names it, or `found`.
    source: str
    why: str


class _Candidate(Struct, frozen=True):
    command: str
    why: str
    #: Folder that it is run in; '' is the root.
    folder: str
    #: How specific it says what a test is; lower is more.
    rank: int
    #: The program it needs, '' when that is there.
    missing: str = ""
    #: What it tests, when that is not the folder it is run in.
    subject: str = ""

    @property
    def order(self) -> tuple[bool, int, int, str]:
        return bool(self.missing), _depth(self.subject or self.folder), self.rank, self.folder


class _Project(Struct, frozen=True):
    """What the candidates look at."""

    files: Collection[str]
    markers: dict[str, list[str]]
    tests: list[str]
    read: Read
    which: Which

    def folders(self, name: str) -> list[str]:
        """Folders that hold a file of this name, the nearest to the root first."""
        return sorted(self.markers.get(name, ()), key=lambda folder: (_depth(folder), folder))

    def has(self, path: str) -> bool:
        """Whether a file can be read, also one that git ignores."""
        return self.read(path) is not None


def find(files: Collection[str], read: Read, which: Which) -> Checks | None:
    """The checks of a repository with these files, or None when nothing says how it is tested.

    `files` are relative paths; `read` gives a file's text or None, also of ignored files such as
    `.venv/pyvenv.cfg`; `which` is `shutil.which`.
    """
    project = _survey(files, read, which)
    candidates = [c for kind in (_python, _javascript, _rust, _go, _make) for c in kind(project)]
    if not candidates:
        return None
    best = min(candidates, key=lambda candidate: candidate.order)
    why = f"{best.why}, but {best.missing} was not found" if best.missing else best.why
    command = f"cd {_quoted(best.folder)} && {best.command}" if best.folder else best.command
    return Checks(command, "found", why)


def _survey(files: Collection[str], read: Read, which: Which) -> _Project:
    """One pass over all names."""
    markers: dict[str, list[str]] = {}
    tests: list[str] = []
    for path in files:
        folder, _, name = path.rpartition("/")
        is_test = name.endswith(".py") and (name.startswith("test") or name.endswith("_test.py"))
        if (is_test or name in _MARKERS) and not (folder and _SKIPPED.search(folder + "/")):
            if name in _MARKERS:
                markers.setdefault(name, []).append(folder)
            else:
                tests.append(path)
    tests.sort(key=lambda path: (path.count("/"), path))
    known = files if isinstance(files, set | frozenset | dict) else frozenset(files)
    return _Project(known, markers, tests, read, which)


def _python(project: _Project) -> Iterator[_Candidate]:
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


def _pytest_config(project: _Project) -> tuple[str, str] | None:
    """The nearest folder with a configuration of pytest, and what it is."""
    found: list[tuple[int, int, str, str]] = []
    for rank, name in enumerate(_PYTEST_FILES):
        for folder in project.folders(name):
            path = f"{folder}/{name}" if folder else name
            if name == "conftest.py":
                reason, folder = f"{path} exists", _without_tests(folder)
            elif name.endswith("pytest.ini"):
                reason = f"{path} exists"
            elif section := _PYTEST_SECTION.search(project.read(path) or ""):
                reason = f"{path} has {section[0]}"
            else:
                continue
            found.append((_depth(folder), rank, folder, reason))
    return min(found)[2:] if found else None


def _pytest(project: _Project, folder: str, reason: str, example: str = "") -> _Candidate:
    command, missing = _pytest_command(project, folder)
    subject = _without_tests(example.rpartition("/")[0])
    return _Candidate(f"{command} --tb=short", f"pytest: {reason}", folder, 0, missing, subject)


def _pytest_command(project: _Project, folder: str) -> tuple[str, str]:
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


def _unittest(project: _Project, tests: list[str]) -> _Candidate:
    starts: dict[str, int] = {}
    for path in tests:
        start = _start(project, path)
        starts[start] = starts.get(start, 0) + 1
    # The start with the most files; the nearest of those.
    start = min(starts, key=lambda folder: (-starts[folder], _depth(folder), folder))
    python = _venv(project, "")[0] or _interpreter(project)
    command = f"{python} -m unittest"
    if start:
        command += f" discover -s {_quoted(start)}"
    mine = [path for path in tests if _start(project, path) == start]
    if not any(path.rpartition("/")[2].startswith("test") for path in mine):
        command += " -p '*_test.py'" if start else " discover -p '*_test.py'"
    command += " -v"  # names the tests that pass, too: the result says per test what changed
    # Run at the root, wherever the tests lie.
    subject = _without_tests(mine[0].rpartition("/")[0])
    return _Candidate(command, f"unittest: {mine[0]} uses it", "", 1, subject=subject)


def _start(project: _Project, path: str) -> str:
    """The folder that unittest's discovery has to start in to see this file; '' is the root."""
    folder = path.rpartition("/")[0]
    while folder and f"{folder}/__init__.py" in project.files:
        folder = folder.rpartition("/")[0]
    return folder


def _javascript(project: _Project) -> Iterator[_Candidate]:
    for folder in project.folders("package.json"):
        path = _join(folder, "package.json")
        script = _test_script(project.read(path) or "")
        if script is None:
            continue
        manager, command = "npm", "npm test --silent"
        for lock, choice in _LOCKS.items():
            if _join(folder, lock) in project.files or lock in project.files:
                manager, command = choice
                break
        missing = "" if project.which(manager) else manager
        yield _Candidate(command, f'{path} has a script "test"', folder, 2, missing)


def _test_script(text: str) -> str | None:
    import json

    try:
        package = json.loads(text)
        script = package["scripts"]["test"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # npm writes this placeholder into every new package.
    real = isinstance(script, str) and script.strip() and "no test specified" not in script
    return script if real else None


def _rust(project: _Project) -> Iterator[_Candidate]:
    missing = "" if project.which("cargo") else "cargo"
    for folder in project.folders("Cargo.toml")[:1]:
        yield _Candidate("cargo test -q", f"{_join(folder, 'Cargo.toml')} exists", folder, 3, missing)


def _go(project: _Project) -> Iterator[_Candidate]:
    missing = "" if project.which("go") else "go"
    for folder in project.folders("go.mod")[:1]:
        yield _Candidate("go test ./...", f"{_join(folder, 'go.mod')} exists", folder, 4, missing)


def _make(project: _Project) -> Iterator[_Candidate]:
    missing = "" if project.which("make") else "make"
    for name in _MAKEFILES:
        for folder in project.folders(name)[:3]:
            path = _join(folder, name)
            if _MAKE_TEST.search(project.read(path) or ""):
                yield _Candidate("make test", f"{path} has a target test", folder, 5, missing)
                break


def _venv(project: _Project, folder: str) -> tuple[str, str]:
    """The nearest virtual environment: its interpreter as seen from the folder, and its own path."""
    for up, home in ((0, folder), (_depth(folder), ""))[: 2 if folder else 1]:
        for name in (".venv", "venv"):
            environment = _join(home, name)
            if project.has(f"{environment}/pyvenv.cfg"):
                return "../" * up + f"{name}/bin/python", environment
    return "", ""


def _interpreter(project: _Project) -> str:
    return "python3" if project.which("python3") or not project.which("python") else "python"


def _without_tests(folder: str) -> str:
    """The folder whose tests these are: `pkg/tests/unit` is about `pkg`."""
    parts = folder.split("/") if folder else []
    for number, part in enumerate(parts):
        if part in ("test", "tests", "testing"):
            return "/".join(parts[:number])
    return folder


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _quoted(word: str) -> str:
    """The word for a shell."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"
