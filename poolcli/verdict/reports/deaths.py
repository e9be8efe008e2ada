"""How a runner died: by its exit code, and by what it or its system wrote at the end."""

from __future__ import annotations

import re

#: Signals by number as people know them. 9 has no message of its own: nearly always it is the memory's end.
_SIGNALS = {
    4: "illegal instruction",
    6: "aborted",
    7: "bus error",
    8: "arithmetic exception",
    9: "killed, as it happens when memory runs out",
    11: "segmentation fault",
    15: "terminated",
    31: "bad system call",
}
#: What is written by no test that merely fails. First match wins.
_SIGNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.M), words)
    for pattern, words in (
        (r"^Fatal Python error: (?:Segmentation fault)", "segmentation fault"),
        (r"^Fatal Python error: ", "the interpreter died"),
        (r"JavaScript heap out of memory", "out of memory"),
        (r"^java\.lang\.OutOfMemoryError", "out of memory"),
        (r"The forked VM terminated without (?:properly )?saying", "the test process ended without a word"),
        (r"signal: 11, SIGSEGV|^SIGSEGV: segmentation violation", "segmentation fault"),
        (r"signal: 9, SIGKILL|^signal: killed$", "killed, as it happens when memory runs out"),
        (r"signal: 6, SIGABRT", "aborted"),
        (r"^Segmentation fault(?: \(core dumped\))?$", "segmentation fault"),
        (r"^Killed$", "killed, as it happens when memory runs out"),
        (r"^Out of memory: Kill", "out of memory"),
    )
)
#: Characters at the end of an output in which its death is told.
_END = 20_000


def by_exit(exit_code: int | None) -> str:
    """The signal behind an exit code: -11 as Python gives it, 139 as a shell does. '' when there is none."""
    if exit_code is None:
        return ""
    signal = -exit_code if exit_code < 0 else exit_code - 128
    if exit_code < 0:
        return _SIGNALS.get(signal, f"killed by signal {signal}")
    # Other codes above 128 are a runner's own: 255 is a common one.
    return _SIGNALS.get(signal, "") if exit_code > 128 else ""


def by_output(output: str) -> str:
    """The death that the end of an output tells of, '' when none."""
    end = output[-_END:]
    return next((words for sign, words in _SIGNS if sign.search(end)), "")
