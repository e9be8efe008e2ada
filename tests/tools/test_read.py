"""read: lines with numbers, bounded, from anything that can lie at a path."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.tools import read
from poolcli.tools.base import ToolError
from poolcli.tools.read import numbered


def test_lines_are_numbered():
    assert numbered("a\n\nb\n") == "1\ta\n2\t\n3\tb"
    assert numbered("a\r\nb") == "1\ta\n2\tb"
    assert numbered("") == "(the file is empty)"


def test_a_part_says_how_to_read_on():
    text = "".join(f"line {n}\n" for n in range(1, 11))
    assert numbered(text, 3, 2) == "3\tline 3\n4\tline 4\n… 6 more lines; read on with offset=5"
    assert numbered(text, 9, 2) == "9\tline 9\n10\tline 10"


def test_past_the_end_says_where_the_end_is():
    with pytest.raises(ToolError, match=r"f\.py has only 2 lines; offset 3 is past its end"):
        numbered("a\nb\n", 3, name="f.py")


def followed(text, limit):
    """All lines that one gets by reading on as told."""
    lines, offset = [], 1
    while offset:
        shown = numbered(text, offset, limit).split("\n")
        offset = int(shown.pop().partition("offset=")[2]) if shown[-1].startswith("… ") else 0
        lines += [line.partition("\t")[2] for line in shown]
    return lines


@given(st.lists(st.text(alphabet="ab\t", max_size=5), min_size=1, max_size=30), st.integers(1, 10))
def test_reading_on_gives_every_line_once(lines, limit):
    assert followed("\n".join(lines) + "\n", limit) == lines


def test_long_lines_and_many_characters_are_bounded(call, root):
    (root / "min.js").write_text("x" * 50_000 + "\nend\n")
    shown = call("read", path="min.js").text
    assert "48000 more characters in this line" in shown and shown.endswith("2\tend")
    (root / "wide.txt").write_text(("y" * 500 + "\n") * 300)
    shown = call("read", path="wide.txt").text
    assert len(shown) < 20_000 and shown.endswith("read on with offset=38")


@pytest.mark.parametrize("offset", [1, 2, 99_999, 170_000, 199_999, 200_000])
def test_large_files_read_as_small_ones(call, root, offset):
    text = "".join(f"{n:040}\n" for n in range(1, 200_001))
    assert len(text) > read.HELD
    (root / "big.txt").write_text(text)
    assert call("read", path="big.txt", offset=offset, limit=3).text == numbered(text, offset, 3)


def test_past_the_end_of_a_large_file(call, root):
    (root / "big.txt").write_text("line\n" * 1_000_000)
    with pytest.raises(ToolError, match="has only 1000000 lines"):
        call("read", path="big.txt", offset=1_000_001)


def test_a_large_file_of_one_line(call, root):
    (root / "one.txt").write_text("z" * (read.HELD + 10))
    shown = call("read", path="one.txt").text
    assert shown.startswith("1\tzzz") and len(shown) < 20_000


def test_invalid_utf8_is_shown_and_said(call, root):
    (root / "latin.txt").write_bytes("größe\n".encode("latin-1"))
    shown = call("read", path="latin.txt").text
    assert shown.startswith("1\tgr\N{REPLACEMENT CHARACTER}") and "not valid UTF-8" in shown


def test_marks_and_utf16_are_understood(call, root):
    (root / "bom.txt").write_bytes(b"\xef\xbb\xbfx\n")
    (root / "wide.txt").write_bytes("\ufeffgrün\n".encode("utf-16-le"))
    assert call("read", path="bom.txt").text == "1\tx"
    assert call("read", path="wide.txt").text == "1\tgrün"


def test_outputs_of_the_run_can_be_read(call, ctx):
    (ctx.outputs / "shell-1.txt").write_text("whole\n")
    assert call("read", path="@output/shell-1.txt").text == "1\twhole"


@pytest.mark.parametrize("name", ["", "../repo/secret", "..", "a/b", ".hidden", "link", "shell-2.txt"])
def test_outputs_are_no_way_out(call, ctx, root, name):
    (root / "secret").write_text("secret\n")
    (ctx.outputs / "link").symlink_to(root / "secret")
    (ctx.outputs / ".hidden").write_text("hidden\n")
    with pytest.raises(ToolError):
        call("read", path=f"@output/{name}")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("folder", "folder is a folder; list shows what is in it"),
        ("pipe", "pipe is not a regular file (a named pipe)"),
        ("logo.png", "logo.png is a binary file (5 bytes); read shows text only"),
        ("folder/x.py", "there is no file folder/x.py; did you mean folder/y.py?"),
        ("/etc/passwd", "/etc/passwd is outside the repository; give a path relative to the repository root"),
        ("away", "away is a link that leads outside the repository; it is not followed"),
        ("loop", None),
    ],
)
def test_what_cannot_be_read(call, root, path, said):
    (root / "folder").mkdir()
    (root / "folder" / "y.py").touch()
    (root / "logo.png").write_bytes(b"\x89PN\0G")
    (root / "away").symlink_to("/etc/passwd")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError) as error:
        call("read", path=path)
    assert said is None or str(error.value) == said
