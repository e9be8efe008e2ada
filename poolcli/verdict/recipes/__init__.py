"""How a project's checks are run: all of them, with a report that a program can read, or only some.

A recipe is data and text: nothing here runs anything. What each runner's options are called stands in one module
per family of languages; this one only knows where to look.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from poolcli.verdict.recipes.shell import in_folder, quoted

if TYPE_CHECKING:
    from poolcli.verdict.recipes.shell import Way

#: Which module knows the runner.
_HOMES = {
    "pytest": "python",
    "unittest": "python",
    "nox": "python",
    "tox": "python",
    "node-test": "javascript",
    "jest": "javascript",
    "vitest": "javascript",
    "mocha": "javascript",
    "go": "compiled",
    "cargo": "compiled",
    "nextest": "compiled",
    "ctest": "compiled",
    "make": "compiled",
    "maven": "jvm",
    "gradle": "jvm",
    "rspec": "scripting",
    "minitest": "scripting",
    "phpunit": "scripting",
    "prove": "scripting",
}

#: Characters of one command. Linux refuses an argument of more than 131,072 bytes, and the shell gets it as one.
LONGEST = 100_000

#: How each runner's report is read. Those that only pass on to another runner are told by their recipe.
KINDS = {
    "pytest": "junit",
    "node-test": "junit",
    "jest": "jest-json",
    "vitest": "junit",
    "mocha": "junit",
    "go": "go-json",
    "nextest": "junit",
    "ctest": "ctest-junit",
    "maven": "junit",
    "gradle": "junit",
    "rspec": "rspec-json",
    "phpunit": "junit",
}
#: Whose test files end so. A test that names a file of another language is not theirs.
_ENDINGS = {
    **dict.fromkeys(("pytest", "unittest", "nox", "tox"), (".py",)),
    **dict.fromkeys(
        ("node-test", "jest", "vitest", "mocha"),
        (".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"),
    ),
    "go": (".go",),
    **dict.fromkeys(("cargo", "nextest"), (".rs",)),
    **dict.fromkeys(("maven", "gradle"), (".java", ".kt", ".groovy", ".scala")),
    **dict.fromkeys(("rspec", "minitest"), (".rb",)),
    "phpunit": (".php",),
    "prove": (".t",),
}
_FILE = re.compile(r"^[^:\[> ]*?(\.[a-z]+)(?=$|::| > |\[|:\d)")


class Recipe(Struct, frozen=True):
    """One way to check one folder.

    `command` is plain, as people run it from the root; `why` says what it was chosen for. `missing` names the
    program that it needs and that is not there. `runner` is the test runner behind the command, `script` or
    `make` when that is not known.
    """

    runner: str
    #: Where it runs; '' is the root.
    folder: str
    command: str
    why: str
    missing: str = ""
    #: Which reader understands the report: junit | jest-json | rspec-json | go-json | ctest-junit; '' for none.
    report_kind: str = ""
    #: Tried in this order when no test could be read from what came back.
    fallbacks: tuple[Recipe, ...] = ()
    #: The command without `cd`, to which the runner's options are added, when that is not `command` itself
    #: (`npm test --silent --`); '' when it is.
    direct: str = ""

    @property
    def bare(self) -> str:
        """The command inside the folder: options are added to it."""
        if self.direct:
            return self.direct
        return self.command.removeprefix(in_folder(self.folder, "")) if self.folder else self.command

    def reporting(self, report: str) -> str:
        """The command that also writes a report for programs to `report`, as the shell reads it.

        `report` is an absolute path: of a folder that is made when `report_kind` is junit and the runner writes
        many files (Maven, Gradle), else of a file in a folder that exists. '' when the runner has no way. The
        exit code is that of the checks.
        """
        way = self._way()
        if way is None or way.report is None or not self.report_kind:
            return ""
        return in_folder(self.folder, way.report(self.bare, quoted(report)))

    def selecting(self, tests: Sequence[str], report: str = "") -> str:
        """The command for these tests (ids or files) only, with a report when `report` is given.

        Where a runner cannot name tests exactly, some more run, never fewer. '' when there is no way, when there
        are no tests, and when naming them would be too long for a command: then all have to run.
        """
        way = self._way()
        if way is None or way.select is None or not tests:
            return ""
        inside = [test.removeprefix(f"{self.folder}/") for test in tests] if self.folder else list(tests)
        # What tests call themselves is not to be trusted: never an option of the runner.
        if any(test.startswith("-") or "\0" in test for test in inside):
            return ""
        command = way.select(self.bare, inside)
        if not command:
            return ""
        if report:
            if way.report is None or not self.report_kind:
                return ""
            command = way.report(command, quoted(report))
        command = in_folder(self.folder, command)
        return command if len(command) <= LONGEST else ""

    def speaks_of(self, test: str) -> bool:
        """Whether the test can be this runner's, by the file that its name begins with; True when it names none."""
        file = _FILE.match(test)
        known = {ending for endings in _ENDINGS.values() for ending in endings}
        return file is None or file[1] not in known or file[1] in _ENDINGS.get(self.runner, ())

    def detailed(self) -> str:
        """The command that says most in its output, for runners without a report: every test by name."""
        way = self._way()
        if way is None or way.detail is None:
            return self.command
        return in_folder(self.folder, way.detail(self.bare))

    def _way(self) -> Way | None:
        home = _HOMES.get(self.runner)
        if home is None:
            return None
        from importlib import import_module

        way: Way | None = import_module(f"poolcli.verdict.recipes.{home}").WAYS.get(self.runner)
        return way


def nearest(recipes: Sequence[Recipe], changed: Sequence[str]) -> list[Recipe]:
    """The recipes in the order to run them when these files changed: the closest folder first, all in the end.

    A recipe is close to a file that lies in its folder, closer the deeper the folder is. Those that no file lies
    in keep their order, behind.
    """

    def closeness(recipe: Recipe) -> int:
        if not recipe.folder:
            return 0 if changed else -1
        near = any(path.startswith(recipe.folder + "/") for path in changed)
        return recipe.folder.count("/") + 1 if near else -1

    return sorted(recipes, key=lambda recipe: (bool(recipe.missing), -closeness(recipe)))
