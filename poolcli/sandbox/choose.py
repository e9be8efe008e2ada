"""Which sandbox a run uses: what was asked for and what this machine can do, to one value or a refusal.

The rule is to fail closed. Where the default cannot be had, a person who is there to read the announcement gets
the best there is; a program gets a refusal with the fix, unless it named what it accepts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from msgspec import Struct

from poolcli.errors import RefusedError
from poolcli.sandbox import detect, landlock
from poolcli.sandbox.base import ASK, EXTERNAL, NONE, Sandbox
from poolcli.sandbox.detect import Machine

#: What `--sandbox` accepts.
NAMES = ("auto", "bubblewrap", "landlock", "seatbelt", "external", "none")

BUBBLEWRAP_NOTE = "it shares the kernel: a fault there is not confined"
SEATBELT_NOTE = (
    "reduced: the profile was never run by those who wrote it; processes and memory are not bounded"
)


class Choice(Struct, frozen=True):
    """The sandbox, and what is said about it in one line: '' where it is the default and all is well."""

    sandbox: Sandbox
    announcement: str = ""
    #: Nothing confines commands: said as a warning and never only in passing.
    loud: bool = False


def choose(
    wanted: str,
    *,
    interactive: bool,
    ci: bool = False,
    demo: bool = False,
    asks: bool = True,
    machine: Machine | None = None,
) -> Choice:
    """The sandbox for `wanted`, one of NAMES.

    `interactive`: a person is there to answer. `asks`: the caller can ask about each command. `ci`: it is a build,
    whatever its terminal looks like. `demo`: it is pool's own demonstration, whose model and repository are known.
    `machine` is asked when it is not given. Raises RefusedError, with the fix, when what was wanted cannot be had or
    would be less than the default.
    """
    here = machine if machine is not None else detect.machine(thorough=wanted == "landlock")
    if wanted == "auto":
        return _best(here, interactive=interactive and not ci, demo=demo, asks=asks)
    if wanted == "bubblewrap":
        if here.bubblewrap.works:
            return _bubblewrap(here)
        raise RefusedError(
            f"no bubblewrap: {here.bubblewrap.reason}", here.bubblewrap.fix or "leave --sandbox out"
        )
    if wanted == "landlock":
        if _has_landlock(here):
            return _landlock(here, "as you asked")
        raise RefusedError(*_no_landlock(here))
    if wanted == "seatbelt":
        if here.seatbelt:
            return _seatbelt(here, "as you asked")
        raise RefusedError("Seatbelt is part of macOS and is not here", "leave --sandbox out")
    if wanted == "external":
        return _external(here)
    if wanted == "none":
        return _none(here, "as you asked")
    raise RefusedError(f"there is no sandbox called {wanted!r}", "one of " + ", ".join(NAMES))


def surroundings(environ: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether a person is at the terminal, and whether this is a build: `interactive` and `ci` of `choose`."""
    interactive = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    return interactive, environ.get("CI", "").lower() not in ("", "0", "false", "no")


def here(wanted: str, *, interactive: bool | None = None, demo: bool = False, asks: bool = True) -> Choice:
    """`choose` for this process and this machine. Without `interactive`, a terminal means that a person is there."""
    terminal, ci = surroundings(os.environ)
    interactive = terminal if interactive is None else interactive
    return choose(wanted, interactive=interactive, ci=ci, demo=demo, asks=asks)


def _best(machine: Machine, *, interactive: bool, demo: bool, asks: bool) -> Choice:
    """The default: what confines fully; else what a person who reads this may have."""
    if machine.bubblewrap.works:
        return _bubblewrap(machine)
    why = _missing(machine)
    if interactive or demo:
        if machine.seatbelt:
            return _seatbelt(machine, why)
        if _has_landlock(machine):
            return _landlock(machine, why)
        if demo:
            return _none(machine, why)
        if asks:
            text = f"sandbox: none, because {why}. {_sentence(ASK.note)}. For a sandbox: {_fix(machine)}"
            return Choice(ASK, text, loud=True)
    raise RefusedError(f"no sandbox for commands: {why}", f"{_fix(machine)}; or {_named(machine)}")


def _missing(machine: Machine) -> str:
    if machine.seatbelt:
        return "Seatbelt is the only one here, and it is not proven"
    if machine.system != "linux":
        return f"pool has none for {machine.system}"
    return machine.bubblewrap.reason


def _fix(machine: Machine) -> str:
    return (
        machine.bubblewrap.fix
        if machine.system == "linux"
        else "run pool in a container or a virtual machine"
    )


def _named(machine: Machine) -> str:
    """What a program may name to go on with less."""
    ways = []
    if machine.seatbelt:
        ways.append("--sandbox=seatbelt")
    if _has_landlock(machine):
        ways.append("--sandbox=landlock (reduced)")
    ways += ["--sandbox=external (this container is the sandbox)", "--sandbox=none"]
    return "name what you accept: " + ", ".join(ways)


def _has_landlock(machine: Machine) -> bool:
    return (machine.landlock or 0) >= landlock.LEAST


def _no_landlock(machine: Machine) -> tuple[str, str]:
    if machine.system != "linux":
        return "Landlock is part of Linux and is not here", "leave --sandbox out"
    found = machine.landlock or 0
    what = f"version {found} of it, {landlock.LEAST} is needed" if found else "none, or it is turned off"
    return f"Landlock cannot be used: this kernel has {what}", "Linux 6.2 or newer, or install bubblewrap"


def _bubblewrap(machine: Machine) -> Choice:
    return Choice(Sandbox("bubblewrap", BUBBLEWRAP_NOTE, machine.bubblewrap.program))


def _landlock(machine: Machine, why: str) -> Choice:
    confined = landlock.sandbox(machine.landlock or 0)
    return Choice(
        confined, f"sandbox: Landlock, {_because(why)}. {_sentence(confined.note)}.{_then_fix(machine)}"
    )


def _seatbelt(machine: Machine, why: str) -> Choice:
    confined = Sandbox("seatbelt", SEATBELT_NOTE, machine.seatbelt)
    return Choice(confined, f"sandbox: Seatbelt, {_because(why)}. {_sentence(confined.note)}.")


def _external(machine: Machine) -> Choice:
    sign = f"looks like {machine.container}" if machine.container else "no sign of a container was found here"
    text = (
        f"sandbox: external, as you asked: {EXTERNAL.note} ({sign}). What it can reach, commands can reach."
    )
    return Choice(EXTERNAL, text, loud=not machine.container)


def _none(machine: Machine, why: str) -> Choice:
    reach = (
        "everything on this machine, since pool runs as root," if machine.root else "all your files and keys"
    )
    text = (
        f"NO SANDBOX, {_because(why)}: commands of the model can read and change {reach} and use the network."
    )
    return Choice(NONE, text + _then_fix(machine), loud=True)


def _because(why: str) -> str:
    return why if why == "as you asked" else f"because {why}"


def _then_fix(machine: Machine) -> str:
    return f" For a full one: {machine.bubblewrap.fix}" if machine.bubblewrap.fix else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
