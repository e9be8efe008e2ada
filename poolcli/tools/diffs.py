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
    names = ["--- /dev/null" if before is None else f"--- a/{path}", f"+++ b/{path}"]
    text = "\n".join([*names, *_hunks(old, new, same, ending)]) + "\n"
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


#: A stretch of two texts: whether it is the same in both, and where it begins and ends in each.
_Piece = tuple[bool, int, int, int, int]


def _hunks(old: Sequence[str], new: Sequence[str], same: int, ending: int) -> list[str]:
    shown: list[str] = []
    for group in _groups(_pieces(old, new, same, ending)):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        shown.append(f"@@ -{_range(i1, i2 - i1)} +{_range(j1, j2 - j1)} @@")
        for equal, a, b, c, d in group:
            if equal:
                shown += [" " + line for line in old[a:b]]
            else:
                shown += ["-" + line for line in old[a:b]]
                shown += ["+" + line for line in new[c:d]]
    return shown


def _pieces(old: Sequence[str], new: Sequence[str], same: int, ending: int) -> list[_Piece]:
    """The texts cut into equal and changed pieces; only what lies between the common ends is searched."""
    i2, j2 = len(old) - ending, len(new) - ending
    pieces: list[_Piece] = [(True, 0, same, 0, same)]
    if min(i2 - same, j2 - same) > SEARCHED or i2 == same or j2 == same:
        pieces.append((False, same, i2, same, j2))
    else:
        import difflib

        matcher = difflib.SequenceMatcher(None, old[same:i2], new[same:j2], autojunk=False)
        pieces += [
            (tag == "equal", same + a, same + b, same + c, same + d)
            for tag, a, b, c, d in matcher.get_opcodes()
        ]
    return [*pieces, (True, i2, len(old), j2, len(new))]


def _groups(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Changes with at most CONTEXT equal lines around each; far ones in groups of their own."""
    groups: list[list[_Piece]] = []
    group: list[_Piece] = []
    left = sum(not piece[0] for piece in pieces)
    for equal, a, b, c, d in pieces:
        if not equal:
            left -= 1
            group.append((False, a, b, c, d))
            continue
        if any(not piece[0] for piece in group):
            if left and b - a <= 2 * CONTEXT:
                group.append((True, a, b, c, d))
                continue
            after = min(CONTEXT, b - a)
            groups.append([*group, (True, a, a + after, c, c + after)])
        before = min(CONTEXT, b - a)
        group = [(True, b - before, b, d - before, d)]
    return groups


def _range(start: int, count: int) -> str:
    # An empty range is named by the line before it.
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"
