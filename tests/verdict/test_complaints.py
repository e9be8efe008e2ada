"""What a change brought of a linter's and a type checker's complaints: real tools on real changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.process import Finished
from poolcli.verdict.complaints import (
    Compared,
    Complaint,
    Findings,
    compared,
    complaints,
    needs_base,
    new_findings,
)
from poolcli.verdict.moved_lines import moved

BIN = Path(sys.executable).parent

OLD = """\
import os
import sys


def size(x: int) -> str:
    return x


def twice(x: int) -> int:
    return 2 * x


def size(x):
    pass
"""
#: The complaints of OLD stay, moved and partly in rewritten lines; there is one more of each tool.
NEW = """\
\"\"\"Sizes.\"\"\"

import os
import sys
import json


def size(x: int) -> str:
    \"\"\"A size.\"\"\"
    return x


def twice(x: int) -> int:
    return 3 * x + "1"


def size(x, y=1):
    pass
"""


def patch_of(folder: Path, old: dict[str, str], new: dict[str, str]) -> str:
    """What git says of the two, and the new version in the folder."""

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    write(folder, old)
    git("add", "-A")
    git("commit", "-qm", "old")
    for path in old:
        (folder / path).unlink()
    write(folder, new)
    git("add", "-A")
    return git("diff", "--cached", "--no-ext-diff", "-M")


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def run(folder: Path, command: list[str], **environment: str) -> Finished:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return Finished(done.returncode, False, done.stdout + done.stderr, 0, 0.0, False)


def both(tmp_path: Path, command: list[str], old: dict[str, str], new: dict[str, str]) -> tuple:
    """The command in two folders, and the patch."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new folder").mkdir()
    patch = patch_of(tmp_path / "new folder", old, new)
    write(tmp_path / "old", old)
    return run(tmp_path / "old", command), run(tmp_path / "new folder", command), patch


RUFF = [str(BIN / "ruff"), "check", "--isolated", "--no-cache", "--select", "E,F"]
MYPY = [str(BIN / "mypy"), "--strict", "--cache-dir", os.devnull]


@pytest.mark.parametrize("style", ["full", "concise", "pylint"])
def test_ruff(tmp_path, style):
    command = [*RUFF, "--output-format", style, "."]
    before, after, patch = both(tmp_path, command, {"a/b.py": OLD}, {"a/b.py": NEW})
    found = new_findings(before.output, after.output, patch)
    assert [(each.path, each.line, each.rule) for each in found.new] == [("a/b.py", 5, "F401")]
    assert "`json` imported but unused" in found.new[0].text
    assert (found.before, found.after) == (3, 4)
    judged = compared(before, after, patch)
    assert (judged.ok, judged.share) == (False, 0.5)


@pytest.mark.parametrize("options", [[], ["--show-column-numbers"], ["--show-error-end"], ["--pretty"]])
def test_mypy(tmp_path, options):
    before, after, patch = both(tmp_path, [*MYPY, *options, "."], {"a.py": OLD}, {"a.py": NEW})
    found = new_findings(before.output, after.output, patch)
    assert [(each.path, each.line) for each in found.new] == [("a.py", 14)]
    assert "Unsupported operand types" in found.new[0].text
    # A name that was defined on line 5 is now defined on line 8: said of a line that was rewritten, and not new.
    assert "already defined on line 5" in before.output and "already defined on line 8" in after.output


def test_only_moved(tmp_path):
    moved_down = '"""One\n\n\nmore."""\n\n' + OLD
    for number, command in enumerate((RUFF, MYPY)):
        folder = tmp_path / str(number)
        folder.mkdir()
        before, after, patch = both(folder, [*command, "."], {"a.py": OLD}, {"src/b.py": moved_down})
        judged = compared(before, after, patch)
        assert (judged.ok, judged.share, judged.findings.new) == (True, 1.0, ())
        assert judged.findings.before == judged.findings.after == 3
        assert "the same (3)" in judged.note and needs_base(after)
        # Without the patch all of them would be new.
        assert len(new_findings(before.output, after.output, "").new) == 3


def test_a_line_that_nothing_touched_can_bring_one(tmp_path):
    old = "import os\nimport sys\n\nprint(os.name)\nprint(sys.path)\n"
    before, after, patch = both(tmp_path, [*RUFF, "."], {"a.py": old}, {"a.py": old.replace("os.name", "1")})
    assert before.exit_code == 0
    (new,) = compared(before, after, patch).findings.new
    assert (new.line, new.rule) == (1, "F401")


#: As the tools print them; the same places in each.
SHAPES = {
    "flake8": ("src/a.py:3:1: F401 'os' imported but unused\n", "F401", "'os' imported but unused"),
    "pylint": (
        "************* Module a\nsrc/a.py:3:0: W0611: Unused import os (unused-import)\n",
        "W0611",
        "Unused import os (unused-import)",
    ),
    "pyright": (
        '/root/x/src/a.py\n  /root/x/src/a.py:3:9 - error: "x" is possibly unbound (reportPossiblyUnbound)\n'
        "1 error, 0 warnings, 0 informations\n",
        "reportPossiblyUnbound",
        '"x" is possibly unbound',
    ),
    "mypy": (
        'src/a.py:3: error: Name "y" is not defined  [name-defined]\nsrc/a.py:3: note: See more\n'
        "Found 1 error in 1 file (checked 1 source file)\n",
        "name-defined",
        'Name "y" is not defined',
    ),
    "eslint unix": (
        "/root/x/src/a.js:3:7: 'y' is assigned a value but never used. [Error/no-unused-vars]\n\n1 problem\n",
        "Error/no-unused-vars",
        "'y' is assigned a value but never used.",
    ),
    "eslint stylish": (
        "\n/root/x/src/a.js\n  3:7  error  'y' is assigned a value but never used  no-unused-vars\n\n"
        "✖ 1 problem (1 error, 0 warnings)\n",
        "no-unused-vars",
        "'y' is assigned a value but never used",
    ),
    "eslint without a rule": (
        "\x1b[4m/root/x/src/a.js\x1b[24m\n  3:7  \x1b[31merror\x1b[39m  Parsing error: Unexpected token\n",
        "",
        "Parsing error: Unexpected token",
    ),
    "tsc": (
        "src/a.ts(3,5): error TS2322: Type 'string' is not assignable to type 'number'.\n",
        "TS2322",
        "Type 'string' is not assignable to type 'number'.",
    ),
    "tsc pretty": (
        "\x1b[96msrc/(group)/a.ts\x1b[0m:\x1b[93m3\x1b[0m:\x1b[93m5\x1b[0m - \x1b[91merror\x1b[0m"
        "\x1b[90m TS2322: \x1b[0mType 'string' is wrong.\n\n\x1b[7m3\x1b[0m let x: number = 'a';\n"
        "\nFound 1 error in src/(group)/a.ts\x1b[90m:3\x1b[0m\n",
        "TS2322",
        "Type 'string' is wrong.",
    ),
    "rustc": (
        "error[E0425]: cannot find value `y` in this scope\n --> src/a.rs:3:9\n  |\n3 | let x = y; // b.rs:1:1: x\n"
        "  |         ^ not found\n\nnote: it was here\n --> src/b.rs:9:1\n\nerror: aborting due to 1 error\n",
        "E0425",
        "cannot find value `y` in this scope",
    ),
    "clippy": (
        "warning: unneeded `return` statement\n  --> src/a.rs:3:5\n   |\n3  |     return x;\n   |     ^^^^^^^^\n"
        "   |\n   = help: for more, visit a page\n   = note: `#[warn(clippy::needless_return)]` on by default\n"
        "help: remove `return`\n   |\n\nwarning: `a` (lib) generated 1 warning\n",
        "",
        "unneeded `return` statement",
    ),
    "go vet": (
        "# example.com/x\nsrc/a.go:3:2: fmt.Printf format %d has arg s of wrong type string\n",
        "",
        "fmt.Printf format %d has arg s of wrong type string",
    ),
    "go vet that does not build": ("vet: ./src/a.go:3:2: undefined: x\n", "", "undefined: x"),
    "golangci-lint": (
        "src/a.go:3:7: Error return value of `f` is not checked (errcheck)\n\tf()\n\t ^\n",
        "errcheck",
        "Error return value of `f` is not checked",
    ),
    "shellcheck gcc": (
        "src/a.sh:3:6: note: Double quote to prevent globbing. [SC2086]\n",
        "SC2086",
        "Double quote to prevent globbing.",
    ),
    "shellcheck": (
        "\nIn src/a.sh line 3:\necho $x\n     ^-- SC2086 (info): Double quote to prevent globbing.\n\nDid you mean:\n"
        'echo "$x"\n\nFor more information:\n  a page -- Double quote ...\n',
        "SC2086",
        "Double quote to prevent globbing.",
    ),
    "phpcs": (
        "/root/x/src/a.php:3:1: error - Missing doc comment\n",
        "",
        "Missing doc comment",
    ),
    "gcc": (
        "src/a.c: In function 'f':\nsrc/a.c:3:7: warning: unused variable 'x' [-Wunused-variable]\n"
        "    3 |   int x;\n      |       ^\n",
        "-Wunused-variable",
        "unused variable 'x'",
    ),
}


@pytest.mark.parametrize("tool", SHAPES)
def test_the_shapes_of_tools(tool):
    output, rule, text = SHAPES[tool]
    (found,) = complaints(output, "/root/x")
    assert found == Complaint(found.path, 3, text, rule)
    assert found.path.startswith("src/") and found.path.rpartition("/")[2].startswith("a.")


@pytest.mark.skipif(not shutil.which("go"), reason="needs go")
def test_go_vet(tmp_path):
    text = 'package a\n\nimport "fmt"\n\nfunc f() {\n\tfmt.Printf("%d\\n", "x")\n}\n'
    new = text.replace("func f", "// f prints.\nfunc f") + '\nfunc g() {\n\tfmt.Printf("%s\\n", 1)\n}\n'
    mod = {"go.mod": "module example.com/a\n\ngo 1.18\n"}
    before, after, patch = both(tmp_path, ["go", "vet", "./..."], {**mod, "a.go": text}, {**mod, "a.go": new})
    found = new_findings(before.output, after.output, patch)
    assert [each.line for each in found.new] == [11] and found.before == 1 and found.after == 2


@pytest.mark.parametrize(
    "output",
    [
        "12:30:45 - INFO started",
        "localhost:80: connection refused",
        "127.0.0.1:80: refused",
        "All checks passed!",
        "Success: no issues found in 3 source files",
        "Time: 3:12: done",
        '  File "a.py", line 3, in f\n    raise E',
        "3 | a.py:1:2: E1 source that is shown",
    ],
)
def test_what_is_no_complaint(output):
    assert complaints(output) == []


def end(code: int | None, output: str = "", *, timed_out: bool = False) -> Finished:
    return Finished(code, timed_out, output, len(output), 1.0, False)


def test_how_a_check_is_judged():
    said = "a.py:3:1: F401 'os' imported but unused\n"
    assert compared(end(0), end(0), "") == Compared(True, 1.0)
    assert compared(end(1, said), end(0), "").share == 1.0
    assert compared(end(1, said), end(1, said), "").ok is True
    # A check that fails and cannot be read: known only where it passed before.
    assert compared(end(1, "?"), end(1, "?"), "").ok is None
    assert compared(end(0), end(1, "?"), "").share == 0.0
    # Warnings on both, and now it fails for something else.
    assert compared(end(0, said), end(3, said), "").ok is False
    assert compared(end(0), end(1, said), "") == Compared(
        False, 0.5, Findings((Complaint("a.py", 3, "'os' imported but unused", "F401"),), 0, 1)
    )
    # Without the base its exit code is all there is; a tool that is not there says nothing.
    assert compared(None, end(1, said), "").ok is False and compared(None, end(0), "").share == 1.0
    assert compared(end(127), end(1, said), "").note == "not compared with the base"
    for gone in (end(127), end(None), end(1, timed_out=True)):
        assert compared(end(0), gone, "").ok is None and not needs_base(gone)
    assert not needs_base(end(0, "fine")) and needs_base(end(0, said)) and needs_base(end(1))


def test_one_more_of_the_same_is_new():
    """Two on a line where there was one, and the same rule in other words where there was one already."""
    before = "a.py:3:1: E711 comparison to None\na.py:4:1: C901 `f` is too complex (11 > 10)\n"
    after = before + "a.py:3:9: E711 comparison to None, again\n"
    assert [each.text for each in new_findings(before, after, "").new] == ["comparison to None, again"]
    more = before.replace("(11", "(12")
    assert new_findings(before, more, "").new == ()


LINES = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


@given(LINES, LINES, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_lines_are_found_again(old, new, context):
    """Every line that the patch keeps is mapped to one that reads the same."""
    import difflib

    rows = list(difflib.unified_diff(old, new, "a/f", "b/f", lineterm="", n=context))
    patch = "\n".join(["diff --git a/f b/f", *rows, ""]) if rows else ""
    places = moved(patch)
    kept = 0
    for number, text in enumerate(new, 1):
        place = places.before("f", number)
        assert place.path == "f"
        if place.first == place.last and place.first <= len(old):
            kept += old[place.first - 1] == text
    added = sum(row.startswith("+") for row in rows[2:])
    assert kept >= len(new) - added


@given(
    st.text(max_size=300) | st.text("a.py:/0123456789 ()[]->|^-In line\n", max_size=300), st.text(max_size=5)
)
@settings(max_examples=300, deadline=None)
def test_any_output_is_survived(output, root):
    for found in complaints(output, root):
        assert found.path and found.line >= 0
    assert new_findings(output, output, "").new == ()


def test_long_lines_and_many_take_no_time():
    for piece in ("a" * 100_000, "/" * 100_000, " " * 100_000 + "x", "a.py:1:" * 20_000, "(1,1" * 30_000):
        assert complaints(f"{piece}\n" * 10) == []
    many = "".join(f"a.py:{n}:1: E1 x\n" for n in range(1, 20_001))
    assert len(complaints(many)) == 20_000 and new_findings(many, many, "").new == ()
