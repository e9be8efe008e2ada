"""Identifiers for synthetic modules: known words, pronounceable nonsense and random letters.

A small network copies an identifier reliably only if it has seen many different ones, so half of all names
are made up. `HELD_WORDS` never occur in training: they measure whether copying works on new words.
"""

from __future__ import annotations

import sys
from keyword import iskeyword
from random import Random

_WORDS = """
total count price value amount width height depth score level rate size index offset limit start stop
step item entry record node edge leaf root row column cell block page line word letter text name label
title key path user owner member group team role order cart basket stock shop store product sku unit
weight volume length speed hour minute second day week month year age date event task job queue stack
batch chunk frame sample signal wave point vector matrix angle radius area shape color pixel image layer
mask grid board tile card deck hand player coin bank loan debt bonus salary wage tax fee cost profit
budget account ledger invoice receipt ticket seat room floor street city region country zone north south
river lake forest tree plant seed fruit apple lemon grape bread water cup plate spoon knife table chair
lamp window door wall roof garden bridge tower train truck wheel engine motor valve pipe tank filter
sensor meter gauge switch button cable port socket server client host link route packet header body
footer field form query result report chart graph plot series trend peak base delta gap margin house
ratio share slice piece part whole bound upper lower first last left right front back inner outer time
pulse sugar pump message discount shipping threshold minimum maximum subtotal quantity percent distance
temperature balance values items prices scores names words numbers lines rows points orders sizes records
"""
WORDS = tuple(_WORDS.split())
_HELD_WORDS = """
camera planet rocket helmet candle mirror pencil carpet blanket tunnel harbor island jungle desert canyon
magnet battery ladder hammer ribbon basketball violin guitar trumpet novel poem chapter lesson school
doctor nurse pilot sailor farmer baker tailor parcel envelope stamp anchor compass orbit comet meteor
glacier volcano pepper onion cabbage carrot pumpkin turtle rabbit falcon dolphin
"""
HELD_WORDS = tuple(_HELD_WORDS.split())
_VERBS = (
    "get make calc find pick compute build fetch read eval check apply update handle process derive is has to"
)
VERBS = tuple(_VERBS.split())
_CLUSTERS = "ch sh th st tr br cr pl ck nd rt ll ss mp nt gh ph"
CONSONANTS = (*"bcdfghjklmnpqrstvwxz", *_CLUSTERS.split())
VOWELS = ("a", "e", "i", "o", "u", "a", "e", "o", "ai", "ea", "ou", "oo", "y")
SYLLABLES = tuple(c + v for c in "bdfgklmnprstvz" for v in "aeiou")
#: Names that the modules themselves use and that an identifier must not hide.
_BUILTINS = "abs all any dict int len list max min range round set sorted str sum test unittest"
BUILTINS = frozenset(_BUILTINS.split())
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_up(random: Random) -> str:
    """A word that nobody has seen before: syllables, clusters or plain random letters."""
    choice = random.random()
    if choice < 0.25:
        return "".join(random.choice(LETTERS) for _ in range(random.randint(3, 8)))
    if choice < 0.5:
        word = "".join(random.choice(SYLLABLES) for _ in range(random.choice((2, 2, 3))))
        return word + random.choice(("", "", "n", "r", "s", "x"))
    word = "".join(
        random.choice(CONSONANTS) + random.choice(VOWELS) for _ in range(random.choice((1, 2, 2, 3)))
    )
    word += random.choice(CONSONANTS) if random.random() < 0.6 else ""
    return word if len(word) > 2 else word + "n"


def usable(name: str) -> bool:
    """Whether the name is an identifier that hides nothing."""
    return name.isidentifier() and not iskeyword(name) and name not in BUILTINS


class Names:
    """Identifiers that differ from each other within one scope. `held` takes words never seen in training."""

    def __init__(self, random: Random, *, held: bool = False, invented: float = 0.5) -> None:
        self.random, self.held, self.invented = random, held, invented
        self.used: set[str] = set()

    def word(self) -> str:
        """One word, not necessarily fresh."""
        while True:
            if self.held:
                word = self.random.choice(HELD_WORDS)
            elif self.random.random() < self.invented:
                word = made_up(self.random)
            else:
                word = self.random.choice(WORDS)
            if usable(word) and (self.held or word not in HELD_WORDS):
                return word

    def _fresh(self, make: object) -> str:
        while True:
            name = make()  # type: ignore[operator]
            if usable(name) and name not in self.used:
                self.used.add(name)
                return str(name)

    def variable(self) -> str:
        """A parameter or local name: a word, sometimes a letter, a plural or a compound."""

        def make() -> str:
            word, choice = self.word(), self.random.random()
            if choice < 0.2:
                return f"{word}_{self.word()}"
            if choice < 0.28:
                return word[0]
            return word + "s" if choice < 0.36 else word

        return self._fresh(make)

    def singular(self, plural: str) -> str:
        """The loop variable for `plural`: often its singular (`price` of `prices`), else any name."""
        if plural.endswith("s") and len(plural) > 3 and self.random.random() < 0.7:
            name = plural[:-1]
            if usable(name) and name not in self.used:
                self.used.add(name)
                return name
        return self.variable()

    def function(self) -> str:
        """A function name, up to three words long."""

        def make() -> str:
            word, choice = self.word(), self.random.random()
            if choice < 0.2:
                return word
            if choice < 0.6:
                return f"{self.random.choice(VERBS)}_{word}"
            if choice < 0.85:
                return f"{word}_{self.word()}"
            return f"{self.random.choice(VERBS)}_{word}_{self.word()}"

        return self._fresh(make)

    def module(self) -> str:
        """A module name that hides nothing of the standard library."""
        name = self.word() if self.random.random() < 0.6 else f"{self.word()}_{self.word()}"
        taken = name in self.used or name in sys.stdlib_module_names or name in ("test", "tests", "code")
        return f"{name}_lib" if taken else name
