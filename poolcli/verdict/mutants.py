"""How strong the tests are where the change is: small errors are put in, one at a time, and should be noticed.

The caller decides where the tests run and gives a callable; `Scratch` is one for a copy of the project in a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from poolcli import beneath

if TYPE_CHECKING:
    from types import CodeType

    from poolcli.process import Finished

#: A mutant may take this many times as long as the unchanged code before it counts as endless: enough for a machine
#: whose other core gets busy meanwhile …
SLOWER = 4.0
#: … and this many seconds more, so that tests of a few milliseconds are not at the mercy of the scheduler.
GRACE = 5.0

#: Characters of a file that is mutated at all; longer ones are generated.
MAX_SOURCE = 1_000_000
#: Bytes of as many characters.
_MOST = 4 * MAX_SOURCE

#: Tries before the rest is given up when so many could not be judged in a row: then it is not for the mutants.
HOPELESS = 10

#: Runs the tests with these files (path to text) in place of the project's. True: they pass. False: they fail or
#: take too long. None: nothing could be tested, because it does not build or the run broke off.
Run = Callable[[Mapping[str, str]], Awaitable[bool | None]]

#: Runs tests, for at most so many seconds.
Command = Callable[[float], "Awaitable[Finished]"]

_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|__tests__|spec|specs|e2e|conftest\.py)(?:/|$)"
    r"|(?:^|/)test_[^/]*$|[._-](?:test|spec|tests)\.\w+$|Tests?\.(?:java|kt)$"
)


class Mutant(Struct, frozen=True):
    """One small error: the characters `start` to `end` of the file are replaced by `new`.

    `line` is its line from 1, `kind` what was changed (comparison, boolean, arithmetic, constant, negation,
    condition, return, value, argument, keyword, call, text, statement, loop); `before` and `after` are that line
    without and with it.
    """

    path: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int
    new: str

    def apply(self, text: str) -> str:
        """The file with the error in it."""
        return text[: self.start] + self.new + text[self.end :]

    @property
    def diff(self) -> str:
        """The line before and after, as in a diff."""
        return f"-{self.before}\n+{self.after}"


class Strength(Struct, frozen=True):
    """What the tests noticed.

    `possible` mutants were found on the changed lines, `tried` of them could be judged, `killed` were noticed;
    `broken` did not build. `survivors` were not noticed, in the order of their files and lines. `problem` says why
    there is no figure, or why it is based on less than was asked for; '' when all is well.
    """

    possible: int = 0
    tried: int = 0
    killed: int = 0
    broken: int = 0
    survivors: tuple[Mutant, ...] = ()
    problem: str = ""

    @property
    def rate(self) -> float | None:
        """The share that was noticed, 0 to 1; None when nothing was tried."""
        return self.killed / self.tried if self.tried else None


def is_mutable(path: str) -> bool:
    """Whether a file is source in a language that is known here, and no test."""
    from poolcli.verdict.token_mutants import FAMILIES

    suffix = Path(path).suffix
    return (suffix == ".py" or suffix in FAMILIES) and not _TESTS.search(path)


def mutants(path: str, text: str, lines: Collection[int]) -> list[Mutant]:
    """All mutants on these lines (from 1) of a file, by place. Python's compile and differ from the original."""
    made = _candidates(path, text, lines)
    return _that_differ(text, made) if path.endswith(".py") else made


def _candidates(path: str, text: str, lines: Collection[int]) -> list[Mutant]:
    if len(text) > MAX_SOURCE or not lines:
        return []
    suffix = Path(path).suffix
    if suffix == ".py":
        from poolcli.verdict import python_mutants

        found = python_mutants.edits(text, lines)
    else:
        from poolcli.verdict import token_mutants

        found = token_mutants.edits(text, lines, suffix)
    # The same change can be found twice, `(not x)` as a condition and inside of one.
    return [_mutant(path, text, *edit) for edit in sorted({edit[:3]: edit for edit in found}.values())]


def choose(found: Sequence[Mutant], most: int, seed: str = "") -> list[Mutant]:
    """At most `most` of them: always the same ones, on as many lines and of as many kinds as can be.

    No line gets a second before all have one; on a line goes first what it has fewest of already, then what all
    lines together have fewest of. `seed` gives another choice. The result is in the order of files and lines.
    """
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in sorted(found, key=lambda m: (m.path, m.line, _order(m, seed))):
        lines.setdefault((mutant.path, mutant.line), []).append(mutant)
    left = list(lines.values())
    chosen: list[Mutant] = []
    of_kind: Counter[str] = Counter()
    of_line: Counter[tuple[str, int, str]] = Counter()

    def rarest(candidates: list[Mutant]) -> Mutant:
        return min(candidates, key=lambda m: (of_line[m.path, m.line, m.kind], of_kind[m.kind]))

    while left and len(chosen) < most:
        room = most - len(chosen)
        # Too many lines for what is left: those at equal distances, from the first to the last.
        some = left if len(left) <= room else [left[n * len(left) // room] for n in range(room)]
        for candidates in some:
            mutant = rarest(candidates)
            candidates.remove(mutant)
            chosen.append(mutant)
            of_kind[mutant.kind] += 1
            of_line[mutant.path, mutant.line, mutant.kind] += 1
        left = [candidates for candidates in left if candidates]
    return sorted(chosen, key=_place)


def time_limit(plain: float) -> float:
    """Seconds for the tests of one mutant when those of the unchanged code took `plain`."""
    return plain * SLOWER + GRACE


async def strength(
    sources: Mapping[str, str],
    changed: Mapping[str, Collection[int]],
    run: Run,
    *,
    most: int,
    seed: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Strength:
    """Try at most `most` mutants on the changed lines of `sources` (path to text), one after the other.

    `changed` gives the line numbers by path; tests and languages that are not known are passed over. The unchanged
    code is tried first: where its tests fail, every mutant would seem to be noticed. `progress` is told how many
    are done, of how many.
    """
    found = [
        mutant
        for path in sorted(set(sources) & set(changed))
        if is_mutable(path)
        for mutant in _candidates(path, sources[path], changed[path])
    ]
    found, chosen = _chosen(sources, found, most, seed)
    if not chosen:
        return Strength(
            possible=len(found), problem="" if found else "nothing on the changed lines can be mutated"
        )
    if await run({}) is not True:
        return Strength(possible=len(found), problem="the tests do not pass without a mutant")
    survivors: list[Mutant] = []
    killed = broken = row = 0
    problem = ""
    for number, mutant in enumerate(chosen, 1):
        passed = await run({mutant.path: mutant.apply(sources[mutant.path])})
        row = row + 1 if passed is None else 0
        if passed is None:
            broken += 1
        elif passed:
            survivors.append(mutant)
        else:
            killed += 1
        if progress is not None:
            progress(number, len(chosen))
        if row == HOPELESS and row < len(chosen):
            problem = f"given up after {row} mutants in a row that could not be tested"
            break
    if broken and not (killed or survivors):
        problem = problem or "no mutant could be tested"
    elif killed and await run({}) is not True:
        # Something that a mutant left behind makes the tests fail: none of the kills can be trusted.
        return Strength(
            possible=len(found), problem="the tests no longer pass after the mutants were taken out"
        )
    return Strength(len(found), killed + len(survivors), killed, broken, tuple(survivors), problem)


class _Near:
    """The tests that lie near a file: how to run them, and what is known of that."""

    def __init__(self, command: Command) -> None:
        self.command = command
        #: Seconds that they take without a mutant; None before the first time.
        self.plain: float | None = None
        #: False when they fail by themselves.
        self.usable = True


class Scratch:
    """Runs the tests in a copy of the project: files are put in, the command is run, files are put back.

    `command(timeout)` runs all tests in `folder`, best so that it stops at the first failure. The first call takes
    the unchanged code's time, at most `timeout` seconds; the others get `time_limit` of it. `near` gives, by path,
    a command for the tests that lie near that file: they run first, and all others only when they notice nothing.
    """

    def __init__(
        self, folder: Path, command: Command, *, timeout: float, near: Mapping[str, Command] | None = None
    ) -> None:
        self._folder, self._command, self._timeout = folder, command, timeout
        self._near = {path: _Near(command) for path, command in (near or {}).items()}
        self._plain: float | None = None
        self._clock = 0

    async def __call__(self, files: Mapping[str, str]) -> bool | None:
        """Run the tests with these files in place. Raises OSError when they cannot be written."""
        near = self._near.get(next(iter(files))) if len(files) == 1 else None
        if near is not None and near.usable and (passed := await self._first(files, near)) is not True:
            return passed
        passed, seconds = await self._run(files, self._command, self._plain)
        if self._plain is None and not files:
            self._plain = seconds
        return passed

    async def _first(self, files: Mapping[str, str], near: _Near) -> bool | None:
        """Only the tests near by. True, they notice nothing, also when it turns out that they cannot be trusted."""
        limit = self._plain if near.plain is None else near.plain
        passed, _ = await self._run(files, near.command, limit)
        if passed is False and near.plain is None:
            # Some tests fail when others do not run before them: then it was not for the mutant.
            near.usable, near.plain = await self._alone(near)
        return passed if near.usable else True

    async def _alone(self, near: _Near) -> tuple[bool, float]:
        passed, seconds = await self._run({}, near.command, self._plain)
        return passed is True, seconds

    async def _run(
        self, files: Mapping[str, str], command: Command, plain: float | None
    ) -> tuple[bool | None, float]:
        """Whether the command passes with these files in place, and the seconds that it took."""
        kept = {path: self._read(path) for path in files}
        try:
            for path, text in files.items():
                self._put(path, text.encode("utf-8", "surrogateescape"))
            limit = self._timeout if plain is None else min(self._timeout, time_limit(plain))
            finished = await command(limit)
        finally:
            for path, data in kept.items():
                self._put(path, data)
        if finished.timed_out:
            return False, finished.seconds
        # Python's mutants were compiled before: what their tests print of errors is not about the build.
        built = all(path.endswith(".py") for path in files)
        if not built and finished.exit_code and does_not_build(finished.output):
            return None, finished.seconds
        # Ended from outside (out of memory, say): the mutant did that to itself, since the plain run did not.
        return finished.exit_code == 0, finished.seconds

    @contextlib.contextmanager
    def _opened(self) -> Iterator[beneath.Folder]:
        """The copy: the tests may have made links, FIFOs and folders of its files. Raises OSError only."""
        try:
            with beneath.Folder(self._folder) as folder:
                yield folder
        except beneath.PathRefused as refused:
            raise OSError(str(refused)) from refused

    def _read(self, path: str) -> bytes:
        with self._opened() as folder:
            return folder.read(path, _MOST)

    def _put(self, path: str, data: bytes) -> None:
        """Write a file so that every tool sees that it changed.

        Python takes compiled code for current when the source's size and its time in whole seconds are as before,
        and both can be: `<` for `>`, twice in a second. So the time goes forward by seconds, and the compiled file
        goes.
        """
        with self._opened() as folder:
            try:
                folder.replace(path, data)
            except (beneath.NotRegular, beneath.PathRefused):
                folder.remove(path)  # a FIFO, or a link out of the copy, which a test put there
                folder.replace(path, data)
            written = folder.open(path)
            try:
                self._clock = max(self._clock + 2, int(os.fstat(written).st_mtime))
                os.utime(written, (self._clock, self._clock))
            finally:
                os.close(written)
            _forget_compiled(folder, path)


def _forget_compiled(folder: beneath.Folder, path: str) -> None:
    """Remove what Python compiled of a file: where that lies behind a link, it is not this copy's."""
    source = PurePosixPath(path)
    cache = str(source.parent / "__pycache__")
    with contextlib.suppress(OSError, beneath.PathRefused):
        if folder.real(cache) != cache:
            return
        for name in folder.names(cache):
            if name.startswith(f"{source.stem}.") and name.endswith(".pyc"):
                folder.remove(f"{cache}/{name}")


#: What compilers and build tools say when there is nothing to test.
_NO_BUILD = re.compile(
    r"\[(?:build|setup) failed\]|^error: could not compile|COMPILATION (?:ERROR|FAILURE)|Compilation failed"
    r"|^\S+\.(?:c|h|cc|cpp|cxx|hh|hpp):\d+:\d+: (?:fatal )?error:|^\S+\.java:\d+: error:"
    r"|error TS\d+:|^SyntaxError: |^\s*SyntaxError: .*\n\s+at ",
    re.MULTILINE,
)


def does_not_build(output: str) -> bool:
    """Whether a failed run's output says that the code could not even be built."""
    return bool(_NO_BUILD.search(output))


def _chosen(
    sources: Mapping[str, str], found: list[Mutant], most: int, seed: str
) -> tuple[list[Mutant], list[Mutant]]:
    """What is left of the mutants, and the choice of them, without those of Python that are none.

    To compile a file once for each of its mutants takes long where much was changed: only the chosen are tried.
    """
    good: set[Mutant] = set()
    while True:
        chosen = choose(found, most, seed)
        bad: set[Mutant] = set()
        for path in {mutant.path for mutant in chosen if mutant.path.endswith(".py")}:
            unknown = [mutant for mutant in chosen if mutant.path == path and mutant not in good]
            good.update(_that_differ(sources[path], unknown))
            bad.update(mutant for mutant in unknown if mutant not in good)
        if not bad:
            return found, chosen
        found = [mutant for mutant in found if mutant not in bad]


def _mutant(path: str, text: str, start: int, end: int, new: str, kind: str) -> Mutant:
    """The mutant of an edit, with its line as it is shown before and after."""
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", start)
    last = len(text) if last < 0 else last
    changed = text[:start] + new + text[end:]
    after_end = changed.find("\n", start + len(new))
    after = changed[first : len(changed) if after_end < 0 else after_end]
    line = text.count("\n", 0, start) + 1
    return Mutant(path, line, kind, text[first:last].rstrip("\r"), after.rstrip("\r"), start, end, new)


def _that_differ(text: str, made: list[Mutant]) -> list[Mutant]:
    """Those of Python that compile, and to something else than the original does."""
    original = _compiled(text)
    return [
        mutant for mutant in made if (code := _compiled(mutant.apply(text))) is not None and code != original
    ]


def _compiled(text: str) -> CodeType | None:
    import warnings

    with warnings.catch_warnings():
        # `x is not 1` and the like: what a mutant looks like is nobody's concern.
        warnings.simplefilter("ignore")
        try:
            return compile(text.removeprefix("\ufeff"), "mutant", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _order(mutant: Mutant, seed: str) -> bytes:
    """A place in a row that depends on nothing but the mutant and the seed."""
    key = (
        f"{seed}\0{mutant.path}\0{mutant.before}\0{mutant.after}\0{mutant.start}\0{mutant.end}\0{mutant.new}"
    )
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _place(mutant: Mutant) -> tuple[str, int, int, str]:
    return mutant.path, mutant.start, mutant.end, mutant.new
