"""Keeps secrets out of all that is written, shown or sent: each is replaced by `[redacted: kind]`.

Replaced are known shapes (`secret_shapes`), the user's own patterns, and the values of the user's environment that
look like secrets, plain and encoded. Text is changed once, before an event is made of it, and never later: the log
is what was sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.secret_shapes import KEY_BODY, LONGEST_KEY, NAMED, SHAPES

#: What stands in a secret's place; `kind` in words.
MARK = "[redacted: {}]"
#: A mark as it is found in text again.
MARKED = r"\[redacted: [A-Za-z][A-Za-z ]{0,40}\]"

#: Names of variables whose value is a secret.
_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|PASSWD|CREDENTIAL|PRIVATE|AUTH|COOKIE|_PAT$|_DSN$|WEBHOOK", re.I
)
#: Keys that servers on one's own machine are given because something has to be given.
_NO_KEY = frozenset(
    "none empty null dummy local ollama lm-studio no-key token-abc123 sk-no-key-required secret".split()
)
#: A value shorter than this is found in ordinary text by chance.
_SHORTEST = 8
#: Values of one class of characters (a word) count as secrets from this length on.
_SHORTEST_WORD = 16
#: A value longer than this is found by its first characters: a certificate, a file in a variable.
_LONGEST = 4096

#: Characters of an unfinished line that a stream holds back, and of a text without a line end that it looks at
#: together: more than any token has.
HELD = 16_384


class Span(Struct, frozen=True):
    """A secret in a text: from `begin` to before `end`."""

    begin: int
    end: int
    kind: str


class Redactor:
    """Replaces secrets.

    `values` are exact texts with their kind, `patterns` the user's regular expressions. Raises ValueError for a
    pattern that is none, or that matches the empty text.
    """

    def __init__(self, values: Iterable[tuple[str, str]] = (), patterns: Sequence[str] = ()) -> None:
        exact: dict[str, str] = {}
        for value, kind in values:
            for form in _forms(value[:_LONGEST]):
                exact.setdefault(form, kind)
        # The longest first: a value may be the beginning of another.
        self._exact = sorted(exact.items(), key=lambda item: -len(item[0]))
        self._patterns = [compiled(pattern) for pattern in patterns]
        #: Whether a secret may hold spaces, so that only a line end is a safe place to cut.
        self.wide = bool(patterns) or any(" " in form for form in exact)

    def text(self, text: str, *, named: bool = True) -> str:
        """The text without secrets. `named=False` leaves out what is only guessed from a name beside it."""
        spans = self.spans(text, named=named)
        return _replaced(text, spans) if spans else text

    def spans(self, text: str, *, named: bool = True) -> list[Span]:
        """Where secrets are, from the left, none overlapping another."""
        if len(text) < _SHORTEST and not self._patterns:
            return []
        found: list[tuple[int, int, str]] = []
        for value, kind in self._exact:
            at = text.find(value)
            while at >= 0:
                found.append((at, at + len(value), kind))
                at = text.find(value, at + len(value))
        for pattern in self._patterns:
            found += [(*match.span(), "your pattern") for match in pattern.finditer(text) if match.group()]
        for shape in SHAPES:
            found += shape.spans(text, text)
        if named:
            lower = text.lower()
            for shape in NAMED:
                found += shape.spans(text, lower)
        return _merged(found)

    def data(self, value: Any, *, named: bool = True) -> Any:
        """A JSON value with every string in it redacted, keys included; tuples become lists."""
        if isinstance(value, str):
            return self.text(value, named=named)
        if isinstance(value, Mapping):
            return {self.data(k, named=named): self.data(v, named=named) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item, named=named) for item in value]
        return value

    def stream(self, *, named: bool = True) -> Stream:
        """Redacts text that comes in pieces."""
        return Stream(self, named=named)


class Stream:
    """Redacts text that comes in pieces: what may be the beginning of a secret is held back until it is known.

    Held are at most the last unfinished word (the unfinished line where a secret may hold spaces), and a key block
    from its first line on. What stays unfinished for longer than HELD characters is looked at as it is, and the
    rest of a secret found at its end is swallowed.
    """

    def __init__(self, redactor: Redactor, *, named: bool = True) -> None:
        self._redactor, self._named = redactor, named
        self._held = ""
        # Characters that still belong to a secret whose beginning was replaced, and how many at most.
        self._swallow = ""
        self._left = 0

    def feed(self, piece: str) -> str:
        """Take the next piece; gives what may be shown now."""
        if self._swallow:
            piece = self._swallowed(piece)
        self._held += piece
        cut = self._safe_cut()
        if cut <= 0:
            return ""
        spans = self._redactor.spans(self._held, named=self._named)
        # The longest text that is held was looked at whole; a secret over the cut goes with its beginning.
        over = next((span for span in spans if span.begin < cut < span.end), None)
        if over is not None:
            if over.begin > 0:
                cut = over.begin
            else:
                cut = over.end
                if cut == len(self._held):
                    key = over.kind == "private key"
                    self._swallow = _KEY_REST if key else _WORD_REST
                    self._left = LONGEST_KEY if key else HELD
        shown = _replaced(self._held[:cut], [span for span in spans if span.end <= cut])
        self._held = self._held[cut:]
        return shown

    def flush(self) -> str:
        """The end, or a pause: gives what was held back, redacted as it stands."""
        held, self._held = self._held, ""
        self._swallow = ""
        return self._redactor.text(held, named=self._named)

    def _safe_cut(self) -> int:
        """Up to where the held text can be given away without cutting a secret."""
        held = self._held
        cut = max(held.rfind("\n"), held.rfind("\r")) + 1
        if (
            not self._redactor.wide
            and (word := _last_space(held, cut)) > cut
            and not _OPEN.search(held, cut, word)
        ):
            cut = word
        begin = held.rfind("-----BEGIN ", 0, cut)
        if begin >= 0 and _is_open_key(held, begin, cut):
            cut = begin
        if len(held) - cut > HELD:
            # Nothing to cut at for so long: all but enough for a token that has just begun.
            cut = len(held) - HELD // 4
        return cut

    def _swallowed(self, piece: str) -> str:
        match = re.match(self._swallow, piece)
        end = min(match.end(), self._left) if match else 0
        self._left -= end
        if end < len(piece) or self._left <= 0:
            self._swallow = ""
        return piece[end:]


# What may still belong to a secret that was too long to be held.
_KEY_REST = rf"(?:{KEY_BODY}|-(?!----))*(?:-----END [A-Z0-9 ]{{0,40}}-----)?"
_WORD_REST = r"[^\s\"'<>]*"
# A name, or a scheme, behind which a secret may follow after a space.
_OPEN = re.compile(
    r"(?:passw\w*|passphrase|secret|token|key|credentials?|authorization|bearer|basic|digest)[^\n]{0,60}$",
    re.I,
)
_KEY_START = r"-----BEGIN (?:(?:[A-Z0-9]+ ){0,4}PRIVATE KEY|[A-Z0-9 ]{0,40}\Z)"
_KEY_END = r"-----END [A-Z0-9 ]{0,40}-----"


def _last_space(text: str, start: int) -> int:
    """The position behind the last space or tab from `start` on, else `start`."""
    return max(text.rfind(" ", start), text.rfind("\t", start), start - 1) + 1


def _is_open_key(text: str, begin: int, cut: int) -> bool:
    """Whether a key block may have begun there that does not end before `cut`."""
    if len(text) - begin > HELD or not re.match(_KEY_START, text[begin : begin + 80]):
        return False
    return not re.search(_KEY_END, text[begin:cut])


def _merged(found: list[tuple[int, int, str]]) -> list[Span]:
    """Spans from the left; those that overlap become one, with the kind of the first."""
    spans: list[Span] = []
    for begin, end, kind in sorted(found, key=lambda item: (item[0], -item[1])):
        if spans and begin < spans[-1].end:
            last = spans[-1]
            spans[-1] = Span(last.begin, max(last.end, end), last.kind)
        else:
            spans.append(Span(begin, end, kind))
    return spans


def _replaced(text: str, spans: Sequence[Span]) -> str:
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += (text[at : span.begin], MARK.format(span.kind))
        at = span.end
    return "".join((*parts, text[at:]))


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the user. Raises ValueError for one that is none or that matches the empty text."""
    try:
        result = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    if result.match(""):
        raise ValueError(f"{pattern!r} matches the empty text, and so everything")
    return result


# Exact values


def from_environment(environ: Mapping[str, str], api_key: str = "") -> list[tuple[str, str]]:
    """The values that must not be seen: the server's key, and variables whose name says that they are secret."""
    found = []
    key = api_key.strip()
    if len(key) >= _SHORTEST and key.lower() not in _NO_KEY:
        found.append((key, "API key"))
    for name, value in environ.items():
        value = value.strip()
        if _SECRET_NAME.search(name) and _is_secret(value):
            found.append((value, "environment"))
    return found


def _is_secret(value: str) -> bool:
    """Whether a variable's value can be told from ordinary text: `true`, a path or a word would be found everywhere."""
    if len(value) < _SHORTEST or value.lower() in _NO_KEY or value.startswith(("/", "~", "./")):
        return False
    if "://" in value and "@" not in value:
        return False
    kinds = {"d" if c.isdigit() else "l" if c.islower() else "u" if c.isupper() else "s" for c in value}
    return len(value) >= _SHORTEST_WORD or (len(kinds) >= 2 and kinds != {"l", "s"})


def _forms(value: str) -> list[str]:
    """A value as it may be found: itself, in a URL, in JSON, in hexadecimal digits, in base64 at each offset."""
    import base64
    import json
    from urllib.parse import quote, quote_plus

    data = value.encode("utf-8", "surrogateescape")
    forms = {value, quote(data, safe=""), quote_plus(data), data.hex(), data.hex().upper()}
    forms.add(json.dumps(value)[1:-1])
    forms.add(json.dumps(value, ensure_ascii=False)[1:-1])
    for offset in range(3):
        # The letters of base64 that depend on this value alone, whatever stands before and behind it.
        text = base64.b64encode(bytes(offset) + data).decode()
        core = text[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6]
        if len(core) >= _SHORTEST:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return [form for form in forms if len(form) >= _SHORTEST]


# The redactor of this process

_current: Redactor | None = None


def use(redactor: Redactor) -> None:
    """Make this the redactor of everything that this process writes, shows and sends from now on."""
    global _current
    _current = redactor


def current() -> Redactor:
    """The redactor of this process; unless one was set, one made of the environment."""
    global _current
    if _current is None:
        _current = Redactor(from_environment(os.environ, os.environ.get("POOL_API_KEY", "")))
    return _current


# Patches


class Found(Struct, frozen=True):
    """Something in a patch that people should look at: a secret's kind, or "mark" for a mark of ours."""

    path: str
    line: int
    kind: str


def in_patch(patch: str, redactor: Redactor | None = None) -> list[Found]:
    """Secrets, and marks of ours, in the lines that a git patch adds. The patch itself is never altered."""
    redactor = redactor or current()
    found: list[Found] = []
    added: list[str] = []
    numbers: list[int] = []
    path, line = "", 0

    def look() -> None:
        text = "\n".join(added)
        starts = [0]
        for item in added:
            starts.append(starts[-1] + len(item) + 1)
        spans = [
            *redactor.spans(text),
            *(Span(m.start(), m.end(), "mark") for m in re.finditer(MARKED, text)),
        ]
        from bisect import bisect

        found.extend(Found(path, numbers[bisect(starts, span.begin) - 1], span.kind) for span in spans)
        added.clear()
        numbers.clear()

    for row in patch.split("\n"):
        if row.startswith("diff --git "):
            look()
            path = row.rpartition(" b/")[2]
            line = -1  # in the header of a file
        elif row.startswith("@@ "):
            number = re.match(r"@@ -\S+ \+(\d+)", row)
            line = int(number[1]) if number else 0
        elif line >= 0 and row.startswith("+"):
            added.append(row[1:])
            numbers.append(line)
            line += 1
        elif line >= 0 and row.startswith(" "):
            line += 1
    look()
    return found
