"""Real repositories for tests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

USER = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")


def sh(top: Path, *args: str, input: bytes | None = None, check: bool = True) -> bytes:
    """Run git as the user would, with nothing of this machine's configuration."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(top),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "LC_ALL": "C",
    }
    command = ["git", *USER, "-c", "protocol.file.allow=always", *args]
    done = subprocess.run(command, cwd=top, env=env, input=input, capture_output=True)
    if check and done.returncode:
        raise AssertionError(f"git {args}: {done.stderr.decode()}")
    return done.stdout


def make(top: Path, files: dict[str, str | bytes] | None = None, *init: str) -> Path:
    """A repository with one commit of these files."""
    top.mkdir(parents=True)
    sh(top, "init", "-q", *init)
    put(
        top,
        files
        if files is not None
        else {"a.py": "one\ntwo\nthree\n", "sub/b.py": "b\n", "run.sh": "#!/bin/sh\n"},
    )
    sh(top, "config", "user.name", "Ada")
    sh(top, "config", "user.email", "ada@example.org")
    commit(top)
    return top


def put(top: Path, files: dict[str, str | bytes]) -> None:
    """Write files below `top`, byte for byte."""
    for name, content in files.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def commit(top: Path, message: str = "change") -> str:
    """Commit everything."""
    sh(top, "add", "-A")
    sh(top, "commit", "-q", "--allow-empty", "-m", message)
    return sh(top, "rev-parse", "HEAD").decode().strip()


def content(top: Path) -> dict[str, tuple[str, bytes]]:
    """Every file below `top` but git's: kind (file, run, link) and bytes."""
    found: dict[str, tuple[str, bytes]] = {}
    for place, folders, names in os.walk(top):
        folders[:] = [f for f in folders if f != ".git" and not (Path(place) / f).is_symlink()]
        links = [f for f in (e.name for e in Path(place).iterdir()) if (Path(place) / f).is_symlink()]
        for name in {*names, *links} - {".git"}:
            file = Path(place) / name
            key = file.relative_to(top).as_posix()
            if file.is_symlink():
                found[key] = ("link", os.fsencode(file.readlink()))
            else:
                found[key] = ("run" if file.stat().st_mode & 0o100 else "file", file.read_bytes())
    return found


def private_state(git_dir: Path) -> str:
    """A hash of a .git folder but for what a run may add: worktrees, refs/pool, objects."""
    digest = hashlib.sha256()
    for place, folders, names in os.walk(git_dir):
        relative = Path(place).relative_to(git_dir).as_posix()
        folders[:] = sorted(
            f for f in folders if f"{relative}/{f}" not in ("./worktrees", "./objects", "refs/pool")
        )
        for name in sorted(names):
            file = Path(place) / name
            digest.update(f"{relative}/{name}\0".encode("utf-8", "surrogateescape") + file.read_bytes())
    return digest.hexdigest()


def lock(run_dir: Path) -> int:
    """Hold a run's lock, as a running pool does; close the descriptor to give it back."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file
