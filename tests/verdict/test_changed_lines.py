"""The added lines of a patch, held against git's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolcli.errors import UsageError
from poolcli.verdict.changed_lines import changed_lines

#: Lines that a reader of patches could take for something else.
LINES = [
    "a",
    "",
    "+a",
    "-a",
    "--- a/x",
    "+++ b/x",
    "@@ -1 +1 @@",
    "diff --git a/x b/x",
    "\\ No newline",
    "a\rb",
    "\f",
]


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")


def diff(folder: Path, old: Path, new: Path) -> str:
    done = subprocess.run(
        ["git", "diff", "--no-index", "--no-prefix", old.name, new.name], cwd=folder, capture_output=True
    )
    return done.stdout.decode()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.lists(st.sampled_from(LINES), max_size=12),
    new=st.lists(st.sampled_from(LINES), max_size=12),
    ended=st.booleans(),
)
def test_lines_outside_are_those_that_both_files_have(old, new, ended, tmp_path):
    """What is left of the new file without its added lines is a part of the old one, in its order."""
    before, after = tmp_path / "old", tmp_path / "new"
    before.write_bytes("".join(f"{line}\n" for line in old).encode())
    after.write_bytes(("\n".join(new) + ("\n" if ended and new else "")).encode())
    patch = diff(tmp_path, before, after)
    added = next(iter(changed_lines(patch).values()), frozenset())
    lines = after.read_bytes().decode().split("\n")
    if lines[-1] == "":
        lines.pop()
    assert added <= set(range(1, len(lines) + 1))
    kept = [line for number, line in enumerate(lines, 1) if number not in added]
    rest = iter(old)
    assert all(line in rest for line in kept)
    # git's count is the other witness: no added line is missing.
    numbers = subprocess.run(
        ["git", "diff", "--no-index", "--numstat", "old", "new"], cwd=tmp_path, capture_output=True, text=True
    ).stdout.split()
    assert len(added) == (int(numbers[0]) if numbers else 0)


NAMES = [
    "plain.py",
    "with space.py",
    "ä\tb.py",
    'quo"te.py',
    "deep/er/x.py",
    "b/b.py",
    "back\\slash.py",
    "n\nl.py",
]


def test_names_as_git_quotes_them(tmp_path):
    git(tmp_path, "init", "-q")
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one\ntwo\n")
    (tmp_path / "gone.py").write_text("x\n")
    (tmp_path / "moved.py").write_text("".join(f"{n}\n" for n in range(20)))
    (tmp_path / "picture").write_bytes(b"\0\1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-qm", "one")
    for name in NAMES:
        (tmp_path / name).write_text("one\nnew\nnewer\ntwo\n")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "picture").write_bytes(b"\0\2")
    (tmp_path / "shorter.py").write_text("")
    (tmp_path / "moved.py").rename(tmp_path / "elsewhere.py")
    (tmp_path / "elsewhere.py").write_text("".join(f"{n}\n" for n in range(20)) + "end\n")
    git(tmp_path, "add", "-A")
    found = changed_lines(git(tmp_path, "diff", "--cached", "--binary", "-M"))
    assert found == {**dict.fromkeys(NAMES, frozenset({2, 3})), "elsewhere.py": frozenset({21})}


@pytest.mark.parametrize("text", ["", "\n", "no patch at all\n"])
def test_nothing_changed(text):
    assert changed_lines(text) == {}


def test_a_patch_that_was_cut_off_is_an_error():
    with pytest.raises(UsageError, match="cannot be read"):
        changed_lines("--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@\n one\n")
