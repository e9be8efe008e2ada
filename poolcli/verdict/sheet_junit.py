"""The evidence sheet as JUnit XML, for a CI service to show beside the tests' own reports."""

from __future__ import annotations

import re

from poolcli.verdict import sheet as words
from poolcli.verdict.results import BAD
from poolcli.verdict.sheet import Sheet

#: What XML 1.0 cannot hold, in any spelling.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)

#: Characters of one failure text.
MAX_TEXT = 20_000


class _Case:
    """One `<testcase>`; `problem` is (tag, message, text) of what is wrong with it."""

    def __init__(
        self, suite: str, name: str, problem: tuple[str, str, str] | None = None, out: str = ""
    ) -> None:
        self.suite, self.name, self.problem, self.out = suite, name, problem, out


def junit(sheet: Sheet) -> str:
    """The sheet as a JUnit XML document, well-formed whatever the texts are.

    The verdict, each test that changed, each finding and each check beside the tests is a test case. What only
    informs (survivors, uncovered lines) is the output of a case that does not fail.
    """
    cases = _cases(sheet)
    suites: dict[str, list[_Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<testsuites name="pool verify" {_totals(cases)}>']
    for name, members in suites.items():
        lines.append(f'  <testsuite name="{text(name)}" {_totals(members)}>')
        for case in members:
            lines += _drawn(case)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def text(value: str) -> str:
    """Text for an element or a quoted attribute: entities for what has a meaning, `\\x..` for what cannot be."""
    value = _FORBIDDEN.sub(lambda match: f"\\x{ord(match.group()):02x}", value[:MAX_TEXT])
    return value.translate(_ENTITIES)


def _totals(cases: list[_Case]) -> str:
    tags = [case.problem[0] for case in cases if case.problem is not None]
    numbers = {tag: tags.count(tag) for tag in ("failure", "error", "skipped")}
    return (
        f'tests="{len(cases)}" failures="{numbers["failure"]}" errors="{numbers["error"]}" '
        f'skipped="{numbers["skipped"]}"'
    )


def _drawn(case: _Case) -> list[str]:
    head = f'    <testcase classname="{text(case.suite)}" name="{text(case.name)}"'
    if case.problem is None and not case.out:
        return [head + "/>"]
    lines = [head + ">"]
    if case.problem is not None:
        tag, message, body = case.problem
        lines.append(f'      <{tag} message="{text(message)}">{text(body)}</{tag}>')
    if case.out:
        lines.append(f"      <system-out>{text(case.out)}</system-out>")
    return [*lines, "    </testcase>"]


def _cases(sheet: Sheet) -> list[_Case]:
    about = "\n".join(
        [
            f"subject: {sheet.subject}",
            f"base: {sheet.base}",
            *(f"checks: {command}" for command in sheet.commands),
            f"before: {words.counts(sheet.before)}",
            f"after: {words.counts(sheet.after)}",
            f"label: {sheet.label}",
            f"reward: {sheet.reward:.3f}",
            *(f"flaky: {name}" for name in sheet.flaky),
            *sheet.notes,
        ]
    )
    problem = None
    if not sheet.verified:
        problem = ("failure" if sheet.valid else "error", f"{sheet.word}: {sheet.reason or sheet.label}", "")
    cases = [_Case("verdict", sheet.subject, problem, about)]
    for row in sheet.tests:
        wrong = None
        if row.after in ("", "skipped"):
            wrong = ("skipped", words.change(row), "")
        elif row.after in BAD:
            wrong = ("failure", words.change(row), row.text)
        cases.append(_Case("tests", row.id, wrong, "" if wrong else words.change(row)))
    for finding in sheet.findings:
        name = f"{finding.kind} {words.place(finding.path, finding.line)}".strip()
        wrong = ("failure", finding.kind, finding.text) if finding.severity == "high" else None
        cases.append(_Case("tampering", name, wrong, "" if wrong else finding.text))
    for extra in sheet.extras:
        wrong = None
        if extra.ok is None:
            wrong = ("skipped", "could not be run", extra.text)
        elif not extra.ok:
            wrong = ("failure", extra.command, extra.text)
        cases.append(_Case("checks", extra.name, wrong))
    if sheet.strength is not None:
        out = [words.strength_line(sheet.strength)]
        for mutant in sheet.strength.survivors:
            where, before, after = words.survivor(mutant)
            out += [f"{where} ({mutant.kind})", f"- {before}", f"+ {after}"]
        cases.append(_Case("strength", "small errors on the changed lines", None, "\n".join(out)))
    if sheet.coverage is not None:
        out = [words.coverage_line(sheet.coverage)]
        out += [f"{path}: {words.spans(lines)}" for path, lines in sheet.coverage.uncovered.items()]
        cases.append(_Case("strength", "changed lines that ran", None, "\n".join(out)))
    return cases
