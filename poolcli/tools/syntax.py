"""Whether an edit broke a file that could be parsed before. Nothing of the file is run."""

from __future__ import annotations

import warnings
from collections.abc import Callable

#: Characters of a file that is parsed; a megabyte of Python takes about a second.
LARGEST = 1_000_000

#: Characters of what a parser says.
SAID = 160

#: By suffix the package of a grammar for tree-sitter, and its function that gives the language.
GRAMMARS = {
    ".js": ("javascript", "language"), ".mjs": ("javascript", "language"), ".jsx": ("javascript", "language"),
    ".ts": ("typescript", "language_typescript"), ".tsx": ("typescript", "language_tsx"),
    ".go": ("go", "language"), ".rs": ("rust", "language"), ".java": ("java", "language"), ".c": ("c", "language"),
    ".cc": ("cpp", "language"), ".cpp": ("cpp", "language"), ".hpp": ("cpp", "language"),
    ".rb": ("ruby", "language"), ".sh": ("bash", "language"),
}  # fmt: skip

#: Says what is wrong with a text, with its line where that is known; "" when nothing is.
Parser = Callable[[str], str]


def broken(path: str, before: str | None, after: str | None) -> str:
    """One line about a file that does not parse any more; "" when it does, did not before, or nobody can tell."""
    if before is None or after is None or max(len(before), len(after)) > LARGEST:
        return ""
    parser = _parser(path)
    if parser is None or not (wrong := _said(parser, after)) or _said(parser, before):
        return ""
    return f"(this broke the syntax of {path}: {wrong[:SAID]})"


def _said(parser: Parser, text: str) -> str:
    try:
        return parser(text)
    except (RecursionError, MemoryError):
        # Nested too deeply to be parsed here: nothing is known about it.
        return ""


def _parser(path: str) -> Parser | None:
    suffix = path[path.rfind(".") :] if "." in path.rpartition("/")[2] else ""
    known: dict[str, Parser] = {".py": _python, ".pyi": _python, ".json": _json, ".toml": _toml}
    if suffix in known:
        return known[suffix]
    return _grammar(*GRAMMARS[suffix]) if suffix in GRAMMARS else None


def _python(text: str) -> str:
    import ast

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:  # a NUL, or bytes that are no characters
        return str(error)
    return ""


def _json(text: str) -> str:
    import json

    try:
        json.loads(text)
    except ValueError as error:
        return f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
    return ""


def _toml(text: str) -> str:
    import tomllib

    try:
        tomllib.loads(text)
    except ValueError as error:
        return str(error)
    return ""


def _grammar(package: str, function: str) -> Parser | None:
    """A parser of tree-sitter, where its grammar is installed; nothing is fetched."""
    import importlib

    try:
        sitter = importlib.import_module("tree_sitter")
        language = getattr(importlib.import_module(f"tree_sitter_{package}"), function)()
        parser = sitter.Parser(sitter.Language(language))
    except (ImportError, AttributeError, TypeError, ValueError):  # not there, or of versions that do not fit
        return None

    def parse(text: str) -> str:
        node = parser.parse(text.encode("utf-8", "surrogateescape")).root_node
        if not node.has_error:
            return ""
        while child := next((one for one in node.children if one.has_error or one.is_missing), None):
            node = child
        return f"line {node.start_point[0] + 1}: syntax error"

    return parse
