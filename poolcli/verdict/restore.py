"""Which files are tests and test configuration, and how a change is judged by those of its base.

By name alone, as runners and people go by: a wrong guess costs an honest change its verdict, so what is not clear
counts as product code. Files that hold both (pyproject.toml, package.json, Makefile) keep what belongs to the
product and get the parts that steer tests from the base.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from msgspec import Struct

Read = Callable[[str], "str | None"]

#: Folders whose whole content are tests and their data, wherever they lie.
_FOLDERS = frozenset(
    {
        "tests",
        "__tests__",
        "__mocks__",
        "__snapshots__",
        "testdata",
        "test-data",
        "spec",
        "specs",
        "e2e",
        "cypress",
    }
)
#: Folders of that kind at the root of a project or below `src`; deeper ones can be product code
#: (`django/test`), where only the name of the file says so.
_ROOT_FOLDERS = frozenset({"test", "testing", "unittests", "integration_tests"})
_ABOVE_ROOT = frozenset({"src", "packages", "apps", "libs", "crates", "modules"})

_TEST_NAME = re.compile(
    r"""^(?:
        test_.*\.py | .*_test\.py | tests?\.py | test[A-Z]\w*\.py
      | .*[._-](?:test|spec|cy|e2e)\.[cm]?[jt]sx?  | test\.[cm]?[jt]sx?  | .*\.snap
      | .*_test\.go
      | .*_tests?\.rs | tests?\.rs
      | .*(?:Tests?|TestCase|IT|Spec)\.(?:java|kt|groovy|scala) | Test[A-Z]\w*\.(?:java|kt)
      | .*_(?:test|spec)\.rb | test_.*\.rb
      | .*Test\.php
      | (?:.*_(?:unit)?tests?|test_.*)\.(?:c|cc|cpp|cxx)
      | .*\.t
    )$""",
    re.X,
)

#: Files that do nothing but steer tests.
_CONFIGURATION = re.compile(
    r"""^(?:
        conftest\.py | \.?pytest\.(?:ini|toml) | tox\.(?:ini|toml) | noxfile\.py | \.coveragerc
      | (?:jest|vitest|karma|ava|cypress|playwright|wallaby)\.(?:config|conf|setup|workspace)\.[\w.]+
      | (?:jest|vitest)[.-]?setup\.[cm]?[jt]sx? | setup[-_]?tests?\.[cm]?[jt]sx?
      | \.mocharc(?:\.\w+)? | mocha\.opts | \.nycrc(?:\.\w+)? | \.c8rc\.json
      | \.rspec | phpunit\.xml(?:\.dist)? | CTestCustom\.cmake | nextest\.toml
    )$""",
    re.X | re.I,
)

#: Python runs these before any program; nothing but a trick needs a new one.
STARTUP = re.compile(r"(?:^|/)(?:(?:sitecustomize|usercustomize)(?:\.py|/.*)|[^/]*\.(?:pth|egg-link))$")

#: A file of this name at an import root is taken instead of the runner, or of what it stands on.
SHADOWS = re.compile(
    r"^(?:src/|lib/)?(?:pytest|_pytest|pluggy|iniconfig|unittest|doctest|nose2?|xdist|coverage|hypothesis|mock|"
    r"_pytest_\w+|site|builtins|importlib|runpy|traceback|atexit)(?:\.py|/.*\.py)$"
)

#: Files that hold product and test settings side by side.
_MIXED = frozenset({"pyproject.toml", "setup.cfg", "package.json", "GNUmakefile", "makefile", "Makefile"})


class Plan(Struct, frozen=True):
    """What makes a place with a change in it a place where that change is judged by the tests of its base."""

    #: Paths to be as in the base again: changed or deleted tests and test configuration.
    restore: tuple[str, ...] = ()
    #: New tests and test configuration of the change: taken away.
    remove: tuple[str, ...] = ()
    #: (path, text): files that keep the product's part of the change.
    write: tuple[tuple[str, str], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the change touches no test and no test configuration."""
        return not (self.restore or self.remove or self.write)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that are not as the change has them."""
        return tuple(sorted({*self.restore, *self.remove, *(path for path, _ in self.write)}))


def is_test(path: str) -> bool:
    """Whether a file is a test, or data of tests, by its place or name."""
    *folders, name = path.split("/")
    # The last part counts, too: a link in the place of a folder of tests.
    if not _FOLDERS.isdisjoint((*folders, name)):
        return True
    for number, folder in enumerate((*folders, name)):
        above = folders[:number]
        if folder in _ROOT_FOLDERS and (not above or above[-1] in _ABOVE_ROOT or above[0] in _ABOVE_ROOT):
            return True
    return _TEST_NAME.match(name) is not None


def is_configuration(path: str) -> bool:
    """Whether a file is there for tests to be run in a certain way, and for nothing else."""
    name = path.rpartition("/")[2]
    return bool(
        _CONFIGURATION.match(name)
        or STARTUP.search(path)
        or (path.endswith((".nextest.toml", ".config/nextest.toml")))
        or name.endswith((".pyc", ".pyo"))
    )


def is_mixed(path: str) -> bool:
    """Whether a file holds settings of tests beside those of the product."""
    return path.rpartition("/")[2] in _MIXED


def plan(changed: Iterable[str], base: Read, after: Read, exists: Callable[[str], bool]) -> Plan:
    """How the tests are brought back. `changed` are all paths that a change touches, old names of renamed files
    included; `base` and `after` give texts, `exists` says whether a path is a file of the base (also a binary)."""
    restore: list[str] = []
    remove: list[str] = []
    write: list[tuple[str, str]] = []
    for path in sorted(set(changed)):
        known = exists(path)
        if is_test(path) or is_configuration(path):
            (restore if known else remove).append(path)
        elif not known and SHADOWS.match(path):
            remove.append(path)
        elif is_mixed(path):
            now = after(path)
            if now is None:
                # Deleted, or no text any more: what it said about tests is gone with it.
                (restore if known else remove).append(path)
                continue
            mended = merged(path, base(path) or "", now)
            if mended is None:
                (restore if known else remove).append(path)
            elif mended != now:
                write.append((path, mended))
    return Plan(tuple(restore), tuple(remove), tuple(write))


def merged(path: str, base: str, after: str) -> str | None:
    """`after` with the settings of tests as in `base`; None when they cannot be told from the rest."""
    from poolcli.verdict import mixed

    return mixed.merged(path.rpartition("/")[2], base, after)


_WRITING = (
    r"add|write|create|update|rename|refactor|remove|delete|drop|skip|port|convert|migrate|improve|extend|adjust|"
    r"rewrite|split|move|reorgani[sz]e|clean|speed|parametri[sz]e|mark|cover|xfail|disable|simplify|change|edit|"
    r"modify|replace|loosen|relax"
)
_ABOUT_TESTS = re.compile(
    rf"\b(?:{_WRITING})(?:s|ing|e?d)?\b(?P<between>[^.;:\n]{{0,40}}?)"
    r"\b(?:(?:unit|integration|regression)?[ -]?tests?|test[ -](?:suite|cases?|files?|config\w*|helpers?)|specs?|"
    r"fixtures?|conftest(?:\.py)?|pytest|snapshots?|test_\w+|assertions?|markers?|test coverage|expected values?)"
    r"\b(?!\S*\s+(?:should|must|to|still|all|then|do(?:es)?|is|are|can)?\s*(?:not )?"
    r"(?:pass|fail|work|succeed|green|red|run|expects?|says?|break))",
    re.I,
)
_ELSEWHERE = re.compile(
    r"\b(?:so|that|until|make|makes|making|because|which|until|when|to|as|per|if|whose)\b", re.I
)
_FORBIDDEN = re.compile(
    r"(?:\bnot\b|n't\b|\bnever\b|\bwithout\b|\bno need to\b|\binstead of\b)[^.;\n]{0,20}$", re.I
)
_FLAKY = re.compile(r"\b(?:flaky|flak(?:e|es|iness)|brittle)\b", re.I)


def about_tests(task: str) -> bool:
    """Whether a task asks for work on the tests themselves, not only for them to pass."""
    if _FLAKY.search(task):
        return True
    return any(
        not _ELSEWHERE.search(match["between"])
        and not _FORBIDDEN.search(task[max(0, match.start() - 40) : match.start()])
        for match in _ABOUT_TESTS.finditer(task[:20_000])
    )
