"""Lines are found without an index as they are found with one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.edits import ladder, lines
from poolcli.edits.keys import line_end, lookalike, stripped, unspaced
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
