"""Small failing projects, and the real runners on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from poolcli.verdict.evidence import Report, condense

CALC = """\
def add(a, b):
    return a - b


def half(n):
    return divide(n)


def divide(n):
    return n / 0
"""

UNITTEST = '''\
import unittest

from calc import add, half


class TestCalc(unittest.TestCase):
    def test_add(self):
        """Adds two numbers."""
        self.assertEqual(add(2, 3), 5)

    def test_half(self):
        half(4)

    def test_zero(self):
        self.assertEqual(add(0, 0), 0)
'''

PYTEST = """\
import pytest

from calc import add, half


def test_add():
    print("noise that a test printed")
    assert add(2, 3) == 5


@pytest.mark.parametrize("n", [1, 2])
def test_same(n):
    assert n == 2


class TestHalf:
    def test_half(self):
        half(4)
"""


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(root: Path, *argv: str, module: str) -> Report:
    """The report on `python -m MODULE ARGV` in the folder, as a run of the checks would give it."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *argv],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return condense(done.stdout, root=str(root), exit_code=done.returncode)
