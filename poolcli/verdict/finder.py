"""Finds the commands that check a repository, and says in one sentence why each was chosen.

Each kind of project contributes candidates. What can be run comes first, then what is nearest to the root,
then the most specific. The answer depends on the files alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from poolcli.verdict import found_others, found_python
from poolcli.verdict.checks import Checks
from poolcli.verdict.recipes import KINDS, Recipe
from poolcli.verdict.recipes.shell import in_folder
from poolcli.verdict.survey import Candidate, Project, Read, Which, join, survey


def find(files: Collection[str], read: Read, which: Which) -> Checks | None:
    """The checks of a repository with these files, or None when nothing says how it is tested.

    `files` are relative paths; `read` gives a file's text or None, also of ignored files such as
    `.venv/pyvenv.cfg`; `which` is `shutil.which`.
    """
    candidates = list(_candidates(survey(files, read, which)))
    if not candidates:
        return None
    candidates.sort(key=lambda candidate: candidate.order)
    best = candidates[0]
    recipe = _recipe(best, [other for other in candidates[1:] if _stands_in(other, best)])
    why = f"{best.why}, but {best.missing} was not found" if best.missing else best.why
    return Checks(recipe.command, "found", why, recipe)


def find_all(files: Collection[str], read: Read, which: Which) -> list[Recipe]:
    """Every way to check that this repository needs, the nearest to the root first.

    One for each folder and family of languages; another way to do the same is among its fallbacks. What a build
    or a script at the top runs anyway is not named again for the folders below. Parameters as of `find`.
    """
    project = survey(files, read, which)
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in sorted(_all_candidates(project), key=lambda candidate: candidate.order):
        groups.setdefault((candidate.folder, candidate.family), []).append(candidate)
    around = [group for (_, family), group in groups.items() if family == "wrapper"]
    real = {key: group for key, group in groups.items() if key[1] != "wrapper"}
    recipes = []
    for (folder, _), group in real.items():
        wrappers = [other for others in around for other in others if other.folder == folder]
        recipes.append((group[0].order, _recipe(group[0], [*group[1:], *wrappers])))
    folders = {folder for folder, _ in real}
    for group in around:
        if group[0].folder not in folders:
            recipes.append((group[0].order, _recipe(group[0], group[1:])))
    return [recipe for _, recipe in sorted(recipes, key=lambda pair: pair[0])]


def _candidates(project: Project) -> Iterator[Candidate]:
    yield from found_python.python(project)
    for kind in found_others.KINDS:
        yield from kind(project)
    yield from found_python.wrappers(project)


def _all_candidates(project: Project) -> Iterator[Candidate]:
    """As `_candidates`, with Python's projects below the root apart, and no package twice."""
    parts = _python_parts(project)
    for part in parts:
        inside = project.below(part).without(
            [other[len(part) + 1 :] for other in parts if other.startswith(f"{part}/")]
        )
        for candidate in found_python.python(inside):
            folder, subject = join(part, candidate.folder).rstrip("/"), candidate.subject
            yield replace(
                candidate,
                folder=folder,
                subject=join(part, subject) if subject else "",
                why=f"{candidate.why} (in {part})",
            )
    rest = project.without(parts) if parts else project
    yield from found_python.python(rest)
    covering = [
        folder
        for folder in project.folders("package.json")
        if found_others.runs_all_packages(project, folder)
    ]
    for kind in found_others.KINDS:
        for candidate in kind(project):
            if candidate.family != "javascript" or not _below(candidate.folder, covering):
                yield candidate
    yield from found_python.wrappers(project)


def _below(folder: str, tops: Sequence[str]) -> bool:
    return any(folder != top and (not top or folder.startswith(f"{top}/")) for top in tops)


def _python_parts(project: Project) -> list[str]:
    """Folders below the root that are Python projects of their own, with tests in them."""
    markers = project.folders("pyproject.toml", "setup.py", "setup.cfg", "pytest.ini", "tox.ini")
    return [
        folder
        for folder in markers
        if folder and any(path.startswith(f"{folder}/") for path in project.tests)
    ]


def _stands_in(other: Candidate, best: Candidate) -> bool:
    """Whether a candidate checks the same as the best one."""
    return other.folder == best.folder and other.family in (best.family, "wrapper")


def _recipe(candidate: Candidate, others: Sequence[Candidate]) -> Recipe:
    """The candidate as a recipe, the others as what to try when nothing comes of it."""
    own = _plain(candidate)
    fallbacks = [_plain(other) for other in others if not other.missing]
    if candidate.runner == "pytest":
        fallbacks.insert(0, without_options(own))
    return replace(own, fallbacks=tuple(fallbacks))


def without_options(recipe: Recipe) -> Recipe:
    """pytest without the options that the project configures: they may hold what stops it."""
    from poolcli.verdict.recipes.python import WITHOUT_OPTIONS

    why = f"{recipe.why}, without the options it configures"
    return replace(recipe, command=f"{recipe.command} {WITHOUT_OPTIONS}", why=why, fallbacks=())


def _plain(candidate: Candidate) -> Recipe:
    return Recipe(
        candidate.runner,
        candidate.folder,
        in_folder(candidate.folder, candidate.command),
        candidate.why,
        candidate.missing,
        report_kind=candidate.report_kind or KINDS.get(candidate.runner, ""),
        direct=candidate.direct,
    )
