"""When a conversation does not fit: every server's words for it, and the signs of those that say nothing.

Servers refuse (in a dozen wordings, with or without figures), stop in the middle of a reply, or silently leave out
the beginning of what they were sent. All three end in the same remedy, so they have to be told from other faults.
"""

from __future__ import annotations

import re

from poolcli.messages import Message
from poolcli.models.base import Reply

_N = r"(\d[\d,]*)"

#: What says that a conversation does not fit, sought in any case. One alternative for one wording.
REFUSED = "|".join(
    (
        # llama.cpp, now and before; LM Studio, whose engines say the same
        r"exceed_context_size",
        r"context[ _](size|length|window)[ _]?(has been |was )?exceed",
        r"context shift is disabled|too large to process\. (either )?(dis|en)able context shift",
        r"larger than the max context size",
        # vLLM, Aphrodite, SGLang, OpenAI, Azure, OpenRouter, text-generation-webui, LiteLLM in front of them
        r"exceed(s|ed)? (the |this |its )?(model'?s? )?(available |max(imum)? )?(model )?context",
        r"max(imum)? (model |context )+length",
        r"(longer|larger|greater) than (the )?(model'?s? |max(imum)? )*context",
        r"context length is only",
        r"exceeds the maximum allowed (input )?length",
        r"context_?window_?exceeded",
        r"input tokens exceed the configured limit",
        r"max_tokens must be at least 1, got -",  # older vLLM: the window less the prompt
        # LM Studio
        r"context length of only|n_keep.{0,20}n_ctx|reached context length of",
        # TGI
        r"`inputs` (tokens \+ `max_new_tokens`|must have less than)",
        # Ollama, koboldcpp's and Anthropic's words, rkllama, Mistral, mistral.rs, TabbyAPI
        r"prompt (is )?too long",
        r"context (window|size) is \d",
        r"too large for model with|prompt sequence length is greater than",
        r"is greater than max_seq_len|max_seq_len.{0,20}exceeded",
    )
)
#: Where the size of the window stands in such words. The first that matches counts.
_WINDOW = (
    rf"context size \({_N}",
    rf"context length (?:is|of) only {_N}",
    rf"max(?:imum)? (?:model |context )+length(?: is| of)? {_N}",
    rf"model with {_N} maximum context",
    rf"context length \({_N}",
    rf"n_ctx:? ?\(?{_N}",
    rf"maximum allowed (?:input )?length (?:of )?\(?{_N}",
    rf"`max_new_tokens` must be <= {_N}",
    rf"must have less than {_N}",
    rf"max_seq_len {_N}",
    rf"context (?:window|size) is {_N}",
    rf"reached context length of {_N}",
    rf"> {_N} maximum",
    rf"configured limit of {_N}",
)
#: Where the size of the prompt stands.
_PROMPT = (
    rf"\({_N} (?:in the messages|in your prompt|of text input)",
    rf"(?:has|passed|contains(?: at least)?) {_N} input tokens",
    rf"resulted in {_N} tokens",
    rf"n_keep:? ?\(?{_N}",
    rf"keep the first {_N}",
    rf"given: {_N}",
    rf"too long: {_N} tokens",
    rf"(?:prompt|input|request)(?: length)?(?: of| is| has| contains)? ?\(?(?:length )?{_N}",
    rf"requested (?:about |a total of )?{_N} tokens",
)

#: A window that a refusal names and that is smaller is no window: a version of vLLM names what the asked-for reply
#: would leave of it (3 tokens, for example).
PLAUSIBLE = 256
#: Tokens by which servers stop before the window is full, and count differently from each other.
MARGIN = 16
#: Characters of one token that no text of ours has on average: code has 3 to 4, deeply indented code 5 to 6.
SPARSE = 8
#: A server that reports fewer tokens counts only what it had to compute anew; none cuts a conversation this short.
LEAST_CUT = 1024
#: A reply of more than this part of the window is not cut off for want of room: a conversation that was made
#: shorter takes up to half of it, and would hardly leave more.
LONG = 3


def refused(said: str) -> bool:
    """Whether these words of a server mean that the conversation does not fit."""
    return re.search(REFUSED, said, re.IGNORECASE) is not None


def sizes(said: str) -> tuple[int, int]:
    """The tokens of the prompt and of the window that such words name; 0 for what they do not."""
    return _first(_PROMPT, said), _plausible(_first(_WINDOW, said))


def _first(patterns: tuple[str, ...], said: str) -> int:
    for pattern in patterns:
        if match := re.search(pattern, said, re.IGNORECASE):
            digits = match[1].replace(",", "")
            return int(digits) if len(digits) < 12 else 0  # more is no number of tokens
    return 0


def _plausible(window: int) -> int:
    return window if window >= PLAUSIBLE else 0


def cut_off(reply: Reply, window: int, max_reply: int = 0) -> bool:
    """Whether a reply ended only because the window was full: llama.cpp, vLLM and Ollama send 200 then.

    LM Studio sends an empty reply instead when already the prompt was too long. A reply whose calls are all
    whole is none of these, nor is one that took a large part of the window: it is too long by itself. `max_reply`
    is the limit that was asked for, 0 for none.
    """
    usage, message = reply.usage, reply.message
    if not window or usage.prompt is None:
        return False
    if not message.parts:
        return usage.prompt >= window - MARGIN
    written = usage.completion or 0
    if reply.finish != "length" or (max_reply and written >= max_reply) or written > window // LONG:
        return False
    if message.calls and all(call.args is not None for call in message.calls):
        return False
    return usage.prompt + written >= window - MARGIN


def cut_silently(prompt: int, least: int, characters: int) -> bool:
    """Whether a server counted so few tokens in the prompt that it must have left out a part of what it was sent.

    `least` is what the prompt must have by the count of the request before (0 when there was none), `characters`
    the length of all texts that were sent (0 to leave that sign out). Ollama does so, and koboldcpp: both report
    the count after the cut.
    """
    if prompt < LEAST_CUT:
        return False
    return prompt < least - MARGIN or prompt * SPARSE < characters


def characters(message: Message) -> int:
    """The length of all texts of a message, arguments of calls included, reasoning left out.

    Templates leave out reasoning of earlier turns, so it says nothing about what a server should count.
    """
    from poolcli.messages import Call, Think

    return sum(
        len(str(part.args)) if isinstance(part, Call) else len(part.text)
        for part in message.parts
        if not isinstance(part, Think)
    )
