"""What linters and type checkers say, and what of it a change brought: the base is compared with the change.

Read are the shapes that their terminal output has in common: `path:line:col: message` (ruff, flake8, mypy, pyright,
pylint, go vet, golangci-lint, C compilers; eslint's unix, shellcheck's gcc, phpcs's emacs format), a title above an
arrow (rustc, clippy, ruff), `path(line,col): message` (tsc), lines below the file's name (eslint) and below
`In path line n:` (shellcheck). What moved only is not new.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from poolcli.verdict.moved_lines import Moved, moved
from poolcli.verdict.reward import cleanliness

if TYPE_CHECKING:
    from poolcli.process import Finished

#: Lines of output that are read, and characters of one: a project with as many complaints does not read them either.
MOST, LONGEST = 100_000, 2_000

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_COLONS = re.compile(
    r"(?:vet: )?\s{0,4}(?P<path>[^\s:|][^:|]*):(?P<line>\d+)(?::\d+){0,3}(?::| -)\s+(?P<text>\S.*)"
)
_BRACKETS = re.compile(r"(?P<path>[^\s:|][^:|]*?)\((?P<line>\d+)(?:,\d+)?\): (?P<text>\S.*)")
_ARROW = re.compile(r"\s*--> (?P<path>[^\s:|][^:|]*):(?P<line>\d+)(?::\d+)?$")
_BELOW = re.compile(r"\s+(?P<line>\d+):\d+\s+(?P<text>(?:error|warning)\s.*)")
_SHELL = re.compile(r"In (?P<path>[^\s:|][^:|]*) line (?P<line>\d+):$")
_SHELL_TEXT = re.compile(r"\s*\^[-^]*\s(?P<rule>SC\d+)(?: \(\w+\))?: (?P<text>.*)")
#: The end of a file's name, or a folder: `12:30:45` and `localhost:80` have neither.
_FILE = re.compile(r"[/\\]|\.[A-Za-z]\w*$")
#: Source that is shown with a complaint: it can look like anything.
_EXCERPT = re.compile(r"\s*(?:\d+\s*)?\|")

_SEVERITY = re.compile(
    r"(?P<word>fatal error|error|warning|information|info|style|note|help|hint)(?::| -|\b)\s*"
)
#: They belong to the complaint above, but for shellcheck's.
_ASIDE = frozenset(("note", "help", "hint"))
_SHELL_CODE = re.compile(r"\[SC\d+\]$")
_FIRST_CODE = re.compile(r"\[?(?P<rule>[A-Z]{1,10}\d{1,6})\]?:?(?: \[\*\])?:?\s+")
_TITLE = re.compile(r"(?:error|warning)\[(?P<rule>\w+)\]: (?P<text>.+)")
_LAST_CODE = re.compile(r"\s[\[(](?P<rule>[-@A-Za-z][\w@/.,-]*)[\])]$")
#: A text that names another line changes when that line moves.
_OTHER_LINE = re.compile(r"\b((?:on|from|at|to|of|in) line|lines?) \d+")


class Complaint(Struct, frozen=True):
    """One thing that a tool found, in a file (relative to the root) at a line from 1, 0 when it named none.

    `rule` is the tool's name for it, '' when it gives none.
    """

    path: str
    line: int
    text: str
    rule: str = ""


class Findings(Struct, frozen=True):
    """What a change brought: `new`, by place; `before` and `after` count all of the base and of the change."""

    new: tuple[Complaint, ...] = ()
    before: int = 0
    after: int = 0


class Compared(Struct, frozen=True):
    """A check beside the tests, judged against the base.

    `ok` is whether the change brought nothing new, `share` how clean it is from 0 to 1 (see `reward.cleanliness`);
    both are None when that is not known. `note` says how it was judged where that is not plain.
    """

    ok: bool | None = None
    share: float | None = None
    findings: Findings = Findings()
    note: str = ""


def complaints(output: str, root: str = "") -> list[Complaint]:
    """All complaints of an output, in its order, each once. `root` is the folder that the tool ran in."""
    if "\x1b" in output:
        output = _ANSI.sub("", output)
    if root:
        output = output.replace(root.rstrip("/") + "/", "")
    lines = [line.rstrip("\r")[:LONGEST] for line in output.split("\n", MOST)[:MOST]]
    return list(dict.fromkeys(_complaints(lines)))


def new_findings(
    before_output: str, after_output: str, patch: str, *, before_root: str = "", after_root: str = ""
) -> Findings:
    """What a tool says of the change and did not say of the base, both as it printed them.

    Not new is what stood on the same line before, also when the line moved or its file was renamed; what the same
    rule said there in other words; and what was said as often of the lines that a rewritten line took the place of.
    Raises UsageError for a patch that cannot be read.
    """
    before, after = complaints(before_output, before_root), complaints(after_output, after_root)
    return Findings(tuple(_new(before, after, moved(patch))), len(before), len(after))


def needs_base(after: Finished) -> bool:
    """Whether the check has to run on the base as well to be judged: not when it is clean with the change."""
    return _ran(after) and (after.exit_code != 0 or bool(complaints(after.output)))


def compared(
    before: Finished | None, after: Finished, patch: str, *, before_root: str = "", after_root: str = ""
) -> Compared:
    """Judge a check by its runs on the base and with the change.

    `before` is None when it was not run there. Where no complaint can be read, and where the base could not be
    checked, the exit code alone decides; a check that fails on both is then not judged at all.
    """
    if not _ran(after):
        return Compared(note="it could not be run")
    clean = after.exit_code == 0
    if before is None or not _ran(before):
        said = Findings(after=len(complaints(after.output, after_root)))
        return Compared(clean, float(clean), said, "" if clean else "not compared with the base")
    found = new_findings(before.output, after.output, patch, before_root=before_root, after_root=after_root)
    if clean or found.after:
        # Warnings are counted also where they do not fail the check.
        share = cleanliness(0, len(found.new))
        if not found.new and not clean and before.exit_code == 0:
            # It fails for something that is not among what could be read.
            return Compared(False, 0.0, found, "it passed on the base")
        note = f"it says the same ({found.after}) of the base" if found.after and not found.new else ""
        return Compared(clean or not found.new, share, found, note)
    if before.exit_code == 0:
        return Compared(False, 0.0, found, "it passed on the base")
    return Compared(None, None, found, "it fails on the base too, and what it says cannot be compared")


def _ran(finished: Finished) -> bool:
    """Whether the tool itself ran to its end: 126 and 127 are the shell's for none to start."""
    return not finished.timed_out and finished.exit_code is not None and finished.exit_code not in (126, 127)


def _new(before: list[Complaint], after: list[Complaint], places: Moved) -> Iterator[Complaint]:
    """What is left of `after` when each has taken its like from `before`, the most alike first."""
    left = Counter(before)
    by_line: dict[tuple[str, int], list[Complaint]] = {}
    for complaint in left:
        by_line.setdefault((complaint.path, complaint.line), []).append(complaint)

    def take(complaint: Complaint, alike: int) -> bool:
        place = places.before(complaint.path, complaint.line)
        for line in range(place.first, place.last + 1):
            for other in by_line.get((place.path, line), ()):
                if left[other] and _alike(complaint, other) >= alike:
                    left[other] -= 1
                    return True
        return False

    # Also in two rounds, so that one that only resembles does not take what is another's own.
    rest = [complaint for complaint in after if not take(complaint, 2)]
    rest = [complaint for complaint in rest if not take(complaint, 1)]
    yield from sorted(rest, key=lambda complaint: (complaint.path, complaint.line))


def _alike(one: Complaint, other: Complaint) -> int:
    """2 for the same in the same words, 1 for the same rule, else 0."""
    if one.rule == other.rule and _OTHER_LINE.sub(r"\1 *", one.text) == _OTHER_LINE.sub(r"\1 *", other.text):
        return 2
    return int(bool(one.rule) and one.rule == other.rule)


def _complaints(lines: list[str]) -> Iterator[Complaint]:
    title = ""  # the last line that began at the edge: an arrow below it says where that is
    name = ""  # the file whose complaints are listed below
    shell: tuple[str, int] | None = None
    for line in lines:
        if shell and (match := _SHELL_TEXT.match(line)):
            yield Complaint(*shell, match["text"].strip(), match["rule"])
        elif match := _SHELL.match(line):
            shell, name = (_path(match["path"]), _number(match["line"])), ""
        elif match := _ARROW.match(line):
            if title and (found := _complaint(match, title)):
                yield found
            title = ""
        elif _EXCERPT.match(line):
            continue
        elif (match := _COLONS.match(line) or _BRACKETS.match(line)) and _FILE.search(match["path"]):
            title = name = ""
            if found := _complaint(match, match["text"]):
                yield found
        elif name and (match := _BELOW.match(line)):
            # The columns are filled up with spaces; the rule is the last of them.
            text, _, rule = match["text"].strip().rpartition("  ")
            text, rule = (text, rule) if text.partition(" ")[2].strip() else (match["text"], "")
            yield Complaint(name, _number(match["line"]), _SEVERITY.sub("", text, count=1).strip(), rule)
        elif line and not line[0].isspace():
            title = line
            name = _path(line) if _FILE.search(line) and ":" not in line else ""


def _complaint(place: re.Match[str], text: str) -> Complaint | None:
    """What is said of a place; None for what only explains the complaint before."""
    rule = ""
    if match := _TITLE.match(text):
        text, rule = match["text"], match["rule"] or ""
    elif match := _SEVERITY.match(text):
        if match["word"] in _ASIDE and not _SHELL_CODE.search(text):
            return None
        text = text[match.end() :]
    if rule:
        pass
    elif match := _FIRST_CODE.match(text):
        rule, text = match["rule"], text[match.end() :]
    elif match := _LAST_CODE.search(text):
        rule, text = match["rule"], text[: match.start()]
    return Complaint(_path(place["path"]), _number(place["line"]), text.strip(), rule)


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else 0


def _path(path: str) -> str:
    return posixpath.normpath(path.strip())
