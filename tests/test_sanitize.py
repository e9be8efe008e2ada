"""Text of unknown origin cannot do anything to a terminal, and stays readable."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.sanitize import MAX_LINE, clean

# Nothing of this may survive: C0 but tab and newline, DEL, C1, direction, zero-width and tag characters.
DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

VECTORS = [
    ("plain ünïcode 漢字 🙂", "plain ünïcode 漢字 🙂"),
    ("a\tb\nc", "a\tb\nc"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[Hcleared", "cleared"),
    ("\x1b]0;new title\x07x", "x"),
    ("\x1b]52;c;ZXZpbA==\x1b\\x", "x"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1bPq#0;2;0;0;0~\x1b\\x", "x"),
    ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\x", "x"),
    ("\x9b31mred", "red"),
    ("\x9d0;title\x9cx", "x"),
    ("\x1b]0;never ends", ""),
    ("\x1b]0;never ends\nnext line", "\nnext line"),
    ("\x1b[38;5;1", ""),
    ("end\x1b", "end"),
    ("\x1bcreset \x1b(0line\x1b#8", "reset line"),
    ("bell\x07 back\x08 del\x7f nul\x00", "bell\\x07 back\\x08 del\\x7f nul\\x00"),
    ("c1 \x85 \x80", "c1 \\x85 \\x80"),
    ("10%\r50%\r100%\r\n", "100%\n"),
    ("Downloading 100%\r\x1b[Kdone", "done"),
    ("abc\u202etxt.exe\u2066", "abc\\u{202e}txt.exe\\u{2066}"),
    ("zero\u200bwidth\ufeff", "zero\\u{200b}width\\u{feff}"),
    ("tag\U000e0041", "tag\\u{e0041}"),
    ("lone \ud800 surrogate", "lone \\u{d800} surrogate"),
    ("\x1b[\x1b[31mx", "x"),
    ("\x1b\x1b]0;t\x07[31mx", "[31mx"),
    ("line\u2028sep", "line\\u{2028}sep"),
]


@pytest.mark.parametrize(("given_text", "shown"), VECTORS)
def test_vectors(given_text, shown):
    assert clean(given_text) == shown


CONTROLS = "\x1b\x9b\x9d\x90\x9c\x07\r\n\t[]P;m0a\\\x18\u202e\u200b\ud800"
hostile = st.text(alphabet=st.one_of(st.sampled_from(CONTROLS), st.characters()))
VISIBLE = st.characters(categories=["L", "N", "P", "S"], exclude_characters="\u115f\u1160\u3164\uffa0")


@given(hostile)
def test_nothing_dangerous_survives(text):
    shown = clean(text)
    assert not DANGEROUS.search(shown)
    shown.encode()


@given(hostile)
def test_cleaning_again_changes_nothing(text):
    assert clean(clean(text)) == clean(text)


@given(st.lists(hostile))
def test_line_by_line_is_the_same_as_the_whole(lines):
    lines = [line.replace("\n", "") for line in lines]
    assert clean("\n".join(lines)) == "\n".join(clean(line) for line in lines)


@given(hostile)
def test_one_line_when_asked_for(text):
    shown = clean(text, keep_newlines=False)
    assert not {"\n", "\t"} & set(shown)


@given(st.text(alphabet=VISIBLE, max_size=200))
def test_ordinary_text_is_left_alone(text):
    assert clean(text) == text


def test_long_lines_are_capped_and_say_so():
    shown = clean("x" * (MAX_LINE + 7) + "\nshort")
    assert shown == "x" * MAX_LINE + "… (+7 characters)\nshort"


@pytest.mark.parametrize("piece", ["\x1b]", "\x1b[", "\x1b[1;", "\x9d", "\r", "\x00", "a\r", "\u202e"])
def test_work_grows_with_the_length_only(piece):
    # Quadratic work on a million characters would take minutes; the suite's own patience is the limit.
    assert len(clean(piece * (1_000_000 // len(piece)))) <= MAX_LINE * 12
