"""The loop: ask the model, run its calls, run the checks, until they pass or a budget ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli.errors import BudgetError, ModelError
from poolcli.gate import Gate, Repeating
from poolcli.judge import Judge
from poolcli.messages import Call, Message, to_json
from poolcli.models.base import Model, Piece, Reply
from poolcli.run import Run
from poolcli.verdict.evidence import Report

#: Seconds to wait before the same bytes are sent again; a server that restarts needs some seconds.
RETRIES = (0.5, 2.0, 5.0, 10.0)
#: The longest wait that a server's Retry-After can ask for, in seconds.
LONGEST_WAIT = 60.0
#: How many empty replies (no text, no call) or replies without a call after red checks end the run.
PATIENCE = 2

EMPTY = "Your last reply held neither text nor a tool call. Make a tool call, or say what you did if the work is done."


class Outcome(Struct, frozen=True):
    """How the loop ended: a status of `run.ended`, and one line that says why."""

    status: str
    why: str


class Parts(Struct, frozen=True):
    """What the loop drives. `evidence` words a red report as the next message to the model."""

    run: Run
    model: Model
    gate: Gate
    judge: Judge
    evidence: Callable[[Report], str]
    max_reply: int = 0
    #: The user said that it is fine that there is nothing to verify.
    unchecked: bool = False


async def solve(parts: Parts) -> Outcome:
    """Go on from whatever the log holds until the checks pass, the model gives up or a budget ends.

    Raises ModelError when the server fails for good and StoreError when the log cannot be written.
    """
    try:
        return await _rounds(parts)
    except BudgetError as error:
        return await _cut_short(parts, Outcome("budget", f"{error}; {error.hint}"))
    except Repeating as error:
        return await _cut_short(parts, Outcome("gave_up", str(error)))


async def _cut_short(parts: Parts, outcome: Outcome) -> Outcome:
    """The outcome, unless what the model has done so far already turned the checks from red to green.

    Checks that passed before prove nothing about work that was broken off.
    """
    judge = parts.judge
    if judge.baseline is None or judge.baseline.ok:
        return outcome
    report = judge.last if judge.current else await judge.judge("round")
    if report is not None and report.ok:
        return Outcome("verified", f"the checks pass now ({outcome.why})")
    return outcome


async def _rounds(parts: Parts) -> Outcome:
    run = parts.run
    idle = 0  # red rounds in a row in which the model made no call
    while True:
        calls = await _until_done(parts)
        report = await parts.judge.judge("round")
        if report is None:
            if parts.unchecked:
                return Outcome("unchecked", "finished; there are no checks, as you said is fine")
            return Outcome(
                "not_verified", "there are no checks to verify it with: name a command with --test"
            )
        if report.status == "passed":
            return Outcome("verified", "the checks pass")
        idle = 0 if calls else idle + 1
        if idle >= PATIENCE:
            return Outcome("gave_up", "the checks fail and the model makes no further attempt")
        if not run.rounds_left:
            return Outcome("not_verified", f"the checks still fail after {run.spent.rounds} rounds")
        run.emit("steered", text=parts.evidence(report), source="harness")


async def _until_done(parts: Parts) -> int:
    """Ask and run calls until a reply holds none; returns how many calls were run."""
    run, count, empty = parts.run, 0, 0
    if said_done(run.projection.messages):
        return 1  # a resumed run that was killed between the model's last word and the checks
    while True:
        run.check_budget()
        message = await ask(parts)
        if message.calls:
            await parts.gate.calls(message.calls)
            count += len(message.calls)
            empty = 0
        elif message.text.strip():
            return count
        else:
            empty += 1
            if empty > PATIENCE:
                raise Repeating("the model sent only empty replies")
            run.emit("steered", text=EMPTY, source="harness")


def said_done(messages: list[Message]) -> bool:
    """Whether the last word is the model's own, without a call."""
    last = messages[-1]
    return last.role == "assistant" and not last.calls and bool(last.text.strip())


async def ask(parts: Parts) -> Message:
    """One reply of the model, recorded. Faults that may pass are tried again with the same bytes."""
    run = parts.run
    for pause in (*RETRIES, None):
        try:
            return _record(run, await _one(parts))
        except ModelError as error:
            if not error.retryable or pause is None:
                raise
            wait = min(max(pause, error.retry_after), LONGEST_WAIT)
            run.notice(f"{error}; trying again in {wait:g} s", level="warning", code="retry")
            await asyncio.sleep(wait)
    raise AssertionError("unreachable")


async def _one(parts: Parts) -> Reply:
    run = parts.run
    async for piece in parts.model.stream(run.projection.messages, max_tokens=parts.max_reply):
        if isinstance(piece, Piece):
            run.live("delta", kind=piece.kind, text=piece.text)
        else:
            return piece
    raise ModelError("the model's stream ended without a reply", retryable=True)


def _record(run: Run, reply: Reply) -> Message:
    run.emit(
        "model.replied",
        message=to_json(_unique(run, reply.message)),
        finish=reply.finish,
        usage=_usage(run, reply),
        timings={"first": round(reply.first, 3), "total": round(reply.total, 3)},
        turn=run.spent.turns + 1,
    )
    return run.projection.messages[-1]


def _usage(run: Run, reply: Reply) -> dict[str, Any]:
    """The tokens as reported; else estimated, so that a token budget binds with any server."""
    usage = reply.usage
    if usage.prompt is not None:
        return {"prompt": usage.prompt, "completion": usage.completion, "cached": usage.cached}
    sent = sum(_characters(message) for message in run.projection.messages)
    said = _characters(reply.message)
    # Four characters to a token is near enough for code and English in all common vocabularies.
    return {"prompt": sent // 4, "completion": said // 4, "cached": None, "estimated": True}


def _characters(message: Message) -> int:
    return sum(len(str(part.args)) if isinstance(part, Call) else len(part.text) for part in message.parts)


def _unique(run: Run, message: Message) -> Message:
    """The message with call ids that no earlier message of this run used: results are matched by id."""
    used = run.projection.call_ids
    if used.isdisjoint(call.id for call in message.calls):
        return message
    turn = run.spent.turns + 1
    parts = tuple(
        replace(p, id=f"{p.id}-{turn}") if isinstance(p, Call) and p.id in used else p for p in message.parts
    )
    return Message(message.role, parts)
