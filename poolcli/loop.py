"""The loop: ask the model, run its calls, run the checks, until they pass or a budget ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from poolcli.asking import ask
from poolcli.confirming import Confirmed
from poolcli.errors import BudgetError
from poolcli.fitting import Room
from poolcli.gate import Gate, Repeating
from poolcli.judge import Judge
from poolcli.lapses import Lapses, lapse, last_reply
from poolcli.models.base import Model
from poolcli.run import Run
from poolcli.verdict.evidence import Report

#: How many replies without a call after red checks end the run.
PATIENCE = 2


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
    #: The last word on a change whose checks pass (`confirming.Confirmer`).
    confirm: Callable[[], Awaitable[Confirmed]]
    #: Keeps the conversation within the model's window.
    room: Room
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
    if report is None or not report.ok:
        return outcome
    confirmed = await parts.confirm()
    if confirmed.tampered:
        return Outcome("tampered", f"the change tampers with the checks: {confirmed.tampered}")
    return outcome if confirmed.told else Outcome("verified", f"the checks pass now ({outcome.why})")


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
        told, tampered = "", ""
        if report.status == "passed":
            confirmed = await parts.confirm()
            if not confirmed.told:
                return Outcome("verified", "the checks pass")
            told, tampered = confirmed.told, confirmed.tampered
        idle = 0 if calls else idle + 1
        last = idle >= PATIENCE or not run.rounds_left
        if last and report.chosen:
            # The grade is about all tests, and so is what people are told.
            report = await parts.judge.everything("round") or report
        if tampered and last:
            return Outcome("tampered", f"the change tampers with the checks: {tampered}")
        if idle >= PATIENCE:
            return Outcome("gave_up", "the checks fail and the model makes no further attempt")
        if not run.rounds_left:
            return Outcome("not_verified", f"the checks still fail after {run.spent.rounds} rounds")
        run.emit("steered", text=told or parts.evidence(report), source="harness")


async def _until_done(parts: Parts) -> int:
    """Ask and run calls until a reply holds none; returns how many calls were run."""
    run, count, lapses = parts.run, 0, Lapses()
    if said_done(run):
        return 1  # a resumed run that was killed between the model's last word and the checks
    while True:
        run.check_budget()
        message = await parts.room.within(
            lambda: ask(run, parts.model, max_reply=parts.max_reply, check=parts.room.check)
        )
        wrong = lapse(last_reply(run.events))
        if message.calls:
            await parts.gate.calls(message.calls, torn=wrong.torn if wrong else "")
            count += len(message.calls)
        elif wrong is None:
            return count
        if lapses.count(wrong) and wrong is not None:
            raise Repeating(wrong.why)
        if wrong is not None and not any(call.args is None for call in message.calls):
            run.emit("steered", text=wrong.told, source="harness")


def said_done(run: Run) -> bool:
    """Whether the last word is the model's own, whole and without a call."""
    last = run.projection.messages[-1]
    return last.role == "assistant" and not last.calls and lapse(last_reply(run.events)) is None
