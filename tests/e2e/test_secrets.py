"""A whole run in a repository full of secrets: none is in anything that pool wrote, showed or sent."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import socket
import string
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CALC, FIX, TEST_CALC, Pool, call, reply

TOKEN = "ghp_" + "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=36))
KEY = "canary-Key-31337"
MINE = "ACME-4711"
#: What nobody takes for a secret: it shows that the same texts do reach all the places looked at.
PLAIN = "canary-plain-text"

FILES = {
    "calc.py": CALC,
    "test_calc.py": TEST_CALC,
    "settings.py": f'PLAIN = "{PLAIN}"\nGITHUB = "{TOKEN}"\nSERVER = "{KEY}"\nMINE = "{MINE}"\n',
}
ENCODED = base64.b64encode(KEY.encode()).decode()

STEPS = (
    reply("", call("read", path="settings.py")),
    reply(
        "",
        call(
            "shell",
            command=f"cat settings.py; echo {ENCODED[:8]}''{ENCODED[8:]}; yes 'x' | head -40000; cat settings.py",
        ),
    ),
    reply("", call("edit", path="settings.py", old='GITHUB = "[redacted: GitHub token]"', new='GITHUB = ""')),
    reply("", call("write", path="new.py", content='A = "[redacted: API key]"\n')),
    reply("The sign is wrong.", call("edit", **FIX)),
    reply("Done."),
)


def everything(pool: Pool) -> bytes:
    """All bytes below the state folder."""
    return b"\n".join(path.read_bytes() for path in sorted(pool.state.rglob("*")) if path.is_file())


@pytest.fixture
def secretive(make_pool: Callable[[dict[str, str]], Pool]) -> Pool:
    pool = make_pool(FILES)
    pool.env = {"POOL_API_KEY": KEY}
    (pool.home / ".config" / "pool").mkdir(parents=True)
    (pool.home / ".config" / "pool" / "config.toml").write_text(f"redact = ['{MINE[:5]}\\d+']\n")
    return pool


def test_no_secret_is_written_shown_or_sent(secretive: Pool) -> None:
    done = secretive.do("Fix add", "--json", replies=STEPS)
    assert done.returncode == 0, done.stderr
    results = [e["data"]["text"] for e in secretive.events() if e["type"] == "tool.done"]
    seen = (everything(secretive) + done.stdout.encode() + done.stderr.encode()).decode("utf-8", "replace")
    for secret in (TOKEN, KEY, MINE, ENCODED):
        assert secret not in seen, secret
    assert PLAIN in results[0] and PLAIN in results[1]
    assert results[0].count("[redacted: ") == 3
    (output,) = [p for p in secretive.runs()[-1].glob("outputs/*") if PLAIN.encode() in p.read_bytes()]
    assert output.stat().st_size > 80_000
    # A placeholder is refused where it would be written into a file; the work goes on.
    assert results[2].startswith("error: old holds [redacted: GitHub token]")
    assert results[3].startswith("error: content holds [redacted: API key]")
    assert TOKEN in (secretive.repo / "settings.py").read_text()


def test_a_patch_is_never_altered_but_pointed_at(secretive: Pool) -> None:
    made = f"printf 'T = \"%s%s\"\\n' ghp_ {TOKEN[4:]} > made.py"
    replies = (reply("", call("edit", **FIX), call("shell", command=made)), reply("Done."))
    done = secretive.do("Fix add", replies=replies)
    assert done.returncode == 0, done.stdout + done.stderr
    patch = (secretive.runs()[-1] / "patch.diff").read_text()
    assert TOKEN in patch
    (notice,) = [e["data"]["text"] for e in secretive.events() if e["data"].get("code") == "secret-in-patch"]
    assert "made.py:1 (GitHub token)" in notice and TOKEN not in notice


def test_secrets_are_not_read_unasked(make_pool: Callable[[dict[str, str]], Pool]) -> None:
    files = {".env": f"X={PLAIN}\n", "id_rsa": PLAIN, "cert.pem": PLAIN, "README.md": "# canary-readme\n"}
    pool = make_pool({"calc.py": CALC, "test_calc.py": TEST_CALC, **files})
    (pool.repo / ".env.local").write_text(f"Y={PLAIN}\n")
    assert pool.do("Fix add", replies=(reply("", call("edit", **FIX)), reply("Done."))).returncode == 0
    log = json.dumps(pool.events())
    assert PLAIN not in log and "calc.py" in log


def modes(folder: Path) -> dict[str, str]:
    """Everything below the folder that somebody else may touch."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        if not path.is_symlink() and (mode := path.stat().st_mode & 0o777) & 0o077:
            found[str(path.relative_to(folder))] = oct(mode)
    return found


def test_state_is_private_whatever_the_umask(pool: Pool) -> None:
    # Made before by something else, open to all.
    (pool.state / "odd").mkdir(parents=True)
    pool.state.chmod(0o777)
    before = os.umask(0)
    try:
        (pool.home / "control").write_text("x")
        assert pool.do("Fix add").returncode == 0
        assert pool("log").returncode == 0
    finally:
        os.umask(before)
    (pool.state / "odd").rmdir()
    assert modes(pool.home)["control"] == "0o666"
    open_to_others = {p: m for p, m in modes(pool.state).items() if "/git/" not in p}
    assert open_to_others == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
@pytest.mark.parametrize("sort", ["folder", "link"])
def test_state_of_somebody_else_is_refused(pool: Pool, sort: str, tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    place.chmod(0o777)
    if sort == "folder":
        os.chown(place, 12345, 12345)
        pool.env = {"POOL_STATE": str(place)}
    else:
        os.symlink(place, tmp_path / "link")
        os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
        pool.env = {"POOL_STATE": str(tmp_path / "link")}
    done = pool.do("Fix add")
    assert done.returncode != 0 and "belongs to another user (uid 12345)" in done.stderr
    assert list(place.iterdir()) == [] and "Traceback" not in done.stderr
    # The control: the same place, one's own.
    os.chown(place, 0, 0)
    pool.env = {"POOL_STATE": str(place)}
    assert pool.do("Fix add").returncode == 0


def test_the_key_is_in_no_words_of_pool(secretive: Pool) -> None:
    """Neither where the configuration is shown, nor in an error, nor in a traceback, nor as an argument."""
    secretive.env |= {"POOL_DEBUG": "1", "POOL_BASE_URL": "http://127.0.0.1:9/v1"}
    said = [
        secretive("config", "show"),
        secretive("config", "show", "--json"),
        secretive("doctor"),
        secretive("do", "x", "--model", "m", "--test", "true"),
        secretive("do", "x", "--test", KEY, "--checks-timeout", KEY),
        secretive("do", "x", "--api-key", "another"),
    ]
    assert all(KEY not in done.stdout + done.stderr for done in said)
    assert said[0].returncode == 0 and "POOL_API_KEY" in said[0].stdout  # it is there, by its origin
    assert said[-1].returncode != 0 and "--api-key" in said[-1].stderr


class Listener:
    """Takes connections, keeps the first bytes of each, and hangs up."""

    def __enter__(self) -> Listener:
        self.got: list[bytes] = []
        self._socket = socket.create_server(("0.0.0.0", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._socket.accept()
                with link:
                    self.got.append(link.recv(65536))
                    link.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_the_key_crosses_no_network_in_clear(pool: Pool) -> None:
    """0.0.0.0 is this machine for the kernel, and no loopback address by its looks."""
    pool.env = {"POOL_API_KEY": KEY}
    with Listener() as server:
        args = ("do", "x", "--test", "true", "--model", "m", "--base-url", f"http://0.0.0.0:{server.port}/v1")
        done = pool(*args)
        assert server.got == [] and done.returncode == 2 and "unencrypted" in done.stderr
        # The control: told to, it does.
        pool(*args, "--allow-insecure")
        assert KEY.encode() in server.got[0]


def test_a_stored_key_goes_to_its_own_server_only(pool: Pool) -> None:
    with Listener() as own, Listener() as other:
        folder = pool.home / ".config" / "pool"
        folder.mkdir(parents=True)
        url = f"http://127.0.0.1:{own.port}/v1"
        (folder / "config.toml").write_text(f'base_url = "{url}"\napi_key = "{KEY}"\nmodel = "m"\n')
        pool.env = {"POOL_BASE_URL": f"http://127.0.0.1:{other.port}/v1"}
        pool("do", "x", "--test", "true")
        assert other.got and KEY.encode() not in b"".join(other.got) and own.got == []
        pool.env = {}
        pool("do", "x", "--test", "true")
        assert KEY.encode() in b"".join(own.got)
