"""The profile for macOS, as text: no Mac was there to run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poolcli.errors import RefusedError
from poolcli.sandbox import Confinement, Overlay, Sandbox, seatbelt

HOME = Path("/Users/ada")
CONFINEMENT = Confinement(
    root=HOME / "state/tree",
    seen=HOME / "state/tree",
    home=HOME / "state/home",
    git_dir=HOME / "state/shadow",
    objects=Path("/Users/ada/code/.git/objects"),
    overlays=(Overlay(HOME / "code/.venv", HOME / "state/tree/.venv", HOME / "state/upper"),),
    readable=(HOME / ".pyenv",),
    writable=(HOME / "state/cache",),
    hidden=(HOME / ".pyenv/secret",),
)


def verdict(text: str, what: str, path: str) -> str:
    """What the profile says of an operation on a path: of all rules that match, the last one counts."""
    found = "deny"
    for rule in re.findall(r"^\((?:[^()\n]|\([^()]*\)|\n)*\)$", text, re.M):
        head, *filters = re.split(r"\n?\s*(?=\((?:subpath|literal) )", rule)
        word, *operations = head.strip("()\n ").split()
        places = [re.match(r'\((subpath|literal) "(.*)"\)', one.strip()) for one in filters]
        matches = not filters or any(
            place
            and (path == place[2] or (place[1] == "subpath" and path.startswith(place[2].rstrip("/") + "/")))
            for place in places
        )
        named = any(
            operation == what or (operation.endswith("*") and what.startswith(operation[:-1]))
            for operation in operations
        )
        if matches and (named or operations == ["default"]):
            found = word
    return found


TEXT = seatbelt.profile(CONFINEMENT, home=HOME, temp=HOME / "state/home/tmp", hidden=(HOME / "state",))


@pytest.mark.parametrize(
    ("what", "path", "expected"),
    [
        ("file-read-data", "/usr/lib/libSystem.dylib", "allow"),
        ("file-read-data", "/Users/ada/.ssh/id_ed25519", "deny"),
        ("file-read-data", "/Users/other/notes", "deny"),
        ("file-read-data", "/Users/ada/state/events.jsonl", "deny"),
        ("file-read-data", "/private/tmp/x", "deny"),
        ("file-read-data", "/Users/ada/.pyenv/bin/python", "allow"),
        ("file-read-data", "/Users/ada/.pyenv/secret/x", "deny"),
        ("file-read-data", "/Users/ada/code/.git/objects/ab/cd", "allow"),
        ("file-read-data", "/Users/ada/code/.git/config", "deny"),
        ("file-read-data", "/Users/ada/code/.venv/bin/python", "allow"),
        ("file-write-create", "/Users/ada/code/.venv/bin/python", "deny"),
        ("file-write-create", "/Users/ada/state/tree/new.py", "allow"),
        ("file-read-data", "/Users/ada/state/tree/new.py", "allow"),
        ("file-write-create", "/Users/ada/state/home/.cache/x", "allow"),
        ("file-write-create", "/Users/ada/state/shadow/index", "allow"),
        ("file-write-create", "/Users/ada/state/cache/x", "allow"),
        ("file-write-create", "/Users/ada/state/treeish/x", "deny"),
        ("file-write-create", "/etc/passwd", "deny"),
        ("file-write-data", "/dev/null", "allow"),
        ("network-outbound", "/var/run/docker.sock", "deny"),
        ("network-bind", "/Users/ada/state/tree/s.sock", "allow"),
        ("mach-lookup", "/", "deny"),
    ],
)
def test_what_the_profile_says(what: str, path: str, expected: str) -> None:
    text = re.sub(r"\(allow mach-lookup .*\n", "", TEXT)  # rules by name, not by path
    assert verdict(text, what, path) == expected


def test_parentheses_are_balanced_and_it_denies_first() -> None:
    assert TEXT.startswith("(version 1)\n(deny default)\n")
    depth = 0
    for letter in re.sub(r'"(?:[^"\\]|\\.)*"', "", TEXT):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0


def test_a_path_cannot_end_its_string() -> None:
    nasty = Path('/Users/ada/x")) (allow default) (subpath "\\')
    text = seatbelt.profile(Confinement(nasty, nasty, nasty), home=HOME, temp=nasty)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert "allow default" not in bare and "allow default" in text
    with pytest.raises(RefusedError):
        seatbelt.quoted("/Users/ada/a\nb")


def test_the_command_and_its_environment(tmp_path: Path) -> None:
    for name in ("tree", "home"):
        (tmp_path / name).mkdir()
    confinement = Confinement(tmp_path / "tree", tmp_path / "tree", tmp_path / "home")
    made = seatbelt.launch(
        Sandbox("seatbelt", "", "/usr/bin/sandbox-exec"),
        ["make", "test"],
        confinement,
        {"XDG_CACHE_HOME": "/x"},
    )
    assert made.argv[:2] == ["/usr/bin/sandbox-exec", "-p"] and made.argv[3:] == ["make", "test"]
    assert made.env["HOME"] == str(tmp_path / "home") and "XDG_CACHE_HOME" not in made.env
    assert made.env["TMPDIR"] == str(tmp_path / "home" / "tmp") and (tmp_path / "home" / "tmp").is_dir()


def test_it_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        seatbelt.launch(Sandbox("seatbelt", ""), ["true"], CONFINEMENT, {})
    wished = Confinement(tmp_path, tmp_path, tmp_path, proxy=tmp_path / "s")
    with pytest.raises(RefusedError):
        seatbelt.launch(Sandbox("seatbelt", "", "/usr/bin/sandbox-exec"), ["true"], wished, {})
