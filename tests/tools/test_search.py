"""search and list: what git knows of, found by git grep and by ripgrep where there is one."""

import os
import shutil
import subprocess

import pytest

from poolcli.tools.base import ToolError
from poolcli.tools.list import condensed

RIPGREP = shutil.which("rg")


@pytest.fixture(params=["git", "rg"], autouse=True)
def program(request, monkeypatch, tmp_path):
    """Each test with both programs: a PATH without ripgrep, and the real one."""
    if request.param == "rg":
        if not RIPGREP:
            pytest.skip("ripgrep is not installed")
        return
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tools))


@pytest.fixture
def tree(root):
    for name, text in {
        "a.py": "import os\ndef add(a, b):\n    return a + b\n",
        "src/b.py": "def add(x):\n    pass\n",
        "src/deep/c.ts": "function add() {}\n",
        "src/deep/we ird:1.py": "add\n",
        "ignored/z.py": "def add\n",
        ".hidden/h.py": "hidden add\n",
        "data.bin": "add\0add\n",
        "min.js": "var x;" * 1000 + "needle" + "var y;" * 1000 + "\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / ".gitignore").write_text("ignored/\n")
    git = ["/usr/bin/env", "PATH=/usr/bin:/bin:" + os.environ["PATH"], "git", "-C", str(root)]
    subprocess.run([*git, "add", "a.py", "src/b.py"], check=True)
    return root


def test_matches_with_file_and_line(call, tree):
    assert call("search", pattern=r"def \w+\(", path=".").text == (
        "a.py:2: def add(a, b):\nsrc/b.py:1: def add(x):"
    )


def test_new_and_hidden_files_are_searched_ignored_and_binary_ones_not(call, tree):
    files = {line.split(":")[0] for line in call("search", pattern="add").text.splitlines()}
    assert files == {".hidden/h.py", "a.py", "src/b.py", "src/deep/c.ts", "src/deep/we ird"}


@pytest.mark.parametrize(
    ("path", "glob", "files"),
    [
        ("src", "", {"src/b.py", "src/deep/c.ts", "src/deep/we ird"}),
        ("src/b.py", "", {"src/b.py"}),
        (".", "*.ts", {"src/deep/c.ts"}),
        (".", "**/*.ts", {"src/deep/c.ts"}),
        ("src", "*.py", {"src/b.py", "src/deep/we ird"}),
        (".", "src/*.py", {"src/b.py"}),
        (".", "src/**/*.ts", {"src/deep/c.ts"}),
        (".", "*.{ts,js}", {"src/deep/c.ts"}),
    ],
)
def test_where_to_search(call, tree, path, glob, files):
    found = call("search", pattern="add", path=path, glob=glob).text.splitlines()
    assert {line.split(":")[0] for line in found} == files


def test_nothing_found_is_said(call, tree):
    done = call("search", pattern="nowhere", path="src", glob="*.py")
    assert done.ok and done.text == "no match for nowhere in src in files like *.py"


def test_a_pattern_is_never_an_option(call, tree):
    (tree / "options.txt").write_text("--files\n-e x\n")
    assert call("search", pattern="--files").text == "options.txt:1: --files"
    assert call("search", pattern="-e x").text == "options.txt:2: -e x"


def test_a_bad_expression_is_explained(call, tree):
    with pytest.raises(ToolError, match="search failed"):
        call("search", pattern="add(")
    with pytest.raises(ToolError, match="one line"):
        call("search", pattern="a\nb")
    with pytest.raises(ToolError, match="empty"):
        call("search", pattern="")


def test_a_missing_path_is_explained(call, tree):
    with pytest.raises(ToolError, match="there is no file scr; did you mean src"):
        call("search", pattern="add", path="scr")
    with pytest.raises(ToolError, match="outside"):
        call("search", pattern="add", path="..")


def test_long_lines_and_many_matches_are_bounded(call, tree):
    assert len(call("search", pattern="needle").text) < 300
    (tree / "many.txt").write_text("needle\n" * 500)
    shown = call("search", pattern="needle", path="many.txt").text.splitlines()
    assert len(shown) == 101 and shown[-1] == "… 400 more matches; narrow the pattern, path or glob"
    (tree / "many.txt").write_text("needle " * 30 + "\n")
    (tree / "more.txt").write_text(("needle " * 30 + "\n") * 20_000)
    shown = call("search", pattern="needle").text
    assert len(shown) < 12_000 and "… more than " in shown and shown.startswith("many.txt:1:")


def test_outputs_of_the_run_can_be_searched(call, ctx, tree):
    (ctx.outputs / "shell-1.txt").write_text("one\ntwo\n")
    assert call("search", pattern="t.o", path="@output/shell-1.txt").text == "@output/shell-1.txt:2: two"
    with pytest.raises(ToolError):
        call("search", pattern="x", path="@output/../repo/a.py")


def test_list_condenses_what_is_deep(call, tree):
    assert call("list").text == (
        ".gitignore\n.hidden/h.py\na.py\ndata.bin\nmin.js\nsrc/b.py\nsrc/deep/ (2 files)"
    )
    assert call("list", depth=1).text.endswith("min.js\nsrc/ (3 files)")
    assert call("list", path="src/deep").text == "src/deep/c.ts\nsrc/deep/we ird:1.py"
    assert call("list", path="a.py").text == "a.py"


def test_list_of_nothing(call, tree):
    assert call("list", path="ignored").text == "no files in ignored (ignored files are not listed)"
    with pytest.raises(ToolError, match="did you mean src"):
        call("list", path="scr")


def test_list_is_bounded(call, tree):
    for n in range(300):
        (tree / f"file-{n:03}").touch()
    shown = call("list").text.splitlines()
    assert len(shown) == 201 and shown[-1].startswith("… 106 more; ")


def test_many_files_in_folders_are_counted_instead():
    names = [f"d{n % 3}/sub/f{n}" for n in range(9)]
    assert condensed(names, "", 1) == ["d0/ (3 files)", "d1/ (3 files)", "d2/ (3 files)"]
    assert condensed(["a/b/c"], "a", 1) == ["a/b/ (1 file)"]


def test_files_of_secrets_are_searched_only_by_their_name(call, root):
    """Whether they match is not told either: the lines could be guessed one character after the other."""
    for name in (".env", "sub/.env.local", "SUB/Server.PEM", ".env.example", "ordinary.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("TOKEN=1\n")
    note = "\n(3 files not searched: the name says that it holds secrets)"
    assert call("search", pattern="TOKEN").text == ".env.example:1: TOKEN=1\nordinary.txt:1: TOKEN=1" + note
    assert call("search", pattern="absent").text == "no match for absent" + note
    assert call("search", pattern="TOKEN", glob="*.txt").text == "ordinary.txt:1: TOKEN=1"
    one = "\n(1 file not searched: the name says that it holds secrets)"
    assert call("search", pattern="TOKEN", path="sub").text == "no match for TOKEN in sub" + one
    assert call("search", pattern="TOKEN", glob="*.local").text.endswith(one)
    assert call("search", pattern="TOKEN", path=".env").text == ".env:1: TOKEN=1"  # policy asks about it
