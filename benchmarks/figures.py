"""Figures of several rounds, and the table that they are shown in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """What each round gave. Differences and quotients are taken round by round, of what was measured together."""

    rounds: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Iterable[float]) -> Figure:
        """The figure of these rounds."""
        return cls(tuple(rounds))

    @property
    def best(self) -> float:
        """The least."""
        return min(self.rounds)

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of what the middle half of the rounds spans; 0 for fewer than two."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / 2

    def __sub__(self, other: Figure) -> Figure:
        return Figure.of(a - b for a, b in zip(self.rounds, other.rounds, strict=True))

    def __mul__(self, factor: float) -> Figure:
        return Figure.of(a * factor for a in self.rounds)

    def __truediv__(self, other: Figure) -> Figure:
        return Figure.of(a / b for a, b in zip(self.rounds, other.rounds, strict=True))


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
    def figure(self) -> Figure:
        """The value, of one round when it is the same in all."""
        return self.value if isinstance(self.value, Figure) else Figure((self.value,))

    @property
    def reached(self) -> float:
        """What is held against the target: the median."""
        return (self.figure / self.floor if self.floor else self.figure).middle

    @property
    def met(self) -> bool | None:
        """Whether the target is reached, to the digits that are shown; None without one."""
        return None if self.target is None else self.reached < self.target + 0.005

    def as_json(self) -> dict[str, Any]:
        """The line for programs."""
        return {
            "what": self.what,
            "unit": self.unit,
            "rounds": self.figure.rounds,
            "floor": self.floor.rounds if self.floor else None,
            "target": self.target,
            "reached": self.reached,
            "met": self.met,
        }


HEAD = ("measure", "median", "best", "x floor", "±", "x bare", "target", "")


def render(lines: Sequence[Line]) -> str:
    """The table in Markdown. `x floor` and `x bare` are medians of the rounds' ratios, `±` what they spread."""
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
    ratio = line.figure / line.floor if line.floor else None
    bare = line.figure / line.bare if line.bare else None
    target = "" if line.target is None else f"≤ {line.target:g} {'x' if line.floor else line.unit}"
    return (
        line.what,
        f"{_number(line.figure.middle, line.unit)} {line.unit}",
        _number(line.figure.best, line.unit) if len(line.figure.rounds) > 1 else "",
        _number(ratio.middle, "x") if ratio else "",
        _number(ratio.spread, "x") if ratio else "",
        _number(bare.middle, "x") if bare else "",
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
