"""The evidence sheet of a change: all that execution said about it, as one value.

It is drawn by `sheet_terminal`, `sheet_markdown` and `sheet_junit`; `as_json` is the form for programs. The value
holds texts as they came; each of these makes them safe for its own place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from poolcli.verdict.coverage import Coverage
from poolcli.verdict.mutants import Mutant, Strength
from poolcli.verdict.results import BAD
from poolcli.verdict.tampering.findings import Finding

#: The version of the JSON form; a field more does not change it.
VERSION = 1

#: Outcomes that are as they should be. A skipped test is neither.
GOOD = frozenset(("passed", "xfailed", "xpassed"))


class Row(Struct, frozen=True):
    """A test whose outcome changed, or that one side does not have.

    `before` and `after` are outcomes of `results.OUTCOMES`, '' where there was no such test. `text` is the failure's
    after the change, or before it when there is none after.
    """

    id: str
    before: str = ""
    after: str = ""
    text: str = ""

    @property
    def kind(self) -> str:
        """fixed, broken, new, gone or changed."""
        if not self.before:
            return "broken" if self.after in BAD else "new"
        if not self.after:
            return "gone"
        if self.before not in GOOD and self.after in GOOD:
            return "fixed"
        return "broken" if self.after in BAD and self.before not in BAD else "changed"


class Extra(Struct, frozen=True):
    """An optional check beside the tests: `name` is build, lint, types …; `ok` None when it could not be run."""

    name: str
    ok: bool | None
    command: str = ""
    text: str = ""


class Sheet(Struct, frozen=True):
    """What was judged, how, and what came of it.

    `subject` is the run, range or patch in words; `base` the commit it is judged against; `commands` are the checks.
    `label` is FULL, PARTIAL or NO; `valid` says whether it could be judged, `reason` why not (or why the label is
    what it is). `reward` is 0 to 1. `before` and `after` count outcomes, None where there was no such run. `tests`
    are those that changed. `strength` and `coverage` are None when they were not asked for.
    """

    subject: str
    base: str = ""
    commands: tuple[str, ...] = ()
    label: str = "NO"
    valid: bool = True
    reason: str = ""
    reward: float = 0.0
    before: Mapping[str, int] | None = None
    after: Mapping[str, int] | None = None
    tests: tuple[Row, ...] = ()
    flaky: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    strength: Strength | None = None
    coverage: Coverage | None = None
    extras: tuple[Extra, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def tampered(self) -> bool:
        """Whether something was found that no honest change needs."""
        return any(finding.severity == "high" for finding in self.findings)

    @property
    def verified(self) -> bool:
        """Whether the change is proved: judged, resolved in full, nothing made worse beside it, not tampered with."""
        worse = any(extra.ok is False for extra in self.extras)
        return self.valid and self.label == "FULL" and not self.tampered and not worse

    @property
    def word(self) -> str:
        """The verdict in one word or two."""
        if self.tampered:
            return "tampered"
        if not self.valid:
            return "not judged"
        return "verified" if self.verified else "not verified"


def rows(
    before: Mapping[str, str], after: Mapping[str, str], texts: Mapping[str, str] | None = None
) -> tuple[Row, ...]:
    """The tests whose outcome changed, worst first, then by name. Arguments are outcome and failure text by id."""
    texts = texts or {}
    changed = [
        Row(name, before.get(name, ""), after.get(name, ""), texts.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    order = ("broken", "gone", "fixed", "new", "changed")
    return tuple(sorted(changed, key=lambda row: order.index(row.kind)))


def as_json(sheet: Sheet) -> dict[str, Any]:
    """The sheet for programs: its fields, and what follows from them."""
    import msgspec

    data: dict[str, Any] = _lists(msgspec.to_builtins(sheet))
    data |= {
        "version": VERSION,
        "verified": sheet.verified,
        "tampered": sheet.tampered,
        "verdict": sheet.word,
    }
    for row, test in zip(data["tests"], sheet.tests, strict=True):
        row["kind"] = test.kind
    if sheet.strength is not None:
        data["strength"]["rate"] = sheet.strength.rate
    if sheet.coverage is not None:
        data["coverage"]["share"] = sheet.coverage.share
    return data


def _lists(value: Any) -> Any:
    """Tuples as lists, as JSON has them, and half characters (of names that are no UTF-8) made visible."""
    if isinstance(value, dict):
        return {_lists(key): _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


# Wordings that the drawings share, in plain text; names in them are as they came.


def counts(numbers: Mapping[str, int] | None) -> str:
    """`12 passed, 1 failed`; `not run` for None."""
    if numbers is None:
        return "not run"
    return ", ".join(f"{number} {outcome}" for outcome, number in numbers.items() if number) or "no tests"


def change(row: Row) -> str:
    """`failed → passed`."""
    return f"{row.before or 'not there'} → {row.after or 'not there'}"


def strength_line(strength: Strength) -> str:
    """`8 of 10 small errors noticed (80 %)`, or why there is no figure."""
    if strength.rate is None:
        return strength.problem or "nothing was tried"
    line = f"{strength.killed} of {strength.tried} small errors noticed ({_percent(strength.rate)})"
    if strength.possible > strength.tried + strength.broken:
        line += f", {strength.possible} possible"
    if strength.broken:
        line += f", {strength.broken} did not build"
    return f"{line}; {strength.problem}" if strength.problem else line


def coverage_line(coverage: Coverage) -> str:
    """`9 of 10 changed lines ran (90 %)`, or why there is no figure."""
    if coverage.share is None:
        return coverage.problem or "no changed line holds code"
    line = f"{coverage.covered} of {coverage.total} changed lines ran ({_percent(coverage.share)})"
    return f"{line}; {coverage.problem}" if coverage.problem else line


def place(path: str, line: int) -> str:
    """`file.py:3`, or the path alone where no line is known."""
    return f"{path}:{line}" if line else path


def survivor(mutant: Mutant) -> tuple[str, str, str]:
    """Where a small error was not noticed, and the line without and with it."""
    return place(mutant.path, mutant.line), mutant.before.strip(), mutant.after.strip() or "(nothing)"


def spans(numbers: Iterable[int]) -> str:
    """`3–5, 9` for 3, 4, 5, 9."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in parts)


def _percent(share: float) -> str:
    """Rounded down: 100 % is all of them."""
    return f"{int(share * 100 + 1e-9)} %"
