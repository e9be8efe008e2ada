"""Watches whether a server's prefix cache holds: whether it computes what it has read before once more.

Every request of a conversation begins with the bytes of the one before (docs/architecture.md, rule 5). So a cache
that works has all of the last prompt, and what it has not is a fault that costs minutes of waiting per turn and
that nobody sees: of the chat template, of the server, or of others who use it.
"""

from __future__ import annotations

from msgspec import Struct

from poolcli.models.base import Usage

#: Fewer tokens computed again than this are not worth a word: a second of prefill on a slow machine. It is also
#: above what a cache of blocks rounds off (16 tokens in vLLM, up to 128 elsewhere) and the one token per turn
#: that llama.cpp never keeps.
WORTH = 256
#: The share of the last prompt that may be computed again: a template that leaves out earlier reasoning costs
#: about as much whenever a user message follows, and is what it is.
TOLERANCE = 0.1
#: Up to this share of a conversation's first prompt, what is left is not the conversation's beginning but at most
#: the system prompt, which other conversations share.
BEGINNING = 0.9
#: Requests without a single cached token before we say that there seems to be no cache: one that another
#: conversation pushed out is not yet a habit.
PATIENCE = 3


class CacheWatch(Struct):
    """The cache of one conversation, fed the usage of each reply. All counts are tokens."""

    #: Of all replies whose server told what was cached.
    prompt: int = 0
    cached: int = 0
    #: What had to be computed because it was new, and what had been read before and was computed once more.
    fresh: int = 0
    repeated: int = 0
    #: The sentence about the last reply; '' when there is nothing to say.
    news: str = ""
    _first: int = 0
    _last: int = 0
    _empty: int = 0
    _told: str = ""
    _template_told: bool = False

    @property
    def share(self) -> float:
        """The part of all prompts that came from the cache, 0 to 1."""
        return self.cached / self.prompt if self.prompt else 0.0

    @property
    def over_optimum(self) -> float:
        """What was computed over what an ideal cache computes, which reads each token once: 1.0 is the optimum."""
        return (self.fresh + self.repeated) / self.fresh if self.fresh else 1.0

    def excuse(self) -> None:
        """The next request may find no cache: the conversation was made shorter, or was left for a while."""
        self._last = 0

    def feed(self, usage: Usage) -> str:
        """Take in a reply; one sentence when the cache was lost, with the likely cause, else ''. Also in `news`.

        Says each loss once, until the cache has held again; what the template does, once at all. Silent about
        servers that do not tell what was cached, and about the first request of a conversation.
        """
        self.news = ""
        prompt, cached = usage.prompt, usage.cached
        if prompt is None or cached is None:
            self.excuse()
            return ""
        cached = min(cached, prompt)
        expected = min(self._last, prompt)
        lost = max(expected - cached, 0)
        self._first, self._last = min(self._first or prompt, prompt), prompt
        self.prompt += prompt
        self.cached += cached
        self.repeated += lost
        self.fresh += prompt - cached - lost
        self._empty = 0 if self.cached else self._empty + 1
        if lost > max(WORTH, expected * TOLERANCE):
            self.news = self._sentence(expected, cached)
        elif expected:
            self._told = ""
        return self.news

    def _sentence(self, expected: int, cached: int) -> str:
        """What is to be said of a loss; '' when it was said."""
        if not self.cached:
            cause = "it keeps no prefix cache, or does not count it, or clears it between requests"
            if self._empty < PATIENCE:
                return ""
        elif cached < self._first * BEGINNING:
            cause = "it restarted, another conversation took this one's slot, or its cache cannot go back"
        else:
            cause = "the chat template seems to change earlier messages (often: it drops reasoning)"
            if self._template_told:
                return ""
            self._template_told = True
        if cause == self._told:
            return ""
        self._told = cause
        return f"the server read {expected - cached} of {expected} known prompt tokens again: {cause}"
