"""The demonstration: the embedded model repairs a fresh copy of examples/bugs, in view.

Everything is real: llama.cpp serves a small model that was trained for this repository, `pool` runs the tests,
and the exit code says what they said. The copy is left behind so that you can look at it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from poolcli.sandbox import choose

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "examples" / "bugs"
TASK = "The tests fail. Find out why and fix the code."


def step(words: str) -> None:
    """Show a command before it runs."""
    bold, plain = (
        ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    )
    print(f"\n{bold}$ {words}{plain}", flush=True)


def main() -> int:
    """Copy, commit, run, show the patch, land it; returns the exit code of `pool do`."""
    folder = Path(tempfile.mkdtemp(prefix="pool-demo-")) / "bugs"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=demo", "-c", "user.email=demo@localhost", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "A small shop with two bugs"], check=True)
    environment = {
        k: v for k, v in os.environ.items() if k not in ("POOL_MODEL", "POOL_BASE_URL", "POOL_TEST")
    }
    environment.setdefault("POOL_STATE", str(folder.parent / "state"))
    pool = [sys.executable, "-m", "poolcli"]

    # The model and the repository are pool's own, so on a machine without bubblewrap less will do.
    chosen = choose.here("auto", demo=True)
    if chosen.announcement:
        print(chosen.announcement)
    options = ["--model", "demo", "--sandbox", chosen.sandbox.name]
    step(f'pool do "{TASK}" {" ".join(options)}')
    code = subprocess.run([*pool, "do", TASK, *options], cwd=folder, env=environment).returncode
    if code != 0:
        print(f"\nThe run ended with exit code {code}.")
        return code
    step("pool apply")
    subprocess.run([*pool, "apply"], cwd=folder, env=environment, check=True)
    step("git diff --stat && python3 -m unittest")
    subprocess.run([*git, "--no-pager", "diff", "--stat"], check=True)
    code = subprocess.run([sys.executable, "-B", "-m", "unittest", "-q"], cwd=folder).returncode
    print(f"\nThe repaired copy is in {folder}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
