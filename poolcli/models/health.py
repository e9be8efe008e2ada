"""Waiting for a silent server: it is asked how it is, so that work is waited for and nothing in vain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from poolcli.errors import ModelError
from poolcli.models import faults
from poolcli.models.connection import Connection
from poolcli.models.pace import Silence

T = TypeVar("T")

#: What a server shows of itself: it works on a request; it is up and works on none; nobody is there; nothing is
#: known, which is the case of all servers but llama.cpp, and of a busy one that answers nothing beside its work.
Health = Literal["working", "idle", "gone", "unknown"]

#: Seconds that the rest of a reply may be on its way after a server said that it is done, or went away.
GRACE = 5.0


async def look(connection: Connection, root: str) -> Health:
    """Ask the server at `root` how it is; takes a few seconds at most, and raises nothing."""
    try:
        slots = await connection.facts(f"{root}/slots")
    except faults.UnreachableError:
        return "gone"
    except ModelError:
        return "unknown"
    states = (
        [slot.get("is_processing") for slot in slots if isinstance(slot, dict)]
        if isinstance(slots, list)
        else []
    )
    if True in states:
        return "working"
    return "idle" if states and all(state is False for state in states) else "unknown"


async def patiently(
    step: Awaitable[T], silence: Silence, end: float, check: Callable[[], Awaitable[Health]], *, begun: bool
) -> T:
    """The step's outcome. TimeoutError when `end` (monotonic) comes first; StalledError when the silence is too long.

    The StalledError says how long and why, and not who: the caller words it. `begun` is whether some of the reply
    is there already: before that, a server without a working slot may be one of several behind one address.
    """
    task = asyncio.ensure_future(step)
    start = time.monotonic()
    wait, why = silence.ask, ""
    try:
        while True:
            await asyncio.wait({task}, timeout=max(min(wait, end - time.monotonic()), 0.0))
            if task.done():
                return task.result()
            if time.monotonic() >= end:
                raise TimeoutError
            silent = time.monotonic() - start
            if why or silent >= silence.longest:
                raise faults.StalledError(f"nothing for {round(silent, 1):g} s{why}", retryable=True)
            health = await check() if silence.ask < silence.longest else "unknown"
            limit = silence.longest if health == "working" else silence.end
            wait = min(silence.ask, limit - silent)
            if health == "gone" or (health == "idle" and begun):
                why = " and is gone" if health == "gone" else " and works on nothing"
                wait = GRACE
            elif wait <= 0:
                raise faults.StalledError(f"nothing for {round(silent, 1):g} s", retryable=True)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
