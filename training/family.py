"""The family of tasks: small modules with one or two wrong lines, and unittest tests that show them.

`make_instance(random, split)` gives a verified instance: its tests fail as it is and pass when every wrong
line is replaced. Splits: `train`; `iid` (ordinary names, other instances); `one` and `two` (as `iid` with that
many bugs); `words` (identifiers never seen); `pairs` (kinds of function with a kind of bug never shown
together); `long` (7-8 functions, training has 1-6); `kinds` (kinds of function never seen).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from zlib import crc32

from training.kinds import HELD_KINDS, KINDS, Kind
from training.names import Names, made_up
from training.sentences import sentence

#: Numbers of functions in a module, the frequent ones more than once.
SIZES = (1, 2, 2, 3, 3, 4, 4, 5, 6)
LONG = (7, 8)
#: Share of the instances with two bugs.
TWO = 0.27
SPLITS = ("iid", "one", "two", "invented", "words", "pairs", "long", "kinds")


@dataclass(frozen=True)
class Mutation:
    """One wrong line: its index in the function's body, and what stands there instead."""

    index: int
    line: str
    name: str


@dataclass(frozen=True)
class Function:
    """A concrete function: a kind with names and numbers filled in."""

    kind: Kind
    name: str
    params: tuple[str, ...]
    locals: tuple[str, ...]
    body: tuple[str, ...]
    doc: str
    number: int
    mutations: tuple[Mutation, ...]

    def lines(self, body: tuple[str, ...] | None = None) -> list[str]:
        """The function's source, with another body if given."""
        head = [f"def {self.name}({', '.join(self.params)}):"]
        head += [f'    """{self.doc}"""'] if self.doc else []
        return head + ["    " + line for line in body or self.body]


@dataclass(frozen=True)
class Bug:
    """A wrong line of an instance: `line` is its index in the module, `others` are further wrong versions."""

    function: str
    kind: str
    line: int
    good: str
    bad: str
    others: tuple[str, ...]
    mutation: str


@dataclass(frozen=True)
class Instance:
    """A repository of two files with one or two bugs, and the task as a person may word it."""

    module: str
    test: str
    source: str
    fixed: str
    tests: str
    bugs: tuple[Bug, ...]
    task: str

    @property
    def files(self) -> dict[str, str]:
        """What the repository holds."""
        return {self.module: self.source, self.test: self.tests}


def held_pair(kind: Kind, name: str) -> bool:
    """Whether this kind of bug is never shown in this kind of function during training."""
    return crc32(f"{kind.name} {name}".encode()) % 10 == 0


def fill(kind: Kind, name: str, names: Names, random: Random) -> Function:
    """A kind made concrete."""
    params: list[str] = [names.variable() for _ in kind.params.split()]
    used = "".join(kind.body)
    values = dict(zip("abc", params, strict=False))
    if "{t}" in used:
        common = random.choice(("total", "result", "count", "found", "answer"))
        free = common not in names.used and random.random() < 0.4
        values["t"] = common if free else names.variable()
        names.used.add(values["t"])
    if "{i}" in used:
        values["i"] = names.singular(params[1] if "in {b}" in used else params[0])
    number = random.randint(*kind.numbers) if kind.numbers else 0
    chosen = random.choice(list(kind.choices)) if kind.choices else ""

    def text(pattern: str, choice: str, k: int) -> str:
        pattern = pattern.replace("{x}", choice).replace("{words}", kind.choices.get(choice, ""))
        return pattern.format(**values, k=k)

    body = tuple(text(line, chosen, number) for line in kind.body)
    mutations: list[Mutation] = []
    for index, line in enumerate(kind.body):
        if "{x}" in line:
            mutations += [
                Mutation(index, text(line, other, number), f"{chosen}>{other}")
                for other in kind.choices
                if other != chosen
            ]
        if "{k}" in line and kind.numbers:
            numbers = {
                number + 1,
                number - 1,
                number + 2,
                random.randint(*kind.numbers),
                random.randint(0, 9),
            }
            mutations += [
                Mutation(index, text(line, chosen, other), "number")
                for other in sorted(numbers)
                if other >= 0 and other != number
            ]
    mutations += [
        Mutation(index, text(line, chosen, number), f"wrong{n}") for n, (index, line) in enumerate(kind.wrong)
    ]
    doc = "" if random.random() < kind.bare else text(kind.doc, chosen, number)
    mutations = [m for m in mutations if m.line != body[m.index]]
    inner = tuple(v for key, v in values.items() if key in "ti")
    return Function(kind, name, tuple(params), inner, body, doc, number, tuple(mutations))


_TOKEN = re.compile(r"//|[<>=!]=|\b[A-Za-z_]\w*\b|\d+|[-+*%<>]")
_OPERATORS = ("+", "-", "*", "//", "%", "<", ">", "<=", ">=", "==", "!=")
_FUNCTIONS = ("len", "sum", "max", "min", "abs", "sorted", "any", "all", "set")


def generic_mutation(function: Function, random: Random) -> Mutation | None:
    """Any token of any line replaced by another of its sort: variety that no list of bugs has."""
    for _ in range(30):
        index = random.randrange(len(function.body))
        line = function.body[index]
        tokens = [(m.start(), m.group()) for m in _TOKEN.finditer(line)]
        names = [*function.params, *function.locals]
        start, token = random.choice(tokens)
        if token in _OPERATORS:
            new = random.choice(_OPERATORS)
        elif token.isdigit():
            near = (0, 1, 2, 3, int(token) + 1, max(0, int(token) - 1), random.randint(0, 99))
            new = str(random.choice(near))
        elif token in _FUNCTIONS:
            new = random.choice(_FUNCTIONS)
        elif token in ("and", "or", "any", "all", "True", "False"):
            new = {"and": "or", "or": "and", "True": "False", "False": "True"}.get(token, token)
        elif token in names:
            new = random.choice((*names, made_up(random)))
        elif token == "return" and random.random() < 0.3:
            new = random.choice(("return not", "return -", "return 1 +"))
        else:
            continue
        wrong = line[:start] + new + line[start + len(token) :]
        # A list that grows while a loop goes over it would never end.
        grows = re.match(r"\s*(\w+) .?= ", wrong)
        if wrong != line and not (grows and grows[1] in function.params):
            return Mutation(index, wrong, "generic")
    return None


def misspelt(word: str, random: Random) -> str:
    """The word with a letter lost, doubled or moved."""
    i = random.randrange(1, len(word))
    return random.choice(
        (
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
            word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :],
        )
    )


def misspelling(function: Function, random: Random) -> Mutation | None:
    """A parameter or local whose use (not its definition) has a letter lost, doubled or moved."""
    places = [
        (index, match.start(), match.group())
        for index, line in enumerate(function.body)
        for match in re.finditer(r"[a-z_]{4,}", line)
        if match.group() in (*function.params, *function.locals)
        and not re.match(rf"\s*{match.group()} = |\s*for {match.group()} in", line)
    ]
    if not places:
        return None
    index, start, word = random.choice(places)
    for _ in range(20):
        wrong = misspelt(word, random)
        if wrong.isidentifier() and wrong not in (*function.params, *function.locals):
            line = function.body[index]
            return Mutation(index, line[:start] + wrong + line[start + len(word) :], "misspelling")
    return None


def choose_mutation(function: Function, split: str, random: Random) -> Mutation | None:
    """A bug for the function that the split allows."""
    if split == "kinds":
        return random.choice(function.mutations) if function.mutations else None
    listed = [m for m in function.mutations if held_pair(function.kind, m.name) == (split == "pairs")]
    choice = random.random()
    if split != "pairs":
        if choice < 0.1:
            return misspelling(function, random)
        if choice < (0.5 if split == "train" else 0.1):
            mutation = generic_mutation(function, random)
            held = {m.line for m in function.mutations if held_pair(function.kind, m.name)}
            return mutation if mutation and mutation.line not in held else None
    return random.choice(listed) if listed else None


def make_instance(random: Random, split: str = "train") -> Instance:
    """A verified instance of the split."""
    while True:
        instance = _attempt(random, split, LONG if split == "long" else SIZES)
        if instance:
            return instance


def _attempt(random: Random, split: str, sizes: tuple[int, ...]) -> Instance | None:
    bugs = {"one": 1, "two": 2}.get(split) or (2 if random.random() < TWO else 1)
    size = max(random.choice(sizes), bugs)
    held = split == "words"
    invented = 0.5 if split in ("train", "invented") else 0.0
    outer = Names(random, held=held, invented=invented)
    known = [k for k in KINDS if k.name not in HELD_KINDS]
    kinds = random.sample(known, size)
    wrong = random.sample(range(size), bugs)
    if split == "kinds":
        for index in wrong:
            kinds[index] = random.choice([k for k in KINDS if k.name in HELD_KINDS])
    functions = []
    for kind in kinds:
        scope = Names(random, held=held, invented=invented)
        name = outer.function()
        scope.used.add(name)
        functions.append(fill(kind, name, scope, random))
    mutated: dict[int, Mutation] = {}
    for index in wrong:
        mutation = choose_mutation(functions[index], split, random)
        if mutation is None or mutation.line.strip() == functions[index].body[mutation.index].strip():
            return None
        mutated[index] = mutation

    top = [f'"""{_module_doc(outer, random)}"""', "", ""] if random.random() < 0.25 else []
    good_lines, bad_lines, found = list(top), list(top), []
    for index, function in enumerate(functions):
        if index in mutated:
            m = mutated[index]
            body = (*function.body[: m.index], m.line, *function.body[m.index + 1 :])
            line = len(good_lines) + 1 + bool(function.doc) + m.index
            others = tuple(
                "    " + o.line for o in function.mutations if o.index == m.index and o.line != m.line
            )
            good, bad = "    " + function.body[m.index], "    " + m.line
            found.append(Bug(function.name, function.kind.name, line, good, bad, others, m.name))
        else:
            body = function.body
        good_lines += [*function.lines(), "", ""]
        bad_lines += [*function.lines(body), "", ""]
    fixed, source = ("\n".join(lines).rstrip("\n") + "\n" for lines in (good_lines, bad_lines))
    module = outer.module()
    checks = _checks(functions, frozenset(mutated), fixed, source, random)
    if checks is None:
        return None
    tests = _test_file(module, functions, checks, random)
    task = sentence(random, f"{module}.py", f"test_{module}.py", found[0].function)
    return Instance(f"{module}.py", f"test_{module}.py", source, fixed, tests, tuple(found), task)


def _module_doc(names: Names, random: Random) -> str:
    patterns = (
        "Helpers for {}.",
        "The {} of a small {}.",
        "{} and {}.",
        "Small functions for {}.",
        "What a {} needs.",
    )
    pattern = random.choice(patterns)
    return pattern.format(*(names.word() for _ in range(2))).capitalize()


def _checks(
    functions: list[Function], wrong: frozenset[int], fixed: str, source: str, random: Random
) -> list[tuple[str, list[str]]] | None:
    """(test name, assertions) of all tests; None when a wrong function does not fail its first test."""
    right: dict[str, object] = {}
    broken: dict[str, object] = {}
    try:
        exec(compile(fixed, "fixed", "exec"), right)
        exec(compile(source, "source", "exec"), broken)
    except Exception:
        return None
    tests: list[tuple[str, list[str]]] = []
    for index, function in enumerate(functions):
        cases = _cases(function, index in wrong, right, broken, random)
        if not cases:
            return None
        together = len(cases) > 1 and random.random() < 0.4
        name = f"test_{function.name}"
        if together or len(cases) == 1:
            if random.random() < 0.15:
                name += random.choice(("_works", "_value", "_result", "_basic", "_simple", "_returns"))
            tests.append((name, [_assertion(call, value, random) for call, value in cases]))
        else:
            for number, (call, value) in enumerate(cases, 1):
                suffix = "" if number == 1 else f"_{number}"
                tests.append((name + suffix, [_assertion(call, value, random)]))
    if len({name for name, _ in tests}) != len(tests):
        return None
    return tests


def _cases(
    function: Function, wrong: bool, right: dict[str, object], broken: dict[str, object], random: Random
) -> list[tuple[str, object]]:
    wanted = random.choice((1, 2, 2)) if wrong else random.choice((1, 1, 2))
    cases: list[tuple[str, object]] = []
    for _ in range(25):
        if len(cases) == wanted:
            break
        arguments = function.kind.arguments(random, function.number)
        call = f"{function.name}({', '.join(map(repr, arguments))})"
        value = eval(call, right)
        if wrong and not cases:
            try:
                got = eval(call, broken)
            except Exception:
                pass
            else:
                if got == value or (isinstance(value, bool) and bool(got) == value):  # assertTrue(5) passes
                    continue
        if all(call != other for other, _ in cases):
            cases.append((call, value))
    return cases


def _assertion(call: str, value: object, random: Random) -> str:
    if value is None:
        return f"self.assertIsNone({call})"
    if isinstance(value, bool) and random.random() < 0.8:
        return f"self.assert{value}({call})"
    return f"self.assertEqual({call}, {value!r})"


def _test_file(
    module: str, functions: list[Function], checks: list[tuple[str, list[str]]], random: Random
) -> str:
    camel = "".join(part.capitalize() for part in module.split("_"))
    case = random.choice((f"Test{camel}", f"Test{camel}", f"{camel}Test", "Tests"))
    imported = ", ".join(function.name for function in functions)
    head = ["import unittest", "", f"from {module} import {imported}"]
    lines = [*head, "", "", f"class {case}(unittest.TestCase):"]
    for name, assertions in checks:
        lines += [f"    def {name}(self):", *("        " + line for line in assertions), ""]
    if random.random() < 0.5:
        lines += ["", 'if __name__ == "__main__":', "    unittest.main()", ""]
    return "\n".join(lines).rstrip("\n") + "\n"
