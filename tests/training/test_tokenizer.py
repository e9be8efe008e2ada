"""The tokenizer loses nothing and cuts an identifier the same way everywhere."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.family import make_instance
from training.tokenizer import END, SPECIAL, Tokenizer, build

RANDOM = Random(6)
TOKENIZER = build([make_instance(RANDOM).fixed for _ in range(50)], 1100)


@given(st.text())
def test_decode_gives_back_what_was_encoded(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@pytest.mark.parametrize("name", ["island_forest", "is_a_total", "order_id", "thethe", "rows_ssedotoo"])
def test_identifiers_are_cut_the_same_way_wherever_they_stand(name):
    alone = TOKENIZER.encode(name)
    for before, after in (
        ("    return ", " + 1"),
        ("(", ")"),
        (" in ", ":\n"),
        ("Return the sum of ", "."),
        ("`", "`."),
    ):
        numbers = TOKENIZER.encode(before + name + after)
        assert any(numbers[i : i + len(alone)] == alone for i in range(len(numbers)))


def test_special_pieces_come_first_and_end_the_reply():
    assert tuple(TOKENIZER.decode([n]) for n in range(len(SPECIAL))) == SPECIAL
    assert TOKENIZER.encode("<|im_end|>") == [END]


def test_saved_and_loaded_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path / "pieces.json")
    assert Tokenizer.load(tmp_path / "pieces.json").pieces == TOKENIZER.pieces
