"""Uncovered changed lines, noted by real interpreters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli.verdict.coverage import Coverage, instrumented, read

PYTHON = f"'{sys.executable}'"

MODULE = '''\
"""A docstring
over two lines."""
import os


def size(x,
         y=1):
    """Another."""
    # a comment
    if x < 0:
        y = 2
        return -1
    else:
        pass
    for _ in range(2):
        continue
    return (x +
            y)


def hidden(): return [n
    for n in range(3)]


def forked():
    return 7
'''
ALL = range(1, 40)


def measure(root: Path, folder: Path, command: str, changed: dict[str, object]) -> Coverage:
    text = instrumented(command, folder, root, changed)
    subprocess.run(["sh", "-c", text], cwd=root, check=False, timeout=60)
    return read(folder, root, changed)


def test_lines_that_no_test_ran(tmp_path):
    (tmp_path / "mod.py").write_text(MODULE)
    (tmp_path / "test_mod.py").write_text("from mod import size\ndef test_it():\n    assert size(3) == 4\n")
    found = measure(tmp_path, tmp_path / "it's notes", f"{PYTHON} -m pytest -q test_mod.py", {"mod.py": ALL})
    assert found.uncovered == {"mod.py": (11, 12, 22, 26)}
    assert found.problem == "" and found.covered + len(found.uncovered["mod.py"]) == found.total


def test_only_changed_lines_count(tmp_path):
    (tmp_path / "mod.py").write_text(MODULE)
    found = measure(
        tmp_path, tmp_path / "n", f"{PYTHON} -c 'import mod; mod.size(1)'", {"mod.py": {1, 9, 10, 11}}
    )
    assert (found.covered, found.uncovered) == (found.total - 1, {"mod.py": (11,)})


@pytest.mark.parametrize(
    "end",
    [
        "import os; mod.forked(); os._exit(0)",
        "import os, signal; mod.forked(); os.kill(os.getpid(), signal.SIGKILL)",
        "import os; pid = os.fork(); pid or (mod.forked(), os._exit(0)); os.waitpid(pid, 0)",
        "import threading; t = threading.Thread(target=mod.forked); t.start(); t.join()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import mod; mod.forked()'])",
        "import os; os.closerange(3, 64); mod.forked()",
        "f = lambda: f()\ntry:\n    f()\nexcept RecursionError:\n    import gc; gc.collect(); mod.forked()",
    ],
)
def test_other_processes_and_hard_ends(end, tmp_path):
    (tmp_path / "mod.py").write_text("def forked():\n    return 7\n\ndef other():\n    return 8\n")
    (tmp_path / "main.py").write_text(f"import mod\n{end}\n")
    found = measure(tmp_path, tmp_path / "n", f"{PYTHON} main.py", {"mod.py": ALL})
    assert found.uncovered == {"mod.py": (5,)}


def test_a_sitecustomize_of_the_project_still_runs(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import builtins\nbuiltins.MARK = 1\n")
    (tmp_path / "mod.py").write_text("if MARK:\n    a = 1\n")
    (tmp_path / "main.py").write_text("import mod\n")
    found = measure(tmp_path, tmp_path / "n", f"PYTHONPATH=$PYTHONPATH:own {PYTHON} main.py", {"mod.py": ALL})
    assert (found.covered, found.total, found.uncovered) == (2, 2, {})


def test_what_cannot_be_known_is_said(tmp_path):
    (tmp_path / "mod.py").write_text("a = 1\n")
    found = measure(tmp_path, tmp_path / "a", f"{PYTHON} -I -c 'import sys'", {"mod.py": ALL})
    assert found.share is None and "no interpreter noted" in found.problem
    found = measure(tmp_path, tmp_path / "b", f"{PYTHON} -c 'import sys'", {"mod.py": ALL})
    assert found.uncovered == {"mod.py": (1,)} and "none of the changed files" in found.problem
    assert instrumented("make check", tmp_path / "c", tmp_path, {"a.c": ALL}) == ""
    assert read(tmp_path / "c", tmp_path, {"a.c": ALL}) == Coverage(problem="not known for .c")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tracers stand beside each other from 3.12 on")
def test_a_tracer_that_takes_over_is_noticed(tmp_path):
    (tmp_path / "mod.py").write_text("a = 1\nb = 2\n")
    found = measure(
        tmp_path, tmp_path / "n", f"{PYTHON} -c 'import sys; sys.settrace(None); import mod'", {"mod.py": ALL}
    )
    assert found.share is None and "another tracer" in found.problem


SCRIPT = """\
// ä comment, and 𝒳 beyond the first plane
const 𝒳 = 'é';
export function size(x) {
  if (x < 0) {
    return -1;
  } else {
    x += 1; /* counted */
  }
  return x;
}

export const never = (y) =>
  y + 1;
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_node(tmp_path):
    (tmp_path / "mod.mjs").write_text(SCRIPT)
    (tmp_path / "mod.test.mjs").write_text(
        "import test from 'node:test'; import { size } from './mod.mjs';\ntest('it', () => { size(3); });\n"
    )
    (tmp_path / "other.mjs").write_text("const a = 1;\n")
    changed = {"mod.mjs": ALL, "other.mjs": ALL}
    found = measure(tmp_path, tmp_path / "n", "node --test", changed)
    assert found.uncovered == {"mod.mjs": (5, 13), "other.mjs": (1,)}
    assert found.problem == ""
    assert "no process reported" in measure(tmp_path, tmp_path / "m", "true", changed).problem


@pytest.mark.parametrize("made", ["rm {0}; mkfifo {0}", "mv {0} kept; ln -s $PWD/kept {0}", ":"])
def test_notes_that_are_no_files_are_not_waited_for_or_followed(tmp_path, made):
    (tmp_path / "mod.py").write_text("x = 1\n")
    notes = tmp_path / "n"
    command = f"{PYTHON} -c 'import mod'; " + made.format(f"{notes}/executable.txt")
    found = measure(tmp_path, notes, command, {"mod.py": ALL})
    assert (found.total == 1) == (made == ":") and bool(found.problem) == (made != ":")


@pytest.mark.parametrize("made", ["fifo", "link", "folder", ""])
def test_reports_of_node_that_are_no_files(tmp_path, made):
    root, notes, v8 = tmp_path / "root", tmp_path / "n", tmp_path / "n" / "v8"
    root.mkdir()
    v8.mkdir(parents=True)
    (root / "a.js").write_text("f()\n")
    part = {"startOffset": 0, "endOffset": 4, "count": 1}
    script = {"url": (root / "a.js").as_uri(), "functions": [{"ranges": [part]}]}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"result": [script]}))
    if made == "fifo":
        os.mkfifo(v8 / "report.json")
    elif made == "link":
        (v8 / "report.json").symlink_to(report)
    elif made == "folder":
        v8.rmdir()
        v8.symlink_to(tmp_path)
    else:
        report.rename(v8 / "report.json")
    assert read(notes, root, {"a.js": {1}}).covered == (0 if made else 1)
    if not made:  # the file under test, too
        (root / "a.js").unlink()
        os.mkfifo(root / "a.js")
        assert read(notes, root, {"a.js": {1}}).total == 0


def test_notes_are_not_put_behind_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "n").symlink_to("elsewhere")
    with pytest.raises(OSError, match=r"[Nn]ot a directory|symbolic"):
        instrumented("true", tmp_path / "n", tmp_path, {"mod.py": ALL})
    assert not any((tmp_path / "elsewhere").iterdir())
