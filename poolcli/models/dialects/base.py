"""What a dialect is: the way in which tools are offered, calls written and results given back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from poolcli.messages import Message

#: The rungs of the ladder, best first: calls in the server's own fields, streamed and whole; a reply that a JSON
#: schema constrains; calls written as text; one fenced block of shell commands.
RUNGS = ("native", "whole", "schema", "text", "shell")


def lowest(*rungs: str) -> str:
    """The lowest of these rungs; unknown ones do not count, and without any it is the best."""
    return RUNGS[max((RUNGS.index(rung) for rung in rungs if rung in RUNGS), default=0)]


class Dialect(Protocol):
    """One way to speak with a server. Equal messages give equal bytes, whatever came before."""

    #: The last reply as the server sent it, before it was read: what the ladder judges a rung by.
    heard: Message | None

    @property
    def name(self) -> str:
        """The rung of the ladder: native, whole, schema, text or shell."""

    @property
    def streamed(self) -> bool:
        """Whether replies are asked for as a stream."""

    @property
    def guide(self) -> str:
        """What the system message has to end with; '' when the server tells the model about its tools itself."""

    @property
    def system_role(self) -> bool:
        """Whether the template has a system role; without, that text begins the first message of the user."""

    def constants(self) -> Mapping[str, Any]:
        """Fields of every request, such as `tools` or `response_format`; they never change."""

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """The server's messages for one of ours. What was rendered once is rendered the same for ever.

        A message of results holds all those of one reply, in the order of its calls.
        """

    def read(self, message: Message, *, cut: bool = False) -> Message:
        """The reply with the calls that its text holds. Never raises; without a call it is the same message.

        `cut` says that it ended at a limit: what looks whole may be the beginning of more.
        """
