"""Small wrong changes to JavaScript, TypeScript, Go, Rust, Java and C, by a lexer and no grammar.

The set is small on purpose: without a grammar only those operators are exchanged that cannot be anything else
where they stand. Ordering and multiplication want a space on both sides, as formatters put it: without it `<` may
open type arguments, `*` and `&` may belong to a type. Text, comments, patterns and directives are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

#: start and end in characters, what stands there instead, and what kind of change it is.
Edit = tuple[int, int, str, str]

#: The family of syntax by the end of a file's name.
FAMILIES = {
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"), "js"),
    ".go": "go",
    ".rs": "rust",
    **dict.fromkeys((".java", ".kt"), "java"),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp"), "c"),
}

_COMMENT = r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?"
_DOUBLE = r'"(?:\\.|[^"\\\n])*"?'
_SINGLE = r"'(?:\\.|[^'\\\n])*'?"
#: What is no code, by family. Every end is optional, so an unclosed one is tried once and not again and again.
_ASIDE = {
    "js": rf"{_COMMENT}|{_DOUBLE}|{_SINGLE}",
    "go": rf"{_COMMENT}|{_DOUBLE}|{_SINGLE}|`[^`]*`?",
    # 'a is a lifetime, 'a' is a character; nested comments end at their first end, which only says less.
    "rust": rf"{_COMMENT}|b?r(?P<hash>#*)\"(?s:.)*?\"(?P=hash)|b?\"(?:\\(?s:.)|[^\"\\])*\"?"
    rf"|b?'(?:\\[^\n]+?|[^'\\\n])'|'\w+|#!?\[[^\n]*",
    "java": rf'{_COMMENT}|"""(?:\\(?s:.)|(?!""")[^\\])*(?:""")?|{_DOUBLE}|{_SINGLE}|@\w+',
    "c": rf"{_COMMENT}|{_DOUBLE}|{_SINGLE}|^[ \t]*#(?:[^\n\\]|\\(?s:.))*",
}
_CODE = (
    r"(?P<name>[^\W\d][\w$]*|\$[\w$]*)|(?P<number>\d[\w.]*)|(?P<operator>"
    r">>>=|\.\.\.|===|!==|>>>|\*\*=|<<=|>>=|&&=|\|\|=|\?\?=|\.\.=|<=>"
    r"|=>|->|<-|:=|::|==|!=|<=|>=|&&|\|\||\?\?|\?\.|\+\+|--|\+=|-=|\*=|/=|%=|&=|\|=|\^=|<<|>>|\*\*|\.\.|[^\s\w])"
)
_TOKENS = {
    family: re.compile(f"(?P<aside>{aside})|{_CODE}", re.MULTILINE) for family, aside in _ASIDE.items()
}

#: Exchanged wherever they stand.
_ANYWHERE = {
    "==": ("!=", "comparison"),
    "!=": ("==", "comparison"),
    "===": ("!==", "comparison"),
    "!==": ("===", "comparison"),
    "&&": ("||", "boolean"),
    "||": ("&&", "boolean"),
    "+=": ("-=", "arithmetic"),
    "-=": ("+=", "arithmetic"),
    "*=": ("/=", "arithmetic"),
    "/=": ("*=", "arithmetic"),
    "++": ("--", "arithmetic"),
    "--": ("++", "arithmetic"),
    "<=": ("<", "comparison"),
    ">=": (">", "comparison"),
}
#: Exchanged between two operands with a space on both sides.
_SPACED = {
    "<": ("<=", "comparison"),
    ">": (">=", "comparison"),
    "+": ("-", "arithmetic"),
    "-": ("+", "arithmetic"),
    "*": ("/", "arithmetic"),
    "/": ("*", "arithmetic"),
    "%": ("*", "arithmetic"),
}
#: Lines that name things or tell a person something: nothing in them is for a test to notice.
_PASSED_OVER = re.compile(
    r"\s*(?:@\w|import\b|package\b|use\s|pub\s+use\b|export\s+(?:\*|\{)|(?:const|var|let)\s[^=]*=\s*require\("
    r"|console\.|log(?:ger)?[.(]|slog\.|LOG(?:GER)?[.(]|fmt\.(?:Print|Fprint)|e?println!|e?print!|dbg!"
    r"|(?:debug|info|warn|error|trace)!|System\.(?:out|err)\.|(?:f|perror|print)printf?\(|printf\(|assert)"
)
#: Words after which an operand begins, not an operator: `return -1`, `case +1`.
_BEFORE_OPERAND = frozenset(
    "if while match return case throw typeof in of new delete void yield await else do".split()
)
#: After these a slash begins a pattern, in JavaScript.
_BEFORE_PATTERN = frozenset("(,=:[!&|?{};+-*%<>~^") | {"=>", "&&", "||", "??", "===", "==", "!=", "!=="}
_PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/\w*")

#: start, end, text and kind: name, number, operator or aside.
Token = tuple[int, int, str, str]


def edits(text: str, lines: Collection[int], suffix: str) -> Iterator[Edit]:
    """The edits that begin on one of `lines` (from 1) of a file whose name ends in `suffix`."""
    family = FAMILIES.get(suffix)
    if family is None:
        return
    wanted, starts = set(lines), [0, *(match.end() for match in re.finditer("\n", text))]
    skipped = {n for n, start in enumerate(starts, 1) if _PASSED_OVER.match(text, start)}
    tokens = list(scan(text, family))
    line = 0
    for number, token in enumerate(tokens):
        while line < len(starts) and starts[line] <= token[0]:
            line += 1
        if line in wanted and line not in skipped and token[3] != "aside":
            before = tokens[number - 1] if number else (0, 0, "", "operator")
            after = tokens[number + 1] if number + 1 < len(tokens) else (len(text), len(text), "", "operator")
            yield from _of_token(text, token, before, after)


def scan(text: str, family: str) -> Iterator[Token]:
    """The tokens of a text; comments, strings and patterns are `aside`."""
    pattern, place, last = _TOKENS[family], 0, ""
    while match := pattern.search(text, place):
        kind, start, end = match.lastgroup or "aside", match.start(), match.end()
        if match["aside"] is not None:
            kind = "aside"
        word = match.group()
        if family == "js" and word == "`":
            kind, end = "aside", _template_end(text, start)
        elif family == "js" and word in ("/", "/=") and (last in _BEFORE_PATTERN or last in _BEFORE_OPERAND):
            found = _PATTERN.match(text, start)
            if found:
                kind, end = "aside", found.end()
        if not (kind == "aside" and word.startswith(("//", "/*"))):
            last = word
        yield start, end, text[start:end], kind
        place = end


def _template_end(text: str, start: int) -> int:
    """Where a template literal ends, with the templates inside its `${…}`."""
    depth: list[str] = ["`"]
    place = start + 1
    while depth and place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif depth[-1] == "`":
            if character == "`":
                depth.pop()
            elif text.startswith("${", place):
                depth.append("}")
                place += 1
        elif character in "`{":
            depth.append("`" if character == "`" else "}")
        elif character == "}":
            depth.pop()
        place += 1
    return min(place, len(text))


def _of_token(text: str, token: Token, before: Token, after: Token) -> Iterator[Edit]:
    start, end, word, kind = token
    operand = _ends_operand(before)
    if kind == "operator":
        if word in _ANYWHERE and (operand or word in ("++", "--")):
            yield start, end, *_ANYWHERE[word]
        elif word in _SPACED and operand and "aside" not in (before[3], after[3]):
            spaced = text[start - 1 : start].isspace() and text[end : end + 1].isspace()
            if spaced:
                yield start, end, *_SPACED[word]
        elif word == "!" and not operand and after[2] not in ("[", "=", ""):
            yield start, end, "", "negation"
    elif kind == "name" and word in ("true", "false") and before[2] not in (".", "?.", "::", "->"):
        yield start, end, "false" if word == "true" else "true", "constant"
    elif kind == "number" and before[2] not in (".", "..") and word.isdecimal() and len(word) < 16:
        yield start, end, str(int(word) + 1), "constant"


def _ends_operand(token: Token) -> bool:
    """Whether an operand ends with this token, so that the operator after it stands between two."""
    _, _, word, kind = token
    if kind == "operator":
        return word in (")", "]", "}", "?", "!", "++", "--")
    return word not in _BEFORE_OPERAND and not (kind == "aside" and word.startswith(("//", "/*")))
