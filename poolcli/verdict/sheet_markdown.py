"""The evidence sheet as Markdown, for the comment on a pull request.

Names and texts come from the change itself, so none of them is ever Markdown here: each stands in a code span, or
as entities inside `<code>` where a span could be left, or in a fence longer than any in it. That also keeps `@name`
and `#12` from reaching anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from poolcli.sanitize import clean
from poolcli.verdict import sheet as words
from poolcli.verdict.results import BAD
from poolcli.verdict.sheet import Sheet

#: Rows of a table or list, and characters of all of them; the rest is counted. Hosts take comments of 65,536
#: characters: five lists, the texts and the facts come to 57,000 at most.
MOST, MOST_CHARACTERS = 40, 7000
#: Commands and notes among the facts.
FEW = 5

#: Characters of a name or a line of code; as entities six times as many.
LONGEST = 160

#: Lines and characters of the failure texts that are shown in full.
TEXT_LINES, TEXTS = 20, 3

_MARKS = {"fixed": "✅", "broken": "❌", "gone": "➖", "new": "🆕", "changed": "➖"}


def markdown(sheet: Sheet) -> str:
    """The sheet as GitHub-flavoured Markdown; no text in it can become markup, a mention or a link."""
    mark = "✅" if sheet.verified else "❌"
    lines = [f"### {mark} {sheet.word.capitalize()}: {code(sheet.subject)}", ""]
    lines += _facts(sheet)
    lines += _findings(sheet)
    lines += _tests(sheet)
    lines += _strength(sheet)
    lines += _coverage(sheet)
    lines += _extras(sheet)
    return "\n".join(lines).rstrip("\n") + "\n"


def code(text: str) -> str:
    """One line of text as code, whatever is in it."""
    text = _line(text)
    return html(text) if "`" in text or "|" in text else f"`{text}`"


def html(text: str) -> str:
    """The same where Markdown is not read, as in the line of an HTML block."""
    return "<code>" + re.sub(r"[^\w ]|_", lambda match: f"&#{ord(match.group())};", _line(text)) + "</code>"


def _line(text: str) -> str:
    text = clean(text[: LONGEST * 2], keep_newlines=False).strip()
    return (text if len(text) <= LONGEST else text[: LONGEST - 1] + "…") or "(empty)"


def fence(text: str, language: str = "") -> list[str]:
    """Lines of text in a fence that none of them can close."""
    shown = clean(text).split("\n")
    more = len(shown) - TEXT_LINES
    shown = [line[:LONGEST] for line in shown[:TEXT_LINES]] + ([f"… {more} more lines"] if more > 0 else [])
    longest = max((len(run) for run in re.findall("`+", "\n".join(shown))), default=0)
    bar = "`" * max(3, longest + 1)
    return [bar + language, *shown, bar]


def _facts(sheet: Sheet) -> list[str]:
    rows = ["| | |", "| --- | --- |"]
    if sheet.base:
        rows.append(f"| base | {code(sheet.base)} |")
    rows += [f"| checks | {code(command)} |" for command in sheet.commands[:FEW]]
    rows.append(f"| before | {code(words.counts(sheet.before))} |")
    rows.append(f"| after | {code(words.counts(sheet.after))} |")
    rows.append(f"| label | {code(sheet.label)}{'' if sheet.valid else ' (could not be judged)'} |")
    if sheet.reason:
        rows.append(f"| reason | {code(sheet.reason)} |")
    rows.append(f"| reward | {sheet.reward:.3f} |")
    rows += [f"| note | {code(note)} |" for note in sheet.notes[:FEW]]
    return [*rows, ""]


def _findings(sheet: Sheet) -> list[str]:
    if not sheet.findings:
        return []
    items = (
        f"- {'❌' if finding.severity == 'high' else '⚠️'} {code(finding.kind)}"
        f"{f' in {code(words.place(finding.path, finding.line))}' if finding.path else ''}: {code(finding.text)}"
        for finding in sorted(sheet.findings, key=lambda finding: finding.severity != "high")
    )
    return ["#### Tampering", "", *_bounded(items, len(sheet.findings)), ""]


def _tests(sheet: Sheet) -> list[str]:
    lines: list[str] = []
    if sheet.tests:
        items = (
            f"| {_MARKS[row.kind]} | {code(row.id)} | {code(words.change(row))} |" for row in sheet.tests
        )
        lines += ["#### Tests that changed", "", "| | test | before → after |", "| --- | --- | --- |"]
        lines += _bounded(items, len(sheet.tests), "| | and {} more | |")
        lines.append("")
    for row in [row for row in sheet.tests if row.text and row.after in BAD][:TEXTS]:
        lines += [f"<details><summary>{html(row.id)}</summary>", "", *fence(row.text), "", "</details>", ""]
    if sheet.flaky:
        items = (f"- {code(name)}" for name in sheet.flaky)
        lines += ["Flaky, counted neither way:", "", *_bounded(items, len(sheet.flaky)), ""]
    return lines


def _strength(sheet: Sheet) -> list[str]:
    if sheet.strength is None:
        return []
    lines = ["#### Small errors put on the changed lines", "", code(words.strength_line(sheet.strength)), ""]
    survivors = sheet.strength.survivors
    items = (
        f"- {code(where)}: {code(before)} → {code(after)}"
        for where, before, after in map(words.survivor, survivors)
    )
    return [*lines, *(["Not noticed:", "", *_bounded(items, len(survivors)), ""] if survivors else [])]


def _coverage(sheet: Sheet) -> list[str]:
    if sheet.coverage is None:
        return []
    uncovered = sheet.coverage.uncovered
    items = (f"- {code(path)}: {code(words.spans(numbers))}" for path, numbers in uncovered.items())
    lines = ["#### Changed lines that the checks ran", "", code(words.coverage_line(sheet.coverage)), ""]
    return [*lines, *(["Not run:", "", *_bounded(items, len(uncovered)), ""] if uncovered else [])]


def _extras(sheet: Sheet) -> list[str]:
    marks = {True: "✅", False: "❌", None: "➖"}
    items = (
        f"- {marks[extra.ok]} {code(extra.name)}" + (f" {code(extra.command)}" if extra.command else "")
        for extra in sheet.extras
    )
    return ["#### Other checks", "", *_bounded(items, len(sheet.extras)), ""] if sheet.extras else []


def _bounded(items: Iterable[str], many: int, more: str = "- and {} more") -> list[str]:
    """As many of the `many` items as fit; the others are not even drawn."""
    kept: list[str] = []
    characters = 0
    for item in islice(items, MOST):
        characters += len(item)
        if characters > MOST_CHARACTERS:
            break
        kept.append(item)
    return [*kept, more.format(many - len(kept))] if many > len(kept) else kept
