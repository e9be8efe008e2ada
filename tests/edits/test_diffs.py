"""Any diff that was computed applies exactly; a damaged one gives the same file or is refused."""

import re
import subprocess

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from poolcli.edits.apply import apply
from poolcli.edits.formats import recognise
from poolcli.edits.results import Refusal
from tests.edits.texts import changed, texts, unified


def outcome(before, diff, path="f"):
    edits = recognise(diff, path)
    return edits if isinstance(edits, Refusal) else apply({path: before}, edits)


def after(before, diff):
    """The text after a diff, or a refusal."""
    found = outcome(before, diff)
    return found if isinstance(found, Refusal) else found[0].text


@given(texts(), texts(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_a_computed_diff_gives_the_target(before, target, context):
    assume(before != target)
    assert after(before, unified(before, target, context)) == target


@given(st.data(), texts(30))
@settings(max_examples=150, deadline=None)
def test_a_computed_diff_of_a_small_change_gives_the_target(data, before):
    target = data.draw(changed(before))
    assume(before != target)
    assert after(before, unified(before, target, data.draw(st.integers(1, 3)))) == target


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@given(ANY, ANY)
@settings(max_examples=150, deadline=None)
def test_a_computed_diff_of_any_two_texts_gives_the_target(before, target):
    assume(before != target)
    assert after(before, unified(before, target)) == target


def test_what_git_diff_writes_gives_the_target(tmp_path):
    cases = []

    @given(texts(), texts())
    @settings(max_examples=40, deadline=None)
    def collect(before, target):
        assume(before != target and before and target)
        cases.append((before, target))

    collect()
    for before, target in cases[:40]:
        (tmp_path / "a").write_bytes(before.encode())
        (tmp_path / "b").write_bytes(target.encode())
        done = subprocess.run(
            ["git", "diff", "--no-index", "--no-color", "a", "b"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        diff = done.stdout.decode().replace("b/b", "b/a").replace("a/b", "a/a")
        found = outcome(before, diff, "a")
        assert not isinstance(found, Refusal), found
        assert found[0].text == target


def distinct(count):
    return [f"{'    ' * (n % 3)}line{n} = call({n})" for n in range(count)]


@st.composite
def clear_changes(draw):
    """A text whose lines all differ, and a change of it."""
    lines = distinct(draw(st.integers(6, 30)))
    target = list(lines)
    for n in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(target) - 1))
        target[at : at + draw(st.integers(0, 2))] = [
            f"    new{n}_{i} = other({n})" for i in range(draw(st.integers(0, 2)))
        ]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    last = draw(st.sampled_from([end, ""]))
    return end.join(lines) + last, end.join(target) + last


def hunk_heads(diff, make):
    return re.sub(r"(?m)^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$", make, diff)


def _shifted(by):
    return lambda m: f"@@ -{int(m[1]) + by},{m[2] or 1} +{int(m[3]) + by},{m[4] or 1} @@"


DAMAGES = {
    "numbers": lambda diff: hunk_heads(diff, _shifted(7)),
    "counts": lambda diff: hunk_heads(diff, lambda m: f"@@ -{m[1]},1 +{m[3]},99 @@"),
    "small counts": lambda diff: hunk_heads(diff, lambda m: f"@@ -{m[1]},1 +{m[3]},1 @@"),
    "bare heads": lambda diff: hunk_heads(diff, "@@ @@"),
    "dotted heads": lambda diff: hunk_heads(diff, "@@ ... @@"),
    "no prefixes": lambda diff: diff.replace("--- a/", "--- ").replace("+++ b/", "+++ "),
    "no names": lambda diff: diff.split("\n", 2)[2],
    "no marks on context": lambda diff: re.sub(r"(?m)^ ", "", diff),
    "fenced": lambda diff: f"Here it is:\n\n```diff\n{diff}```\nDone.\n",
    "no carriage returns": lambda diff: diff.replace("\r", ""),
    "no mark of a missing line end": lambda diff: diff.replace("\\ No newline at end of file\n", ""),
    "trailing blanks": lambda diff: re.sub(r"(?m)^( .*?)\r?$", r"\1  ", diff),
    "prose after": lambda diff: diff + "\nThis changes the lines.\n",
}


@given(clear_changes(), st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=2, unique=True))
@settings(max_examples=200, deadline=None)
def test_a_damaged_diff_of_distinct_lines_gives_the_target(pair, damages):
    before, target = pair
    assume(before != target)
    diff = unified(before, target)
    for damage in damages:
        diff = DAMAGES[damage](diff)
    found = after(before, diff)
    if isinstance(found, Refusal):
        # Only what cannot be told is refused: a change of nothing but the missing line end, or no context left.
        assert found.kind in (
            "unclear",
            "ambiguous",
            "not_found",
            "malformed",
            "no_change",
            "already_applied",
        )
    else:
        assert found == target


@given(st.data(), texts(30), st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=2, unique=True))
@settings(max_examples=200, deadline=None)
def test_a_damaged_diff_among_repeating_lines_gives_the_target_or_a_refusal(data, before, damages):
    before = before.replace("\r", "")
    target = data.draw(changed(before)).replace("\r", "")
    assume(before != target)
    diff = unified(before, target)
    # Without a mark on a context line that looks like a change, the diff says something else.
    assume("no marks on context" not in damages or not re.search(r"(?m)^ [-+@\\]", diff))
    assume("prose after" not in damages or "no marks on context" not in damages)
    for damage in damages:
        diff = DAMAGES[damage](diff)
    found = after(before, diff)
    if isinstance(found, str):
        assert found == target or found.rstrip("\n") == target.rstrip("\n")
