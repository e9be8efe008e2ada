"""What readers of formats are given and give back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.models.arguments import parameters

#: Calls in one text; a model that writes more is stuck in a loop.
MAX_CALLS = 64
#: Characters of a name that can be one of a tool or a parameter.
MAX_NAME = 200

#: What models and templates put behind a call, besides its own end.
TAIL = re.compile(
    r"(?:\s*+(?:<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|</s>|<\|end_of_text\|>|<\|endoftext\|>"
    r"|<[|｜]end[_▁]of[_▁]sentence[|｜]>|<\|END_OF_TURN_TOKEN\|>|<\|user\|>|<\|observation\|>))*+"
)


class Written(Struct, frozen=True):
    """A call as a model wrote it. `args` is None when they could not be read, `raw` is the call's text."""

    name: str
    args: Mapping[str, Any] | None
    raw: str


class Found(Struct, frozen=True):
    """What a text holds: the prose left over, the calls in order, the name of the (first) format, '' for none.

    `cut` says that the text ends within a call or a list of calls. A call of which not even the name is certain
    is not listed.
    """

    text: str
    calls: tuple[Written, ...] = ()
    format: str = ""
    cut: bool = False


class Reading(Struct, frozen=True):
    """What a reader made of the text from a mark on: the calls, and where they end.

    `torn` says that the end of the last call is not certain, so that what follows may belong to it. `cut` says
    that the end of the text came first.
    """

    end: int
    calls: tuple[Written, ...]
    format: str
    torn: bool = False
    cut: bool = False


class Tools:
    """The registered tools: their names and the types of their parameters."""

    def __init__(self, schemas: Sequence[Mapping[str, Any]]) -> None:
        """Takes function schemas as servers are sent them; what is no such schema is left out."""
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._folded: dict[str, str] = {}  # '' where two names differ by case alone
        for schema in schemas:
            function = schema.get("function")
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(name, str):
                self._schemas[name] = schema
                self._folded[name.lower()] = "" if name.lower() in self._folded else name

    def __contains__(self, name: object) -> bool:
        return name in self._schemas

    def named(self, written: str) -> str:
        """The registered tool that a model means by this name; the name itself when there is none."""
        name = written.strip()
        for one in (name, name.removeprefix("functions.")):
            if one in self._schemas:
                return one
            if known := self._folded.get(one.lower()):
                return known
        return name

    def schema(self, name: str) -> Mapping[str, Any] | None:
        """The function schema of a registered tool."""
        return self._schemas.get(name)

    def typed(self, name: str, key: str, text: str, *, plain: bool = True) -> Any:
        """An argument that was written as plain text: strings stay exactly as they are, other types are read.

        `plain` is whether the format takes an argument of an unknown parameter for a string.
        """
        spec = parameters(self._schemas.get(name, {})).get(key)
        kind = spec.get("type") if isinstance(spec, Mapping) else ("string" if plain else "")
        if kind == "string":
            return text
        try:
            value = json.loads(text)
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            return text
        return value


def skip(text: str, at: int) -> int:
    """The place of the next character that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


_SPACE = re.compile(r"\s*+")


def tailed(text: str, at: int) -> int:
    """The place behind the ends of turns that stand here."""
    match = TAIL.match(text, at)
    return match.end() if match else at


def is_name(written: str) -> bool:
    """Whether this can be the name of a tool at all."""
    return bool(_NAME.fullmatch(written))


_NAME = re.compile(r"[A-Za-z_][\w.:/-]{0,199}")
