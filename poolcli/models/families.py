"""Families of models: how they are sampled, told to think, and write calls (models/families.toml)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from msgspec import Struct, field

from poolcli.models.discovery import Server, table

#: What --reasoning can be.
EFFORTS = ("off", "low", "medium", "high")
#: Sampling fields that every server takes.
COMMON = ("temperature", "top_p", "seed")


class Family(Struct, frozen=True):
    """A family, as models/families.toml describes it; its name is '' for an unknown model."""

    name: str = ""
    match: tuple[str, ...] = ()
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    #: The format of calls as text (a name of the recovery parser's); '' when unknown.
    tools: str = ""
    #: The format in which it was trained to edit: "patch" is `*** Begin Patch`; '' is old and new text.
    edits: Literal["", "patch"] = ""
    #: Whether earlier reasoning is sent back.
    back: bool = True
    #: What a request holds for each effort.
    reasoning: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@functools.cache
def families() -> tuple[Family, ...]:
    """Every family, the user's own first. Raises ConfigError for a broken file of the user's."""
    return tuple(table("families.toml", "family", Family, first=True))


def family_of(model: str) -> Family:
    """The family that a model's name belongs to: of a server's list, of a repository or of a file."""
    name = normal(model)
    for family in families():
        if any(fnmatchcase(name, pattern) for pattern in family.match):
            return family
    return Family()


def normal(model: str) -> str:
    """A model's name as patterns see it: without its folder, in small letters, with `-` between words."""
    name = model.strip().rstrip("/").rpartition("/")[2].lower()
    # Some write qwen-3 or qwen3_coder for qwen3-coder.
    name = re.sub(r"[\s_]+", "-", name)
    return re.sub(r"^qwen-(\d)", r"qwen\1", name)


def sampling(family: Family, server: Server) -> dict[str, float | int]:
    """The family's sampling, as far as the server takes it."""
    taken = {*COMMON, *server.sampling}
    return {name: value for name, value in family.sampling.items() if name in taken}


def reasoning(effort: str, family: Family, server: Server) -> dict[str, Any]:
    """What a request holds for an effort ('' is the model's own): the server's way, or the family's."""
    if not effort:
        return {}
    for ways in (server.reasoning, family.reasoning):
        if effort in ways:
            return dict(ways[effort])
    # Nobody knows; what most servers read. Those that read neither ignore it.
    return (
        {"chat_template_kwargs": {"enable_thinking": False}}
        if effort == "off"
        else {"reasoning_effort": effort}
    )
