"""write: new files and whole ones."""

import os
import stat

import pytest

from poolcli.tools.base import ToolError


def test_new_file_with_its_folders(call, root):
    done = call("write", path="a/b/c.py", content="x = 1\ny = 2\n")
    assert done.text == "wrote a/b/c.py (2 lines)"
    assert (root / "a/b/c.py").read_text() == "x = 1\ny = 2\n"
    assert done.show[0]["diff"] == "--- /dev/null\n+++ b/a/b/c.py\n@@ -0,0 +1,2 @@\n+x = 1\n+y = 2\n"


@pytest.mark.parametrize(("content", "said"), [("", "0 lines"), ("a", "1 line"), ("a\nb", "2 lines")])
def test_lines_are_counted(call, content, said):
    assert call("write", path="f", content=content).text == f"wrote f ({said})"


def test_replacing_keeps_mode_mark_and_line_ends(call, root):
    file = root / "f.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    file.chmod(0o700)
    call("write", path="f.txt", content="a\nc\n")
    assert file.read_bytes() == b"\xef\xbb\xbfa\r\nc\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o700


def test_unchanged_content_is_said(call, root):
    (root / "f").write_text("same\n")
    with pytest.raises(ToolError, match="already has exactly this content"):
        call("write", path="f", content="same\n")


@pytest.mark.parametrize("path", ["../x", "/etc/x", ".git/config", "folder", "file/x", "x" * 300, "pipe"])
def test_places_that_are_refused(call, root, path):
    (root / "folder").mkdir()
    (root / "file").write_text("f")
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError):
        call("write", path=path, content="x")
    assert (root / "file").read_text() == "f"


def test_a_text_that_is_none(call, root):
    with pytest.raises(ToolError, match="not a character"):
        call("write", path="f", content="a\ud800b")
    assert not (root / "f").exists()


def test_large_change_is_shown_in_part(call, root):
    (root / "f").write_text("".join(f"old {n}\n" for n in range(9000)))
    done = call("write", path="f", content="".join(f"new {n}\n" for n in range(9000)))
    assert len(done.show[0]["diff"]) < 21_000 and done.show[0]["diff"].endswith("not shown\n")
