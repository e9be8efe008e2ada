"""Lines are found without an index as they are found with one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.edits import ladder, lines, marks
from poolcli.edits.keys import LOOKALIKE, line_end, lookalike, stripped, unspaced
from poolcli.edits.lines import PLACES, Lines

KEYS = [line_end, stripped, lookalike, unspaced]
WORDS = st.text(alphabet="ab.-' \t\r\x1c“’–\u00a0…\u200b\u1680", max_size=5)
TEXTS = st.lists(WORDS, max_size=12).map("\n".join)


@pytest.mark.parametrize("key", KEYS)
@given(text=TEXTS, wanted=st.lists(WORDS, min_size=1, max_size=3))
def test_places_with_and_without_an_index(key, text, wanted):
    wanted = [key(line) for line in wanted]
    indexed = Lines(text)
    indexed.keyed(key)
    if any(wanted):
        assert Lines(text).places(wanted, key) == indexed.places(wanted, key)
    for one in filter(None, wanted):
        assert Lines(text).hits(one, key, 100) == indexed.hits(one, key, 100)


def test_lines_that_stand_everywhere_are_indexed_after_all(monkeypatch):
    monkeypatch.setattr(lines, "LOOKED", 10)
    text = Lines("xa\n" * 50 + "a\n" + "xa\n")
    assert text.hits("a", stripped, 3) == [50]
    assert text.places(["a"], stripped) == [50]
    assert Lines("a\n" * 80).places(["a"], stripped) == list(range(PLACES))


@given(TEXTS, WORDS)
def test_what_looks_alike_is_found_sign_by_sign(text, old):
    plain = old.translate(ladder.LOOKALIKE)
    if not plain.strip() or "\r" in text + old:
        return
    for start, end in ladder._alike(Lines(text), plain):
        assert text[start:end].translate(ladder.LOOKALIKE) == plain


@given(TEXTS, st.text(alphabet="ab. \n", min_size=1, max_size=4), st.sampled_from([0, 1, 100]))
def test_occurrences_by_an_index_of_words(text, old, frequent):
    plain, indexed = Lines(text), Lines(text)
    indexed.many = True
    before, lines.FREQUENT = lines.FREQUENT, frequent
    try:
        assert list(indexed.occurrences(old)) == list(plain.occurrences(old))
    finally:
        lines.FREQUENT = before


@given(TEXTS, st.lists(st.integers(0, 40), max_size=6), st.sampled_from([0, 1, 100]))
def test_lines_are_where_they_are_when_the_text_is_cut_up(text, asked, far):
    near, cut = Lines(text), Lines(text)
    assert cut.offsets[-1] == len(text)
    before, marks.FAR = marks.FAR, far
    try:
        for offset in asked:
            if offset <= len(text):
                assert near.line_at(offset) == text.count("\n", 0, offset) + 1
        for number in [*asked, *range(len(cut.raw) + 1)]:
            if number <= near.count:
                assert near.begin(number) == cut.begin(number)
                assert near.between(number, number + 2) == cut.raw[number : number + 2]
        assert "raw" not in near.__dict__
    finally:
        marks.FAR = before


@given(TEXTS, st.lists(WORDS, min_size=1, max_size=3))
def test_in_a_large_text_lines_without_their_blanks_are_found_by_their_longest_word(text, old):
    wanted = [unspaced(line) for line in old]
    if not any(wanted):
        return
    before, lines.LARGE = lines.LARGE, -1
    try:
        found = Lines(text).worded(old, unspaced)
    finally:
        lines.LARGE = before
    everywhere = Lines(text).places(wanted, unspaced)
    assert set(found) <= set(everywhere)
    plain = [line.translate(LOOKALIKE) for line in text.split("\n")]
    word = max(re.findall(r"\w+", "\n".join(old).translate(LOOKALIKE)), key=len, default="")
    at = next(
        i for i, line in enumerate(old) if word in re.findall(r"\w+", line.translate(LOOKALIKE)) or not word
    )
    assert found == [start for start in everywhere if word in plain[start + at]]


def test_a_word_parted_by_a_blank_is_found_in_a_small_text_only(monkeypatch):
    text = Lines("if a:\n    elseif b:\n")
    assert text.worded(["else if b:"], unspaced) == [1]
    monkeypatch.setattr(lines, "LARGE", 5)
    assert Lines("if a:\n    elseif b:\n").worded(["else if b:"], unspaced) == [1]
    assert Lines("if a:\n    else if b:\n").worded(["elseif b:"], unspaced) == []
    assert Lines("if a:\n    elseif  b :\n").worded(["elseif b:"], unspaced) == [1]
