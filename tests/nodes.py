"""Whether tests that a table names exist."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def functions(file: str) -> frozenset[str]:
    """The test functions of a file; empty where there is no such file. Read, not run: collecting takes seconds."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in tree.body if isinstance(n, kinds) and n.name.startswith("test"))


def missing(nodes: Iterable[str]) -> list[str]:
    """Those of the nodes (`tests/x.py::test_y`) that there are not."""
    found = []
    for node in nodes:
        file, _, name = node.partition("::")
        if name.split("[")[0] not in functions(file):
            found.append(node)
    return found
