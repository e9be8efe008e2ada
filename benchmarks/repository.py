"""Generated git repositories, the same every time: one of N files, and one with a bug and a test that shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

AREAS = (
    "billing",
    "catalogue",
    "customers",
    "delivery",
    "orders",
    "payments",
    "reports",
    "stock",
    "taxes",
    "users",
)
NOUNS = ("amount", "batch", "discount", "entry", "invoice", "line", "rate", "row", "total", "unit")
TASK = "fix the rounding of the invoice total"

BUG = {
    "calc.py": "def add(a, b):\n    return a - b\n\n\ndef double(x):\n    return x * 2\n",
    "test_calc.py": "import unittest\n\nfrom calc import add, double\n\n\nclass TestCalc(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n\n"
    "    def test_double(self):\n        self.assertEqual(double(4), 8)\n",
}


def generate(count: int) -> dict[str, str]:
    """`count` files of a small business application: modules, tests, a page."""
    random = Random(count)
    files = {"README.md": "# Shop\n\nOrders, stock and invoices.\n", "shop/__init__.py": '"""The shop."""\n'}
    number = 0
    while len(files) < count:
        area, noun = AREAS[number % len(AREAS)], NOUNS[number // len(AREAS) % len(NOUNS)]
        name = f"{noun}{number // 100 or ''}"
        path = f"tests/{area}/test_{name}.py" if number % 3 == 2 else f"shop/{area}/{name}.py"
        files[path] = _module(random, area, noun)
        number += 1
    return files


def _module(random: Random, area: str, noun: str) -> str:
    lines = [f'"""{noun.title()} of {area}."""', ""]
    for index in range(random.randrange(3, 12)):
        other = random.choice(NOUNS)
        lines += ["", f"def {noun}_{other}_{index}(values, factor={random.randrange(9)}):"]
        lines += [
            f'    """The {other} of each {noun}."""',
            f"    return [round(v * factor, {index % 4}) for v in values]",
            "",
        ]
    return "\n".join(lines)


def commit(folder: Path, files: dict[str, str]) -> Path:
    """A repository with one commit of these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-q", "-m", "start"],
        ["update-index", "--refresh"],
    ):
        subprocess.run([*git, *arguments], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return folder


def tidy(folder: Path) -> None:
    """Remove what runs that were ended in the middle left in the repository, so that the next finds it fresh."""
    shutil.rmtree(folder / ".git" / "worktrees", ignore_errors=True)
    shutil.rmtree(folder / ".git" / "refs" / "pool", ignore_errors=True)
