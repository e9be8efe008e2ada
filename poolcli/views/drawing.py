"""Blocks as rows of styled text of a given width. Imports rich, so only a terminal pays for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from poolcli.views.blocks import (
    Block,
    Change,
    DiffRow,
    Fact,
    Header,
    Note,
    Prose,
    Quote,
    Said,
    Step,
    Thought,
    Tone,
    Verdict,
)
from poolcli.views.phrases import plural

if TYPE_CHECKING:
    from rich.console import Console

STYLES: dict[Tone, str] = {"": "", "dim": "dim", "good": "green", "bad": "red", "warn": "yellow"}
MARKS = {
    "ok": ("·", "dim"),
    "good": ("✓", "bold green"),
    "bad": ("✗", "bold red"),
    "skip": ("·", "dim"),
}
NOTES = {"info": ("·", "dim"), "warning": ("!", "yellow"), "error": ("✗", "red")}

MARGIN = "  "
LABEL = 6  # `search`, the longest common label
QUOTE = "    │ "
WIDEST = 110  # longer lines are hard to read, on however wide a terminal
NARROWEST = 32  # below that the terminal's own wrapping does as well


class Pen:
    """Draws blocks for one console at one width."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self.width = max(NARROWEST, min(width, WIDEST))
        self._coloured = bool(console.color_system) and not console.no_color

    def rows(self, block: Block) -> list[Text]:
        """One block as rows, each within the width."""
        match block:
            case Header(task, facts):
                return self._header(task, facts)
            case Note(level, text):
                sign, style = NOTES[level]
                dim = "dim" if level == "info" else style
                return self._hanging(_lead(f"{MARGIN}{sign} ", style), Text(text, dim))
            case Prose(text):
                return self.prose(text)
            case Thought(text, more):
                return self.thought(text, more)
            case Said(text):
                return self._hanging(_lead(MARGIN + "› ", "bold cyan"), Text(text, "bold"))
            case Step():
                return [self._step(block)]
            case Change():
                return self._change(block)
            case Quote(rows, above, below, tone):
                style = STYLES[tone]
                shown = [
                    *_left_out(above),
                    *(Text(row.expandtabs(4), style) for row in rows),
                    *_left_out(below),
                ]
                return [self._clip(_lead(QUOTE, "dim").append_text(row)) for row in shown]
            case Verdict():
                return self._verdict(block)

    def thought(self, text: str, more: int = 0) -> list[Text]:
        """Reasoning: dim and italic."""
        words = Text(text, "italic dim")
        if more:
            words.append(f" … {plural(more, 'more line')}", "dim")
        return self._hanging(_lead(MARGIN + "~ ", "dim"), words)

    def prose(self, text: str) -> list[Text]:
        """What the model said, with the lightest of Markdown: headings, lists, code, bold."""
        rows: list[Text] = []
        fence, language = False, ""
        for line in text.split("\n"):
            if mark := _FENCE.match(line):
                fence, language = not fence, mark[1]
                continue
            if fence:
                code = self._highlight(f"x.{_SUFFIX.get(language, language)}", line.expandtabs(4))
                rows.append(self._clip(_lead(QUOTE, "dim").append_text(code)))
            else:
                rows += self._sentence(line.expandtabs(4))
        return rows

    def _sentence(self, line: str) -> list[Text]:
        found = re.match(r"( *)(?:(#{1,6}) +|([-*•]|\d{1,3}[.)]) +)?(.*)", line)
        assert found is not None
        indent, heading, bullet, words = found[1], found[2], found[3], found[4]
        lead = Text(MARGIN + indent)
        if bullet:
            lead.append(("•" if bullet in "-*•" else bullet) + " ", "cyan")
        return self._hanging(lead, self._inline(words, "bold" if heading else ""))

    def _inline(self, words: str, style: str) -> Text:
        text = Text(style=style)
        for piece in re.split(r"(`[^`]+`|\*\*\S(?:[^*]*\S)?\*\*)", words):
            if piece.startswith("`") and len(piece) > 2:
                text.append(piece[1:-1] if self._coloured else piece, "cyan")
            elif piece.startswith("**") and len(piece) > 4:
                text.append(piece[2:-2], "bold")
            else:
                text.append(piece)
        return text

    def _hanging(self, lead: Text, words: Text) -> list[Text]:
        """Words wrapped behind a lead; further rows are indented as far."""
        room = max(4, self.width - lead.cell_len)
        indent = Text(" " * lead.cell_len)
        rows = words.wrap(self._console, room, overflow="fold") if words.plain else [words]
        return [_joined(lead if i == 0 else indent, row) for i, row in enumerate(rows)]

    def _clip(self, row: Text) -> Text:
        row.truncate(self.width, overflow="ellipsis")
        return row

    def _header(self, task: str, facts: tuple[tuple[str, str], ...]) -> list[Text]:
        rows = [Text(), *self._hanging(_lead(MARGIN + "pool  ", "bold cyan"), Text(task, "bold"))]
        return [*rows, Text(), *self._facts(facts, {})]

    def _facts(self, facts: tuple[tuple[str, str], ...], styles: dict[str, str]) -> list[Text]:
        wide = max((len(name) for name, _ in facts), default=0)
        rows: list[Text] = []
        for name, value in facts:
            lead = _lead(f"{MARGIN}{name:<{wide}}  ", "dim")
            rows += self._hanging(lead, Text(value, styles.get(name, "")))
        return rows

    def _step(self, step: Step) -> Text:
        sign, style = MARKS[step.mark]
        row = _lead(f"{MARGIN}{sign} ", style)
        row.append(f"{step.label:<{LABEL}}", "bold red" if step.mark == "bad" else "bold")
        facts = [_fact(fact) for fact in step.facts]
        room = self.width - row.cell_len - 2 - sum(fact.cell_len + 2 for fact in facts)
        if step.subject:
            # The facts say how it went: the subject gives way first.
            row.append("  " + _short(step.subject, max(room, 10)))
        for fact in facts:
            row.append("  ").append_text(fact)
        return self._clip(row)

    def _change(self, change: Change) -> list[Text]:
        digits = max((len(str(row.number)) for row in change.rows), default=1)
        code = self._highlight(change.path, "\n".join(row.text for row in change.rows)).split(
            "\n", allow_blank=True
        )
        rows = []
        for (row, changed), text in zip(_with_changes(change.rows), code, strict=False):
            lead = _lead(QUOTE, "dim")
            if row.kind == "…":
                rows.append(lead.append("…", "dim"))
                continue
            style = {"+": "green", "-": "red"}.get(row.kind, "dim")
            lead.append(f"{row.number:>{digits}} {'−' if row.kind == '-' else row.kind} ", style)
            if row.kind != " ":
                text.stylize(style if not self._coloured else "")
                text.stylize(f"bold {style}", *changed)
            rows.append(self._clip(lead.append_text(text)))
        return rows + [_lead(QUOTE, "dim").append_text(row) for row in _left_out(change.more)]

    def _highlight(self, path: str, code: str) -> Text:
        if not self._coloured:
            return Text(code)
        return _highlighted(path.rpartition("/")[2], code).copy()

    def _verdict(self, verdict: Verdict) -> list[Text]:
        style = STYLES[verdict.tone]
        head = _lead(MARGIN + "━━ ", style).append(verdict.word, f"bold {style}").append(" ")
        head.append("━" * max(0, self.width - head.cell_len - len(MARGIN)), style)
        rows = [head, Text(), *self._facts(verdict.facts, {"tests": f"bold {style}"})]
        if verdict.next:
            wide = max(len(command) for command, _ in verdict.next)
            rows.append(Text())
            for command, purpose in verdict.next:
                lead = _lead(f"{MARGIN}{command:<{wide}}   ", "bold cyan")
                rows += self._hanging(lead, Text(purpose, "dim"))
        return [*rows, Text()]


#: File suffixes of the languages that models name in fences.
_SUFFIX = {
    "python": "py",
    "javascript": "js",
    "typescript": "ts",
    "rust": "rs",
    "bash": "sh",
    "shell": "sh",
    "ruby": "rb",
}


_FENCE = re.compile(r"\s*(?:```|~~~)\s*([\w+#.-]*)")


def in_fence(text: str) -> bool:
    """Whether a text ends inside a code block."""
    return sum(1 for line in text.split("\n") if _FENCE.match(line)) % 2 == 1


@lru_cache(maxsize=64)
def _highlighted(name: str, code: str) -> Text:
    """Code in the terminal's own palette, so that it reads on dark and light backgrounds."""
    from rich.syntax import Syntax

    lexer = Syntax.guess_lexer(name)
    if lexer == "default":
        return Text(code)
    text = Syntax(code, lexer, theme="ansi_dark", background_color="default").highlight(code)
    # highlight() may add or drop a last line end.
    text.rstrip()
    return text if text.plain == code.rstrip() else Text(code)


def _lead(text: str, style: str) -> Text:
    """The beginning of a row. Its style is a span: a Text's own would reach over all that is appended."""
    return Text().append(text, style)


def _joined(lead: Text, row: Text) -> Text:
    whole = lead.copy().append_text(row)
    whole.rstrip()
    return whole


def _fact(fact: Fact) -> Text:
    return Text(" ").join(Text(text, STYLES[tone]) for text, tone in fact)


def _short(text: str, room: int) -> str:
    return text if cell_len(text) <= room else set_cell_size(text, room - 1).rstrip() + "…"


def _left_out(number: int) -> list[Text]:
    return [Text(f"… {plural(number, 'more line')}", "dim")] if number else []


def _with_changes(rows: tuple[DiffRow, ...]) -> Iterator[tuple[DiffRow, tuple[int, int]]]:
    """Each row with the part of it that differs from its partner on the other side of the change."""
    partner: dict[int, int] = {}
    start = 0
    while start < len(rows):
        removed = _run(rows, start, "-")
        added = _run(rows, removed, "+")
        if removed - start == added - removed:
            for i in range(start, removed):
                partner[i], partner[i + removed - start] = i + removed - start, i
        start = max(added, start + 1)
    for i, row in enumerate(rows):
        yield row, _differing(row.text, rows[partner[i]].text) if i in partner else (0, 0)


def _run(rows: tuple[DiffRow, ...], start: int, kind: str) -> int:
    while start < len(rows) and rows[start].kind == kind:
        start += 1
    return start


def _differing(text: str, other: str) -> tuple[int, int]:
    """Where a text differs from another: without their common beginning and end."""
    shortest = min(len(text), len(other))
    start = next((i for i in range(shortest) if text[i] != other[i]), shortest)
    end = next((i for i in range(shortest - start) if text[-1 - i] != other[-1 - i]), shortest - start)
    return start, len(text) - end
