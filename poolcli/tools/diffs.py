"""Unified diffs for people to look at, quick for large files with small changes."""

from __future__ import annotations

from collections.abc import Sequence

#: Lines around a change.
CONTEXT = 3

#: Above this many changed lines on both sides all are shown as removed and added: searching takes too long.
SEARCHED = 3000

#: Characters of a diff that is shown; the run's patch has it all.
SHOWN = 20_000


def unified(path: str, before: str | None, after: str) -> str:
    """The difference between two texts as a unified diff; `before` is None for a new file."""
    old, new = _split(before or ""), _split(after)
    same, ending = _common(old, new)
    start = max(same - CONTEXT, 0)
    old_part = old[start : len(old) - max(ending - CONTEXT, 0)]
    new_part = new[start : len(new) - max(ending - CONTEXT, 0)]
    names = ["--- /dev/null" if before is None else f"--- a/{path}", f"+++ b/{path}"]
    text = "\n".join([*names, *_hunks(old_part, new_part, start)]) + "\n"
    if len(text) <= SHOWN:
        return text
    return text[: text.rfind("\n", 0, SHOWN)] + "\n… the rest of this diff is not shown\n"


def _split(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    elif lines:
        lines[-1] += "\n\\ No newline at end of file"
    return lines


def _common(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines are the same at the beginning, and how many of the others at the end."""
    most = min(len(old), len(new))
    same = next((i for i in range(most) if old[i] != new[i]), most)
    ending = next((i for i in range(most - same) if old[-1 - i] != new[-1 - i]), most - same)
    return same, ending


def _hunks(old: Sequence[str], new: Sequence[str], start: int) -> list[str]:
    if not old and not new:
        return []
    if min(len(old), len(new)) > SEARCHED or not old:
        header = f"@@ -{_range(start, len(old))} +{_range(start, len(new))} @@"
        return [header, *("-" + line for line in old), *("+" + line for line in new)]
    import difflib

    shown: list[str] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        shown.append(f"@@ -{_range(start + i1, i2 - i1)} +{_range(start + j1, j2 - j1)} @@")
        for tag, a, b, c, d in group:
            if tag == "equal":
                shown += [" " + line for line in old[a:b]]
            else:
                shown += ["-" + line for line in old[a:b]]
                shown += ["+" + line for line in new[c:d]]
    return shown


def _range(start: int, count: int) -> str:
    # An empty range is named by the line before it.
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"
