"""The tracer in each Python that is here: which way it takes, and that it sees what `coverage` sees."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from poolcli.verdict.coverage import instrumented, read
from tests.verdict.interpreters import interpreter

#: The oldest that the suite runs with, and those where the tracer stands beside others.
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EVERYTHING = range(1, 10_000)

#: What compilers treat in a way of their own: each `never` is a line that does not run.
MODULE = '''\
"""Several lines
of words."""

import contextlib
import subprocess
import sys
import threading


class Shape:
    """A class."""

    sides: int = 4

    def __init__(self, sides=None):
        if sides:
            self.sides = sides
        else:
            pass

    @property
    def name(self):
        never = 1
        return never

    @staticmethod
    def area(
        width,
        height=2,
    ):
        return (
            width
            * height
        )


def numbers(most):
    for number in range(most):
        if number == 1:
            continue
        elif number == 3:
            break
        yield number
    else:
        never = 1
    return


def guarded(value):
    try:
        return 1 / value
    except ZeroDivisionError:
        return [
            each
            for each in (1, 2)
            if each > 1
        ]
    except ValueError:
        never = 1
        raise
    finally:
        sys.stdout.flush()


def threaded():
    with contextlib.suppress(ValueError):
        int("x")
        never = 1
    never = 0
    return never


def elsewhere(word):
    match word:
        case "a":
            return 1
        case {"b": _}:
            return 2
        case _:
            return 3


async def later():
    async with contextlib.AsyncExitStack():
        return [await one() for _ in range(2)]


async def one():
    return 1


def never(x):
    return lambda: x


def again():
    value = 0
    while value < 3:
        value += 1
    assert value == 3, (
        "never"
    )
    return value if value else never
'''
MAIN = """\
import asyncio, subprocess, sys, threading
import mod, words
shape = mod.Shape(3)
mod.Shape(), mod.Shape.area(2)
list(mod.numbers(9)), mod.guarded(2), mod.guarded(0), mod.again()
asyncio.run(mod.later())
thread = threading.Thread(target=mod.threaded)
thread.start(), thread.join()
words.wrap("one two-three " * 20, 30), words.dedent("  a\\n   b")
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
else:
    mod.elsewhere("a"), mod.elsewhere("z")
"""


def project(root: Path, python: str) -> dict[str, range]:
    """A module of every kind of statement, and a real one: the interpreter's own `textwrap` under another name."""
    (root / "mod.py").write_text(MODULE)
    (root / "main.py").write_text(MAIN)
    where = [python, "-c", "import textwrap; print(textwrap.__file__)"]
    shutil.copy(subprocess.check_output(where, text=True).strip(), root / "words.py")
    return {"mod.py": EVERYTHING, "words.py": EVERYTHING}


def found_by_us(root: Path, notes: Path, python: str, *, main: str = "main.py") -> dict[str, tuple[set, set]]:
    """By file the lines that hold code and those of them that ran."""
    changed = {"mod.py": EVERYTHING, "words.py": EVERYTHING}
    command = instrumented(f"'{python}' {main}", notes, root, changed)
    done = subprocess.run(["sh", "-c", command], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "lines are not noted" not in done.stderr
    coverage = read(notes, root, changed)
    assert coverage.problem == ""
    rows = [row.split() for row in (notes / "executable.txt").read_text().splitlines()]
    lines = {
        path: {int(line) for number, line in rows if number == str(n)}
        for n, path in enumerate(sorted(changed))
    }
    return {path: (lines[path], lines[path] - set(coverage.uncovered.get(path, ()))) for path in changed}


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} is installed here")
    return found


def monitors(python: str) -> bool:
    asked = [python, "-c", "import sys; print(hasattr(sys, 'monitoring'))"]
    return subprocess.check_output(asked, text=True).strip() == "True"


def test_the_way_it_takes(tmp_path, python):
    """From 3.12 on a tool of `sys.monitoring` and no tracer of the interpreter; before it, the tracer."""
    project(tmp_path, python)
    (tmp_path / "asks.py").write_text(
        "import sys, pathlib, mod, words\n"
        "tools = [sys.monitoring.get_tool(n) for n in range(6)] if hasattr(sys, 'monitoring') else []\n"
        "pathlib.Path('way').write_text(f\"{'pool' in tools} {sys.gettrace() is not None}\")\n"
    )
    found_by_us(tmp_path, tmp_path / "notes", python, main="asks.py")
    assert (tmp_path / "way").read_text() == ("True False" if monitors(python) else "False True")


def test_beside_another_tool(tmp_path, python):
    """A debugger or a coverage plugin has its own place from 3.12 on; before it, that is noticed and said."""
    changed = project(tmp_path, python)
    (tmp_path / "other.py").write_text("import sys\nsys.settrace(lambda *a: None)\nimport main\n")
    command = instrumented(f"'{python}' other.py", tmp_path / "notes", tmp_path, changed)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    found = read(tmp_path / "notes", tmp_path, changed)
    if monitors(python):
        assert found.problem == "" and found.share is not None and found.share > 0.5
    else:
        assert found.share is None and "another tracer" in found.problem


def test_every_version_sees_the_same(tmp_path, python):
    """The lines that do not run, whatever the version: its compiler decides only what counts as a line."""
    project(tmp_path, python)
    lines, ran = found_by_us(tmp_path, tmp_path / "notes", python)["mod.py"]
    text = MODULE.splitlines()
    marked = {n for n, line in enumerate(text, 1) if line.strip() == "never = 1"}
    assert marked <= lines and not marked & ran
    calls = ("return number", "yield number", "continue", "break", "return 1 / value", "value += 1")
    for n, line in enumerate(text, 1):
        if line.strip() in calls:
            assert n in ran, line


def first_lines(text: str) -> dict[int, int]:
    """Each line of a statement to the line it is counted by, as `coverage` does. Docstrings are left out.

    A statement that holds others is counted by its own line; of its other lines only those before its body are its.
    """
    counted: dict[int, int] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            body = node.body if isinstance(getattr(node, "body", None), list) else None
            last = body[0].lineno - 1 if body else node.end_lineno
            for decorator in getattr(node, "decorator_list", ()):
                own = range(decorator.lineno, decorator.end_lineno + 1)
                counted.update(dict.fromkeys(own, decorator.lineno))
            for line in range(first, max(first, last) + 1):
                counted[line] = max(counted.get(line, 0), first)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for line in range(node.lineno, node.end_lineno + 1):
                counted.pop(line, None)
    return counted


@pytest.mark.slow
def test_it_agrees_with_coverage(tmp_path, python):
    """Against the package `coverage` in an environment of its own: the same lines ran and the same did not."""
    venv, root = tmp_path / "venv", tmp_path / "project"
    root.mkdir()
    subprocess.run([python, "-m", "venv", str(venv)], check=True, capture_output=True)
    own = str(venv / "bin" / "python")
    pip = [own, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "coverage"]
    done = subprocess.run(pip, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (
        f"coverage cannot be installed; this test needs a package index\n{done.stderr}"
    )
    project(root, python)
    ours = found_by_us(root, tmp_path / "notes", own)

    (root / "rc").write_text("[run]\npatch = subprocess\nparallel = true\nsource = .\n")
    for words in (("run", "main.py"), ("combine", "-q"), ("json", "-q", "-o", "it.json")):
        command = [own, "-m", "coverage", words[0], "--rcfile=rc", *words[1:]]
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    theirs = json.loads((root / "it.json").read_text())["files"]
    for path, (lines, ran) in ours.items():
        executed, missing = (set(theirs[path][name]) for name in ("executed_lines", "missing_lines"))
        assert len(executed) > 40 and len(missing) > 3
        # On every line that both count, they agree.
        both = lines & (executed | missing)
        assert ran & both == executed & both
        # And what only one of them counts belongs to a statement that both do.
        counted = first_lines((root / path).read_text())
        assert {counted[line] for line in ran if line in counted} == executed, path
        assert {counted[line] for line in lines if line in counted} == executed | missing, path
