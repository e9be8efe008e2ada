"""What `pool` costs, as ratios to a floor that is measured in the same run.

    python -m benchmarks.harness [--rounds 7] [--other CHECKOUT] [--files 100] [--json FILE]

CPU is user + system time of the whole process tree. The speed of a machine varies from minute to minute, so every
round measures the bare interpreter, the httpx floor (floor.py) and pool one after the other; the table shows the
best and the median of the rounds, and ratios of the best. README.md says what each line means.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import prompt, repository
from benchmarks.processes import Cost, adopt_orphans, measure
from benchmarks.server import Reply, Server, Session

ROOT = Path(__file__).parents[1]
FLOOR = [sys.executable, str(Path(__file__).with_name("floor.py"))]
DONE = Reply(text="Done.")
#: A streamed reply of so many pieces, about what a model of 50 tokens per second says in 20 seconds.
PIECES = 1000

FIX = (
    *(Reply((("shell", {"command": c}),)) for c in ("git status --short", "ls", "grep -n return calc.py")),
    Reply((("read", {"path": "calc.py"}),)),
    Reply((("edit", {"path": "calc.py", "old": "return a - b", "new": "return a + b"}),)),
    Reply((("run_tests", {}),)),
    DONE,
)


@dataclass(frozen=True)
class Subject:
    """A version of pool: its name in the table and the checkout that it runs from."""

    name: str
    checkout: Path

    def do(self, url: str, task: str, *more: str) -> list[str]:
        """The command of one run."""
        script = Path(sys.executable).with_name("pool")
        start = [str(script)] if script.exists() else [sys.executable, "-m", "poolcli"]
        return [*start, "do", task, "--base-url", url, "--model", "bench", "--max-turns", "0", *more]


@dataclass
class Bench:
    """Where the measuring happens, and all that was measured: milliseconds by name of the measure."""

    server: Server
    scratch: Path
    large: Path
    small: Path
    cpu: dict[str, list[float]] = field(default_factory=dict)
    rss: dict[str, list[float]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    def run(self, name: str, argv: Sequence[str], cwd: Path, *, checkout: Path = ROOT, terminal: bool = False) -> Cost:
        """Measure a command and keep the figures under `name`. Raises SystemExit when it fails."""
        home = self.scratch / "home"
        home.mkdir()
        env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TERM": "xterm-256color",
            "POOL_STATE": str(home / "state"), "PYTHONPATH": str(checkout), "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        log = self.scratch / "output"
        session = self.server.session
        cost = measure(argv, cwd=cwd, env=env, log=log, terminal=terminal, started=session.started)
        shutil.rmtree(home)
        repository.tidy(cwd)
        if cost.exit_code != (-9 if session.stop else 0):
            sys.exit(f"{name} ended with {cost.exit_code}:\n{log.read_text(errors='replace')[-3000:]}")
        self.cpu.setdefault(name, []).append(cost.cpu)
        self.rss.setdefault(name, []).append(cost.rss)
        return cost

    def play(self, name: str, replies: Sequence[Reply], *, stop: bool = False) -> str:
        """Make the server ready for the run `name`; its base URL."""
        self.sessions[name] = self.server.session = Session(replies, stop)
        return self.server.url

    def best(self, name: str) -> float:
        """The least of the rounds, in milliseconds."""
        return min(self.cpu[name])

    def middle(self, name: str) -> float:
        """The median of the rounds, in milliseconds."""
        return median(self.cpu[name])


def shell_turns(count: int) -> list[Reply]:
    """So many trivial turns, no two the same, and the end."""
    return [*(Reply((("shell", {"command": f"echo {17 + n}"}),)) for n in range(count)), DONE]


def first_requests(bench: Bench, subjects: Sequence[Subject]) -> None:
    """One round: the start of each up to its first request, where it is ended."""
    bench.server.session = Session([DONE])
    bench.run("interpreter", [sys.executable, "-c", "pass"], bench.small)
    bench.run("checks", ["/bin/bash", "-c", "true"], bench.small)
    bench.run("echo", ["/bin/bash", "-c", "echo 17"], bench.small)
    bench.run("floor first", [*FLOOR, bench.play("floor first", [DONE], stop=True), "talk"], bench.small)
    for subject in subjects:
        for name, terminal in (("first", False), ("first in a terminal", True)):
            key = f"{subject.name} {name}"
            argv = subject.do(bench.play(key, [DONE], stop=True), repository.TASK, "--test", "true")
            bench.run(key, argv, bench.large, checkout=subject.checkout, terminal=terminal)


def turns(bench: Bench, subjects: Sequence[Subject], counts: Sequence[int]) -> None:
    """One round: whole runs of 1 and of more shell turns."""
    for count in (1, *counts):
        for mode in ("talk", "run"):
            key = f"floor {mode} {count}"
            bench.run(key, [*FLOOR, bench.play(key, shell_turns(count)), mode], bench.small)
        for subject in subjects:
            key = f"{subject.name} {count}"
            argv = subject.do(bench.play(key, shell_turns(count)), repository.TASK, "--test", "true")
            bench.run(key, argv, bench.large, checkout=subject.checkout)


def streams(bench: Bench, subjects: Sequence[Subject]) -> None:
    """One round: a reply of one piece and one of many."""
    words = "The rounding is done too early, before the discount. " * 100
    for pieces in (1, PIECES):
        replies = [Reply(text=words, pieces=pieces)]
        key = f"floor stream {pieces}"
        bench.run(key, [*FLOOR, bench.play(key, replies), "talk"], bench.small)
        for subject in subjects:
            for word, terminal in (("stream", False), ("terminal stream", True)):
                key = f"{subject.name} {word} {pieces}"
                argv = subject.do(bench.play(key, replies), repository.TASK, "--test", "true")
                bench.run(key, argv, bench.small, checkout=subject.checkout, terminal=terminal)


def fixes(bench: Bench, subjects: Sequence[Subject]) -> None:
    """One round: a whole repair with three commands, read, edit, tests and the answer; its tests run three times."""
    # -B: byte code is told from its source by second and size, and this repair takes less than a second.
    tests = f"{sys.executable} -B -m unittest"
    bench.run("tests", ["/bin/bash", "-c", f"{tests} 2>&1 || true"], bench.small)
    for subject in subjects:
        key = f"{subject.name} fix"
        argv = subject.do(bench.play(key, FIX), "fix the failing test", "--test", tests)
        bench.run(key, argv, bench.small, checkout=subject.checkout)


@dataclass(frozen=True)
class Line:
    """One line of the table. `value` and `middle` are shown with `unit`; ratios are of the best rounds."""

    what: str
    value: float
    middle: float | None = None
    unit: str = "ms"
    floor: float | None = None
    target: float | None = None
    interpreter: float | None = None


def table(bench: Bench, subjects: Sequence[Subject], counts: Sequence[int]) -> list[Line]:
    """Everything that was measured, line by line."""
    bare = bench.best("interpreter")
    lines = [
        Line("python -c pass", bare, bench.middle("interpreter")),
        Line("httpx floor: first request", *_pair(bench, "floor first"), interpreter=bench.best("floor first") / bare),
    ]
    lines += [_turn_line(bench, f"httpx floor: a turn, of {n}", "floor run", n) for n in counts]
    lines += [_turn_line(bench, f"httpx floor: a turn without its command, of {n}", "floor talk", n) for n in counts]
    lines.append(Line(f"httpx floor: {PIECES} streamed pieces", *_stream(bench, "floor stream")))
    for subject in subjects:
        lines += _subject(bench, subject, counts)
    return lines


def _subject(bench: Bench, subject: Subject, counts: Sequence[int]) -> Iterator[Line]:
    name = subject.name
    bare, checks, floor = bench.best("interpreter"), bench.best("checks"), bench.best("floor first")
    for what, target in (("first", 1.33), ("first in a terminal", None)):
        cpu, mid = bench.best(f"{name} {what}") - checks, bench.middle(f"{name} {what}") - bench.middle("checks")
        label = what.replace("first", "first request", 1)
        yield Line(f"{name}: {label}", cpu, mid, floor=cpu / floor, target=target, interpreter=cpu / bare)
    for n in counts:
        own = _turn_line(bench, f"{name}: a turn, of {n}", name, n)
        yield Line(own.what, own.value, own.middle, floor=own.value / _turn(bench, "floor run", n, min), target=2.6)
    if len(counts) > 1:
        growth = _turn(bench, name, counts[-1], min) / _turn(bench, name, counts[0], min)
        yield Line(f"{name}: turns, {counts[-1]} to {counts[0]}", growth, unit="x", target=1.2)
    for word in ("stream", "terminal stream"):
        best, mid = _stream(bench, f"{name} {word}")
        where = "in a terminal" if "terminal" in word else "plain"
        yield Line(f"{name}: {PIECES} streamed pieces, {where}", best, mid, floor=best / _stream(bench, "floor stream")[0])
    tests = bench.best("tests")
    yield Line(f"{name}: a whole fix, its tests included", *_pair(bench, f"{name} fix"))
    yield Line(f"{name}: a whole fix, without its 3 test runs", bench.best(f"{name} fix") - 3 * tests)
    rss = bench.rss[f"{name} {counts[-1]}"]
    yield Line(f"{name}: peak memory, {counts[-1]} turns", max(rss), median(rss), unit="MB",
               floor=max(rss) / max(bench.rss["floor first"]), target=60)  # fmt: skip
    rss = bench.rss[f"{name} terminal stream {PIECES}"]
    yield Line(f"{name}: peak memory, in a terminal", max(rss), median(rss), unit="MB", target=60)
    yield from _prompt(name, bench, counts)


def _prompt(name: str, bench: Bench, counts: Sequence[int]) -> Iterator[Line]:
    size = prompt.measure(bench.sessions[f"{name} first"].first)
    tokens = [
        ("system prompt", size.system, None), ("tools", size.tools, None),
        ("instructions and tools", size.system + size.tools, 1300),
        ("repository context", size.repository, 1500),
        ("first request without repository context", size.total - size.repository, None),
        ("first request", size.total, None),
    ]  # fmt: skip
    for what, value, target in tokens:
        yield Line(f"{name}: {what}", value / prompt.CHARACTERS, unit="tokens", target=target)
    yield Line(f"{name}: first request", len(bench.sessions[f"{name} first"].first), unit="bytes")
    for n in counts:
        session = bench.sessions[f"{name} {n}"]
        yield Line(f"{name}: prompt computed over optimum, {n} turns", session.reread, unit="x", target=1.0)


def _pair(bench: Bench, name: str) -> tuple[float, float]:
    return bench.best(name), bench.middle(name)


def _turn(bench: Bench, name: str, count: int, of: Callable[[list[float]], float]) -> float:
    return (of(bench.cpu[f"{name} {count}"]) - of(bench.cpu[f"{name} 1"])) / (count - 1)


def _turn_line(bench: Bench, what: str, name: str, count: int) -> Line:
    return Line(what, _turn(bench, name, count, min), _turn(bench, name, count, median))


def _stream(bench: Bench, name: str) -> tuple[float, float]:
    many, one = f"{name} {PIECES}", f"{name} 1"
    return bench.best(many) - bench.best(one), bench.middle(many) - bench.middle(one)


def render(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    rows = [("measure", "best", "median", "x floor", "x interpreter", "target", "")]
    for line in lines:
        # A target of a line in milliseconds is a ratio to the floor: seconds mean nothing on another machine.
        reached = line.floor if line.unit == "ms" else line.value
        # 0.5 % for figures that are shown with two digits.
        verdict = "" if line.target is None or reached is None else "met" if reached <= line.target * 1.005 else "missed"
        target = "" if line.target is None else f"≤ {line.target:g}" + (" x" if line.unit == "ms" else f" {line.unit}")
        rows.append((
            line.what, f"{_number(line.value, line.unit)} {line.unit}", _number(line.middle, line.unit),
            _number(line.floor, "x"), _number(line.interpreter, "x"), target, verdict,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = [
        "| " + " | ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in rows
    ]
    rule = "| " + " | ".join("-" * w if not i else "-" * (w - 1) + ":" for i, w in enumerate(widths)) + " |"
    return "\n".join([text[0], rule, *text[1:]])


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if unit in ("tokens", "bytes") else f"{value:.2f}" if unit == "x" else f"{value:.1f}"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the short measures")
    parser.add_argument("--long-rounds", type=int, default=3, help="rounds of the runs with many turns")
    parser.add_argument("--turns", default="50,200", help="lengths of the runs")
    parser.add_argument("--files", type=int, default=100, help="files of the generated repository")
    parser.add_argument("--other", type=Path, help="a second checkout of pool to compare with")
    parser.add_argument("--json", type=Path, help="write the lines here too")
    options = parser.parse_args(argv)
    counts = [int(n) for n in options.turns.split(",")]
    subjects = [Subject("pool", ROOT)]
    if options.other:
        subjects.append(Subject("other", options.other.resolve()))
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="pool-bench-") as folder:
        scratch = Path(folder)
        large = repository.commit(scratch / "large", repository.generate(options.files))
        small = repository.commit(scratch / "small", repository.BUG)
        bench = Bench(Server(), scratch, large, small)
        first_requests(bench, subjects)  # the first round fills caches: byte code, files
        bench.cpu.clear()
        bench.rss.clear()
        for number in range(max(options.rounds, options.long_rounds)):
            if number < options.rounds:
                first_requests(bench, subjects)
                streams(bench, subjects)
                fixes(bench, subjects)
            if number < options.long_rounds:
                turns(bench, subjects, counts)
            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        lines = table(bench, subjects, counts)
    print(f"{options.rounds} rounds, {options.long_rounds} of the long runs; {options.files} files; "
          f"Python {sys.version.split()[0]}; best and median, ratios of the best\n")  # fmt: skip
    print(render(lines))
    if options.json:
        options.json.write_text(json.dumps([line.__dict__ for line in lines], indent=1) + "\n")


if __name__ == "__main__":
    main()
