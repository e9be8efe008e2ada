"""Measuring a recipe in a folder that the command may write in, too."""

from __future__ import annotations

import asyncio
import os
import sys

from poolcli import process
from poolcli.verdict import measuring
from poolcli.verdict.recipes import Recipe

ENV = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin"}


def test_folders_that_the_command_made_first(tmp_path):
    """It takes the names that are easily guessed; what is fallen back on still runs."""
    scratch, root = tmp_path / "scratch", tmp_path / "root"
    scratch.mkdir()
    root.mkdir()
    (root / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\n"
    )
    take = f"cd {scratch}; for n in plain fallback-1; do ln -s / $n; done; exit 1 #"
    second = Recipe("unittest", "", "python -m unittest -v test_it", "")
    recipe = Recipe("pytest", "", take, "", report_kind="junit", fallbacks=(second,))

    async def run(command, title, log):
        return await process.run(
            ["sh", "-c", command], cwd=root, env=ENV, timeout=60, log=log, limit=measuring.LOG
        )

    measured = asyncio.run(measuring.measure(recipe, run, root=root, scratch=scratch))
    assert (scratch / "fallback-1").is_symlink()
    assert [case.outcome for case in measured.results.cases.values()] == ["passed"]
