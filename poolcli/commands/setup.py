"""`pool setup`: install a project's dependencies in the sandbox, once for each state of its lock files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from poolcli import config, paths, person, process, recipes, redact, setup, workspace, worktrees
from poolcli.commands.status_line import StatusLine
from poolcli.errors import Exit, RefusedError, StoreError, UsageError
from poolcli.git import Repository, find_repository
from poolcli.interrupts import Interrupts
from poolcli.recipes import Recipe
from poolcli.sandbox import Confinement, Sandbox, choose, ownership
from poolcli.sanitize import clean
from poolcli.setup import Ready, SetupError
from poolcli.store.runs import new_run_id
from poolcli.workspace import Workspace

if TYPE_CHECKING:
    from poolcli.network.proxy import Decision

QUESTION = "Run this in the sandbox, with these hosts in reach?"
#: Seconds for one command of a recipe: a large project that builds its packages takes half of it.
PATIENCE = 3600.0
#: Before a row that goes on.
GUTTER = "       : "
#: Refused hosts that an error names.
NAMED = 5


def install(flags: Mapping[str, Any], *, yes: bool, show: bool, again: bool) -> int:
    """Show what would be installed and how, ask, do it. Returns the exit code.

    Raises UsageError where nobody can answer, RefusedError without a sandbox that can do it, SetupError when a
    command of the recipe fails.
    """
    repo = find_repository(Path.cwd())
    state = paths.repository_state(repo.common_dir)
    settings = config.load(repo.top, flags=flags)
    redact.use(config.redactor(settings))
    for notice in settings.notices:
        _say(f"warning: {notice}")
    recipe = setup.recipe_for(settings, repo)
    if recipe is None:
        sys.stdout.write(
            "nothing to install: no lock file or list of packages was found\n"
            "  a table [setup] in your configuration names the commands (docs/configuration.md)\n"
        )
        return 0
    recipe = setup.reaching(recipe, repo)
    key = setup.key_for(recipe, repo)
    ready = setup.find(state, key)
    if show or ready is None or again:
        _show(recipe, repo)
    if ready is not None and (show or not again):
        sys.stdout.write(f"it is made: {_made(recipe, ready)}; `pool setup --again` makes it anew\n")
        return 0
    if show:
        sys.stdout.write("not made yet\n")
        return 0
    sandbox = _sandbox(settings.sandbox)
    if not yes and not _agreed():
        _say("nothing was installed")
        return int(RefusedError.exit_code)
    for said in workspace.collect(repo, state):
        _say(said)
    made, ended = asyncio.run(_installed(recipe, repo, state, key, sandbox, again=again))
    if made is None:
        _say("interrupted; nothing was left behind")
        return int(ended)
    sys.stdout.write(f"done: {_made(recipe, made)}; runs here use it, without a network\n")
    return 0


def _sandbox(wanted: str) -> Sandbox:
    """The one sandbox that lets listed hosts through and can mount what was made. Raises RefusedError."""
    chosen = choose.here(wanted, asks=False).sandbox
    if chosen.name != "bubblewrap":
        raise RefusedError(
            f"a setup is made and used in bubblewrap; the {chosen.name} sandbox can neither let single hosts through "
            "nor mount packages",
            "install the packages in your checkout yourself: runs use its .venv and node_modules",
        )
    return chosen


def _show(recipe: Recipe, repo: Repository) -> None:
    lines = recipes.shown(recipe).rstrip("\n").split("\n")
    own = [name for name in recipe.keeps if os.path.lexists(repo.top / name)]
    if own:
        lines.append(
            f"  note   your checkout has {', '.join(own)} itself: runs use that and not what is made"
        )
    # Elsewhere than at a terminal a line is a line.
    width = (
        max(30, shutil.get_terminal_size().columns - len(GUTTER) - 1) if sys.stdout.isatty() else sys.maxsize
    )
    for line in lines:
        for number, row in enumerate(person.broken("".join(person.visible(line)), width)):
            # A row that goes on has a gutter: a long command must not make one that looks like pool's own.
            sys.stdout.write(f"{GUTTER if number else ''}{row}\n")
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def _made(recipe: Recipe, ready: Ready) -> str:
    """What there is of a setup, in words."""
    return "".join(person.visible(", ".join(sorted(ready.folders)) or recipe.why))


def _agreed() -> bool:
    terminal = person.present(json=False)
    if terminal is None:
        raise UsageError(
            "nobody is here to be asked whether these commands may run",
            "look at them with `pool setup --show`, then `pool setup --yes`",
        )
    return asyncio.run(terminal.confirm(QUESTION))


def _say(text: str) -> None:
    sys.stderr.write(clean(text, keep_newlines=False) + "\n")


async def _installed(
    recipe: Recipe, repo: Repository, state: Path, key: str, sandbox: Sandbox, *, again: bool
) -> tuple[Ready | None, Exit]:
    """What was made, or None with the exit code of the signal that came."""
    name = f"{new_run_id()}{worktrees.PLACE}"
    task = asyncio.ensure_future(_in_a_place(recipe, repo, state, key, sandbox, name, again=again))
    with Interrupts(task, lambda: process.kill_marked(name)) as interrupts:
        try:
            return await task, Exit.VERIFIED
        except asyncio.CancelledError:
            if interrupts.exit_code is None:
                raise
            return None, interrupts.exit_code


async def _in_a_place(
    recipe: Recipe, repo: Repository, state: Path, key: str, sandbox: Sandbox, name: str, *, again: bool
) -> Ready:
    refused: dict[str, None] = {}

    def decided(decision: Decision) -> None:
        if not decision.allowed and len(refused) < NAMED:
            refused[f"{decision.host}:{decision.port}"] = None

    with _place(repo, state, sandbox, name) as space:
        space.variables, writable = setup.environment(state, key, recipe)
        if owner := ownership.foreign_owner(repo.top):
            ownership.give(writable, owner)
        async with _way_out(space, recipe, writable, decided):
            logs: list[Path] = []

            async def run(command: str) -> process.Finished:
                _forget(logs)  # a command that went well has nothing to tell
                logs[:] = [state / "setup" / f"{key}.log"]
                async with StatusLine(sys.stderr, command) as line:
                    return await space.run(command, timeout=PATIENCE, log=logs[0], on_output=line.output)

            try:
                made = await setup.make(recipe, space.root, state, key, run, again=again)
            except SetupError as error:
                error.hint = f"its whole output: {logs[0]}"
                if refused:
                    hosts = ", ".join(refused)
                    error.hint = f"refused: {hosts}; `allow_net` in [setup] lets hosts through\n{error.hint}"
                raise
            except BaseException:
                _forget(logs)
                raise
            _forget(logs)
            return made


def _forget(logs: Sequence[Path]) -> None:
    for log in logs:
        log.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _way_out(
    space: Workspace, recipe: Recipe, writable: tuple[Path, ...], decided: Callable[[Decision], None]
) -> AsyncIterator[None]:
    """Give the workspace's commands the folders that they may write, and the recipe's hosts."""
    from poolcli.network import hosts
    from poolcli.network.inside import PROGRAM
    from poolcli.network.proxy import Proxy

    proxy = Proxy(hosts.allowed(recipe.hosts), decided)
    path = space.run_dir / "proxy"

    def confine(whole: Confinement) -> Confinement:
        whole = replace(whole, writable=(*whole.writable, *writable))
        return replace(whole, proxy=path, readable=(*whole.readable, PROGRAM.parent))

    await proxy.start(path)
    try:
        if owner := ownership.foreign_owner(space.repo.top):  # commands have that user's rights
            os.chown(path, *owner)
        space.confine = confine
        yield
    finally:
        await proxy.close()


@contextlib.contextmanager
def _place(repo: Repository, state: Path, sandbox: Sandbox, name: str) -> Iterator[Workspace]:
    """The checkout as it is, without the packages in it, in a worktree for the time of a `with`."""
    folder = paths.private_dir(state / "runs" / name)
    # Held as a run's lock is: who finds the place meanwhile leaves it alone, and it is free when we are killed.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            space = workspace.create(repo, run_id=name, state=state, sandbox=sandbox)
            # What is made must not depend on what the user has.
            space.record = replace(space.record, borrowed=())
            yield space
        except OSError as error:
            raise StoreError(f"the setup cannot be made in {folder}: {error.strerror}") from error
        finally:
            process.kill_marked(name)
            worktrees.discard(repo, name, state)
            with contextlib.suppress(OSError):
                worktrees.remove_tree(folder)
    finally:
        os.close(lock)
