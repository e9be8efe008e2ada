"""Results too long for a reply: the beginning and the end stay, the whole goes to a file of the run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from poolcli import redact

#: Room for the line that says where the whole is.
NOTE = 120

#: The limit of the call that is being run, in characters: small windows have lower ones than the tools' own.
_limit: ContextVar[int] = ContextVar("limit", default=0)


@contextlib.contextmanager
def within(limit: int) -> Iterator[None]:
    """Run a tool whose result may have `limit` characters."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def room(own: int) -> int:
    """How many characters a tool may give back that would give `own`: fewer where its limit is lower.

    A tool that cuts its result itself says best how to go on, so it leaves room below the limit for that line.
    """
    limit = _limit.get()
    return min(own, limit - NOTE) if limit else own


def bounded(text: str, limit: int, outputs: Path, name: str) -> str:
    """The text if it has at most `limit` characters, else its two ends and a line naming the file with all.

    The file is a new one in `outputs`, named after `name`; without room on the disk the line says so.
    """
    if len(text) <= limit:
        return text
    try:
        file = new_file(outputs, name)
        # Of an event the secrets are taken out where it is made; this file is beside it.
        file.write_text(redact.current().text(text), "utf-8", errors="replace")
        where = whole(file.name, text.count("\n") + (not text.endswith("\n")))
    except OSError as error:
        where = f"(the whole output could not be saved: {error.strerror})"
    return f"{ends(text, limit - NOTE)}\n{where}"


def whole(name: str, lines: int) -> str:
    """The line that says where a whole output is."""
    return f"whole output: @output/{name} ({lines} lines); read it with read"


def ends(text: str, limit: int, *, size: int = 0) -> str:
    """The beginning and the end of a text, cut at line ends where some are near; at most `limit` characters.

    `size` is that of the whole when `text` is already only its two ends.
    """
    if len(text) <= limit:
        return text
    room = max(limit - 40, 0) // 2
    head, tail = text[:room], text[len(text) - room :]
    # Only a cut that keeps at least half of the piece: a text of few long lines is cut within them.
    if (cut := head.rfind("\n")) > room // 2:
        head = head[:cut]
    if 0 <= (cut := tail.find("\n")) < room // 2:
        tail = tail[cut + 1 :]
    return f"{head}\n… {max(size, len(text)) - len(head) - len(tail)} characters left out …\n{tail}"


def new_file(folder: Path, name: str) -> Path:
    """A new, empty file `name-N.txt` that did not exist before. Raises OSError."""
    number = 1
    while True:
        file = folder / f"{name}-{number}.txt"
        try:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            return file
        except FileExistsError:
            number += 1
