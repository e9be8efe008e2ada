"""Start-up is a feature: what each command may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Each costs 10 ms of CPU or more, and none is needed before a first request is on its way.
HEAVY = (
    "rich",
    "unidiff",
    "pexpect",
    "git",
    "prompt_toolkit",
    "tiktoken",
    "xllamacpp",
    "pydantic",
    "anyio",
    "httpcore",
    "platformdirs",
)

LIST = """
import sys
sys.argv = ["pool", *sys.argv[1:]]
from poolcli.__main__ import main
try:
    main()
except SystemExit:
    pass
print()
print("MODULES", *sys.modules)
"""


def imported(*args: str, cwd: Path, state: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIST, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(state), "POOL_STATE": str(state / "pool")},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    assert lines, done.stderr
    return set(lines[-1].split())


def test_version_imports_nothing_of_ours_but_itself(tmp_path: Path) -> None:
    found = {m for m in imported("--version", cwd=tmp_path, state=tmp_path) if m.startswith("poolcli")}
    assert found == {"poolcli", "poolcli.__main__"}


@pytest.mark.parametrize("args", [("--help",), ("do", "--help")])
def test_help_imports_no_engine(args: tuple[str, ...], tmp_path: Path) -> None:
    found = imported(*args, cwd=tmp_path, state=tmp_path)
    assert not found & {*HEAVY, "asyncio", "httpx"}
    assert {m for m in found if m.startswith("poolcli")} <= {
        "poolcli",
        "poolcli.__main__",
        "poolcli.cli",
        "poolcli.errors",
    }


def test_do_imports_no_heavy_library(tmp_path: Path) -> None:
    from tests.e2e.conftest import make_repo, reply, script

    repo = make_repo(tmp_path / "repo", {"a.txt": "a\n"})
    (tmp_path / "s.toml").write_text(script(reply("Done.")))
    found = imported(
        "do", "x", "--test", "true", "--model", f"scripted:{tmp_path / 's.toml'}", cwd=repo, state=tmp_path
    )
    assert not found & set(HEAVY)
    assert "httpx" in found  # the run really went as far as a request
