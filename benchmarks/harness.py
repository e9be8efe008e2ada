"""What `pool` costs, as ratios to a floor that is measured in the same run.

    python -m benchmarks.harness [--rounds N] [--only first,turns,stream,fix] [--other CHECKOUT] [--json FILE]

CPU is user + system time of the whole process tree. The speed of a machine varies from minute to minute, so every
round measures the bare interpreter, the httpx floor (floor.py) and pool one after the other, and ratios are taken
within a round; the table shows medians of the rounds. README.md says what each line means.
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

from benchmarks import prompt, repository
from benchmarks.figures import Figure, Line, progress, render
from benchmarks.processes import adopt_orphans, measure
from benchmarks.server import Reply, Server, Session

ROOT = Path(__file__).parents[1]
DONE = Reply(text="Done.")
#: Pieces of the streamed reply: a real model sends one for each token.
PIECES = 10_000
CHECKS = ("--test", "true")


@dataclass(frozen=True, slots=True)
class Subject:
    """A version of pool: its name in the table and the checkout that it runs from."""

    name: str
    checkout: Path


@dataclass
class Bench:
    """Where the measuring happens, and what every measure gave in each round, by name."""

    server: Server
    scratch: Path
    large: Path
    small: Path
    subjects: list[Subject]
    turns: list[int]
    cpu: dict[str, list[float]] = field(default_factory=dict)
    rss: dict[str, list[float]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    def run(
        self, name: str, argv: Sequence[str], cwd: Path, *, checkout: Path = ROOT, terminal: bool = False
    ) -> None:
        """Measure a command and keep the figures under `name`. Raises SystemExit when it fails."""
        home = self.scratch / "home"
        home.mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "POOL_STATE": str(home / "state"),
            "PYTHONPATH": str(checkout),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        log = self.scratch / "output"
        session = self.server.session
        cost = measure(argv, cwd=cwd, env=env, log=log, terminal=terminal, started=session.started)
        shutil.rmtree(home)
        repository.tidy(cwd)
        if cost.exit_code != (-9 if session.stop else 0):
            sys.exit(f"{name} ended with {cost.exit_code}:\n{log.read_text(errors='replace')[-3000:]}")
        self.cpu.setdefault(name, []).append(cost.cpu)
        self.rss.setdefault(name, []).append(cost.rss)

    def plain(self, name: str, *argv: str) -> None:
        """Measure a command that asks no model."""
        self.server.session = Session([DONE])
        self.run(name, argv, self.small)

    def floor(self, name: str, replies: Sequence[Reply], mode: str, *, stop: bool = False) -> None:
        """Measure the httpx floor."""
        self.sessions[name] = self.server.session = Session(replies, stop)
        script = str(Path(__file__).with_name("floor.py"))
        self.run(name, [sys.executable, script, self.server.url, mode], self.small)

    def pool(
        self,
        subject: Subject,
        name: str,
        replies: Sequence[Reply],
        checks: Sequence[str] = CHECKS,
        *,
        small: bool = False,
        stop: bool = False,
        terminal: bool = False,
    ) -> None:
        """Measure `pool do`."""
        key = f"{subject.name} {name}"
        self.sessions[key] = self.server.session = Session(replies, stop)
        script = Path(sys.executable).with_name("pool")
        start = [str(script)] if script.exists() else [sys.executable, "-m", "poolcli"]
        model = ["--base-url", self.server.url, "--model", "bench"]
        argv = [*start, "do", repository.TASK, *model, "--max-turns", "0", *checks]
        where = self.small if small else self.large
        self.run(key, argv, where, checkout=subject.checkout, terminal=terminal)

    def __getitem__(self, name: str) -> Figure:
        """The CPU of a measure, in milliseconds."""
        return Figure.of(self.cpu[name])


# From the start to the first request, where the server ends the process: what had been used by then is exact.


def first(bench: Bench) -> None:
    """One round."""
    bench.plain("bare", sys.executable, "-c", "pass")
    bench.plain("checks", "/bin/bash", "-c", "true")
    bench.floor("floor first", [DONE], "talk", stop=True)
    for subject in bench.subjects:
        bench.pool(subject, "first", [DONE], stop=True)
        bench.pool(subject, "first, terminal", [DONE], stop=True, terminal=True)


def first_lines(bench: Bench) -> Iterator[Line]:
    """The lines of the starts; the checks' own CPU is taken out."""
    bare, floor = bench["bare"], bench["floor first"]
    yield Line("bare interpreter: python -c pass", bare)
    yield Line("floor: to the first request", floor, bare=bare)
    for name in (s.name for s in bench.subjects):
        yield Line(
            f"{name}: to the first request", bench[f"{name} first"] - bench["checks"], "ms", floor, bare, 1.33
        )
        shown = bench[f"{name} first, terminal"] - bench["checks"]
        yield Line(f"{name}: the same in a terminal", shown, "ms", floor, bare)
    for name in (s.name for s in bench.subjects):
        yield from _prompt_lines(name, bench.sessions[f"{name} first"].first)


def _prompt_lines(name: str, body: bytes) -> Iterator[Line]:
    size, token = prompt.measure(body), prompt.CHARACTERS
    yield Line(f"{name}: system prompt", size.system / token, "tokens")
    yield Line(f"{name}: tools", size.tools / token, "tokens")
    yield Line(f"{name}: instructions and tools", (size.system + size.tools) / token, "tokens", target=1300)
    yield Line(f"{name}: repository context", size.repository / token, "tokens", target=1500)
    yield Line(
        f"{name}: first request without that context", (size.total - size.repository) / token, "tokens"
    )
    yield Line(f"{name}: first request", size.total / token, "tokens")
    yield Line(f"{name}: first request, as sent", len(body), "bytes")


# Whole runs of 1 and of N shell turns; their difference is what N-1 turns cost.


def turns(bench: Bench) -> None:
    """One round."""
    for count in (1, *bench.turns):
        replies = [*(Reply((("shell", {"command": f"echo {17 + n}"}),)) for n in range(count)), DONE]
        bench.floor(f"floor talk {count}", replies, "talk")
        bench.floor(f"floor run {count}", replies, "run")
        for subject in bench.subjects:
            bench.pool(subject, str(count), replies)


def turns_lines(bench: Bench) -> Iterator[Line]:
    """CPU for each turn, its command included; memory; bytes that a prefix cache computes."""

    def turn(name: str, count: int) -> Figure:
        return (bench[f"{name} {count}"] - bench[f"{name} 1"]) * (1 / (count - 1))

    for n in bench.turns:
        yield Line(f"floor: a turn, of {n}", turn("floor run", n))
    for n in bench.turns:
        yield Line(f"floor: a turn without running its command, of {n}", turn("floor talk", n))
    last = bench.turns[-1]
    yield Line(f"floor: peak memory, {last} turns", Figure.of(bench.rss[f"floor run {last}"]), "MB")
    for name in (s.name for s in bench.subjects):
        for n in bench.turns:
            yield Line(f"{name}: a turn, of {n}", turn(name, n), "ms", turn("floor run", n), target=2.6)
        growth = turn(name, last) / turn(name, bench.turns[0])
        yield Line(f"{name}: a turn of {last} over one of {bench.turns[0]}", growth, "x", target=1.2)
        yield Line(f"{name}: peak memory, {last} turns", max(bench.rss[f"{name} {last}"]), "MB", target=60)
        for n in bench.turns:
            again = bench.sessions[f"{name} {n}"].reread
            yield Line(f"{name}: prompt computed over optimum, {n} turns", again, "x", target=1)


# A reply in one piece and in many: what each piece costs.


def stream(bench: Bench) -> None:
    """One round."""
    words = "The rounding is done too early, before the discount is. " * (PIECES // 10)
    for pieces in (1, PIECES):
        replies = [Reply(text=words, pieces=pieces)]
        bench.floor(f"floor stream {pieces}", replies, "talk")
        for subject in bench.subjects:
            bench.pool(subject, f"stream {pieces}", replies, small=True)
            bench.pool(subject, f"stream, terminal {pieces}", replies, small=True, terminal=True)


def stream_lines(bench: Bench) -> Iterator[Line]:
    """CPU for 1,000 pieces (tokens) of a reply, as they come."""

    def thousand(name: str) -> Figure:
        return (bench[f"{name} {PIECES}"] - bench[f"{name} 1"]) * (1000 / PIECES)

    floor = thousand("floor stream")
    yield Line("floor: 1,000 streamed pieces", floor)
    for name in (s.name for s in bench.subjects):
        yield Line(f"{name}: 1,000 streamed pieces", thousand(f"{name} stream"), "ms", floor)
        yield Line(f"{name}: the same in a terminal", thousand(f"{name} stream, terminal"), "ms", floor)
        peak = max(bench.rss[f"{name} stream, terminal {PIECES}"])
        yield Line(f"{name}: peak memory, {PIECES} pieces in a terminal", peak, "MB", target=60)


# A whole repair: three commands, read, edit, tests, answer. The tests run three times.

FIX = (
    *(Reply((("shell", {"command": c}),)) for c in ("git status --short", "ls", "grep -n return calc.py")),
    Reply((("read", {"path": "calc.py"}),)),
    Reply((("edit", {"path": "calc.py", "old": "return a - b", "new": "return a + b"}),)),
    Reply((("run_tests", {}),)),
    DONE,
)
#: -B: byte code is told from its source by second and size, and this repair takes less than a second.
TESTS = f"{sys.executable} -B -m unittest"


def fix(bench: Bench) -> None:
    """One round."""
    bench.plain("tests", "/bin/bash", "-c", f"{TESTS} || true")
    for subject in bench.subjects:
        bench.pool(subject, "fix", FIX, ("--test", TESTS), small=True)


def fix_lines(bench: Bench) -> Iterator[Line]:
    """CPU of the whole, with and without the tests' own."""
    for name in (s.name for s in bench.subjects):
        yield Line(f"{name}: a whole fix", bench[f"{name} fix"])
        yield Line(
            f"{name}: a whole fix, its 3 test runs taken out", bench[f"{name} fix"] - bench["tests"] * 3
        )


Part = tuple[Callable[[Bench], None], Callable[[Bench], Iterator[Line]]]
PARTS: dict[str, Part] = {
    "first": (first, first_lines),
    "turns": (turns, turns_lines),
    "stream": (stream, stream_lines),
    "fix": (fix, fix_lines),
}


def _scratch() -> Path | None:
    """Memory where there is some: on ext4 a file costs 0.07 ms to create, and up to eight times as much in the
    minute after others were deleted, which every run here does. That would be most of what is measured."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK | os.X_OK) else None


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=9, help="rounds of each part (a third of them for turns)"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure")
    parser.add_argument("--turns", default="50,200", help="lengths of the runs")
    parser.add_argument("--files", type=int, default=100, help="files of the generated repository")
    parser.add_argument(
        "--other", type=Path, help="a second checkout of pool, measured in turn with this one"
    )
    parser.add_argument(
        "--scratch", type=Path, default=_scratch(), help="where repositories and state are made"
    )
    parser.add_argument("--json", type=Path, help="write the lines here too")
    options = parser.parse_args(argv)
    subjects = [Subject("pool", ROOT)]
    if options.other:
        subjects.append(Subject("other", options.other.resolve()))
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="pool-bench-", dir=options.scratch) as folder:
        scratch = Path(folder)
        large = repository.commit(scratch / "large", repository.generate(options.files))
        small = repository.commit(scratch / "small", repository.BUG)
        bench = Bench(Server(), scratch, large, small, subjects, [int(n) for n in options.turns.split(",")])
        first(bench)  # fills the caches: byte code, files
        bench.cpu.clear()
        bench.rss.clear()
        for number in range(options.rounds):
            for name in names:
                if name != "turns" or number % 3 == 0:
                    PARTS[name][0](bench)
            progress(".")
        progress("\n")
        lines = [line for name in names for line in PARTS[name][1](bench)]
    where = options.scratch or tempfile.gettempdir()
    print(f"{options.rounds} rounds; {options.files} files in {where}; Python {sys.version.split()[0]}\n")
    print(render(lines))
    if options.json:
        options.json.write_text(json.dumps([line.as_json() for line in lines], indent=1) + "\n")


if __name__ == "__main__":
    main()
