"""The decision: every wish on every kind of machine, with a person there and without."""

from __future__ import annotations

import itertools

import pytest

from poolcli import config
from poolcli.errors import Exit, RefusedError
from poolcli.sandbox import choose as module
from poolcli.sandbox.choose import NAMES, Choice, choose
from poolcli.sandbox.detect import Bubblewrap, Machine

BROKEN = Bubblewrap("/usr/bin/bwrap", "user namespaces are turned off", "turn them on")
FULL = Machine("linux", Bubblewrap("/usr/bin/bwrap"), None)
BOTH = Machine("linux", Bubblewrap("/usr/bin/bwrap"), 7)
LESS = Machine("linux", BROKEN, 7)
OLD = Machine("linux", BROKEN, 2)
BARE = Machine("linux", Bubblewrap("", "bubblewrap is not installed", "sudo apt install bubblewrap"), 0)
DOCKER = Machine("linux", BROKEN, 0, container="Docker", root=True)
MAC = Machine("darwin", Bubblewrap("", "bubblewrap is for Linux only"), 0, "/usr/bin/sandbox-exec")
OTHER = Machine("freebsd", Bubblewrap("", "bubblewrap is for Linux only"), 0)
MACHINES = {
    "full": FULL,
    "both": BOTH,
    "less": LESS,
    "old": OLD,
    "bare": BARE,
    "docker": DOCKER,
    "mac": MAC,
    "other": OTHER,
}

#: (wish, machine) -> the sandbox for a person at a terminal, for a program, for pool's demonstration in a program.
#: "-" is a refusal.
TABLE = {
    ("auto", "full"): ("bubblewrap", "bubblewrap", "bubblewrap"),
    ("auto", "both"): ("bubblewrap", "bubblewrap", "bubblewrap"),
    ("auto", "less"): ("landlock", "-", "landlock"),
    ("auto", "old"): ("ask", "-", "none"),
    ("auto", "bare"): ("ask", "-", "none"),
    ("auto", "docker"): ("ask", "-", "none"),
    ("auto", "mac"): ("seatbelt", "-", "seatbelt"),
    ("auto", "other"): ("ask", "-", "none"),
    ("bubblewrap", "full"): ("bubblewrap",) * 3,
    ("bubblewrap", "both"): ("bubblewrap",) * 3,
    ("landlock", "both"): ("landlock",) * 3,
    ("landlock", "less"): ("landlock",) * 3,
    ("seatbelt", "mac"): ("seatbelt",) * 3,
    **{("external", name): ("external",) * 3 for name in MACHINES},
    **{("none", name): ("none",) * 3 for name in MACHINES},
}


def outcome(wanted: str, machine: Machine, *, interactive: bool, ci: bool = False, demo: bool = False) -> str:
    try:
        return choose(wanted, interactive=interactive, ci=ci, demo=demo, machine=machine).sandbox.name
    except RefusedError as error:
        assert error.exit_code == Exit.REFUSED
        assert str(error) and error.hint
        return "-"


@pytest.mark.parametrize(("wanted", "name"), list(itertools.product(NAMES, MACHINES)))
def test_the_whole_table(wanted: str, name: str) -> None:
    machine = MACHINES[name]
    person, program, demo = TABLE.get((wanted, name), ("-", "-", "-"))
    assert outcome(wanted, machine, interactive=True) == person
    assert outcome(wanted, machine, interactive=False) == program
    # A terminal does not make a person of a build.
    assert outcome(wanted, machine, interactive=True, ci=True) == program
    for interactive in (False, True):
        assert outcome(wanted, machine, interactive=interactive, demo=True) == demo


@pytest.mark.parametrize("machine", [OLD, BARE, OTHER])
def test_who_cannot_ask_about_commands_does_not_run_them(machine: Machine) -> None:
    with pytest.raises(RefusedError):
        choose("auto", interactive=True, asks=False, machine=machine)
    assert choose("auto", interactive=True, asks=False, machine=LESS).sandbox.name == "landlock"


def test_the_settings_know_the_same_names() -> None:
    assert config.SANDBOXES == NAMES
    # A file that comes with a repository never chooses.
    assert not config.BY_NAME["sandbox"].project and config.BY_NAME["sandbox"].env == "POOL_SANDBOX"


def test_a_wish_that_nobody_knows_is_refused() -> None:
    assert outcome("", FULL, interactive=True) == outcome("firejail", FULL, interactive=True) == "-"


def test_the_default_says_nothing_and_all_else_is_announced_in_one_line() -> None:
    for wanted, name in TABLE:
        if TABLE[wanted, name][0] == "-":
            continue
        made = choose(wanted, interactive=True, machine=MACHINES[name])
        assert (made.announcement == "") == (made.sandbox.name == "bubblewrap")
        assert "\n" not in made.announcement
        assert made.sandbox.note
        if made.sandbox.name in ("none", "ask"):
            assert made.loud


def say(wanted: str, machine: Machine, *, interactive: bool = True) -> str:
    return choose(wanted, interactive=interactive, machine=machine).announcement


def test_what_is_announced() -> None:
    assert "because user namespaces are turned off" in say("auto", LESS) and "turn them on" in say(
        "auto", LESS
    )
    assert "as you asked" in say("landlock", LESS)
    assert "can be signalled" in say("landlock", Machine("linux", BROKEN, 4))
    assert "can be signalled" not in say("landlock", LESS)
    assert say("none", BARE).startswith("NO SANDBOX") and "your files" in say("none", BARE)
    assert "everything on this machine" in say("none", DOCKER)
    assert "looks like Docker" in say("external", DOCKER)
    assert "no sign of a container" in say("external", BARE)
    assert "sudo apt install bubblewrap" in say("auto", BARE)


def test_what_a_refusal_offers() -> None:
    with pytest.raises(RefusedError) as refused:
        choose("auto", interactive=False, machine=LESS)
    assert "turned off" in str(refused.value)
    for word in ("turn them on", "--sandbox=landlock", "--sandbox=external", "--sandbox=none"):
        assert word in refused.value.hint
    with pytest.raises(RefusedError) as refused:
        choose("auto", interactive=False, machine=BARE)
    assert "--sandbox=landlock" not in refused.value.hint
    with pytest.raises(RefusedError) as refused:
        choose("auto", interactive=False, machine=MAC)
    assert "--sandbox=seatbelt" in refused.value.hint


def test_the_program_of_the_machine_is_the_one_that_is_started() -> None:
    assert choose("auto", interactive=False, machine=FULL).sandbox.program == "/usr/bin/bwrap"
    assert choose("auto", interactive=True, machine=MAC).sandbox.program == "/usr/bin/sandbox-exec"


@pytest.mark.parametrize(
    ("value", "ci"), [("", False), ("0", False), ("false", False), ("true", True), ("1", True), ("yes", True)]
)
def test_what_counts_as_a_build(value: str, ci: bool) -> None:
    assert module.surroundings({"CI": value})[1] is ci
    assert module.surroundings({})[1] is False


def test_this_machine() -> None:
    try:
        made = choose("auto", interactive=True)
    except RefusedError:
        pytest.fail("a person is never refused")
    assert isinstance(made, Choice)
