"""What the conformance suite asks a misbehaving server through: one question of a real run, or the real command."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolcli import asking
from poolcli.errors import ModelError
from poolcli.events import Event
from poolcli.messages import Message
from poolcli.models.endpoint import Endpoint
from poolcli.models.openai import OpenAIModel
from poolcli.run import Run
from poolcli.store.trace import Trace
from tests.models.misbehaving import SSE, Misbehaving, Play, answer, event, misbehaving

#: What a server that lists one model, and says nothing else of itself, answers.
FACTS: Mapping[str, Play] = {"/v1/models": answer(200, {"data": [{"id": "m", "max_model_len": 32768}]})}
DONE = b"data: [DONE]\n\n"
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}


@dataclass
class Watching:
    """A view that remembers, live events too."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def recall(self, event: Event) -> None: ...

    def close(self) -> None: ...


@dataclass
class Asked:
    """What came of one question: the reply or the error, all events, and what the server was sent."""

    server: Misbehaving
    run: Run
    seen: list[Event]
    message: Message | None = None
    error: ModelError | None = None

    @property
    def reply(self) -> Event:
        """The one `model.replied`."""
        (found,) = [e for e in self.run.events if e.type == "model.replied"]
        return found

    def notices(self, code: str) -> list[str]:
        return [e.data["text"] for e in self.run.events if e.type == "notice" and e.data["code"] == code]

    def live(self, type: str) -> list[str]:
        return [e.data["text"] for e in self.seen if e.type == type]

    @property
    def same_bytes(self) -> bool:
        """Whether there was more than one request and all had the same bytes."""
        return len(self.server.bodies) > 1 and len(set(self.server.bodies)) == 1


async def question(
    folder: Path, *plays: Play, facts: Mapping[str, Play] | None = None, probe: bool = False, **endpoint: Any
) -> Asked:
    """Ask a server that plays these, in a real run with a real log."""
    trace = Trace.create(folder / "run", "r")
    view = Watching()
    run = Run("r", folder / "run", trace, views=[view])
    run.emit("run.started", system="You repair code.")
    run.emit("turn.started", text="hello")
    async with misbehaving(*plays, facts=FACTS if facts is None else facts) as server:
        model = OpenAIModel(Endpoint(server.base_url, "m", **endpoint))
        asked = Asked(server, run, view.events)
        try:
            if probe:
                await model.probe()
            asked.message = await asking.ask(run, model)
        except ModelError as error:
            asked.error = error
        finally:
            await model.aclose()
            trace.close()
    replied = [e for e in run.events if e.type == "model.replied"]
    assert len(replied) == (asked.error is None)  # a reply that broke leaves nothing behind
    return asked


def ask(folder: Path, *plays: Play, **more: Any) -> Asked:
    """`question`, which must never hang."""
    return asyncio.run(asyncio.wait_for(question(folder, *plays, **more), 50))


@contextmanager
def serving(*plays: Play, facts: Mapping[str, Play] | None = None) -> Iterator[Misbehaving]:
    """The server in a thread of its own, for the real command to speak with."""
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    ready: list[Misbehaving] = []
    up = threading.Event()

    async def serve() -> None:
        async with misbehaving(*plays, facts=FACTS if facts is None else facts) as server:
            ready.append(server)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


# Replies, as bytes.


def part(name: str = "", arguments: Any = None, **more: Any) -> dict[str, Any]:
    """One entry of `tool_calls`."""
    function = {**({"name": name} if name else {}), **({} if arguments is None else {"arguments": arguments})}
    return {"function": function, **more}


def calling(*parts: dict[str, Any], finish: str | None = "tool_calls", **more: object) -> bytes:
    """A streamed reply of these deltas of calls, one after another."""
    deltas = b"".join(event({"tool_calls": [one]}) for one in parts)
    return SSE + deltas + (event({}, finish, **more) + DONE if finish else b"")


def call(name: str, id: str = "c1", **args: Any) -> dict[str, Any]:
    """A whole call."""
    return part(name, json.dumps(args), index=0, id=id)


def saying(text: str, finish: str = "stop", **more: object) -> bytes:
    """A streamed reply of text."""
    return SSE + event({"content": text}) + event({}, finish, **more) + DONE


#: The edit that turns the checks of the example repository green, and the word that ends the work.
FIX = calling(call("edit", path="calc.py", old="return a - b", new="return a + b"))
OVER = saying("add subtracted; it adds now.")
