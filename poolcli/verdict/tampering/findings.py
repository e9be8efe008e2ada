"""What is found, and what it is found in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Severity = Literal["high", "low"]
Read = Callable[[str], "str | None"]


class Finding(Struct, frozen=True):
    """One thing in a change that can make tests pass without the code being right.

    `high`: no honest change needs it, and the run is never verified. `low`: a person should look at it; the
    verdict in the fresh place does not depend on it. `line` counts from 1 in the changed file (in the base when
    the file was deleted), 0 when it has none; `text` is one sentence.
    """

    kind: str
    severity: Severity
    path: str
    line: int
    text: str


#: Kinds that are about tests a person may well have asked to change.
OF_TESTS = frozenset({"edited-test", "deleted-test", "weakened-assertion", "skipped-test"})


class Fact(Struct, frozen=True):
    """Something that code does, before it is known whether the base does it as well.

    Two facts of one kind and key are the same: what was only moved or formatted is no finding.
    """

    kind: str
    severity: Severity
    key: str
    line: int
    text: str
