"""Figures of several rounds, and the table that they are shown in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """What several rounds gave: the least and the median. Differences and quotients are taken of each."""

    best: float
    middle: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Figure:
        """The figure of these rounds."""
        return cls(min(rounds), median(rounds))

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.best - other.best, self.middle - other.middle)

    def __mul__(self, factor: float) -> Figure:
        return Figure(self.best * factor, self.middle * factor)

    def __truediv__(self, other: Figure) -> Figure:
        return Figure(self.best / other.best, self.middle / other.middle)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. A `target` is a bound of the ratio to `floor` when there is one, else of the value."""

    what: str
    value: Figure | float
    unit: str = "ms"
    floor: Figure | None = None
    bare: Figure | None = None
    target: float | None = None

    @property
    def reached(self) -> float | None:
        """What is held against the target."""
        if self.floor is not None and isinstance(self.value, Figure):
            return (self.value / self.floor).best
        return self.value.best if isinstance(self.value, Figure) else self.value

    @property
    def met(self) -> bool | None:
        """Whether the target is reached, to the digits that are shown; None without one."""
        return None if self.target is None or self.reached is None else self.reached < self.target + 0.005

    def as_json(self) -> dict[str, Any]:
        """The line for programs."""
        return {**asdict(self), "reached": self.reached, "met": self.met}


HEAD = ("measure", "best", "median", "x floor", "medians", "x bare", "target", "")


def render(lines: Sequence[Line]) -> str:
    """The table in Markdown. `x floor` is the ratio of the best rounds, `medians` that of the medians."""
    rows = [HEAD, *map(_row, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    text = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in rows]
    rule = ["-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([text[0], "| " + " | ".join(rule) + " |", *text[1:]])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        c.rjust(w) if column else c.ljust(w) for column, (c, w) in enumerate(zip(row, widths, strict=True))
    ]


def _row(line: Line) -> tuple[str, ...]:
    value = line.value if isinstance(line.value, Figure) else Figure(line.value, line.value)
    ratio = value / line.floor if line.floor else None
    bare = value / line.bare if line.bare else None
    target = "" if line.target is None else f"≤ {line.target:g} {'x' if line.floor else line.unit}"
    return (
        line.what,
        f"{_number(value.best, line.unit)} {line.unit}",
        _number(value.middle, line.unit) if isinstance(line.value, Figure) else "",
        _number(ratio.best, "x") if ratio else "",
        _number(ratio.middle, "x") if ratio else "",
        _number(bare.best, "x") if bare else "",
        target,
        {True: "met", False: "missed", None: ""}[line.met],
    )


def _number(value: float, unit: str) -> str:
    return (
        f"{value:.0f}" if unit in ("tokens", "bytes") else f"{value:.2f}" if unit == "x" else f"{value:.1f}"
    )


def progress(text: str) -> None:
    """Show that something goes on, where a person may be watching."""
    print(text, end="", file=sys.stderr, flush=True)
