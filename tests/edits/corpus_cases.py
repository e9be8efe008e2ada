"""Cases of the corpus: edits of real lines in several languages, damaged as models damage them.

Made anew each time and always the same. `python -m tests.edits.corpus_cases` prints the share of each step.
"""

import random
import re
from collections import Counter
from pathlib import Path

from msgspec import Struct

from poolcli.edits.replace import replace_all
from poolcli.edits.results import Refusal, Replacement

FOLDER = Path(__file__).parent / "corpus"

#: Edits per file; each is damaged in every way.
EDITS = 7


class Case(Struct, frozen=True):
    name: str
    text: str
    old: str
    new: str
    wanted: str
    whole: bool


def _indent(line):
    return line[: len(line) - len(line.lstrip())]


def _each(change):
    return lambda lines: [change(line) for line in lines]


def _dedented(lines):
    width = min((len(_indent(line)) for line in lines if line.strip()), default=0)
    return [line[width:] if line.strip() else line for line in lines]


def _tabs_to_spaces(line):
    return re.sub(r"^\t+", lambda m: "    " * len(m[0]), line)


def _spaces_to_tabs(line):
    return re.sub(r"^(?: {4})+", lambda m: "\t" * (len(m[0]) // 4), line)


def _remembered(lines):
    """One line in the middle as a model may remember it."""
    if len(lines) < 4:
        return lines
    middle = next((i for i in range(1, len(lines) - 1) if len(lines[i].strip()) > 12), None)
    if middle is None:
        return lines
    changed = lines[middle].replace("(", "( ", 1).replace(".", "->", 1).replace(" = ", "=", 1)
    return [*lines[:middle], changed, *lines[middle + 1 :]]


def _elided(lines):
    return [lines[0], "...", lines[-1]] if len(lines) > 4 else lines


PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "–": "-"})
CURLY = str.maketrans({'"': "”", "'": "’"})

#: Per damage: what it does to the old lines, and to the new ones (None: nothing).
DAMAGES = {
    "none": (lambda lines: lines, None),
    "trailing blanks": (_each(lambda line: line + "  "), None),
    "no trailing blanks, CRLF": (_each(lambda line: line + "\r"), None),
    "dedented": (_dedented, _dedented),
    "deeper": (
        _each(lambda line: "    " + line if line else line),
        _each(lambda line: "    " + line if line else line),
    ),
    "tabs as spaces": (_each(_tabs_to_spaces), _each(_tabs_to_spaces)),
    "spaces as tabs": (_each(_spaces_to_tabs), _each(_spaces_to_tabs)),
    "plain typography": (_each(lambda line: line.translate(PLAIN)), None),
    "curly quotes": (_each(lambda line: line.translate(CURLY)), None),
    "escaped quotes": (_each(lambda line: line.replace('"', '\\"')), None),
    "escaped": (lambda lines: ["\\n".join(line.replace("\\", "\\\\") for line in lines)], None),
    "blank lines around": (lambda lines: ["", *lines, ""], lambda lines: ["", *lines, ""]),
    "numbered": (lambda lines: [f"{i:>6}\t{line}" for i, line in enumerate(lines, 1)], None),
    "remembered": (_remembered, None),
    "elided": (_elided, _elided),
}


def cases():
    for file in sorted(FOLDER.glob("*.txt")):
        text = file.read_text()
        lines = text.split("\n")[:-1]
        draw = random.Random(file.name)
        for number in range(EDITS):
            count = draw.choice([1, 2, 3, 5, 6])
            start = draw.randrange(0, len(lines) - count)
            old = lines[start : start + count]
            if not old[0].strip() or not old[-1].strip():
                continue
            new = _edited(draw, old)
            if new == old:
                continue
            wanted = "".join(line + "\n" for line in [*lines[:start], *new, *lines[start + count :]])
            for damage, (on_old, on_new) in DAMAGES.items():
                a, b = on_old(old), (on_new or (lambda same: same))(new)
                if damage == "dedented":
                    # Both texts lose the same indentation.
                    width = len(old[0]) - len(a[0])
                    b = [line[width:] for line in new]
                    if any(line[:width].strip() for line in new):
                        continue
                # Damage that does nothing, or makes the text of another place, is none.
                if damage != "none" and (a == old or _joined(a) in text):
                    continue
                for whole in (False, True):
                    name = f"{file.stem} {number} {damage}{' whole' if whole else ''}"
                    yield Case(name, text, _joined(a), _joined(b), wanted, whole)


def _joined(lines):
    return "".join(line + "\n" for line in lines)


def _edited(draw, old):
    """The lines with a value changed at one end, a line put in after one like it, or one taken out."""
    at = draw.choice([0, len(old) - 1])
    kind = draw.choice(["value", "value", "insert", "remove"])
    if kind == "value":
        return [*old[:at], re.sub(r"\b(\w+)\b", r"\1x", old[at], count=1), *old[at + 1 :]]
    if kind == "insert":
        return [*old[: at + 1], _indent(old[at]) + "inserted()", *old[at + 1 :]]
    return [*old[:at], *old[at + 1 :]] if len(old) > 2 else old


def outcome(case):
    """("landed", step), ("refused", kind) or ("wrong", step)."""
    found = replace_all(case.text, [Replacement(case.old, case.new, whole_lines=case.whole)])
    if isinstance(found, Refusal):
        return "refused", found.kind
    return ("landed" if found.text == case.wanted else "wrong"), found.steps[0]


def main():
    counted = Counter(outcome(case) for case in cases())
    total = sum(counted.values())
    for (result, what), number in sorted(counted.items(), key=lambda one: (one[0][0], -one[1])):
        print(f"{result:8} {what:16} {number:5} {number / total:6.1%}")
    by_damage = Counter(
        (case.name.split(" ", 2)[2].removesuffix(" whole"), outcome(case)[0]) for case in cases()
    )
    for (damage, result), number in sorted(by_damage.items()):
        print(f"{damage:26} {result:8} {number}")


if __name__ == "__main__":
    main()
