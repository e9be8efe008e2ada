"""Rule 4: every call gets exactly one result, whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from poolcli.approvals import Approver
from poolcli.events import Event
from poolcli.gate import Gate, Repeating
from poolcli.messages import Call
from poolcli.policy import forbidding
from poolcli.run import Run
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.registry import Tool, load


@dataclass
class Memory:
    """A log in memory: what the gate does is judged by its events alone."""

    events: list[Event] = field(default_factory=list)

    def append(self, event: Event) -> None:
        self.events.append(event)

    def sync(self) -> None:
        pass


class Ours(Tool, frozen=True):
    """A tool with the contract of a shipped one and a body of ours."""

    body: Any = None

    async def run(self, ctx: Ctx, **args: Any) -> Output:
        result: Output = await self.body(ctx, **args)
        return result


def tool(like: str, body: Any) -> Tool:
    return Ours(load([like])[like].contract, body)


def gate(tools: dict[str, Tool], **more: Any) -> tuple[Gate, Run]:
    run = Run("r", Path("."), Memory())
    run.emit("run.started", system="s")
    ctx = Ctx(None, None, lambda text: None, Path("."))  # type: ignore[arg-type]
    return Gate(run, tools, ctx, Approver(**{"mode": "auto", **more})), run


def test_a_call_of_another_agents_tool_is_understood() -> None:
    seen: list[dict[str, Any]] = []

    async def body(ctx: Ctx, **args: Any) -> Output:
        seen.append(args)
        return Output("edited")

    patch = "*** Begin Patch\n*** Update File: a.py\n-x\n+y\n*** End Patch\n"
    one, run = gate({"edit": tool("edit", body)})
    asyncio.run(one.calls([Call("1", "apply_patch", {"input": patch})]))
    assert seen == [{"path": "a.py", "old": "", "new": patch}] and done(run) == [("1", True, "")]
    denied, run = gate({"edit": tool("edit", body)}, rules=forbidding(["edit"], "here"))
    asyncio.run(denied.calls([Call("1", "apply_patch", {"input": patch})]))
    assert len(seen) == 1 and done(run) == [("1", False, "refused")]
    # Where it is offered, too.
    both = {name: tool(name, body) for name in ("edit", "apply_patch")}
    denied, run = gate(both, rules=forbidding(["edit"], "here"))
    asyncio.run(denied.calls([Call("1", "apply_patch", {"patch": patch})]))
    assert len(seen) == 1 and done(run) == [("1", False, "refused")]


def done(run: Run) -> list[tuple[str, bool, str]]:
    return [(e.data["id"], e.data["ok"], e.data["why"]) for e in run.events if e.type == "tool.done"]


def read(id: str, path: str = "a") -> Call:
    return Call(id, "read", {"path": path})


async def echo(ctx: Ctx, path: str, offset: int = 1, limit: int = 400) -> Output:
    return Output(path)


def test_unknown_malformed_refused_and_crashing_calls_all_get_a_result() -> None:
    async def crash(ctx: Ctx, path: str, offset: int = 1, limit: int = 400) -> Output:
        raise ZeroDivisionError("oops")

    async def fail(ctx: Ctx, **args: Any) -> Output:
        raise ToolError("no such thing")

    tools = {"read": tool("read", crash), "write": tool("write", fail), "list": tool("list", echo)}
    it, run = gate(tools, rules=forbidding(["list"], "config.toml:1"))
    calls = [
        Call("1", "nope", {}),
        Call("2", "read", None, "{broken"),
        Call("3", "read", {}),
        Call("4", "list", {}),
        read("5"),
        Call("6", "write", {"path": "a", "content": "b"}),
    ]
    asyncio.run(it.calls(calls))
    assert done(run) == [
        ("1", False, "invalid"),
        ("2", False, "invalid"),
        ("3", False, "invalid"),
        ("4", False, "refused"),
        ("5", False, "crashed"),
        ("6", False, ""),
    ]
    started = [e.data["id"] for e in run.events if e.type == "tool.started"]
    assert started == ["5", "6"]  # what was refused never began


def test_reading_neighbours_run_side_by_side_and_results_keep_their_order() -> None:
    arrived: list[str] = []
    both = asyncio.Event()

    async def meet(ctx: Ctx, path: str, offset: int = 1, limit: int = 400) -> Output:
        arrived.append(path)
        if len(arrived) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 5)  # ends only if the other one runs at the same time
        return Output(path)

    it, run = gate({"read": tool("read", meet)})
    asyncio.run(it.calls([read("1", "a"), read("2", "b")]))
    assert done(run) == [("1", True, ""), ("2", True, "")]


def test_cancellation_answers_every_call() -> None:
    async def sleep(ctx: Ctx, path: str, **more: Any) -> Output:
        await asyncio.sleep(60 if path == "slow" else 0)
        return Output(path)

    it, run = gate({"read": tool("read", sleep), "write": tool("write", sleep)})

    async def interrupted() -> None:
        task = asyncio.create_task(
            it.calls([read("1", "quick"), Call("2", "write", {"path": "slow", "content": ""}), read("3")])
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    ids = [id for id, _, _ in done(run)]
    assert sorted(ids) == ["1", "2", "3"] and len(set(ids)) == 3


def test_what_was_interrupted_at_its_question_did_not_run() -> None:
    class Thinking:
        async def ask(self, question: Any) -> Any:
            await asyncio.sleep(60)

    it, run = gate({"write": tool("write", echo)}, mode="ask", person=Thinking())

    async def interrupted() -> None:
        calls = [Call(id, "write", {"path": id, "content": ""}) for id in ("1", "2")]
        task = asyncio.create_task(it.calls(calls))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    said = {event.data["id"]: event.data["text"] for event in run.events if event.type == "tool.done"}
    assert said == {"1": "not run: interrupted at the question", "2": "not run: interrupted"}


def test_repetition_is_told_and_then_ends() -> None:
    it, run = gate({"read": tool("read", echo)})
    with pytest.raises(Repeating):
        for n in range(50):
            asyncio.run(it.calls([read(str(n))]))
    texts = [e.data["text"] for e in run.events if e.type == "tool.done"]
    assert len(texts) < 20
    assert "same result" not in texts[1] and "same result" in texts[-1]


def test_a_view_that_fails_is_dropped_and_said() -> None:
    class Broken:
        def __call__(self, event: Event) -> None:
            raise ValueError("no screen")

        def recall(self, event: Event) -> None:
            pass

        def close(self) -> None:
            pass

    seen: list[str] = []

    class Works:
        def __call__(self, event: Event) -> None:
            seen.append(event.type)

        def recall(self, event: Event) -> None:
            pass

        def close(self) -> None:
            pass

    run = Run("r", Path("."), Memory(), views=[Broken(), Works()])
    run.emit("run.started", system="s")
    run.emit("turn.started", text="x")
    assert seen == ["notice", "run.started", "turn.started"] or seen == [
        "run.started",
        "notice",
        "turn.started",
    ]
    assert len(run.views) == 1
    assert [e.seq for e in run.events] == [1, 2, 3]
