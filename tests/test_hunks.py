"""Parts of a patch: all of them are the patch, any of them are what git makes of it, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolcli import hunks
from poolcli.hunks import Choice, EditError, File, Unit
from tests.repositories import make, put, sh

#: Few different lines, so that they repeat; with all that breaks parsers of lines.
LINES = [
    b"a",
    b"b",
    b"  c",
    b"",
    b"x\r",
    b"\x0c",
    b"\x0b\x85",
    b"\xff\xfe",
    b"-- ",
    b"++ q",
    b"@@ -1 +1 @@",
    b"\\ No",
]
text = st.lists(st.sampled_from(LINES), max_size=40).map(lambda lines: b"".join(x + b"\n" for x in lines))
ends = st.sampled_from([b"", b"end", b"e\r"])
slow = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def versions(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A file of some length and the same with lines put in, taken out and exchanged."""
    chance = draw(st.randoms(use_true_random=False))
    lines = chance.choices(LINES, k=draw(st.sampled_from([1, 5, 20, 60, 90])))
    old = b"".join(line + b"\n" for line in lines) + draw(ends)
    for _ in range(draw(st.integers(1, 8))):
        at = chance.randint(0, len(lines))
        more = chance.choices([*LINES, b"new", b"other"], k=chance.randint(0, 3))
        lines[at : at + chance.randint(0, 3)] = more
    return old, b"".join(line + b"\n" for line in lines) + draw(ends)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("hunks") / "r")


def difference(scratch: Path, old: bytes, new: bytes) -> bytes:
    (scratch / "old").write_bytes(old)
    (scratch / "new").write_bytes(new)
    out = sh(scratch, "diff", "--no-index", "--full-index", "--text", "old", "new", check=False)
    return out.replace(b"a/old", b"a/f").replace(b"b/new", b"b/f")


def applied(scratch: Path, content: bytes, patch: bytes) -> bytes:
    (scratch / "f").write_bytes(content)
    if patch:
        (scratch / "p").write_bytes(patch)
        sh(scratch, "apply", "--whitespace=nowarn", "p")
    return (scratch / "f").read_bytes()


def atoms(files: tuple[File, ...]) -> list[Unit]:
    return [part for unit in hunks.units(files) for part in hunks.split(files, unit)]


def expected(files: tuple[File, ...], old: bytes, taken: set[str]) -> bytes:
    """The file with some changes, made line by line from where each stands: no patch is involved."""
    lines = hunks._lines(old)
    out: list[bytes] = []
    at = 0
    for hunk in files[0].hunks if files else ():
        out += lines[at : hunk.start]
        at = hunk.start
        number, inside = -1, False
        for mark, content in hunk.lines:
            if mark == " ":
                inside = False
                out.append(content)
                at += 1
                continue
            number, inside = number + (not inside), True
            wanted = hunk.ids[number] in taken
            if mark == "-":
                at += 1
            if (mark == "+") == wanted:
                out.append(content)
    return b"".join([*out, *lines[at:]])


@slow
@given(pair=versions())
def test_all_is_the_patch_and_none_is_nothing(scratch: Path, pair: tuple[bytes, bytes]) -> None:
    patch = difference(scratch, *pair)
    files = hunks.parse(patch)
    units = hunks.units(files)
    assert hunks.compose(files, map(Choice, units)) == patch == hunks.everything(files)
    assert hunks.compose(files, []) == b""
    assert hunks.compose(files, map(Choice, atoms(files))) == patch, "split, then all"
    assert len({unit.id for unit in atoms(files)}) == len(atoms(files))
    assert (
        b"".join(hunks.shown(files, unit) for unit in units) == patch[patch.find(b"@@") :] if patch else True
    )


@slow
@given(pair=versions(), data=st.data())
def test_some_are_what_they_say_and_the_rest_comes_later(
    scratch: Path, pair: tuple[bytes, bytes], data: st.DataObject
) -> None:
    old, new = pair
    files = hunks.parse(difference(scratch, old, new))
    parts = atoms(files)
    chosen = [part for part in parts if data.draw(st.booleans())]
    ids = {part.id for part in chosen}
    half = applied(scratch, old, hunks.compose(files, map(Choice, chosen)))
    assert half == expected(files, old, ids)
    rest = hunks.remaining(files, ids)
    assert {id for unit in hunks.units(rest) for id in unit.ids} == {p.id for p in parts} - ids
    assert applied(scratch, half, hunks.everything(rest)) == new
    # And in three steps: the parts of what is left can be chosen from as well.
    more = [part for part in atoms(rest) if data.draw(st.booleans())]
    third = applied(scratch, half, hunks.compose(rest, map(Choice, more)))
    last = hunks.remaining(files, ids | {part.id for part in more})
    assert applied(scratch, third, hunks.everything(last)) == new


@slow
@given(pair=versions(), data=st.data())
def test_an_edit_does_what_it_says(scratch: Path, pair: tuple[bytes, bytes], data: st.DataObject) -> None:
    """Added lines of some parts are exchanged; the others are taken or left."""
    old, new = pair
    files = hunks.parse(difference(scratch, old, new))
    choices: list[Choice] = []
    for part in atoms(files):
        how = data.draw(st.sampled_from(["take", "leave", "edit"]))
        if how == "take":
            choices.append(Choice(part))
        if how == "edit":
            lines = hunks._written(hunks.shown(files, part))
            more = [("+", b"by hand\n"), *lines] if lines[0][0] == " " else lines
            choices.append(Choice(part, hunks.edited(files, part, hunks._text(more) + b"# a remark\n")))
    patch = hunks.compose(files, choices)
    result = applied(scratch, old, patch)
    plain = applied(scratch, old, hunks.compose(files, [Choice(choice.unit) for choice in choices]))
    assert result.replace(b"by hand\n", b"") == plain


@given(st.binary(max_size=300))
def test_what_is_no_patch_is_refused_or_kept_whole(data: bytes) -> None:
    for patch in (
        data,
        b"diff --git a/f b/f\n" + data,
        b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n" + data,
    ):
        try:
            files = hunks.parse(patch)
        except hunks.Unreadable:
            continue
        for unit in hunks.units(files):
            hunks.shown(files, unit)


def tree(tmp_path: Path) -> tuple[Path, bytes, tuple[File, ...]]:
    """Every kind of change in one patch."""
    many = "".join(f"{i}\n" for i in range(40))
    top = make(
        tmp_path / "r",
        {
            "two": many,
            "gone": "g\n",
            "old ü": many,
            "mode": "m\n",
            "both": many,
            "bin": b"\0\1",
            "kind": "k\n",
            "e": "",
        },
    )
    (top / "link").symlink_to("gone")
    sh(top, "add", "-A")
    sh(top, "commit", "-qm", "x")
    put(
        top,
        {
            "two": many.replace("3\n", "three\n", 1).replace("33\n", ""),
            "both": many + "last",
            "new\tname": "n\n",
            "bin": b"\0\2",
            "e": "no longer\n",
        },
    )
    (top / "gone").unlink()
    (top / "old ü").rename(top / "moved ü")
    for name in ("mode", "both"):
        (top / name).chmod(0o755)
    (top / "kind").unlink()
    (top / "kind").symlink_to("two")
    (top / "link").unlink()
    (top / "link").symlink_to("two")
    sh(top, "add", "-A")
    patch = sh(top, "diff", "--cached", "--binary", "--full-index", "--find-renames")
    return top, patch, hunks.parse(patch)


def test_what_has_no_hunks_is_one_part(tmp_path: Path) -> None:
    _, patch, files = tree(tmp_path)
    assert hunks.everything(files) == patch
    offered = [(unit.path, unit.kind, files[unit.file].whole) for unit in hunks.units(files)]
    assert offered == [
        ("bin", "file", "binary file"),
        ("both", "mode", ""),
        ("both", "hunk", ""),
        ("e", "hunk", ""),
        ("gone", "file", "deleted file"),
        ("kind", "file", "another kind of file"),
        ("link", "file", "link or submodule"),
        ("mode", "file", "mode"),
        ("moved ü", "file", "renamed file"),
        ("new\tname", "file", "new file"),
        ("two", "hunk", ""),
        ("two", "hunk", ""),
    ]


def test_each_part_alone_and_then_the_rest(tmp_path: Path) -> None:
    top, _, files = tree(tmp_path)
    whole = sh(top, "write-tree")
    for unit in hunks.units(files):
        sh(top, "read-tree", "HEAD")
        patch = hunks.compose(files, [Choice(unit)])
        sh(top, "apply", "--cached", "-", input=patch)
        assert sh(top, "write-tree") != whole
        rest = hunks.remaining(files, {*unit.ids})
        sh(top, "apply", "--cached", "-", input=hunks.everything(rest))
        assert sh(top, "write-tree") == whole, unit


SMALL = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,5 +1,5 @@ where\n one\n-two\n+TWO\n three\n four\n-five\n+FIVE\n"


def test_split_and_shown() -> None:
    files = hunks.parse(SMALL)
    (unit,) = hunks.units(files)
    first, second = hunks.split(files, unit)
    assert hunks.shown(files, first) == b"@@ -1,4 +1,4 @@ where\n one\n-two\n+TWO\n three\n four\n"
    assert hunks.shown(files, second) == b"@@ -3,3 +3,3 @@\n three\n four\n-five\n+FIVE\n"
    assert hunks.split(files, second) == [second]
    alone = hunks.compose(files, [Choice(second)])
    assert alone.endswith(b"@@ -2,4 +2,4 @@\n two\n three\n four\n-five\n+FIVE\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b" one\n-deux\n+TWO\n", "not those of the file"),
        (b"# all\n# gone\n", "nothing is left"),
        (b" one\n two\n three\n four\n", "nothing is changed"),
        (b"\\ No newline at end of file\n", "of no line"),
        (b" one\n*two\n", "line 2 begins with none"),
        (b"+new\n\\ No newline at end of file\n one\n two\n three\n four\n", "without a newline"),
    ],
)
def test_edits_that_cannot_be(text: bytes, why: str) -> None:
    files = hunks.parse(SMALL)
    first = hunks.split(files, hunks.units(files)[0])[0]
    with pytest.raises(EditError, match=why):
        hunks.edited(files, first, text)


def test_an_edit_may_keep_a_line_and_leave_out_what_is_unchanged() -> None:
    files = hunks.parse(SMALL)
    first, second = hunks.split(files, hunks.units(files)[0])
    edit = hunks.edited(files, first, b" one\n two\n+2\n")
    head = SMALL[: SMALL.index(b"@@")]
    made = b"@@ -1,5 +1,6 @@ where\n one\n two\n+2\n three\n four\n"
    assert hunks.compose(files, [Choice(first, edit), Choice(second)]) == head + made + b"-five\n+FIVE\n"
    assert hunks.compose(files, [Choice(first, edit)]) == head + made + b" five\n"


def test_what_is_left_beside_an_edited_part_does_not_rely_on_it() -> None:
    files = hunks.parse(SMALL)
    first, second = hunks.split(files, hunks.units(files)[0])
    rest = hunks.remaining(files, (), edited={first.id})
    assert hunks.everything(rest).endswith(b"@@ -3,3 +3,3 @@\n three\n four\n-five\n+FIVE\n")
    assert [unit.ids for unit in hunks.units(rest)] == [(second.id,)]


def test_added_lines_of_neighbours_stand_in_their_order() -> None:
    patch = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,4 +1,6 @@\n a\n+x\n b\n c\n+y\n d\n"
    files = hunks.parse(patch)
    first, second = hunks.split(files, hunks.units(files)[0])
    edit = hunks.edited(files, first, hunks.shown(files, first) + b"+z\n")
    made = hunks.compose(files, [Choice(second), Choice(first, edit)])
    assert made.endswith(b"@@ -1,4 +1,7 @@\n a\n+x\n b\n c\n+z\n+y\n d\n")


def test_the_time_grows_with_the_length_only() -> None:
    """One hunk of 20,000 lines with 5,000 changes; looking back from each would take minutes."""
    body = b"".join(b"-%d\n+new %d\n a\n b\n" % (n, n) for n in range(5_000))
    head = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,15000 +1,15000 @@\n"
    files = hunks.parse(head + body)
    parts = atoms(files)
    assert len(parts) == 5_000 and hunks.compose(files, map(Choice, parts)) == head + body
    half = parts[::2]
    assert hunks.compose(files, map(Choice, half)).count(b"\n+new ") == 2_500
    rest = hunks.remaining(files, {part.id for part in half})
    assert hunks.everything(rest).count(b"\n+new ") == 2_500


def test_git_reads_the_same_counts(tmp_path: Path) -> None:
    """A subset of a subset through git's own check of the numbers."""
    top, _, files = tree(tmp_path)
    for unit in atoms(files):
        done = subprocess.run(
            ["git", "-C", str(top), "apply", "--numstat"],
            input=hunks.compose(files, [Choice(unit)]),
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr


def test_what_is_left_stands_where_the_file_has_it_now() -> None:
    """git looks for the place of a hunk, beginning with the number: a wrong one may find a line that is the same."""
    body = b"@@ -1 +1,3 @@\n-a\n+b\n+c\n+d\n@@ -20,2 +22,2 @@\n x\n-y\n+z\n@@ -40 +42 @@\n-p\n+q\n"
    files = hunks.parse(b"diff --git a/f b/f\n--- a/f\n+++ b/f\n" + body)
    first, second, third = hunks.units(files)
    rest = hunks.remaining(files, {*first.ids})
    assert hunks.everything(rest).endswith(
        body[body.index(b"+d\n") + 3 :].replace(b"-20,", b"-22,").replace(b"-40", b"-42")
    )
    assert hunks.compose(files, [Choice(third)]).endswith(b"@@ -40 +40 @@\n-p\n+q\n")
    rest = hunks.remaining(files, {*second.ids}, {*first.ids})
    assert hunks.everything(rest).endswith(b"@@ -42 +42 @@\n-p\n+q\n")
