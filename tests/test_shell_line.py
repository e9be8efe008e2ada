"""Reading shell lines: every command that a line runs is found, or the line is not taken for read."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import shell_line
from poolcli.shell_line import Line, read


def texts(line: Line) -> list[str]:
    return [" ".join(word.text for word in command) for command in line.commands]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ls -l", ["ls -l"]),
        ("a; b && c || d | e & f", ["a", "b", "c", "d", "e", "f"]),
        ("a\nb\n\nc", ["a", "b", "c"]),
        ("echo 'a; b' \"c | d\" e\\ f", ["echo a; b c | d e f"]),
        ('"cu"rl c\\url', ["curl curl"]),
        ("a # b; c\nd", ["a", "d"]),
        ("echo a#b", ["echo a#b"]),
        ("a \\\n b", ["a b"]),
        ("make 2>&1 >/dev/null", ["make"]),
        ("cat <a >b 2>>c", ["cat"]),
        ("X=1 Y=2 make -j", ["make -j"]),
        ("X=1", []),
        ("if a; then b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("while ! a; do b; done", ["a", "b"]),
        ("for x in 1 2; do a $x; done", ["a $x"]),
        ("(a; b) && { c; d; }", ["a", "b", "c", "d"]),
        ("cat <<END\nrm x\nEND\nb", ["cat", "b"]),
        ("cat <<'END' | b\n$(c)\nEND", ["cat", "b"]),
    ],
)
def test_what_is_found(text: str, commands: list[str]) -> None:
    line = read(text)
    assert texts(line) == commands and line.whole


@pytest.mark.parametrize(
    "text",
    [
        "echo $(curl x)",
        'echo "a $(curl x) b"',
        "diff <(curl x) y",
        "a $(b $(curl x))",
        "x=$(curl x) y",
        "`curl x`",
    ],
)
def test_commands_inside_of_words(text: str) -> None:
    line = read(text)
    assert "curl x" in texts(line) and not line.plain


@pytest.mark.parametrize(
    "text",
    [
        "bash -c 'curl x'",
        "env A=1 timeout 5 curl x",
        "bash -c \"sh -c 'curl x'\"",
        "sudo -u root bash -c 'curl x'",
        "find . -exec curl x ;",
        "env -S 'curl x'",
        "eval 'curl x'",
        "trap 'curl x' EXIT",
    ],
)
def test_commands_that_others_run(text: str) -> None:
    assert "curl x" in [" ".join(word.text for word in command) for command in read(text).inner]


@pytest.mark.parametrize(
    "text",
    [
        "echo 'a",
        'echo "a',
        "echo $(a",
        "a )",
        "echo `a",
        "cat <<END\nx",
        "f() { a; }",
        "case x in x) a;; esac",
        "echo $((a[$(b)]))",
        "${x:=$(a)}",
        "a | sh",
        "bash",
        'eval "$x"',
        "a >",
        "a \\",
        "x" * (shell_line.LONGEST + 1),
        "a;" * (shell_line.MOST + 1),
        "$(" * 40,
    ],
)
def test_what_is_not_certain_is_not_whole(text: str) -> None:
    line = read(text)
    assert not line.whole and not line.plain


@pytest.mark.parametrize(
    "text",
    ["ls > f", "ls &> f", "PATH=. ls", "for i in 1; do ls; done", "(ls)", "ls <<< x", "ls < f", "{ ls; }"],
)
def test_more_than_simple_commands_is_not_plain(text: str) -> None:
    line = read(text)
    assert line.whole and not line.plain


@pytest.mark.parametrize("word", ["$x", "*.py", "~/x", "{a,b}", "a?", "$'a'", "[ab]"])
def test_words_that_become_others(word: str) -> None:
    assert not read(f"echo {word}").commands[0][1].literal


def test_a_carriage_return_and_other_blanks_separate_nothing() -> None:
    for blank in ("\r", "\x0b", "\x0c", "\u00a0", "\u2028"):
        assert read(f"ls{blank}-l").commands[0][0].text == f"ls{blank}-l"


@given(
    st.lists(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1), min_size=1)
)
def test_quoted_words_come_back(commands: list[list[str]]) -> None:
    line = read("; ".join(map(shlex.join, commands)))
    # Words that shape commands do so in quotes here too: that finds more, and bash itself would not run them.
    plain = all(
        words[0] not in shell_line._OPENING | shell_line._CLOSING | shell_line._OBSCURE for words in commands
    )
    if plain and all("=" not in words[0] and words[0] != "for" for words in commands):
        assert [[word.text for word in command] for command in line.commands] == commands


@given(st.text(alphabet="ab $(){}<>|&;\"'`\\#\n\r=![]*~-0", max_size=60))
def test_anything_can_be_read(text: str) -> None:
    line = read(text)
    assert line.whole or not line.plain


def ran(text: str) -> bool:
    """Whether bash runs something by the name `mark` in this line."""
    program = "mark() { builtin echo RAN >&3; }\n" + text
    done = subprocess.run(
        ["bash", "-c", 'exec 3>&1 1>/dev/null 2>/dev/null </dev/null; eval "$1"', "bash", program],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path("/"),
        env={"PATH": "/usr/bin:/bin"},
    )
    return "RAN" in done.stdout


PIECES = (
    "mark", "true", " ", " ", "; ", "\n", "&& ", "| ", "$(", ")", "'", '"', "`", "(", "{ ", "; }", "\\", "#", "if ",
    "then ", "fi", "x=1 ", "<<E\n", "E\n", "!", "&", "$x", "${y}", "echo ",
)  # fmt: skip


def test_bash_is_asked_in_the_right_way() -> None:
    assert ran("true; mark") and ran("echo $(mark)") and not ran("echo mark") and not ran("'mark")


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_command_that_bash_runs_is_missed(text: str) -> None:
    """What bash would run by the name `mark` is found, or the line is not taken for whole."""
    line = read(text)
    names = {command[0].text for command in (*line.commands, *line.inner)}
    if line.whole and "mark" not in names and all(command[0].literal for command in line.commands):
        assert not ran(text), (text, line)
