"""Each format in the shapes that models write, over several files, all or nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.edits.apply import apply
from poolcli.edits.formats import recognise
from poolcli.edits.names import unsafe
from poolcli.edits.results import FileEdit, Refusal, Replacement

APP = "import os\n\n\ndef main():\n    print('hi')\n    return 0\n\n\ndef other():\n    print('ho')\n    return 0\n"
FILES = {"src/app.py": APP, "README.md": "# Title\n\ntext\n", "old.txt": "one\ntwo\n"}
DONE = APP.replace("'hi'", "'hello'")

BLOCK = "<<<<<<< SEARCH\n    print('hi')\n=======\n    print('hello')\n>>>>>>> REPLACE\n"


def results(text, path="", files=FILES):
    edits = recognise(text, path)
    assert not isinstance(edits, Refusal), edits
    found = apply(files, edits)
    assert not isinstance(found, Refusal), found
    return {one.path: one.text for one in found}


def refusal(text, path="", files=FILES):
    edits = recognise(text, path)
    found = edits if isinstance(edits, Refusal) else apply(files, edits)
    assert isinstance(found, Refusal), found
    return found


# -- blocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"src/app.py\n{BLOCK}",
        f"src/app.py\n```python\n{BLOCK}```\n",
        f"```python\nsrc/app.py\n{BLOCK}```\n",
        f"```python src/app.py\n{BLOCK}```\n",
        f"```python:src/app.py\n{BLOCK}```\n",
        f"**src/app.py**\n\n```\n{BLOCK}```\n",
        f"### `src/app.py`\n{BLOCK}",
        f"File: src/app.py\n{BLOCK}",
        f"# src/app.py\n{BLOCK}",
        f"First I change this.\n\nsrc/app.py:\n\n```python\n{BLOCK}```\nThat is all.\n",
        "src/app.py\n"
        + BLOCK.replace("<<<<<<<", "<<<<<").replace("=======", "=====").replace(">>>>>>>", ">>>>>"),
        "src/app.py\n"
        + BLOCK.replace("<<<<<<<", "<<<<<<<<<")
        .replace("=======", "=========")
        .replace(">>>>>>>", ">>>>>>>>>"),
        "src/app.py\n" + BLOCK.replace("<<<<<<< SEARCH", "------- SEARCH").replace(">>>>>>> R", "+++++++ R"),
        "src/app.py\n" + BLOCK.replace("SEARCH\n", "SEARCH\n:start_line:5\n-------\n"),
        BLOCK.replace("SEARCH", "SEARCH src/app.py"),
        "src/app.py\n" + BLOCK.replace("\n", "\r\n"),
    ],
)
def test_blocks_with_the_name_in_any_usual_place(text):
    assert results(text) == {"src/app.py": DONE}


def test_blocks_without_a_name_are_for_the_given_file_or_the_one_before():
    assert results(BLOCK, "src/app.py") == {"src/app.py": DONE}
    second = BLOCK.replace("'hi'", "'ho'").replace("hello", "hey")
    assert results(f"src/app.py\n{BLOCK}\nand\n\n{second}") == {"src/app.py": DONE.replace("'ho'", "'hey'")}
    assert refusal(BLOCK).kind == "malformed"


def test_blocks_for_new_and_for_several_files():
    new = "lib/new.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n"
    assert results(f"src/app.py\n{BLOCK}\n{new}") == {"src/app.py": DONE, "lib/new.py": "x = 1\n"}


def test_a_heading_of_equals_signs_within_a_block():
    text = "a.rst\n<<<<<<< SEARCH\nTitle\n=====\n=======\nOther\n=====\n>>>>>>> REPLACE\n"
    assert results(text, files={"a.rst": "Title\n=====\n\ntext\n"}) == {"a.rst": "Other\n=====\n\ntext\n"}
    assert (
        refusal(text.replace("=====\n", "=======\n"), files={"a.rst": "Title\n=======\n"}).kind == "malformed"
    )


@pytest.mark.parametrize("cut", [BLOCK[:-17], BLOCK.replace("=======\n", "")])
def test_blocks_that_are_cut_off_are_refused(cut):
    assert refusal("src/app.py\n" + cut).kind == "malformed"


def test_a_block_in_place_of_a_fragment_is_no_match():
    text = "src/app.py\n<<<<<<< SEARCH\nos\n=======\nsys\n>>>>>>> REPLACE\n"
    assert refusal(text).kind == "not_found"


# -- unified diffs -------------------------------------------------------------------------------------------

DIFF = """\
--- a/src/app.py
+++ b/src/app.py
@@ -4,3 +4,3 @@
 def main():
-    print('hi')
+    print('hello')
     return 0
"""


@pytest.mark.parametrize(
    "text",
    [
        DIFF,
        f"```diff\n{DIFF}```\n",
        DIFF.replace("a/src", "src").replace("b/src", "src"),
        DIFF.replace("-4,3 +4,3", "-1,99 +7,1"),
        DIFF.replace("@@ -4,3 +4,3 @@", "@@ ... @@"),
        DIFF.replace("@@ -4,3 +4,3 @@", "@@"),
        DIFF.replace("@@ -4,3 +4,3 @@\n", ""),
        DIFF.replace("@@ -4,3 +4,3 @@", "@@ def main(): @@"),
        DIFF.replace(" def main():\n", "").replace("     return 0\n", ""),
        DIFF.replace("     return", "    return").replace(" def", "def"),
        "diff --git a/src/app.py b/src/app.py\nindex 1..2 100644\n" + DIFF,
        DIFF.replace("--- a/src/app.py", "--- a/src/app.py\t2026-01-01 10:00:00"),
        DIFF + "\nThis says hello.\n",
    ],
)
def test_diffs_in_the_shapes_that_models_write(text):
    assert results(text) == {"src/app.py": DONE}


def test_a_diff_without_names_is_for_the_given_file():
    assert results(DIFF.split("\n", 2)[2], "src/app.py") == {"src/app.py": DONE}


def test_diffs_that_create_delete_and_rename():
    text = (
        "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1,2 @@\n+a\n+b\n"
        "--- a/old.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n"
        "diff --git a/README.md b/docs/README.md\nsimilarity index 90%\n"
        "rename from README.md\nrename to docs/README.md\n"
        "--- a/README.md\n+++ b/docs/README.md\n@@ -1,3 +1,3 @@\n # Title\n \n-text\n+words\n"
    )
    assert results(text) == {
        "new.txt": "a\nb\n",
        "old.txt": None,
        "README.md": None,
        "docs/README.md": "# Title\n\nwords\n",
    }


def test_a_deletion_of_other_content_is_refused():
    text = "--- a/old.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-three\n"
    assert refusal(text).kind == "not_found"
    assert refusal("--- a/old.txt\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-one\n").kind == "stale"


def test_lines_after_a_hunk_that_is_too_short_are_not_lost():
    text = DIFF.replace("-4,3 +4,3", "-4,2 +4,2") + "-\n+# end\n"
    assert results(text)["src/app.py"] == DONE.replace("return 0\n\n", "return 0\n# end\n", 1)


def test_a_hunk_that_fits_twice_is_placed_by_the_offset_of_the_others():
    twice = "a = 1\nx\ny\nz\n" + "\n" * 3 + "b = 2\nx\ny\nz\n"
    diff = "--- f\n+++ f\n@@ -3,3 +3,3 @@\n-a = 1\n+a = 5\n x\n y\n@@ -10,3 +10,3 @@\n x\n-y\n+Y\n z\n"
    # The first hunk is two lines off, so the second is meant for line 8, which is not where it fits.
    assert refusal(diff, "f", {"f": twice}).kind == "ambiguous"
    right = diff.replace("-10,3 +10,3", "-11,3 +11,3")
    assert results(right, "f", {"f": twice}) == {"f": "a = 5\nx\ny\nz\n\n\n\nb = 2\nx\nY\nz\n"}


# -- the envelope --------------------------------------------------------------------------------------------

PATCH = """\
*** Begin Patch
*** Update File: src/app.py
@@ def main():
-    print('hi')
+    print('hello')
     return 0
*** End Patch
"""


@pytest.mark.parametrize(
    "text",
    [
        PATCH,
        f"```\n{PATCH}```\n",
        PATCH.replace("*** End Patch\n", ""),
        PATCH.replace("*** Begin Patch\n", ""),
        PATCH.replace("@@ def main():\n", ""),
        PATCH.replace("@@ def main():", "@@"),
        PATCH.replace("@@ def main():", "@@ import os\n@@ def main():"),
        "apply_patch <<'EOF'\n" + PATCH + "EOF\n",
    ],
)
def test_envelopes_in_the_shapes_that_models_write(text):
    assert results(text) == {"src/app.py": DONE}


def test_an_anchor_tells_which_of_two_places_is_meant():
    text = "*** Begin Patch\n*** Update File: src/app.py\n@@ def {}():\n-    return 0\n+    return 1\n*** End Patch\n"
    first, second = APP.replace("return 0", "return 1", 1), APP[:-9] + "return 1\n"
    assert results(text.format("main")) == {"src/app.py": first}
    assert results(text.format("other")) == {"src/app.py": second}
    assert refusal(text.replace("@@ def {}():", "@@")).kind == "ambiguous"


def test_an_anchor_below_the_place_is_refused():
    text = "*** Begin Patch\n*** Update File: src/app.py\n@@ def other():\n-    print('hi')\n+    x\n*** End Patch\n"
    assert refusal(text).kind == "unclear"


def test_an_envelope_over_several_files():
    text = (
        "*** Begin Patch\n*** Add File: new.txt\n+a\n+\n+b\n*** Delete File: old.txt\n"
        "*** Update File: README.md\n*** Move to: docs/index.md\n@@\n # Title\n \n-text\n+words\n*** End of File\n"
        "*** Update File: src/app.py\n@@\n+# the end\n*** End of File\n*** End Patch\n"
    )
    assert results(text) == {
        "new.txt": "a\n\nb\n",
        "old.txt": None,
        "README.md": None,
        "docs/index.md": "# Title\n\nwords\n",
        "src/app.py": APP + "# the end\n",
    }


def test_all_files_or_none():
    text = PATCH.replace("*** End Patch", "*** Update File: README.md\n@@\n-nowhere\n+x\n*** End Patch")
    found = refusal(text)
    assert found.path == "README.md" and found.kind == "not_found"


def test_what_exists_is_not_created_and_what_is_missing_not_changed():
    assert refusal("*** Begin Patch\n*** Add File: old.txt\n+x\n*** End Patch\n").kind == "exists"
    assert (
        refusal("*** Begin Patch\n*** Add File: old.txt\n+one\n+two\n*** End Patch\n").kind
        == "already_applied"
    )
    assert refusal("*** Begin Patch\n*** Delete File: gone.txt\n*** End Patch\n").kind == "missing"
    moved = PATCH.replace("@@", "*** Move to: old.txt\n@@", 1)
    assert refusal(moved).kind == "exists"


# -- whole files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "old.txt\n```\none\n```\n",
        "```txt old.txt\none\n```\n",
        "**`old.txt`**\n\n````\none\n````\n",
        "## old.txt\n~~~\none\n~~~\n",
    ],
)
def test_whole_files(text):
    assert results(text) == {"old.txt": "one\n"}


def test_whole_files_keep_line_ends_and_a_missing_last_one():
    text = "a.txt\n```\none\ntwo\n```\n"
    assert results(text, files={"a.txt": "1\r\n2\r\n"}) == {"a.txt": "one\r\ntwo\r\n"}
    assert results(text, files={"a.txt": "1\n2"}) == {"a.txt": "one\ntwo"}
    assert results("a.md\n````\n```py\nx\n```\n````\n", files={}) == {"a.md": "```py\nx\n```\n"}


def test_whole_files_that_leave_code_out_or_are_cut_off_are_refused():
    assert refusal("old.txt\n```\none\n# ... rest of the code unchanged ...\n```\n").kind == "unclear"
    assert refusal("old.txt\n```\none\n").kind == "malformed"
    assert refusal("Just prose.\n").kind == "malformed"


# -- paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "~/x", "C:\\x", "C:/x", "a\\..\\..\\x", "", "\0"]
)
def test_paths_that_lead_out_are_refused(path):
    assert unsafe(path) is not None
    found = apply({path: "a\n"}, [FileEdit(path, replacements=(Replacement("a", "b"),))])
    assert isinstance(found, Refusal) and found.kind == "unsafe_path"
    found = apply({"f": "a\n"}, [FileEdit("f", replacements=(Replacement("a", "b"),), move_to=path or "..")])
    assert isinstance(found, Refusal) and found.kind == "unsafe_path"


@given(
    st.text(st.sampled_from("<=>-+@ *\\abSEARCHREPLACE\n`./#_1,"), max_size=200),
    st.sampled_from(["", BLOCK, DIFF, PATCH]),
)
@settings(max_examples=300, deadline=None)
def test_no_text_makes_it_fail_otherwise_than_by_a_refusal(text, tail):
    edits = recognise(text + tail, "src/app.py")
    if not isinstance(edits, Refusal):
        apply(FILES, edits)
