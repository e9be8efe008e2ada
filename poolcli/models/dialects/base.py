"""What a dialect is: the way in which tools are offered, calls written and results given back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from poolcli.messages import Message

#: The rungs of the ladder, best first: calls in the server's own fields, streamed and whole; a reply that a JSON
#: schema constrains; calls written as text; one fenced block of shell commands.
RUNGS = ("native", "whole", "schema", "text", "shell")


class Dialect(Protocol):
    """One way to speak with a server. Equal messages give equal bytes, whatever came before."""

    @property
    def name(self) -> str:
        """The rung of the ladder: native, whole, schema, text or shell."""

    @property
    def streamed(self) -> bool:
        """Whether replies are asked for as a stream."""

    def constants(self) -> Mapping[str, Any]:
        """Fields of every request, such as `tools` or `response_format`; they never change."""

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """The server's messages for one of ours. What was rendered once is rendered the same for ever."""

    def read(self, message: Message) -> Message:
        """The reply with the calls that its text holds. Never raises; without a call it is the same message."""
