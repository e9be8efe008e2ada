"""Diffs for people: what git makes of them is the proof."""

import subprocess

from hypothesis import example, given, settings
from hypothesis import strategies as st

from poolcli.tools.diffs import unified

LINES = st.lists(st.sampled_from(["a", "b", "c", "", " x"]), max_size=12)


@settings(max_examples=25, deadline=None)
@given(LINES, LINES, st.booleans(), st.booleans())
@example(["a", "a", "b", "a", "a", "a"], ["a", "b", "a", "b", "a", "a", "a"], False, False)
def test_git_applies_them(tmp_path_factory, old, new, old_end, new_end):
    before = "\n".join(old) + ("\n" if old and old_end else "")
    after = "\n".join(new) + ("\n" if new and new_end else "")
    if before in ("", after) or after == "":
        return
    folder = tmp_path_factory.mktemp("diff")
    (folder / "f").write_text(before)
    diff = unified("f", before, after)
    done = subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=folder, capture_output=True)
    assert done.returncode == 0, (diff, done.stderr)
    assert (folder / "f").read_text() == after
