"""begin() and again(): the one place where the parts of a run meet."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli import (
    __version__,
    baselines,
    beneath,
    extras,
    landing,
    paths,
    policy,
    process,
    prompts,
    workspace,
    worktrees,
)
from poolcli import outlet as outlets
from poolcli.approvals import Approver, Person, Remembered
from poolcli.config import Config
from poolcli.confirming import Confirmed, Confirmer
from poolcli.context import unanswered
from poolcli.errors import ChecksError, StoreError, UsageError
from poolcli.events import AFTERWARDS, LOG_VERSION, Event
from poolcli.fitting import LARGER, LEAST_WINDOW, Room, too_small
from poolcli.gate import Gate
from poolcli.git import Repository
from poolcli.judge import Judge, repeat
from poolcli.lapses import lapse, last_reply
from poolcli.loop import Parts
from poolcli.models.base import Model, ModelInfo
from poolcli.models.dialects.base import lowest
from poolcli.repomap.first_message import first_message
from poolcli.repomap.overview import instructions, overview
from poolcli.run import Budget, Run, View
from poolcli.sandbox import choose
from poolcli.stages import Stages
from poolcli.store import result as results
from poolcli.store.reading import read
from poolcli.store.runs import new_run_id
from poolcli.store.trace import Trace
from poolcli.tools import contract as contracts
from poolcli.tools import registry
from poolcli.tools.base import Ctx
from poolcli.unsteady import Unsteady
from poolcli.verdict.checks import Checks
from poolcli.verdict.evidence import Report
from poolcli.verdict.runner import round_message, section
from poolcli.workspace import LONGEST_TEXT, Workspace

#: The repository context of the first message, in tokens: an eighth of the window, at most this much.
CONTEXT_TOKENS = 1500

UNKNOWN_OUTCOME = (
    "pool was stopped while this call ran: its outcome is unknown, and it was not run again. "
    "Look at the present state before you repeat it."
)
NOT_RUN = "pool was stopped before this call ran; make it again if it is still needed."


#: Said at the beginning: at the end it is late.
NO_CHECKS = "none found, so the result will not be verified; --test COMMAND names them"
#: The same where that was said to be fine.
NO_CHECKS_WANTED = "none, as you said is fine"

#: How Python, node, go and cargo say that a package is not there, with its name.
_NO_PACKAGE = re.compile(
    r"No module named '?[\w.]{1,80}'?|Cannot find (?:module|package) '[^'\n]{1,80}'"
    r"|no required module provides package [\w./-]{1,120}|no matching package named `[^`\n]{1,80}`"
)

#: Makes the views when the run is about to begin: what fails before has nothing to show.
Views = Callable[[], Sequence[View]]


class Task(Struct, frozen=True):
    """What was asked, text that came with it through a pipe, and the folder it was asked in."""

    text: str
    start: Path
    quoted: str = ""
    #: It is fine when there is nothing to verify (`--no-checks`).
    unchecked: bool = False


class Session(Struct):
    """A run with all its parts, from `begin` or `again` to `ending.finish`."""

    run: Run
    repo: Repository
    workspace: Workspace
    model: Model
    trace: Trace
    judge: Judge
    parts: Parts
    ctx: Ctx
    #: The way out of the sandbox, where hosts are allowed.
    outlet: outlets.Outlet | None = None
    #: Of a run that begins, for what depends on its baseline.
    config: Config | None = None

    async def close(self) -> None:
        """End programs, the model server and the log, in this order; safe to call more than once."""
        for program in self.ctx.sessions.values():
            program.close()
        self.ctx.sessions.clear()
        if self.outlet is not None:
            await self.outlet.close()
        await self.model.aclose()
        for view in self.run.views:
            view.close()
        self.trace.close()


def _state(repo: Repository) -> Path:
    """The repository's state folder, made if need be. Raises StoreError."""
    folder = paths.repository_state(repo.common_dir)
    try:
        return paths.private_dir(folder)
    except OSError as error:
        raise StoreError(
            f"the state folder {folder} cannot be made: {error.strerror}",
            "set POOL_STATE to a folder of yours",
        ) from error


async def begin(
    task: Task, config: Config, repo: Repository, views: Views, person: Person | None = None
) -> Session:
    """A new run: worktree, model, baseline checks and the first message. Raises PoolError; leaves nothing then.

    `person` answers questions; where there is none, what would be asked is refused.
    """
    # First of all: a refusal must come before anything is done.
    confined = choose.here(config.sandbox, interactive=person is not None)
    state = _state(repo)
    swept = [line for line in (landing.recover(repo, state), *workspace.collect(repo, state)) if line]
    swept += results.repair_all(state)
    run_id = new_run_id()
    run_dir = paths.private_dir(state / "runs" / run_id)
    tools: dict[str, registry.Tool] = {}

    def offered(info: ModelInfo) -> list[dict[str, Any]]:
        """The tools' schemas, chosen once the window is known: fewer for a small one."""
        tools.clear()
        tools.update(registry.load(window=info.window, edits=info.edits))
        return [contracts.schema(tool.contract) for tool in tools.values()]

    model: Model | None = None
    trace: Trace | None = None
    try:
        trace = Trace.create(run_dir, run_id)
        model = await open_model(config, offered, run_dir)
        if 0 < model.info.window < LEAST_WINDOW:
            raise too_small(model.info.window)
        space = workspace.create(repo, run_id=run_id, state=state, sandbox=confined.sandbox)
        unused = _use_packages(config, space, state)
        run = Run(run_id, run_dir, trace, _budget(config), list(views()))
        checks = find_checks(config, space, repo)
        session = _assemble(
            run, repo, space, model, trace, checks, config, tools, person, unchecked=task.unchecked
        )
        session.config = config
        _started(session, task, config, checks, tools)
        await _try_sandbox(run, space)
        session.outlet = await outlets.open_for(run, space, config.allow_net)
        if confined.announcement:
            run.notice(confined.announcement, level="warning", code="sandbox")
        for line in config.notices:
            run.notice(line, level="warning", code="configuration")
        for line in space.notes:
            run.notice(line, level="warning", code="not-carried")
        for line in swept:
            run.notice(line, code="collected")
        if unused:
            run.notice(unused, level="warning", code="setup")
    except BaseException:
        # Nothing was done yet: a run that never started leaves no run behind.
        if model is not None:
            await model.aclose()
        worktrees.discard(repo, run_id, state)
        if trace is not None:
            trace.close()
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return session


def _use_packages(config: Config, space: Workspace, state: Path) -> str:
    """Give the workspace the packages of a setup, when there is one; why they are not used, or ''."""
    if not (state / "setup").is_dir():  # spares the import
        return ""
    from poolcli import setup

    packages = setup.ready_for(config, space.repo, state)
    space.use(packages)
    if packages is None or space.mounted:
        return ""
    return f"what `pool setup` installed is not used: the sandbox {space.sandbox.name} cannot mount it"


async def _try_sandbox(run: Run, space: Workspace) -> None:
    """Show that the sandbox holds before anything runs in it. Raises RefusedError when it does not."""
    if space.sandbox.name in ("none", "external", "ask"):
        return  # it promises nothing
    from poolcli.sandbox import selftest

    result = await selftest.run(space.sandbox, space.confinement, space.environment)
    run.emit(
        "sandbox.tried",
        sandbox=result.sandbox,
        checks=[{"name": each.name, "held": each.held, "line": each.line} for each in result.checks],
        seconds=round(result.seconds, 3),
    )
    selftest.require(result)


async def open_turn(session: Session, task: Task) -> None:
    """Run the checks for the baseline and begin the turn with the first message."""
    judge = session.judge
    report = await _baseline(session)
    missing = _missing_packages(session, report)
    if report is not None and report.status == "error":
        raise ChecksError(
            f"the checks command cannot be run: {judge.checks.command if judge.checks else ''}\n{report.text}",
            missing or "name another with --test, or fix it; `pool doctor` shows how it was found",
        )
    if missing:
        session.run.notice(missing, level="warning", code="setup")
    space, run = session.workspace, session.run
    window = session.model.info.window
    budget = min(CONTEXT_TOKENS, window // 8) if window else CONTEXT_TOKENS
    files = space.files()
    focus = _focus(session.repo, task.start)
    text = first_message(
        overview=overview(files, task.text, budget=budget, read=space.read_text),
        instructions=instructions(files, focus, space.read_text),
        changes=list(space.dirty),
        checks_section=section(judge.checks, report) if judge.checks and report else "",
        task=task.text,
        quoted=task.quoted,
    )
    run.emit("turn.started", text=text)


def _missing_packages(session: Session, report: Report | None) -> str:
    """What to do about a baseline that fails for want of packages that could be installed; '' when it does not."""
    space, config = session.workspace, session.config
    if report is None or report.status not in ("failed", "error") or config is None:
        return ""
    if not space.mounted or space.packages is not None:
        return ""
    texts = (report.text, *(case.text for case in report.results.cases.values() if case.text))
    found = next((match for text in texts if (match := _NO_PACKAGE.search(text))), None)
    if found is None:
        return ""
    from poolcli import setup

    if setup.recipe_for(config, space.repo) is None:
        return ""
    return f"the tests need packages that are not installed ({found[0]}): `pool setup` installs them in the sandbox"


async def _baseline(session: Session) -> Report | None:
    """What the checks say before any change; from an earlier run on the same files where that took long."""
    judge, space = session.judge, session.workspace
    if judge.checks is None:
        return None
    state = session.run.dir.parent.parent
    if (known := baselines.recall(space, judge.checks, state)) is not None:
        judge.known(repeat(session.run, judge.checks, known))
        return known
    report = await judge.judge("baseline")
    if report is not None:
        baselines.keep(space, judge.checks, state, report)
    return report


async def again(
    run_dir: Path, config: Config, repo: Repository, views: Views, person: Person | None = None
) -> Session:
    """Take a run up where its log ends. Calls without a result get the result "unknown", never a second run.

    Raises UsageError for a run that never got as far as its first message, StoreError for one that is running.
    """
    confined = choose.here(config.sandbox, interactive=person is not None)
    trace = Trace.reopen(run_dir)  # before the log is read: another process may be writing it
    model: Model | None = None
    try:
        events = read(run_dir)
        first = next((e for e in events if e.type == "run.started"), None)
        if first is None:
            raise UsageError(f"run {run_dir.name} ended before it began", "start it again with `pool do`")
        process.kill_marked(run_dir.name)  # what a killed process left running
        space = workspace.reopen(
            repo,
            run_id=run_dir.name,
            state=run_dir.parent.parent,
            base=first.data["base"],
            sandbox=confined.sandbox,
        )
        unused = _use_packages(config, space, run_dir.parent.parent)
        names = [schema["function"]["name"] for schema in first.data["tools"]]
        model = await open_model(config, first.data["tools"], run_dir, rung=_recorded_rung(events))
        tools = registry.load(names, window=model.info.window)
        run = Run(run_dir.name, run_dir, trace, _budget(config))
        run.replay(events)
        run.views = list(views())
        for view in run.views:
            for event in events:
                view.recall(event)
        checks = _recorded_checks(first, config, space, repo)
        unchecked = bool(first.data.get("unchecked"))
        session = _assemble(
            run, repo, space, model, trace, checks, config, tools, person, unchecked=unchecked
        )
        _recall_checks(session.judge, events)
        run.emit("run.resumed", version=__version__, model=_model_data(model))
        await _try_sandbox(run, space)
        session.outlet = await outlets.open_for(run, space, config.allow_net)
        if confined.announcement:
            run.notice(confined.announcement, level="warning", code="sandbox")
        for line in config.notices:
            run.notice(line, level="warning", code="configuration")
        if unused:
            run.notice(unused, level="warning", code="setup")
        _answer_open_calls(run)
    except BaseException:
        if model is not None:
            await model.aclose()
        trace.close()
        raise
    return session


def _recorded_checks(first: Event, config: Config, space: Workspace, repo: Repository) -> Checks | None:
    """The checks of the run, with their recipe: found again, since the log holds the command only."""
    if config.origins.get("test") == "--test":
        return find_checks(config, space, repo)
    recorded = first.data["checks"]
    if not recorded["command"]:
        return None
    found = find_checks(config, space, repo)
    if found is not None and found.command == recorded["command"]:
        return replace(found, source=recorded["source"], why=recorded["why"])
    from poolcli.verdict.recipes.given import recognised

    recipe = recognised(recorded["command"], recorded["why"], space.read_text)
    return Checks(**recorded, recipe=recipe, build=config.checks.get("build", ""))


def _recorded_rung(events: Sequence[Event]) -> str:
    """The lowest rung of the ladder that the run began or went on at."""
    known = [e.data["model"] for e in events if e.type in ("run.started", "run.resumed")]
    return lowest(*(model.get("rung", "native") for model in known))


def _recall_checks(judge: Judge, events: Sequence[Event]) -> None:
    """Tell the judge what the checks said so far."""
    for event in events:
        if event.type != "checks.done":
            continue
        data = event.data
        tests, chosen = data["tests"], bool(data.get("chosen"))
        if data["phase"] == "extra":
            continue
        if data["phase"] == "baseline":
            recipe = judge.checks.recipe if judge.checks is not None else None
            if recipe is not None:
                ways = (
                    each for each in recipe.fallbacks if data.get("note") and each.command == data["command"]
                )
                judge.judged_by(next(ways, recipe))
            judge.baseline = Report(
                data["status"], data["exit_code"], data["seconds"], data["counts"], tests, data["text"]
            )
        if judge.stages is not None and tests:
            judge.stages.learn(tests, data["seconds"], chosen=chosen, report=None)


async def go_on(session: Session, message: str | None) -> None:
    """Begin where the log ends; a run that was stopped before its first message cannot go on.

    A message of the user, or red checks that nobody told the model about, begin a new turn.
    """
    run, messages = session.run, session.run.projection.messages
    if len(messages) < 2:
        raise UsageError(
            f"run {run.id} was stopped before its first message", "start it again with `pool do`"
        )
    if message:
        run.emit("turn.started", text=message)
    elif messages[-1].role == "assistant" and (wrong := lapse(last_reply(run.events))):
        run.emit("steered", text=wrong.told, source="harness")
    elif messages[-1].role == "assistant" and _had_ended(run):
        report = await session.judge.judge("round")
        if report is not None and report.status != "passed":
            run.emit("steered", text=session.parts.evidence(report), source="harness")


def _had_ended(run: Run) -> bool:
    events = [event for event in run.events if event.type not in AFTERWARDS]
    resumed = max(n for n, event in enumerate(events) if event.type == "run.resumed")
    return events[resumed - 1].type == "run.ended"


def _answer_open_calls(run: Run) -> None:
    open_calls = unanswered(run.projection.messages)
    started = {e.data["id"] for e in run.events if e.type == "tool.started"}
    calls = {call.id: call for message in run.projection.messages for call in message.calls}
    for id in open_calls:
        run.emit(
            "tool.done",
            id=id,
            name=calls[id].name,
            title=calls[id].name,
            ok=False,
            why="unknown" if id in started else "interrupted",
            text=UNKNOWN_OUTCOME if id in started else NOT_RUN,
            show=[],
            seconds=0.0,
        )


Schemas = Sequence[Mapping[str, Any]]


async def open_model(
    config: Config,
    schemas: Schemas | Callable[[ModelInfo], Schemas],
    run_dir: Path,
    *,
    rung: str = "native",
) -> Model:
    """The model that the configuration names, ready to answer. Raises ModelError or UsageError.

    `rung` is the best way of making calls that is still tried: that of a run which goes on.
    """
    from poolcli.models.opening import open_reference

    return await open_reference(config, schemas, log=run_dir / "server.log", rung=rung)


def find_checks(config: Config, space: Workspace, repo: Repository) -> Checks | None:
    """The checks: as configured, else found in the repository."""

    def read(path: str) -> str | None:
        # Environments are borrowed by links that lead out of the worktree, where tools may not follow.
        if path.endswith("pyvenv.cfg"):
            with contextlib.suppress(OSError):
                file = space.lower(path.removesuffix("/pyvenv.cfg")) / "pyvenv.cfg"
                return beneath.read_regular(file, LONGEST_TEXT).decode("utf-8", "replace")
        return space.read_text(path)

    build = config.checks.get("build", "")
    if config.test:
        from poolcli.verdict.recipes.given import recognised

        origin = config.origins.get("test", "--test")
        why = f"given by {origin}"
        return Checks(config.test, origin, why, recognised(config.test, why, read), build)
    from poolcli.verdict import finder

    found = finder.find([name for name, _ in space.files()], read, shutil.which)
    return replace(found, build=build) if found is not None else None


def _assemble(
    run: Run,
    repo: Repository,
    space: Workspace,
    model: Model,
    trace: Trace,
    checks: Checks | None,
    config: Config,
    tools: Mapping[str, registry.Tool],
    person: Person | None,
    *,
    unchecked: bool,
) -> Session:
    outputs = paths.private_dir(run.dir / "outputs")
    judge = Judge(run, space, checks, outputs, config.checks_timeout)
    if checks is not None:
        state = run.dir.parent.parent
        judge.stages = Stages(space, checks.recipe, state / "imports.json")
        finder = Unsteady(run, repo, space, outputs, config.checks_timeout, state / "unsteady.json")

        async def unsteady(report: Report) -> Sequence[str]:
            return await finder.find(judge.checks, report) if judge.checks is not None else ()

        judge.unsteady = unsteady
    ctx = Ctx(space, judge.for_tool, lambda text: None, outputs)
    known = registry.understood(tools, window=model.info.window)
    gate = Gate(run, known, ctx, _approver(config, space, repo, person))

    def evidence(report: Report) -> str:
        assert judge.checks is not None
        return round_message(
            judge.checks, report, baseline_ok=bool(judge.baseline and judge.baseline.status == "passed")
        )

    schemas = [contracts.schema(tool.contract) for tool in tools.values()]
    room = Room(
        run, model, schemas, lambda: space.patch().decode("utf-8", "replace"), max_reply=config.max_reply
    )

    async def confirm() -> Confirmed:
        assert judge.checks is not None
        beside = {name: command for name, command in config.checks.items() if name in extras.COMPARED}
        confirmer = Confirmer(
            run, repo, space, judge.checks, outputs, config.checks_timeout, judge.unsteady, beside
        )
        return await confirmer.confirm()

    parts = Parts(run, model, gate, judge, evidence, confirm, room, config.max_reply, unchecked)
    return Session(run, repo, space, model, trace, judge, parts, ctx)


def _approver(config: Config, space: Workspace, repo: Repository, person: Person | None) -> Approver:
    def real(path: str) -> str | None:
        try:
            return space.resolve(path).relative_to(space.root).as_posix()
        except ValueError:
            return None  # the tool will say so

    return Approver(
        (*policy.forbidding(config.deny, config.origins["deny"]), *config.policy),
        mode=config.mode,
        sandbox=space.sandbox.name,
        person=person,
        remembered=Remembered(_state(repo) / "approvals.json"),
        real=real,
    )


def _started(
    session: Session, task: Task, config: Config, checks: Checks | None, tools: Mapping[str, registry.Tool]
) -> None:
    space = session.workspace
    window = session.model.info.window
    small = 0 < window < registry.SMALL_WINDOW
    system = prompts.load("system-small" if small else "system")
    schemas = [contracts.schema(tool.contract) for tool in tools.values()]
    session.run.emit(
        "run.started",
        version=__version__,
        log=LOG_VERSION,
        task=task.text,
        root=str(session.repo.top),
        base=space.base,
        head=session.repo.head,
        dirty=len(space.dirty),
        worktree=str(space.root),
        model={**_model_data(session.model), "reference": config.model, "base_url": config.base_url},
        system=system,
        tools=schemas,
        hashes={"prompts": prompts.fingerprint(system), "contracts": prompts.fingerprint(repr(schemas))},
        checks={"command": checks.command, "source": checks.source, "why": checks.why}
        if checks
        else {"command": "", "source": "", "why": NO_CHECKS_WANTED if task.unchecked else NO_CHECKS},
        unchecked=task.unchecked,
        budget={
            "turns": config.max_turns,
            "tokens": config.max_tokens,
            "seconds": config.timeout,
            "rounds": config.max_rounds,
        },
        sandbox=space.sandbox.name,
        mode=config.mode,
    )
    info = session.model.info
    if info.notice:
        session.run.notice(info.notice, level=info.level, code="model")
    if small and (info.level == "info" or not info.notice):
        session.run.notice(
            f"a context of {window:,} tokens is small: prompts and results are short, and there are fewer tools; "
            f"for more, {LARGER}",
            level="warning",
            code="small-window",
        )


def _model_data(model: Model) -> dict[str, Any]:
    info = model.info
    return {"name": info.name, "url": info.url, "window": info.window, "rung": info.rung}


def _budget(config: Config) -> Budget:
    return Budget(config.max_turns, config.max_tokens, config.timeout, config.max_rounds)


def _focus(repo: Repository, start: Path) -> str:
    try:
        focus = start.resolve().relative_to(repo.top.resolve()).as_posix()
    except ValueError:
        return ""
    return "" if focus == "." else focus
