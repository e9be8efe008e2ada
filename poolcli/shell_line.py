"""The simple commands in a line of shell, as far as they can be told without running it.

What is read here decides what a person is asked, never what a command can do: half of the commands that people
call harmless run other programs. So the reader is honest rather than clever: it says when it is not certain.
"""

from __future__ import annotations

import re

from msgspec import Struct

#: Characters that are read; a longer line is a program, and nobody's rule was written for it.
LONGEST = 100_000
#: Commands of one line that are kept, those inside of others included.
MOST = 2000
#: How deep commands inside of commands are followed.
DEEPEST = 16
#: Words of a runner's command that are looked at for the beginning of the command that it runs.
REACH = 24

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
#: What reads its arguments, or a file, as shell by itself.
_READING = frozenset({"eval", "source", "."})
#: Programs that run what stands behind their own options.
RUNNERS = frozenset(
    "env nice ionice timeout nohup setsid stdbuf time xargs parallel sudo doas su command exec builtin busybox "
    "chroot unshare nsenter flock watch script ssh find fd strace ltrace gdb taskset chrt numactl entr "
    "coproc trap alias".split()
)
#: Runners that add words from their input.
ADDING = frozenset({"xargs", "parallel"})

_OPENING = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"})
_CLOSING = frozenset({"fi", "done", "esac", "}"})
_OBSCURE = frozenset({"case", "select", "function", "coproc", "[["})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\])?\+?=")

_BLANK = re.compile(r"(?:[ \t]|\\\n)+")
_REDIRECTION = re.compile(r"\d*(?:<<<|<<-?|<>|<&|>>|>\||>&|<(?!\()|>(?!\())|&>>?")
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|[;|&()\n]")
#: Characters of a word that mean themselves; the space set is bash's own, so no other blank separates.
_BARE = re.compile(r"""[^ \t\n|&;()<>'"\\$`]+""")
_EXPANDED = re.compile(r"[*?\[\]{}~]")
#: Words of such characters that the shell leaves as they are.
_THEMSELVES = frozenset({"{", "}", "{}", "[", "]", "[[", "]]"})
_IN_QUOTES = re.compile(r'[^"\\$`]+')
_NAME = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\}|[0-9@*#?$!-])")
_ANSI = re.compile(r"\$'(?:[^'\\]|\\.)*'", re.S)


class Word(Struct, frozen=True):
    """One word. Unless it is `literal`, the shell may make another one of it, several, or none."""

    text: str
    literal: bool = True


Command = tuple[Word, ...]


class Line(Struct, frozen=True):
    """What a line runs: `commands` by itself, `inner` by way of these (`env X`, `bash -c X`).

    `whole` says that no command was missed whose name stands in the line. `plain` says that there is nothing but
    simple commands: no redirection into a file, no assignment, no compound command, no substitution.
    """

    commands: tuple[Command, ...] = ()
    inner: tuple[Command, ...] = ()
    whole: bool = True
    plain: bool = True


def read(text: str, depth: int = 0) -> Line:
    """The commands of a line of shell. Never fails: what it cannot read makes the line not `whole`."""
    if len(text) > LONGEST or depth > DEEPEST:
        return Line(whole=False, plain=False)
    reader = _Reader(text, depth)
    reader.commands_until("")
    found = [command for command in reader.found if command]
    inner: list[Command] = list(reader.inner)
    for command in found:
        reader.whole &= _inside(command, inner, depth)
    whole = reader.whole and len(found) + len(inner) <= MOST
    return Line(tuple(found[:MOST]), tuple(inner[:MOST]), whole, reader.plain and whole)


def name(word: Word) -> str:
    """A program's name without its folder."""
    return word.text.rpartition("/")[2]


def _inside(command: Command, inner: list[Command], depth: int) -> bool:
    """Collect the commands that a command runs; whether none of them can have been missed."""
    program = name(command[0])
    if program in SHELLS or command[0].text in _READING:
        return _of_a_shell(command, inner, depth)
    if program not in RUNNERS:
        return True
    whole = True
    more = (Word("", literal=False),) if program in ADDING else ()
    for place in range(1, min(len(command), REACH)):
        word = command[place]
        inner.append((*command[place:], *more))
        if word.literal and " " in word.text:  # env -S, su -c, watch: a line in one word
            whole &= _take(read(word.text, depth + 1), inner)
        if word.literal and name(word) in SHELLS:
            whole &= _of_a_shell(command[place:], inner, depth)
    return whole and len(command) <= REACH


def _of_a_shell(command: Command, inner: list[Command], depth: int) -> bool:
    arguments = [word for word in command[1:] if not (word.literal and word.text.startswith(("-", "+")))]
    whole = bool(arguments)  # without any it reads its input
    for word in arguments:
        whole &= word.literal and _take(read(word.text, depth + 1), inner)
    return whole


def _take(line: Line, inner: list[Command]) -> bool:
    inner += (*line.commands, *line.inner)
    return line.whole and len(inner) <= MOST


class _Reader:
    """One pass over a line, as bash reads it."""

    def __init__(self, text: str, depth: int) -> None:
        self.text, self.place, self.depth = text, 0, depth
        self.found: list[Command] = []
        self.inner: list[Command] = []
        self.whole = self.plain = True
        self._documents: list[tuple[str, bool, bool]] = []  # here-documents: end, literal, tabs stripped

    def commands_until(self, end: str) -> None:
        """Read commands up to `end`: ')' of a substitution, or '' for the end of the text."""
        words: list[Word] = []
        open_ = 0
        while True:
            self._match(_BLANK)
            if self.place >= len(self.text):
                self._add(words)
                if end or self._documents:
                    self._lost()
                return
            char = self.text[self.place]
            if char == "#":
                while self.place < len(self.text) and self.text[self.place] != "\n":
                    self.place += 1
            elif redirection := self._match(_REDIRECTION):
                self._redirect(redirection)
            elif operator := self._match(_OPERATOR):
                if operator == "(" and words:
                    self._lost()  # a function, an array
                self._add(words)
                words = []
                if operator == "(":
                    open_ += 1
                    self.plain = False
                    if self.text.startswith("(", self.place):
                        self._lost()  # arithmetic
                elif operator == ")":
                    if not open_ and end:
                        return
                    self.whole &= open_ > 0
                    open_ -= 1
                elif operator == "\n":
                    self._skip_documents()
                elif operator.startswith(";;") or operator == ";&":
                    self._lost()
            else:
                words.append(self._word())

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.place)
        if not found:
            return ""
        self.place = found.end()
        return found[0]

    def _lost(self) -> None:
        self.whole = self.plain = False

    def _add(self, words: list[Word]) -> None:
        """Keep a command, without the words that only give it its form."""
        words = list(words)
        while words and words[0].literal:
            first = words[0].text
            if first in _OPENING or first in _CLOSING:
                self.plain = False
            elif first == "for":
                self.plain = False
                return
            elif first in _OBSCURE:
                self._lost()
                break
            elif not _ASSIGNMENT.match(first):
                break
            else:
                self.plain = False
            words = words[1:]
        while words and not words[0].literal and _ASSIGNMENT.match(words[0].text):
            self.plain = False
            words = words[1:]
            if words and words[0].literal:
                return self._add(words)
        if words:
            self.found.append(tuple(words))
        return None

    def _redirect(self, operator: str) -> None:
        self._match(_BLANK)
        kind = operator.lstrip("0123456789")
        if self.place >= len(self.text) or self.text[self.place] in "\n|&;()":
            return self._lost()
        target = self._word()
        if kind in ("<<", "<<-"):
            quoted = self.text[self.place - 1] in "'\""
            self._documents.append((target.text, quoted, kind == "<<-"))
            self.plain = False
        elif kind == "<<<":
            self.plain = False
        elif kind in (">&", "<&") and re.fullmatch(r"\d+|-", target.text):
            pass
        elif not (target.literal and target.text == "/dev/null"):
            self.plain = False
        return None

    def _skip_documents(self) -> None:
        for end, literal, tabs in self._documents:
            while True:
                if self.place >= len(self.text):
                    return self._lost()
                until = self.text.find("\n", self.place)
                until = len(self.text) if until < 0 else until
                row = self.text[self.place : until]
                self.place = min(until + 1, len(self.text))
                if (row.lstrip("\t") if tabs else row) == end:
                    break
                if not literal and ("$(" in row or "`" in row or "${" in row):
                    self._lost()
        self._documents = []
        return None

    def _word(self) -> Word:
        parts: list[str] = []
        literal = True
        begin = self.place
        while self.place < len(self.text):
            char = self.text[self.place]
            if bare := self._match(_BARE):
                literal &= not _EXPANDED.search(bare)
                parts.append(bare)
            elif char == "'":
                parts.append(self._until_quote())
            elif char == "\\":
                following = self.text[self.place + 1 : self.place + 2]
                if not following:
                    self._lost()
                parts.append("" if following == "\n" else following)
                self.place += 2
            elif char == '"':
                self.place += 1
                text, plain = self._quoted()
                parts.append(text)
                literal &= plain
            elif char in "$`" or (char in "<>" and self.text.startswith("(", self.place + 1)):
                parts.append(self._expansion(char))
                literal = False
            else:
                break
        self.place = min(self.place, len(self.text))
        if self.place == begin:  # never the same place twice
            self.place += 1
            self._lost()
        return Word("".join(parts), literal or self.text[begin : self.place] in _THEMSELVES)

    def _until_quote(self) -> str:
        end = self.text.find("'", self.place + 1)
        if end < 0:
            self._lost()
            end = len(self.text)
        text = self.text[self.place + 1 : end]
        self.place = end + 1
        return text

    def _quoted(self) -> tuple[str, bool]:
        """What stands in double quotes, from behind the first to behind the last; whether it means itself."""
        parts: list[str] = []
        literal = True
        while self.place < len(self.text):
            char = self.text[self.place]
            if char == '"':
                self.place += 1
                return "".join(parts), literal
            if piece := self._match(_IN_QUOTES):
                parts.append(piece)
            elif char == "\\":
                following = self.text[self.place + 1 : self.place + 2]
                parts.append(
                    "" if following == "\n" else following if following in '$`"\\' else "\\" + following
                )
                self.place += 2
            else:
                parts.append(self._expansion(char))
                literal = False
        self._lost()
        return "".join(parts), literal

    def _expansion(self, char: str) -> str:
        """Pass over what the shell replaces, and read the commands in it; gives what stands there."""
        begin = self.place
        if char == "`":
            end = re.compile(r"(?:[^`\\]|\\.)*`", re.S).match(self.text, self.place + 1)
            self._lost()
            if end is None:
                self.place = len(self.text)
            else:
                self.place = end.end()
                inside = read(re.sub(r"\\([`$\\])", r"\1", end[0][:-1]), self.depth + 1)
                self.found += inside.commands
                self.inner += inside.inner
        elif char in "<>" or self.text.startswith("$(", self.place):
            if self.text.startswith("$((", self.place):
                self._lost()  # arithmetic, or a subshell right behind: bash itself has to try
            self.place += 2
            self.plain = False
            self._substitution()
        elif self._match(_NAME) or self._match(_ANSI):
            pass
        elif self.text.startswith("${", self.place):
            self._lost()  # may assign, and hold commands
            self.place += 2
        else:  # a lone dollar, or $"…"
            self.place += 1
        return self.text[begin : self.place]

    def _substitution(self) -> None:
        if self.depth >= DEEPEST:
            self._lost()
            return
        self.depth += 1
        documents, self._documents = self._documents, []
        self.commands_until(")")
        self._documents = documents
        self.depth -= 1
