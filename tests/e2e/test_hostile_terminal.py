"""Real commands at a real terminal, in a repository of hostile names with a hostile model and a hostile server:
no byte that a terminal acts on reaches it but those that pool itself writes."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pexpect
import pytest

from tests.e2e.conftest import FIX, Pool, call, git, reply

TITLE = "\x1b]0;PWNED\x07"
#: One of each kind; those with a NUL or a lone surrogate can't be in names.
EVIL = f"{TITLE}\x1b[2J\x9b1A\x9d0;PWNED\x9c\x1b[8mX\x1b]52;c;UFdORUQ=\x1b\\\x1bP1$r\x1b\\\x08\x7f\u202e\u200b\x0e\x05"

#: What pool writes itself: colours (but not the invisible one), rows erased and gone up to, cursor, updates.
OURS = re.compile(
    r"\x1b\[(?:(?:0|1|2|3|4|7|9|2[0-9]|3[0-9]|4[0-9]|9[0-7]|10[0-7]|;|5;\d+)*m|\d*A|K|J|\?25[lh]|\?2026[lh])|\r?\n|\r(?=\x1b)|\r"
)
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def test_the_check_itself_finds_each_of_them() -> None:
    for piece in (
        TITLE,
        "\x1b[2J",
        "\x1b[8mX",
        "\x9b1A",
        "\x9c",
        "\x08",
        "\x7f",
        "\u202e",
        "\u200b",
        "\x0e",
        "\x05",
        "\x1bP",
        "\x1b[1;1H",
    ):
        assert bad(f"shown {piece} text"), piece
    assert not bad("\x1b[?2026h\r\x1b[2A\x1b[1;38;5;3mgood\x1b[0m\x1b[K\r\n")


def bad(raw: str) -> str:
    """What a terminal would act on and pool never writes; '' when there is nothing."""
    found = FORBIDDEN.search(OURS.sub("", raw))
    return raw[:10] + "…" + OURS.sub("", raw)[max(found.start() - 40, 0) : found.end() + 40] if found else ""


def at_terminal(pool: Pool, *args: str, answers: str = "", columns: int = 100, **env: str) -> str:
    """All that a command writes to its terminal."""
    command = pool.argv(*args)
    child = pexpect.spawn(
        command[0],
        command[1:],
        cwd=str(pool.repo),
        env={**pool.environment(), "TERM": "xterm-256color", **env},
        dimensions=(30, columns),
        encoding="utf-8",
        codec_errors="surrogateescape",
        timeout=90,
        echo=False,
    )
    if answers:
        child.send(answers)
    child.expect(pexpect.EOF)
    child.close()
    raw: str = child.before or ""
    assert raw and "Traceback" not in raw, raw
    assert not bad(raw), f"{args}: {bad(raw)!r}"
    return raw


@pytest.fixture
def hostile(pool: Pool) -> Pool:
    """Hostile names, contents, commit messages, branch and configuration."""
    (pool.repo / f"a{EVIL}.txt").write_text(f"content {EVIL}\n")
    (pool.repo / "x\n[approved] y.txt").write_text("x\n")
    (pool.repo / f"dir{TITLE}").mkdir()
    (pool.repo / f"dir{TITLE}" / "AGENTS.md").write_text(f"do as I say {EVIL}\n")
    (pool.repo / "AGENTS.md").write_text(f"do as I say {EVIL}\n")
    git(pool.repo, "add", "-A")
    git(pool.repo, "commit", "-q", "-m", f"message {EVIL}")
    git(pool.repo, "checkout", "-q", "-b", "branch-\u009b1A-\u202e-\u200b")
    (pool.repo / ".pool").mkdir()
    key = json.dumps(f"key{TITLE}\u009b1A")
    url = json.dumps(f"http://{TITLE}\u009b1A")
    (pool.repo / ".pool/config.toml").write_text(f"{key} = 1\nbase_url = {url}\n")
    (pool.repo / f"dirty{EVIL}").write_text("uncommitted\n")
    return pool


def replies() -> tuple[dict[str, object], ...]:
    return (
        reply(f"I {EVIL} think\n\x1b[1A\x1b[2Kfake line", call("read", path=f"a{EVIL}.txt")),
        reply("", call(f"no{TITLE}tool", path="x"), call("read", path=f"missing{EVIL}")),
        reply("", call("list"), call("search", pattern="content"), call("search", pattern=f"({EVIL}")),
        reply("", call("write", path=f"new{EVIL}\nname.txt", content=f"line {EVIL}\rhidden\n")),
        reply(
            "", call("shell", command=f"printf '\\033]0;PWNED\\007\\233' ; echo 'rm -rf x\rls' ; true {EVIL}")
        ),
        reply("", call("shell", command=f"cat a*; exit 3 # {EVIL}")),
        reply("", call("edit", **FIX)),
        reply(f"done {EVIL} \x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\"),
    )


def test_a_run_and_what_is_said_of_it(hostile: Pool) -> None:
    model = hostile.scripted(*replies())
    live = at_terminal(hostile, "do", f"fix it {EVIL}", "--model", model)
    assert "fake line" in live  # the words are there, on a row of their own
    assert "rm -rf x ls" in live  # a carriage return hides nothing of a command
    at_terminal(hostile, "do", "fix it", "--model", model, "--plain")
    at_terminal(hostile, "do", "fix it", "--model", model, "--json")
    for args in (
        ["log"], ["log", "--json"], ["show"], ["show", "--plain"], ["show", "--json"], ["diff"], ["checks"],
        ["checks", "--json"], ["config", "show"], ["config", "show", "--json"], ["doctor"], ["apply"], ["discard"],
    ):  # fmt: skip
        at_terminal(hostile, *args)


def test_a_patch_is_shown_at_a_terminal_and_exact_in_a_pipe(hostile: Pool) -> None:
    hostile.do("fix it", replies=replies())
    assert "line \\x1b]0;PWNED\\x07" in at_terminal(hostile, "diff")
    piped = subprocess.run(
        hostile.argv("diff"), cwd=hostile.repo, env=hostile.environment(), capture_output=True
    )
    assert piped.stdout == (hostile.runs()[-1] / "patch.diff").read_bytes()


def test_errors_name_what_was_typed(hostile: Pool) -> None:
    for args in (
        ["show", f"run{EVIL}"], ["do", "x", "--model", f"scripted:{EVIL}"], ["do", "x", "--base-url", f"http://{EVIL}"],
        [f"command{EVIL}"], ["do", "x", f"--option{EVIL}"], ["do", "x", "--max-turns", EVIL], ["apply", EVIL],
        ["models", "use", f"name{EVIL}"], ["do", "x", "y", EVIL], ["config", "set", EVIL, "x"],
        ["do", "--file", f"f{EVIL}"],
    ):  # fmt: skip
        at_terminal(hostile, *args)


@pytest.fixture
def server() -> Iterator[str]:
    """A server whose every answer is hostile."""

    class Hostile(BaseHTTPRequestHandler):
        def answer(self) -> None:
            models = {
                "object": "list",
                "data": [{"id": f"model{EVIL}", "owned_by": EVIL}, {"id": f"b{EVIL}"}],
            }
            good = self.command == "GET" and self.path.endswith("/models")
            body = json.dumps(
                models if good else {"error": {"message": f"refused {EVIL}", "type": EVIL}}
            ).encode()
            self.send_response(200 if good else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Server", "x\x1b]0;PWNED\x07")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer()

        def log_message(self, format: str, *args: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}/v1"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_hostile_server(hostile: Pool, server: str, tmp_path: Path) -> None:
    for args in (["models"], ["models", "--json"], ["doctor"]):
        at_terminal(hostile, *args, POOL_BASE_URL=server)
    at_terminal(hostile, "models", "use", server, answers="1\n")
    at_terminal(hostile, "models", "use", server, f"model{EVIL}")
    at_terminal(hostile, "do", "fix it", "--base-url", server, "--model", f"model{EVIL}")
    at_terminal(hostile, "do", "fix it", "--base-url", server)


def test_at_a_narrow_terminal(hostile: Pool) -> None:
    at_terminal(hostile, "do", "fix it", "--model", hostile.scripted(*replies()), columns=20)
