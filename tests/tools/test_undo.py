"""undo: the last change of a file, exactly, and nothing that somebody else did."""

import os
import stat

import pytest

from poolcli import policy
from poolcli.tools import earlier, registry
from poolcli.tools.base import ToolError


def test_an_edit_is_taken_back_byte_for_byte(call, root):
    file = root / "f.txt"
    before = b"\xef\xbb\xbfa\r\nb\xff\r\nno end"
    file.write_bytes(before)
    file.chmod(0o750)
    call("edit", path="f.txt", old="a", new="x\ny")
    done = call("undo", path="./f.txt")
    assert done.text == "took back the last edit of f.txt"
    assert file.read_bytes() == before and stat.S_IMODE(file.stat().st_mode) == 0o750
    assert "-x" in done.show[0]["diff"] and "+a" in done.show[0]["diff"]


def test_each_one_goes_one_further_back_and_files_are_apart(call, root):
    call("write", path="new/f", content="1\n")
    call("write", path="g", content="g\n")
    call("write", path="new/f", content="2\n")
    call("edit", path="new/f", old="2", new="3")
    for expected in ("2\n", "1\n"):
        call("undo", path="new/f")
        assert (root / "new/f").read_text() == expected
    assert call("undo", path="new/f").text.endswith("it is gone")
    assert not (root / "new/f").exists() and (root / "g").read_text() == "g\n"
    with pytest.raises(ToolError, match="no edit of new/f"):
        call("undo", path="new/f")


@pytest.mark.parametrize("now", [b"by a command\n", None])
def test_what_something_else_did_is_left(call, root, now):
    call("write", path="f", content="1\n")
    (root / "f").unlink()
    if now is not None:
        (root / "f").write_bytes(now)
    with pytest.raises(ToolError, match=r"changed since|no such file"):
        call("undo", path="f")
    assert (root / "f").exists() == (now is not None)


def test_a_refused_edit_is_none(call, root):
    (root / "f").write_text("a\n")
    with pytest.raises(ToolError):
        call("edit", path="f", old="nothing", new="x")
    with pytest.raises(ToolError, match="no edit of f"):
        call("undo", path="f")


def test_links_are_followed_as_edits_follow_them_and_never_out(call, root, tmp_path):
    (root / "f").write_text("a\n")
    (root / "link").symlink_to("f")
    call("edit", path="link", old="a", new="b")
    call("undo", path="f")
    assert (root / "f").read_text() == "a\n" and (root / "link").is_symlink()
    call("edit", path="f", old="a", new="b")
    (tmp_path / "out").write_text("b\n")
    (root / "f").unlink()
    os.symlink(tmp_path / "out", root / "f")
    with pytest.raises(ToolError):
        call("undo", path="f")
    assert (tmp_path / "out").read_text() == "b\n"
    with pytest.raises(ToolError):
        call("undo", path="../out")


def test_what_is_kept_is_bounded(call, root, ctx, monkeypatch):
    monkeypatch.setattr(earlier, "MOST", 10)
    (root / "f").write_text("a" * 8)
    for letter in "bcd":
        call("write", path="f", content=letter * 8)
    call("undo", path="f")
    assert (root / "f").read_text() == "c" * 8
    with pytest.raises(ToolError, match="no edit"):
        call("undo", path="f")


def test_rules_about_edits_are_about_undoing_one():
    known, kinds = [*registry.ORDER], ["edit", "read", "execute"]
    for text in ("edit:.github/**", "write:.github/**", "kind:edit:.github/**", "undo"):
        rule = policy.rule("deny", text, "here", known, kinds)
        deed = policy.Deed("undo", "edit", paths=(".github/w.yml",))
        assert policy.decide(deed, [rule], "auto", confined=True).verdict == "deny", text
