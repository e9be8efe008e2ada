"""How many tokens a text has: counted offline, calibrated by what the server reports, or asked of the server.

Every model has its own vocabulary and most of them are downloads, so pool ships one of its own, trained by
`scripts/make_vocabulary.py`. It counts up to a tenth more than today's models do; `Counter` takes out most of
that with the first reply (docs/decisions/0008-counting-tokens.md has the figures).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from poolcli import paths
from poolcli.errors import ModelError
from poolcli.models import faults

if TYPE_CHECKING:
    import tiktoken

    from poolcli.models.connection import Connection

#: The vocabulary's file in the data folder `models`.
VOCABULARY = "vocabulary.bpe"
#: Merges in it. 32,768 would bring the error from 4.5 % to 3.7 %, at twice the size and time to load.
MERGES = 16_384
#: What text is cut into before anything is merged; no token reaches beyond a piece. The vocabulary was trained
#: with it, so a change needs a new one.
PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",  # a word with the space, quote or dot before it
        r"\p{N}{1,3}",  # half of today's models take digits by three, half singly
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # signs, to the end of their line
        r"\s*[\r\n]+",  # empty lines
        r"\s+(?!\S)",  # an indentation but for its last space, which goes with the word
        r"\s+",
    )
)
#: The longest stretch without a break, or of nothing but space, that tiktoken gets as a whole, in characters. A
#: file can be one such piece (base64, minified code), and a megabyte of space makes tiktoken 0.14 run out of
#: stack, which is a panic that no `except Exception` catches; in 0.9 the time of a piece also grew with its square.
LONGEST_RUN = 256
_RUN = re.compile(rf"\S{{{LONGEST_RUN}}}|\s{{{LONGEST_RUN}}}")

#: How far a server's count may lie from ours and be believed. Models count 0.8 to 1.1 times what we do for code
#: and English, 0.3 times for Chinese; beyond twice or half it is more likely that a server counts something
#: else (only what it computed; only what it kept after cutting), and an estimate built on that would overflow.
LEAST, MOST = 0.5, 2.0
#: Of so many last replies the middle one counts: one strange one changes nothing.
REPLIES = 3
#: Texts with fewer tokens say nothing of the vocabulary: the template's frame around them weighs more.
LEAST_TEXT = 64

#: Bytes of a reply of `/tokenize`, an id of up to eight bytes for each token: four million tokens.
MAX_TOKENIZED = 32_000_000
#: Seconds for the question and again for the reply; llama.cpp takes about one for a megabyte of text.
TOKENIZE_DEADLINE = 15.0


def count(text: str) -> int:
    """The tokens of a text by our own vocabulary. What looks like a special token is plain text.

    Linear in the text: a megabyte takes about 0.1 s. Raises ModelError when the installation lacks the vocabulary.
    """
    encode = encoding().encode_ordinary
    return sum(len(encode(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text, cut inside of stretches that are too long."""
    at = 0
    for run in _RUN.finditer(text):
        yield text[at : run.end()]
        at = run.end()
    yield text[at:]


class Counter(Struct):
    """Estimates for one model, better with every reply: how many of its tokens there are to one of ours."""

    _ratios: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The model's tokens to one of ours; 1.0 before the first reply."""
        return median(self._ratios) if self._ratios else 1.0

    def feed(self, ours: int, theirs: int) -> None:
        """Learn from one request: the tokens that `count` finds in it, and those that the server reports."""
        if ours >= LEAST_TEXT and theirs > 0:
            self._ratios.append(min(max(theirs / ours, LEAST), MOST))
            del self._ratios[:-REPLIES]

    def estimate(self, text: str) -> int:
        """The tokens that the model will find in a text, about."""
        return round(count(text) * self.ratio)


async def exact(
    connection: Connection, text: str, *, dialect: Literal["llama.cpp", "vllm"], model: str = ""
) -> int:
    """The tokens of a text as the server counts them, without those that begin or end a prompt.

    `dialect` is `Profile.tokenize`; `model` is for vLLM. Raises ModelError when the server does not say.
    """
    from poolcli.models.connection import read

    question: dict[str, object] = {"content": text, "add_special": False}
    if dialect == "vllm":
        question = {"model": model, "prompt": text, "add_special_tokens": False}
    url = f"{connection.endpoint.root}/tokenize"
    body = json.dumps(question).encode()
    async with connection.open("POST", url, body=body, seconds=TOKENIZE_DEADLINE) as response:
        said = await read(response, MAX_TOKENIZED, TOKENIZE_DEADLINE)
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(tokens, list):
        raise ModelError(f"{url} did not answer with tokens: {connection.quote(said)}", faults.DOCTOR)
    return len(tokens)


@cache
def encoding() -> tiktoken.Encoding:
    """What `count` encodes with; made once, in about 40 ms with the import.

    Never `tiktoken.get_encoding`, which downloads its tables.
    """
    import tiktoken

    path = paths.data_dir("models") / VOCABULARY
    try:
        tokens = unpack(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the vocabulary that tokens are counted with cannot be read: {error}", "install pool again"
        ) from error
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return tiktoken.Encoding("pool", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def pack(merges: Iterable[tuple[int, int]]) -> bytes:
    """The vocabulary as a file: for each merge the two tokens that it joins, as 16-bit numbers, low byte first."""
    return b"".join(struct.pack("<HH", left, right) for left, right in merges)


def unpack(data: bytes) -> list[bytes]:
    """The tokens in a file of merges, by rank: the 256 bytes, then what each merge makes. Raises ValueError."""
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no pairs of 16-bit numbers")
    tokens = [bytes([value]) for value in range(256)]
    for left, right in struct.iter_unpack("<HH", data):
        if max(left, right) >= len(tokens):
            raise ValueError(f"merge {len(tokens) - 256} joins a token that is not there yet")
        tokens.append(tokens[left] + tokens[right])
    return tokens
