"""Small shell text: quoting, folders, a runner's way of being asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct


class Way(Struct, frozen=True, eq=False):
    """How one runner is asked. Each function takes the command inside the folder and gives another one.

    `report` gets the quoted path to write to, `select` the tests; None where the runner has no such way.
    """

    report: Callable[[str, str], str] | None = None
    select: Callable[[str, Sequence[str]], str] | None = None
    detail: Callable[[str], str] | None = None


def quoted(word: str) -> str:
    """The word for a shell."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def in_folder(folder: str, command: str) -> str:
    """The command, run in the folder; '' is the root."""
    return f"cd {quoted(folder)} && {command}" if folder else command


def alternatives(names: Sequence[str]) -> str:
    """A regular expression for exactly one of the names; every dialect's special characters are escaped.

    Only ASCII punctuation gets a backslash: some dialects refuse one before a letter or a space.
    """
    unique = sorted(set(names))
    escaped = [re.sub(r"([\\.^$*+?{}()|\[\]/])", r"\\\1", name) for name in unique]
    return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"


def inserted(command: str, after: str, options: str) -> str:
    """The command with `options` behind the first match of the expression `after`; '' when it does not occur."""
    found = re.search(after, command)
    if found is None:
        return ""
    return f"{command[: found.end()]} {options}{command[found.end() :]}"
