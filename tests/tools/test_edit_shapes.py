"""edit and write: other formats, refusals that lead on, and what is said after an edit."""

import json
import stat

import pytest

from poolcli.approvals import Approver, what
from poolcli.policy import Rule
from poolcli.tools import aliases, definition, patched, syntax
from poolcli.tools.base import ToolError

CODE = "def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a - b\n"
PATCH = """\
*** Begin Patch
*** Update File: calc.py
@@ def add(a, b):
-    return a - b
+    return a + b
*** Add File: new.py
+x = 1
*** Delete File: old.py
*** Update File: run.sh
*** Move to: bin/run.sh
@@
-echo a
+echo b
*** End Patch
"""
DIFF = (
    "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"
)
BLOCK = """\
calc.py
<<<<<<< SEARCH
def add(a, b):
    return a - b
=======
def add(a, b):
    return a + b
>>>>>>> REPLACE
"""
FIXED = CODE.replace("a - b", "a + b", 1)


@pytest.fixture
def tree(root):
    (root / "calc.py").write_text(CODE)
    (root / "old.py").write_text("gone\n")
    (root / "run.sh").write_text("echo a\n")
    (root / "run.sh").chmod(0o755)
    return root


def refused(call, *args, **more):
    with pytest.raises(ToolError) as error:
        call(*args, **more)
    return str(error.value)


def state(root):
    return {
        str(f.relative_to(root)): f.read_bytes()
        for f in root.rglob("*")
        if f.is_file() and ".git" not in f.parts
    }


@pytest.mark.parametrize("tool", ["edit", "write"])
def test_a_patch_of_several_files(call, tree, tool):
    more = {"old": "", "new": PATCH} if tool == "edit" else {"content": PATCH}
    done = call(tool, path="calc.py", **more)
    assert done.text.split("\n") == [
        "edited calc.py at line 2", "wrote new.py (1 line)", "deleted old.py",
        "edited bin/run.sh at line 1 (it was run.sh)",
    ]  # fmt: skip
    assert state(tree) == {"calc.py": FIXED.encode(), "new.py": b"x = 1\n", "bin/run.sh": b"echo b\n"}
    assert stat.S_IMODE((tree / "bin/run.sh").stat().st_mode) == 0o755
    assert [shown["path"] for shown in done.show] == ["calc.py", "new.py", "old.py", "bin/run.sh"]
    call("undo", path="old.py")
    call("undo", path="calc.py")
    assert (tree / "old.py").read_text() == "gone\n" and (tree / "calc.py").read_text() == CODE


@pytest.mark.parametrize("text", [DIFF, BLOCK, DIFF.split("\n", 2)[2]])
def test_other_formats_without_old(call, tree, text):
    done = call("edit", path="calc.py", old="", new=text)
    assert (tree / "calc.py").read_text() == FIXED and done.text.startswith("edited calc.py at line")


def test_a_fenced_file(call, tree):
    call("write", path="calc.py", content="```python\nx = 1\n```\n")
    assert (tree / "calc.py").read_text() == "x = 1\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [("notes.md", DIFF), ("fix.patch", DIFF), ("doc.md", "```python\nx\n```\n"), ("other.py", PATCH),
     ("list.yml", "- a\n@@ x\n- b\n"), ("LICENSE", BLOCK)],
)  # fmt: skip
def test_texts_that_are_meant_as_they_are(call, tree, path, text):
    call("write", path=path, content=text)
    assert (tree / path).read_text() == text and (tree / "calc.py").read_text() == CODE


@pytest.mark.parametrize(
    "bad",
    [
        PATCH.replace("-echo a", "-echo z"),
        PATCH.replace("new.py", "../new.py"),
        PATCH.replace("new.py", ".git/config"),
        PATCH.replace("new.py", "calc.py/x.py"),
        PATCH.replace("old.py", "none.py"),
        PATCH.replace("x = 1", "[redacted: api key]"),
    ],
)
def test_all_files_or_none(call, tree, bad):
    before = state(tree)
    refused(call, "edit", path="calc.py", old="", new=bad)
    assert state(tree) == before


@pytest.mark.parametrize("last", ["zz", "x.py/below"])
def test_a_write_that_fails_puts_back_what_was_written(call, tree, last):
    # Only writing finds out: pool's own folder, and a folder that would be below a file of the same patch.
    own = ".pool/config.toml" if last == "zz" else last
    before = state(tree)
    patch = PATCH.replace("new.py", "x.py").replace("*** End", f"*** Add File: {own}\n+x\n*** End")
    refused(call, "edit", path=".", old="", new=patch)
    assert state(tree) == before and stat.S_IMODE((tree / "run.sh").stat().st_mode) == 0o755
    with pytest.raises(ToolError, match="no edit of"):
        call("undo", path="calc.py")


def test_a_link_is_not_deleted_in_the_place_of_its_file(call, tree):
    (tree / "link").symlink_to("calc.py")
    said = refused(call, "edit", path=".", old="", new=PATCH.replace("old.py", "link"))
    assert "is or goes through a link" in said and (tree / "calc.py").read_text() == CODE


def test_a_patch_in_the_place_of_code_is_refused(call, tree):
    said = refused(call, "edit", path="calc.py", old="    return a - b\n\n", new=PATCH)
    assert said == "new is a patch; to apply it leave old empty" and (tree / "calc.py").read_text() == CODE


def test_a_match_that_is_not_exact_is_said_and_shown(call, tree):
    done = call(
        "edit",
        path="calc.py",
        old="def sub(a,b):\n    return a - b\n",
        new="def sub(a,b):\n    return b - a\n",
    )
    assert (tree / "calc.py").read_text() == CODE[:-6] + "b - a\n"
    assert done.text == (
        "edited calc.py at line 6\n(old was not there exactly: it differed in some words; the lines are now:)\n"
        "5\tdef sub(a, b):\n6\t    return b - a\n7\t"
    )


def test_after_two_misses_a_whole_function_is_asked_for_and_taken(call, tree):
    new = "def add(a, b):\n    return a + b\n"
    assert refused(call, "edit", path="calc.py", old="", new=new).startswith("old is empty")
    assert "missed" not in refused(call, "edit", path="calc.py", old="zzz = 1", new="y")
    assert "leave `old` empty" in refused(call, "edit", path="calc.py", old="return a - b", new="x")
    assert call("edit", path="calc.py", old="", new=new).text == "edited calc.py at line 1"
    assert (tree / "calc.py").read_text() == FIXED
    assert "missed" not in refused(call, "edit", path="calc.py", old="zzz = 1", new="y")


def test_no_change_is_a_failure_that_counts(call, tree):
    for _ in range(2):
        said = refused(call, "edit", path="calc.py", old="def add", new="def add")
    assert "nothing was changed" in said and "missed repeatedly" in said


def test_a_file_that_changed_since_it_was_read_is_shown_as_it_is(call, tree):
    call("read", path="calc.py")
    (tree / "calc.py").write_text(CODE.replace("def sub(a, b)", "def minus(x, y)"))
    said = refused(call, "edit", path="calc.py", old="def sub(a, b):\n", new="def sub(b, a):\n")
    assert "has changed since it was read" in said and "+ def minus(x, y):" in said
    # Only once: the model has seen it now.
    assert "changed since" not in refused(call, "edit", path="calc.py", old="def sub(a, b):\n", new="x\n")


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("a.py", "x = (1)\n", "x = (1\n", "(this broke the syntax of a.py: line 1: '(' was never closed)"),
        (
            "a.json",
            '{"a": 1}',
            '{"a": 1',
            "(this broke the syntax of a.json: line 1: Expecting ',' delimiter)",
        ),
        (
            "a.toml",
            "a = 1\n",
            "a = \n",
            "(this broke the syntax of a.toml: Invalid value (at line 1, column 5))",
        ),
    ],
)
def test_a_file_that_an_edit_broke(call, root, name, good, bad, said):
    assert call("write", path=name, content=bad).text.count("\n") == 0, "new files are not judged"
    assert call("write", path=name, content=good).text.count("\n") == 0
    assert call("write", path=name, content=bad).text.split("\n")[1] == said
    assert call("write", path=name, content=bad + " ").text.count("\n") == 0, "it was broken before"


def test_what_is_not_parsed():
    assert syntax.broken("a.py", "x = 1\n", "x = (" + " " * 1_000_000) == ""
    assert syntax.broken("a.py", "x = 1\n", "(" * 5000) != "crashed"
    assert syntax.broken("a.xyz", "x", "(") == "" and syntax.broken("a.py", "x = 1", "x = \0") != ""


CLASS = 'class A:\n    @cached\n    def f(self):\n        """One.\n\n        Two."""\n        return 1\n\n    x = 2\n'


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        ("def f(self):\n    return 2\n", "class A:\n    @cached\n    def f(self):\n        return 2\n\n    x = 2\n"),
        ("    @other\n    def f(self):\n        '''a\n    b'''\n",
         "class A:\n    @other\n    def f(self):\n        '''a\n    b'''\n\n    x = 2\n"),
        ("def f(self):\n    '''a\n    b'''\n", None),  # a string of several lines would be shifted
        ("def g(self):\n    pass\n", None),
        ("def f(self):\n    pass\nx = 1\n", None),
    ],
)  # fmt: skip
def test_a_definition_in_the_place_of_another(new, wanted):
    found = definition.replaced(CLASS, new)
    assert (found and found[0]) == wanted
    assert definition.replaced(CLASS + CLASS, "def f(self):\n    return 2\n") is None


TOOLS = ("edit", "write", "read")


@pytest.mark.parametrize(
    ("name", "args", "meant"),
    [
        ("apply_patch", {"input": PATCH}, ("edit", {"path": "calc.py", "old": "", "new": PATCH})),
        ("edit", {"path": "a.py", "patch": PATCH}, ("edit", {"path": "a.py", "old": "", "new": PATCH})),
        ("str_replace", {"file_path": "a", "old_str": "x", "new_str": "y"},
         ("edit", {"path": "a", "old": "x", "new": "y"})),
        ("edit", {"file_path": "a", "old_string": "x", "new_string": "y", "replace_all": True},
         ("edit", {"path": "a", "old": "x", "new": "y", "all": True})),
        ("create_file", {"path": "a", "file_text": "x"}, ("write", {"path": "a", "content": "x"})),
        ("edit", {"path": "a", "old": "x", "new": "y"}, ("edit", {"path": "a", "old": "x", "new": "y"})),
        ("edit", {"path": "a", "new": "y"}, ("edit", {"path": "a", "new": "y"})),
        ("str_replace", {"path": "a"}, ("str_replace", {"path": "a"})),
        ("shell", {"patch": PATCH}, ("shell", {"patch": PATCH})),
    ],
)  # fmt: skip
def test_calls_of_other_tools(name, args, meant):
    assert aliases.meant(name, args, TOOLS) == meant


OFFERED = (*TOOLS, "apply_patch")


@pytest.mark.parametrize(
    ("name", "args", "meant"),
    [
        ("apply_patch", {"patch": PATCH}, ("edit", {"path": "calc.py", "old": "", "new": PATCH})),
        ("applypatch", {"input": PATCH}, ("edit", {"path": "calc.py", "old": "", "new": PATCH})),
        ("edit", {"path": "a", "old": "x", "new": "y"}, ("edit", {"path": "a", "old": "x", "new": "y"})),
        ("apply_patch", {"input": "x = 1"}, ("apply_patch", {"patch": "x = 1"})),
        ("apply_patch", {}, ("apply_patch", {})),
        ("apply_patch", {"patch": "a", "more": "b"}, ("apply_patch", {"patch": "a", "more": "b"})),
    ],
)
def test_calls_where_a_patch_is_offered(name, args, meant):
    assert aliases.meant(name, args, OFFERED) == meant


def test_rules_see_every_file_of_a_patch():
    deny = Rule("deny", "edit:bin/**", "here", tool="edit", pattern="bin/**")
    approver = Approver([deny], mode="auto", sandbox="bubblewrap")
    args = {"path": "calc.py", "old": "", "new": PATCH}
    assert patched.paths(args) == ("new.py", "old.py", "run.sh", "bin/run.sh")
    assert approver.decide("edit", "edit", args).verdict == "deny"
    assert approver.decide("write", "edit", {"path": "calc.py", "content": PATCH}).verdict == "deny"
    assert approver.decide("edit", "edit", {"path": "calc.py", "old": "a", "new": "b"}).verdict == "allow"
    allow = Rule("allow", "edit:calc.py", "here", tool="edit", pattern="calc.py")
    asking = Approver([allow], mode="ask", sandbox="bubblewrap")
    assert asking.decide("edit", "edit", args).verdict == "ask"
    # A yes for one file is none for the others.
    assert what("edit", args) != what("edit", {"path": "calc.py", "old": "a", "new": "b"})
    assert json.dumps(args)


def test_grammars_where_they_are_installed():
    pytest.importorskip("tree_sitter_go")
    said = syntax.broken("a.go", "package a\nfunc f() { x() }\n", "package a\nfunc f() { x( }\n")
    assert said == "(this broke the syntax of a.go: line 2: syntax error)"
