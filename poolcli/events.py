"""The event log's contract: which events there are, what each carries, how one looks on a line.

docs/events.md is generated from `CATALOGUE` and checked by a test. Readers skip types and fields they do not
know; a new field needs a default on the reader's side, so that older logs stay readable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

#: What may be recorded after a run's end. It is about the run's patch, so the run's result stays as it is.
AFTERWARDS = frozenset({"applied", "undone"})

#: Written into `run.started`; raised when a reader of the old form would be wrong, not merely incomplete.
LOG_VERSION = 1


class Event(Struct, frozen=True):
    """One thing that happened. `seq` counts stored events from 1 without gaps; live ones have seq 0.

    `t` is wall time in seconds since the epoch, for people; durations in `data` come from the monotonic clock.
    """

    run: str
    seq: int
    t: float
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


class EventType(Struct, frozen=True):
    """What one type of event means and carries; `live` ones are shown but neither stored nor numbered."""

    meaning: str
    fields: Mapping[str, str] = field(default_factory=dict)
    live: bool = False


CATALOGUE: dict[str, EventType] = {
    "run.started": EventType(
        "A run began. Holds all that shapes the prompt, so that a log alone reproduces it.",
        {
            "version": "pool's version",
            "log": "version of this log format",
            "task": "what was asked, as given",
            "root": "the user's checkout (absolute path; never sent to a model)",
            "base": "commit that the worktree started from (a snapshot when the checkout was dirty)",
            "head": "the user's HEAD commit",
            "dirty": "number of changed or untracked files carried over",
            "worktree": "where the work happens (absolute path)",
            "model": "{name, url, window, rung, reference, base_url}: window in tokens, 0 when the server does not "
            "say; rung is how calls are made at first: native (also where it is missing), whole, schema, text, "
            "shell; the last two as configured",
            "system": "the system prompt, whole",
            "tools": "the tools offered, as function schemas, in order",
            "hashes": "{prompts, contracts}: SHA-256 prefixes",
            "checks": "{command, source, why}: the checks, where they came from; command is '' when none were found",
            "unchecked": "whether it is fine that nothing verifies the result",
            "budget": "{turns, tokens, seconds, rounds}: 0 means no limit",
            "sandbox": "how commands are confined",
            "mode": "what is asked where no rule speaks, as chosen; '' for the default ('')",
        },
    ),
    "run.resumed": EventType(
        "The run goes on in another process after it ended or was killed.",
        {"version": "pool's version", "model": "as in run.started"},
    ),
    "turn.started": EventType(
        "A user message begins a turn.", {"text": "the message, as the model reads it"}
    ),
    "steered": EventType(
        "A message was put to the model in the middle of a turn.",
        {"text": "the message, as the model reads it", "source": "user | harness"},
    ),
    "delta": EventType("A piece of the reply.", {"kind": "text | think", "text": "the piece"}, live=True),
    "progress": EventType(
        "What the server does before its reply begins.", {"text": "a few words for people"}, live=True
    ),
    "model.replied": EventType(
        "A whole reply of the model.",
        {
            "message": "{role, parts: [{type: text | think | call, …}]}",
            "finish": "the server's finish_reason, or repetition: pool stopped a reply that repeated itself",
            "usage": "{prompt, completion, cached, estimated}: tokens; cached is part of prompt, null if not said; "
            "estimated is true when the server reported nothing",
            "timings": "{first, total, prefill, decode}: seconds to the first piece and to the end; tokens per "
            "second of reading prompts and of writing, as far as measured, else null (null)",
            "turn": "number of this request to the model, from 1",
        },
    ),
    "tool.started": EventType(
        "A call passed the gate and is about to run. A call with this and no tool.done has an unknown outcome.",
        {
            "id": "the call's id",
            "name": "tool",
            "kind": "read | edit | move | search | execute | other",
            "title": "one line for people",
            "args": "the arguments after checking",
            "allowed": "why it may run: a rule and where it stands, the mode, or a person's answer ('')",
        },
    ),
    "tool.output": EventType(
        "Output of a running tool.", {"id": "the call's id", "text": "piece"}, live=True
    ),
    "asked": EventType(
        "A question about a call was put to the person, or would have been. `answered` follows, or the run ends.",
        {
            "id": "question",
            "text": "what was asked about, in full: the tool and its command, file or arguments",
            "call": "the call's id ('')",
            "name": "tool ('')",
            "args": "the arguments after checking, which are those that run ({})",
            "why": "the rule that asks and where it stands, or the mode ('')",
            "risk": "what it can reach, one line ('')",
        },
    ),
    "answered": EventType(
        "The answer to a question.",
        {
            "id": "question",
            "text": "the answer in words, with a message for the model",
            "answer": "once | run (yes, for all of this run) | project (yes, remembered) | no ('')",
            "by": "person | nobody (there was none, so it was refused) (person)",
        },
    ),
    "tool.done": EventType(
        "The one result of a call, also when refused, unknown, malformed, interrupted or crashed.",
        {
            "id": "the call's id",
            "name": "tool",
            "title": "one line for people",
            "ok": "whether the tool did what was asked",
            "why": "'' | invalid | refused | interrupted | crashed | unknown: what kept it from running to its end",
            "text": "the result, as the model reads it",
            "show": "for people: [{type: text | diff | exit | checks, …}]",
            "seconds": "how long it took",
        },
    ),
    "compacted": EventType(
        "The context was made shorter, because the next request would not have fitted or was refused.",
        {
            "text": "what replaces the messages between the system message and the last `keep` ones; '' for nothing",
            "keep": "number of last messages that stay behind the text (0)",
            "dropped": "{call id: line}: results that this line replaces ({})",
            "level": "1 only results were dropped, 2 earlier work is summed up in `text`, 3 the first message was "
            "made shorter (2)",
            "before": "tokens of the prompt before, as far as known (0)",
            "after": "tokens of the prompt after, estimated (0)",
            "window": "tokens of the model's window as known then, 0 when it is not (0)",
            "why": "estimate (it would not have fitted) | refused | cut off (the reply filled the window)",
        },
    ),
    "notice": EventType(
        "Something a person should know; the model does not see it.",
        {"level": "info | warning | error", "text": "one line", "code": "stable word for programs"},
    ),
    "sandbox.tried": EventType(
        "The sandbox was tried on itself, before the first command: what must not work was tried inside.",
        {
            "sandbox": "how commands are confined",
            "checks": "[{name: write | read | connect | service, held, line}]",
            "seconds": "how long it took",
        },
    ),
    "network.asked": EventType(
        "A command asked the proxy for a host; recorded once for each host, port and answer.",
        {
            "host": "the name or address that it asked for, '' when it could not be read",
            "port": "the port",
            "allowed": "whether it was let out",
            "why": "why not; ''",
            "address": "the address that was dialled; ''",
        },
    ),
    "checks.started": EventType(
        "pool began to run the checks.",
        {
            "phase": "baseline | tool | round | verdict | extra",
            "command": "what runs",
            "chosen": "how many tests were chosen to run, 0 for all",
            "name": "what is checked: test, or in phase 'extra' build | lint | types | coverage",
        },
    ),
    "checks.done": EventType(
        "pool ran the checks. Phase 'round' decides the verdict; a red round's text goes back to the model.",
        {
            "phase": "baseline | tool | round | verdict (in a fresh place, with the tests of the base) | extra (what "
            "`[checks]` names beside the tests, there)",
            "command": "what ran",
            "ok": "whether they passed",
            "status": "passed | failed | timeout | error | none (nothing to run, or no test ran)",
            "exit_code": "the command's exit code, negative for a signal, null when it did not end by itself",
            "seconds": "how long it took",
            "counts": "{passed, failed, skipped} where known, else null",
            "tests": "{test: passed | failed | error | skipped} where known, else {}",
            "chosen": "how many tests were chosen to run, 0 for all; chosen ones that pass are followed by all",
            "flaky": "[test]: failed now, and unsteady on the untouched base: they do not count",
            "hung": "the test that was running when the time was over, '' when none or not known",
            "crashed": "how the runner died, '' when it did not",
            "problem": "what keeps the results per test from being trusted, '' when nothing does",
            "built": "false when no test ran because the build failed",
            "note": "what was run instead, when the command gave no result for any test; else ''",
            "name": "as in checks.started",
            "share": "in phase 'extra': how clean the change is beside the base, from 0.0 to 1.0; else null",
            "kept": "whether this is the result of an earlier run on the same files",
            "text": "the evidence, as the model reads it",
            "log": "file of the run with the whole output",
        },
    ),
    "tampering.found": EventType(
        "What in the change can make tests pass without the code being right.",
        {
            "findings": "[{kind, severity: high | low, path, line, text}], the grave ones first; [] when all was "
            "taken back"
        },
    ),
    "attempt.started": EventType(
        "One of several attempts began.", {"attempt": "number", "run": "its run id"}
    ),
    "attempt.done": EventType("One of several attempts ended.", {"attempt": "number", "run": "its run id"}),
    "chosen": EventType("An attempt was chosen.", {"attempt": "number", "why": "one line"}),
    "turn.done": EventType("The turn is over.", {"reason": "verified | not_verified | gave_up | budget | …"}),
    "run.ended": EventType(
        "The last event of a run; `result.json` says the same.",
        {
            "status": "verified | unchecked | not_verified | tampered | gave_up | budget | model_failed | refused | "
            "usage | interrupted | terminated | failed",
            "exit_code": "the command's exit code",
            "why": "one line",
            "grade": "{label, valid, reason, reward, why, fail_to_pass, pass_to_pass, pass_to_fail, fail_to_fail, "
            "flaky}: of the last run of all checks; null without one before and one after; docs/verdict.md",
            "patch": "{files, added, removed}",
            "usage": "{turns, prompt, completion, cached}",
            "seconds": "how long the run took",
        },
    ),
    "applied": EventType(
        "The run's patch, or what a person chose of it, was landed. Comes when the run is over.",
        {
            "landing": "id of this landing",
            "to": "checkout | commit (checkout and a commit there) | branch (a new one, the checkout untouched)",
            "files": "the files that were changed; [] when nothing was taken",
            "commit": "the commit that was made ('')",
            "branch": "the branch that was made ('')",
            "chosen": "whether a person was asked hunk by hunk",
            "offered": "number of hunks that there were to take",
            "taken": "number of them that were taken, edited ones included",
            "edited": "number of them that a person edited first",
            "left": "number of hunks that are in no landing so far; 0 when the whole patch landed",
            "hunks": "[{id, file, outcome, parts}]: outcome is taken | edited | refused | unanswered (they quit "
            "before it); parts, where there are several, are the ids of what the hunk can be split into. [] when "
            "a whole patch has very many",
        },
    ),
    "undone": EventType(
        "A landing was taken back: the files are as they were before it.",
        {"landing": "id of the landing", "files": "the files that were restored"},
    ),
}

LIVE = frozenset(name for name, spec in CATALOGUE.items() if spec.live)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_line(event: Event) -> bytes:
    """The event as one line of UTF-8 JSON, newline included. Lone surrogates are escaped, never an error."""
    body = {"run": event.run, "seq": event.seq, "t": event.t, "type": event.type, "data": event.data}
    return _encode(body).encode("utf-8", "backslashreplace") + b"\n"


def from_line(line: bytes) -> Event:
    """The event behind one line. Raises ValueError when it is not one (a torn last line, for example)."""
    body = json.loads(line)
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise ValueError("not an event")
    return Event(
        str(body.get("run", "")),
        int(body.get("seq", 0)),
        float(body.get("t", 0.0)),
        body["type"],
        body.get("data") or {},
    )
