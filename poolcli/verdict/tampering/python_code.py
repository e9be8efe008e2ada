"""What Python code does to the machinery that judges it: facts of one syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from poolcli.verdict.tampering.findings import Fact, Severity
from poolcli.verdict.tampering.summaries import looks_like_summary

#: Modules that run tests or are what a run stands on: setting something in them changes what a run says.
_MACHINERY = frozenset(
    {
        "unittest",
        "pytest",
        "_pytest",
        "pluggy",
        "builtins",
        "doctest",
        "nose",
        "traceback",
        "atexit",
        "__builtins__",
    }
)
#: Names that a run's answer goes through, whatever object they are set on.
_MACHINE_NAMES = re.compile(
    r"^(?:assert[A-Z]\w*|fail|failureException|wasSuccessful|addFailure|addError|addSubTest|runTest|"
    r"pytest_\w+|_exit|exitstatus|testsfailed|excepthook)$"
)
#: Of those, what only says how much is shown.
_HARMLESS = frozenset({"maxDiff", "longMessage", "ELLIPSIS_MARKER", "_MAX_LENGTH"})
#: What tests replace for their own time.
_LENT = frozenset({"builtins", "sys", "os", "traceback", "atexit"})
_EXIT_OWNERS = frozenset({"sys", "os"})
_EXIT_NAMES = frozenset({"exit", "_exit", "abort", "kill", "excepthook", "settrace", "setprofile"})

#: Hooks of pytest that can change what a test's outcome is, or which tests there are.
OUTCOME_HOOKS = re.compile(
    r"^pytest_(?:runtest_\w+|collection_\w+|collect_\w+|pycollect_\w+|pyfunc_call|ignore_collect|itemcollected|"
    r"deselected|report_\w+|assertrepr_compare|assertion_pass|sessionfinish|sessionstart|session_\w+|cmdline_\w+|"
    r"exception_interact|make_\w+|make_collect_report|terminal_summary|load_initial_conftests|generate_tests|"
    r"fixture_setup|enter_pdb|unconfigure|main)$"
)
#: Outcome hooks that are also plain plumbing: only their name is told.
_MILD_HOOKS = frozenset(
    {"pytest_generate_tests", "pytest_report_header", "pytest_sessionstart", "pytest_assertrepr_compare"}
)

_DETECTION = re.compile(
    r"^(?:PYTEST_\w+|_PYTEST\w*|PYTEST|JEST_WORKER_ID|NODE_TEST_CONTEXT|VITEST\w*|TOX_ENV\w*|NOX\w*)$"
)
_RUNNERS = frozenset(
    {"pytest", "_pytest", "unittest", "py.test", "nose", "conftest", "_pytest.runner", "unittest.case"}
)
_NETWORK = frozenset(
    {"socket", "urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "urllib3",
     "xmlrpc.client", "telnetlib", "paramiko", "websockets"}
)  # fmt: skip
_TEST_FILE = re.compile(
    r"(?:^|[/\\])(?:tests?[/\\].*\.\w+|test_\w+\.py|\w+_test\.py|conftest\.py)$|^conftest\.py$"
)
_WRITERS = frozenset({"write_text", "write_bytes", "unlink", "rename", "remove", "replace", "truncate"})


def facts(tree: ast.Module, *, test: bool) -> list[Fact]:
    """What stands in the tree, added or not. `test` says that it is a file of tests, which may well do some
    of it: look at its environment, use a network, patch things for the time of a test."""
    return list(_Reader(test).read(tree))


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names, else ''."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


class _Reader:
    def __init__(self, test: bool) -> None:
        self.test = test
        #: Names that stand for modules or for things out of them: `from os import _exit as leave`.
        self.names: dict[str, str] = {}
        self.forks = False
        #: Names that are set to 0 somewhere.
        self.zeros: set[str] = set()

    def read(self, tree: ast.Module) -> Iterator[Fact]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.names[alias.asname or top] = top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif (
                isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and not node.value.value
            ):
                self.zeros |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.Call) and dotted(node.func) in ("os.fork", "os.forkpty", "pty.fork"):
                self.forks = True
        yield from self._block(tree.body, main=False, inside="")

    def _name(self, node: ast.AST) -> str:
        """The full name of what an expression names: `sys.modules` for `s.modules` after `import sys as s`."""
        name = dotted(node)
        first, dot, rest = name.partition(".")
        return self.names.get(first, first) + dot + rest if name else ""

    def _block(self, body: list[ast.stmt], *, main: bool, inside: str) -> Iterator[Fact]:
        for statement in body:
            yield from self._statement(statement, main, inside)

    def _statement(self, node: ast.stmt, main: bool, inside: str) -> Iterator[Fact]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from self._definition(node)
            for decorator in node.decorator_list:
                yield from self._expressions(decorator, main, inside)
            yield from self._block(
                node.body, main=main, inside=f"{inside}.{node.name}" if inside else node.name
            )
            return
        if isinstance(node, ast.If) and _is_main(node):
            yield from self._block(node.body, main=True, inside=inside)
            yield from self._block(node.orelse, main=main, inside=inside)
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from self._import(node)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            yield from self._assignment(node)
        elif (
            isinstance(node, ast.Raise) and not main and not inside and not self.test and node.exc is not None
        ):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if self._name(raised) == "SystemExit":
                yield _fact(
                    "forced-exit", node, "The module ends the program as it is imported: raise SystemExit."
                )
        for field in ast.iter_fields(node):
            values = field[1] if isinstance(field[1], list) else [field[1]]
            for value in values:
                if isinstance(value, ast.stmt):
                    yield from self._statement(value, main, inside)
                elif isinstance(value, ast.ExceptHandler | ast.match_case):
                    yield from self._block(value.body, main=main, inside=inside)
                elif isinstance(value, ast.AST):
                    yield from self._expressions(value, main, inside)

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[Fact]:
        if isinstance(node, ast.ClassDef):
            return
        if node.name in ("__eq__", "__ne__") and not self.test and _says_always(node, node.name == "__eq__"):
            text = "A value says of everything that it is equal to it: every assertion of equality holds."
            yield Fact("always-equal", "high", ast.dump(node), node.lineno, text)
        if node.name == "load_tests" and not _gives_what_it_got(node):
            text = "unittest is given other tests than it found (load_tests)."
            yield Fact("test-hook", "high", ast.dump(node), node.lineno, text)
        if OUTCOME_HOOKS.match(node.name):
            severity: Severity = "low" if node.name in _MILD_HOOKS else "high"
            # The body counts: a hook that was there may be changed into one that cheats.
            key = ast.dump(node)
            yield Fact(
                "test-hook", severity, key, node.lineno, f"The pytest hook {node.name} is added or changed."
            )

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Fact]:
        if self.test:
            return
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in found:
            if name in _NETWORK:
                text = f"Product code that tests may reach uses the network: {name}."
                yield Fact("network", "low", name, node.lineno, text)

    def _assignment(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) -> Iterator[Fact]:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        flat: list[ast.expr] = []
        for target in targets:
            flat += target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        for target in flat:
            if what := self._replaced(target):
                # For the time of a test people do replace input() or sys.exit; the base's tests come back.
                severity: Severity = "low" if self.test and what.partition(".")[0] in _LENT else "high"
                yield _fact("patched-machinery", node, f"The code replaces {what}.", severity)

    def _replaced(self, target: ast.expr) -> str:
        """What an assignment to the target replaces of the machinery; '' for nothing."""
        if isinstance(target, ast.Attribute):
            return (self._name(target) or target.attr) if self._is_machine(target) else ""
        if not isinstance(target, ast.Subscript):
            return ""
        owner, key = self._name(target.value), _text(target.slice)
        if owner == "sys.modules" and key.partition(".")[0] in (_MACHINERY | {"sys", "os"}):
            return f"{key} in sys.modules"
        if owner in ("os.environ", "environ") and key.startswith(("PYTEST_", "PYTHONSTARTUP")):
            return f"{key} of the environment"
        return ""

    def _is_machine(self, target: ast.Attribute) -> bool:
        if target.attr in _HARMLESS:
            return False
        owner = self._name(target.value)
        root = owner.partition(".")[0]
        if root in _EXIT_OWNERS and owner == root:
            return target.attr in _EXIT_NAMES
        if root in _MACHINERY:
            return True
        # `case.fail = …` on any object: only names that mean nothing else.
        named = _MACHINE_NAMES.match(target.attr) is not None and target.attr not in (
            "fail",
            "_exit",
            "exitstatus",
        )
        return named and owner not in ("self", "cls")

    def _expressions(self, root: ast.AST, main: bool, inside: str) -> Iterator[Fact]:
        for node in ast.walk(root):
            if isinstance(node, ast.Call):
                yield from self._call(node, main, inside)
            elif isinstance(node, ast.Compare | ast.Subscript) and not self.test:
                yield from self._detection(node)

    def _call(self, node: ast.Call, main: bool, inside: str) -> Iterator[Fact]:
        name = self._name(node.func)
        last = name.rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
        first = node.args[0] if node.args else None
        if name in ("setattr", "builtins.setattr") and len(node.args) >= 2:
            owner, attribute = self._name(node.args[0]), _text(node.args[1])
            target = ast.Attribute(node.args[0], attribute)
            if self._is_machine(target) or (owner.partition(".")[0] in _MACHINERY and not attribute):
                yield _fact("patched-machinery", node, f"The code replaces {attribute} of {owner}.")
        elif name == "os._exit":
            yield from self._hard_exit(node, first)
        elif name in ("sys.exit", "exit", "quit") and not main and not inside and not self.test:
            yield _fact("forced-exit", node, f"The module ends the program as it is imported: {name}().")
        elif name in ("os.kill", "os.killpg", "signal.raise_signal") and self._hits_itself(name, node):
            yield _fact("forced-exit", node, f"The code sends a signal to its own process: {name}.")
        elif name == "atexit.register" and not self.test:
            what = ast.dump(node)
            severity: Severity = "high" if "_exit" in what or "SystemExit" in what else "low"
            if severity == "high":
                yield _fact("forced-exit", node, "An exit is forced when the program ends, by atexit.")
        elif name in ("signal.signal", "signal.setitimer", "signal.alarm") and not (
            inside or main or self.test
        ):
            yield _fact(
                "signal", node, "The module sets a signal handler or an alarm as it is imported.", "low"
            )
        if self.test:
            return
        if (
            name in ("os.getenv", "os.environ.get", "os.environ.pop", "environ.get", "getenv")
            and first is not None
        ):
            if _DETECTION.match(_text(first)):
                yield _fact("test-detection", node, f"The code asks whether it is tested: {_text(first)}.")
        elif name in ("sys._getframe", "inspect.stack", "inspect.currentframe", "traceback.extract_stack"):
            yield Fact(
                "caller-inspection", "low", name, node.lineno, f"The code looks at its caller: {name}."
            )
        elif name == "sys.modules.get" and first is not None and _text(first) in _RUNNERS:
            yield _fact("test-detection", node, f"The code asks whether {_text(first)} is loaded.")
        elif last in ("startswith", "endswith", "find", "count", "search", "match", "fnmatch") and node.args:
            words = [_text(arg) for arg in node.args]
            if any(_means_test(word) for word in words) and self._about_caller(node):
                yield _fact("test-detection", node, "The code asks whether a test is its caller.")
        if name in (
            "print",
            "sys.stdout.write",
            "sys.stderr.write",
            "os.write",
            "sys.__stdout__.write",
            "builtins.print",
        ):
            said = " ".join(_text(arg) for arg in node.args)
            if looks_like_summary(said):
                yield _fact(
                    "fake-summary", node, "Product code prints what looks like the summary of a test run."
                )
        yield from self._files(node, name, last)

    def _hard_exit(self, node: ast.Call, first: ast.expr | None) -> Iterator[Fact]:
        # After a fork, leaving at once is how a child has to end.
        if self.forks:
            return
        # Another number, or one that comes from somewhere: how a worker tells what became of it.
        honest = first is not None and self._number(first) not in (0, False)
        text = "The code leaves the process at once (os._exit): what the runner would say is never said."
        yield _fact("forced-exit", node, text, "low" if honest else "high")

    def _number(self, node: ast.expr) -> object:
        """The value of an exit code that is written down, 0 for one that the code sets to 0; else 1."""
        if isinstance(node, ast.Constant):
            return node.value
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        known = {"int", "bool", "float", "os", "EX_OK"}
        return 0 if not names - known - {"signal", "sys"} or names & self.zeros else 1

    def _hits_itself(self, name: str, node: ast.Call) -> bool:
        if name == "signal.raise_signal":
            return True
        return bool(node.args) and self._name(getattr(node.args[0], "func", node.args[0])) in (
            "os.getpid",
            "os.getppid",
        )

    def _files(self, node: ast.Call, name: str, last: str) -> Iterator[Fact]:
        """Product code that writes files of tests."""
        constants = [_text(part) for part in ast.walk(node) if isinstance(part, ast.Constant)]
        place = next((text for text in constants if len(text) < 200 and _TEST_FILE.search(text)), "")
        if not place:
            return
        mode = _text(node.args[1]) if len(node.args) > 1 else ""
        mode = mode or next((_text(k.value) for k in node.keywords if k.arg == "mode"), "")
        opens = name in ("open", "io.open") and any(letter in mode for letter in "wax+")
        if opens or last in _WRITERS:
            yield _fact("writes-tests", node, f"Product code changes a file of the tests: {place}.")

    def _detection(self, node: ast.Compare | ast.Subscript) -> Iterator[Fact]:
        if isinstance(node, ast.Subscript):
            if self._name(node.value) in ("os.environ", "environ") and _DETECTION.match(_text(node.slice)):
                yield _fact(
                    "test-detection", node, f"The code asks whether it is tested: {_text(node.slice)}."
                )
            return
        sides = [node.left, *node.comparators]
        words = [_text(side) for side in sides]
        names = " ".join(self._name(part) for side in sides for part in ast.walk(side))
        if "sys.modules" in names and any(word.partition(".")[0] in _RUNNERS for word in words):
            yield _fact(
                "test-detection", node, "The code asks whether a test runner is loaded (sys.modules)."
            )
        elif "environ" in names and any(_DETECTION.match(word) for word in words):
            yield _fact("test-detection", node, "The code asks whether it is tested, by the environment.")
        elif any(_means_test(word) for word in words) and self._about_caller(node):
            yield _fact("test-detection", node, "The code asks whether a test is its caller.")

    def _about_caller(self, node: ast.AST) -> bool:
        """Whether an expression looks at a frame, its file, or the name of the program."""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and part.attr in (
                "f_code", "co_filename", "co_name", "f_globals", "f_back", "filename", "function",
            ):  # fmt: skip
                return True
            if self._name(part) in (
                "sys.argv",
                "sys.orig_argv",
                "inspect.stack",
                "sys._getframe",
                "traceback.format_stack",
            ):
                return True
        return False


def _says_always(node: ast.FunctionDef | ast.AsyncFunctionDef, value: bool) -> bool:
    """Whether a function does nothing but return this value."""
    body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    if len(body) != 1 or not isinstance(body[0], ast.Return):
        return False
    answer = body[0].value
    return isinstance(answer, ast.Constant) and answer.value is value


def _gives_what_it_got(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether `load_tests` returns the tests that it was given, with more of them at most."""
    names = [argument.arg for argument in node.args.args]
    returns = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
    reset = any(
        isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store) and part.id in names[1:2]
        for part in ast.walk(node)
    )
    return (
        bool(returns) and not reset and all(isinstance(r, ast.Name) and r.id in names[1:2] for r in returns)
    )


def _is_main(node: ast.If) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))


def _means_test(word: str) -> bool:
    return re.search(r"(?:^|[^a-z])(?:py)?test(?:s|_|\b)|unittest", word, re.I) is not None and len(word) < 80


def _text(node: ast.AST) -> str:
    """The text of a constant; places of an f-string's values are shown as 0."""
    if isinstance(node, ast.Constant):
        value = node.value
        return (
            value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else ""
        )
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "0" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("encode", "format")
    ):
        return _text(node.func.value)
    return ""


def _fact(kind: str, node: ast.stmt | ast.expr, text: str, severity: Severity = "high") -> Fact:
    return Fact(kind, severity, ast.dump(node), node.lineno, text)
