"""One call: check → decide → run → exactly one result, whatever happens in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli.approvals import Approver
from poolcli.messages import Call
from poolcli.policy import Decision
from poolcli.run import Run
from poolcli.tools import aliases
from poolcli.tools import contract as contracts
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.registry import Tool

#: Kinds that change nothing, so neighbours of these kinds may run side by side.
READING = frozenset({"read", "search"})

#: After this many identical calls with identical results the model is told, and after the second number the run
#: ends: a model that repeats itself does not stop by itself (two peers were seen to repeat a call 200 times).
REPEATS_TOLD, REPEATS_END = 4, 12

UNREADABLE = "error: the arguments are not a JSON object (cut off, or wrongly quoted); make the call again"


class Repeating(Exception):
    """The model made the same call with the same result over and over."""


class _Checked(Struct, frozen=True):
    """A call that may run (`tool` set) or whose result is already known (`refusal` set)."""

    call: Call
    title: str
    kind: str = "other"
    tool: Tool | None = None
    args: Mapping[str, Any] | None = None
    refusal: str = ""
    why: str = ""
    decision: Decision | None = None
    #: What allowed it, for the log.
    allowed: str = ""


class Gate:
    """Runs calls for one run."""

    def __init__(self, run: Run, tools: Mapping[str, Tool], ctx: Ctx, approver: Approver) -> None:
        self._run, self._tools, self._ctx, self._approver = run, tools, ctx, approver
        self._last: tuple[str, str, str] = ("", "", "")
        self._repeats = 0

    async def calls(self, calls: Sequence[Call], *, torn: str = "") -> None:
        """Run the calls of one reply; results appear in the order of the calls, one each.

        `torn` is the result of the last call when its arguments cannot be read because the reply broke off there.

        Reading neighbours run side by side. Raises Repeating after too many identical calls; on cancellation
        every call still gets its result, `interrupted`, before the cancellation goes on.
        """
        pending = [self._check(call, torn if call is calls[-1] else "") for call in calls]
        done = 0
        try:
            while done < len(pending):
                group = [await self._allowed(item) for item in self._group(pending[done:])]
                await self._together(group)
                done += len(group)
        except asyncio.CancelledError:
            self._interrupted(pending)
            raise
        if self._repeats >= REPEATS_END:
            raise Repeating(
                f"the model made the same call {self._repeats} times in a row: {pending[-1].title}"
            )

    def _check(self, call: Call, torn: str = "") -> _Checked:
        if call.args is not None:
            name, given = aliases.meant(call.name, call.args, self._tools)
            call = replace(call, name=name, args=given)
        tool = self._tools.get(call.name)
        if call.args is None:
            # Said first: where it broke off, even its name may not be whole.
            kind = tool.contract.kind if tool else "other"
            return _Checked(call, call.name, kind, refusal=torn or UNREADABLE, why="invalid")
        if tool is None:
            names = ", ".join(self._tools)
            return _Checked(
                call,
                call.name,
                refusal=f"error: there is no tool `{call.name}`; there are: {names}",
                why="invalid",
            )
        contract = tool.contract
        try:
            args = contracts.check(contract, call.args)
        except ToolError as error:
            return _Checked(call, contract.name, contract.kind, refusal=f"error: {error}", why="invalid")
        title = contracts.title(contract, args)
        decision = self._approver.decide(contract.name, contract.kind, args)
        if decision.verdict == "deny":
            return _Checked(call, title, contract.kind, refusal=f"refused: {decision.why}", why="refused")
        return _Checked(call, title, contract.kind, tool, args, decision=decision)

    async def _allowed(self, item: _Checked) -> _Checked:
        """The call as it may run, or refused: here a person may be asked."""
        if item.args is None or item.decision is None:
            return item
        id, name = item.call.id, item.call.name
        answer = await self._approver.settle(self._run, id, name, item.kind, item.args, item.decision)
        if answer.yes:
            return replace(item, allowed=answer.text)
        return replace(item, tool=None, refusal=answer.text, why="refused")

    @staticmethod
    def _group(pending: Sequence[_Checked]) -> Sequence[_Checked]:
        count = 1
        if pending[0].tool and pending[0].kind in READING:
            while count < len(pending) and pending[count].tool and pending[count].kind in READING:
                count += 1
        return pending[:count]

    async def _together(self, group: Sequence[_Checked]) -> None:
        for item in group:
            if item.tool:
                self._run.emit(
                    "tool.started",
                    id=item.call.id,
                    name=item.call.name,
                    kind=item.kind,
                    title=item.title,
                    args=item.args,
                    allowed=item.allowed,
                )
        if len(group) == 1:
            self._finish(group[0], *await self._execute(group[0]))
            return
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(self._execute(item)) for item in group]
        for item, task in zip(group, started, strict=True):
            self._finish(item, *task.result())

    async def _execute(self, item: _Checked) -> tuple[Output, str, float]:
        """The output, why it did not run to its end, and the seconds it took."""
        if item.tool is None or item.args is None:
            return Output(item.refusal, ok=False), item.why, 0.0
        begun = time.monotonic()
        try:
            output = await item.tool.run(self._for_call(item.call.id), **item.args)
            why = ""
        except ToolError as error:
            output, why = Output(f"error: {error}", ok=False), ""
        except Exception as error:  # a broken tool is the model's next observation, not the end of the run
            output, why = (
                Output(f"error: the tool failed: {type(error).__name__}: {error}", ok=False),
                "crashed",
            )
        return output, why, time.monotonic() - begun

    def _for_call(self, id: str) -> Ctx:
        return replace(self._ctx, note=lambda text: self._run.live("tool.output", id=id, text=text))

    def _finish(self, item: _Checked, output: Output, why: str, seconds: float) -> None:
        text = output.text
        same = (item.call.name, repr(item.args), text)
        self._repeats = self._repeats + 1 if same == self._last else 1
        self._last = same
        if self._repeats >= REPEATS_TOLD:
            text += (
                f"\n(The same call gave this same result {self._repeats} times in a row. Try something else.)"
            )
        self._run.emit(
            "tool.done",
            id=item.call.id,
            name=item.call.name,
            title=item.title,
            ok=output.ok,
            why=why,
            text=text,
            show=list(output.show),
            seconds=round(seconds, 3),
        )

    def _interrupted(self, pending: Sequence[_Checked]) -> None:
        """Give the calls of this reply that have no result yet the result `interrupted`."""
        answered: set[str] = set()
        started: set[str] = set()
        asked: set[str] = set()
        for event in reversed(self._run.events):
            if event.type == "model.replied":
                break
            if event.type == "tool.done":
                answered.add(event.data["id"])
            elif event.type == "tool.started":
                started.add(event.data["id"])
            elif event.type == "asked":
                asked.add(event.data["call"])
        for item in pending:
            if (id := item.call.id) in answered:
                continue
            text = "interrupted before it ended"
            if id not in started:
                text = "not run: interrupted" + (" at the question" if id in asked else "")
            self._finish(item, Output(text, ok=False), "interrupted", 0.0)
