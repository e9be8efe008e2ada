"""A patch in the envelope that some models were trained on, offered to them in the place of `edit`.

A call with a patch is an `edit` before it gets here (aliases.py), so that rules and questions are about its files. What
arrives here is no patch.
"""

from __future__ import annotations

from poolcli.tools.base import Ctx, Output, ToolError


async def run(ctx: Ctx, patch: str) -> Output:
    """Say what a patch looks like. Raises ToolError always; no file is touched."""
    raise ToolError(
        "patch is not in the format; the first line is `*** Begin Patch`, then come `*** Update File: PATH`, `@@` and "
        "the lines of each change with a blank, - or + before them, and at the end `*** End Patch`"
    )
