"""Runs an instance's tests in this process and gives pool's own evidence for them, in about a millisecond.

The output is the real runner's; only the process is saved. `tests/training` compares it with
`python3 -m unittest` in a real folder.
"""

from __future__ import annotations

import io
import linecache
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from poolcli.verdict.evidence import Report, condense
from poolcli.verdict.finder import Checks
from poolcli.verdict.runner import round_message, section

#: The folder that the files seem to lie in.
ROOT = "/instance"
CHECKS = Checks("python3 -m unittest", "found", "")


def _load(name: str, source: str) -> ModuleType:
    path = f"{ROOT}/{name}.py"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def _in_a_process(files: Mapping[str, str]) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        command = [sys.executable, "-m", "unittest"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    return condense(done.stdout, root=folder, exit_code=done.returncode)


def run_checks(files: Mapping[str, str], module: str, test: str) -> Report:
    """What the checks report on these two files."""
    names = [module.removesuffix(".py"), test.removesuffix(".py")]
    out = io.StringIO()
    try:
        try:
            _load(names[0], files[module])
            suite = unittest.defaultTestLoader.loadTestsFromModule(_load(names[1], files[test]))
        except Exception:  # a module that cannot be imported: rare, so the slow way will do
            return _in_a_process(files)
        result = unittest.TextTestRunner(out).run(suite)
    finally:
        for name in names:
            sys.modules.pop(name, None)
            linecache.cache.pop(f"{ROOT}/{name}.py", None)
    return condense(out.getvalue(), root=ROOT, exit_code=0 if result.wasSuccessful() else 1)


def first_message(report: Report, task: str) -> dict[str, str]:
    """The part of pool's first message that the template lets through."""
    return {"role": "user", "content": f"{section(CHECKS, report)}\n\n<task>\n{task}\n</task>"}


def still_failing(report: Report) -> dict[str, str]:
    """What pool says when the model believes that it is done and the checks fail."""
    return {"role": "user", "content": round_message(CHECKS, report)}
