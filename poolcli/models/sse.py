"""Server-sent events out of raw bytes, bounded whatever a hostile or broken server sends."""

from __future__ import annotations

#: A line holds one JSON chunk; even a whole file written in one piece is far below this (bytes).
MAX_LINE = 8_000_000


class TooLong(Exception):
    """A line or an event is longer than the limit."""


class Lines:
    """Splits a byte stream into lines, whatever the pieces it arrives in. Linear in the bytes fed."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        self._tail: list[bytes] = []  # pieces of the unfinished line, joined once it is finished
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their ends (LF or CRLF). Raises TooLong."""
        *done, rest = data.split(b"\n")
        if done:
            done[0] = self._take(done[0])
        self._keep(rest)
        if any(len(line) > self.limit for line in done):
            raise TooLong
        return [line.removesuffix(b"\r") for line in done]

    def close(self) -> bytes:
        """The last line, when it had no end."""
        return self._take(b"").removesuffix(b"\r")

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self.limit:
            raise TooLong
        if piece:
            self._tail.append(piece)

    def _take(self, piece: bytes) -> bytes:
        line = b"".join((*self._tail, piece))
        self._tail.clear()
        self._size = 0
        return line


class Events:
    """The data of each event. Comments, ids, names and retry times mean nothing in this dialect."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._lines = Lines(limit)
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[str]:
        """The events that these bytes complete; invalid UTF-8 is replaced. Raises TooLong."""
        return [event for line in self._lines.feed(data) if (event := self._line(line)) is not None]

    def close(self) -> list[str]:
        """What is left at the end: some servers leave out the last empty line."""
        left = [self._line(self._lines.close()), self._line(b"")]
        return [event for event in left if event is not None]

    def _line(self, line: bytes) -> str | None:
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data).decode("utf-8", "replace") if data else None
        name, _, value = line.partition(b":")
        if name == b"error" and value.lstrip().startswith(b"{"):
            # How llama.cpp has reported a fault in mid-stream: a field of this name, the error alone in it.
            name, value = b"data", b'{"error":' + value + b"}"
        if name == b"data":
            self._size += len(line)
            if self._size > self._lines.limit:
                raise TooLong
            self._data.append(value.removeprefix(b" "))
        return None
