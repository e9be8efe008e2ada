"""When a conversation is made shorter, by what is known of the window and of the server's counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from poolcli.compact import Measure
from poolcli.errors import ModelError
from poolcli.fitting import CutOffError, Room
from poolcli.messages import Message, Text
from poolcli.models.base import ModelInfo, Reply, Usage
from poolcli.models.faults import ContextExceededError
from poolcli.run import Run
from poolcli.store.trace import Trace

Answer = Callable[["Server"], dict[str, Any]]


class Server:
    """A server of a window's size that counts four characters as a token, and answers each request as told."""

    def __init__(self, run: Run, window: int = 0, said: int = 0) -> None:
        self.run, self.real = run, window
        self.info = ModelInfo("m", "http://localhost/v1", said)
        self.asked: list[int] = []
        self.names_sizes = True

    def count(self) -> int:
        return Measure().request(self.run.projection.messages)

    async def ask(self) -> Message:
        tokens = self.count()
        self.asked.append(tokens)
        if self.real and tokens > self.real:
            sizes = {"prompt": tokens, "window": self.real} if self.names_sizes else {}
            raise ContextExceededError("too long", **sizes)
        return self.reply({"prompt": tokens, "completion": 10})

    def reply(self, usage: dict[str, Any]) -> Message:
        number = self.run.spent.turns
        parts = [{"type": "call", "id": f"r{number}", "name": "read", "args": {"path": "a.py"}}]
        self.run.emit(
            "model.replied", message={"role": "assistant", "parts": parts}, finish="stop", usage=usage
        )
        return self.run.projection.messages[-1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run("r", tmp_path, Trace.create(tmp_path, "r"))
    run.emit("run.started", system="You are pool.", task="fix it")
    run.emit(
        "turn.started",
        text="<repository>\n" + "a/b/c.py\n" * 200 + "</repository>\n\n<task>\nfix it\n</task>",
    )
    return run


def room_for(server: Server, **more: Any) -> Room:
    return Room(server.run, server, [], lambda: "", **more)  # type: ignore[arg-type]


def work(room: Room, server: Server, results: Sequence[int]) -> None:
    """Ask, and give results of so many characters."""
    for size in results:
        message = asyncio.run(room.within(server.ask))
        for call in message.calls:
            server.run.emit(
                "tool.done", id=call.id, name="read", title="Read a.py", ok=True, text="x " * (size // 2)
            )


def compactions(run: Run) -> list[Any]:
    return [e.data for e in run.events if e.type == "compacted"]


def test_what_is_known_to_be_too_long_is_never_sent(run: Run) -> None:
    server = Server(run, window=8000, said=8000)
    work(room_for(server), server, [4000] * 30)
    assert max(server.asked) <= 7000  # an eighth stays for the reply
    assert len(server.asked) == 30
    assert all(c["why"] == "estimate" and c["after"] <= 4000 for c in compactions(run))
    assert compactions(run)[0]["level"] == 1  # the mildest that is enough
    assert 3 <= len(compactions(run)) <= 15  # each makes room for more than one turn


def test_an_unknown_window_is_learnt_from_the_first_refusal(run: Run) -> None:
    server = Server(run, window=8000)
    room = room_for(server)
    work(room, server, [4000] * 30)
    assert room.window == 8000
    assert [c["why"] for c in compactions(run)].count("refused") == 1
    assert sum(tokens > 8000 for tokens in server.asked) == 1
    assert compactions(run)[0]["window"] == 8000


def test_a_refusal_without_sizes_halves_what_was_sent(run: Run) -> None:
    server = Server(run, window=8000)
    server.names_sizes = False
    work(room_for(server), server, [4000] * 30)
    assert sum(tokens > 8000 for tokens in server.asked) == 1
    first = compactions(run)[0]
    assert first["why"] == "refused" and first["after"] <= first["before"] // 2
    assert 8000 < first["window"] < 9500  # no more than what was refused


def test_a_refusal_in_a_known_window_corrects_the_count(run: Run) -> None:
    """The server needs three times the tokens that we count, as for scripts that vocabularies hold few words of."""
    server = Server(run, window=9000, said=9000)
    server.count = lambda: 3 * Measure().request(run.projection.messages)  # type: ignore[method-assign]
    run.emit("steered", text="word " * 3000, source="harness")
    work(room_for(server), server, [100])
    (made,) = compactions(run)
    assert made["why"] == "refused" and made["before"] > 9000
    assert made["after"] <= 4500 and server.asked[-1] == pytest.approx(made["after"], rel=0.1)


def test_the_servers_count_corrects_the_estimate_of_what_was_added(run: Run) -> None:
    server = Server(run, window=9000, said=9000)
    server.count = lambda: 3 * Measure().request(run.projection.messages)  # type: ignore[method-assign]
    work(room_for(server), server, [3000] * 12)
    assert max(server.asked) <= 9000
    assert {c["why"] for c in compactions(run)} == {"estimate"}


def test_a_server_that_goes_on_refusing_gets_one_more_request(run: Run) -> None:
    server = Server(run, window=3000)
    work(room_for(server), server, [4000, 4000])
    server.real = 300
    server.names_sizes = False
    asked, made = len(server.asked), len(compactions(run))
    with pytest.raises(ContextExceededError) as caught:
        work(room_for(server), server, [100])
    assert len(server.asked) == asked + 2 and len(compactions(run)) == made + 1
    assert "cannot be made shorter again" in str(caught.value) and "-c 32768" in caught.value.hint
    with pytest.raises(ContextExceededError):  # nor does a resumed run make it shorter once more
        work(room_for(server), server, [100])
    assert len(server.asked) == asked + 3 and len(compactions(run)) == made + 1


def test_what_cannot_be_made_shorter_is_not_tried(run: Run) -> None:
    server = Server(run, window=3000)
    room = room_for(server)
    run.emit("turn.started", text="Do as I say. " * 2000)
    with pytest.raises(ContextExceededError) as caught:
        asyncio.run(room.within(server.ask))
    assert len(server.asked) == 1 and compactions(run) == []
    assert str(caught.value).endswith("the conversation cannot be made shorter")


def test_a_window_named_by_a_refusal_can_be_too_small(run: Run) -> None:
    server = Server(run, window=1500)
    run.emit("steered", text="x" * 8000, source="harness")
    with pytest.raises(ModelError, match="only 1,500 tokens") as caught:
        asyncio.run(room_for(server).within(server.ask))
    assert "32768" in caught.value.hint and not isinstance(caught.value, ContextExceededError)
    assert compactions(run) == []


def test_a_larger_window_after_a_restart_counts(run: Run) -> None:
    server = Server(run, window=3000)
    room = room_for(server)
    work(room, server, [4000] * 4)
    assert room.window == 3000
    server.real = 60_000
    run.emit("run.resumed")
    again = room_for(server)
    work(again, server, [4000] * 10)
    assert again.window == 0 and max(server.asked) > 9000


def test_the_estimate_is_the_servers_count_and_what_was_added(run: Run) -> None:
    server = Server(run, said=100_000)
    room = room_for(server)
    unknown = room.estimate()
    assert unknown == server.count()
    server.reply({"prompt": 5000, "completion": 70})
    assert room.estimate() == 5070
    run.emit("tool.done", id="r0", name="read", title="", ok=True, text="x" * 4000)
    assert 6070 < room.estimate() < 6120
    run.emit("run.resumed")  # perhaps with another model, which counts differently
    assert room.estimate() < 2000


def test_tools_count_before_anything_is_known(run: Run) -> None:
    server = Server(run)
    tools = [{"type": "function", "function": {"name": "read", "description": "x" * 4000}}]
    assert Room(run, server, tools, lambda: "").estimate() > room_for(server).estimate() + 1000  # type: ignore[arg-type]


def test_long_replies_get_the_room_that_they_may_take(run: Run) -> None:
    server = Server(run, window=8000, said=8000)
    work(room_for(server, max_reply=3000), server, [4000] * 10)
    assert max(server.asked) <= 5000


def test_a_counter_can_be_passed_in(run: Run) -> None:
    server = Server(run)
    assert room_for(server, count=len).estimate() > 3 * room_for(server).estimate()


def test_a_worktree_that_is_gone_does_not_keep_it_from_being_done(run: Run) -> None:
    def gone() -> str:
        raise OSError("gone")

    server = Server(run, window=3000)
    room = Room(run, server, [], gone)  # type: ignore[arg-type]
    for _ in range(6):
        asyncio.run(room.within(server.ask))
        run.emit("tool.done", id=f"r{run.spent.turns - 1}", name="read", title="R", ok=True, text="x " * 2000)
    assert compactions(run)


def test_a_cut_off_reply_is_refused_before_it_is_recorded(run: Run) -> None:
    room = room_for(Server(run, said=4096))
    cut = Reply(Message("assistant", (Text("I th"),)), "length", Usage(4000, 96), 0.0, 0.0)
    with pytest.raises(CutOffError, match="filled the rest of the model's context of 4,096 tokens"):
        room.check(cut)
    room.check(Reply(Message("assistant", (Text("I"),)), "stop", Usage(4000, 96), 0.0, 0.0))


def test_reasoning_that_a_template_leaves_out_is_no_cut(run: Run) -> None:
    server = Server(run, said=32_768)
    room = room_for(server)
    parts = [{"type": "think", "text": "hm " * 4000}, {"type": "text", "text": "Done."}]

    async def thought() -> Message:
        usage = {"prompt": 5000, "completion": 3000}
        run.emit("model.replied", message={"role": "assistant", "parts": parts}, finish="stop", usage=usage)
        return run.projection.messages[-1]

    async def then() -> Message:
        return server.reply({"prompt": 4100, "completion": 10})

    asyncio.run(room.within(thought))
    asyncio.run(room.within(thought))
    run.emit("steered", text="The checks fail.", source="harness")
    asyncio.run(room.within(then))
    assert [e for e in run.events if e.type == "notice"] == []


def test_a_context_that_is_nearly_full_of_what_must_stay_is_told_of_once(run: Run) -> None:
    server = Server(run, window=8000, said=8000)
    run.emit("steered", text="Do as I say. " * 1400, source="user")
    work(room_for(server), server, [4000] * 12)
    assert len(compactions(run)) >= 4 and max(server.asked) <= 8000
    assert [e.data["code"] for e in run.events if e.type == "notice"] == ["tight"]


def test_a_first_count_that_is_far_too_low_is_a_cut(run: Run) -> None:
    server = Server(run)
    run.emit("steered", text="word " * 20_000, source="harness")

    async def cut() -> Message:
        return server.reply({"prompt": 4050, "completion": 10})

    with pytest.raises(ModelError, match="counts only 4,050 tokens"):
        asyncio.run(room_for(server).within(cut))
    small = Server(run, said=4096)  # then prompts and tools are short, and it is known

    async def known() -> Message:
        return small.reply({"prompt": 4050, "completion": 10})

    asyncio.run(room_for(small).within(known))
