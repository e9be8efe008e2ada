"""Which tests to run first after an edit: those that failed, then those that the edit can have touched. Pure.

An order, not a selection: what no rule finds still runs before the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from msgspec import Struct, field

#: What a group may cost, as a share of running everything, to be run before that: about how often it is red, because
#: then everything need not run. Two of three attempts leave what failed as it was; one of five breaks what lies near.
FAILED_SHARE, NEAR_SHARE = 2 / 3, 1 / 5
#: What tells a test file from what it tests, at either end of its name.
_MARKS = re.compile(
    r"^(?:[tT]ests?|[sS]pecs?)(?:[_\-.]|$|(?=[A-Z]))"
    r"|[_\-.](?:[tT]ests?|[sS]pec)$"
    r"|(?<=[A-Za-z0-9])(?:Tests?|Spec|TestCase)$|(?<=[a-z0-9])IT$"
)
#: A Go test: the package's path, and behind a dot the function.
_GO = re.compile(r"([\w.\-/~]+)\.(?:Test|Fuzz|Example|Benchmark)[A-Z_]?\w*(?:/.*)?$")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: Letters that two words must begin with alike to be the same word: split, splitter; parse, parsing.
_STEM = 4


class Graph(Struct, frozen=True):
    """What each file of a project imports of the project's other files; paths are relative to the root."""

    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def distances(self, changed: Iterable[str]) -> dict[str, int]:
        """The files that import a changed one, directly (1) or through others (2 …); the changed ones are 0."""
        importers: dict[str, list[str]] = {}
        for path, imported in self.imports.items():
            for each in imported:
                importers.setdefault(each, []).append(path)
        found = dict.fromkeys(changed, 0)
        ring = list(found)
        while ring:
            following = []
            for path in ring:
                for importer in importers.get(path, ()):
                    if importer not in found:
                        found[importer] = found[path] + 1
                        following.append(importer)
            ring = following
        return found


class Order(Struct, frozen=True):
    """All tests, each once, in the order to run them.

    `failed` failed the last time; `named` are of a changed test file, or of one named after a changed file; `ran`
    are known to have run a changed file; `reached` import one, the closest first; `rest` is everything else.
    """

    failed: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every test, the first to run first."""
        return self.failed + self.named + self.ran + self.reached + self.rest

    def stages(
        self,
        *,
        seconds: Mapping[str, float] | None = None,
        start: float = 0.0,
        whole: float = 0.0,
        near_share: float = NEAR_SHARE,
    ) -> tuple[tuple[str, ...], ...]:
        """The groups to run one after another, each only when the one before passed: what failed, what lies near.

        A group that costs too much to be run before everything is left out; when none is left, an edit is best
        followed by everything. All in seconds, as far as known: `seconds` is what each test took by the report (else
        all take the same), `start` what the runner takes before the first (`start_of`), `whole` what everything took.
        Where the start is most of a short suite, there is little to save. `near_share` is for those who know better
        how often what lies near is red. The last stage, all tests, is not among
        them: it is the verdict's.
        """
        every = self.all
        if not every:
            return ()
        # New tests take as long as the others do on average.
        known = {test: seconds[test] for test in every if test in seconds} if seconds else {}
        average = sum(known.values()) / len(known) if known else 1.0
        tests = sum(known.get(test, average) for test in every)
        # What the runner spends on each test besides, which no report says.
        besides = max(whole - start - tests, 0.0) / len(every)

        def cost(group: tuple[str, ...]) -> float:
            return start + sum(known.get(test, average) + besides for test in group)

        near = self.named + self.ran + self.reached
        for smaller in (near, self.named + self.ran, self.named):
            near = smaller
            if cost(near) <= near_share * cost(every):
                break
        wanted = ((self.failed, FAILED_SHARE), (near, near_share))
        return tuple(group for group, share in wanted if group and cost(group) <= share * cost(every))


def start_of(run: float, tests: float, *, few: bool) -> float:
    """What the runner itself takes, in seconds, by a run of `run` seconds whose tests took `tests` by its report.

    Runners do not report what they spend on each test besides: of a run of `few` tests that is nearly nothing, of a
    whole suite it is about half of what the tests do not explain.
    """
    return max(run - tests, 0.0) * (1 if few else 0.5)


def order(
    tests: Sequence[str],
    changed: Iterable[str],
    failed: Collection[str],
    graph: Graph,
    *,
    files: Mapping[str, str] | None = None,
    covered: Mapping[str, Collection[str]] | None = None,
) -> Order:
    """Put tests in the order to run them after `changed` files were edited.

    `tests` are ids in the runner's order, which each group keeps; `failed` those that failed since everything ran
    last (one that passed in between may fail again). `files` gives the file of a test where the runner said it, else
    it is read from the id. `covered` gives the files that a test ran, where that was measured.
    """
    changed = tuple(dict.fromkeys(changed))
    files, covered = files or {}, covered or {}
    place = _Places(graph.imports)
    of = {test: files.get(test) or place.of(test) for test in tests}
    distances = graph.distances(changed)
    subjects = [path for path in changed if not is_test(path)]
    closeness = {file: _closeness(file, changed, subjects) for file in set(of.values()) if file}

    ranked: dict[str, list[tuple[int, int, str]]] = {
        name: [] for name in ("failed", "named", "ran", "reached")
    }
    rest = []
    for number, test in enumerate(dict.fromkeys(tests)):
        file = of[test]
        close = closeness.get(file, 0)
        if test in failed:
            ranked["failed"].append((0, number, test))
        elif close:
            ranked["named"].append((-close, number, test))
        elif any(path in covered.get(test, ()) for path in changed):
            ranked["ran"].append((0, number, test))
        elif file in distances:
            ranked["reached"].append((distances[file], number, test))
        else:
            rest.append(test)
    groups = {name: tuple(test for *_, test in sorted(found)) for name, found in ranked.items()}
    return Order(**groups, rest=tuple(rest))


def is_test(path: str) -> bool:
    """Whether a file is one of tests, by its name or, for helpers of tests, its folder."""
    pure = PurePosixPath(path)
    if _MARKS.search(_stem(pure)):
        return True
    return bool({"test", "tests", "__tests__", "spec", "specs"} & {part.lower() for part in pure.parts[:-1]})


def _closeness(test_file: str, changed: Iterable[str], subjects: Iterable[str]) -> int:
    """How clearly a test file is meant for a changed file: 4 it is changed itself, 3 same name, 2 or 1 alike, 0 not.

    `subjects` are the changed files that hold no tests.
    """
    if test_file in changed:
        return 4
    path = PurePosixPath(test_file)
    tested = _plain(path)
    words = _words(tested)
    best = 0
    for subject in subjects:
        other = PurePosixPath(subject)
        if path.suffix == ".go" and other.suffix == ".go":
            # A Go package is one folder, and its tests see all of it.
            folder, its = str(path.parent), str(other.parent)
            best = max(best, 3 if folder == its or folder.endswith(f"/{its}") else 0)
            continue
        name = (
            other.parent.name if other.stem in ("__init__", "index", "mod", "lib", "main") else _stem(other)
        )
        if _letters(tested) == _letters(name):
            return 3
        about = _words(name)
        if words and about and all(_alike(word, about) for word in words):
            best = max(best, 2)  # test_split for statement_splitter
        elif words and about and all(_alike(word, words) for word in about):
            best = max(best, 1)  # test_split_long for split
    return best


def _plain(path: PurePosixPath) -> str:
    """`test_split` is about `split`, `SplitTest` about `Split`, `split.test` about `split`."""
    stem = _stem(path)
    plain = _MARKS.sub("", stem)
    return plain if plain != stem or not is_test(str(path)) else stem


def _stem(path: PurePosixPath) -> str:
    """The name without its last suffix, and without `.d` and the like of what is left."""
    return path.name[: -len(path.suffix)] if path.suffix else path.name


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]


def _alike(word: str, words: Iterable[str]) -> bool:
    """Whether it is one of the words, or begins as one of them does."""
    return any(word == other or (len(word) >= _STEM and word[:_STEM] == other[:_STEM]) for other in words)


class _Places:
    """Finds the file of a test from its id: by its path, or by its dotted module."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._dotted: dict[str, str] = {}
        for file in sorted(self._files, key=len, reverse=True):
            if file.endswith(".py"):
                parts = PurePosixPath(file).with_suffix("").parts
                # Also from a folder below the root: runners start there. The shortest path wins.
                for start in range(len(parts)):
                    self._dotted[".".join(parts[start:])] = file

    def of(self, test: str) -> str:
        """'' when it cannot be told."""
        for separator in ("::", " > "):
            head = test.partition(separator)[0]
            if head in self._files or (separator in test and "/" in head):
                return head
        dotted = test.partition("[")[0].partition("(")[0].strip()
        if match := _GO.match(test):
            return f"{match[1]}/x_test.go"
        name = dotted
        while name:
            if found := self._dotted.get(name):
                return found
            name = name.rpartition(".")[0]
        # A class of a language that is not read (`com.example.CartTest.adds`): its name says what it is about.
        parts = dotted.split(".")
        for end, part in enumerate(parts, start=1):
            if len(parts) > 1 and _MARKS.search(part):
                return "/".join(parts[:end])
        return ""
