"""Results that are too long."""

from hypothesis import given
from hypothesis import strategies as st

from poolcli.tools.bounds import bounded, ends, room, within


@given(st.text(alphabet="ab\n", max_size=400), st.integers(60, 200))
def test_ends_are_ends_and_count_the_rest(text, limit):
    short = ends(text, limit)
    assert len(short) <= limit
    if len(text) <= limit:
        assert short == text
    else:
        head, _, rest = short.partition("\n… ")
        left_out, _, tail = rest.partition(" characters left out …\n")
        assert text.startswith(head) and text.endswith(tail)
        assert len(head) + len(tail) + int(left_out) == len(text)


def test_the_whole_goes_to_a_file(tmp_path):
    text = "line\n" * 1000
    short = bounded(text, 500, tmp_path, "x")
    assert len(short) <= 500
    assert short.endswith("whole output: @output/x-1.txt (1000 lines); read it with read")
    assert (tmp_path / "x-1.txt").read_text() == text
    assert bounded("short", 500, tmp_path, "x") == "short"


def test_without_room_on_the_disk_the_ends_remain(tmp_path):
    assert "could not be saved: No such file" in bounded("x" * 1000, 500, tmp_path / "gone", "x")


def test_a_tools_own_limit_gives_way_to_a_lower_one():
    assert room(15_000) == 15_000
    with within(4000):
        assert room(15_000) == 4000 - 120
        assert room(500) == 500
    assert room(15_000) == 15_000
