"""What all readers of reports share: cases with stable ids and bounded texts, and the limits on what is read."""

from __future__ import annotations

import re
from pathlib import Path

from poolcli import beneath
from poolcli.verdict.failures import clip, plain, strip_root
from poolcli.verdict.results import OUTCOMES, Case, Results

#: Of a report's file, and of a log. The reports of 50,000 tests are a tenth of it.
MOST_BYTES = 64 * 1024 * 1024
#: More cases than any suite has; beyond them a report is an attack on memory.
MOST_CASES = 500_000
#: Lines of one failure's text: first what was expected, last where it happened.
FIRST_LINES, LAST_LINES = 24, 12
#: Characters of a failure's text that are looked at; a dumped value need not be.
LOOKED_AT = 40_000
#: Characters of an id. Parametrised ids can be whole documents; what is cut gets a number if it is not unique.
LONGEST_ID = 1000

_BREAKS = re.compile(r"[\n\t\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
#: From harmless to bad: what is kept when one test is reported twice (its body and its teardown).
_WORSE = {
    outcome: at for at, outcome in enumerate(("skipped", "passed", "xpassed", "xfailed", "failed", "error"))
}


def excerpt(text: str, root: str) -> str:
    """A failure's text: without colours and the worktree's path, its first and last lines."""
    if len(text) > LOOKED_AT:
        text = text[: LOOKED_AT // 2] + "\n" + text[-LOOKED_AT // 2 :]
    lines = [
        line.rstrip() for line in strip_root(plain(text), root.rstrip("/")).strip("\n").rstrip().split("\n")
    ]
    if len(lines) > FIRST_LINES + LAST_LINES:
        left = len(lines) - FIRST_LINES - LAST_LINES
        lines = [*lines[:FIRST_LINES], f"… {left} more lines", *lines[-LAST_LINES:]]
    return "\n".join(clip(line) for line in lines)


def one_line(name: str, root: str) -> str:
    """A name as an id can hold it: one line, no colours, no path of this machine, bounded.

    Spaces stay as they are: `[END  IF]` and `[END IF]` are two tests.
    """
    name = _BREAKS.sub(" ", strip_root(plain(name[:LOOKED_AT]), root.rstrip("/"))).strip()
    return name if len(name) <= LONGEST_ID else name[: LONGEST_ID - 1] + "…"


def relative(path: str, root: str) -> str:
    """A file's path below `root`; as it was where it lies elsewhere."""
    path = one_line(path, root)
    while path.startswith("./"):
        path = path[2:]
    return path


class Collector:
    """Gathers cases. Names that come again get a number (`name (2)`) unless `merge` says that they are one test."""

    def __init__(self, root: str, source: str, *, merge: bool = False) -> None:
        self.root = root.rstrip("/")
        self.source = source
        self.merge = merge
        self.cases: dict[str, Case] = {}
        self._seen: dict[str, int] = {}

    def add(self, name: str, outcome: str, text: str = "", seconds: float = 0.0, file: str = "") -> None:
        """One case; a nameless one and those beyond the limit are left out."""
        name = one_line(name, self.root)
        if not name or outcome not in OUTCOMES or len(self.cases) >= MOST_CASES:
            return
        text = excerpt(text, self.root) if text else ""
        before = self.cases.get(name)
        if before is not None and self.merge:
            if _WORSE[outcome] <= _WORSE[before.outcome]:
                outcome, text = before.outcome, before.text
            seconds += before.seconds
        elif before is not None:
            number = self._seen.get(name, 1) + 1
            while f"{name} ({number})" in self.cases:  # a test that is really called so
                number += 1
            self._seen[name] = number
            name = f"{name} ({number})"
        self.cases[name] = Case(name, outcome, text, _finite(seconds), relative(file, self.root))

    def results(self, problem: str = "", hung: str = "", crashed: str = "") -> Results:
        """What was gathered."""
        if not problem and len(self.cases) >= MOST_CASES:
            problem = f"the report has more than {MOST_CASES} tests"
        return Results(self.cases, self.source, problem, one_line(hung, self.root), crashed)


def number(text: object) -> float:
    """A duration as reports write it (`1,234.5` too); 0 when it is none."""
    try:
        return _finite(float(text.replace(",", "") if isinstance(text, str) else text))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _finite(seconds: float) -> float:
    return seconds if 0 <= seconds < 1e9 else 0.0  # NaN compares false


def read_bytes(path: Path) -> bytes | None:
    """The file's bytes, at most `MOST_BYTES`; None when it is no file that can be read, or empty."""
    try:
        # The tests could make anything of it: a named pipe would be waited for, a link may lead anywhere.
        return beneath.read_regular(path, MOST_BYTES, links=False) or None
    except OSError:
        return None


def read_text(path: Path) -> str | None:
    """The file's text, whatever its bytes are; None as for `read_bytes`."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "replace")
