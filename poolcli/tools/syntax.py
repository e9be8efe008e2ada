"""Whether an edit broke a file that could be parsed before. Nothing of the file is run."""

from __future__ import annotations

import warnings
from collections.abc import Callable

#: Characters of a file that is parsed; a megabyte of Python takes about a second.
LARGEST = 1_000_000

#: Characters of what a parser says.
SAID = 160

#: Languages by suffix, as the collections of tree-sitter's grammars name them.
GRAMMARS = {
    ".js": "javascript", ".mjs": "javascript", ".jsx": "javascript", ".ts": "typescript", ".tsx": "tsx",
    ".go": "go", ".rs": "rust", ".java": "java", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp",
    ".rb": "ruby", ".php": "php", ".cs": "csharp", ".kt": "kotlin", ".sh": "bash",
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
    return _grammar(GRAMMARS[suffix]) if suffix in GRAMMARS else None


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


def _grammar(language: str) -> Parser | None:
    """A parser of tree-sitter, where a collection of its grammars is installed."""
    try:
        from tree_sitter_language_pack import get_parser  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        parser = get_parser(language)
    except Exception:  # a collection without this grammar; each raises what it likes
        return None

    def parse(text: str) -> str:
        node = parser.parse(text.encode("utf-8", "surrogateescape")).root_node
        if not node.has_error:
            return ""
        while child := next((one for one in node.children if one.has_error or one.is_missing), None):
            node = child
        return f"line {node.start_point[0] + 1}: syntax error"

    return parse
