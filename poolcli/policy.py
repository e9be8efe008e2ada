"""Whether a call may run, and why: a pure function. Asking people and confinement come after it, in the gate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from msgspec import Struct


class Decision(Struct, frozen=True):
    """allow, ask a person, or deny; `why` is shown to people and, on deny, to the model."""

    verdict: Literal["allow", "ask", "deny"]
    why: str = ""


def decide(tool: str, kind: str, *, deny: Collection[str]) -> Decision:
    """Decide on a call of `tool`, which is of `kind`; `deny` names tools or kinds that the user forbids."""
    for word in (tool, kind):
        if word in deny:
            return Decision("deny", f"the user's configuration forbids `{word}`")
    return Decision("allow")
