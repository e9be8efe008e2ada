"""A run: its events so far, who watches them, what it has spent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, field

from poolcli.context import Projection
from poolcli.errors import BudgetError
from poolcli.events import Event
from poolcli.models.base import Usage
from poolcli.models.cache_watch import CacheWatch
from poolcli.redact import Redactor, Stream, current

#: Events after which a lost page of the log would repeat a side effect or lose a reply that cost minutes.
DURABLE = frozenset({"model.replied", "tool.started", "checks.done", "run.ended"})


class Log(Protocol):
    """Where events are kept (`store.trace.Trace`)."""

    def append(self, event: Event) -> None:
        """Write one event. Raises StoreError."""

    def sync(self) -> None:
        """Make what was written survive a power cut."""


class View(Protocol):
    """Something that watches."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def recall(self, event: Event) -> None:
        """Take in an event of before `pool resume` without showing it."""

    def close(self) -> None:
        """Finish the output."""


class Budget(Struct, frozen=True):
    """What a run may spend; 0 means no limit. `turns` are requests to the model, `rounds` runs of the checks
    after the model said that it was done, `tokens` those of all prompts and replies together."""

    turns: int = 0
    tokens: int = 0
    seconds: float = 0.0
    rounds: int = 0


class Spent(Struct):
    """What a run has spent so far, summed from its events."""

    turns: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    rounds: int = 0

    def feed(self, event: Event) -> None:
        """Count one event."""
        if event.type == "model.replied":
            self.turns += 1
            usage = event.data.get("usage") or {}
            self.prompt += usage.get("prompt") or 0
            self.completion += usage.get("completion") or 0
            self.cached += usage.get("cached") or 0
        elif event.type == "checks.done" and event.data.get("phase") == "round":
            # Chosen tests that pass are followed by all of them: one round.
            self.rounds += not event.data.get("chosen") or event.data.get("status") == "failed"


class Run(Struct):
    """One run. Everything that happens goes through `emit`; nothing is shown that was not saved."""

    id: str
    dir: Path
    log: Log
    budget: Budget = field(default_factory=Budget)
    views: list[View] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    projection: Projection = field(default_factory=Projection)
    #: Fed from the events, so a resumed run knows the whole conversation.
    cache: CacheWatch = field(default_factory=CacheWatch)
    started: float = field(default_factory=time.monotonic)
    #: What was spent before this process took the run over: a resumed run gets a fresh budget.
    earlier: Spent = field(default_factory=Spent)
    #: Takes secrets out of every event before it is made: log, views and prompt are made of events alone.
    redactor: Redactor = field(default_factory=current)
    #: What is held back of a reply that is shown while it comes, by the kind of text.
    streams: dict[str, Stream] = field(default_factory=dict)

    def replay(self, events: Iterable[Event]) -> None:
        """Take over the events of an earlier process without writing or showing them again."""
        for event in events:
            self._take(event)
        self.earlier = Spent(**{name: getattr(self.spent, name) for name in Spent.__struct_fields__})

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.projection.feed(event)
        self.spent.feed(event)
        self._watch(event)

    def _watch(self, event: Event) -> None:
        """Tell the watch on the prefix cache what concerns it."""
        match event.type:
            case "model.replied":
                usage = event.data.get("usage") or {}
                self.cache.feed(Usage(usage.get("prompt"), usage.get("completion"), usage.get("cached")))
            case "compacted" | "run.resumed":
                self.cache.excuse()
            case "notice" if event.data.get("code") in ("rung", "roles"):
                self.cache.excuse()  # the conversation is put to the server in another way from here on

    def emit(self, type: str, **data: Any) -> Event:
        """Save an event, then show it. Raises StoreError when it cannot be saved."""
        # A reply is the model's own words, made from text that was redacted: what is only guessed to be a secret
        # from the name beside it stays, or the model could not write a test of a login.
        data = self.redactor.data(data, named=type != "model.replied")
        self._release()
        event = Event(self.id, len(self.events) + 1, round(time.time(), 3), type, data)
        self.log.append(event)
        if type in DURABLE:
            self.log.sync()
        self._take(event)
        self._show(event)
        return event

    def live(self, type: str, **data: Any) -> None:
        """Show something that is never stored: a piece of a reply, output of a running command."""
        if not self.views:
            return
        if type == "delta":
            kind = data["kind"]
            if kind not in self.streams:
                self._release()
                self.streams[kind] = self.redactor.stream(named=False)
            data["text"] = self.streams[kind].feed(data["text"])
            if not data["text"]:
                return
        else:
            data = self.redactor.data(data)
        self._show(Event(self.id, 0, 0.0, type, data))

    def _release(self) -> None:
        """Show what was held back of a reply: it goes on with something else."""
        while self.streams:
            kind, stream = self.streams.popitem()
            if text := stream.flush():
                self._show(Event(self.id, 0, 0.0, "delta", {"kind": kind, "text": text}))

    def notice(self, text: str, *, level: str = "info", code: str = "") -> None:
        """Tell people something that the model does not see."""
        self.emit("notice", level=level, text=text, code=code)

    def _show(self, event: Event) -> None:
        for view in tuple(self.views):
            try:
                view(event)
            except Exception as error:  # a view must never end a run
                self.views.remove(view)
                with contextlib.suppress(Exception):
                    view.close()
                self.notice(f"a view failed and was dropped: {error}", level="warning", code="view-dropped")

    @property
    def seconds(self) -> float:
        """Seconds since this process began the run."""
        return time.monotonic() - self.started

    def check_budget(self) -> None:
        """Raise BudgetError when the next request to the model would exceed a budget."""
        budget, spent, earlier = self.budget, self.spent, self.earlier
        turns = spent.turns - earlier.turns
        tokens = spent.prompt + spent.completion - earlier.prompt - earlier.completion
        if budget.turns and turns >= budget.turns:
            raise BudgetError(f"{turns} of {budget.turns} turns used", "raise --max-turns, or `pool resume`")
        if budget.tokens and tokens >= budget.tokens:
            raise BudgetError(
                f"{tokens} of {budget.tokens} tokens used", "raise --max-tokens, or `pool resume`"
            )

    @property
    def rounds_left(self) -> bool:
        """Whether the checks may fail once more without ending the run."""
        return not self.budget.rounds or self.spent.rounds - self.earlier.rounds < self.budget.rounds
