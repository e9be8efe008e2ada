"""From a rung of the ladder and what is known of the model to the dialect that is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poolcli.models.dialects.base import RUNGS, Dialect
from poolcli.models.dialects.native import Native
from poolcli.models.profile import Profile


def make(rung: str, tools: Sequence[Mapping[str, Any]], *, profile: Profile | None = None) -> Dialect:
    """The dialect of a rung for these function schemas, as the profile wants roles and constraints.

    Raises ValueError for a rung that there is not. What is not spoken is not loaded.
    """
    known = profile or Profile("", "")
    roles = {"system_role": known.system_role, "reasoning_back": known.reasoning_back}
    match rung:
        case "native" | "whole":
            return Native(tools, streamed=rung == "native", tool_role=known.tool_role, **roles)
        case "schema":
            from poolcli.models.dialects.schema import Constrained

            return Constrained(tools, grammar=known.grammar and not known.schema, **roles)
        case "text":
            from poolcli.models.dialects.text import Written

            return Written(tools, **roles)
        case "shell":
            from poolcli.models.dialects.shell import Fenced

            return Fenced(**roles)
    raise ValueError(f"there is no rung {rung!r}; there are {', '.join(RUNGS)}")
