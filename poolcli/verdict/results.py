"""What a run of the checks says about each test, whichever runner it was and whatever it was read from."""

from __future__ import annotations

from msgspec import Struct, field

#: The outcomes that a case can have. An expected failure is `xfailed`; one that passed although it was expected to
#: fail is `xpassed` (or `failed`, where the runner is strict about it).
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
#: The outcomes that make a run red.
BAD = ("failed", "error")


class Case(Struct, frozen=True):
    """One test and how it ended.

    `id` is the same in every run: a pytest node id, `package.TestClass.test`, `file > suite > test`. `text` is why it
    failed or was skipped, bounded and without the worktree's path. `seconds` is 0 and `file` '' where not known.
    """

    id: str
    outcome: str
    text: str = ""
    seconds: float = 0.0
    file: str = ""


def holds(container: str, case: str) -> bool:
    """Whether a case stands for what `container` stood for when it could not even be loaded or built.

    A file that cannot be collected, a package that does not build is one case then, and many when it is mended:
    `a_test.py` and `a_test.py::test_b`, `example.com/a [build failed]` and `example.com/a.TestB`.
    """
    name = container.partition(" [")[0] if container.endswith("]") else container
    return case != container and case.startswith(tuple(name + mark for mark in ("::", " > ", ".", "/")))


class Results(Struct, frozen=True):
    """All cases of a run, by id, in the runner's order.

    `source` says what they were read from (junit, tap, go-json, cargo, log …). `problem` is what keeps the run from
    being judged, in words: nothing parsed, a report that stops in the middle, an exit code that disagrees. `hung` is
    the test that was running when the time was over, `crashed` how the runner died; both '' when not so or not known.
    """

    cases: dict[str, Case] = field(default_factory=dict)
    source: str = "log"
    problem: str = ""
    hung: str = ""
    crashed: str = ""

    def count(self, *outcomes: str) -> int:
        """How many cases ended in one of these outcomes."""
        return sum(case.outcome in outcomes for case in self.cases.values())

    @property
    def bad(self) -> tuple[str, ...]:
        """The ids of the cases that failed or broke."""
        return tuple(case.id for case in self.cases.values() if case.outcome in BAD)

    @property
    def judged(self) -> bool:
        """Whether the run can be judged at all: something was parsed and nothing contradicts it."""
        return bool(self.cases) and not (self.problem or self.crashed)
