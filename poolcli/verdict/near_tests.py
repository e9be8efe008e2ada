"""Which tests a mutant meets first: those near its file, as a command, where they cost less than all. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from poolcli.verdict.affected import Graph, order, start_of
from poolcli.verdict.recipes import Recipe
from poolcli.verdict.results import Case

#: What the tests near by may cost, as a share of all. They notice about two of three mutants, and who is not noticed
#: by them costs all tests as well: above two thirds nothing is saved, and at half of it a third of that share is.
SHARE = 1 / 2


def near_tests(
    cases: Mapping[str, Case],
    source: Callable[[str], Recipe | None],
    graph: Graph,
    paths: Iterable[str],
    *,
    whole: float = 0.0,
) -> dict[str, str]:
    """By path the shell command for the tests near that file; a path is left out when all tests are the better start.

    `cases` are those of a run of everything, which took `whole` seconds, `source` gives the recipe of each. A
    recipe that cannot select tests has no such command, and neither has a file that nothing seems to test.
    """
    seconds = {test: case.seconds for test, case in cases.items() if case.seconds}
    files = {test: case.file for test, case in cases.items() if case.file}
    start = start_of(whole, sum(seconds.values()), few=False)
    found = {}
    for path in paths:
        stages = order(list(cases), [path], (), graph, files=files).stages(
            seconds=seconds, start=start, whole=whole, near_share=SHARE
        )
        command = _command(stages[0], source) if stages else ""
        if command:
            found[path] = command
    return found


def hasty(recipe: Recipe, command: str) -> str:
    """The command so that it ends at the first failure, where its runner can be told: one is enough to notice."""
    if recipe.runner not in ("pytest", "nox", "tox"):
        return command
    # By the environment, so that it reaches pytest behind whatever starts it; the last of two options holds.
    return f'export PYTEST_ADDOPTS="${{PYTEST_ADDOPTS:+$PYTEST_ADDOPTS }}--maxfail=1"; {command}'


def _command(tests: Iterable[str], source: Callable[[str], Recipe | None]) -> str:
    chosen: dict[Recipe, list[str]] = {}
    for test in tests:
        recipe = source(test)
        if recipe is None:
            return ""
        chosen.setdefault(recipe, []).append(test)
    commands = []
    for recipe, mine in chosen.items():
        # What lies near are whole files nearly always, and a file is sooner named than each of its tests.
        command = recipe.selecting(_files(mine)) or recipe.selecting(mine)
        if not command:
            return ""
        commands.append(hasty(recipe, command))
    return commands[0] if len(commands) == 1 else " && ".join(f"({command})" for command in commands)


def _files(tests: Iterable[str]) -> list[str]:
    """The files of tests that name one before `::`; nothing when one does not."""
    files = dict.fromkeys(test.partition("::")[0] if "::" in test else "" for test in tests)
    return [] if "" in files else list(files)
