"""Where the task's words come from: argument, file or standard input; never a wait on an input that stays silent."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

from poolcli.errors import UsageError

#: Seconds that a pipe may stay silent before its first byte when a task was given: a CI runner leaves stdin
#: open for ever, a producer such as `cat log` answers at once. Slow producers are read in full with `-`.
FIRST_BYTE = 0.5
#: Seconds of silence after which a pipe that has begun is taken as it is.
SILENCE = 10.0
#: Bytes read from a pipe at most; only the head and tail of it reach the model anyway.
LARGEST = 4_000_000


def task(words: str | None, file: Path | None) -> tuple[str, str]:
    """The task and the text quoted beside it ('' when there is none). Raises UsageError without a task."""
    if words and words != "-" and file is not None:
        raise UsageError("the task was given twice, as words and with --file", "give one of them")
    if words == "-" or (words is None and file == Path("-")):
        return _need(_text(_all()), "standard input"), ""
    if file is not None:
        return _need(_file(file), str(file)), _beside()
    if words is not None:
        return _need(words, "the argument"), _beside()
    if not sys.stdin or sys.stdin.isatty():
        raise UsageError("no task was given", 'say what to do: pool do "fix the failing test"')
    return _need(_text(_all()), "standard input"), ""


def _need(text: str, source: str) -> str:
    if not text.strip():
        raise UsageError(f"the task from {source} is empty", 'say what to do: pool do "fix the failing test"')
    return text.strip()


def _file(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"the task file {path} cannot be read: {error.strerror}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _all() -> bytes:
    return sys.stdin.buffer.read(LARGEST) if sys.stdin else b""


def _beside() -> str:
    """What a pipe or file on stdin holds; '' for a terminal, a closed or a silent stdin."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return ""
    if stat.S_ISREG(mode):
        return _text(_all())
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    data, wait = bytearray(), FIRST_BYTE
    while len(data) < LARGEST:
        ready, _, _ = select.select([0], [], [], wait)
        if not ready:
            if data:
                sys.stderr.write("warning: standard input fell silent; what came so far is used\n")
            break
        piece = os.read(0, 65536)
        if not piece:
            break
        data += piece
        wait = SILENCE
    return _text(bytes(data))
