"""What is going on right now: the last line of the terminal view. Fed with all events, also live ones."""

from __future__ import annotations

import time

from msgspec import Struct, field

from poolcli.events import LIVE, Event
from poolcli.sanitize import clean
from poolcli.views import calls
from poolcli.views.phrases import count, exact, line, seconds, window

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_ASCII = "|/-\\"

#: Seconds after which a single step's own time is worth showing.
LONG = 3.0

#: Characters of a streaming text or a running command's output that are kept for showing its end.
KEPT = 8000


class Status(Struct):
    """The present: activity, running calls with their latest output, the reply as far as it has come."""

    doing: str = "starting"
    turn: int = 0
    context: int = 0
    window: int = 0
    cached: int | None = None  # percent of the last request
    #: "text" or "think" while a reply streams in, and its end so far (not clean).
    kind: str = ""
    stream: str = ""
    #: Running calls by id: (what, the end of its output, not clean).
    running: dict[str, tuple[str, str]] = field(default_factory=dict)
    over: bool = True
    #: A person is being asked: the terminal is theirs.
    asking: bool = False
    _began: float = field(default_factory=time.monotonic)
    _since: float = field(default_factory=time.monotonic)

    def feed(self, event: Event) -> None:
        """Take one event into account."""
        data = event.data
        if event.type not in LIVE and event.type != "notice":
            self.asking = event.type == "asked"
        match event.type:
            case "delta":
                self._delta(str(data.get("kind", "")), str(data.get("text", "")))
            case "progress":
                if (doing := line(data.get("text", ""))) != self.doing:
                    self._now(doing)
            case "tool.output":
                if (id := str(data.get("id"))) in self.running:
                    what, end = self.running[id]
                    self.running[id] = what, (end + str(data.get("text", "")))[-KEPT:]
            case "run.started" | "run.resumed":
                self.over = False
                self.window = (data.get("model") or {}).get("window") or 0
                self._now("starting")
            case "checks.started":
                self._now(f"running {exact(data.get('command', 'the checks'))}")
            case "model.replied":
                self._replied(event)
            case "tool.started":
                name = str(data.get("name", ""))
                what = f"{calls.label(name)} {calls.subject(name, str(data.get('title', '')))}"
                self.running[str(data.get("id"))] = what, ""
                self._now(what)
            case "tool.done":
                self.running.pop(str(data.get("id")), None)
                if not self.running:
                    self._wait()
            case "turn.started" | "steered" | "checks.done" | "notice" | "compacted":
                if event.type == "compacted":
                    self.context = data.get("after") or self.context
                self._wait()
            case "answered":
                self._wait()
            case "run.ended":
                self.over = True

    def _now(self, doing: str) -> None:
        self.doing, self._since = doing, time.monotonic()

    def _wait(self) -> None:
        # Also what a broken stream had brought is forgotten: the reply comes again from its beginning.
        self.kind = self.stream = ""
        if not self.running:
            self._now("waiting for the model")

    def _delta(self, kind: str, text: str) -> None:
        if kind != self.kind:
            self.kind, self.stream = kind, ""
            self._now("thinking" if kind == "think" else "writing")
        self.stream = self.stream + text
        if len(self.stream) > 2 * KEPT:
            # Cut at a line end: a sequence that is cleaned away must not be cut in two.
            self.stream = self.stream[-KEPT:].partition("\n")[2] or self.stream[-KEPT:]

    def _replied(self, event: Event) -> None:
        usage = event.data.get("usage") or {}
        prompt = usage.get("prompt") or 0
        self.turn = event.data.get("turn") or self.turn + 1
        self.context = prompt + (usage.get("completion") or 0)
        cached = usage.get("cached")
        self.cached = None if cached is None or not prompt else 100 * cached // prompt
        self._wait()

    def streamed(self) -> str:
        """The reply so far, clean; its end only when it is long."""
        return clean(self.stream).strip("\n")

    def output(self) -> list[str]:
        """The latest lines of running commands, clean."""
        rows: list[str] = []
        for _, end in self.running.values():
            # The first line may begin in the middle of a sequence; only the last ones are shown anyway.
            rows += [row for row in clean(end).rstrip("\n").split("\n")[-20:] if row.strip()]
        return rows

    def activity(self) -> str:
        """What happens now, with its own time once that is long."""
        if len(self.running) > 1:
            doing = f"{len(self.running)} calls: " + ", ".join(what for what, _ in self.running.values())
        else:
            doing = self.doing
        took = time.monotonic() - self._since
        return f"{doing}  {seconds(took)}" if took >= LONG else doing

    def figures(self, room: int) -> str:
        """Turn, tokens in the context, cached share, elapsed; least first left out where narrow."""
        limit = f"/{window(self.window)}" if self.window else ""
        elapsed = seconds(int(time.monotonic() - self._began)).replace(".0s", "s")
        figures = {
            "turn": f"turn {self.turn}" if self.turn else "",
            "tokens": f"{count(self.context)}{limit} tokens" if self.context else "",
            "cached": "" if self.cached is None else f"{self.cached}% cached",
            "elapsed": elapsed,
        }
        for least in ("", "cached", "turn", "tokens"):
            figures.pop(least, None)
            text = " · ".join(filter(None, figures.values()))
            if len(text) <= room:
                break
        return text

    def spinner(self, signs: str) -> str:
        """The sign of this moment."""
        return signs[int(time.monotonic() * 10) % len(signs)]
