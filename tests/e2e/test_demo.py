"""Point 7: the demonstration model, real inference in a real llama.cpp server that pool starts itself."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tests.e2e.conftest import Pool, make_repo

EXAMPLE = Path(__file__).parents[2] / "examples" / "bugs"
TASK = "The tests fail. Find out why and fix the code."


def test_the_example_goes_from_red_over_red_to_green(tmp_path: Path) -> None:
    folder, home = tmp_path / "bugs", tmp_path / "home"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    pool = Pool(make_repo(folder, {}), home)
    done = pool("do", TASK, "--model", "demo", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [e["data"] for e in pool.events() if e["type"] == "checks.done"]
    assert [r["ok"] for r in runs if r["phase"] == "baseline"] == [False]
    assert any(not r["ok"] for r in runs if r["phase"] == "tool"), "it saw red after an edit"
    assert [r["phase"] for r in runs[-2:]] == ["round", "verdict"] and all(r["ok"] for r in runs[-2:])
    result = pool.result()
    assert result["usage"]["cached"] > result["usage"]["prompt"] // 2  # the server's prefix cache held
    assert "demonstration model" in done.stdout


def test_the_server_dies_with_the_run(tmp_path: Path) -> None:
    folder, home = tmp_path / "bugs", tmp_path / "home"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    pool = Pool(make_repo(folder, {}), home)
    assert pool("do", TASK, "--model", "demo", "--max-turns", "1", timeout=300).returncode in (0, 5)
    assert workers(home) == set()


def workers(home: Path) -> set[str]:
    """Process numbers of the llama.cpp workers that were started with this HOME."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            mine = f"HOME={home}".encode() in (entry.parent / "environ").read_bytes().split(b"\0")
            if mine and "llama_worker" in entry.read_text():
                found.add(entry.parent.name)
    return found
