"""Real runners on generated projects, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from poolcli.verdict.reports import checked, from_log, read_report
from poolcli.verdict.results import Results
from tests.verdict.installed import installed


class Done(Struct, frozen=True):
    """What a command wrote, and how it ended."""

    root: Path
    output: str
    exit_code: int
    timed_out: bool = False

    def log(self, runner: str) -> Results:
        return from_log(
            runner, self.output, root=str(self.root), exit_code=self.exit_code, timed_out=self.timed_out
        )

    def report(self, kind: str, name: str) -> Results:
        results = read_report(kind, self.root / name, root=str(self.root))
        assert results is not None, self.output
        return checked(results, self.exit_code, self.timed_out)


def run(root: Path, *argv: str, seconds: float = 300, env: Mapping[str, str] | None = None) -> Done:
    """Run it in the folder, both streams into one as a run of the checks has them."""
    if installed(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **(env or {}),
    }
    with (root / ".output").open("wb+") as file:
        process = subprocess.Popen(
            argv,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code, late = process.wait(timeout=seconds), False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # node's runner leaves the file that hangs to itself
            code, late = process.wait(), True
        file.seek(0)
        return Done(root, file.read().decode("utf-8", "replace"), code, late)


def python(root: Path, module: str, *argv: str, seconds: float = 300) -> Done:
    return run(root, sys.executable, "-m", module, *argv, seconds=seconds)


def outcomes(results: Results) -> dict[str, str]:
    return {case.id: case.outcome for case in results.cases.values()}


def counts(results: Results) -> dict[str, int]:
    return dict(Counter(case.outcome for case in results.cases.values()))
