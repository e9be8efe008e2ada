"""A whole Python function or class in the place of the one of that name."""

from __future__ import annotations

import ast
import textwrap

from poolcli.edits.lines import indent_of
from poolcli.tools.syntax import LARGEST

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def only(text: str) -> str:
    """The name of the one definition that a text consists of; "" when it is anything else."""
    found = _parsed(textwrap.dedent(text))
    if found is None or len(found.body) != 1:
        return ""
    (node,) = found.body
    return node.name if isinstance(node, _Definition) else ""


def replaced(text: str, new: str) -> tuple[str, int] | None:
    """The text with its one definition of that name replaced, and the line (from 1) where it begins; None when there
    is none, or more than one, or it cannot be told how the new one is to be indented."""
    name, tree = only(new), _parsed(text)
    if not name or tree is None or "\f" in text:
        return None
    found = [node for node in ast.walk(tree) if isinstance(node, _Definition) and node.name == name]
    if len(found) != 1:
        return None
    (node,) = found
    # Decorators that the new text does not have stay.
    decorated = new.lstrip().startswith("@")
    first = min([node.lineno, *(one.lineno for one in node.decorator_list if decorated)]) - 1
    lines = text.split("\n")
    there = lines[first : node.end_lineno]
    indent = there[0][: node.col_offset]
    rest = there[-1].encode("utf-8", "surrogatepass")[node.end_col_offset :].strip()
    if rest and not rest.startswith(b"#"):
        return None
    body = new.replace("\r\n", "\n").strip("\n").split("\n")
    if indent.strip():
        return None  # it shares a line with other code
    if indent_of(body[0]) != indent:
        # Strings of several lines must not be shifted.
        if indent_of(body[0]) or any(map(_spans_lines, ast.walk(_parsed("\n".join(body)) or tree))):
            return None
        body = [indent + line if line.strip() else line for line in body]
    eol = "\r" if there[0].endswith("\r") else ""
    fresh = [line + eol for line in body]
    if not there[-1].endswith("\r") and eol:
        fresh[-1] = fresh[-1].removesuffix(eol)
    return "\n".join([*lines[:first], *fresh, *lines[node.end_lineno :]]), first + 1


def _spans_lines(node: ast.AST) -> bool:
    string = isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )
    return string and getattr(node, "end_lineno", 0) != getattr(node, "lineno", 0)


def _parsed(text: str) -> ast.Module | None:
    if len(text) > LARGEST:
        return None
    try:
        return ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
