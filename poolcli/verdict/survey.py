"""One look over the names of a repository's files, and what is to be said of each way to check it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from msgspec import Struct

Read = Callable[[str], "str | None"]
Which = Callable[[str], "str | None"]

#: Test files looked into, to tell which framework they use: the nearest ones speak for the others.
LOOKED_INTO = 12

PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
GRADLE_FILES = ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts")
PHPUNIT_FILES = ("phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml")
_MARKERS = frozenset(
    {
        *PYTEST_FILES,
        *MAKEFILES,
        *GRADLE_FILES,
        *PHPUNIT_FILES,
        *("package.json", "Cargo.toml", "go.mod", "pom.xml", "setup.py", "noxfile.py", ".rspec"),
        *("Makefile.am", "CMakeLists.txt", "Makefile.PL", "Build.PL"),
    }
)
#: Test files of languages other than Python, by how their names end.
_OTHERS = (
    *("_spec.rb", "_test.rb", "Test.php", ".t"),
    *(
        f".{word}.{ending}"
        for word in ("test", "spec")
        for ending in ("js", "mjs", "cjs", "ts", "mts", "tsx")
    ),
)
#: Folders whose projects are not this repository's own.
_SKIPPED = re.compile(
    r"(?:^|/)(?:node_modules|vendor|third_party|\.?venv|target|fixtures|testdata|examples?)/"
)


class Candidate(Struct, frozen=True):
    """One way to check one folder, and how much it recommends itself."""

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
    runner: str = "script"
    #: Ways of one family check the same code; a `wrapper` starts another one.
    family: str = "wrapper"
    #: As `Recipe.direct`.
    direct: str = ""
    #: As `Recipe.report_kind`, when that is not the runner's.
    report_kind: str = ""

    @property
    def order(self) -> tuple[bool, int, int, str]:
        """What can be run first, then what is nearest to the root, then the most specific."""
        return bool(self.missing), depth(self.subject or self.folder), self.rank, self.folder


class Project(Struct, frozen=True):
    """What the candidates look at.

    `base` is where a part of a repository lies in it: every path here is relative to that folder.
    """

    files: Collection[str]
    markers: dict[str, list[str]]
    #: Python's test files, the nearest to the root first.
    tests: list[str]
    #: Test files of other languages, in the same order.
    others: list[str]
    read: Read
    which: Which
    base: str = ""

    def folders(self, *names: str) -> list[str]:
        """Folders that hold a file of one of these names, the nearest to the root first."""
        found = {folder for name in names for folder in self.markers.get(name, ())}
        return sorted(found, key=lambda folder: (depth(folder), folder))

    def has(self, path: str) -> bool:
        """Whether a file can be read, also one that git ignores."""
        return self.read(path) is not None

    def below(self, folder: str) -> Project:
        """The part of the project in the folder."""
        start = f"{folder}/"
        known = self.read

        def inside(paths: Collection[str]) -> list[str]:
            return [path[len(start) :] for path in paths if path.startswith(start)]

        markers = {
            name: [part[len(start) :] for part in folders if f"{part}/".startswith(start)]
            for name, folders in self.markers.items()
        }
        return Project(
            _Below(self.files, start),
            markers,
            inside(self.tests),
            inside(self.others),
            lambda path: known(_normal(start, path)),
            self.which,
            folder,
        )

    def without(self, folders: Collection[str]) -> Project:
        """The project as if nothing lay in these folders."""
        starts = tuple(f"{folder}/" for folder in folders)
        markers = {
            name: [part for part in places if not f"{part}/".startswith(starts)]
            for name, places in self.markers.items()
        }
        tests = [path for path in self.tests if not path.startswith(starts)]
        others = [path for path in self.others if not path.startswith(starts)]
        return Project(self.files, markers, tests, others, self.read, self.which, self.base)


class _Below(Collection[str]):
    """The files in a folder, by their path from there. Looked up, not copied: there may be a hundred such folders."""

    def __init__(self, files: Collection[str], start: str) -> None:
        self._files, self._start = files, start

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._start + path in self._files

    def __iter__(self) -> Iterator[str]:
        return (path[len(self._start) :] for path in self._files if path.startswith(self._start))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _normal(start: str, path: str) -> str:
    """The path from the root, also for one that leads up again."""
    while path.startswith("../"):
        start, path = start.rstrip("/").rpartition("/")[0], path[3:]
        start += "/" if start else ""
    return start + path


def survey(files: Collection[str], read: Read, which: Which) -> Project:
    """One pass over all names."""
    markers: dict[str, list[str]] = {}
    tests: list[str] = []
    others: list[str] = []
    for path in files:
        folder, _, name = path.rpartition("/")
        python = name.endswith(".py") and (name.startswith("test") or name.endswith("_test.py"))
        other = name.endswith(_OTHERS) or (name.startswith("test_") and name.endswith(".rb"))
        if not (python or other or name in _MARKERS) or (folder and _SKIPPED.search(folder + "/")):
            continue
        if name in _MARKERS:
            markers.setdefault(name, []).append(folder)
        else:
            (tests if python else others).append(path)
    for found in (tests, others):
        found.sort(key=lambda path: (path.count("/"), path))
    known = files if isinstance(files, set | frozenset | dict) else frozenset(files)
    return Project(known, markers, tests, others, read, which)


def without_tests(folder: str) -> str:
    """The folder whose tests these are: `pkg/tests/unit` is about `pkg`."""
    parts = folder.split("/") if folder else []
    for number, part in enumerate(parts):
        if part in ("test", "tests", "testing"):
            return "/".join(parts[:number])
    return folder


def join(folder: str, name: str) -> str:
    """A path in the folder; '' is the root."""
    return f"{folder}/{name}" if folder else name


def depth(folder: str) -> int:
    """How many folders deep; the root is 0."""
    return folder.count("/") + 1 if folder else 0
