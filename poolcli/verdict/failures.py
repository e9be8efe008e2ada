"""What every format of test output is read into, and the small text helpers that the formats share."""

from __future__ import annotations

import re

from msgspec import Struct, field

#: Longest line of evidence: a line of code is shorter, a dumped value need not be read whole.
LINE = 240
#: Frames kept per failure: the innermost ones say where it went wrong.
FRAMES = 3
#: Lines of one exception's message: enough for the diff of two short values.
MESSAGE = 12

#: Folders inside a worktree that hold other people's code: their frames are noise.
_FOREIGN = re.compile(r"(?:^|/)(?:site-packages|dist-packages|node_modules|\.?venv|\.tox|\.nox|\.cargo)/")
_MARKERS = re.compile(r"[\s^~]*[\^~][\s^~]*\Z")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


class Failure(Struct, frozen=True):
    """One test that did not pass: `title` names it (`FAIL test_add (…)`), `lines` say where and why."""

    title: str
    lines: tuple[str, ...] = ()


class Parsed(Struct, frozen=True):
    """What a runner said. `failed` counts failures and errors alike; an expected failure counts as passed."""

    passed: int
    failed: int
    skipped: int = 0
    failures: tuple[Failure, ...] = ()
    #: Outcome by test id where known: passed | failed | error | skipped.
    tests: dict[str, str] = field(default_factory=dict)


def plain(text: str) -> str:
    """The text without terminal colours and with `\\n` line ends only."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def clip(line: str, width: int = LINE) -> str:
    """The line, cut at `width` characters with a mark where it was cut."""
    return line if len(line) <= width else line[: width - 1] + "…"


def inside(path: str, root: str) -> str | None:
    """The path relative to `root` when it is a file of the project, else None."""
    if path.startswith(root + "/"):
        path = path[len(root) + 1 :]
    path = path.removeprefix("./")
    if not path or path[0] in "/<" or path.startswith("../") or _FOREIGN.search(path):
        return None
    return path


def is_marker(line: str) -> bool:
    """Whether the line only points at columns of the line above (`~~^~~`)."""
    return _MARKERS.match(line) is not None


def bounded(lines: list[str], most: int = MESSAGE) -> list[str]:
    """The first `most` lines, each clipped, and how many were left out."""
    kept = [clip(line) for line in lines[:most]]
    if len(lines) > most:
        kept.append(f"… {len(lines) - most} more lines")
    return kept


def strip_root(text: str, root: str) -> str:
    """The text with the worktree's own path taken out of every path in it."""
    if len(root) < 2:  # "" and "/" are no worktree; replacing them would destroy the text
        return text
    text = text.replace(root + "/", "")
    while root in text:
        text = text.replace(root, ".")
    return text
