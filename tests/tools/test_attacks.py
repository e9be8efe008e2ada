"""What a hostile model or repository tries with the file tools; where it makes sense, beside what would happen."""

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import socket
import subprocess
import threading
import time

import pytest

from poolcli.tools import files, search
from poolcli.tools.base import ToolError

from .conftest import acall

CANARY = "canary-of-outside"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path.resolve() / "outside"
    folder.mkdir()
    (folder / "secret").write_text(f"{CANARY}\n")
    (folder / "f").write_text(f"needle {CANARY}\n")
    return folder


@pytest.fixture(params=["git", "rg"])
def program(request, monkeypatch, tmp_path):
    """Searching with each program."""
    if request.param == "rg":
        if not shutil.which("rg"):
            pytest.skip("ripgrep is not installed")
        return
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tools))


def untouched(outside):
    return (outside / "secret").read_text() == f"{CANARY}\n" and sorted(os.listdir(outside)) == [
        "f",
        "secret",
    ]


@pytest.mark.parametrize("link", ["relative", "absolute", "folder"])
def test_a_committed_link_that_leads_out(call, root, outside, link):
    target, path = {
        "relative": ("../outside/secret", "link"),
        "absolute": (str(outside / "secret"), "link"),
        "folder": (str(outside), "link/secret"),
    }[link]
    (root / "link").symlink_to(target)
    assert (root / path).read_text() == f"{CANARY}\n"  # the control: a plain open follows it
    for name, args in {
        "read": {},
        "write": {"content": "pwned"},
        "edit": {"old": "canary", "new": "pwned"},
        "list": {},
        "search": {"pattern": "canary"},
    }.items():
        with pytest.raises(ToolError) as error:
            call(name, path=path, **args)
        assert "link" in str(error.value) and CANARY not in str(error.value)
    assert untouched(outside)


def test_a_link_made_by_a_command_and_written_through(call, root, outside):
    assert call("shell", command="ln -s ../outside d").ok
    with pytest.raises(ToolError, match="d is a link that leads there"):
        call("write", path="d/new", content="pwned")
    assert untouched(outside)


def test_a_link_that_stays_inside_is_written_through(call, root):
    (root / "real").mkdir()
    (root / "real/f").write_text("one\n")
    (root / "l").symlink_to("real/f")
    call("edit", path="l", old="one", new="two")
    assert (root / "real/f").read_text() == "two\n" and (root / "l").is_symlink()


SPELLINGS = [
    "../x", "a/../../x", "/etc/passwd", "~/.bashrc", "$HOME/x", "file:///etc/passwd", "a\0/../../x", "./.././x",
    "{root}/../outside/secret", "x" * 5000, "..\\x", "\uff0e\uff0e/x", "{root}-else/x",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_spellings_of_outside(call, root, outside, path):
    path = path.format(root=root)
    before = sorted(os.listdir(root))
    for name, args in {
        "read": {},
        "write": {"content": "pwned"},
        "edit": {"old": "a", "new": "b"},
        "list": {},
        "search": {"pattern": "a"},
    }.items():
        with pytest.raises(ToolError):
            call(name, path=path, **args)
    assert untouched(outside) and sorted(os.listdir(root)) == before


@pytest.mark.parametrize(
    "path",
    [".git/config", ".git", "sub/.git/config", ".GIT/config", ".git /x", ".g\u200cit/config",
     ".git::$INDEX_ALLOCATION/x", "git~1/config",
     ".pool/config.toml", ".POOL/tools/x.toml", "g/config", "p/config.toml"],
)  # fmt: skip
def test_protected_names(call, root, path):
    (root / "sub/.git").mkdir(parents=True)
    (root / "sub/.git/config").write_text("nested\n")
    (root / ".pool").mkdir()
    (root / ".pool/config.toml").write_text("x = 1\n")
    (root / "g").symlink_to(".git")
    (root / "p").symlink_to(".pool")
    config = (root / ".git/config").read_text()
    for name, args in {"write": {"content": "pwned"}, "edit": {"old": "[core]", "new": "pwned"}}.items():
        with pytest.raises(ToolError):
            call(name, path=path, **args)
    assert (root / ".git/config").read_text() == config and (root / ".git").is_dir()
    assert (root / "sub/.git/config").read_text() == "nested\n"
    assert (root / ".pool/config.toml").read_text() == "x = 1\n" and os.listdir(root / ".pool") == [
        "config.toml"
    ]


def test_special_files_end_at_once(call, root, program):
    os.mkfifo(root / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(root / "sock"))
    (root / "zero").symlink_to("/dev/zero")
    (root / "folder").mkdir()
    with open(root / "holes", "wb") as file:
        file.truncate(1 << 40)
    (root / "text").write_text("needle\n")
    for path, said in {
        "pipe": "not a regular file|named pipe",
        "sock": "cannot be opened|a socket",
        "zero": "leads outside",
        "holes": "binary|large",
        "folder": "is a folder",
    }.items():
        for name, args in {"read": {}, "edit": {"old": "a", "new": "b"}, "write": {"content": "x"}}.items():
            with pytest.raises(ToolError, match=said):
                call(name, path=path, **args)
    for path in ("pipe", "sock", "zero"):
        for name, args in {"search": {"pattern": "needle"}, "list": {}}.items():
            with pytest.raises(ToolError):
                call(name, path=path, **args)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert call("search", pattern="needle").text == "text:1: needle"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 200_000  # KB
    assert "pipe" not in call("list").text  # git knows files and links
    server.close()


def test_a_very_large_file_says_how_to_read_a_part(call, root):
    with open(root / "big log", "wb") as file:
        file.write(b"text\n" * 2000)
        file.truncate(files.READABLE + 1)
    with pytest.raises(ToolError, match=r"very large \(200,000,001 bytes\).*head -c 10000 'big log'"):
        call("read", path="big log")


@pytest.fixture
def flipping(root, outside):
    """`d` in the worktree is a folder with `f` and a link to outside by turns."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    if exchange is None:
        pytest.skip("this system cannot exchange two names at one moment")
    (root / "d").mkdir()
    (root / "d/f").write_text("needle inside\n")
    (root / "other").symlink_to(outside)
    names = os.fsencode(root / "d"), os.fsencode(root / "other")
    stop = threading.Event()

    def flip():
        while not stop.wait(0.0001):
            exchange(-100, names[0], -100, names[1], 2)

    thread = threading.Thread(target=flip)
    thread.start()
    yield root / "d"
    stop.set()
    thread.join()


def test_edits_while_a_folder_flips(ctx, flipping, outside):
    async def edits():
        done = turn = 0
        until = time.monotonic() + 60  # patience, should the machine be busy
        while turn < 300 or (not done and time.monotonic() < until):
            turn += 1
            for name, args in {
                "write": {"content": f"needle inside {turn}\n"},
                "edit": {"old": "inside", "new": "within"},
                "read": {},
            }.items():
                try:
                    shown = await acall(ctx, name, path="d/f", **args)
                    assert CANARY not in shown.text
                    done += 1
                except ToolError as error:
                    assert CANARY not in str(error)
        return done

    assert asyncio.run(edits()) and untouched(outside)
    assert (outside / "f").read_text() == f"needle {CANARY}\n"


def test_searches_while_a_folder_flips(ctx, flipping, outside, program):
    """The programs do read outside now and then; what they found there is not passed on."""

    async def searches():
        for _ in range(25):
            for args in ({}, {"path": "d"}, {"path": "d/f"}, {"glob": "*"}):
                try:
                    assert CANARY not in (await acall(ctx, "search", pattern="needle", **args)).text
                except ToolError as error:
                    assert CANARY not in str(error)
            assert "secret" not in (await acall(ctx, "list", depth=3)).text

    asyncio.run(searches())


def test_what_a_program_says_of_outside_is_left_out(ctx, root, outside):
    """The control of the race, made certain: a match in a file that by now is reached through a link."""
    (root / "d").symlink_to(outside)
    (root / "a").write_text("needle\n")
    scope = search._Scope(files.locate_readable(ctx, "."), "", "")
    said = [
        ("d/f", "1", f"needle {CANARY}"),
        ("a", "1", "needle"),
        ("a", "2", "no such line"),
        ("a", "1", "other"),
    ]
    shown = search._listed(said, scope, more=False)
    assert shown == "a:1: needle\n(3 matches left out: their files changed during the search)"


@pytest.mark.parametrize(
    "pattern", ["--pre=./x.sh", "--files", "-f/etc/passwd", "-O./x.sh", "--open-files-in-pager=./x.sh", "-e"]
)
def test_a_pattern_is_no_option(call, root, program, pattern):
    (root / "x.sh").write_text("#!/bin/sh\ntouch PWNED\n")
    (root / "x.sh").chmod(0o755)
    (root / "a").write_text(f"see {pattern} here\n")
    assert call("search", pattern=pattern.replace(".", "\\.")).text.startswith("a:1: see")
    for name in ("glob", "path"):
        with contextlib.suppress(ToolError):
            call("search", pattern="see", **{name: pattern})
    assert not (root / "PWNED").exists()


def test_a_configuration_of_ripgrep_is_not_read(call, root, tmp_path, monkeypatch):
    if not shutil.which("rg"):
        pytest.skip("ripgrep is not installed")
    hook, config = tmp_path / "hook", tmp_path / "ripgreprc"
    hook.write_text(f'#!/bin/sh\ntouch {tmp_path}/PWNED\ncat "$1"\n')
    hook.chmod(0o755)
    config.write_text(f"--pre={hook}\n--follow\n")
    (root / ".ripgreprc").write_text(f"--pre={hook}\n")
    (root / "a").write_text("needle\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(config))
    subprocess.run(["rg", "needle", str(root)], check=True, capture_output=True)
    assert (tmp_path / "PWNED").exists()  # the control
    (tmp_path / "PWNED").unlink()
    assert call("search", pattern="needle", path="a").text == "a:1: needle"
    assert not (tmp_path / "PWNED").exists()


def test_programs_planted_in_the_worktree_are_not_run(call, root, monkeypatch, program):
    for folder in (root, root / "node_modules/.bin"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("rg", "git"):
            (folder / name).write_text(f"#!/bin/sh\n: > {root}/PWNED\n")
            (folder / name).chmod(0o755)
    (root / "a").write_text("needle\n")
    monkeypatch.chdir(root)
    path = os.environ["PATH"]
    for first in (".", "node_modules/.bin", str(root), f"{root}/../repo/node_modules/.bin"):
        monkeypatch.setenv("PATH", f"{first}:{path}")
        subprocess.run(["git"], cwd=root, check=True)
        assert (root / "PWNED").exists()  # the control: a search of PATH finds it
        (root / "PWNED").unlink()
        assert "a:1: needle" in call("search", pattern="needle").text
        assert "a\n" in call("list").text
        assert not (root / "PWNED").exists()


def test_circles_of_links_and_wide_globs_end(call, root, program):
    (root / "x").mkdir()
    (root / "x/loop").symlink_to("..")
    (root / "x/self").symlink_to("self")
    (root / "x/etc").symlink_to("/etc")
    (root / "x/a.py").write_text("needle root\n")
    for glob in ("", "**/**/**/**", "**/**/**/*.py", "*", "{*,*}" * 8):
        shown = call("search", pattern="needle|root", glob=glob).text
        assert "/etc" not in shown and shown.count("needle") <= 1
    assert call("list", depth=50).text.splitlines() == ["x/a.py", "x/etc", "x/loop", "x/self"]
    with pytest.raises(ToolError):
        call("search", pattern="root", path="/")


def test_an_expression_that_explodes_ends(call, root, program, monkeypatch):
    monkeypatch.setattr(search, "TIMEOUT", 5)
    (root / "a").write_text("a" * 1_000_000 + "!\n")
    try:
        assert len(call("search", pattern="(a+)+$").text) < 1000
    except ToolError as error:
        assert "search" in str(error)


def test_a_million_matches_are_few(call, root, program):
    (root / "many").write_text("needle\n" * 1_000_000)
    shown = call("search", pattern="needle").text
    assert len(shown) < 12_000 and "more than" in shown
    assert len(call("read", path="many").text) < 20_000


@pytest.mark.parametrize(
    ("content", "args"),
    [
        (b"a\n", {"old": "", "new": "x"}),
        (b"twice twice\n", {"old": "twice", "new": "x"}),
        (b"a\0b", {"old": "a", "new": "x"}),
        (b"a\n", {"old": "b", "new": "x"}),
    ],
)
def test_edits_that_change_nothing(call, root, content, args):
    (root / "f").write_bytes(content)
    with pytest.raises(ToolError):
        call("edit", path="f", **args)
    assert (root / "f").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "after"),
    [
        (b"one\r\ntwo\r\n", b"one\r\nTWO\r\n"),
        (b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\nTWO\n"),
        ("\ufeffone\ntwo\n".encode("utf-16-le"), "\ufeffone\nTWO\n".encode("utf-16-le")),
        ("\ufeffone\r\ntwo".encode("utf-16-be"), "\ufeffone\r\nTWO".encode("utf-16-be")),
        ("größe\ntwo\n".encode("latin-1"), "größe\nTWO\n".encode("latin-1")),
    ],
)
def test_an_edit_keeps_mode_line_ends_and_encoding(call, root, content, after):
    (root / "f").write_bytes(content)
    (root / "f").chmod(0o751)
    call("edit", path="f", old="two", new="TWO")
    assert (root / "f").read_bytes() == after and (root / "f").stat().st_mode & 0o7777 == 0o751


def test_a_file_of_gigabytes_and_a_folder_are_not_edited(call, root):
    (root / "folder").mkdir()
    with open(root / "big", "wb") as file:
        file.truncate(2 << 30)
    for path, said in (("big", "too large"), ("folder", "is a folder")):
        with pytest.raises(ToolError, match=said):
            call("edit", path=path, old="a", new="b")


@pytest.mark.parametrize("name", ["-n", "-rf", "$(x)", "a b", "\n", "con", "--", "*", ":(top)x", "é"])
def test_odd_names_make_the_round_trip(call, root, name):
    call("write", path=name, content="odd needle\n")
    assert call("read", path=name).text == "1\todd needle"
    call("edit", path=name, old="odd", new="even")
    assert (root / name).read_text() == "even needle\n" and set(os.listdir(root)) == {name, ".git"}
    assert (name if name != "\n" else '"\\n"') in call("list").text and call("list", path=name).text == name
    assert call("search", pattern="needle", path=name).text.endswith("1: even needle") or name == "\n"


def test_a_name_of_two_lines_is_listed_on_one(call, root):
    (root / "x\n[approved] y").touch()
    assert call("list").text == '"x\\n[approved] y"'


def test_a_name_of_256_bytes_is_an_error(call, root):
    with pytest.raises(ToolError, match="too long"):
        call("write", path="n" * 256, content="x")


def test_hard_links_to_outside_keep_their_content(call, root, outside):
    os.link(outside / "secret", root / "hard")
    call("write", path="hard", content="pwned\n")
    assert (root / "hard").read_text() == "pwned\n" and untouched(outside)
