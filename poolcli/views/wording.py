"""What a run looks like to people: events in, simple blocks out. The text views only draw blocks.

Everything that was not written by pool (a model's words, output, paths, titles) is cleaned here, once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from poolcli.events import Event
from poolcli.sanitize import clean
from poolcli.views import calls, checks
from poolcli.views.blocks import Block, Header, Note, Prose, Said, Step, Thought, Tone, Verdict
from poolcli.views.phrases import beginning, count, exact, line, place, plural, rows, seconds, window

THOUGHT_CHARS = 220  # about two rows of a wide terminal
SAID_ROWS = 4
FINDINGS = 6  # of tampering; the log has the rest

#: Each status of `run.ended`: the word for it and its tone.
WORDS: dict[str, tuple[str, Tone]] = {
    "verified": ("VERIFIED", "good"),
    "unchecked": ("DONE, NOT CHECKED", "warn"),
    "not_verified": ("NOT VERIFIED", "bad"),
    "tampered": ("TAMPERED WITH", "bad"),
    "gave_up": ("GAVE UP", "warn"),
    "budget": ("OUT OF BUDGET", "warn"),
    "model_failed": ("MODEL FAILED", "bad"),
    "refused": ("REFUSED", "bad"),
    "interrupted": ("INTERRUPTED", "warn"),
    "terminated": ("STOPPED", "warn"),
    "usage": ("NOT RUN", "bad"),
    "failed": ("FAILED", "bad"),
}


class Wording:
    """Turns the events of one run into blocks, in order. Live events give none.

    `verbose` shows reasoning and output at length; `next_steps` says at the end what to type.
    """

    def __init__(self, *, verbose: bool = False, next_steps: bool = True) -> None:
        self._verbose, self._next_steps = verbose, next_steps
        self._run = ""
        self._baseline: Mapping[str, Any] | None = None
        self._final: Mapping[str, Any] | None = None
        self._command = True  # there is a checks command
        self._first_turn = True
        self._checks_shown = False  # since the last call began
        self._open = False  # the run began and has not ended

    def blocks(self, event: Event) -> list[Block]:
        """What to show for an event; nothing for live ones and for types that are not known."""
        handler = _HANDLERS.get(event.type)
        return handler(self, event.data, event) if handler else []

    def rest(self, *, running: bool = False) -> list[Block]:
        """What to show when no more events come: a word where the run has not ended. `running`: another process is
        at it."""
        if not self._open:
            return []
        if running:
            return [Note("info", "the run is still running; this is how far it has come")]
        return [Note("warning", f"the log ends here; the run has not ended: pool resume {self._short}")]

    @property
    def _short(self) -> str:
        return line(self._run).rpartition("-")[2]

    def _run_started(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        self._run, self._open = event.run, True
        model, command = data.get("model") or {}, data.get("checks") or {}
        self._command = bool(command.get("command"))
        dirty, size = data.get("dirty"), model.get("window")
        confined = line(data.get("sandbox", ""))
        facts = {
            "repository": [
                place(data.get("root", "")),
                line(data.get("head", ""))[:9],
                f"{plural(dirty, 'uncommitted file')} carried over" if dirty else "",
            ],
            "model": [
                line(model.get("name", "")),
                line(model.get("url", "")),
                f"{window(size)} context" if size else "",
            ],
            "checks": [
                exact(command.get("command", "")),
                ": ".join(line(command[key]) for key in ("source", "why") if command.get(key)),
            ],
            "run": [line(event.run), "no sandbox" if confined == "none" else confined],
        }
        task = clean(str(data.get("task", ""))).strip()
        return [
            Header(
                task,
                tuple((name, " · ".join(filter(None, map(line, parts)))) for name, parts in facts.items()),
            )
        ]

    def _run_resumed(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        self._run, self._open, self._first_turn = event.run, True, False
        name = line((data.get("model") or {}).get("name", ""))
        return [Note("info", f"run {self._short} goes on" + (f" with {name}" if name else ""))]

    def _turn_started(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        # The header has the first turn's task; the rest of that message was written by pool.
        first, self._first_turn = self._first_turn, False
        return [] if first else self._said(data)

    @staticmethod
    def _said(data: Mapping[str, Any]) -> list[Block]:
        text = str(data.get("text", ""))
        if task := re.search(r"^<task>\n(.*?)\n</task>", text, re.DOTALL | re.MULTILINE):
            text = task[1]
        shown = rows(text)
        if (more := len(shown) - SAID_ROWS) > 0:
            shown[SAID_ROWS:] = [f"… {plural(more, 'more line')}"]
        return [Said("\n".join(shown))]

    def _steered(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        if data.get("source") == "user":
            return self._said(data)
        if self._checks_shown and "<checks " in data.get("text", ""):
            # The evidence stands above already.
            return [Note("info", "the model is told what failed and goes on")]
        return [Note("info", f"told the model: {rows(data.get('text', ''))[0]}")]

    def _model_replied(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        blocks: list[Block] = []
        for part in (data.get("message") or {}).get("parts") or ():
            text = clean(str(part.get("text", ""))).strip("\n").rstrip()
            if not text.strip():
                continue
            if part.get("type") == "think":
                blocks.append(Thought(text) if self._verbose else Thought(*beginning(text, THOUGHT_CHARS)))
            elif part.get("type") == "text":
                blocks.append(Prose(text))
        if data.get("finish") == "length":
            blocks.append(Note("warning", "the reply was cut off at the limit of tokens for one reply"))
        return blocks

    def _asked(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        why = line(data.get("why", ""))
        return [Step("skip", "asked", exact(data.get("text", "")), (((why, "dim"),),) if why else ())]

    def _answered(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        if data.get("by") == "nobody":
            return []  # the call's own line says so
        return [Step("skip", "answer", line(data.get("text", "")))]

    def _tool_started(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        self._checks_shown = False
        return []

    def _tool_done(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        if self._checks_shown and any(item.get("type") == "checks" for item in data.get("show") or ()):
            return []
        return calls.done(data, verbose=self._verbose)

    def _compacted(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        before, after, level = data.get("before"), data.get("after"), data.get("level")
        if not before or not after:
            return [Note("info", "the conversation was summarised to make room")]
        dropped = len(data.get("dropped") or ())
        what = {1: f"{plural(dropped, 'result')} dropped", 3: "overview of the repository left out"}
        why = what.get(level if isinstance(level, int) else 2, "earlier work summed up")
        return [Note("info", f"context made shorter: {before:,} → {after:,} tokens ({why})")]

    def _network_asked(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        where = line(f"{data.get('host') or 'a host that cannot be read'}:{data.get('port')}")
        if data.get("allowed"):
            return [Note("info", f"network: {where}")]
        return [Note("warning", f"network: {where} refused: {line(data.get('why', ''))}")]

    def _notice(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        level = data.get("level")
        return [Note(level if level in ("warning", "error") else "info", line(data.get("text", "")))]

    def _checks_done(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        self._checks_shown = True
        if data.get("phase") == "baseline":
            self._baseline = data
        elif data.get("phase") in ("round", "verdict") and not data.get("chosen"):
            self._final = data
        return checks.done(data)

    def _tampering_found(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        found = [f for f in data.get("findings") or () if isinstance(f, dict)]
        return [
            Note(
                "error" if finding.get("severity") == "high" else "info",
                line(_found(finding)),
            )
            for finding in found[:FINDINGS]
        ]

    def _attempt(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        happened = "began" if event.type == "attempt.started" else "ended"
        return [
            Step(
                "skip",
                "attempt",
                line(f"{data.get('attempt')} {happened}"),
                (((line(data.get("run", "")), "dim"),),),
            )
        ]

    def _chosen(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        return [
            Step(
                "ok",
                "chosen",
                line(f"attempt {data.get('attempt')}"),
                (((line(data.get("why", "")), "dim"),),),
            )
        ]

    def _run_ended(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        self._run, self._open = event.run or self._run, False
        status = str(data.get("status", ""))
        word, tone = WORDS.get(status) or (line(status).upper() or "ENDED", "warn")
        patch = data.get("patch") or {}
        tests = checks.before_after(self._baseline, self._final)
        facts = {
            "tests": tests if tests or self._command else "none, so nothing was verified",
            "why": "" if status == "verified" else line(data.get("why", "")),
            "change": _patch(patch),
            "work": _work(data),
            "patch": place(patch["file"]) if patch.get("files") and patch.get("file") else "",
        }
        steps = self._next(status, changed=bool(patch.get("files"))) if self._next_steps else ()
        return [
            Verdict(word, tone, tuple((name, line(value)) for name, value in facts.items() if value), steps)
        ]

    def _applied(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        taken, offered, left = (data.get(key) or 0 for key in ("taken", "offered", "left"))
        if not taken:
            return [Note("info", f"none of {plural(offered, 'hunk')} was applied")]
        where = {
            "commit": f"commit {line(data.get('commit', ''))[:9]}",
            "branch": line(data.get("branch", "")),
        }
        to = where.get(str(data.get("to", "")), "your checkout")
        edited = f", {data.get('edited')} of them edited" if data.get("edited") else ""
        part = (
            f"partly applied: {taken} of {plural(offered, 'hunk')}{edited}," if left or edited else "applied"
        )
        return [Note("info", f"{part} to {to}")]

    def _undone(self, data: Mapping[str, Any], event: Event) -> list[Block]:
        return [Note("info", f"taken back: {plural(len(data.get('files') or ()), 'file')} as before")]

    def _next(self, status: str, *, changed: bool) -> tuple[tuple[str, str], ...]:
        diff = (f"pool diff {self._short}", "look at the change")
        apply = (f"pool apply {self._short}", "put it into your checkout")
        resume = (f"pool resume {self._short}", "go on from here")
        if status in ("verified", "unchecked"):
            return (diff, apply) if changed else ()
        if status == "usage" and self._first_turn:
            # Without a first message there is nothing to go on from.
            return (("pool doctor", "see what is missing"),)
        if status in ("usage", "model_failed"):
            return (("pool doctor", "see what is missing"), resume)
        return (diff, resume) if changed else (resume,)


_HANDLERS = {
    "run.started": Wording._run_started,
    "run.resumed": Wording._run_resumed,
    "turn.started": Wording._turn_started,
    "steered": Wording._steered,
    "model.replied": Wording._model_replied,
    "asked": Wording._asked,
    "answered": Wording._answered,
    "tool.started": Wording._tool_started,
    "tool.done": Wording._tool_done,
    "compacted": Wording._compacted,
    "network.asked": Wording._network_asked,
    "notice": Wording._notice,
    "checks.done": Wording._checks_done,
    "tampering.found": Wording._tampering_found,
    "attempt.started": Wording._attempt,
    "attempt.done": Wording._attempt,
    "chosen": Wording._chosen,
    "run.ended": Wording._run_ended,
    "applied": Wording._applied,
    "undone": Wording._undone,
}


def _found(finding: Mapping[str, Any]) -> str:
    """`file.py:3: text`, without what is not known of the place."""
    path, number = finding.get("path"), finding.get("line")
    where = f"{path}:{number}: " if path and number else f"{path}: " if path else ""
    return f"{where}{finding.get('text', '')}"


def _patch(patch: Mapping[str, Any]) -> str:
    files = patch.get("files")
    if files is None:
        return ""
    if not files:
        return "nothing was changed"
    return f"{plural(files, 'file')}  +{patch.get('added', 0)} −{patch.get('removed', 0)}"


def _work(data: Mapping[str, Any]) -> str:
    usage = data.get("usage") or {}
    turns, prompt, cached = (usage.get(key) or 0 for key in ("turns", "prompt", "cached"))
    parts = [plural(turns, "turn")] if turns else []
    if prompt:
        share = f" ({100 * cached // prompt}% cached)" if cached else ""
        parts.append(f"{count(prompt)} tokens read{share}, {count(usage.get('completion') or 0)} written")
    if data.get("seconds") is not None:
        parts.append(seconds(float(data["seconds"])))
    return " · ".join(parts)
