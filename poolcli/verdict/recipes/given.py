"""A command that somebody wrote, `--test "pytest -x tests"`, as a recipe: which runner it comes down to."""

from __future__ import annotations

import re
from collections.abc import Callable

from poolcli.verdict.recipes import KINDS, Recipe
from poolcli.verdict.recipes.shell import quoted

#: What the last program of a command is. The first that matches wins: wrappers stand before what they start.
_RUNNERS = (
    ("tox", r"(?:^|[\s/])tox(?=\s|$)"),
    ("nox", r"(?:^|[\s/])nox(?=\s|$)"),
    ("pytest", r"(?:^|[\s/])(?:pytest|py\.test)(?=\s|$)"),
    ("unittest", r"\s-m\s+unittest(?=\s|$)"),
    ("nextest", r"\bcargo\s+nextest\s+run\b"),
    ("cargo", r"\bcargo\s+test\b"),
    ("go", r"(?:^|\s)go\s+test\b"),
    ("maven", r"(?:^|[\s/])(?:mvn|mvnw)\s(?:.*\s)?(?:test|verify|package|install)(?=\s|$)"),
    ("gradle", r"(?:^|[\s/])(?:gradle|gradlew)\s(?:.*\s)?(?::?[\w:]*test|check|build)(?=\s|$)"),
    ("rspec", r"(?:^|[\s/])rspec(?=\s|$)"),
    ("minitest", r"(?:^|[\s/])(?:rake|rails)\s+test(?=\s|$)"),
    ("phpunit", r"(?:^|[\s/])phpunit(?=\s|$)"),
    ("ctest", r"(?:^|[\s/])ctest(?=\s|$)"),
    ("prove", r"(?:^|[\s/])prove(?=\s|$)"),
    ("make", r"(?:^|[\s/])make(?=\s|$)"),
)
_SCRIPT = re.compile(r"^(npm|pnpm|yarn|bun) +(?:(?:run(?:-script)?|--silent) +)?([\w:.-]+)((?: +--silent)?)$")
#: A pipe, a list, a redirection: options added at the end would go elsewhere, or the exit code is another's.
_TANGLED = re.compile(r"[|;\n<>`]|(?<!&)&(?!&)|\$\(")


def recognised(command: str, why: str, read: Callable[[str], str | None] = lambda path: None) -> Recipe:
    """The command as a recipe; runner `script`, which has neither report nor selection, when it is not plain.

    `read` gives the text of a file of the repository: what `npm test` means stands in package.json.
    """
    folder, rest = "", command.strip()
    if found := re.match(r"cd ([\w@%+=:,./-]+|'[^']*') && ", rest):
        place = found[1].strip("'").rstrip("/").removeprefix("./")
        if place and place[0] not in "/-~" and ".." not in place.split("/") and quoted(place) == found[1]:
            folder, rest = place, rest[found.end() :].strip()
    if _TANGLED.search(rest):
        return Recipe("script", folder, command, why)
    runner, direct = _runner(rest, folder, read)
    return Recipe(runner, folder, command, why, "", KINDS.get(runner, ""), direct=direct or rest)


def _runner(command: str, folder: str, read: Callable[[str], str | None]) -> tuple[str, str]:
    """The one runner behind the command, and the command that takes its options ('' for the same)."""
    parts = [part.strip() for part in command.split("&&")]
    if len(parts) == 1 and (script := _SCRIPT.match(command)):
        from poolcli.verdict.recipes import javascript

        data = javascript.package(read(f"{folder}/package.json" if folder else "package.json") or "")
        name = "test" if script[2] == "t" else script[2]
        understood = javascript.understood(data, script[1], name)
        return understood.runner, understood.direct
    found = [_of(part) for part in parts]
    # Before the last, another runner's results would be missing from the report.
    if any(runner != "script" for runner in found[:-1]):
        return "script", ""
    return found[-1], ""


def _of(part: str) -> str:
    from poolcli.verdict.recipes.javascript import RUNNERS

    for runner, pattern in (*((name, re.compile(text)) for name, text in _RUNNERS), *RUNNERS):
        if pattern.search(part):
            return runner
    return "script"
