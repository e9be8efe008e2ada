"""Whether a call may run, and why: pure functions. Asking people and confinement come after it.

Three answers, the strictest wins: deny, ask, allow. Rules come from the user's file, a trusted project's file and
flags; where no rule speaks, the mode does. A rule is text:

    shell                    every call of this tool
    kind:execute             every tool of this kind
    shell:git push *         commands; each command that a shell line runs is looked at
    edit:.github/**          paths; `*` stays within a folder, `**` does not
    kind:edit:*.lock         both

What cannot be read for certain never counts as allowed, and is asked about where a deny or ask rule may be about it.
An `allow` skips a question; it opens nothing that the sandbox closes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from poolcli import shell_line
from poolcli.errors import ConfigError
from poolcli.shell_line import Command, Line, Word

Verdict = Literal["allow", "ask", "deny"]
VERDICTS: tuple[Verdict, ...] = ("deny", "ask", "allow")

#: What a person may choose; '' is `auto` inside a working sandbox and `edits` without one.
MODES = ("ask", "edits", "auto", "plan")

#: Kinds that only look.
LOOKING = frozenset({"read", "search"})
#: Tools that run a command, which a rule about commands of one of them is about in all of them.
COMMANDS = frozenset({"shell", "terminal"})
#: Names of files that are made to hold secrets. A file that is there to be read (`.env.example`) is none.
SECRETIVE = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "id_rsa", "id_dsa",
    "id_ecdsa", "id_ed25519", ".netrc", "_netrc", ".pgpass", ".htpasswd", ".git-credentials", "credentials",
    "credentials.json", "service-account*.json", "secrets.y*ml", "secrets.json", "secrets.toml", "secrets.ini",
)  # fmt: skip
_FOR_READING = ("*.example", "*.sample", "*.template", "*.dist", "*.pub")
#: Runs the checks, which pool runs by itself anyway: no mode asks about it, rules may.
CHECKS = "run_tests"

Sure = Literal[0, 1, 2]  # no, perhaps, yes
NO: Sure = 0
PERHAPS: Sure = 1
YES: Sure = 2


class Rule(Struct, frozen=True, order=True):
    """One rule. `where` says for people where it stands: `~/.config/pool/config.toml:12`, `--deny`.

    `tool` or `kind` is set, or both to the same word for an entry of the old option `deny`.
    """

    verdict: Verdict
    text: str
    where: str
    tool: str = ""
    kind: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} {self.text}"


class Deed(Struct, frozen=True):
    """What a call is about to do. `command` is what it runs, '' for nothing; `paths` are all names of the
    file it is about (of all files, for a patch): as the model wrote it and as it really is, relative to the root."""

    tool: str
    kind: str
    command: str = ""
    paths: tuple[str, ...] = ()


class Decision(Struct, frozen=True):
    """allow, ask a person, or deny; `why` is shown to people and, on deny, to the model. `rule` decided, if one did."""

    verdict: Verdict
    why: str = ""
    rule: Rule | None = None


# Rules


def rule(verdict: Verdict, text: str, where: str, tools: Collection[str], kinds: Collection[str]) -> Rule:
    """The rule behind a text. Raises ConfigError, naming `where`, for a tool or kind that there is not."""
    head, colon, pattern = text.partition(":")
    if head == "kind":
        kind, colon, pattern = pattern.partition(":")
        _known(kind, kinds, "kind of tool", text, where)
        made = Rule(verdict, text, where, kind=kind, pattern=pattern.strip())
    else:
        hint = f"kind:{text}" if head in kinds and head not in tools else ""
        _known(head, tools, "tool", text, where, hint)
        made = Rule(verdict, text, where, tool=head, pattern=pattern.strip())
    if (colon and not made.pattern) or "\0" in text:
        raise ConfigError(f"{where}: the rule `{text}` has no pattern", "leave the colon out to mean all")
    return made


def _known(word: str, known: Collection[str], what: str, text: str, where: str, meant: str = "") -> None:
    if word not in known:
        also = f"; `{meant}` means all tools of that kind" if meant else ""
        raise ConfigError(
            f"{where}: the rule `{text}` names `{word}`, which is no {what}{also}",
            f"known: {', '.join(sorted(known))}; docs/security.md has the syntax",
        )


def forbidding(words: Iterable[str], where: str) -> list[Rule]:
    """The rules behind the option `deny`: each word a tool or a kind of tool."""
    return [Rule("deny", word, where, tool=word, kind=word) for word in words]


# The decision


def effective(mode: str, *, confined: bool) -> str:
    """The mode that counts: as chosen, else by whether commands are confined."""
    return mode or ("auto" if confined else "edits")


def decide(deed: Deed, rules: Collection[Rule], mode: str = "", *, confined: bool) -> Decision:
    """Decide on a deed. `confined` is whether a sandbox that works stands around commands.

    Deny beats ask beats allow, wherever the rules stand and in whatever order; plan mode is a deny. Without a
    sandbox no allow rule spares the question about a command; only the mode `auto`, chosen by name, does.
    """
    line = shell_line.read(deed.command) if deed.command else None
    ordered = sorted(rules)
    unsure: Rule | None = None
    for verdict in ("deny", "ask"):
        for one in ordered:
            if one.verdict != verdict:
                continue
            match _about(one, deed, line):
                case 2:
                    return Decision(one.verdict, _because(one), one)
                case 1:
                    unsure = unsure or one
        if verdict == "deny" and mode == "plan" and not _looks(deed):
            return Decision("deny", "the mode is plan: nothing is changed and no command is run")
    if unsure is not None:
        return Decision("ask", f"it cannot be told for certain that it is not about {_named(unsure)}", unsure)
    by_mode = _by_mode(deed, effective(mode, confined=confined), confined=confined)
    if (
        by_mode.verdict == "ask"
        and (confined or not _runs(deed))
        and (found := _allowing(ordered, deed, line))
    ):
        return Decision("allow", _because(found), found)
    return by_mode


def _looks(deed: Deed) -> bool:
    """Whether it changes nothing and runs nothing of the model's choice."""
    return deed.kind in LOOKING or deed.tool == CHECKS or (deed.tool in COMMANDS and not deed.command)


def _runs(deed: Deed) -> bool:
    return deed.kind not in (*LOOKING, "edit", "move") and not _looks(deed)


def secretive(path: str) -> bool:
    """Whether a file is by its name made to hold secrets."""
    name = posixpath.basename(path).lower()
    return any(fnmatchcase(name, one) for one in SECRETIVE) and not any(
        fnmatchcase(name, one) for one in _FOR_READING
    )


def _by_mode(deed: Deed, mode: str, *, confined: bool) -> Decision:
    if deed.kind in LOOKING and any(secretive(path) for path in deed.paths):
        return Decision("ask", "by its name it holds secrets, which would be sent to the model")
    if _looks(deed):
        return Decision("allow", "it only looks" if deed.kind in LOOKING else f"mode {mode}")
    if mode == "auto" or (mode == "edits" and not _runs(deed)):
        return Decision("allow", f"mode {mode}")
    if mode == "plan":
        return Decision("deny", "the mode is plan: nothing is changed and no command is run")
    if mode == "edits" and not confined:
        return Decision("ask", "there is no sandbox around it")
    return Decision("ask", f"the mode is {mode}")


def _because(one: Rule) -> str:
    if one.verdict == "deny":
        return f"the rule `{one.text}` forbids it ({one.where})"
    return f"the rule {_named(one)} {'asks about' if one.verdict == 'ask' else 'allows'} it"


def _named(one: Rule) -> str:
    return f"`{one.verdict} {one.text}` ({one.where})"


def _allowing(rules: Sequence[Rule], deed: Deed, line: Line | None) -> Rule | None:
    """The rule that allows all of it; of several commands each may be allowed by another one."""
    allowing = [one for one in rules if one.verdict == "allow"]
    for one in allowing:
        if _about(one, deed, line) == YES:
            return one
    if line is None or not line.plain or not line.commands:
        return None
    first: Rule | None = None
    for command in line.commands:
        one_of = next((one for one in allowing if _allows(one, deed, command)), None)
        if one_of is None:
            return None
        first = first or one_of
    return first


def _allows(one: Rule, deed: Deed, command: Command) -> bool:
    return (
        bool(one.pattern) and deed.tool in (one.tool, *_of_kind(one, deed)) and _matches(one, command) == YES
    )


def _of_kind(one: Rule, deed: Deed) -> tuple[str, ...]:
    return (deed.tool,) if one.kind == deed.kind else ()


def _about(one: Rule, deed: Deed, line: Line | None) -> Sure:
    """Whether a rule is about a deed."""
    strict = one.verdict != "allow"
    meant = one.tool == deed.tool or (one.kind and one.kind == deed.kind)
    if not one.pattern:
        return YES if meant else NO
    if strict and not meant:
        # A way around a rule by another tool that does the same is what the rule was not meant to leave.
        meant = (one.tool in COMMANDS and deed.tool in COMMANDS) or (
            one.tool in ("edit", "write") and deed.kind in ("edit", "move")
        )
        meant = meant or (one.tool == "read" and deed.tool == "search")
    if not meant:
        return NO
    if line is not None:
        return _about_line(one, line)
    hits = [_path(one.pattern, path, strict=strict) for path in deed.paths]
    return YES if hits and (any if strict else all)(hits) else NO


def _about_line(one: Rule, line: Line) -> Sure:
    if one.verdict == "allow":
        whole = line.plain and line.commands
        return YES if whole and all(_matches(one, command) == YES for command in line.commands) else NO
    best: Sure = NO if line.whole else PERHAPS
    for command in (*line.commands, *line.inner):
        best = max(best, _matches(one, command))
        if best == YES:
            break
    return best


# Patterns


def _path(pattern: str, path: str, *, strict: bool) -> bool:
    """Whether a path is what a pattern is about: `**` any characters, `*` and `?` any but a slash. A pattern without a
    slash is about names in any folder; one that names a folder is about all that is in it."""
    path = posixpath.normpath(path)
    pattern = pattern.removeprefix("./").rstrip("/")
    if strict:  # on many disks A and a are one file
        pattern, path = pattern.lower(), path.lower()
    tokens = _TOKEN.findall(pattern if "/" in pattern else f"**/{pattern}")
    # Every place in the pattern that can be reached so far: one pass, however many stars there are.
    places = _skipping({0}, tokens)
    for char in path:
        if char == "/" and len(tokens) in places:
            return True
        following: set[int] = set()
        for place in places:
            token = tokens[place] if place < len(tokens) else ""
            if token in ("**", "**/") or (token == "*" and char != "/"):
                following.add(place)
            if token == char or (token == "?" and char != "/") or (token == "**/" and char == "/"):
                following.add(place + 1)
        # `**/` ends at a slash, or is nothing at the beginning of a name.
        places = _skipping(following, tokens, at_name=char == "/")
    return len(tokens) in places


#: A path pattern in pieces; `**/` is any folders, or none.
_TOKEN = re.compile(r"\*\*/|\*\*|.", re.S)


def _skipping(places: set[int], tokens: Sequence[str], *, at_name: bool = True) -> set[int]:
    """With the places that are reached by giving a star nothing."""
    found = set(places)
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        token = tokens[place] if place < len(tokens) else ""
        if (token in ("*", "**") or (token == "**/" and at_name)) and place + 1 not in found:
            found.add(place + 1)
            waiting.append(place + 1)
    return found


def _matches(one: Rule, command: Command) -> Sure:
    """Whether a command is one that the pattern describes.

    `*` as a word of its own is any number of words, within a word any characters. A deny or ask rule is also about
    what has more words behind, has options (with a value each) before the words it names, and about the program under
    another folder.
    """
    strict = one.verdict != "allow"
    pattern = one.pattern.split()
    if strict:
        while pattern[-1] == "*" and len(pattern) > 1:
            pattern.pop()
    # Places in the pattern that can be reached so far, and whether one more word may be an option's value there.
    states: dict[tuple[int, bool], Sure] = _closed({(0, False): YES}, pattern)
    best: Sure = NO
    for number, word in enumerate(command):
        following: dict[tuple[int, bool], Sure] = {}
        for (place, value), sure in states.items():
            for state, certain in _steps(pattern, place, value, word, number, strict=strict):
                following[state] = max(following.get(state, NO), min(sure, certain))
        states = _closed(following, pattern)
        if strict:
            best = max(best, _end(states, pattern))
        if not states or best == YES:
            break
    return max(best, _end(states, pattern))


def _steps(
    pattern: Sequence[str], place: int, value: bool, word: Word, number: int, *, strict: bool
) -> Iterable[tuple[tuple[int, bool], Sure]]:
    if place == len(pattern):
        return
    if pattern[place] == "*":
        yield (place, False), YES
        return
    hit = _word(pattern[place], word, program=strict and number == 0)
    if hit:
        yield (place + 1, False), hit
    if not word.literal:
        yield (place, False), PERHAPS  # it may become nothing
    if strict and place and word.literal and word.text.startswith("-"):
        yield (place, True), YES
    elif strict and value:
        yield (place, False), YES


def _closed(states: dict[tuple[int, bool], Sure], pattern: Sequence[str]) -> dict[tuple[int, bool], Sure]:
    """With the places that are reached by giving `*` no word."""
    for (place, _), sure in list(states.items()):
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            states[place, False] = max(states.get((place, False), NO), sure)
    return states


def _end(states: dict[tuple[int, bool], Sure], pattern: Sequence[str]) -> Sure:
    return max((sure for (place, _), sure in states.items() if place == len(pattern)), default=NO)


def _word(pattern: str, word: Word, *, program: bool) -> Sure:
    if not word.literal:
        return PERHAPS
    names = (word.text, shell_line.name(word)) if program else (word.text,)
    return YES if any(fnmatchcase(text, pattern) for text in names) else NO
