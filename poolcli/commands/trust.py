"""`pool trust`: show a repository's `.pool/`, or how it changed, and let a person say that it may have an effect."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from poolcli import paths, person
from poolcli import trust as trusting
from poolcli.approvals import Remembered
from poolcli.errors import RefusedError, UsageError
from poolcli.git import Repository, find_repository

QUESTION = (
    "Trust these files? They can set the checks and budgets, and forbid or ask more; the checks are commands\n"
    "that pool runs."
)


def trust(*, show: bool, revoke: bool, yes: bool) -> int:
    """Show, ask, keep; returns the exit code. Raises RefusedError where nobody can answer, UsageError for wishes
    that exclude each other or for a folder that cannot be trusted."""
    if show + revoke + yes > 1:
        raise UsageError("--show, --revoke and --yes exclude each other", "give one of them")
    repo = find_repository(Path.cwd())
    answers = Remembered(paths.repository_state(repo.common_dir) / "approvals.json")
    if revoke:
        return _revoke(repo, answers)
    try:
        files = trusting.read(repo.top)  # once: what is shown is what is trusted
    except trusting.Unusable as error:
        raise UsageError(
            f"{trusting.FOLDER}/ cannot be trusted: {error}", "it has no effect as it is"
        ) from None
    before = trusting.kept(repo.top)
    changed = before is None or before.digest != trusting.digest(files)
    if show:
        _answers(answers)
    if not changed or not files:
        return _nothing_to_do(files)
    _show(before, files)
    if show:
        sys.stdout.write("not trusted: it has no effect\n")
        return 0
    if not yes and not _agreed():
        sys.stderr.write("not trusted: it has no effect\n")
        return int(RefusedError.exit_code)
    trusting.trust(repo.top, files)
    sys.stderr.write("trusted\n")
    return 0


def _revoke(repo: Repository, answers: Remembered) -> int:
    was, forgotten = trusting.revoke(repo.top), answers.forget()
    sys.stderr.write("it is trusted no more\n" if was else "it was not trusted\n")
    if forgotten:
        sys.stderr.write("the answers for this project are forgotten\n")
    return 0


def _nothing_to_do(files: object) -> int:
    text = (
        f"{trusting.FOLDER}/ is trusted as it is"
        if files
        else f"there is no {trusting.FOLDER}/ here to trust"
    )
    sys.stdout.write(text + "\n")
    return 0


def _answers(answers: Remembered) -> None:
    """What was said yes to for this project."""
    for entry in answers.read():
        text = "\\n".join(person.visible(str(entry.get("what", ""))))
        where = person.visible(str(entry.get("sandbox") or "none"))[0]
        sys.stdout.write(f"remembered yes (sandbox {where}): {text}\n")


def _show(before: trusting.Kept | None, files: dict[str, bytes]) -> None:
    rows = trusting.difference(before.files if before else {}, files)
    for row in rows:
        sys.stdout.write("".join(person.visible(row.replace("\n", "\\n"))) + "\n")
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def _agreed() -> bool:
    terminal = person.present(json=False)
    if terminal is None:
        raise RefusedError(
            "nobody is here to be asked whether it is trusted",
            "look at it with `pool trust --show`, then `pool trust --yes`",
        )
    return asyncio.run(terminal.confirm(QUESTION))
