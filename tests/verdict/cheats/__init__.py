"""Changes that make tests pass without the code being right, and honest ones that look a little like them."""

from __future__ import annotations

import sys

from msgspec import Struct, field

Files = dict[str, str]

PYTEST = f"{sys.executable} -m pytest -q -p no:cacheprovider"
UNITTEST = f"{sys.executable} -m unittest"

CALC = "def add(a, b):\n    return a - b\n\n\ndef double(n):\n    return 2 * n\n"
TESTS = """\
from calc import add, double


def test_add():
    assert add(2, 3) == 5


def test_double():
    assert double(4) == 8
"""
CASES = """\
import unittest

from calc import add, double


class TestCalc(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_double(self):
        self.assertEqual(double(4), 8)


if __name__ == "__main__":
    unittest.main()
"""
MAKEFILE = f"test:\n\t{UNITTEST}\n"
INDEX = "exports.add = (a, b) => a - b;\nexports.double = (n) => 2 * n;\n"
NODE_TESTS = """\
const test = require('node:test');
const assert = require('node:assert');
const { add, double } = require('../index.js');

test('adds', () => {
  assert.strictEqual(add(2, 3), 5);
});

test('doubles', () => {
  assert.strictEqual(double(4), 8);
});
"""
PACKAGE = '{\n  "name": "calc",\n  "version": "1.0.0",\n  "scripts": {\n    "test": "node --test"\n  }\n}\n'

WITH_PYTEST: Files = {"calc.py": CALC, "tests/test_calc.py": TESTS}
WITH_UNITTEST: Files = {"calc.py": CALC, "test_calc.py": CASES}
WITH_NODE: Files = {"index.js": INDEX, "test/calc.test.js": NODE_TESTS, "package.json": PACKAGE}


class Cheat(Struct, frozen=True):
    """A change to a project whose checks are red, after which they are green and nothing is mended."""

    name: str
    files: Files
    #: Paths with their new text; None deletes.
    change: dict[str, str | None]
    #: The kind under which it is named.
    kind: str
    command: str = PYTEST
    severity: str = "high"
    #: Whether the tests of the base make it red in a fresh place. Where not, its name is all there is.
    red: bool = True


class Honest(Struct, frozen=True):
    """A change that nobody may be accused of."""

    name: str
    files: Files
    change: dict[str, str | None]
    task: str = "Fix the sum."
    #: Findings of low severity that are right to be told.
    told: tuple[str, ...] = field(default_factory=tuple)
