"""Which slot of a llama.cpp server a process of pool works in: leased by a lock that its death releases.

Two conversations pinned to one slot would take each other's cache away at every turn.
"""

from __future__ import annotations

import hashlib
import os

from poolcli import paths

#: Slots that are tried; servers with more are rare, and one of the first is nearly always free.
MOST = 64


class Lease:
    """A slot that is ours until `release`, or until the process ends."""

    def __init__(self, number: int, handle: int) -> None:
        self.number = number
        self._handle = handle

    def release(self) -> None:
        """Give the slot back; safe to call more than once."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def lease(url: str, slots: int) -> Lease | None:
    """A free slot of the server at `url`; None when there are not two at least, or others have them all."""
    if slots < 2 or os.name != "posix":
        return None
    import fcntl

    folder = paths.state_dir() / "models" / "slots"
    server = hashlib.sha256(url.encode()).hexdigest()[:12]
    try:
        paths.private_dir(folder)
        # From the end: clients that name no slot get the first ones.
        for number in reversed(range(min(slots, MOST))):
            handle = os.open(folder / f"{server}-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                continue
            return Lease(number, handle)
    except OSError:
        pass  # without a state folder nothing can be leased, and nothing is lost
    return None
