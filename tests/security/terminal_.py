"""What reaches a terminal."""

from __future__ import annotations

import time

from poolcli.sanitize import clean
from tests.security.case import Field, Group

GROUP = Group("Terminal output", boxed=False)
case = GROUP.case

EVERYWHERE = "tests/e2e/test_hostile_terminal.py::test_a_run_and_what_is_said_of_it"
QUESTION = "tests/e2e/test_approvals.py::test_nothing_of_a_hostile_command_is_hidden"
VECTORS = "tests/test_terminal_attacks.py::test_sequences_and_controls"


def shown(text: str, protected: bool) -> str:
    return clean(text) if protected else text


def asked(command: str, protected: bool, columns: int = 100) -> list[str]:
    """The screen of a terminal after a question about a command: what a person sees."""
    import pyte

    from poolcli.person import Question, _rows

    question = Question("May the model use shell?", (("command", command),), (("why", "the mode is edits"),))
    text = "".join(_rows(question, columns)) if protected else f"    command\n  | {command}\n"
    screen = pyte.Screen(columns, 40)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    return [row.rstrip() for row in screen.display if row.strip()]


@case("TERM-01", "The clipboard written by a text", "the text as it is", tests=(EVERYWHERE, VECTORS))
def clipboard(field: Field, protected: bool) -> bool:
    return any("\x1b]" in shown(f"a\x1b]52;c;UFdO{end}b", protected) for end in ("\x07", "\x1b\\", ""))


@case("TERM-03", "A link that leads elsewhere than it says", "the text as it is", tests=(EVERYWHERE, VECTORS))
def links(field: Field, protected: bool) -> bool:
    text = shown("\x1b]8;;http://evil\x1b\\github.com\x1b]8;;\x1b\\", protected)
    assert "github.com" in text
    return "evil" in text


@case(
    "TERM-04",
    "The cursor moved over a question, and other text put there",
    "the command as it is",
    tests=(QUESTION,),
)
def cursor(field: Field, protected: bool) -> bool:
    rows = asked("touch PWN\x1b[2K\x1b[1G  | ls\x1b[1A", protected)
    return not any("touch PWN" in row for row in rows)


@case("TERM-05", "A carriage return that hides a command", "the command as it is", tests=(QUESTION,))
def carriage_return(field: Field, protected: bool) -> bool:
    rows = asked("rm -rf x\r  | ls        ", protected) + asked(
        "touch PWN" + "\b" * 9 + "ls       ", protected
    )
    return not any("rm -rf x" in row for row in rows) or not any("touch PWN" in row for row in rows)


@case(
    "TERM-06",
    "Characters that are not seen or turn the direction",
    "the text as it is",
    tests=("tests/test_terminal_attacks.py::test_characters_that_hide_or_reorder", EVERYWHERE),
)
def unseen(field: Field, protected: bool) -> bool:
    return any(char in shown(f"a{char}b", protected) for char in ("\u202e", "\u2066", "\u200b", "\U000e0041"))


@case(
    "TERM-08",
    "A sequence of 10 MB without an end",
    "the text as it is",
    tests=(
        "tests/test_terminal_attacks.py::test_work_grows_with_the_length_only",
        "tests/test_terminal_attacks.py::test_a_huge_sequence_does_not_stop_what_follows",
    ),
)
def huge(field: Field, protected: bool) -> bool:
    start = time.monotonic()
    text = shown("\x1b]" + "x" * 10_000_000 + "\nand on", protected)
    return "\x1b" in text or not text.endswith("and on") or time.monotonic() - start > 20


@case(
    "TERM-09",
    "Names and commands of several lines that look like pool's own words",
    "the name as it is",
    tests=(
        "tests/test_terminal_attacks.py::test_names_stay_on_one_line",
        "tests/tools/test_attacks.py::test_a_name_of_two_lines_is_listed_on_one",
        QUESTION,
    ),
)
def several_lines(field: Field, protected: bool) -> bool:
    name = "x\n[approved] y"
    text = clean(name, keep_newlines=False) if protected else name
    rows = asked("ls\n  [y]es  granted", protected)
    posing = any(row.startswith("  [y]es") for row in rows)
    return "\n" in text or posing
