"""One question to the model: sent, its reply recorded; what may pass is tried again with the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.messages import Call, Message, to_json
from poolcli.models.base import Model, Notice, Piece, Reply
from poolcli.run import Run

#: Seconds to wait before the same bytes are sent again; a server that restarts needs some seconds.
RETRIES = (0.5, 2.0, 5.0, 10.0)
#: The longest wait that a server's Retry-After can ask for, in seconds.
LONGEST_WAIT = 60.0


async def ask(
    run: Run, model: Model, *, max_reply: int = 0, check: Callable[[Reply], None] = lambda reply: None
) -> Message:
    """One reply of the model, recorded. Faults that may pass are tried again with the same bytes.

    `check` may refuse a reply before it is recorded. Raises ModelError when the server fails for good.
    """
    for pause in (*RETRIES, None):
        try:
            reply = await _one(run, model, max_reply)
            check(reply)
            return _record(run, reply)
        except ModelError as error:
            if not error.retryable or pause is None:
                raise
            wait = min(max(pause, error.retry_after), LONGEST_WAIT)
            run.notice(f"{error}; trying again in {wait:g} s", level="warning", code="retry")
            await asyncio.sleep(wait)
    raise AssertionError("unreachable")


async def _one(run: Run, model: Model, max_reply: int) -> Reply:
    async for piece in model.stream(run.projection.messages, max_tokens=max_reply):
        match piece:
            case Piece(kind, text):
                run.live("delta", kind=kind, text=text)
            case Notice(text, code, level):
                run.notice(text, level=level, code=code)
            case Reply():
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
    if run.cache.news:
        run.notice(run.cache.news, level="warning", code="cache-dropped")
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
