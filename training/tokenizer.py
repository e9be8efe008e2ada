"""Greedy longest-match tokenizer over bytes: llama.cpp's tokenizer kind "rwkv", which any architecture may use.

Apart from keywords, no piece joins letters with what follows, so that an identifier is cut the same way
wherever it stands; copying depends on it.
"""

# ruff: noqa: E501 (a table)

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.kinds import KINDS
from training.names import HELD_WORDS, SYLLABLES, VERBS, WORDS
from training.sentences import COMMON

SPECIAL = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|reserved_0|>",
    "<|reserved_1|>",
    "<|reserved_2|>",
)
END, PAD = 0, 5

#: Frequent strings of the conversation, longest match first when they overlap.
CONVERSATION = (
    "<|im_start|>assistant\n", "<|im_start|>user\n", "<|im_start|>tool\n", "assistant\n", "user\n", "tool\n",
    "<tool_call>\n<function=", "read>\n<parameter=path>\n", "edit>\n<parameter=path>\n", "run_tests>\n",
    "\n</parameter>\n<parameter=old>\n", "\n</parameter>\n<parameter=new>\n", "\n</parameter>\n</function>\n</tool_call>",
    "</function>\n</tool_call>", "\n</parameter>\n", "<parameter=", "<function=", "</function>", "<tool_call>",
    "</tool_call>", "The bug is in `", "Still failing: `", "`.", "Fixed `", "` and `", "` in ", "edited", "FAIL test_",
    "ERROR test_", "error: old text", " not found", " occurs ", ": self.assertEqual(", ": self.assertTrue(",
    ": self.assertFalse(", ": self.assertIsNone(", "\ntest_", "test_", ".py:", ".py", "\nAssertionError: ",
    "True is not false", "False is not true", "None is not true", " is not true", " is not false", "Lists differ: ",
    "\nNameError: name '", "' is not defined", ". Did you mean: '", "'?", "\nTypeError: ", "\nIndexError: ",
    "\nZeroDivisionError: ", "\nUnboundLocalError: ", "\nAttributeError: ", "\nKeyError: ", "\nValueError: ",
    " object", "unsupported operand type(s) for ", "'int'", "'str'", "'list'", "'bool'", "'NoneType'", " failed, ", " failed\n", " passed\n",
)  # fmt: skip
CODE = (
    "\n\n", "\n\n\n", "\n\n\ndef ", "def ", "):\n    ", "):\n    return ", '):\n    """', '."""\n    ', '."""\n    return ', '"""', "\n    return ",
    "\n        return ", "\n    if ", "\n    for ", "\n        if ", "\n    ", "\n        ", "\n            ", "return ",
    "if ", "for ", " for ", " in ", " if ", " and ", " or ", "not ", " not in ", "else", ", ", ": ", " = ",
     " += ", " -= ", " *= ", " += 1", " == ", " != ", " >= ", " <= ", " > ", " < ", " + ", " - ", " * ", " // ",
    " % ", " ** ", " % 2 == ", " is ", "True", "False", "None", "range(", "range(1, ", "len(", "sum(", "max(", "min(", "abs(",
    "sorted(", "list(range(", "any(", "all(", "set(", "[0]", "[1]", "[-1]", "[:", ":]", ", reverse=True)", ".append(",
    ".insert(0, ", ".get(", '".join(', ".upper()", ".lower()", ".title()", ".strip()", ".lstrip()", ".rstrip()",
    ".split()", ".count(", ".index(", ".startswith(", ".endswith(", "()", "([", "])", "), ", ")", "']", "['", "', '",
    "('", "')", "': ", "{'", "'}", "}, ", " + 1", " // 100", " + 1)", "], ", "[", "self.",
)  # fmt: skip
_ENGLISH = """
er in an re on at en or st al ar it es is ou as le ve ra ic ne ro ri io co om el ch th sh ck ll ss ee oo
ea qu tr br gr pl cl nd rt nt mp ph gh
"""
ENGLISH = tuple(_ENGLISH.split())


class Tokenizer:
    """Pieces as bytes; the number of a piece is its place."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = tuple(pieces)
        self.number = {piece: n for n, piece in enumerate(self.pieces)}
        longest_first = sorted(self.pieces, key=len, reverse=True)
        self._match = re.compile(b"|".join(re.escape(piece) for piece in longest_first), re.S)

    def encode(self, text: str) -> list[int]:
        """The numbers of the pieces that the text is cut into."""
        return [self.number[piece] for piece in self._match.findall(text.encode())]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text behind the numbers."""
        return b"".join(self.pieces[n] for n in numbers).decode("utf-8", "replace")

    def for_gguf(self) -> list[str]:
        """The pieces the way llama.cpp's rwkv vocabulary writes them: escaped, the special ones plain."""
        return [p.decode() if n < len(SPECIAL) else _escaped(p) for n, p in enumerate(self.pieces)]

    def save(self, path: Path) -> None:
        """Write the pieces as a JSON list (Latin-1 stands for bytes)."""
        path.write_text(json.dumps([p.decode("latin1") for p in self.pieces]))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote."""
        return cls(p.encode("latin1") for p in json.loads(path.read_text()))


def _escaped(piece: bytes) -> str:
    if len(piece) == 1 and piece[0] >= 128:
        return f"\\x{piece[0]:02x}"
    names = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return "".join(
        names.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c) for c in piece.decode()
    )


def docstring_pieces() -> list[str]:
    """What stands between the names in the docstrings of the family."""
    found: dict[str, None] = {}
    for kind in KINDS:
        for words in kind.choices.values() or ("",):
            doc = kind.doc.replace("{words}", words).removesuffix(".")
            found |= dict.fromkeys(part for part in re.split(r"\{[a-z]\}", doc) if len(part) > 1)
    return list(found)


def _is_made_up(word: str) -> bool:
    """Whether the word is nonsense that sample demonstrations repeat because it is short."""
    return word.islower() and len(word) < 6


def build(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of about `size` pieces: fixed ones, known words, then the most frequent words of the texts."""
    pieces = [*(s.encode() for s in SPECIAL), *(bytes([n]) for n in range(256))]
    known = set(pieces)

    def add(text: str) -> None:
        if text.encode() not in known:
            known.add(text.encode())
            pieces.append(text.encode())

    for text in (*CONVERSATION, *CODE, *WORDS, *VERBS, *SYLLABLES, *ENGLISH):
        # The special tokens stand for themselves: no other piece may contain one.
        if not any(special in text for special in SPECIAL):
            add(text)
    for text in (*docstring_pieces(), *COMMON):
        add(text)
    words = Counter(word for text in texts for word in re.findall(r"[A-Za-z]{2,}", text))
    identifiers = {*WORDS, *VERBS, *HELD_WORDS}
    for word, count in words.most_common():
        if len(pieces) >= size or count < 12:
            break
        if word not in identifiers and not _is_made_up(word):
            add(word)
    return Tokenizer(pieces)
