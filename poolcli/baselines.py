"""What the checks said of a base, kept for the next run on the same files: only where that took long."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from poolcli.git import Repository, git
from poolcli.stages import SLOW
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.workspace import Workspace

#: The folder of a repository's state folder that holds them.
FOLDER = "bases"
#: Programs whose version decides what checks say, beside those that the commands begin with.
PROGRAMS = ("python3", "python", "node", "go", "cargo", "java", "ruby", "php", "cc", "make")


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
    if report.seconds < SLOW or report.status not in ("passed", "failed") or report.note or not report.built:
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
    recipe = checks.recipe
    programs = [recipe.bare.split(" ", 1)[0]] if recipe is not None else []
    commands = f"{checks.build}\n{checks.command}"
    if space.packages is not None:
        commands += f"\nsetup {space.packages.key}"
    return key(space.repo, space.base, commands, programs, space.environment)


def key(
    repo: Repository,
    base: str,
    commands: str,
    programs: Iterable[str],
    variables: Mapping[str, str] | None = None,
) -> str:
    """The name of a result of the commit `base`: its files, the commands, and the environment that they run in."""
    from poolcli.verdict import baseline

    tree = git([*repo.pin(), "rev-parse", f"{base}^{{tree}}"], cwd=repo.top).decode().strip()
    environment = os.environ if variables is None else variables
    folders = [repo.top / name for name in (".venv", "venv", "node_modules")]
    if active := environment.get("VIRTUAL_ENV"):
        folders.append(Path(active))
    known = baseline.fingerprint(sorted({*PROGRAMS, *programs}), folders, environment)
    return baseline.key(tree, commands, known)
