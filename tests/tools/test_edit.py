"""edit: exactly what was asked, and every other byte as it was."""

import os
import stat

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from poolcli.tools import files
from poolcli.tools.base import ToolError
from poolcli.tools.edit import edited_text, replace

FEW = st.text(alphabet="ab \n", max_size=12)


def occurrences(text, old):
    return sum(text.startswith(old, i) for i in range(len(text)))


def landed(*args, **how):
    """What comes of a replacement; nothing where it is refused because its new lines could be meant in two ways."""
    try:
        return replace(*args, **how)
    except ToolError as error:
        assume("not clear" not in str(error) and "would be joined" not in str(error))
        raise


@given(FEW, FEW.filter(bool), FEW, FEW)
def test_unique_text_is_replaced_as_str_replace_does(before, old, after, new):
    text = before + old + after
    assume(occurrences(text, old) == 1 and old != new and text != old.rstrip("\n") + "\n")
    # A last line without its end is a place, too.
    assume(not (old.endswith("\n") and text.endswith(old[:-1])))
    done = landed(text, old, new)
    assert done.text == text.replace(old, new) == before + new + after
    assert done.lines == (before.count("\n") + 1,) and done.note == ""


@given(FEW, FEW.filter(bool), FEW)
def test_all_replaces_as_str_replace_does(text, old, new):
    text += old + "\n"
    assume(text.replace(old, new) != text)
    assert landed(text, old, new, every=True).text == text.replace(old, new)


@given(FEW, FEW.filter(bool), FEW)
@example("aaa", "aa", "b")  # fits in two ways, though str.count says 1
@example("a\nb\na\n", "a\n", "")
def test_text_that_is_not_unique_is_refused_or_the_difference_said(text, old, new):
    assume(occurrences(text, old) != 1 and old != new)
    try:
        done = replace(text, old, new)
    except ToolError:
        return
    assert occurrences(text, old) == 0 and "it differed in" in done.note


@given(FEW, FEW.filter(bool), FEW, FEW)
@example("", "\n", "", "")
def test_a_file_of_crlf_is_edited_as_one_of_lf(before, old, after, new):
    text = before + old + after
    assume("\n" in text and occurrences(text, old) == 1 and old != new)
    crlf = text.replace("\n", "\r\n")
    assert landed(crlf, old, new).text == text.replace(old, new).replace("\n", "\r\n")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_undecodable_bytes_survive(before, after):
    data = before + b"UNIQUE" + after
    assume(not files.is_binary(data) and data.count(b"UNIQUE") == 1)
    assume(not data.startswith((b"\xff\xfe", b"\xfe\xff")))
    decoded = files.decode(data)
    assert files.encode(replace(decoded.text, "UNIQUE", "new").text, decoded) == before + b"new" + after


@given(st.binary(max_size=200))
def test_decoding_loses_nothing(data):
    decoded = files.decode(data)
    assert files.encode(decoded.text, decoded) == data


def test_line_ends_of_a_mixed_file_stay():
    assert replace("a\r\nb\nc\r\nd\r\n", "b\nc", "b\nx\nc").text == "a\r\nb\nx\nc\r\nd\r\n"


def test_crlf_of_the_model_matches_a_file_of_lf():
    assert replace("a\nb\n", "a\r\nb", "c\r\nd").text == "c\nd\n"


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        ("abc\n", "abc", "abc", "f.py: old and new text are the same; nothing was changed"),
        ("abc\n", "", "x", "old is empty; give the text to replace, or use write for a whole file"),
        ("a\nb\nx\na\n", "a", "c",
         "f.py: the old text is in 2 places:\n  line 1\n  line 4, after `x`\nadd lines before or after it that only "
         "the one you mean has, or begin its lines with their numbers and a tab, as they are listed, or replace "
         "all of them"),
        ("def f():\n    return 1\n", "return 2", "return 3",
         "f.py: the old text is not there; nearest are line 2 (- as you wrote it, + as it is):\n       - return 2\n"
         "     2 +     return 1\ncopy the lines marked + and those without a mark exactly"),
        ("a\nreturn a + b\n", "return a - b", "return a + b",
         "f.py: the new text is already there at line 2, and the old one is not; nothing to do"),
        ("zzz\n", "def f():", "x",
         "f.py: the old text is not there, and nothing like it; read the file and copy the lines"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(text, old, new, said):
    with pytest.raises(ToolError) as error:
        replace(text, old, new, path="f.py")
    assert str(error.value) == said


def test_result_texts():
    assert edited_text("calc.py", 5) == "edited calc.py at line 5"
    assert edited_text("calc.py", 3, 9) == "edited calc.py in 2 places (lines 3, 9)"


def test_edit_writes_the_file_and_shows_the_difference(call, root):
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    done = call("edit", path="./calc.py", old="a - b", new="a + b")
    assert done.text == "edited calc.py at line 2"
    assert (root / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert done.show == (
        {
            "type": "diff",
            "path": "calc.py",
            "diff": "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n"
            "-    return a - b\n+    return a + b\n",
        },
    )


def test_mode_links_and_marks_stay(call, ctx, root):
    file = root / "run.sh"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    file.chmod(0o751)
    (root / "link").symlink_to("run.sh")
    call("edit", path="link", old="one\ntwo", new="1\n2\n3")
    assert (root / "link").is_symlink()
    assert file.read_bytes() == b"\xef\xbb\xbf1\r\n2\r\n3\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    assert list(ctx.outputs.iterdir()) == []
    assert sorted(f.name for f in root.iterdir()) == [".git", "link", "run.sh"]


def test_a_hard_link_outside_keeps_its_bytes(call, root, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("old\n")
    os.link(outside, root / "inside.txt")
    call("edit", path="inside.txt", old="old", new="new")
    assert outside.read_text() == "old\n" and (root / "inside.txt").read_text() == "new\n"


def test_utf16_stays_utf16(call, root):
    (root / "a.txt").write_bytes(b"\xff\xfe" + "grün\r\nrot\r\n".encode("utf-16-le"))
    call("edit", path="a.txt", old="rot", new="blau")
    assert (root / "a.txt").read_bytes() == b"\xff\xfe" + "grün\r\nblau\r\n".encode("utf-16-le")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("calk.py", "there is no file calk.py; did you mean calc.py?"),
        (
            "src/calc.py",
            "there is no file src/calc.py; there is no folder src either; search or list finds files",
        ),
        ("sub", "sub is a folder; list shows what is in it"),
        ("calc.py/x", "there is no file calc.py/x: a part of the path is a file"),
        ("data.bin", "data.bin is a binary file (4 bytes); only text can be edited"),
        ("../x", "../x is outside the repository; give a path relative to the repository root"),
        ("pipe", "pipe is not a regular file (a named pipe)"),
        ("@output/x", "@output/x can only be read; to change a file give its path in the repository"),
    ],
)
def test_files_that_cannot_be_edited(call, root, path, said):
    (root / "calc.py").write_text("x")
    (root / "sub").mkdir()
    (root / "data.bin").write_bytes(b"a\0bc")
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError) as error:
        call("edit", path=path, old="x", new="y")
    assert str(error.value) == said
