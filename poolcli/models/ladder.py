"""The tool-call ladder: the best way of making calls that works here, found on evidence, one step down at a time.

A rung is left for good within a run. What made it fail is said to people, and remembered for the next run once a
reply came on the one below: where none comes either, it was not the rung that failed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.messages import Message, Text
from poolcli.models.base import ModelInfo, Notice, Piece, Reply
from poolcli.models.dialects import blocks
from poolcli.models.dialects.base import RUNGS, Dialect, lowest
from poolcli.models.dialects.choose import make
from poolcli.models.discovery import Catalogue
from poolcli.models.endpoint import Endpoint
from poolcli.models.faults import (
    ConstraintUnsupportedError,
    TemplateError,
    ToolsUnsupportedError,
    UnparsedCallError,
)
from poolcli.models.openai import OpenAIModel
from poolcli.models.profile import Profile

#: Replies in a row with the same fault that end a rung. One can be the model's slip, and so can two.
STRIKES = 3
#: Replies in a row that the server itself could not read. The second was sampled anew, from the same bytes.
UNPARSED = 2
#: Endings of a reply that explain whatever is wrong with its last call.
CUT = frozenset({"length", "repetition"})

#: The faults of replies, as reasons for a step.
WORDS = {
    "broken": f"the arguments of calls could not be read in {STRIKES} replies in a row",
    "as text": f"calls came as text in {STRIKES} replies in a row",
    "free": "a reply was not of the form that it should be held to",
    "fenced": "the model wrote a block of commands instead",
}
#: Those that need no second reply: the server, not the model, is at fault, or nothing else can be meant.
AT_ONCE = frozenset({"free", "fenced"})
AS_TEXT = "calls came as text and were read from it: the server does not know how this model writes them"

#: What does not work on a rung that is left, and what is done on the one below.
FAILED = {
    "native": "the server's own tool calls do not work here",
    "whole": "the server's own tool calls do not work here",
    "schema": "replies held to a schema do not work here",
    "text": "calls written as text do not work here",
}
GOING_ON = {
    "whole": "asking for whole replies instead of streams",
    "schema": "going on with replies held to a JSON schema",
    "text": "going on with calls written as text",
    "shell": "going on with one block of shell commands per reply",
}

#: Called with the rung, and why the one above was left, for the next run to begin there.
Remember = Callable[[str, str], None]


def open_ladder(
    endpoint: Endpoint,
    tools: Sequence[Mapping[str, Any]],
    *,
    profile: Profile | None = None,
    remember: Remember | None = None,
    rung: str = "native",
) -> LadderModel:
    """A model at an endpoint on the rung that its profile names; nothing is sent yet.

    `rung` is one to begin at or below: that of a run which goes on.
    """
    return LadderModel(endpoint, tools, profile, remember, rung)


class LadderModel:
    """A `Model` that steps down when calls do not arrive. Other than that it is the model at the endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        tools: Sequence[Mapping[str, Any]],
        profile: Profile | None = None,
        remember: Remember | None = None,
        rung: str = "native",
    ) -> None:
        self._tools = tools
        self._profile = profile or Profile(endpoint.url, endpoint.model)
        self._rung = lowest(self._profile.rung, rung)
        self._remember = remember
        self._dialect: Dialect = make(self._rung, tools, profile=self._profile)
        self._model = OpenAIModel(endpoint, tools, self._dialect)
        self._unparsed = 0
        self._strikes: tuple[str, int] = ("", 0)
        self._told = False  # that calls came as text
        self._accepted = False  # a request: the system message at least is not refused
        self._called = False  # a reply on this rung that held a call
        self._proven = replace(self._profile, rung=self._rung)
        self._reason = ""  # of the last change, until a reply has come since

    @property
    def info(self) -> ModelInfo:
        """Which model, where, and on which rung."""
        return replace(self._model.info, rung=self._rung)

    @property
    def profile(self) -> Profile:
        """What is known of the model, corrected by what replies of this run have shown."""
        return self._proven

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncGenerator[Piece | Notice | Reply, None]:
        """See `Model.stream`. After a step down the request is made anew: once, its bytes are others than before."""
        while True:
            reply: Reply | None = None
            try:
                async with aclosing(self._model.stream(messages, max_tokens=max_tokens)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            reply = piece
                        else:
                            yield piece
            except (
                ToolsUnsupportedError,
                ConstraintUnsupportedError,
                UnparsedCallError,
                TemplateError,
            ) as error:
                yield self._after(error, messages)
                continue
            if reply is None:
                return  # the caller knows what a stream without a reply is
            self._unparsed, self._accepted = 0, True
            self._keep()
            notices, again = self._judged(reply)
            for notice in notices:
                yield notice
            if not again:
                yield reply
                return

    async def probe(self) -> ModelInfo:
        """See `OpenAIModel.probe`."""
        await self._model.probe()
        return self.info

    async def models(self) -> Catalogue:
        """What the server lists. Raises ModelError when it cannot be asked."""
        return await self._model.models()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._model.aclose()

    def _after(self, error: ModelError, messages: Sequence[Message]) -> Notice:
        """Change what the server refused, and say so. Raises the error when there is nothing left to change."""
        if isinstance(error, TemplateError):
            return self._other_roles(error, messages)
        if isinstance(error, UnparsedCallError):
            self._unparsed += 1
            if self._unparsed < UNPARSED:
                raise error  # retryable: another sample may be readable
        native = self._rung in ("native", "whole")
        if native and isinstance(error, ConstraintUnsupportedError):
            below = "text"  # it was the tools that no grammar could be made of, and a schema holds the same
        else:
            below = self._below()
        if not below:
            raise error
        return self._step(below, str(error))

    def _other_roles(self, error: TemplateError, messages: Sequence[Message]) -> Notice:
        """The same rung with fewer roles; where that does not help either, the one whose messages are plain."""
        profile = self._profile
        results = any(message.role == "tool" for message in messages)
        # Once a request has passed, the system message is not to blame, whatever the error's words are.
        if profile.system_role and not self._accepted:
            self._profile = replace(profile, system_role=False)
            done = "the system message goes in front of the first message of the user"
        elif profile.tool_role and results and self._rung in ("native", "whole"):
            self._profile = replace(profile, tool_role=False)
            done = "results go back as messages of the user"
        elif self._rung in ("native", "whole"):
            return self._step("text", str(error))
        else:
            raise error
        self._speak(str(error))
        return Notice(f"the model's chat template refuses the roles ({error}); {done}", "roles")

    def _judged(self, reply: Reply) -> tuple[list[Notice], bool]:
        """What a reply shows of its rung: what people are told, and whether it has to be asked for again."""
        heard, message = self._dialect.heard, reply.message
        fault = "" if heard is None or reply.finish in CUT else self._fault(heard, message, reply.finish)
        self._called = self._called or bool(message.calls)
        before, count = self._strikes
        count = count + 1 if fault == before else 1
        self._strikes = (fault, count)
        notices: list[Notice] = []
        if fault == "as text" and not self._told:
            self._told = True
            notices.append(Notice(AS_TEXT, "calls-recovered"))
        if not fault or count < (1 if fault in AT_ONCE else STRIKES):
            return notices, False
        below = "text" if fault == "as text" else self._below(streaming_is_at_fault=fault == "broken")
        if not below:
            return notices, False
        notices.append(self._step(below, WORDS[fault]))
        # A reply whose calls could be read is used; the step then counts from the next one.
        return notices, fault == "broken" or not message.calls

    def _fault(self, heard: Message, message: Message, finish: str) -> str:
        """What is wrong with how calls came in a reply (a key of WORDS); '' for nothing."""
        broken = any(call.args is None for call in message.calls)
        match self._rung:
            case "native" | "whole":
                if broken or (finish == "tool_calls" and not message.calls):
                    return "broken"
                return "as text" if message.calls and not heard.calls else ""
            case "schema":
                from poolcli.models.dialects.schema import parse

                if not heard.text.strip():
                    return ""  # an empty reply is another matter
                return "" if parse(heard.text, blocks.names(self._tools)) is not None else "free"
            case "text":
                if not message.calls and not self._called and self._holds_commands(heard):
                    return "fenced"
                return "broken" if broken else ""
        return ""

    @staticmethod
    def _holds_commands(heard: Message) -> bool:
        from poolcli.models.dialects.shell import Fenced

        return bool(Fenced().read(Message(heard.role, (Text(heard.text),))).calls)

    def _below(self, *, streaming_is_at_fault: bool = False) -> str:
        """The next rung that can help; '' when there is none."""
        known = self._profile
        for rung in RUNGS[RUNGS.index(self._rung) + 1 :]:
            if rung == "whole" and not streaming_is_at_fault:
                continue
            # What nobody measured is tried: a server that cannot do it says so, or shows it in its first reply.
            if rung == "schema" and known.probed and not (known.schema or known.grammar):
                continue
            if rung == "shell" and "shell" not in blocks.names(self._tools):
                continue
            return rung
        return ""

    def _step(self, rung: str, reason: str) -> Notice:
        left, self._rung = self._rung, rung
        self._unparsed, self._strikes, self._called = 0, ("", 0), False
        self._speak(reason)
        return Notice(f"{FAILED[left]} ({reason}); {GOING_ON[rung]}", "rung")

    def _speak(self, reason: str) -> None:
        self._reason = reason
        self._dialect = make(self._rung, self._tools, profile=self._profile)
        self._model.speak(self._dialect)

    def _keep(self) -> None:
        """A reply came: what was changed before it is remembered."""
        if not self._reason:
            return
        reason, self._reason = self._reason, ""
        self._proven = replace(self._profile, rung=self._rung)
        if self._remember is not None:
            self._remember(self._rung, reason)
