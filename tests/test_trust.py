"""Trust: nothing of a project's folder counts before a person trusted these bytes, and no trick reads others."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import config, trust
from poolcli.trust import digest, look, read

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    return tmp_path / "home"


@pytest.fixture
def repo(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "repo", **files: str) -> Path:
        folder = tmp_path / name / ".pool"
        for file, text in ({"config.toml": "max_turns = 5\n"} | files).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        return tmp_path / name

    return make


def test_without_a_folder_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert look(tmp_path) == trust.Project("none")
    (tmp_path / ".pool").mkdir()
    assert look(tmp_path).state == "none"


def test_nothing_counts_before_it_is_trusted(repo: Callable[..., Path]) -> None:
    top = repo()
    assert look(top).state == "new" and look(top).files == {} and "pool trust" in look(top).why
    settings = config.load(top, environ={})
    assert settings.max_turns == 50 and any("pool trust" in line for line in settings.notices)
    trust.trust(top, read(top))
    assert look(top) == trust.Project("trusted", {"config.toml": b"max_turns = 5\n"})
    settings = config.load(top, environ={})
    assert settings.max_turns == 5 and settings.notices == ()


def test_a_change_is_untrusted_until_it_is_confirmed(repo: Callable[..., Path]) -> None:
    top = repo(**{"prompts/a.md": "hello\n"})
    trust.trust(top, read(top))
    for change in (
        lambda: (top / ".pool/config.toml").write_text("max_turns = 6\n"),
        lambda: (top / ".pool/hook").write_text("touch PWN"),
        lambda: (top / ".pool/prompts/a.md").unlink(),
        lambda: (top / ".pool/config.toml").rename(top / ".pool/other.toml"),
    ):
        change()
        found = look(top)
        assert found.state == "changed" and found.files == {} and "changed" in found.why
        assert config.load(top, environ={}).max_turns == 50
        trust.trust(top, read(top))
        assert look(top).state == "trusted"
    assert trust.revoke(top) and look(top).state == "new" and not trust.revoke(top)


def test_trust_is_of_one_folder(repo: Callable[..., Path], tmp_path: Path) -> None:
    one, other = repo("one"), repo("other")
    trust.trust(one, read(one))
    assert look(other).state == "new"
    trust.record(other).write_bytes(trust.record(one).read_bytes())  # copied: still the other one's
    assert look(other).state == "new"
    (tmp_path / "link").symlink_to(one)
    assert look(tmp_path / "link").state == "trusted"  # the same real folder


def test_once_for_a_flag(repo: Callable[..., Path]) -> None:
    top = repo()
    assert config.load(top, flags={"trust_project": True}, environ={}).max_turns == 5
    assert config.load(top, flags={"trust_project": False}, environ={}).max_turns == 50
    assert look(top).state == "new"


def test_what_is_trusted_can_still_not_loosen_anything(repo: Callable[..., Path]) -> None:
    top = repo(**{"config.toml": (
        'base_url = "http://127.0.0.1:1/v1"\nmode = "auto"\nallow_net = ["evil.example"]\n'
        '[policy]\nallow = ["shell"]\nask = ["edit:x"]\ndeny = [\n  "shell:git push",\n]\n'
    )})  # fmt: skip
    trust.trust(top, read(top))
    settings = config.load(top, environ={})
    assert settings.base_url == "" and settings.mode == "" and settings.allow_net == ()
    assert [(str(one), one.where) for one in settings.policy] == [
        ("ask edit:x", ".pool/config.toml:6"),
        ("deny shell:git push", ".pool/config.toml:8"),
    ]
    said = " ".join(settings.notices)
    assert "`allow` is ignored" in said and "`base_url` is ignored" in said and "`mode` is ignored" in said


def test_rules_of_all_places_add_up(repo: Callable[..., Path], home: Path) -> None:
    user = home / ".config" / "pool" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('[policy]\nallow = ["shell:ls *"]\n')
    top = repo(**{"config.toml": '[policy]\ndeny = ["shell:ls -R"]\n'})
    trust.trust(top, read(top))
    settings = config.load(top, flags={"policy": {"ask": ["edit"]}}, environ={})
    assert [(one.verdict, one.where) for one in settings.policy] == [
        ("allow", "~/.config/pool/config.toml:2"),
        ("deny", ".pool/config.toml:2"),
        ("ask", "--ask"),
    ]


CANARY = "s3cret-canary"


@pytest.mark.parametrize("trick", ["link to a file", "link to a device", "link to a folder", "pipe", "folder is a link",
                                   "folder is a file", "too large", "too many", "too deep", "socket"])  # fmt: skip
def test_tricks_with_files(trick: str, repo: Callable[..., Path], tmp_path: Path) -> None:
    top = repo()
    folder = top / ".pool"
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.toml").write_text("max_turns = 7\n")
    match trick:
        case "link to a file":
            (folder / "config.toml").unlink()
            (folder / "config.toml").symlink_to(tmp_path / "secret")
            assert (folder / "config.toml").read_text() == CANARY  # the control
        case "link to a device":
            (folder / "x").symlink_to("/dev/zero")
        case "link to a folder":
            (folder / "x").symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(folder / "x")
        case "folder is a link":
            (folder / "config.toml").unlink()
            folder.rmdir()
            folder.symlink_to(tmp_path / "elsewhere")
        case "folder is a file":
            (folder / "config.toml").unlink()
            folder.rmdir()
            folder.write_text("x")
        case "too large":
            with (folder / "x").open("wb") as file:
                file.truncate(100_000_000_000)
        case "too many":
            for number in range(trust.FILES + 1):
                (folder / str(number)).touch()
        case "too deep":
            (folder / "a/b/c/d/e").mkdir(parents=True)
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as server:
                os.chdir(folder)
                server.bind("x")
                os.chdir(ROOT)
    found = look(top)
    assert found.state == "unusable" and found.files == {} and CANARY not in found.why
    assert look(top, accept=True).state == "unusable"
    assert config.load(top, environ={}).max_turns == 50
    with pytest.raises(trust.Unusable):
        read(top)


def test_what_was_compared_is_what_is_used(repo: Callable[..., Path]) -> None:
    """A file that flips between a trusted and an evil form while it is read never gives the evil one."""
    top = repo()
    trust.trust(top, read(top))
    path, beside = top / ".pool" / "config.toml", top / "beside"
    program = (
        "import sys\nfrom pathlib import Path\npath, beside = map(Path, sys.argv[1:])\nwhile True:\n"
        "    for text in ('max_turns = 5\\n', 'max_turns = 6\\n'):\n"
        "        beside.write_text(text); beside.replace(path)\n"
    )
    flips = subprocess.Popen([sys.executable, "-c", program, str(path), str(beside)])
    try:
        end = time.monotonic() + 20
        while "6" not in path.read_text():  # the control: it does flip
            assert time.monotonic() < end
        seen = {config.load(top, environ={}).max_turns for _ in range(400)}
    finally:
        flips.kill()
        flips.wait()
    assert seen == {5, 50}


def test_unsafe_texts_in_a_trusted_file(repo: Callable[..., Path]) -> None:
    for text in (
        "x = " + "[" * 100_000,
        "a." * 5000 + "b = 1",
        "max_turns = 1\nmax_turns = 2\n",
        "test = '\\",
    ):
        top = repo(**{"config.toml": text})
        trust.trust(top, read(top))
        with pytest.raises(config.ConfigError):
            config.load(top, environ={})


def test_the_record_is_for_its_user_alone_and_a_damaged_one_trusts_nothing(repo: Callable[..., Path]) -> None:
    top = repo()
    trust.trust(top, read(top))
    path = trust.record(top)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    whole = path.read_text()
    assert "max_turns" not in whole  # kept as bytes
    evil = json.loads(whole) | {"digest": digest({"config.toml": b"max_turns = 6\n"})}
    (top / ".pool" / "config.toml").write_text("max_turns = 6\n")
    for damaged in (json.dumps(evil), whole[:-9], "", "[]", "{}", '{"path": 1, "files": 3}', "[" * 100_000):
        path.write_text(damaged)
        assert look(top).state in ("new", "changed"), damaged[:20]


FILES = st.dictionaries(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), st.binary()
)


@given(FILES, FILES)
def test_two_sets_of_files_have_two_digests(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@given(FILES, FILES)
def test_every_change_is_in_the_difference(before: dict[str, bytes], now: dict[str, bytes]) -> None:
    rows = list(trust.difference(before, now))
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    assert sum(row.startswith(".pool/") and row.endswith(" bytes)") for row in rows) >= len(changed)
    assert bool(rows) == bool(changed)
