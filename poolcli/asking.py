"""One question to the model: sent, its reply recorded; what may pass is tried again with the same bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from itertools import count
from typing import Any

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.messages import Call, Message, to_json
from poolcli.models.base import Model, Notice, Piece, Reply
from poolcli.models.faults import LoadingError, StalledError, UnparsedCallError
from poolcli.run import Run

#: Seconds to wait before the same bytes are sent again; a server that restarts needs some seconds.
RETRIES = (0.5, 2.0, 5.0, 10.0)
#: How often a reply that the server itself could not read is sampled again: mostly it is the model's habit.
RESAMPLES = 2
#: The longest wait that a server's Retry-After can ask for, in seconds.
LONGEST_WAIT = 60.0
#: Seconds that a server may load its model: 400 GB from a disk that reads 250 MB a second.
LOADING_LIMIT = 1800.0
#: Seconds between two looks at a server that loads, at first and at most.
LOADING_PAUSES = (0.5, 5.0)
#: Seconds after which people are told again that it still loads; each time twice as long.
LOADING_TOLD = 60.0


async def ask(
    run: Run, model: Model, *, max_reply: int = 0, check: Callable[[Reply], None] = lambda reply: None
) -> Message:
    """One reply of the model, recorded. Faults that may pass are tried again with the same bytes.

    `check` may refuse a reply before it is recorded. Raises ModelError when the server fails for good. Nothing is
    run and nothing recorded of a reply that broke, so a repeated request repeats no effect.
    """
    tries = _Tries(run)
    while True:
        try:
            reply = await tries.one(model, max_reply)
            check(reply)
            return _record(run, reply)
        except ModelError as error:
            await tries.wait_after(error)


class _Tries:
    """The tries to get one reply: how many faults of which sort there were, and how long each is waited for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pauses = list(RETRIES)
        self._resamples = RESAMPLES
        self._loading = 0.0  # since when the server was seen to load, monotonic
        self._told = 0.0
        self._shown = False

    async def one(self, model: Model, max_reply: int) -> Reply:
        """One try."""
        self._shown = False
        async for piece in model.stream(self._run.projection.messages, max_tokens=max_reply):
            match piece:
                case Piece("progress", text):
                    self._run.live("progress", text=text)
                case Piece(kind, text):
                    self._shown = True
                    self._run.live("delta", kind=kind, text=text)
                case Notice(text, code, level):
                    self._run.notice(text, level=level, code=code)
                case Reply():
                    return piece
        raise ModelError("the model's stream ended without a reply", retryable=True)

    async def wait_after(self, error: ModelError) -> None:
        """Wait until the next try. Raises the error when there is none."""
        if isinstance(error, LoadingError):
            await self._loads(error)
            return
        self._loading = 0.0
        if isinstance(error, UnparsedCallError):
            self._resamples -= 1
        if not (error.retryable and self._pauses and self._resamples >= 0):
            raise error
        wait = min(max(self._pauses.pop(0), error.retry_after), LONGEST_WAIT)
        # What was shown of a reply that broke is void: views forget it when they see this.
        then = "the reply begins anew" if self._shown else "trying again"
        code = "stalled" if isinstance(error, StalledError) else "retry"
        self._run.notice(f"{error}; {then} in {wait:g} s", level="warning", code=code)
        await asyncio.sleep(wait)

    async def _loads(self, error: LoadingError) -> None:
        now = time.monotonic()
        self._loading = self._loading or now
        waited = now - self._loading
        if waited >= LOADING_LIMIT:
            raise ModelError(f"{error}, and is not done after {waited / 60:.0f} min", error.hint)
        if not self._told or waited >= self._told:
            since = f" since {waited / 60:.0f} min" if self._told else ""
            limit = f"waiting up to {LOADING_LIMIT / 60:.0f} min"
            self._run.notice(f"{error}{since}; {limit}", code="loading")
            self._told = max(LOADING_TOLD, 2 * self._told)
        self._run.live("progress", text="the server is loading its model")
        least, most = LOADING_PAUSES
        wait = min(max(least, waited / 4), most)
        await asyncio.sleep(max(wait, min(error.retry_after, LONGEST_WAIT)))


def _record(run: Run, reply: Reply) -> Message:
    run.emit(
        "model.replied",
        message=to_json(_unique(run, reply.message)),
        finish=reply.finish,
        usage=_usage(run, reply),
        timings={"first": round(reply.first, 3), "total": round(reply.total, 3), **_speeds(reply)},
        turn=run.spent.turns + 1,
    )
    if run.cache.news:
        run.notice(run.cache.news, level="warning", code="cache-dropped")
    return run.projection.messages[-1]


def _speeds(reply: Reply) -> dict[str, float | None]:
    measured = reply.extra.get("speeds") or {}
    return {name: round(measured.get(name) or 0.0, 1) or None for name in ("prefill", "decode")}


def _usage(run: Run, reply: Reply) -> dict[str, Any]:
    """The tokens as reported; else estimated, so that a token budget binds with any server."""
    usage = reply.usage
    if usage.prompt is not None:
        return {"prompt": usage.prompt, "completion": usage.completion, "cached": usage.cached}
    sent = sum(map(_tokens, run.projection.messages))
    # Of a reply that repeated itself only the length is known: four characters to a token.
    said = reply.extra.get("written", 0) // 4 or _tokens(reply.message)
    return {"prompt": sent, "completion": said, "cached": None, "estimated": True}


def _tokens(message: Message) -> int:
    """The tokens of a message by the vocabulary that ships; only for servers that report nothing."""
    from poolcli.models.tokens import count

    return sum(count(str(part.args) if isinstance(part, Call) else part.text) for part in message.parts)


def _unique(run: Run, message: Message) -> Message:
    """The message with ids that no other call of this run has: results are matched by id."""
    taken, parts = set(run.projection.call_ids), []
    for part in message.parts:
        if isinstance(part, Call):
            part = replace(part, id=_free(part.id, taken, run.spent.turns + 1))
            taken.add(part.id)
        parts.append(part)
    return Message(message.role, tuple(parts))


def _free(id: str, taken: Collection[str], turn: int) -> str:
    """The id, or one made of it and the first number from the turn's on that makes it a new one."""
    numbered = (f"{id}-{number}" for number in count(turn))
    return id if id not in taken else next(new for new in numbered if new not in taken)
