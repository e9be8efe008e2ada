"""Each step of the ladder: what it lands, what it refuses, and what a refusal says."""

import pytest

from poolcli.edits.ranges import apply_range, checksum_of, stale
from poolcli.edits.replace import replace, replace_all
from poolcli.edits.results import Landed, LineRange, Refusal, Replacement

CODE = """\
class Store:
    def load(self, path):
        if not path:
            raise ValueError("no path")
        return self.read(path)

    def save(self, path, data):
        if not path:
            raise ValueError("no path")
        self.write(path, data)
        return len(data)
"""

TABS = 'func main() {\n\tif ok {\n\t\tprint("a\\n")\n\t}\n\tdone()\n}\n'


def landed(text, old, new, step, **how):
    found = replace(text, old, new, **how)
    assert isinstance(found, Landed), found
    assert set(found.steps) == {step}
    return found.text


def refused(text, old, new, kind, **how):
    found = replace(text, old, new, **how)
    assert isinstance(found, Refusal) and found.kind == kind, found
    return found


def test_exact():
    assert landed(CODE, "self.read(path)", "self.open(path)", "exact") == CODE.replace(
        "self.read", "self.open"
    )


def test_every_one():
    found = replace(CODE, "if not path:", "if path is None:", every=True)
    assert found.text == CODE.replace("not path", "path is None")
    assert [span.first for span in found.spans] == [3, 8]


@pytest.mark.parametrize("line", [8, 7, 9])
def test_the_one_at_a_line(line):
    at = CODE.index("if not path", CODE.index("save"))
    assert landed(CODE, "if not path:", "if 1:", "exact", line=line) == CODE[:at] + "if 1:" + CODE[at + 12 :]


def test_a_line_between_two_places_says_nothing():
    assert refused(CODE, "if not path:", "if 1:", "ambiguous", line=5).lines == (3, 8)


def test_line_ends_and_trailing_blanks():
    old = "    def save(self, path, data):   \n        if not path:\t\n"
    new = "    def save(self, path, data):   \n        if path:\n"
    wanted = CODE.replace("data):\n        if not path", "data):\n        if path")
    assert landed(CODE, old, new, "line_ends") == wanted
    crlf = CODE.replace("\n", "\r\n")
    assert landed(crlf, old, new, "line_ends") == wanted.replace("\n", "\r\n")


def test_a_missing_last_line_end_stays_missing():
    text = CODE.removesuffix("\n")
    assert landed(text, "        return len(data)\n", "        return 1\n", "line_ends") == text.replace(
        "len(data)", "1"
    )


def test_indentation_is_shifted_in_the_new_text():
    old = "if not path:\n    raise ValueError('x')\n".replace("'x'", '"no path"') + "self.write(path, data)\n"
    new = "if not path:\n    path = 'x'\nself.write(path, data)\n"
    found = landed(CODE, old, new, "indentation")
    assert found == CODE.replace(
        'raise ValueError("no path")\n        self.write', "path = 'x'\n        self.write"
    )


def test_spaces_for_tabs_become_tabs():
    old = '    if ok {\n        print("a\\n")\n    }\n'
    new = '    if ok {\n        for {\n            print("b\\n")\n        }\n    }\n'
    wanted = TABS.replace('\t\tprint("a\\n")\n', '\t\tfor {\n\t\t\tprint("b\\n")\n\t\t}\n')
    assert landed(TABS, old, new, "indentation") == wanted


def test_a_new_text_in_the_indentation_of_the_file_is_not_shifted():
    old, new = "    self.write(path, data)\n", "        self.put(path)\n"
    assert landed(CODE, old, new, "indentation", whole_lines=True) == CODE.replace(
        "self.write(path, data)", "self.put(path)"
    )


def test_lookalikes_are_searched_but_never_written():
    text = "a = 'x'\nprint(“it’s – fine”)\nb = 1\n"
    assert landed(text, 'print("it\'s - fine")', 'print("it\'s ok")', "lookalikes") == text.replace(
        "print(“it’s – fine”)", 'print("it\'s ok")'
    )
    # A line that stays keeps its characters.
    old, new = 'print("it\'s - fine")\nb = 1\n', 'print("it\'s - fine")\nb = 2\n'
    assert landed(text, old, new, "lookalikes") == text.replace("b = 1", "b = 2")


def test_over_escaped_texts():
    old = '\\tif ok {\\n\\t\\tprint(\\"a\\\\n\\")\\n\\t}'
    new = '\\tif no {\\n\\t\\tprint(\\"b\\\\n\\")\\n\\t}'
    assert landed(TABS, old, new, "escapes") == TABS.replace("ok", "no").replace('"a', '"b')


def test_escapes_of_a_string_in_the_new_text_are_kept():
    old = '        if not path:\\n            raise ValueError("no path")\\n        return'
    new = '        print("one\\ntwo")\n        return'
    found = landed(CODE, old, new, "escapes")
    assert 'print("one\\ntwo")\n        return self.read' in found


def test_one_line_with_escaped_line_ends_is_refused():
    refused(CODE, "self.read(path)", "x(lambda:\\n    1)", "unclear")


def test_blank_lines_around():
    old = "\n\n        self.write(path, data)\n        return len(data)\n\n"
    new = "\n\n        self.write(path, data)\n        return 0\n\n"
    assert landed(CODE, old, new, "blank_lines") == CODE.replace("len(data)", "0")


def test_line_numbers_of_a_listing_are_left_out():
    old = '     3\t        if not path:\n     4\t            raise ValueError("no path")\n'
    new = '     3\t        if path:\n     4\t            raise ValueError("no path")\n'
    assert landed(CODE, old, new, "line_numbers") == CODE.replace("if not path", "if path", 1)


def test_an_elided_middle_between_unique_lines():
    old = "    def save(self, path, data):\n        # ... unchanged ...\n        return len(data)\n"
    new = "    def store(self, path, data):\n        # ... unchanged ...\n        return 1\n"
    wanted = CODE.replace("def save", "def store").replace("len(data)", "1")
    assert landed(CODE, old, new, "elided") == wanted


def test_an_elided_middle_beside_lines_that_repeat_is_refused():
    old = '    def save(self, path, data):\n        ...\n            raise ValueError("no path")\n'
    assert refused(CODE, old, old.replace("save", "store"), "ambiguous").lines == (4, 9)


def test_an_elided_middle_that_the_new_text_does_not_elide_is_refused():
    old = "    def save(self, path, data):\n        ...\n        return len(data)\n"
    refused(CODE, old, "    def save(self):\n        return 1\n", "unclear")


def test_code_that_is_not_written_out_is_never_written():
    refused(CODE, "        return len(data)\n", "        # ... rest of the code unchanged ...\n", "unclear")


def test_a_line_remembered_differently_between_lines_that_are_there():
    old = CODE.split("\n\n")[1].replace('"no path"', '"no path given"')
    new = old.replace("return len(data)", "return 0")
    assert landed(CODE, old, new, "similar") == CODE.replace("len(data)", "0")


def test_similar_text_is_refused_where_another_place_comes_near():
    twice = CODE + CODE.replace("Store", "Other").replace("len(data)", "size(data)")
    old = (
        CODE.split("\n\n")[1]
        .replace('"no path"', '"no path given"')
        .replace("return len(data)\n", "return x\n")
    )
    refused(twice, old, old.replace("not path", "path"), "not_found")


def test_a_value_remembered_differently_is_not_overwritten():
    text = "start()\ntimeout = 60\nfinish()\n"
    old = "start()\ntimeout = 30\nfinish()\n"
    assert refused(text, old, old.replace("30", "45"), "not_found").lines == (1,)


def test_one_line_is_never_merely_similar():
    refused(CODE, "        self.write(path, datum)\n", "        pass\n", "not_found")


# -- refusals ------------------------------------------------------------------------------------------------


def test_ambiguous_names_every_line_and_what_it_is_in():
    found = refused(CODE, "if not path:", "if 1:", "ambiguous")
    assert found.lines == (3, 8)
    assert (
        "`def load(self, path):` (line 2)" in found.message
        and "`def save(self, path, data):`" in found.message
    )


def test_not_found_shows_the_nearest_lines():
    found = refused(CODE, "        self.write(paths, data)\n        return len(datum)\n", "x\n", "not_found")
    assert found.lines and 9 <= found.lines[0] <= 11
    assert "    10 +         self.write(path, data)" in found.diff


def test_no_change_and_already_applied():
    refused(CODE, "self.read(path)", "self.read(path)", "no_change")
    done = CODE.replace("self.read(path)", "self.open_file(path)")
    assert refused(
        done, "return self.read(path)", "return self.open_file(path)", "already_applied"
    ).lines == (5,)


def test_joining_lines_unasked_is_refused():
    refused(CODE, "        self.write(path, data)\n", "        self.put(data)", "unclear")


def test_a_trimmed_line_that_becomes_several_is_refused_when_their_indentation_is_open():
    refused(CODE, "self.write(path, data)", "if data:\n    self.write(path, data)\n", "unclear")
    refused(CODE, "self.write(path, data)", "        self.put(path, data)", "unclear")


def test_what_would_take_too_long_is_refused():
    many = "a\nb\n" * 100_000
    refused(many, "a \nb\n" * 3000, "x\n", "too_costly")


# -- several -------------------------------------------------------------------------------------------------


def test_several_are_looked_for_in_the_text_as_it_was():
    edits = [Replacement("a = 1\n", "a = 2\n"), Replacement("b = 1\n", "a = 1\n")]
    found = replace_all("a = 1\nb = 1\n", edits)
    assert found.text == "a = 2\na = 1\n"
    assert [(s.first, s.after_first) for s in found.spans] == [(1, 1), (2, 2)]


def test_a_later_one_may_change_what_an_earlier_one_wrote():
    edits = [Replacement("a", "first\nsecond"), Replacement("second", "third")]
    assert replace_all("a\nb\n", edits).text == "first\nthird\nb\n"


def test_all_or_none_and_the_one_that_failed_is_counted():
    found = replace_all(CODE, [Replacement("self.read", "self.open"), Replacement("nothing here", "x")])
    assert isinstance(found, Refusal) and found.number == 2 and found.kind == "not_found"


def test_overlapping_ones_are_refused():
    edits = [Replacement("b\nc\n", "x\n"), Replacement("c\nd\n", "y\n")]
    found = replace_all("a\nb\nc\nd\n", edits)
    assert isinstance(found, Refusal) and found.kind == "overlap" and found.number == 2


def test_edits_that_share_context_do_not_overlap():
    edits = [Replacement("a\nb\nc\n", "A\nb\nc\n"), Replacement("c\nd\n", "c\nD\n")]
    assert replace_all("a\nb\nc\nd\n", edits).text == "A\nb\nc\nD\n"


# -- line ranges ---------------------------------------------------------------------------------------------


def test_a_range_with_the_right_checksum():
    found = apply_range(CODE, LineRange(10, 11, checksum_of(CODE, 10, 11), "        pass\n"))
    assert found.text == "".join(CODE.splitlines(True)[:9]) + "        pass\n"
    assert found.spans[0].first == 10 and found.spans[0].after_last == 10


def test_a_range_keeps_line_ends():
    crlf = CODE.replace("\n", "\r\n").removesuffix("\r\n")
    found = apply_range(crlf, LineRange(11, 11, checksum_of(CODE, 11, 11), "a\nb\n"))
    assert found.text.endswith("\r\na\r\nb")


def test_a_range_of_changed_lines_is_stale_and_says_where_they_are():
    moved = "# new\n" + CODE
    found = apply_range(moved, LineRange(10, 11, checksum_of(CODE, 10, 11), "x"))
    assert (
        isinstance(found, Refusal)
        and found.kind == "stale"
        and found.lines == (11,)
        and "11-12" in found.message
    )
    changed = CODE.replace("len(data)", "0")
    found = apply_range(changed, LineRange(10, 11, checksum_of(CODE, 10, 11), "x"), CODE)
    assert found.kind == "stale" and "return len(data)" in found.diff and "return 0" in found.diff


def test_stale_shows_what_changed():
    found = stale(CODE.replace("Store", "Shop"), CODE)
    assert found.lines == (1,) and "class Shop" in found.diff
