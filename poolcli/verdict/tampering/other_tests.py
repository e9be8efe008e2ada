"""Tests in other languages, compared by careful rules over lines and names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from poolcli.verdict.tampering.changes import Change
from poolcli.verdict.tampering.findings import Finding


class Language(Struct, frozen=True):
    """How a language's tests look. Each pattern is for one line; the first group of `test` is the name."""

    test: re.Pattern[str]
    skip: re.Pattern[str]
    check: re.Pattern[str]
    exact: re.Pattern[str]
    trivial: re.Pattern[str]
    comment: str = "//"


_JS = Language(
    test=re.compile(r"\b(?:it|test|specify)(?:\.\w+)*\s*(?:\([^'\"`)]*\))?\(\s*(['\"`].+?['\"`])\s*,"),
    skip=re.compile(
        r"\b(?:it|test|describe|suite|context|specify)\.(?:skip|todo|only|failing|fails|fixme|skipIf\(true|runIf\(false)\b"
        r"|\b(?:xit|xtest|xdescribe|xcontext|fit|fdescribe|ftest)\s*\(|\bt\.(?:skip|todo)\s*\(|\bthis\.skip\s*\("
        r"|\{\s*(?:skip|todo|only)\s*:\s*(?!false)"
    ),
    check=re.compile(
        r"\bexpect\s*\(|\bassert(?:\.\w+)*\s*\(|\bt\.(?:is|deepEqual|equal|same|truthy|true|throws|ok|not)\s*\(|\.should\b"
    ),
    exact=re.compile(
        r"\.(?:toBe|toEqual|toStrictEqual|toMatchObject|toHaveLength|toHaveBeenCalledWith|toThrow(?:Error)?|toBeCloseTo|"
        r"toMatchSnapshot|toMatchInlineSnapshot|equal|equals|eql|deepEqual|strictEqual|deepStrictEqual|is|same|throws|"
        r"rejects|toBeNull|toBeUndefined|eq)\s*\("
    ),
    trivial=re.compile(
        r"expect\s*\(\s*(?:true|1|!0)\s*\)\.(?:toBe|toEqual|toBeTruthy)|assert(?:\.ok|\.equal)?\s*\(\s*(?:true|1)\s*[,)]"
    ),
)
_GO = Language(
    test=re.compile(r"^func\s+((?:Test|Fuzz|Example)\w*)\s*\("),
    skip=re.compile(r"\b[tb]\.Skip(?:f|Now)?\(|^//go:build\s+(?:ignore|never)|^// ?\+build ignore"),
    check=re.compile(r"\bt\.(?:Errorf?|Fatalf?|Fail|FailNow)\(|\b(?:assert|require|is)\.\w+\("),
    exact=re.compile(
        r"\bt\.(?:Errorf?|Fatalf?|Fail|FailNow)\(|\.(?:Equal|EqualValues|Exactly|JSONEq|ElementsMatch|ErrorIs|Len)\w*\("
    ),
    trivial=re.compile(r"\b(?:assert|require)\.True\(t,\s*true\b|\bif false\b"),
)
_RUST = Language(
    test=re.compile(r"^\s*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)\s*\("),
    skip=re.compile(r"#\[(?:ignore\b|should_panic|cfg\(any\(\)\)|cfg\(FALSE\))"),
    check=re.compile(r"\b(?:debug_)?assert(?:_\w+)?!\s*[\(\[]"),
    exact=re.compile(r"\bassert_(?:eq|matches|ne|snapshot)\w*!"),
    trivial=re.compile(r"\bassert!\s*\(\s*true\b"),
)
_JVM = Language(
    test=re.compile(
        r"^\s*(?:public\s+|private\s+|internal\s+)*(?:void|fun|suspend fun)\s+(?:`([^`]+)`|(\w+))\s*\("
    ),
    skip=re.compile(
        r"@(?:Disabled|Ignore)\b|assume(?:True|That)\(\s*false|enabled\s*=\s*false|assumeFalse\(\s*true"
    ),
    check=re.compile(r"\b(?:assert\w*|verify|expect\w*|fail|should\w*)\s*\("),
    exact=re.compile(
        r"\bassert(?:Equals|ArrayEquals|Same|Throws\w*|IterableEquals|LinesMatch)\b|isEqualTo|containsExactly|shouldBe"
    ),
    trivial=re.compile(r"\bassertTrue\(\s*true|assertEquals\(\s*(\w+)\s*,\s*\1\s*\)"),
)
_RUBY = Language(
    test=re.compile(r"^\s*(?:it|specify|test|scenario)\s*\(?\s*(['\"].+?['\"])|^\s*def\s+(test_\w+)"),
    skip=re.compile(
        r"^\s*(?:xit|xdescribe|xcontext|xspecify|fit|fdescribe|skip|pending)\b|[,{]\s*(?::skip|skip:|:pending|pending:|:focus|focus:)"
    ),
    check=re.compile(r"\b(?:assert\w*|refute\w*|expect|must_\w+|wont_\w+|is_expected)\b"),
    exact=re.compile(
        r"assert_(?:equal|same|raises|nil|in_delta)|\bto(?:_not)? (?:eq|eql|equal|match_array|raise_error|be_nil)\b"
        r"|must_equal"
    ),
    trivial=re.compile(r"\bassert(?:\(| )true\b|expect\(true\)\.to"),
    comment="#",
)
_PHP = Language(
    test=re.compile(r"^\s*(?:public\s+)?function\s+(test\w+)\s*\(|^\s*(?:it|test)\(\s*(['\"].+?['\"])"),
    skip=re.compile(r"markTest(?:Skipped|Incomplete)|->(?:skip|todo|only)\("),
    check=re.compile(r"(?:\$this->|self::|static::)(?:assert|expect)\w*\(|\bexpect\("),
    exact=re.compile(
        r"assert(?:Same|Equals|Count|Null|JsonString\w*)\b|expectException\b|->toBe\(|->toEqual\("
    ),
    trivial=re.compile(r"assertTrue\(\s*true|expect\(true\)->toBe"),
)
_C = Language(
    test=re.compile(
        r"^\s*(?:TEST(?:_F|_P)?\(\s*(\w+\s*,\s*\w+)|(?:TEST_CASE|SCENARIO|SECTION)\(\s*(\".+?\"))"
    ),
    skip=re.compile(r"\bGTEST_SKIP\b|\bDISABLED_\w+|\[\.\]|\[!(?:mayfail|shouldfail)\]|\bSKIP\("),
    check=re.compile(r"\b(?:EXPECT|ASSERT)_\w+\(|\b(?:REQUIRE|CHECK)\w*\(|\b(?:ck_)?assert\w*\(|BOOST_\w+\("),
    exact=re.compile(r"_(?:EQ|STREQ|DOUBLE_EQ|FLOAT_EQ|THROW|NEAR)\(|==|_eq\("),
    trivial=re.compile(
        r"\b(?:EXPECT|ASSERT)_TRUE\(\s*true|\bassert\(\s*(?:1|true)\s*\)|(?:REQUIRE|CHECK)\(\s*true"
    ),
)

_LANGUAGES = {
    "js": _JS, "jsx": _JS, "ts": _JS, "tsx": _JS, "mjs": _JS, "cjs": _JS, "mts": _JS, "cts": _JS,
    "go": _GO, "rs": _RUST, "java": _JVM, "kt": _JVM, "kts": _JVM, "groovy": _JVM, "rb": _RUBY, "php": _PHP,
    "c": _C, "cc": _C, "cpp": _C, "cxx": _C, "h": _C, "hpp": _C,
}  # fmt: skip


def language(path: str) -> Language | None:
    """The rules for a file, by its ending."""
    return _LANGUAGES.get(path.rpartition(".")[2])


class _Text(Struct, frozen=True):
    names: tuple[tuple[str, int], ...]
    checks: tuple[tuple[str, int], ...]
    skips: tuple[tuple[str, int], ...]


def _read(text: str, rules: Language, *, rust: bool) -> _Text:
    names: list[tuple[str, int]] = []
    checks: list[tuple[str, int]] = []
    skips: list[tuple[str, int]] = []
    marked = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith(rules.comment) and not bare.startswith(("//go:build", "// +build", "//+build")):
            continue
        # In Rust an attribute makes a function a test.
        if match := rules.test.match(line) if rust else rules.test.search(line):
            if marked or not rust:
                names.append((next(filter(None, match.groups()), ""), number))
            marked = False
        if rust and re.search(r"#\[(?:\w+::)*(?:test|rstest|test_case)\b", line):
            marked = True
        if rules.check.search(line):
            checks.append((" ".join(bare.split()), number))
        if rules.skip.search(line):
            skips.append((" ".join(bare.split()), number))
    return _Text(tuple(names), tuple(checks), tuple(skips))


def compare(files: Iterable[Change]) -> Iterator[Finding]:
    """What became of the tests in files that are not Python. All files together: tests move between them."""
    pairs = []
    for change in files:
        rules = language(change.path)
        if rules is not None:
            rust = change.path.endswith(".rs")
            pairs.append(
                (
                    change,
                    rules,
                    _read(change.before or "", rules, rust=rust),
                    _read(change.after or "", rules, rust=rust),
                )
            )
    now_names = Counter(name for _, _, _, after in pairs for name, _ in after.names)
    old_names = Counter(name for _, _, before, _ in pairs for name, _ in before.names)
    now_checks = Counter(code for _, _, _, after in pairs for code, _ in after.checks)
    old_checks = Counter(code for _, _, before, _ in pairs for code, _ in before.checks)
    fresh = sum((now_names - old_names).values())
    for change, rules, before, after in pairs:
        gone = [(name, line) for name, line in before.names if not now_names[name]]
        # As many new names as gone ones: renamed, which nobody can tell from replaced; their checks speak.
        for name, line in gone[fresh:] if fresh < len(gone) else []:
            yield Finding(
                "deleted-test", "high", change.path, 0 if change.new else line, f"The test {name} is gone."
            )
        fresh = max(0, fresh - len(gone))
        yield from _skips(change, before, after, old_names)
        removed = [
            c for c in before.checks if now_checks[c[0]] < old_checks[c[0]] and _rarer(c[0], before, after)
        ]
        added = [
            c for c in after.checks if now_checks[c[0]] > old_checks[c[0]] and _rarer(c[0], after, before)
        ]
        if change.new and removed:
            yield from _checks(change, rules, removed, added, bool(gone))


def _rarer(code: str, here: _Text, there: _Text) -> bool:
    count = [sum(c == code for c, _ in text.checks) for text in (here, there)]
    return count[0] > count[1]


def _skips(change: Change, before: _Text, after: _Text, old_names: Counter[str]) -> Iterator[Finding]:
    known = Counter(code for code, _ in before.skips)
    names_at = {line: name for name, line in after.names}
    for code, line in after.skips:
        if known[code]:
            known[code] -= 1
            continue
        name = next((names_at[n] for n in (line, line + 1, line + 2, line - 1) if n in names_at), "")
        new = bool(name) and name not in old_names and ".only" not in code
        who = f"The new test {name}" if new else f"The test {name}" if name else "A test"
        text = f"{who} is skipped, alone or expected to fail: {code[:80]}"
        yield Finding("skipped-test", "low" if new or not change.old else "high", change.path, line, text)


def _checks(
    change: Change, rules: Language, removed: list[tuple[str, int]], added: list[tuple[str, int]], gone: bool
) -> Iterator[Finding]:
    line = added[0][1] if added else 1
    if not added:
        if not gone:  # told already, with the test they were in
            yield Finding(
                "weakened-assertion", "high", change.path, line, f"An assertion is gone: {removed[0][0][:80]}"
            )
        return
    trivial = next((c for c in added if rules.trivial.search(c[0])), None)
    if trivial:
        yield Finding(
            "weakened-assertion",
            "high",
            change.path,
            trivial[1],
            f"This assertion says nothing: {trivial[0][:80]}",
        )
    elif any(rules.exact.search(c) for c, _ in removed) and not any(rules.exact.search(c) for c, _ in added):
        yield Finding(
            "weakened-assertion",
            "high",
            change.path,
            line,
            f"This says less than in the base: {added[0][0][:80]}",
        )
    else:
        yield Finding("edited-test", "low", change.path, line, "An existing test expects something else now.")
