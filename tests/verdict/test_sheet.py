"""The evidence sheet: readable, and safe whatever the texts in it are."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from poolcli.verdict.coverage import Coverage
from poolcli.verdict.mutants import Mutant, Strength
from poolcli.verdict.sheet import Extra, Row, Sheet, as_json, coverage_line, rows, spans, strength_line
from poolcli.verdict.sheet_junit import junit
from poolcli.verdict.sheet_markdown import code, fence, markdown
from poolcli.verdict.sheet_terminal import show
from poolcli.verdict.tampering.findings import Finding

#: Texts that want out of the place they are put in.
EVIL = [
    "\x1b[31mred\x1b]0;title\x07",
    "a\nb\r\nc\td\0\x7f\x85\ufffe\ud800",
    "</system-out></testcase><x a='",
    "]]>&amp;\"'<!--",
    "`a` ``b`` ```` x",
    "a|b\\|c|",
    "\\",
    "`",
    "|",
    "<img src=x onerror=alert(1)> @everyone #1 [x](http://e.example) ![i](x)",
    "</summary></details><script>",
    "* _x_ ~~y~~ $z$ :+1:",
    "\u202eevil\u2066\u200b",
    "",
    " ",
    "#",
    "```\n# heading\n",
    "ü" * 500,
]
SIDES = [("failed", "passed"), ("passed", "error"), ("passed", ""), ("", "failed"), ("", "skipped")]
TEXT = st.sampled_from(EVIL) | st.text(max_size=30) | st.text("`|\\<>&\n_*", max_size=12)


def sheet_of(draw_text) -> Sheet:
    mutant = Mutant(draw_text(), 3, "comparison", draw_text(), draw_text(), 0, 1, draw_text())
    return Sheet(
        subject=draw_text(),
        base=draw_text(),
        commands=(draw_text(), draw_text()),
        reason=draw_text(),
        reward=0.25,
        before={"passed": 3, "failed": 1},
        after={"passed": 4},
        tests=tuple(
            Row(draw_text(), before, after, draw_text())
            for before, after in [
                ("failed", "passed"),
                ("passed", "error"),
                ("passed", ""),
                ("", "failed"),
                ("", "skipped"),
            ]
        ),
        flaky=(draw_text(),),
        findings=(
            Finding("skip", "high", draw_text(), 7, draw_text()),
            Finding("test", "low", draw_text(), 0, draw_text()),
        ),
        strength=Strength(5, 3, 2, 1, (mutant,), draw_text()),
        coverage=Coverage(1, 3, {draw_text(): (1, 2, 9)}, draw_text()),
        extras=(
            Extra("lint", False, draw_text(), draw_text()),
            Extra(draw_text(), None, draw_text()),
            Extra("t", True),
        ),
        notes=(draw_text(),),
    )


SHEETS = st.builds(lambda texts: sheet_of(lambda: texts.pop()), st.lists(TEXT, min_size=40, max_size=40))


@settings(max_examples=60, deadline=None)
@given(SHEETS)
def test_junit_is_well_formed_and_counts_itself(sheet):
    document = junit(sheet)
    tree = ElementTree.fromstring(document.encode())
    cases = tree.findall("./testsuite/testcase")
    assert int(tree.get("tests")) == len(cases) == 1 + 5 + 2 + 3 + 2
    assert int(tree.get("failures")) == len(tree.findall(".//failure"))
    assert int(tree.get("skipped")) == len(tree.findall(".//skipped"))
    for suite in tree.findall("testsuite"):
        assert int(suite.get("tests")) == len(suite.findall("testcase"))
    assert {child.tag for child in tree.iter()} <= {
        *("testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out")
    }
    # Texts that XML can hold come back as they were.
    for row, case in zip(sheet.tests, tree.findall("./testsuite[@name='tests']/testcase"), strict=True):
        if not re.search("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", row.id):
            assert case.get("name") == row.id


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not attrs


@settings(max_examples=60, deadline=None)
@given(SHEETS)
def test_markdown_keeps_every_text_inside_its_place(sheet):
    text = markdown(sheet)
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "\r" not in text
    outside, fenced = [], ""
    for line in text.split("\n"):
        if fenced:
            fenced = "" if line == fenced else fenced
        elif bar := re.match("`{3,}$", line):
            fenced = bar.group()
        else:
            outside.append(line)
    assert not fenced
    for line in outside:
        # Without the code spans and entities nothing is left that a text could have brought.
        assert "``" not in line
        bare = re.sub(r"`[^`]+`", "", line)
        assert "`" not in bare
        tags = Tags()
        tags.feed(bare)
        assert set(tags.tags) <= {"code", "details", "summary"}
        bare = re.sub(r"<code>(?:\w|&#\d+;| )*</code>|</?(?:details|summary)>", "", bare)
        assert not re.search(r"[<>&@\[\]_*~\\]", bare), bare
        if line.startswith("|"):
            assert line.count("|") in (3, 4)
        # In an HTML block backticks mean nothing.
        assert not (line.startswith("<") and "`" in line)


@given(TEXT)
def test_a_fence_cannot_be_closed_from_inside(text):
    first, *body, last = fence(text)
    assert first == last and set(first) == {"`"}
    assert not any(line.strip().startswith(first) for line in body)


@settings(max_examples=60, deadline=None)
@given(SHEETS, st.sampled_from([40, 60, 100]))
def test_terminal_rows_fit_and_hold_no_control(sheet, width):
    stream = io.StringIO()
    show(sheet, stream, width)
    text = stream.getvalue()
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ud800-\udfff]", text)
    assert max(cell_len(line) for line in text.split("\n")) <= width


@settings(max_examples=30, deadline=None)
@given(SHEETS)
def test_json_can_be_written_and_read(sheet):
    data = as_json(sheet)
    assert json.loads(json.dumps(data)) == data
    assert data["tampered"] and not data["verified"] and data["strength"]["rate"] == 2 / 3


SHEET = Sheet(
    subject="main..fix",
    base="0123abc",
    commands=("pytest -q",),
    label="FULL",
    reward=1.0,
    before={"passed": 9, "failed": 1},
    after={"passed": 10},
    tests=(Row("tests/test_split.py::test_case_in_begin_that_has_a_rather_long_name", "failed", "passed"),),
    strength=Strength(
        30, 10, 9, 0, (Mutant("a.py", 12, "comparison", "  if x < 3:", "  if x <= 3:", 0, 1, "<="),)
    ),
    coverage=Coverage(9, 10, {"a.py": (4,)}),
    extras=(Extra("lint", True, "ruff check ."),),
)

DRAWN = """\
✓ verified  main..fix
base     0123abc
checks   pytest -q
before   9 passed, 1 failed
after    10 passed
label    FULL
reward   1.000
strength 9 of 10 small errors noticed (90 %), 30 possible
coverage 9 of 10 changed lines ran (90 %)
lint     ok  ruff check .

Tests that changed
  ✓ tests/test_split.py::test_case_in_begin_that_has_a_rathe
    r_long_name
    failed → passed

Small errors that no test noticed
  a.py:12  comparison
    - if x < 3:
    + if x <= 3:

Changed lines that did not run
  a.py: 4
"""


def test_sixty_columns():
    stream = io.StringIO()
    show(SHEET, stream, 60)
    assert stream.getvalue() == DRAWN


def test_what_a_broken_build_says_is_shown():
    from msgspec.structs import replace

    stream = io.StringIO()
    said = "a.c:1: no semicolon\n" + "more\n" * 20
    show(replace(SHEET, extras=(Extra("build", False, "make", said),)), stream, 60)
    assert "\nbuild\n  │ a.c:1: no semicolon\n" in stream.getvalue()
    assert "  and 9 more lines\n" in stream.getvalue()


def test_a_stream_without_unicode_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    show(SHEET, stream, 60)
    stream.flush()
    assert raw.getvalue().startswith(b"+ verified") and b"failed -> passed" in raw.getvalue()


def test_a_large_sheet_stays_within_a_comment():
    many = 5000
    large = Sheet(
        subject="x",
        tests=tuple(Row(f"tests/{'`_|' * 200}{n}", "passed", "failed", "long\n" * 900) for n in range(many)),
        flaky=("`_" * 300,) * many,
        findings=(Finding("k", "low", "p" * 900, 1, "|" * 900),) * many,
        coverage=Coverage(1, 2, {f"{n}": tuple(range(0, 9000, 2)) for n in range(many)}),
    )
    text = markdown(large)
    assert text.count("and 49") == 4 and len(text) < 65_536


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "verified"),
        ({"valid": False, "reason": "timeout"}, "not judged"),
        ({"label": "PARTIAL"}, "not verified"),
        ({"findings": (Finding("k", "low", "p", 1, "t"),)}, "verified"),
        ({"findings": (Finding("k", "high", "p", 1, "t"),)}, "tampered"),
    ],
)
def test_the_word(changes, word):
    from msgspec.structs import replace

    sheet = replace(SHEET, **changes)
    assert sheet.word == word and sheet.verified is (word == "verified")
    failures = ElementTree.fromstring(junit(sheet)).findall("./testsuite[@name='verdict']/testcase/*")
    wrong = {case.tag for case in failures} - {"system-out"}
    assert wrong == ({"error"} if word == "not judged" else set() if word == "verified" else {"failure"})


def test_rows_are_the_tests_that_changed_worst_first():
    before = {"a": "failed", "b": "passed", "c": "passed", "d": "passed", "f": "skipped", "g": "failed"}
    after = {"a": "passed", "b": "error", "c": "passed", "e": "passed", "f": "passed", "g": "failed"}
    found = rows(before, after, {"b": "why"})
    assert [(row.id, row.kind) for row in found] == [
        *(("b", "broken"), ("d", "gone"), ("a", "fixed"), ("f", "fixed"), ("e", "new"))
    ]
    assert found[0].text == "why"


def test_wordings():
    assert spans([9, 3, 4, 5, 1]) == "1, 3–5, 9" and spans([]) == ""
    assert strength_line(Strength(problem="no tests")) == "no tests"
    assert "99 %" in strength_line(Strength(1000, 1000, 999))
    assert coverage_line(Coverage()) == "no changed line holds code"
    assert code("a_b") == "`a_b`" and code("a|b") == "<code>a&#124;b</code>"
