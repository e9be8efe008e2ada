"""`pool doctor`: what a run needs, one line each, and for what is missing the next step to take."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from msgspec import Struct
from msgspec.structs import replace

from poolcli import config, paths
from poolcli.config import Config
from poolcli.errors import Exit, ModelError, PoolError, RefusedError
from poolcli.git import Repository, find_repository

if TYPE_CHECKING:
    from poolcli.commands.profile_text import Line
    from poolcli.models.endpoint import Endpoint
    from poolcli.models.profile import Profile

Status = Literal["ok", "warn", "fail"]

#: `rev-parse --path-format` and what else the workspace needs.
OLDEST_GIT = (2, 33)
#: Bytes; a worktree, its checks and their logs want some room.
LITTLE_SPACE = 1_000_000_000
#: Seconds for everything that is asked of a server.
PATIENCE = 30.0


class Finding(Struct, frozen=True):
    """One line of the report. `fix` is the next step; `code` is the exit code if this one fails."""

    status: Status
    name: str
    text: str
    fix: str = ""
    code: Exit = Exit.USAGE


def run(flags: Mapping[str, Any] | None = None, *, out: TextIO | None = None, probe: bool = False) -> int:
    """Look at everything and print it. Returns 0 when a run could start, else what it would exit with.

    `probe` measures the model again and keeps the profile.
    """
    show = Printer(out or sys.stdout)
    findings = []
    for finding in look(flags or {}, probe=probe):
        show(finding)
        findings.append(finding)
    failed = [finding.code for finding in findings if finding.status == "fail"]
    return int(min(failed, default=Exit.VERIFIED))


def look(flags: Mapping[str, Any], *, probe: bool = False) -> Iterator[Finding]:
    """Everything there is to say, in the order of a run and as soon as it is known."""
    yield git_program()
    repo, place = repository()
    yield place
    settings, settled = configuration(repo, flags)
    yield from settled
    yield sandbox(settings)
    if settings is not None:
        yield from model(settings, probe=probe)
        yield local_server(settings)
        yield from running_servers()
        if repo is not None:
            yield checks(settings, repo)
            yield from packages(settings, repo)
    yield state_folder()
    yield ripgrep()


def git_program() -> Finding:
    """The git program and its age."""
    from poolcli import git

    try:
        words = git.git(["--version"]).decode().split()
    except PoolError as error:
        return failed("git", error)
    number = next((word for word in words if word[:1].isdigit()), "0")
    version = tuple(int(part) for part in number.split(".")[:2] if part.isdigit())
    if version < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        return Finding("fail", "git", f"{number} is older than {oldest}", f"install git {oldest} or newer")
    return Finding("ok", "git", number)


def repository() -> tuple[Repository | None, Finding]:
    """The repository around the working folder."""
    try:
        repo = find_repository(Path.cwd())
    except (PoolError, OSError) as error:
        return None, failed("repository", error)
    return repo, Finding("ok", "repository", f"{repo.top}, {repo.head_name or 'detached HEAD'}")


def configuration(repo: Repository | None, flags: Mapping[str, Any]) -> tuple[Config | None, list[Finding]]:
    """The configuration, when it can be read, and what is to be said about it."""
    try:
        settings = config.load(repo.top if repo else None, flags=flags)
    except PoolError as error:
        return None, [failed("settings", error)]
    warnings = [
        Finding("warn", "settings", notice, "pool trust" if "`pool trust`" in notice else "pool config show")
        for notice in settings.notices
    ]
    return settings, warnings or [Finding("ok", "settings", "`pool config show` prints them")]


def sandbox(settings: Config | None) -> Finding:
    """What would confine commands here, why, and what it does not protect from."""
    from poolcli.sandbox import choose, detect

    here = detect.machine(thorough=True)
    interactive, ci = choose.surroundings(os.environ)
    wanted = settings.sandbox if settings else "auto"
    try:
        chosen = choose.choose(wanted, interactive=interactive, ci=ci, machine=here).sandbox
    except RefusedError as error:
        return Finding("fail", "sandbox", str(error), error.hint, Exit.REFUSED)
    bubblewrap = here.bubblewrap
    if chosen.name == "bubblewrap":
        version = detect.version(bubblewrap.program)
        text = (
            f"bubblewrap {version} ({bubblewrap.program}) around each command; not protected: {chosen.note}"
        )
        return Finding("ok", "sandbox", text)
    text = f"{chosen.name}: {chosen.note}"
    if bubblewrap.works:
        return Finding("warn", "sandbox", text, "bubblewrap works here: leave `sandbox` out of the settings")
    others = "run pool in a container or a virtual machine"
    return Finding("warn", "sandbox", f"{text}; {bubblewrap.reason}", bubblewrap.fix or others)


def model(settings: Config, *, probe: bool = False) -> list[Finding]:
    """Whether the configured model answers, and what is known of it."""
    from poolcli.models.opening import Named, reference_of
    from poolcli.models.reference import Demo, LocalFile, Remote, Scripted

    try:
        match reference_of(settings.model, settings.base_url, settings.server):
            case Scripted(file):
                if not file.is_file():
                    return [Finding("fail", "model", f"the script {file} is missing", "check the path")]
                return [Finding("ok", "model", f"replies from {file}")]
            case Demo():
                from poolcli.models.local import demo_model

                return [_demo(settings), *_learnt(demo_model())]
            case LocalFile(path):
                from poolcli.models.llama_server import check_file, choose_engine

                check_file(path)
                choose_engine(settings.server)
                return [Finding("ok", "model", f"{path}, in a server that pool starts"), *_learnt(path)]
            case Named(name):
                found = shutil.which(settings.server)
                if found is None:
                    fix = f"install {settings.server}, or set `server` to another"
                    return [
                        Finding("fail", "model", f"there is no `{settings.server}` on PATH", fix, Exit.MODEL)
                    ]
                return [Finding("ok", "model", f"{name}, served by {found}")]
            case Remote(name, url):
                return _remote(name, url, settings, probe=probe)
    except PoolError as error:
        return [failed("model", error)]


def _demo(settings: Config) -> Finding:
    """The demonstration model is small enough to be really started."""
    import asyncio
    import tempfile

    from poolcli.models.local import DEMO_NOTICE, demo_model, open_local

    async def start(log: Path) -> int:
        async with asyncio.timeout(PATIENCE):
            opened = await open_local(demo_model(), [], log=log, ctx=settings.context, engine=settings.server)
            await opened.aclose()
            return opened.info.window

    with tempfile.TemporaryDirectory(prefix="pool-doctor-") as folder:
        try:
            window = asyncio.run(start(Path(folder) / "server.log"))
        except TimeoutError:
            return Finding("fail", "model", f"the server said nothing for {PATIENCE:g} s", "", Exit.MODEL)
    return Finding("ok", "model", f"{DEMO_NOTICE}; it starts and answers, context {window} tokens")


def _remote(name: str, url: str, settings: Config, *, probe: bool) -> list[Finding]:
    """A model at a server: the stored profile, with what the server says of itself now, or a new one."""
    import asyncio

    from poolcli.models.endpoint import Endpoint

    endpoint = Endpoint(url, name, settings.api_key)
    try:
        profile, names = asyncio.run(_profile(endpoint, probe=probe))
    except TimeoutError:
        text = f"{url} said nothing for {PATIENCE:g} s"
        return [Finding("fail", "model", text, "is it overloaded?", Exit.MODEL)]
    except PoolError as error:
        if "doctor" in error.hint:  # that is where we are
            error.hint = f"start the server, or correct base_url ({settings.origins['base_url']})"
        raise
    from poolcli.commands import profile_text

    found = [
        _worded(_listed(line, profile.model, names) if line.name == "model" else line)
        for line in profile_text.lines(profile)
    ]
    if endpoint.in_clear:
        found.append(Finding("warn", "key", "it travels unencrypted", "use https, or a tunnel"))
    if not profile.probed:
        text = "not measured; `pool models use URL` or `pool doctor --probe` does it, in about a minute"
        found.append(Finding("ok", "profile", text))
    return found


def _worded(line: Line) -> Finding:
    return Finding("warn" if line.advice else "ok", line.name, line.text, line.advice)


def _learnt(file: Path) -> list[Finding]:
    """What earlier runs have found out about a model file."""
    from poolcli.commands import profile_text
    from poolcli.models.opening import stored_local

    profile = stored_local(file)
    return [_worded(line) for line in profile_text.learnt(profile)] if profile else []


async def _profile(endpoint: Endpoint, *, probe: bool) -> tuple[Profile, tuple[str, ...]]:
    """The profile, and the models that the server lists."""
    import asyncio

    from poolcli.models import probing, profiles
    from poolcli.models.connection import Connection

    connection = Connection(endpoint)
    try:
        async with asyncio.timeout(PATIENCE):
            facts = await probing.ask_facts(connection, endpoint.model, thorough=True, patience=PATIENCE / 2)
        if probe:
            from poolcli.commands.models import Progress

            with Progress(sys.stderr) as progress:
                profile = await probing.probe(connection, facts.model, say=progress)
            profiles.save(profile)
            return profile, facts.names
        stored = profiles.load(facts.url, facts.model)
        if stored is not None and probing.changed(stored, facts):
            stored = None  # it is about another server or model
        return probing.profile_of(facts, stored), facts.names
    finally:
        await connection.aclose()


def _listed(line: Line, model: str, names: tuple[str, ...]) -> Line:
    """The line about the model, with advice when the server does not list it."""
    if not names or model in names or f"{model}:latest" in names:
        return line
    few = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    # llama.cpp answers for any name, so this is no failure yet.
    return replace(line, text=f"{line.text}: the server does not list it", advice=f"it lists: {few}")


def local_server(settings: Config) -> Finding:
    """What could serve a local model. Nothing here is a failure unless the configured model needs it."""
    from poolcli.models.llama_server import choose_engine
    from poolcli.models.local import demo_model

    try:
        command = choose_engine(settings.server)
        demo_model()
    except PoolError as error:
        return Finding("warn", "local server", str(error), error.hint)
    if command:
        return Finding("ok", "local server", command[0])
    from importlib.metadata import version

    return Finding("ok", "local server", f"xllamacpp {version('xllamacpp')}")


def running_servers() -> Iterator[Finding]:
    """The model servers that pool started and that its processes share."""
    from poolcli.models import shared_server

    for one in shared_server.running():
        yield Finding("ok", "running", f"{one.says} at {one.state.base_url}")


def checks(settings: Config, repo: Repository) -> Finding:
    """The command that would decide a run."""
    if settings.test:
        return Finding("ok", "checks", f"{settings.test} ({settings.origins['test']})")
    from poolcli.commands.checks import files, reader
    from poolcli.verdict import finder

    try:
        found = finder.find(files(repo), reader(repo.top), shutil.which)
    except PoolError as error:
        return failed("checks", error)
    if found is None:
        fix = 'name them: --test CMD, or test = "CMD" in .pool/config.toml; or pass --no-checks'
        return Finding("warn", "checks", "none found: a run could not be verified", fix)
    if found.why.endswith("was not found"):
        return Finding(
            "warn", "checks", f"{found.command} ({found.why})", "install it, or name others: --test CMD"
        )
    return Finding("ok", "checks", f"{found.command} ({found.why})")


def packages(settings: Config, repo: Repository) -> Iterator[Finding]:
    """Whether what the lock files name is there for runs; nothing where there is nothing to install."""
    from poolcli import setup

    try:
        recipe = setup.recipe_for(settings, repo)
        ready = setup.ready_for(settings, repo, paths.repository_state(repo.common_dir))
    except PoolError as error:
        yield failed("packages", error)
        return
    if recipe is None:
        return
    own = [name for name in recipe.keeps if os.path.lexists(repo.top / name)]
    if own:
        yield Finding("ok", "packages", f"your {', '.join(own)}")
    elif ready is not None:
        yield Finding("ok", "packages", f"installed by `pool setup` ({recipe.why})")
    else:
        text = f"none installed here ({recipe.why}); if the checks need them: `pool setup`"
        yield Finding("ok", "packages", text)


def state_folder() -> Finding:
    """Whether runs can be kept, and how much room there is for them."""
    state = paths.state_dir()
    near = next(path for path in (state, *state.parents) if path.exists())
    fix = "set POOL_STATE to a folder of yours"
    if not near.is_dir():
        return Finding("fail", "state", f"{near} is in the way of the state folder {state}", fix)
    if not os.access(near, os.W_OK | os.X_OK):
        return Finding("fail", "state", f"{near} cannot be written", fix)
    free = shutil.disk_usage(near).free
    text = f"{state}, {free / 1e9:.1f} GB free"
    if free < LITTLE_SPACE:
        return Finding("warn", "state", text, "make room, or set POOL_STATE to a folder on another disk")
    return Finding("ok", "state", text)


def ripgrep() -> Finding:
    """The search program; git has one too."""
    if found := shutil.which("rg"):
        return Finding("ok", "ripgrep", found)
    return Finding("warn", "ripgrep", "not found; searches use git grep", "install ripgrep (optional)")


def failed(name: str, error: Exception) -> Finding:
    """A failure as its error tells it."""
    hint = error.hint if isinstance(error, PoolError) else ""
    return Finding(
        "fail", name, str(error), hint, Exit.MODEL if isinstance(error, ModelError) else Exit.USAGE
    )


COLOURS = {"ok": "32", "warn": "33", "fail": "31"}
#: Columns before the text: the status and the name.
INDENT = 20


class Printer:
    """Writes findings: wrapped and coloured at a terminal, one line and a fix each elsewhere."""

    def __init__(self, out: TextIO) -> None:
        """`out` is asked whether it is a terminal."""
        self._out = out
        self._terminal = out.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, finding: Finding) -> None:
        """Write one finding."""
        word = f"{finding.status:<6}"
        if self._colour:
            word = f"\x1b[{COLOURS[finding.status]}m{word}\x1b[0m"
        lines = self._wrapped(finding.text)
        if finding.fix:
            lines += self._wrapped(finding.fix, "fix: ")
        text = f"\n{' ' * INDENT}".join(lines)
        self._out.write(f"{word}{finding.name:<{INDENT - 6}}{text}\n")
        self._out.flush()

    def _wrapped(self, text: str, label: str = "") -> list[str]:
        from poolcli.sanitize import clean

        line = label + clean(text, keep_newlines=False)
        if not self._terminal:
            return [line]
        width = max(24, shutil.get_terminal_size().columns - INDENT - 1)
        return textwrap.wrap(line, width, subsequent_indent=" " * len(label), break_on_hyphens=False) or [""]
