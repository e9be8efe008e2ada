"""Reads TAP (the Test Anything Protocol), versions 12 to 14: node, Perl, bats and others.

A line `ok 1 - name` is a test. Subtests stand before their parent's line, indented by four, and are named
`parent > child` here. A plan (`1..3`) that is not fulfilled says that the run broke off.
"""

from __future__ import annotations

import re

from poolcli.verdict.reports.collecting import LOOKED_AT, Collector
from poolcli.verdict.results import BAD, Results

_TEST = re.compile(r"( *)(not )?ok\b(?: +([0-9]{1,9}))?(?: +-)? ?(.*)\Z")
_PLAN = re.compile(r"( *)1\.\.([0-9]{1,9})(?: *#.*)?\Z")
_SUBTEST = re.compile(r"( *)# Subtest(?:: (.*))?\Z")
_BAIL = re.compile(r" *Bail out!\s*(.*)\Z")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)\w*\s*(.*)\Z", re.I)
_DURATION = re.compile(r"duration_ms: ([0-9.]+)")
_LOCATION = re.compile(r"location: '(.+?):[0-9]+:[0-9]+'")
#: Longer lines are no results.
_LONGEST = 4000
#: Spaces of one level.
_STEP = 4
_DEEPEST = 50


class _Level:
    """The results at one depth that have no parent yet."""

    def __init__(self) -> None:
        self.seen = 0
        self.plan = -1
        self.pending: list[_Found] = []


class _Found:
    """A result and the path of titles below the level that it stands on."""

    __slots__ = ("extra", "outcome", "path", "suite")

    def __init__(self, path: tuple[str, ...], outcome: str) -> None:
        self.path = path
        self.outcome = outcome
        self.extra: list[str] = []
        self.suite = False


def parse(output: str, root: str, *, prefix: str = "", source: str = "tap") -> Results | None:
    """The cases of a TAP stream, or None when there is none in it. `prefix` begins every id."""
    levels: dict[int, _Level] = {}
    open_titles: dict[int, str] = {}
    last: _Found | None = None
    in_yaml = False
    bail = ""
    room = 0
    for line in output.split("\n"):
        if len(line) > _LONGEST:
            continue
        stripped = line.lstrip(" ")
        if in_yaml:
            if stripped == "...":
                in_yaml = False
                continue
            if not (_TEST.match(line) and not line.startswith("  ")) and not line.startswith("# Subtest"):
                if last is not None and room > 0:
                    last.extra.append(line)
                    room -= len(line)
                continue
            in_yaml = False
        if stripped.startswith("---"):
            in_yaml = last is not None and stripped == "---"
        elif stripped.startswith(("ok", "not ok")) and (match := _TEST.match(line)):
            depth = min(len(match[1]) // _STEP, _DEEPEST)
            level = levels.setdefault(depth, _Level())
            title, outcome = _judged(match[4], bool(match[2]))
            title = title or open_titles.get(depth, "") or f"test {match[3] or level.seen + 1}"
            for deeper in [at for at in open_titles if at >= depth]:
                del open_titles[deeper]
            level.seen += 1
            last, room = _Found((title,), outcome), LOOKED_AT
            below = levels.pop(depth + 1, None)
            if below is not None:
                for found in below.pending:
                    found.path = (title, *found.path)
                level.pending += below.pending
                # A parent is a test of its own unless it only groups others.
                last.suite = bool(below.pending)
            level.pending.append(last)
        elif match := _PLAN.match(line):
            levels.setdefault(min(len(match[1]) // _STEP, _DEEPEST), _Level()).plan = int(match[2])
        elif match := _SUBTEST.match(line):
            open_titles[min(len(match[1]) // _STEP, _DEEPEST)] = match[2] or ""
        elif match := _BAIL.match(line):
            bail = match[1] or "no reason given"
            break
        elif stripped.startswith("#") and last is not None and room > 0:
            last.extra.append(stripped[1:])  # Perl's diagnostics come after the result
            room -= len(line)
    if not levels or not any(level.pending or level.plan >= 0 for level in levels.values()):
        return None
    return _results(levels, open_titles, bail, root, prefix, source)


def _judged(text: str, failed: bool) -> tuple[str, str]:
    """Title and outcome of a result's line."""
    directive = _DIRECTIVE.search(text)
    title = (
        (text[: directive.start()] if directive else text).strip().replace("\\#", "#").replace("\\\\", "\\")
    )
    if directive and directive[1].lower() == "skip":
        return title or directive[2].strip(), "skipped"
    if directive:
        return title, "xfailed" if failed else "xpassed"
    return title, "failed" if failed else "passed"


def _results(
    levels: dict[int, _Level], open_titles: dict[int, str], bail: str, root: str, prefix: str, source: str
) -> Results:
    collector = Collector(root, source)
    problem = crashed = running = ""
    for depth in sorted(levels):
        level = levels[depth]
        # Results that never got their parent's line: the parent was running.
        parents = tuple(open_titles[at] for at in range(depth) if at in open_titles)
        for found in level.pending:
            _add(collector, (*parents, *found.path), found, root, prefix)
        if depth == 0 and level.plan >= 0 and level.seen != level.plan and not problem:
            problem = f"{level.plan} tests were planned and {level.seen} reported: the run broke off"
            problem += f" ({prefix})" if prefix else ""
    if open_titles:
        running = " > ".join(open_titles[at] for at in sorted(open_titles))
        running = f"{prefix} > {running}" if prefix else running
    if 0 not in levels or levels[0].plan < 0:
        problem = problem or "the report has no plan: the run broke off"
    if bail:
        crashed = f"bailed out: {bail[:200]}"
    return collector.results(problem, running, crashed)


def _add(collector: Collector, path: tuple[str, ...], found: _Found, root: str, prefix: str) -> None:
    extra = "\n".join(found.extra)
    grouping = "type: 'suite'" in extra
    if found.suite and grouping and (found.outcome not in BAD or "subtestsFailed" in extra):
        return
    file = (match[1] if (match := _LOCATION.search(extra)) else "") or (prefix if "." in prefix else "")
    duration = _DURATION.search(extra)
    try:
        seconds = float(duration[1]) / 1000 if duration else 0.0
    except ValueError:
        seconds = 0.0
    # Durations would make the text another one in every run.
    lines = [line for line in found.extra if not line.lstrip().startswith("duration_ms: ")]
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    text = "\n".join(line[margin:] for line in lines) if found.outcome in (*BAD, "xfailed") else ""
    collector.add(" > ".join(filter(None, (prefix, *path))), found.outcome, text, seconds, file)
