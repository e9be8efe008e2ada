"""The evidence sheet on a terminal: rows that fit its width, down to 40 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from poolcli.sanitize import clean
from poolcli.verdict import sheet as words
from poolcli.verdict.results import BAD
from poolcli.verdict.sheet import Sheet

if TYPE_CHECKING:
    from rich.text import Text

#: Rows of each list; `--json` has them all.
MOST = 30
#: Lines of a failure's text, and how many failures show theirs.
TEXT_LINES, TEXTS = 12, 3
#: Columns: narrower ones wrap anyway, wider ones are hard to read.
NARROWEST, WIDEST = 40, 110
LABEL = 9  # `coverage `

_TONES = {"fixed": "green", "broken": "red", "gone": "yellow", "new": "cyan", "changed": ""}
_MARKS = {"fixed": "✓", "broken": "✗", "gone": "·", "new": "+", "changed": "·"}


def show(sheet: Sheet, stream: TextIO, width: int | None = None) -> None:
    """Write the sheet to `stream`, at most `width` columns wide (its own width unless given).

    Colours only where the stream is a terminal that takes them. Raises OSError when it is gone.
    """
    from rich.console import Console
    from rich.text import Text

    from poolcli.views.output import fit, is_unicode, size

    columns = max(NARROWEST, min(size(stream)[0] if width is None else width, WIDEST))
    console = Console(file=stream, width=columns, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for text, head in _rows(sheet):
            lead, rest = text[:head], text[head:]
            wrapped = rest.wrap(console, columns - lead.cell_len, overflow="fold")
            for number, row in enumerate(wrapped or [rest]):
                row.rstrip()
                row = row if not number else Text(" " * lead.cell_len).append_text(row)
                console.print(row if number else lead + row, no_wrap=True, overflow="ignore", crop=False)
    drawn = captured.get()
    stream.write(drawn if is_unicode(stream) else fit(drawn, stream))


def _rows(sheet: Sheet) -> Iterable[tuple[Text, int]]:
    """Each row with the length of its head: what wraps is indented as far as that."""
    from rich.cells import set_cell_size
    from rich.text import Text

    def fact(label: str, value: str, style: str = "") -> tuple[Text, int]:
        label = set_cell_size(label, LABEL - 1) + " "
        return Text.assemble((label, "dim"), (_line(value), style)), len(label)

    tone = "bold green" if sheet.verified else "bold red" if sheet.tampered or sheet.valid else "bold yellow"
    mark = "✓" if sheet.verified else "✗"
    yield Text.assemble((f"{mark} {sheet.word}", tone), f"  {_line(sheet.subject)}"), 2
    if sheet.base:
        yield fact("base", sheet.base)
    for command in sheet.commands:
        yield fact("checks", command)
    yield fact("before", words.counts(sheet.before))
    yield fact("after", words.counts(sheet.after))
    yield fact("label", sheet.label + ("" if sheet.valid else " (could not be judged)"))
    if sheet.reason:
        yield fact("reason", sheet.reason)
    yield fact("reward", f"{sheet.reward:.3f}")
    if sheet.strength is not None:
        yield fact("strength", words.strength_line(sheet.strength))
    if sheet.coverage is not None:
        yield fact("coverage", words.coverage_line(sheet.coverage))
    for extra in sheet.extras:
        state = {True: "ok", False: "failed", None: "could not be run"}[extra.ok]
        yield fact(_line(extra.name), f"{state}  {extra.command}", "" if extra.ok else "red")
    for note in sheet.notes:
        yield fact("note", note)
    yield from _lists(sheet)


def _lists(sheet: Sheet) -> Iterable[tuple[Text, int]]:
    from rich.text import Text

    def section(title: str, rows: list[tuple[Text, int]], many: int) -> Iterable[tuple[Text, int]]:
        if rows:
            yield Text(), 0
            yield Text(title, "bold"), 0
            yield from rows
            if many > MOST:
                yield Text(f"  and {many - MOST} more", "dim"), 2

    found = []
    for finding in sheet.findings[:MOST]:
        style = "red" if finding.severity == "high" else "yellow"
        where = _line(words.place(finding.path, finding.line))
        sign = "✗" if style == "red" else "!"
        head = Text.assemble((f"  {sign} {_line(finding.kind)}", style), f"  {where}")
        found.append((head, 4))
        found.append((Text(f"    {_line(finding.text)}"), 4))
    yield from section("Tampering", found, len(sheet.findings))

    changed = []
    for row in sheet.tests[:MOST]:
        changed.append((Text.assemble((f"  {_MARKS[row.kind]} ", _TONES[row.kind]), _line(row.id)), 4))
        changed.append((Text(f"    {words.change(row)}", "dim"), 4))
    yield from section("Tests that changed", changed, len(sheet.tests))
    for row in [row for row in sheet.tests if row.text and row.after in BAD][:TEXTS]:
        yield Text(), 0
        yield Text(_line(row.id), "red"), 0
        yield from _text(row.text)

    for extra in [extra for extra in sheet.extras if extra.text and not extra.ok][:TEXTS]:
        yield Text(), 0
        yield Text(_line(extra.name), "red"), 0
        yield from _text(extra.text)

    flaky = [(Text(f"  ~ {_line(name)}"), 4) for name in sheet.flaky[:MOST]]
    yield from section("Flaky, counted neither way", flaky, len(sheet.flaky))

    mutants = sheet.strength.survivors if sheet.strength else ()
    survivors = []
    for mutant in mutants[:MOST]:
        where, before, after = words.survivor(mutant)
        survivors.append((Text.assemble(f"  {_line(where)}  ", (mutant.kind, "dim")), 4))
        survivors.append((Text(f"    - {_line(before)}", "red"), 6))
        survivors.append((Text(f"    + {_line(after)}", "green"), 6))
    yield from section("Small errors that no test noticed", survivors, len(mutants))

    uncovered = list(sheet.coverage.uncovered.items()) if sheet.coverage else []
    missed = [(Text(f"  {_line(path)}: {words.spans(lines)}"), 4) for path, lines in uncovered[:MOST]]
    yield from section("Changed lines that did not run", missed, len(uncovered))


def _text(text: str) -> Iterable[tuple[Text, int]]:
    """The first lines of what something printed."""
    from rich.text import Text

    lines = clean(text).strip("\n").split("\n")
    for line in lines[:TEXT_LINES]:
        yield Text(f"  │ {line.expandtabs(4)}"), 4
    if len(lines) > TEXT_LINES:
        yield Text(f"  and {len(lines) - TEXT_LINES} more lines", "dim"), 2


def _line(text: str) -> str:
    return clean(text, keep_newlines=False)
