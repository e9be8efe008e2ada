"""What the checks said of a base, kept for the next run on the same files: only where that took long."""

from __future__ import annotations

from pathlib import Path

from poolcli.git import git
from poolcli.stages import SLOW
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.workspace import Workspace

#: The folder of a repository's state folder that holds them.
FOLDER = "bases"


def recall(space: Workspace, checks: Checks, state: Path) -> Report | None:
    """The result for these files and checks in this environment; None when it is not known."""
    if not (state / FOLDER).is_dir():  # spares the git process that names the files
        return None
    from poolcli.verdict import baseline

    kept = baseline.Baselines(state / FOLDER).get(_key(space, checks))
    if kept is None or not kept.status:
        return None
    tests = {case.id: case.outcome for case in kept.results.cases.values()}
    return Report(kept.status, kept.exit_code, kept.seconds, kept.counts, tests, kept.text, kept.results)


def keep(space: Workspace, checks: Checks, state: Path, report: Report) -> None:
    """Keep a result that took long enough; one that cannot be kept is found out again."""
    if report.seconds < SLOW or report.status not in ("passed", "failed"):
        return
    from poolcli.verdict import baseline

    kept = baseline.Baseline(
        report.results,
        (),
        report.seconds,
        report.exit_code,
        status=report.status,
        counts=report.counts,
        text=report.text,
    )
    baseline.Baselines(state / FOLDER).put(_key(space, checks), kept)


def _key(space: Workspace, checks: Checks) -> str:
    from poolcli.verdict import baseline

    repo, recipe = space.repo, checks.recipe
    tree = git([*repo.pin(), "rev-parse", f"{space.base}^{{tree}}"], cwd=repo.top).decode().strip()
    programs = ["python3", "python", "node", "go", "cargo", "java", "ruby", "php", "cc"]
    if recipe is not None:
        programs.append(recipe.bare.split(" ", 1)[0])
    folders = [repo.top / name for name in (".venv", "venv", "node_modules")]
    environment = baseline.fingerprint(programs, folders, space.environment)
    return baseline.key(tree, checks.command, environment)
