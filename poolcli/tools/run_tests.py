"""Run the repository's checks."""

from __future__ import annotations

from poolcli.tools.base import Ctx, Output


async def run(ctx: Ctx) -> Output:
    """What the checks say, condensed to the evidence."""
    return await ctx.checks()
