"""Damage to an edit: the result is the intended file or a refusal, and never another file."""

import re

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from poolcli.edits.replace import replace
from poolcli.edits.results import Landed, Refusal

CODE = [
    "def load(path):",
    "class Store:",
    "    return path",
    "    value = compute(a, b)",
    "    if value:",
    '        raise ValueError("no “value” – sorry")',
    "        print('it’s done')",
    "    for item in items:",
    "        total += item",
    "    }",
    "",
    "    # note: keep",
    "\treturn 1",
    "\tif x {",
    "\t\tcall(x)",
    "x = 'a\\nb'",
]


@st.composite
def edits(draw):
    """A text, a stretch of its lines and what these become: (text, old, new, target)."""
    lines = draw(st.lists(st.sampled_from(CODE), min_size=4, max_size=16))
    start = draw(st.integers(0, len(lines) - 1))
    count = draw(st.integers(1, min(6, len(lines) - start)))
    old = lines[start : start + count]
    new = list(old)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(new)))
        new[at : at + draw(st.integers(0, 1))] = draw(st.lists(st.sampled_from(CODE), max_size=2))
    assume(new != old and any(line.strip() for line in old))
    target = [*lines[:start], *new, *lines[start + count :]]
    return lines, old, new, target


def _lines(change):
    return lambda lines: [change(line) for line in lines]


PLAIN = str.maketrans("“”–’", '""-\'')
CURLY = str.maketrans("\"'-", "“’–")


def spaced(width):
    return lambda line: re.sub(r"^\t+", lambda m: " " * (width * len(m[0])), line)


def tabbed(line):
    return re.sub(r"^(?: {4})+", lambda m: "\t" * (len(m[0]) // 4), line)


def dedented(by):
    def change(lines):
        assert_possible = all(line.startswith(" " * by) for line in lines if line.strip())
        assume(assert_possible)
        return [line[by:] if line.strip() else line for line in lines]

    return change


def escaped(lines):
    return ["\\n".join(line.replace("\t", "\\t") for line in lines)]


DAMAGES = {
    "trailing blanks": _lines(lambda line: line + "  "),
    "carriage returns": _lines(lambda line: line + "\r"),
    "deeper": _lines(lambda line: "    " + line if line.strip() else line),
    "dedented": dedented(4),
    "tabs as spaces": _lines(spaced(4)),
    "spaces as tabs": _lines(tabbed),
    "plain quotes": _lines(lambda line: line.translate(PLAIN)),
    "curly quotes": _lines(lambda line: line.translate(CURLY)),
    "escaped quotes": _lines(lambda line: line.replace('"', '\\"')),
    "escaped": escaped,
    "blank above": lambda lines: ["", *lines],
    "blank below": lambda lines: [*lines, "", ""],
    "stripped first": lambda lines: [lines[0].lstrip(), *lines[1:]],
}


def joined(lines, last):
    return "\n".join(lines) + (last if lines else "")


def indent(line):
    return line[: len(line) - len(line.lstrip())]


@given(edits(), st.sampled_from(sorted(DAMAGES)), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=600, deadline=None)
def test_damage_to_the_old_text_gives_the_intended_file_or_a_refusal(edit, damage, last, crlf, whole):
    lines, old, new, target = edit
    end = "\r\n" if crlf else "\n"
    text, wanted = end.join(lines) + end * last, end.join(target) + end * last
    # A blank line before both texts is read as damage to both.
    assume(not damage.startswith("blank") or (new and new[0].strip() and new[-1].strip()))
    if damage in ("deeper", "dedented"):
        # An edit that itself shifts lines, by as much as the damage does, looks like damage to both texts.
        first = [next((indent(line) for line in part if line.strip()), "") for part in (old, new)]
        assume(first[0] == first[1])
    # Blocks of whole lines are not trimmed.
    assume(damage != "stripped first" or not whole)
    if damage in ("spaces as tabs", "tabs as spaces"):
        # A new text with the one where the old has the other looks like damage to both.
        assume(len(set("".join(indent(line) for line in [*lines, *new]))) < 2)
    damaged = DAMAGES[damage](old)
    # Whether what is asked for is there literally: then it is no damage, and the literal meaning counts.
    found = replace(text, joined(damaged, "\n"), joined(new, "\n"), whole_lines=whole)
    if isinstance(found, Refusal):
        return
    if end.join(damaged) in text and damaged != old:
        return
    assert found.text in allowed(text, old, new, end, wanted), (damaged, found)


def allowed(text, old, new, end, wanted):
    """The intended file. Old lines that occur several times have several, and which was meant is not known."""
    return {wanted, wanted.rstrip("\r\n"), wanted.rstrip("\r\n") + end}


@given(
    edits(), st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=2, unique=True), st.booleans()
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_damage_to_both_texts_gives_the_intended_file_or_a_refusal(edit, damages, whole):
    lines, old, new, target = edit
    assume(new)
    # Carriage returns, blanks and typography that are damaged in the new text stay: it is never corrected.
    kept = {"trailing blanks", "plain quotes", "curly quotes", "escaped quotes"}
    assume(not kept & set(damages))
    if {"tabs as spaces", "spaces as tabs"} & set(damages):
        # Where a file has both, which of them a line had cannot be known.
        indents = "".join(line[: len(line) - len(line.lstrip())] for line in [*lines, *new])
        assume(len(set(indents)) < 2 and any(indent(line) for line in old if line.strip()))
    # Of one line nothing is escaped, so nothing says that the new one was.
    assume("escaped" not in damages or len(old) > 1)
    if {"deeper", "dedented"} & set(damages):
        # An edit that itself shifts lines, by as much as the damage does, looks like damage to the old text alone.
        first = [next((indent(line) for line in part if line.strip()), "") for part in (old, new)]
        assume(first[0] == first[1])
    # What was trimmed and then shifted as a whole is like nothing that models do.
    assume(not ("stripped first" in damages and {"deeper", "dedented", "tabs as spaces"} & set(damages)))
    # Trimmed texts hide how their first lines were indented against each other.
    assume("stripped first" not in damages or (indent(new[0]) == indent(old[0]) and not whole))
    text, wanted = joined(lines, "\n"), joined(target, "\n")
    damaged_old, damaged_new = old, new
    # A blank line that is put above a place may be there above another one.
    assume("" not in lines or not any(damage.startswith("blank") for damage in damages))
    # Escapes come last: they make one line of all.
    for damage in sorted(damages, key="escaped".__eq__):
        damaged_old, damaged_new = DAMAGES[damage](damaged_old), DAMAGES[damage](damaged_new)
    a, b = joined(damaged_old, "\n"), joined(damaged_new, "\n")
    found = replace(text, a, b, whole_lines=whole)
    if isinstance(found, Refusal) or a.replace("\r", "") in text:
        return
    assert found.text == wanted, (a, b, found)


@given(edits(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_outside_of_the_spans_changes_by_a_byte(edit, deeper):
    lines, old, new, _ = edit
    text = joined(lines, "\n")
    damaged = DAMAGES["deeper"](old) if deeper else DAMAGES["trailing blanks"](old)
    found = replace(text, joined(damaged, "\n"), joined(new, "\n"), whole_lines=True)
    if not isinstance(found, Landed):
        return
    before, after = text.split("\n"), found.text.split("\n")
    (span,) = found.spans
    assert before[: span.first - 1] == after[: span.after_first - 1]
    assert before[span.last :] == after[span.after_last :]


@given(edits())
@settings(max_examples=200, deadline=None)
def test_what_is_there_twice_is_refused_and_every_line_named(edit):
    lines, old, new, _ = edit
    text = joined([*lines, *lines], "\n")
    found = replace(text, joined(old, "\n"), joined(new, "\n"), whole_lines=True)
    assert isinstance(found, Refusal)
    if found.kind == "ambiguous":
        all_lines = text.split("\n")
        starts = [i + 1 for i in range(len(all_lines)) if all_lines[i : i + len(old)] == old]
        assert list(found.lines) == starts[: len(found.lines)] and len(starts) >= 2
