"""Mutants: what is changed, what is not, which are chosen, and that real tests are run against them."""

from __future__ import annotations

import ast
import asyncio
import io
import shutil
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli import process
from poolcli.verdict.mutants import (
    Mutant,
    Scratch,
    choose,
    does_not_build,
    is_mutable,
    mutants,
    strength,
    time_limit,
)
from poolcli.verdict.token_mutants import scan
from tests.e2e import test_real_project

ALL = range(1, 10_000)


def after(text: str, path: str = "a.py", lines=ALL) -> set[str]:
    """The one line of each mutant, stripped."""
    return {mutant.after.strip() for mutant in mutants(path, text, lines)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = a < b", {"x = a <= b", "x = None"}),
        ("x = (a) is not (b)", {"x = (a) is (b)", "x = (None)", "x = None"}),
        ("x = a not in b", {"x = a in b", "x = None"}),
        ("x = ä and ü", {"x = ä or ü", "x = None"}),
        ("x = a and b and c", {"x = a or b and c", "x = a and b or c", "x = None"}),
        ("x += 1", {"x -= 1", "pass", "x += 2"}),
        ("x = 'ü' + y", {'x = "" + y', "x = 'Ü' + y", "x = None"}),
        ("x = b'Ab\\n' + y", {'x = b"" + y', "x = None"}),  # an escape has no other case
        ("f(a, 'é', c(d))", {"pass", 'f(a, "", c(d))', "f(a, 'É', c(d))", "f(a, 'é')"}),
        ("f(*a, b)", {"pass"}),
        (
            "x = max(a, b).lower()",
            {"x = min(a, b).lower()", "x = max(a, b).upper()", "x = max(a).lower()", "x = None"},
        ),
        ("x = (a).find (b)", {"x = (a).rfind (b)", "x = None"}),
        ("x = ''", {'x = "mutated"'}),
        ("x = True", {"x = False"}),
        ("x = 1.5", {"x = 2.5"}),
        ("x = not y", {"x = y", "x = None"}),
        ("x = not(y)", {"x = (y)", "x = None"}),
        ("x = -y", {"x = y", "x = None"}),
        ("f(a, b=c)", {"pass", "f(a)"}),
        ("f(b=c, d=e)", {"pass", "f(d=e)", "f(b=c)"}),
        ("f(b=c,)", {"pass", "f()"}),
        ("if f(x): y()", {"if (not f(x)): y()", "if f(x): pass"}),
        ("while x: break", {"while (not x): break", "while x: continue"}),
        ("raise E('text')", {"pass"}),
        ("x = lambda: y", {"x = lambda: None", "x = None"}),
        ("def f(a=1): return a", {"def f(a=2): return a", "def f(a=1): return None"}),
        ("def f(): self.x = y", {"def f(): pass"}),
        ("def __init__(): self.x = y", {"def __init__(): self.x = None"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if (not a)]", "x = None"}),
        ("x: int = y", {"x: int = None"}),
        ("match x:\n  case 1 if y: z()", {"case 1 if (not y): z()", "case 1 if y: pass"}),
    ],
)
def test_what_becomes_of_a_line_of_python(line, expected):
    found = after(line) - {"x = (None)"}
    assert found == expected - {"x = (None)"}


@pytest.mark.parametrize(
    "text",
    [
        '"""A docstring with 1 < 2."""',
        "def f():\n    'another'\n    ...",
        "x: Literal['a', 1]",
        "X = Literal['a', 1]",
        "X = t.NewType('X', int)",
        "X: TypeAlias = 'list[int]'",
        "X = Tuple[int, Literal[1]]",
        "def f(a: 'int', *, b: List['x']) -> 'y': ...",
        "if __name__ == '__main__':\n    main(1)",
        "if TYPE_CHECKING:\n    x = 1",
        "if sys.version_info >= (3, 12):\n    x = 1",
        "log.info('%s', 1 < 2)",
        "self._logger.warning('x')",
        "logging.error('x')",
        "warnings.warn('x', stacklevel=2)",
        "assert x < 1",
        "__version__ = '1.0'",
        "__all__ = ['a', 'b']",
        "import a.b as c",
        "@overload\ndef f(x=1): return 2",
        "pass",
        "global x",
        "def f(:",
        "x = '\ud800'",
        "\0",
    ],
)
def test_what_is_left_alone(text):
    assert after(text) == set()


def test_texts_for_people_are_left_alone():
    assert after("parse(help='how', default=x)") == {"pass", "parse(help='how')"}
    assert after("message = 'a' if x else 'b'") == {"message = 'a' if (not x) else 'b'"}
    assert after("raise E('a', 1 + 2)") == {
        "pass",
        "raise E('a', 1 - 2)",
        "raise E('a', 2 + 2)",
        "raise E('a', 1 + 3)",
    }
    assert after("cast('A', x)") == {"pass"}
    assert after("raise E('a' if x else 'b')") == {"pass", "raise E('a' if (not x) else 'b')"}


def test_what_asks_not_to_be_mutated_is_not_obeyed():
    assert "x = a <= b  # pragma: no mutate" in after("x = a < b  # pragma: no mutate")


def test_only_changed_lines():
    text = "a = 1\nb = 2\nc = f(\n    3,\n    d=4)\n"
    assert {mutant.line for mutant in mutants("a.py", text, {2, 5})} == {2, 5}
    assert mutants("a.py", text, set()) == [] and mutants("a.py", text, {99}) == []


VERDICT = Path(__file__).parents[2] / "poolcli" / "verdict"
SOURCES = sorted(VERDICT.glob("*.py"))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_mutants_of_real_source_compile_and_change_their_line(newline):
    """On our own source: every mutant parses, differs, and leaves all other lines as they were."""
    total = 0
    for name in ("mutants", "line_tracer"):
        text = (VERDICT / f"{name}.py").read_text().replace("\n", newline)
        original = ast.dump(ast.parse(text))
        lines = text.split("\n")
        for mutant in mutants("a.py", text, ALL)[::5]:
            total += 1
            changed = mutant.apply(text)
            assert ast.dump(ast.parse(changed)) != original
            assert lines[mutant.line - 1].rstrip("\r") == mutant.before
            removed = text[mutant.start : mutant.end].count("\n")
            rest = changed.split("\n")
            assert rest[: mutant.line - 1] == lines[: mutant.line - 1]
            assert rest[mutant.line :] == lines[mutant.line + removed :]
    assert total > 40


def comments_of(text: str) -> Counter[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.string for token in tokens if token.type == tokenize.COMMENT)


def test_comments_are_never_touched():
    for path in SOURCES[:3]:
        text = path.read_text()
        comments = Counter(
            t.string
            for t in tokenize.generate_tokens(io.StringIO(text).readline)
            if t.type == tokenize.COMMENT
        )
        for mutant in mutants("a.py", text, ALL)[::7]:
            gone = text[mutant.start : mutant.end]
            if "#" not in gone:
                assert comments_of(mutant.apply(text)) == comments


ODD = st.text("ab()=<>!&|+-*/'\"`{}$\\ \n\r1.,:#", max_size=60)


@given(st.text(max_size=60) | ODD, st.sampled_from(["py", "ts", "rs", "go", "c", "java"]))
@settings(max_examples=300, deadline=None)
def test_any_text_is_survived(text, suffix):
    for mutant in mutants(f"a.{suffix}", text, ALL):
        assert mutant.apply(text) != text and 0 <= mutant.start <= mutant.end <= len(text)
        assert mutant.line == text.count("\n", 0, mutant.start) + 1
    for family in ("js", "go", "rust", "java", "c"):
        end = 0
        for start, stop, word, _ in scan(text, family):
            assert start >= end and text[start:stop] == word and stop > start
            end = stop


TS = """\
import x from "a == 1";
const t = `a == ${b && `c == ${1}`} == 2`; // == 1
if (a === 1 && !b || /a==b[/]=/.test(c)) { i++; return -1; }
const g: Map<string, number> = f<T>(x) + 2;
let y = a < 3 ? a / b / 2 : x!;
console.log(a == 1);
/* a == 1 */ x = true;
const s = "a" + "b" + 'c == d';
"""
RUST = """\
#[derive(PartialEq = 1)]
fn f<'a>(x: &'a str) -> Vec<i32> { let q = '<'; let s = r#"a == "b" == c"#; // ==
  println!("{}", 1 == 2);
  if !c.is_x() && x.0 <= 3 { *p * 2 }
"""
C = """\
#define A 1 == 2 \\
   == 3
int main(int c, char **v) { int *p = &x; if (*p == '"' || a->b > q) x--; }
"""
GO = """\
func f(p *int, c <-chan int) { s := `a == b` + "c == d"; if *p == k && !ok { c <- x } }
"""
JAVA = """\
@Rule(1)
List<String> x = a >= b ? "==" : y;
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.ts",
            TS,
            [
                *("3 === !==", "3 1 2", "3 && ||", "3 ! ", "3 || &&", "3 ++ --", "3 1 2"),
                *("4 + -", "4 2 3", "5 < <=", "5 3 4", "5 / *", "5 / *", "5 2 3", "7 true false"),
            ],
        ),
        ("a.rs", RUST, ["4 ! ", "4 && ||", "4 <= <", "4 3 4", "4 * /", "4 2 3"]),
        ("a.c", C, ["3 == !=", "3 || &&", "3 > >=", "3 -- ++"]),
        ("a.go", GO, ["1 == !=", "1 && ||", "1 ! "]),
        ("A.java", JAVA, ["2 >= >"]),
    ],
)
def test_other_languages_by_their_tokens(name, text, expected):
    found = mutants(name, text, ALL)
    assert [f"{m.line} {text[m.start : m.end]} {m.new}" for m in found] == expected


def test_which_files_are_mutated():
    assert all(map(is_mutable, ["a.py", "src/testing_tools.py", "a/b.rs", "x.tsx", "contest.go"]))
    assert not any(
        map(
            is_mutable,
            [
                "test_a.py",
                "tests/a.py",
                "a_test.go",
                "a.test.ts",
                "conftest.py",
                "ATest.java",
                "a.md",
                "Makefile",
            ],
        )
    )


MUTANTS = st.lists(
    st.builds(
        Mutant,
        st.sampled_from("ab"),
        st.integers(1, 6),
        st.sampled_from(["comparison", "constant"]),
        st.just("x"),
        st.text("xyz", max_size=2),
        st.integers(0, 50),
        st.just(60),
        st.text("pq", max_size=2),
    ),
    unique=True,
    max_size=30,
)


@given(MUTANTS, st.integers(0, 12), st.randoms())
def test_the_choice_is_the_same_and_spread(found, most, random):
    chosen = choose(found, most)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert choose(shuffled, most) == chosen
    assert (
        len(chosen) == min(most, len(found)) and len(set(chosen)) == len(chosen) and set(chosen) <= set(found)
    )
    lines = {(m.path, m.line) for m in found}
    per_line = Counter((m.path, m.line) for m in chosen)
    assert len(per_line) == min(most, len(lines))
    # Nobody gets a second before everybody who has one got theirs.
    have = Counter((m.path, m.line) for m in found)
    for line in lines:
        assert per_line[line] >= min(have[line], max(per_line.values(), default=0) - 1)


def test_the_choice_has_every_kind():
    """Where lines have several kinds, none is left out for another that stands on every line."""
    text = "x = 1\n" * 12 + "if a and b < 2: f('x', c=-d)\n" * 3
    found = mutants("a.py", text, ALL)
    chosen = Counter(mutant.kind for mutant in choose(found, 15))
    every = {mutant.kind for mutant in found if mutant.line > 12}
    assert len(chosen) == 4 and {"constant"} < set(chosen) <= every
    more = Counter(mutant.kind for mutant in choose(found, 15 + 3 * len(every)))
    assert set(more) == every


def test_a_seed_gives_another_choice():
    found = mutants("a.py", "x = a < b + 1 and c == d - 2\n" * 30, ALL)
    assert choose(found, 20) == choose(found, 20) != choose(found, 20, "other")


def judged(sources, run, most=100, **more):
    return asyncio.run(strength(sources, dict.fromkeys(sources, ALL), run, most=most, **more))


def test_counts_and_survivors():
    source = "def f(x):\n    return x < 3\n"

    async def run(files):
        scope: dict[str, object] = {}
        exec(files.get("a.py", source), scope)
        return scope["f"](1) is True and scope["f"](9) is False

    seen = []
    found = judged(
        {"a.py": source, "README.md": "1 < 2", "tests/test_a.py": "x = 1"},
        run,
        progress=lambda *n: seen.append(n),
    )
    assert (found.possible, found.tried, found.killed) == (3, 3, 1) and found.rate == 1 / 3
    assert found.survivors[0].diff == "-    return x < 3\n+    return x <= 3"
    assert seen == [(n, 3) for n in range(1, 4)]


def test_tests_that_fail_anyway_prove_nothing():
    async def red(files):
        return False

    calls = []

    async def dirtied(files):
        calls.append(files)
        return len(calls) == 1

    assert judged({"a.py": "x = 1"}, red).rate is None
    found = judged({"a.py": "x = 1"}, dirtied)
    assert found.rate is None and "no longer pass" in found.problem


def test_what_does_not_build_is_not_counted():
    async def run(files):
        return None if files else True

    found = judged({"a.py": "x = 1 < 2\n" * 20}, run)
    assert found.rate is None and found.broken == 10 and "given up after 10" in found.problem
    assert judged({"a.py": "import x"}, run).problem == "nothing on the changed lines can be mutated"


def scratch(folder: Path, command: list[str], timeout: float = 60) -> Scratch:
    async def run(limit: float) -> process.Finished:
        return await process.run(
            command, cwd=folder, env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, timeout=limit
        )

    return Scratch(folder, run, timeout=timeout)


def test_in_a_copy_with_real_tests(tmp_path):
    """Mutants of one length within one second: compiled code of the one before must not be taken for theirs."""
    source = "def f(x):\n    return x + 1\n\ndef g(x):\n    return x - 1\n"
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "t.py").write_text("import a\nassert a.f(1) == 2 and a.g(1) == 0\n")
    found = judged({"a.py": source}, scratch(tmp_path, [sys.executable, "t.py"]))
    assert found.killed == found.tried == found.possible == 6
    assert (tmp_path / "a.py").read_text() == source


def test_an_endless_mutant_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("poolcli.verdict.mutants.GRACE", 0.5)
    source = "def f(x):\n    while x > 0:\n        x -= 1\n    return x\n"
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "t.py").write_text("import a\nassert a.f(3) == 0\n")
    found = asyncio.run(
        strength({"a.py": source}, {"a.py": {3}}, scratch(tmp_path, [sys.executable, "t.py"]), most=9)
    )
    assert found.killed == found.tried and found.tried >= 3
    assert time_limit(10) > time_limit(1) > 1


def test_a_mutant_is_not_written_outside_of_the_copy(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(OSError, match="outside"):
        asyncio.run(scratch(tmp_path / "copy", ["true"])({"../a.py": "x = 2\n"}))


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_a_c_project_in_a_copy(tmp_path):
    source = "int limit(int x) {\n    return x >= 3 && x < 9;\n}\n"
    (tmp_path / "a.c").write_text(source)
    check = "int limit(int);\nint main(void) { return !(limit(3) && !limit(9) && !limit(2)); }\n"
    (tmp_path / "t.c").write_text(check)
    found = judged({"a.c": source}, scratch(tmp_path, ["sh", "-c", "gcc -o t a.c t.c && ./t"]))
    # 9 made 10 or 3 made 4 is noticed, and so are both boundaries and the conjunction.
    assert (found.possible, found.killed, found.broken, found.problem) == (5, 5, 0, "")


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_real_compiler_errors_are_told_from_failures(tmp_path):
    (tmp_path / "a.c").write_text("int main() { return x; }\n")
    done = subprocess.run(["gcc", "a.c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and does_not_build(done.stderr)
    assert not does_not_build(
        "assert 1 == 2\nFAILED test_a.py::test_error - SyntaxError in the input\n1 failed"
    )


@pytest.mark.slow
def test_strength_of_a_real_fix(tmp_path):
    """sqlparse 0.5.0 to 0.5.1, the lines of its splitter: docs/decisions/0016 has the figures of all its lines."""
    broken, fixed = (test_real_project.source(version, tmp_path) for version in ("0.5.0", "0.5.1"))
    path = test_real_project.MODULE
    patch = subprocess.run(
        ["git", "diff", "--no-index", str(broken / path), str(fixed / path)], capture_output=True, text=True
    ).stdout
    from poolcli.verdict.changed_lines import changed_lines

    (lines,) = changed_lines(patch).values()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/test_split.py"]
    run = scratch(fixed, command)
    found = asyncio.run(strength({path: (fixed / path).read_text()}, {path: lines}, run, most=100))
    # mutmut on the same lines: 10 of 18, so within a tenth of its rate.
    assert found.problem == "" and found.tried == 16
    assert found.rate is not None and abs(found.rate - 10 / 18) <= 10 / 18 / 10 + 1e-9


@pytest.mark.parametrize("link", [False, True])
def test_compiled_files_behind_a_link_stay(tmp_path, link):
    copy, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    for folder in (copy, elsewhere, copy / "__pycache__"):
        folder.mkdir()
    if link:
        (copy / "__pycache__").rmdir()
        (copy / "__pycache__").symlink_to(elsewhere)
    for name in ("a[b].cpython-311.pyc", "ab.cpython-311.pyc"):
        (copy / "__pycache__" / name).write_text("compiled")
    (copy / "a[b].py").write_text("x = 1\n")
    assert asyncio.run(scratch(copy, ["true"])({"a[b].py": "x = 2\n"})) is True
    left = {"ab.cpython-311.pyc"} if not link else {"a[b].cpython-311.pyc", "ab.cpython-311.pyc"}
    assert {file.name for file in (copy / "__pycache__").iterdir()} == left


@pytest.mark.parametrize("replaced", ["rm a.py; mkfifo a.py", "ln -sf ../kept a.py"])
def test_what_a_test_made_of_the_file_is_taken_away(tmp_path, replaced):
    """Neither waited for nor followed; the file is as before, and what a link led to."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a.py").write_text("x = 1\n")
    (tmp_path / "kept").write_text("kept")
    run = scratch(copy, ["sh", "-c", replaced])
    assert asyncio.run(run({"a.py": "x = 2\n"})) is True
    assert not (copy / "a.py").is_symlink() and (copy / "a.py").read_text() == "x = 1\n"
    assert (tmp_path / "kept").read_text() == "kept"
    assert asyncio.run(run({})) is True
    with pytest.raises(OSError, match=r"regular file|outside"):
        asyncio.run(run({"a.py": "x = 2\n"}))
