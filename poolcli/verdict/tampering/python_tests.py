"""Python tests before and after, compared test by test."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from poolcli.verdict.tampering.findings import Finding, Severity
from poolcli.verdict.tampering.python_code import dotted

Function = ast.FunctionDef | ast.AsyncFunctionDef

_COLLECTED = re.compile(r"^(?:test\w*|\w+_test|tests)\.py$")
#: How much an assertion says, by the method's name: 3 an exact value, 2 a part of it, 1 that there is something.
_EXACT = re.compile(
    r"^assert(?:Equals?|NotEqual|Is|CountEqual|\w*Equal|AlmostEqual|Raises\w*|Warns\w*|Logs|NoLogs)$"
)
_PART = re.compile(r"^assert(?:In|NotIn|Regex\w*|NotRegex|Greater\w*|Less\w*|IsNone|True|False)$")
_MATCHES = frozenset({"approx", "isclose", "allclose"})
_BROAD = frozenset({"Exception", "BaseException"})
_SKIPS = frozenset(
    {
        "skip",
        "skipif",
        "skipIf",
        "skipUnless",
        "xfail",
        "expectedFailure",
        "SkipTest",
        "skipTest",
        "importorskip",
    }
)
#: What an honest condition for skipping asks about.
_MACHINE = re.compile(
    r"'(?:platform|version_info|name|which|machine|system|find_spec|maxsize|implementation|environ|getenv|geteuid|"
    r"supports_\w+|HAS_\w+|has_\w+|HAVE_\w+|IS_\w+|PY\w*|[A-Z][A-Z\d_]{2,}|PYPY|WINDOWS|WIN\w*|LINUX|MACOS\w*)'"
)


class Check(Struct, frozen=True):
    """One assertion: its code without place, how much it says, its line."""

    code: str
    strength: int
    line: int
    broad: bool = False


class Test(Struct, frozen=True):
    """A test, or code that tests use."""

    path: str
    name: str
    line: int
    body: str
    checks: tuple[Check, ...]
    #: Marks and calls that keep it from running or from counting: code → (line, whether it is unconditional).
    skips: dict[str, tuple[int, bool]]
    #: Assertions that cannot fail the test: code → line.
    swallowed: dict[str, int]
    cases: tuple[str, ...]
    is_test: bool

    @property
    def short(self) -> str:
        """The name without its class."""
        return self.name.rpartition(".")[2]


def collected(path: str) -> bool:
    """Whether runners look for tests in a file of this name."""
    return _COLLECTED.match(path.rpartition("/")[2]) is not None


def tests(path: str, tree: ast.Module) -> list[Test]:
    """All functions of a file of tests, in the order they stand."""
    module_skips = _module_skips(tree)
    return list(_functions(path, tree.body, "", module_skips, test_class=True))


def _functions(
    path: str, body: list[ast.stmt], prefix: str, skips: dict[str, tuple[int, bool]], *, test_class: bool
) -> Iterator[Test]:
    for node in body:
        if isinstance(node, Function):
            yield _test(path, node, prefix, skips, test_class)
        elif isinstance(node, ast.ClassDef):
            named = node.name.startswith("Test") or node.name.endswith(("Test", "Tests", "TestCase"))
            bases = any(
                "Test" in dotted(base) or "Case" in dotted(base) or "Mixin" in dotted(base)
                for base in node.bases
            )
            inner = skips | _skips_in(node.decorator_list) | _module_skips(node)
            yield from _functions(path, node.body, f"{prefix}{node.name}.", inner, test_class=named or bases)
        elif isinstance(node, ast.If | ast.Try):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Constant) and not node.test.value:
                yield from _functions(path, node.orelse, prefix, skips, test_class=test_class)
                continue
            yield from _functions(path, [*node.body, *node.orelse], prefix, skips, test_class=test_class)
        elif isinstance(node, ast.With):
            yield from _functions(path, node.body, prefix, skips, test_class=test_class)


def _test(
    path: str, node: Function, prefix: str, outer: dict[str, tuple[int, bool]], test_class: bool
) -> Test:
    is_test = node.name.startswith("test") and test_class
    own = _skips_in(node.decorator_list) | (_skips_in(node.body) if is_test else {})
    body = ast.Module(body=node.body, type_ignores=[])
    return Test(
        path,
        prefix + node.name,
        node.lineno,
        ast.dump(body),
        tuple(_checks(node)),
        {**outer, **own},
        _swallowed(node),
        tuple(_cases(node.decorator_list)),
        is_test,
    )


# Skipping


def _module_skips(tree: ast.Module | ast.ClassDef) -> dict[str, tuple[int, bool]]:
    """What keeps a whole file or class from running."""
    found: dict[str, tuple[int, bool]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = [dotted(target) for target in node.targets]
            if "pytestmark" in names or "__unittest_skip__" in names:
                found |= _skips_in([node.value]) or (
                    {"__unittest_skip__": (node.lineno, True)} if "pytestmark" not in names else {}
                )
            elif "__test__" in names and isinstance(node.value, ast.Constant) and not node.value.value:
                found["__test__ = False"] = (node.lineno, True)
        elif isinstance(node, ast.Expr | ast.Raise) and isinstance(tree, ast.Module):
            statements: list[ast.stmt] = [node]
            found |= _skips_in(statements)
    return found


def _skips_in(nodes: list[ast.expr] | list[ast.stmt]) -> dict[str, tuple[int, bool]]:
    found: dict[str, tuple[int, bool]] = {}
    for root in nodes:
        # An `if` around a call of skip is its condition.
        asks = isinstance(root, ast.If) and _honest(root.test)
        for node in ast.walk(root):
            if not isinstance(node, ast.Call | ast.Attribute | ast.Name):
                continue
            name = dotted(node.func) if isinstance(node, ast.Call) else dotted(node)
            last = name.rpartition(".")[2]
            if last not in _SKIPS or (
                last in ("skip", "xfail") and "." not in name and not isinstance(node, ast.Call)
            ):
                continue
            if not isinstance(node, ast.Call) and any(
                key.startswith(f"{name}@{node.lineno}") for key in found
            ):
                continue  # the name inside a call that is known already
            condition = (
                node.args[0]
                if isinstance(node, ast.Call)
                and node.args
                and last in ("skipif", "skipIf", "skipUnless", "xfail")
                else None
            )
            honest = asks or last == "importorskip" or (condition is not None and _honest(condition))
            key = (
                f"{name}@{node.lineno}"
                if not isinstance(node, ast.Call)
                else f"{name}@{node.lineno} {ast.dump(node)}"
            )
            found[key] = (node.lineno, not honest)
    # Places are left out: only what is said counts.
    return {re.sub(r"@\d+", "", key): value for key, value in found.items()}


def _honest(condition: ast.expr) -> bool:
    """Whether a condition asks about the machine, not about nothing."""
    return _MACHINE.search(ast.dump(condition)) is not None


# Assertions


def _checks(node: Function) -> Iterator[Check]:
    for part in ast.walk(node):
        if isinstance(part, ast.Assert):
            yield Check(ast.dump(part.test), _strength(part.test), part.lineno)
        elif isinstance(part, ast.Call):
            name = dotted(part.func) or (part.func.attr if isinstance(part.func, ast.Attribute) else "")
            last = name.rpartition(".")[2]
            if name.rpartition(".")[0] in ("pytest", "") and last in ("raises", "warns"):
                broad = bool(part.args) and dotted(part.args[0]) in _BROAD
                yield Check(ast.dump(part), 2 if broad else 3, part.lineno, broad)
            elif last.startswith("assert") and last not in ("assertion",):
                broad = last.startswith("assertRaises") and bool(part.args) and dotted(part.args[0]) in _BROAD
                yield Check(ast.dump(part), _call_strength(last, part, broad), part.lineno, broad)


def _call_strength(last: str, call: ast.Call, broad: bool) -> int:
    if last in ("assertTrue", "assertFalse", "assert_") and call.args:
        inner = _strength(call.args[0])
        return (
            inner
            if not isinstance(call.args[0], ast.Constant)
            else int(bool(call.args[0].value) is (last == "assertFalse"))
        )
    if broad:
        return 2
    if (
        last in ("assertEqual", "assertIs")
        and len(call.args) >= 2
        and ast.dump(call.args[0]) == ast.dump(call.args[1])
    ):
        return 0
    if _EXACT.match(last):
        return 3
    return 2 if _PART.match(last) else 1 if last.startswith("assertIs") else 2


def _strength(test: ast.expr) -> int:
    """How much a condition says: 3 an exact value, 2 a part of it, 1 that there is something, 0 nothing."""
    if isinstance(test, ast.Constant | ast.JoinedStr | ast.List | ast.Tuple | ast.Dict):
        return 3 if isinstance(test, ast.Constant) and not test.value else 0
    if isinstance(test, ast.UnaryOp):
        return 2 if isinstance(test.op, ast.Not) else 1
    if isinstance(test, ast.BoolOp):
        parts = [_strength(value) for value in test.values]
        return min(parts) if isinstance(test.op, ast.Or) else max(parts)
    if isinstance(test, ast.Compare):
        left, right = test.left, test.comparators[-1]
        if ast.dump(left) == ast.dump(right):
            return 0
        if isinstance(test.ops[0], ast.Eq):
            return 3
        if isinstance(test.ops[0], ast.Is | ast.IsNot | ast.NotEq):
            nothing = isinstance(right, ast.Constant) and right.value is None
            kind = isinstance(left, ast.Call) and dotted(left.func) == "type"
            if isinstance(test.ops[0], ast.Is):
                return 2 if kind else 3
            return 1 if nothing else 2
        return 2
    if isinstance(test, ast.Call):
        name = dotted(test.func).rpartition(".")[2]
        vague = name in ("callable", "hasattr", "len", "bool")
        return 3 if name in _MATCHES else 1 if vague else 2
    return 1


def _swallowed(node: Function) -> dict[str, int]:
    """Assertions whose failure the test keeps to itself, or that it never reaches."""
    found: dict[str, int] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Try):
            for handler in part.handlers:
                types = [
                    dotted(t)
                    for t in (handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type])
                    if t
                ]
                catches = handler.type is None or any(
                    t.rpartition(".")[2] in (*_BROAD, "AssertionError") for t in types
                )
                silent = not any(
                    isinstance(n, ast.Raise | ast.Assert) or _fails(n)
                    for s in handler.body
                    for n in ast.walk(s)
                )
                if catches and silent and _has_check(part.body):
                    found["except " + ast.dump(handler)] = handler.lineno
        elif isinstance(part, ast.With):
            for item in part.items:
                call = item.context_expr
                if (
                    isinstance(call, ast.Call)
                    and dotted(call.func).endswith("suppress")
                    and _has_check(part.body)
                ):
                    found["suppress " + ast.dump(call)] = part.lineno
        elif (
            isinstance(part, ast.If)
            and isinstance(part.test, ast.Constant)
            and not part.test.value
            and _has_check(part.body)
        ):
            found["never " + ast.dump(part.test)] = part.lineno
    for number, statement in enumerate(node.body):
        if isinstance(statement, ast.Return) and _has_check(node.body[number + 1 :]):
            found["return"] = statement.lineno
    return found


def _fails(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in (
        "fail",
        "exit",
        "skip",
        "skipTest",
    )


def _has_check(body: list[ast.stmt]) -> bool:
    return any(True for _ in _checks(ast.FunctionDef("f", _NO_ARGUMENTS, body, [])))


_NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])


def _cases(decorators: list[ast.expr]) -> Iterator[str]:
    """The cases of a parametrised test."""
    for node in decorators:
        if isinstance(node, ast.Call) and dotted(node.func).endswith("parametrize") and len(node.args) > 1:
            values = node.args[1]
            if isinstance(values, ast.List | ast.Tuple):
                yield from (ast.dump(value) for value in values.elts)


# Comparing

#: Names in a dump of code.
_WORDS = re.compile(r"\b(?:id|attr|name)='(\w+)'")
#: Run for each test without being called.
_SETUP = frozenset({"setUp", "tearDown", "setup_method", "teardown_method", "setUpClass", "tearDownClass"})
#: Longest body that is compared letter by letter, in characters of its dump.
_LONG = 20_000
#: Likeness from which a test counts as the successor of another; measured on renamed functions.
_ALIKE = 0.85


def compare(before: list[Test], after: list[Test], removed: frozenset[str]) -> Iterator[Finding]:
    """What became of the tests of the files that a change touches; `after` holds those that are still found.

    `removed` are names of functions and classes that the product has no longer.
    """
    old = {(t.path, t.name): t for t in before}
    new = {(t.path, t.name): t for t in after}
    used = " ".join(test.body for test in after if test.is_test)
    # What a function that no test calls asserts is asserted nowhere.
    alive = [
        t for t in after if t.is_test or re.search(rf"'{re.escape(t.short)}'", used) or t.short in _SETUP
    ]
    everywhere = Counter(check.code for test in alive for check in test.checks)
    gone = [t for key, t in old.items() if t.is_test and not (key in new and new[key].is_test)]
    fresh = [t for key, t in new.items() if t.is_test and key not in old]
    pairs = [(t, new[key]) for key, t in old.items() if key in new and new[key].is_test == t.is_test]
    lost: list[Test] = []
    for test in gone:
        other = _successor(test, fresh)
        if other is None:
            lost.append(test)
        else:
            fresh.remove(other)
            pairs.append((test, other))
    for test in lost:
        # Its assertions may have been put together with those of another test.
        if test.checks and all(everywhere[check.code] for check in test.checks):
            continue
        if removed & set(_WORDS.findall(test.body)):
            text = f"The test {test.name} is gone, and so is something that it used."
            yield Finding("deleted-test", "low", test.path, test.line, text)
            continue
        yield Finding("deleted-test", "high", test.path, test.line, f"The test {test.name} is gone.")
    for first, second in pairs:
        yield from _compare_two(first, second, everywhere)
    for test in fresh:
        if any(hard for _, hard in test.skips.values()):
            text = f"The new test {test.name} is skipped or expected to fail."
            yield Finding("skipped-test", "low", test.path, test.line, text)


def _successor(test: Test, candidates: list[Test]) -> Test | None:
    """The test that this one has become: moved, renamed, or both."""
    same_name = [c for c in candidates if c.short == test.short]
    same_body = [c for c in candidates if c.body == test.body]
    shape = _shape(test.body)
    same_shape = [c for c in candidates if _shape(c.body) == shape]
    for group in ([c for c in same_body if c in same_name], same_body, same_name, same_shape):
        if group:
            return group[0]
    codes = {check.code for check in test.checks}
    if codes:
        holder = next((c for c in candidates if codes <= {check.code for check in c.checks}), None)
        if holder is not None:
            return holder
    return next((c for c in candidates if _alike(test.body, c.body)), None)


def _shape(body: str) -> str:
    """A body with its names numbered in the order they come: the same after anything was renamed."""
    numbers: dict[str, str] = {}
    return re.sub(
        r"\b((?:id|attr|arg)=)('[^']*')",
        lambda m: m[1] + numbers.setdefault(m[2], str(len(numbers))),
        body,
    )


def _alike(first: str, second: str) -> bool:
    import difflib

    if max(len(first), len(second)) > _LONG:
        return False
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return (
        matcher.real_quick_ratio() >= _ALIKE and matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE
    )


def _compare_two(old: Test, new: Test, everywhere: Counter[str]) -> Iterator[Finding]:
    def finding(kind: str, severity: Severity, line: int, text: str) -> Finding:
        return Finding(kind, severity, new.path, line, text)

    if new.is_test:
        # What was skipped under a condition may be skipped under another one.
        before = Counter(code.partition(" ")[0] for code in old.skips)
        for code, (line, hard) in new.skips.items():
            if code not in old.skips:
                same = before[code.partition(" ")[0]] > 0
                text = f"The test {new.name} is skipped or expected to fail now."
                yield finding("skipped-test", "high" if hard and not same else "low", line, text)
                break
    for code, line in new.swallowed.items():
        if code not in old.swallowed:
            text = f"A failing assertion of {new.name} is no longer noticed."
            yield finding("weakened-assertion", "high", line, text)
            break
    if old.cases and (missing := Counter(old.cases) - Counter(new.cases)):
        more = sum((Counter(new.cases) - Counter(old.cases)).values())
        few = sum(missing.values()) > more
        what = "has fewer cases" if few else "has other cases"
        # Without any list the cases may come from elsewhere now.
        hard = few and bool(new.cases) and new.is_test
        yield finding(
            "weakened-assertion" if hard else "edited-test",
            "high" if hard else "low",
            new.line,
            f"The test {new.name} {what} than in the base.",
        )
    yield from _assertions(old, new, everywhere, finding)


def _assertions(old: Test, new: Test, everywhere: Counter[str], finding: _Finding) -> Iterator[Finding]:
    before, after = Counter(c.code for c in old.checks), Counter(c.code for c in new.checks)
    removed = [c for c in old.checks if before[c.code] > after[c.code] and not everywhere[c.code]]
    added = [c for c in new.checks if after[c.code] > before[c.code]]
    if not removed:
        if old.checks and old.body != new.body and new.is_test:
            # Same assertions on other data: setting up may hold the expected values.
            yield finding("edited-test", "low", new.line, f"The existing test {new.name} is edited.")
        return
    line = added[0].line if added else new.line
    if not added:
        if _hands_over(old, new):
            yield finding(
                "edited-test", "low", line, f"Assertions of {new.name} are moved into a function it calls."
            )
            return
        what = f"An assertion of {new.name} is" if new.checks else f"All assertions of {new.name} are"
        text = f"{what} gone."
        yield finding("weakened-assertion", "high", line, text)
        return
    strongest = max(check.strength for check in removed)
    now = max(check.strength for check in added)
    broader = any(c.broad for c in added) and not any(c.broad for c in removed)
    if now < strongest or now == 0 or broader:
        text = f"The assertions of {new.name} say less than in the base."
        yield finding("weakened-assertion", "high", line, text)
        return
    yield finding("edited-test", "low", line, f"The existing test {new.name} expects something else now.")


def _hands_over(old: Test, new: Test) -> bool:
    """Whether the test calls something that it did not call, by a name that means checking."""
    names = re.compile(
        r"id='((?:check|verify|expect|ensure|compare|_check|_assert|run|roundtrip)\w*)'|attr='((?:check|_check|verify|expect|ensure|compare|_assert)\w*)'"
    )
    return bool(set(names.findall(new.body)) - set(names.findall(old.body)))


class _Finding(Protocol):
    """The type of `finding` in `_compare_two`."""

    def __call__(self, kind: str, severity: Severity, line: int, text: str) -> Finding:  # pragma: no cover
        ...
