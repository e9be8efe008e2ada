"""What text of unknown origin tries on a terminal: the raw bytes do it to an emulated one, the cleaned ones nothing."""

import json
import re
import unicodedata

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcwidth

from poolcli.sanitize import MAX_MARKS, clean, in_json, shown

COLUMNS, ROWS = 120, 24


class Emulated(pyte.Screen):
    """A terminal that also remembers what leaves no trace on its screen: strings for others, and answers."""

    def __init__(self):
        super().__init__(COLUMNS, ROWS)
        self.answers, self.bells = [], 0

    def write_process_input(self, data):
        self.answers.append(data)

    def bell(self, *args):
        self.bells += 1


def fed(text):
    """The screen after a text, as the line discipline of a terminal hands it on."""
    screen = Emulated()
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    return screen


def lines(screen):
    return [row.rstrip() for row in screen.display]


def state(screen):
    """All of a terminal that text has no business to change."""
    cursor = screen.cursor.attrs._replace(data=" ")
    styles = {char._replace(data=" ") for row in screen.buffer.values() for char in row.values()}
    letters = (screen.charset, screen.g0_charset, screen.g1_charset, cursor, styles - {cursor})
    heard = (screen.title, screen.icon_name, tuple(screen.answers), screen.bells)
    return (
        *letters,
        *heard,
        frozenset(screen.mode),
        screen.margins,
        frozenset(screen.tabstops),
        screen.cursor.hidden,
    )


BLANK = state(fed(""))


def acts(text):
    """Whether a text does anything but appear, letter after letter: the positive control of each case."""
    screen = fed(text)
    if state(screen) != BLANK:
        return True
    return lines(screen)[: text.count("\n") + 1] != [line.rstrip() for line in text.split("\n")]


# Name, what is shown raw, what clean makes of it, what shown makes of it. The emulator knows OSC 0 to 2 and nothing
# of the clipboard, hyperlinks and pictures: that it swallows their text is the control there.
VECTORS = [
    ("title", "a\x1b]0;evil\x07b", "ab", "a\\x1b]0;evil\\x07b"),
    ("title, ended by ST", "a\x1b]2;evil\x1b\\b", "ab", "a\\x1b]2;evil\\x1b\\b"),
    ("title, 8-bit", "a\x9d2;evil\x9cb", "ab", "a\\x9d2;evil\\x9cb"),
    ("clipboard", "a\x1b]52;c;ZXZpbA==\x07b", "ab", "a\\x1b]52;c;ZXZpbA==\\x07b"),
    ("hyperlink", "\x1b]8;;http://evil\x1b\\github.com\x1b]8;;\x1b\\", "github.com",
     "\\x1b]8;;http://evil\\x1b\\github.com\\x1b]8;;\\x1b\\"),
    ("a terminal's own commands", "a\x1b]1337;File=inline=1:AAAA\x07b", "ab", "a\\x1b]1337;File=inline=1:AAAA\\x07b"),
    ("notification", "a\x1b]777;notify;evil;text\x07b", "ab", "a\\x1b]777;notify;evil;text\\x07b"),
    ("device control", "a\x1bP1$r0m\x1b\\b", "ab", "a\\x1bP1$r0m\\x1b\\b"),
    ("picture", "a\x1bPq#0;2;0;0;0~\x1b\\b", "ab", "a\\x1bPq#0;2;0;0;0~\\x1b\\b"),
    ("application command", "a\x1b_Gf=100;AAAA\x1b\\b", "ab", "a\\x1b_Gf=100;AAAA\\x1b\\b"),
    ("privacy message", "a\x1b^evil\x1b\\b", "ab", "a\\x1b^evil\\x1b\\b"),
    ("start of string", "a\x1bXevil\x1b\\b", "ab", "a\\x1bXevil\\x1b\\b"),
    ("strings, 8-bit", "a\x90q\x9c\x98s\x9c\x9ep\x9c\x9fa\x9cb", "ab",
     "a\\x90q\\x9c\\x98s\\x9c\\x9ep\\x9c\\x9fa\\x9cb"),
    ("colour", "\x1b[31mred\x1b[0m", "red", "\\x1b[31mred\\x1b[0m"),
    ("invisible letters", "a\x1b[8mb", "ab", "a\\x1b[8mb"),
    ("cursor up and erase", "true\n\x1b[1A\x1b[2Kfake", "true\nfake", "true\n\\x1b[1A\\x1b[2Kfake"),
    ("cursor home", "true\n\x1b[Hfake", "true\nfake", "true\n\\x1b[Hfake"),
    ("screen erased", "true\x1b[2Jfake", "truefake", "true\\x1b[2Jfake"),
    ("scroll region", "\x1b[2;3ra", "a", "\\x1b[2;3ra"),
    ("private modes", "\x1b[?1049h\x1b[?25la", "a", "\\x1b[?1049h\\x1b[?25la"),
    ("mouse", "\x1b[?1000h\x1b[?1006ha", "a", "\\x1b[?1000h\\x1b[?1006ha"),
    ("report of position", "a\x1b[6nb", "ab", "a\\x1b[6nb"),
    ("report of the terminal", "a\x1b[cb", "ab", "a\\x1b[cb"),
    ("8-bit CSI", "true\n\x9b1A\x9b2Kfake", "true\nfake", "true\n\\x9b1A\\x9b2Kfake"),
    ("full reset", "true\x1bcfake", "truefake", "true\\x1bcfake"),
    ("line drawing letters", "\x1b(0lqk", "lqk", "\\x1b(0lqk"),
    ("shift out", "\x0elqk", "\\x0elqk", "\\x0elqk"),
    ("keypad, save, index", "a\x1b=\x1b7\x1bD\x1bMb", "ab", "a\\x1b=\\x1b7\\x1bD\\x1bMb"),
    ("unterminated", "a\x1b]0;all that follows", "a", "a\\x1b]0;all that follows"),
    ("unterminated, more lines", "a\x1b]0;x\nnext\nlines", "a\nnext\nlines", "a\\x1b]0;x\nnext\nlines"),
    ("unterminated CSI", "a\x1b[38;5;1", "a", "a\\x1b[38;5;1"),
    ("nested", "a\x1b]0;\x1b]0;evil\x07\x07b", "a\\x07b", "a\\x1b]0;\\x1b]0;evil\\x07\\x07b"),
    ("nested CSI", "a\x1b[\x1b[31mb", "ab", "a\\x1b[\\x1b[31mb"),
    ("carriage return", "rm -rf x\rls     ", "ls     ", "rm -rf x\\rls     "),
    ("backspace", "safe\b\b\b\bevil", "safe\\x08\\x08\\x08\\x08evil", "safe\\b\\b\\b\\bevil"),
    ("vertical tab, form feed", "a\x0bb\x0cc", "a\\x0bb\\x0cc", "a\\x0bb\\x0cc"),
    ("bell", "a\x07b", "a\\x07b", "a\\x07b"),
    ("next line", "a\x85b", "a\\x85b", "a\\x85b"),
    ("index, reverse index, tab set", "a\x84b\x8dc\x88d", "a\\x84b\\x8dc\\x88d", "a\\x84b\\x8dc\\x88d"),
    ("null", "a\x00b", "a\\x00b", "a\\x00b"),
    ("delete", "a\x7fb", "a\\x7fb", "a\\x7fb"),
]  # fmt: skip

# What reorders or hides letters only in a terminal that lays text out: the control is the character's own property.
UNSEEN = [
    ("direction override", "abc\u202etxt.exe", "abc\\u{202e}txt.exe"),
    ("embedding", "a\u202ab\u202bc\u202c", "a\\u{202a}b\\u{202b}c\\u{202c}"),
    ("isolate", "a\u2066b\u2067c\u2068d\u2069", "a\\u{2066}b\\u{2067}c\\u{2068}d\\u{2069}"),
    ("marks of direction", "a\u200eb\u200fc\u061cd", "a\\u{200e}b\\u{200f}c\\u{61c}d"),
    ("zero width", "a\u200bb\u200cc\u200dd\u2060e\ufefff", "a\\u{200b}b\\u{200c}c\\u{200d}d\\u{2060}e\\u{feff}f"),
    ("tag characters", "a\U000e0041\U000e007f", "a\\u{e0041}\\u{e007f}"),
    ("soft hyphen", "a\u00adb", "a\\u{ad}b"),
    ("variation selectors", "a\ufe00b\U000e0100", "a\\u{fe00}b\\u{e0100}"),
    ("line and paragraph separator", "a\u2028b\u2029c", "a\\u{2028}b\\u{2029}c"),
    ("fillers", "a\u115fb\u3164c\uffa0", "a\\u{115f}b\\u{3164}c\\u{ffa0}"),
    ("grapheme joiner", "a\u034fb", "a\\u{34f}b"),
    ("invisible operators", "a\u2061b\u2064c", "a\\u{2061}b\\u{2064}c"),
    ("annotations", "a\ufff9b\ufffac\ufffb", "a\\u{fff9}b\\u{fffa}c\\u{fffb}"),
    ("musical controls", "a\U0001d173b", "a\\u{1d173}b"),
    ("Mongolian selectors", "a\u180bb\u180ec", "a\\u{180b}b\\u{180e}c"),
    ("lone surrogate", "a\ud83db", "a\\u{d83d}b"),
    ("no character", "a\uffffb", "a\\u{ffff}b"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "cleaned", "visible"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_sequences_and_controls(raw, cleaned, visible):
    assert acts(raw)  # the control
    assert clean(raw) == cleaned and not acts(cleaned)
    assert shown(raw) == visible and not acts(visible)


@pytest.mark.parametrize(("raw", "visible"), [v[1:] for v in UNSEEN], ids=[v[0] for v in UNSEEN])
def test_characters_that_hide_or_reorder(raw, visible):
    hidden = [char for char in raw if char not in visible]
    assert hidden and all(
        unicodedata.category(char)
        in ("Cf", "Cs", "Cn", "Zl", "Zp", "Mn", "Lo")  # the control: none is a plain letter
        for char in hidden
    )
    assert clean(raw) == visible and shown(raw) == visible
    assert visible.isascii() and not acts(visible)


@pytest.mark.parametrize("mark", ["\u0301", "\u0489", "\u0e47", "\u20dd", "\ufe0f", "\u0f74"])
def test_floods_of_marks(mark):
    assert clean(f"e{mark}") == shown(f"e{mark}") == f"e{mark}"
    for make in (clean, shown):
        text = make(f"e{mark * 500}!")
        assert text == f"e{mark * MAX_MARKS}" + f"\\u{{{ord(mark):x}}}" * (500 - MAX_MARKS) + "!"
        assert max(map(len, re.findall(f"{mark}+", text))) == MAX_MARKS


def test_scripts_that_stack_marks_are_left_alone():
    for text in (
        "Việt Nam",
        unicodedata.normalize("NFD", "Việt ữ"),
        "שָׁלוֹם",
        "مُحَمَّدٌ",
        "ที่นี่",
        "བོད་སྐད་",
        "e\u0301\u0302\u0303",
        "❤️ 🏳️",
    ):
        assert clean(text) == text and shown(text) == text


def test_what_a_person_decides_about_is_whole():
    command = "rm -rf x\rls     # " + "y" * 5000 + "\n\ttrue"
    assert shown(command) == "rm -rf x\\rls     # " + "y" * 5000 + "\n\\ttrue"
    assert shown(command, keep="\n\t").endswith("\n\ttrue") and shown(command, keep="").endswith("\\n\\ttrue")
    assert "rm -rf x" in shown(
        "ls \x1b]0; rm -rf x \x07"
    )  # a shell runs what a terminal would take for a title
    # One line of a value hides nothing by a carriage return either; the end of a line of Windows is just that.
    assert clean("rm -rf x\rls", keep_newlines=False) == "rm -rf x\\rls"
    assert clean("one\r\ntwo\r\n", keep_newlines=False) == "one ↵ two"


def test_names_stay_on_one_line():
    assert clean("x\n[approved] y", keep_newlines=False) == "x ↵ [approved] y"
    assert shown("x\n[approved] y", keep="") == "x\\n[approved] y"


# Anything at all.

PIECES = st.sampled_from(
    "\x1b \x1b[ \x1b] \x1bP \x1b_ \x1b\\ \x9b \x9d \x9c \x90 \x07 \x18 \x1a \r \n \t \b \x0e \x0f \x85 [ ] ; 0 1 2 H A "
    "K J m h l r c ( 0 ? 25 1049 evil true \u202e \u200b \ud800 \u0301 é 漢 🙂 \x00 \x7f".split(" ")
)
# pyte stops at a letter that has no width and is no combining mark (as parts of Korean syllables): none of those.
LETTERS = st.characters().filter(lambda char: wcwidth(char) != 0 or unicodedata.combining(char) != 0)
HOSTILE = st.one_of(
    st.text(LETTERS, max_size=60),
    st.lists(st.one_of(PIECES, st.text(LETTERS, max_size=4)), max_size=25).map("".join),
)


def visible_only(text):
    """Letters without blanks and without marks, which pyte loses on wide letters."""
    apart = unicodedata.normalize("NFD", text)
    return "".join(char for char in apart if not char.isspace() and not unicodedata.combining(char))


@settings(max_examples=200, deadline=None)
@given(HOSTILE)
def test_the_cleaned_text_does_nothing_but_appear(raw):
    for made in (clean(raw), clean(raw, keep_newlines=False), shown(raw), shown(raw, keep="")):
        # Something before each line: a mark that has no letter would go to the row above.
        made = "|" + made.replace("\n", "\n|")
        screen = fed(made)
        assert state(screen) == BLANK
        if len(made) < COLUMNS // 2 and made.count("\n") < ROWS:
            # Each line is on its row, from its first letter to its last; the cursor stands behind the last.
            rows = lines(screen)
            for number, line in enumerate(made.split("\n")):
                assert visible_only(rows[number]) == visible_only(line)
            assert screen.cursor.y == made.count("\n")
            assert not any(rows[made.count("\n") + 1 :])


@settings(max_examples=200, deadline=None)
@given(HOSTILE)
def test_no_letter_is_lost_where_a_person_decides(raw):
    """What is plain in a text is in what is shown, in order."""
    plain = [char for char in raw if char.isascii() and char.isprintable()]
    rest = iter(shown(raw))
    assert all(char in rest for char in plain)
    assert shown(shown(raw)) == shown(raw)


JSON = st.recursive(
    HOSTILE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_json_keeps_its_values_and_does_nothing(value):
    text = in_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == json.loads(json.dumps(value))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\ud800-\udfff]", text)
    text.encode()


@pytest.mark.parametrize("make", [clean, shown, in_json, lambda text: clean(text, keep_newlines=False)])
@pytest.mark.parametrize(
    "piece",
    [
        "\x1b]",
        "\x1b[",
        "\x1b[1;",
        "\x9d",
        "\r",
        "\x00",
        "a\r",
        "\u202e",
        "\u0301",
        "e\u0301",
        "\x1b",
        "\u200b\n",
        "\t",
        "é",
    ],
)
def test_work_grows_with_the_length_only(make, piece):
    # Quadratic work on megabytes would take hours; the suite's own patience is the limit.
    assert make(piece * (500_000 // len(piece))) is not None


def test_a_huge_sequence_does_not_stop_what_follows():
    assert clean("\x1b]" + "x" * 10_000_000 + "\ngoes on") == "\ngoes on"
