"""What the engine knows of a model: it is sent messages and streams back one reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from poolcli.messages import Message


class ModelInfo(Struct, frozen=True):
    """Which model answers, and where. `window` is its context in tokens, 0 when the server does not say."""

    name: str
    url: str
    window: int = 0
    #: One line for people, such as what the demonstration model can and cannot do; '' for none.
    notice: str = ""
    level: Literal["info", "warning"] = "warning"
    #: How calls are made: the rung of the ladder (`dialects.base.RUNGS`).
    rung: str = "native"
    #: The server refuses what does not fit into the window; one that is not strict may leave parts out silently.
    strict: bool = False
    #: The format in which the model was trained to edit (`families.Family.edits`).
    edits: Literal["", "patch"] = ""


class Usage(Struct, frozen=True):
    """Tokens of one request. `cached` is the part of `prompt` that the server did not compute again."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


class Piece(Struct, frozen=True):
    """A piece of the reply as it arrives; of kind "progress" what the server does before it, in words for people."""

    kind: Literal["text", "think", "progress"]
    text: str


class Notice(Struct, frozen=True):
    """Something that people should know while a reply is on its way; never part of it. `code` is for programs."""

    text: str
    code: str
    level: Literal["info", "warning"] = "warning"


class Reply(Struct, frozen=True):
    """The whole reply; always the last thing that a stream gives."""

    message: Message
    finish: str
    usage: Usage
    #: Seconds from sending to the first piece, and to the end.
    first: float
    total: float
    #: What the server said beyond the dialect (llama.cpp's `timings`) and what was measured: `speeds`, {prefill,
    #: decode} in tokens per second so far, and `written`, the characters of a reply that was stopped.
    extra: Mapping[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """A model behind a server."""

    @property
    def info(self) -> ModelInfo:
        """Which model and where."""

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncIterator[Piece | Notice | Reply]:
        """Send the messages, give the pieces as they come and one Reply at the end.

        The request's bytes for messages seen before are exactly those of the last request. Raises ModelError;
        its `retryable` says whether sending the same again makes sense. Never retries by itself.
        """

    async def aclose(self) -> None:
        """Close connections and end whatever was started for this model."""
