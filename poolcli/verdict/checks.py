"""The checks of a run, as a value: what decides whether the work is done."""

from __future__ import annotations

from msgspec import Struct

from poolcli.verdict.recipes import Recipe


class Checks(Struct, frozen=True):
    """The command that decides whether the work is done: what runs, who said so, and why it was chosen."""

    command: str
    #: `--test`, the configuration file that names it, or `found`.
    source: str
    why: str
    #: How the same checks are asked for a report or for single tests; None when nobody looked.
    recipe: Recipe | None = None
    #: What has to be built before, each time; '' for nothing.
    build: str = ""
