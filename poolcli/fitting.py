"""When a conversation is made shorter: before a request that would not fit, and once after a refusal.

The window is what the server said of it, or what its refusals and its counts show it to be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from poolcli.compact import Count, Measure, characters, last_exchange, plan
from poolcli.errors import ModelError, PoolError
from poolcli.events import Event
from poolcli.messages import Message, Think
from poolcli.models import overflow
from poolcli.models.base import Model, Reply
from poolcli.models.faults import ContextExceededError
from poolcli.run import Run
from poolcli.tools.registry import SMALL_WINDOW

#: A conversation that was made shorter takes at most this part of the window: the next time is then far away.
TARGET = 2
#: Kept free for the reply: this part of the window, at most so many tokens (longer replies are rare).
RESERVE, RESERVE_MOST = 8, 8192
#: How far the server's count may be from ours, as a factor. Beyond that it counts something else.
SCALES = (0.25, 6.0)
#: Windows come in these steps: what a server left of a conversation says that its window is the next one, in tokens.
STEP = 1024
#: When it has to be made shorter again after fewer replies than this, hardly anything in it can go any more.
SELDOM = 3
#: The smallest window that any work fits into: prompts and tools take 900 tokens, a small file and its tests 600.
LEAST_WINDOW = 2048

LARGER = (
    "start the server with a larger context (llama.cpp: -c 32768, vLLM: --max-model-len 32768, Ollama: "
    "OLLAMA_CONTEXT_LENGTH=32768)"
)


class CutOffError(ContextExceededError):
    """The reply ended only because the window was full."""


class Room:
    """Keeps one run's conversation within the model's window.

    `tools` are the schemas that go with each request, `diff` gives the change so far as a git patch, `max_reply` is
    the limit of one reply in tokens (0 for none), `count` counts the tokens of a text.
    """

    def __init__(
        self,
        run: Run,
        model: Model,
        tools: Sequence[Mapping[str, Any]],
        diff: Callable[[], str],
        *,
        max_reply: int = 0,
        count: Count = characters,
    ) -> None:
        self._run, self._model, self._diff, self._max_reply = run, model, diff, max_reply
        self._measure = Measure(count, count(str(list(tools))) if tools else 0)
        #: What the server's answers said of its window; 0 for nothing. Only for this process: a person who starts
        #: the server with more and resumes gets more.
        self._learned = 0
        #: The rung of the ladder at which the last reply was asked for.
        self._rung = model.info.rung
        self._told = self._tight = False

    @property
    def window(self) -> int:
        """The model's window in tokens, 0 as long as nothing is known."""
        return min(filter(None, (self._model.info.window, self._learned)), default=0)

    async def within(self, ask: Callable[[], Awaitable[Message]]) -> Message:
        """What `ask` gives, the conversation made shorter before it where needed, and once after a refusal.

        Raises ContextExceededError when it does not fit even so: nothing is made shorter twice for one reply.
        """
        self._before()
        before, self._rung = self._rung, self._model.info.rung
        if before != self._rung:
            self._run.cache.excuse()
        try:
            message = await ask()
        except ContextExceededError as error:
            self._refused(error)
            try:
                message = await ask()
            except ContextExceededError as again:
                raise self._hopeless(again) from again
        # Each rung tells of the tools in another way, so counts of two rungs cannot be compared.
        self._after(comparable=before == self._model.info.rung)
        return message

    def check(self, reply: Reply) -> None:
        """Raise CutOffError for a reply that ended only because the window was full."""
        if overflow.cut_off(reply, self.window, self._max_reply):
            raise CutOffError(
                f"the reply filled the rest of the model's context of {self.window:,} tokens",
                prompt=reply.usage.prompt or 0,
                window=self.window,
            )

    def estimate(self) -> int:
        """The tokens of the next request: as the server counted the last one, and what was added since."""
        messages = self._run.projection.messages
        usage = self._usage()
        if usage is None:
            return self._measure.request(messages)
        last = last_exchange(messages)
        known = int(usage["prompt"]) + int(usage["completion"] or 0)
        estimate = known + self._measure.messages(messages[last + 1 :])
        if estimate > self.window // 2:  # worth the time of counting what the server has counted
            self._rescale(int(usage["prompt"]), messages[:last])
            estimate = known + self._measure.messages(messages[last + 1 :])
        return estimate

    def _reserve(self) -> int:
        window = self.window
        return min(max(self._max_reply, min(window // RESERVE, RESERVE_MOST)), window // 2)

    def _before(self) -> None:
        window = self.window
        if not window or self._already():
            return
        # Before the first reply nothing shows how the server counts: templates may leave much out.
        reserve = self._reserve() if self._run.spent.turns else 0
        if (estimate := self.estimate()) + reserve > window:
            self._make(estimate, "estimate")

    def _refused(self, error: ContextExceededError) -> None:
        cut = isinstance(error, CutOffError)
        named = error.window if error.window >= overflow.PLAUSIBLE else 0
        sent = (
            error.prompt if error.prompt >= overflow.PLAUSIBLE else max(self.estimate(), named or self.window)
        )
        if not cut:
            self._rescale(sent, self._run.projection.messages)
        if named:
            self._learned = named
        elif not self.window:
            self._learned = sent
        if named and self.window < LEAST_WINDOW:
            raise too_small(self.window) from error
        if self._already() or not self._make(sent, "cut off" if cut else "refused"):
            raise self._hopeless(error) from error

    def _make(self, before: int, why: str) -> bool:
        """Make the conversation shorter, if that can be; whether it was."""
        run, window = self._run, self.window
        messages = run.projection.messages
        half = self._measure.request(messages) // TARGET  # whatever was refused, half of it is less
        made = plan(
            run.events,
            messages,
            target=min(window // TARGET, window - self._reserve(), half),
            measure=self._measure,
            diff=self._changes,
        )
        if made is None:
            return False
        soon = self._soon()
        run.emit(
            "compacted",
            text=made.text,
            keep=made.keep,
            dropped=dict(made.dropped),
            level=made.level,
            before=before,
            after=made.after,
            window=window,
            why=why,
        )
        if soon and not self._tight:
            self._tight = True
            what = "the task, the change and what fails take most of the model's context"
            run.notice(
                f"{what}, so it is made shorter every few turns; {LARGER}", level="warning", code="tight"
            )
        return True

    def _soon(self) -> bool:
        """Whether the conversation was made shorter only a few replies ago."""
        replies = 0
        for event in reversed(self._run.events):
            replies += event.type == "model.replied"
            if event.type == "compacted" or replies >= SELDOM:
                return replies < SELDOM
        return False

    def _changes(self) -> str:
        try:
            return self._diff()
        except (PoolError, OSError):
            return ""  # a worktree that is gone is found out, and said, where it is needed

    def _rescale(self, counted: int, messages: Sequence[Message]) -> None:
        """Correct the measure by the server's count of these messages."""
        plain = Measure(self._measure.count, self._measure.fixed)
        low, high = SCALES
        scale = min(max(counted / max(plain.request(messages), 1), low), high)
        self._measure = Measure(plain.count, plain.fixed, scale)

    def _already(self) -> bool:
        """Whether the conversation was made shorter since the last reply."""
        for event in reversed(self._run.events):
            if event.type in ("compacted", "model.replied"):
                return event.type == "compacted"
        return False

    def _counted(self) -> list[Mapping[str, Any]]:
        """The server's counts of the last two replies, newest first; only of one conversation as it grew."""
        found: list[Mapping[str, Any]] = []
        for event in reversed(self._run.events):
            usage = _usage(event)
            if event.type in ("compacted", "run.resumed") or (event.type == "model.replied" and not usage):
                break
            if usage:
                found.append(usage)
            if len(found) == 2:
                break
        return found

    def _usage(self) -> Mapping[str, Any] | None:
        """What the server counted for the last reply; None when nothing is known of the messages as they are now."""
        return next(iter(self._counted()), None)

    def _hopeless(self, error: ContextExceededError) -> ContextExceededError:
        """The end of the road, said with what to do."""
        again = " again" if self._already() else ""
        return ContextExceededError(
            f"{error}; the conversation cannot be made shorter{again}",
            f"{LARGER} and `pool resume`, or give a smaller task",
            prompt=error.prompt,
            window=self.window,
        )

    def _after(self, *, comparable: bool) -> None:
        """Look at the count of the reply that was just recorded: some servers leave out what does not fit.

        `comparable` is whether its request was made like the one before.
        """
        counted = self._counted()
        if not counted or self._told or self._model.info.strict:
            return
        prompt, window = int(counted[0]["prompt"]), self.window
        messages = self._run.projection.messages[:-1]
        # In a window that is known to be small it is we who make things fit, and prompts are short.
        small = 0 < window < SMALL_WINDOW
        if len(counted) == 2 and comparable:
            least, sent = _least(int(counted[1]["prompt"]), prompt, messages), 0
        else:
            least, sent = 0, 0 if small else sum(map(overflow.characters, messages[1:]))
        if not overflow.cut_silently(prompt, least, sent):
            return
        self._told = True
        self._learned = -(-(prompt + int(counted[0]["completion"] or 0)) // STEP) * STEP
        what = f"the server counts only {prompt:,} tokens in the conversation: it left out a part of it"
        if self._learned < (LEAST_WINDOW if small else SMALL_WINDOW):
            raise ModelError(f"{what}, for its context is too small", LARGER)
        self._run.notice(f"{what}; {LARGER}", level="warning", code="cut-silently")


def _usage(event: Event) -> Mapping[str, Any] | None:
    usage = event.data.get("usage") if event.type == "model.replied" else None
    return usage if usage and usage.get("prompt") and not usage.get("estimated") else None


def _least(before: int, now: int, messages: Sequence[Message]) -> int:
    """What a prompt of these messages must have, when the one before the last reply had `before` tokens."""
    added = sum(map(overflow.characters, messages[last_exchange(messages) + 1 :])) // overflow.SPARSE
    if now >= before + added:
        return before + added
    # Templates leave out the reasoning of earlier turns: by so much a prompt may become shorter.
    thought = sum(len(part.text) for message in messages for part in message.parts if isinstance(part, Think))
    return before + added - thought // 2


def too_small(window: int) -> ModelError:
    """The refusal of a window that no work fits into."""
    return ModelError(
        f"the model's context is only {window:,} tokens; pool needs {LEAST_WINDOW:,} at least, and works well from "
        "16,384 on",
        LARGER,
    )
