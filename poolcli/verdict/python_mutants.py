"""Small wrong changes to Python source, found by its syntax tree and put in by position.

Nothing is mutated that tests cannot or need not notice: docstrings and other bare constants, annotations, dunder
names of modules, log calls, assertions, error and help texts, types that are written as code and code for the type
checker, the script's entry.
Comments that ask for it (`pragma: no mutate`) are not obeyed: the change itself could have brought them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tokenize
from bisect import bisect_left
from collections.abc import Collection, Iterator

#: start and end in characters, what stands there instead, and what kind of change it is.
Edit = tuple[int, int, str, str]

_COMPARE = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "/"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
#: Calls whose only work is to tell a person something.
_LOGGERS = re.compile(r"(?:^|\.)_?(?:log|logger|logging|LOG|LOGGER|warnings)$")
_LOG_CALLS = frozenset("debug info warning warn error exception critical log fatal".split())
#: Keywords and names whose texts are for people.
_FOR_PEOPLE = frozenset(
    "help description epilog metavar usage doc msg message errmsg error_message title".split()
)
#: Conditions whose branch tests do not take: a type checker's, another platform's, a script's.
_ASIDE = re.compile(r"\b(?:TYPE_CHECKING|__name__|sys\.version_info|sys\.platform|os\.name|__debug__)\b")
_DUNDER = re.compile(r"__\w+__$")
#: Methods and functions that are taken for one another, and whose arguments are of the same kind.
_CONFUSED = {
    name: other
    for pair in (
        "lower upper",
        "lstrip rstrip",
        "startswith endswith",
        "find rfind",
        "index rindex",
        "partition rpartition",
        "removeprefix removesuffix",
        "ljust rjust",
    )
    for name, other in (pair.split(), reversed(pair.split()))
}
#: What only a type checker reads: calls that name a type, and what is written as `Literal["a"]`.
_TYPE_CALLS = frozenset("NewType TypeVar ParamSpec TypeVarTuple TypeAliasType".split())
_TYPE_FORMS = frozenset(
    "Literal Union Optional Annotated Callable Type Tuple List Dict Set FrozenSet Iterable Iterator Sequence Mapping"
    " tuple list dict set frozenset type".split()
)
_CONFUSED_BUILTINS = {"min": "max", "max": "min", "any": "all", "all": "any"}


def edits(text: str, lines: Collection[int]) -> Iterator[Edit]:
    """The edits that begin on one of `lines` (from 1), in no order. Nothing for what is no Python."""
    shift = 1 if text.startswith("\ufeff") else 0
    body = text[shift:]
    try:
        tree = ast.parse(body)
        source = _Source(body)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError, MemoryError):
        return
    finder = _Finder(source, set(lines))
    # As deep as the interpreter's stack: machine-made. What was found so far is as good as any.
    with contextlib.suppress(RecursionError):
        finder.visit(tree)
    for start, end, new, kind in finder.found:
        yield start + shift, end + shift, new, kind


class _Source:
    """The text, with the places of its lines and tokens in characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]
        self.tokens: list[tuple[int, int, str]] = []
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER, tokenize.STRING):
                start = self._starts[token.start[0] - 1] + token.start[1]
                self.tokens.append((start, start + len(token.string), token.string))
        self._token_starts = [start for start, _, _ in self.tokens]

    def place(self, line: int, column: int) -> int:
        """The character at a line and a column in bytes, as the syntax tree counts them."""
        start = self._starts[line - 1]
        head = self.text[start : start + column]
        if head.isascii():
            return start + column
        end = self._starts[line] if line < len(self._starts) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node begins and ends."""
        return (
            self.place(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self.place(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def line(self, place: int) -> int:
        """The line, from 1, that a character is on."""
        return bisect_left(self._starts, place + 1)

    def between(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """The tokens that begin in a stretch."""
        return self.tokens[bisect_left(self._token_starts, start) : bisect_left(self._token_starts, end)]

    def after(self, place: int) -> tuple[int, int, str]:
        """The first token at or after a place."""
        return self.tokens[bisect_left(self._token_starts, place)]

    def before(self, place: int) -> tuple[int, int, str]:
        """The last token that begins before a place."""
        return self.tokens[bisect_left(self._token_starts, place) - 1]


class _Finder(ast.NodeVisitor):
    """Walks a tree and collects edits; what is not to be mutated is not walked into."""

    def __init__(self, source: _Source, lines: set[int]) -> None:
        self.found: list[Edit] = []
        self._source, self._lines = source, lines
        #: Inside of an error's text, or of another text for people, no string is mutated.
        self._texts = True
        self._function = ""

    def _add(self, start: int, end: int, new: str, kind: str) -> None:
        if self._source.line(start) in self._lines and self._source.text[start:end] != new:
            self.found.append((start, end, new, kind))

    def _replace(self, node: ast.AST, new: str, kind: str) -> None:
        start, end = self._source.span(node)
        self._add(start, end, new, kind)

    def _operator(self, left: ast.AST, right: ast.AST, old: str, new: str, kind: str) -> None:
        """Exchange the operator between two nodes; brackets and comments may stand between them as well."""
        start, end = self._source.span(left)[1], self._source.span(right)[0]
        words = old.split()
        tokens = [token for token in self._source.between(start, end) if token[2] in words]
        if len(tokens) == len(words):
            self._add(tokens[0][0], tokens[-1][1], new, kind)

    # What is left out.

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Constant) or _is_log(value):
            return
        if isinstance(value, ast.Call):
            self._replace(node, "pass", "statement")
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Holds as long as the code is right: weaker or gone, no test could tell."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Before Python 3.12 the places inside are wrong."""

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        for case in node.cases:
            if case.guard is not None:
                self._negate(case.guard)
                self.visit(case.guard)
            for statement in case.body:
                self.visit(statement)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            self._replace(node, "pass", "statement")
        self._without_texts(node)

    def _without_texts(self, node: ast.AST) -> None:
        before, self._texts = self._texts, False
        # The node itself may be the text.
        (self.visit if isinstance(node, ast.expr) else self.generic_visit)(node)
        self._texts = before

    # Definitions.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if decorators & {"overload", "abstractmethod"}:
            return
        before, self._function = self._function, node.name
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *node.body):
            if part is not None:
                self.visit(part)
        self._function = before

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        if not isinstance(node.body, ast.Constant):
            self._replace(node.body, "None", "return")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and _name(node.annotation) != "TypeAlias":
            self._assigned(node, [node.target], node.value)
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if len(names) == len(node.targets) and all(_DUNDER.match(name) for name in names):
            return
        if _is_type(node.value):
            return
        if names and all(name in _FOR_PEOPLE for name in names):
            self._without_texts(node.value)
            return
        self._assigned(node, node.targets, node.value)
        for target in node.targets:
            if not isinstance(target, ast.Name):
                self.visit(target)
        self.visit(node.value)

    def _assigned(self, node: ast.stmt, targets: list[ast.expr], value: ast.expr) -> None:
        state = all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)
        if state and self._function not in ("", "__init__", "__post_init__"):
            # The name has a value already, or so it is hoped: what is lost is the change of it.
            self._replace(node, "pass", "statement")
        elif not isinstance(value, ast.Constant) and not isinstance(targets[0], (ast.Tuple, ast.List)):
            self._replace(value, "None", "value")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not _is_type(node):
            self.generic_visit(node)

    # Operators.

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            self._operator(left, right, *_COMPARE[type(op)], "comparison")
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._operator(left, right, old, new, "boolean")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        # An operator that texts do not have raises at once: killed by any test that comes by, so it says nothing.
        if type(node.op) in _ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            self._operator(node.left, node.right, *_ARITHMETIC[type(node.op)], "arithmetic")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in _ARITHMETIC and not _is_text(node.value):
            old, new = _ARITHMETIC[type(node.op)]
            self._operator(node.target, node.value, old + "=", new + "=", "arithmetic")
        self._replace(node, "pass", "statement")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
            start, inner = self._source.span(node)[0], self._source.span(node.operand)[0]
            # Brackets before the operand stay: only the operator goes, with the space after it.
            end = self._source.between(start, inner)[0][1]
            end = inner if self._beside(end, inner) else end
            glued = self._source.text[start - 1 : start].isalnum() and start > 0
            self._add(start, end, " " if glued else "", "negation")
        self.generic_visit(node)

    def _beside(self, start: int, end: int) -> bool:
        """Whether only spaces stand between two places, on one line."""
        return not self._source.text[start:end].strip(" ")

    # Decisions and ways out.

    def visit_If(self, node: ast.If) -> None:
        if _ASIDE.search(ast.unparse(node.test)):
            for statement in node.orelse:
                self.visit(statement)
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._negate(condition)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        """Turn a condition round that holds no operator of its own to exchange."""
        if isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant, ast.NamedExpr)):
            return
        start, end = self._source.span(test)
        self._add(start, end, f"(not {self._source.text[start:end]})", "condition")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._replace(node.value, "None", "return")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue", "loop")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break", "loop")

    # Values.

    def visit_Call(self, node: ast.Call) -> None:
        if _is_log(node) or _is_type(node):
            return
        if _name(node.func) == "cast" and len(node.args) == 2:
            self.visit(node.args[1])
            return
        self._confuse(node)
        self.visit(node.func)
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        if len(node.args) > 1 and not starred and self._texts:
            # The last is the one that most likely has a default.
            self._drop(node.args[-1], "argument")
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg in _FOR_PEOPLE:
                continue
            if keyword.arg is not None:
                self._drop(keyword, "keyword")
            self.visit(keyword.value)

    def _confuse(self, node: ast.Call) -> None:
        """Call the sibling instead: `rstrip` for `lstrip`, `max` for `min`."""
        if isinstance(node.func, ast.Name):
            other = _CONFUSED_BUILTINS.get(node.func.id, "")
        elif isinstance(node.func, ast.Attribute):
            other = _CONFUSED.get(node.func.attr, "")
        else:
            return
        if other:
            end = self._source.span(node.func)[1]
            self._add(end - len(_name(node.func)), end, other, "call")

    def _drop(self, argument: ast.expr | ast.keyword, kind: str) -> None:
        """Leave an argument out, with a comma beside it; one that is left over is allowed there."""
        start, end = self._source.span(argument)
        after = self._source.after(end)
        if after[2] == ",":
            following = self._source.after(after[1])
            end = following[0] if self._beside(after[1], following[0]) else after[1]
        else:
            before = self._source.before(start)
            if before[2] == "," and self._beside(before[1], start):
                start = before[0]
        self._add(start, end, "", kind)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), "constant")
        elif isinstance(value, int):
            if abs(value) < 1 << 64:  # longer ones are somebody's tables
                # Not one less as well: the tests that do not notice the one do not notice the other.
                self._replace(node, str(value + 1), "constant")
        elif isinstance(value, float):
            if abs(value) < 1e15:  # above it a float has no room for one more
                self._replace(node, repr(value + 1.0), "constant")
        elif isinstance(value, (str, bytes)) and self._texts:
            empty, other = ('""', '"mutated"') if isinstance(value, str) else ('b""', 'b"mutated"')
            self._replace(node, empty if value else other, "constant")
            self._swap_case(node)

    def _swap_case(self, node: ast.Constant) -> None:
        """`"CASE"` for `"case"`, where the text is written as it is: escapes and names of characters stay whole."""
        start, end = self._source.span(node)
        text = self._source.text[start:end]
        body = re.fullmatch(r"""([bBuU]?)(["'])([^"'\\\n]*)\2""", text)
        if body is not None and body[3].swapcase() != body[3]:
            self._add(start, end, f"{body[1]}{body[2]}{body[3].swapcase()}{body[2]}", "text")


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def _name(node: ast.AST) -> str:
    """The last part of a dotted name; '' for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_type(node: ast.AST) -> bool:
    """Whether this says a type: `NewType("A", str)`, `Literal["a"]`, `tuple[int, int]`."""
    if isinstance(node, ast.Call):
        return _name(node.func) in _TYPE_CALLS
    return isinstance(node, ast.Subscript) and _name(node.value) in _TYPE_FORMS


def _is_log(node: ast.expr) -> bool:
    """Whether this is a call like `log.info(…)`, `self._logger.warning(…)` or `warnings.warn(…)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr in _LOG_CALLS and bool(_LOGGERS.search(ast.unparse(node.func.value)))
