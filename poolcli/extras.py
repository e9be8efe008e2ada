"""Build, lint, types and coverage, as `[checks]` names them: judged beside the tests, and against the base."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from poolcli.process import Finished

#: Those whose complaints are told apart by file and line: what the base has too is no fault of the change.
COMPARED = ("lint", "types")
#: Characters of the end of an output that are kept.
TAIL = 2000
#: New complaints that are named.
NAMED = 10


class Extra(Struct, frozen=True):
    """How one of them ended. `name` is build, lint, types or coverage; `ok` None when it could not be judged.

    `share` is how clean the change is from 0.0 to 1.0 (`verdict.reward.cleanliness`), None when not known; `text`
    says what is wrong, `note` how it was judged where that is not plain.
    """

    name: str
    ok: bool | None
    command: str = ""
    text: str = ""
    share: float | None = None
    note: str = ""


#: Runs a command somewhere and gives how it ended; the text is the root as the command sees it.
Run = Callable[[str], "Awaitable[tuple[Finished, str]]"]


async def judge(name: str, command: str, patch: str, *, after: Run, base: Run) -> Extra:
    """Run a check with the change, and on the base where that is needed to judge it."""
    done, root = await after(command)
    if name == "build" and (done.timed_out or done.exit_code != 0):
        on_base, _ = await base(command)
        text = done.output[-TAIL:].strip()
        if on_base.timed_out or on_base.exit_code != 0:
            return Extra(name, None, command, text, note="it fails on the base, too")
        return Extra(name, False, command, text, 0.0)
    if name not in COMPARED:
        ok = None if done.timed_out or done.exit_code in (126, 127) else done.exit_code == 0
        return Extra(name, ok, command, "" if ok else done.output[-TAIL:].strip(), _share(ok))
    from poolcli.verdict import complaints

    before, before_root = (await base(command)) if complaints.needs_base(done) else (None, "")
    found = complaints.compared(before, done, patch, before_root=before_root, after_root=root)
    new = found.findings.new
    text = "" if found.ok else done.output[-TAIL:].strip()
    if new:
        lines = [f"{each.path}:{each.line}: {each.text}" for each in new[:NAMED]]
        text = "\n".join([*lines, *([f"… {len(new) - NAMED} more"] if len(new) > NAMED else [])])
    return Extra(name, found.ok, command, text, found.share, found.note)


def _share(ok: bool | None) -> float | None:
    return None if ok is None else float(ok)
