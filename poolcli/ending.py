"""How a run ends: the patch is kept, the result written, the last event recorded, nothing left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from poolcli import __version__, grading, process, redact
from poolcli.app import Session
from poolcli.errors import BudgetError, Exit, InterruptedByUser, ModelError, PoolError, RefusedError
from poolcli.events import Event
from poolcli.interrupts import Interrupts
from poolcli.loop import Outcome, solve
from poolcli.paths import write_private
from poolcli.store import result as results
from poolcli.workspace import PATCH

#: The exit code of each status that a run can end with.
EXIT_CODES = {
    "verified": Exit.VERIFIED,
    "unchecked": Exit.VERIFIED,
    "not_verified": Exit.NOT_VERIFIED,
    "tampered": Exit.TAMPERED,
    "gave_up": Exit.GAVE_UP,
    "budget": Exit.BUDGET,
    "model_failed": Exit.MODEL,
    "refused": Exit.REFUSED,
    "failed": Exit.INTERNAL,
    "usage": Exit.USAGE,
    "interrupted": Exit.INTERRUPTED,
    "terminated": Exit.TERMINATED,
}


async def conduct(
    starting: Awaitable[Session], opening: Callable[[Session], Awaitable[None]], *, seconds: float
) -> dict[str, Any]:
    """Run a session from its beginning to its end, whatever that is; returns what `result.json` holds.

    `starting` makes the session, `opening` begins its turn; both are under the same protection as the work
    itself: signals end them in good order, and `seconds` (0 for no limit) bound them. Raises PoolError when
    there never was a session.
    """
    task = asyncio.current_task()
    assert task is not None
    session: Session | None = None

    def at_once() -> None:
        if session is not None:
            process.kill_marked(session.run.id)
            for view in session.run.views:
                view.close()  # gives the cursor back

    with Interrupts(task, at_once) as interrupts:
        try:
            async with asyncio.timeout(seconds or None):
                session = await starting
                await opening(session)
                outcome = await solve(session.parts)
        except asyncio.CancelledError:
            if interrupts.exit_code is None:
                raise
            task.uncancel()
            if session is None:
                raise InterruptedByUser(interrupts.exit_code) from None
            word = "interrupted" if interrupts.exit_code == Exit.INTERRUPTED else "terminated"
            outcome = Outcome(word, f"{word}; the work so far is kept")
        except TimeoutError:
            if session is None:
                raise BudgetError(f"the {seconds:g} s of --timeout were over before the run began") from None
            outcome = Outcome("budget", f"the time budget of {seconds:g} s ran out")
        except PoolError as error:
            if session is None:
                raise
            outcome = _outcome_of(error)
        except Exception as error:
            if session is None or os.environ.get("POOL_DEBUG"):
                raise
            # Not foreseen, and no reason to lose the work: it ends as any other run does.
            outcome = Outcome("failed", f"internal error: {type(error).__name__}: {error}")
        return await _finish(session, outcome)


def _outcome_of(error: PoolError) -> Outcome:
    why = f"{error}; {error.hint}" if error.hint else str(error)
    match error:
        case ModelError():
            return Outcome("model_failed", why)
        case BudgetError():
            return Outcome("budget", why)
        case RefusedError():
            return Outcome("refused", why)
    return Outcome("usage" if error.exit_code == Exit.USAGE else "failed", why)


async def _finish(session: Session, outcome: Outcome) -> dict[str, Any]:
    try:
        _stop_programs(session)
        patch, problem = _keep_patch(session)
        result = _result(session, outcome, patch, problem)
        try:
            _record(session, outcome, result, problem, session.workspace.surprises(patch))
        finally:
            results.write(session.run.dir, result)
            if not problem:
                session.workspace.remove()
        return result
    finally:
        await session.close()


def _stop_programs(session: Session) -> None:
    for program in session.ctx.sessions.values():
        with contextlib.suppress(Exception):  # what does not close is killed by its mark
            program.close()
    session.ctx.sessions.clear()
    process.kill_marked(session.run.id)


def _keep_patch(session: Session) -> tuple[bytes, str]:
    """The patch, saved, and '' or what went wrong: then the worktree stays, the only copy of the work."""
    try:
        patch = session.workspace.patch()
        write_private(session.run.dir / PATCH, patch)
    except (PoolError, OSError) as error:
        return b"", f"the patch could not be saved ({error}); the work is in {session.workspace.root}"
    _warn_of_secrets(session, patch)
    return patch, ""


#: Bytes of a patch that are looked at for secrets: a second of time.
_LOOKED_AT = 20_000_000
#: Places of secrets that one warning names.
_PLACES = 5


def _warn_of_secrets(session: Session, patch: bytes) -> None:
    """Say where the patch adds a secret, or a mark of ours in place of one. It is never altered: it has to apply."""
    found = redact.in_patch(patch[:_LOOKED_AT].decode("utf-8", "replace"), session.run.redactor)
    for mark, words in (
        (False, "what looks like a secret"),
        (True, "the mark of a secret instead of its value"),
    ):
        places = [f"{f.path}:{f.line} ({f.kind})" for f in found if (f.kind == "mark") == mark]
        if places:
            more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
            text = f"the change adds {words}: {', '.join(places[:_PLACES])}{more}; look before you land it"
            session.run.notice(text, level="warning", code="secret-in-patch")


def _record(
    session: Session, outcome: Outcome, result: dict[str, Any], problem: str, surprises: list[str]
) -> None:
    run = session.run
    if problem:
        run.notice(problem, level="error", code="patch-not-saved")
    for line in surprises:
        run.notice(line, level="warning", code="look-at")
    run.emit("turn.done", reason=outcome.status)
    told = {key: result[key] for key in ("exit_code", "grade", "patch", "usage", "seconds")}
    run.emit("run.ended", status=outcome.status, why=outcome.why, **told)


def _result(session: Session, outcome: Outcome, patch: bytes, problem: str) -> dict[str, Any]:
    run = session.run
    spent = run.spent
    first = next(e for e in run.events if e.type == "run.started")
    info = session.model.info
    return {
        "run": run.id,
        "status": outcome.status,
        "exit_code": int(EXIT_CODES[outcome.status]),
        "why": outcome.why,
        "task": first.data["task"],
        "repository": first.data["root"],
        "base": session.workspace.base,
        "verdict": verdict(
            run.events,
            session.judge.checks.command if session.judge.checks else "",
            verified=outcome.status == "verified",
        ),
        "grade": grading.grade(run.events),
        "patch": {**patch_statistics(patch), "file": "" if problem else str(run.dir / PATCH)},
        "usage": {
            "turns": spent.turns,
            "prompt": spent.prompt,
            "completion": spent.completion,
            "cached": spent.cached,
        },
        "seconds": round(run.seconds, 3),
        "ended": round(time.time(), 3),
        "model": {"name": info.name, "url": info.url, "window": info.window},
        "versions": {"pool": __version__},
        "log": str(run.dir / "events.jsonl"),
        "answer": _answer(run.events),
    }


def verdict(events: list[Event], command: str, *, verified: bool) -> dict[str, Any]:
    """The checks before and after: status and counts, and per test where both are known."""
    done = [e.data for e in events if e.type == "checks.done" and not e.data.get("chosen")]
    before = next((d for d in done if d["phase"] == "baseline"), None)
    after = next((d for d in reversed(done) if d["phase"] in ("round", "verdict")), None)
    tests: dict[str, dict[str, str]] = {}
    for when, data in (("before", before), ("after", after)):
        for name, status in ((data or {}).get("tests") or {}).items():
            tests.setdefault(name, {})[when] = status
    tampering = (e.data["findings"] for e in reversed(events) if e.type == "tampering.found")
    found: list[Mapping[str, Any]] = next(tampering, [])
    return {
        "verified": verified,
        "command": command,
        "before": _brief(before),
        "after": _brief(after),
        "tests": tests,
        "tampering": found,
    }


def _brief(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if data is None else {key: data[key] for key in ("status", "exit_code", "counts", "seconds")}


def patch_statistics(patch: bytes) -> dict[str, int]:
    """Files, added and removed lines of a git patch; binary files count as files."""
    if not patch:
        return {"files": 0, "added": 0, "removed": 0}
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    text = patch.decode("utf-8", "replace")
    files = text.count("\ndiff --git ") + text.startswith("diff --git ")
    try:
        parsed = PatchSet(text)
    except UnidiffParseError:
        # Odd line ends inside a line (form feed, lone CR) confuse the parser; the file count is still right.
        return {"files": files, "added": 0, "removed": 0}
    return {"files": files, "added": parsed.added, "removed": parsed.removed}


def _answer(events: list[Event]) -> str:
    """The model's last words without a call."""
    for event in reversed(events):
        if event.type == "model.replied":
            parts = event.data["message"]["parts"]
            if not any(p["type"] == "call" for p in parts):
                return "".join(p.get("text", "") for p in parts if p["type"] == "text")
            return ""
    return ""
