"""The kinds of small functions that the family is made of, as data.

A kind is a function body with placeholders: `{a}` `{b}` `{c}` are parameters, `{t}` a local result, `{i}` a
loop variable, `{k}` a number and `{x}` one of several alternatives, described by `{words}` in the docstring.
Choosing another alternative or another number gives a wrong line; `wrong` lists further ones.
"""

# ruff: noqa: E501 (a table)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

Arguments = tuple[Any, ...]

_TEXTS = "abc Hello World red Blue one Two green yes cat dog Sun moon Tree fish kite Lamp rock wind"
TEXTS = tuple(_TEXTS.split())


@dataclass(frozen=True)
class Kind:
    """One kind of function. `bare` is how often it comes without its docstring, so that only tests tell."""

    name: str
    params: str
    body: tuple[str, ...]
    doc: str
    #: Arguments for one call; the second parameter is the value of `{k}`.
    arguments: Callable[[Random, int], Arguments]
    choices: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[int, int] | None = None
    wrong: tuple[tuple[int, str], ...] = ()
    bare: float = 0.0


def distinct(r: Random, count: int = 0, low: int = 0, high: int = 9) -> list[int]:
    """A list of different small numbers."""
    return r.sample(range(low, high + 1), count or r.randint(3, 4))


def pair(low: int, high: int, low2: int = 0, high2: int = 0) -> Callable[[Random, int], Arguments]:
    """Two numbers in the ranges given (the second range defaults to the first)."""
    return lambda r, k: (r.randint(low, high), r.randint(low2 or low, high2 or high))


def near(r: Random, k: int) -> Arguments:
    """Two numbers that are often equal: where comparisons go wrong."""
    x = r.randint(2, 9)
    return (x, r.choice((x, x, x + 1, x - 1)))


def numbers(count: int = 0, low: int = 0, high: int = 9) -> Callable[[Random, int], Arguments]:
    """One list of numbers."""
    return lambda r, k: (distinct(r, count, low, high),)


def member(r: Random, k: int) -> Arguments:
    """A list and one of its items."""
    items = distinct(r, 4, 1, 9)
    return (items, r.choice(items))


def text(r: Random, k: int) -> Arguments:
    """One or two words."""
    return (r.choice(TEXTS) + r.choice(("", " " + r.choice(TEXTS))),)


def table(r: Random, k: int) -> Arguments:
    """A dictionary and keys of it."""
    keys = r.sample("abcde", 3)
    return ({key: r.randint(1, 9) for key in keys}, [r.choice(keys) for _ in range(r.randint(2, 3))])


def lookup(r: Random, k: int) -> Arguments:
    """A dictionary and a key that is often missing."""
    x, y = r.sample("abcde", 2)
    return ({x: r.randint(6, 9)}, r.choice((x, y, y)))


def prefix(r: Random, k: int) -> Arguments:
    """A text and its first or last letters."""
    s = r.choice(TEXTS)
    return (s, r.choice((s[:2], s[-2:])))


def multiple(r: Random, k: int) -> Arguments:
    """A number and often a divisor of it."""
    y = r.randint(2, 5)
    return (y * r.randint(1, 4) + r.choice((0, 0, 1)), y)


ARITHMETIC = {"+": "sum", "-": "difference", "*": "product"}
COMPARE = {">": "greater than", "<": "less than", ">=": "at least", "<=": "at most"}
SLICES = {
    ":2": "the first two items of",
    "1:": "all but the first item of",
    ":-1": "all but the last item of",
    "::-1": "a reversed copy of",
    "2:": "all but the first two items of",
    "-2:": "the last two items of",
}
RANGES = {
    "{a}": "from 0 up to {a}, without {a}",
    "{a} + 1": "from 0 up to {a}, with {a}",
    "1, {a}": "from 1 up to {a}, without {a}",
    "1, {a} + 1": "from 1 up to {a}, with {a}",
}
ITEMS = {"0": "first", "1": "second", "-1": "last"}
CASES = {"upper": "upper case", "lower": "lower case", "title": "title case"}
AGGREGATES = {"min": "smallest of", "max": "largest of", "sum": "sum of", "len": "number of"}

KINDS: tuple[Kind, ...] = (
    Kind("binop", "a b", ("return {a} {x} {b}",), "Return the {words} of {a} and {b}.", pair(3, 9, 2, 9),
         ARITHMETIC, bare=0.3),
    Kind("add_number", "a", ("return {a} {x} {k}",), "Return {a} {words} {k}.",
         lambda r, k: (r.choice((10, 10, 20, r.randint(10, 20))),), {"+": "plus", "-": "minus"}, (1, 9), bare=0.3),
    Kind("times_number", "a", ("return {a} * {k}",), "Return {a} times {k}.", lambda r, k: (r.choice((1, 2, 5, 10)),),
         numbers=(2, 9), wrong=((0, "return {a} + {k}"),), bare=0.3),
    Kind("constant", "a", ("if {a} < 0:", "    return {k}", "return {a}"), "Return {a}, or {k} if it is negative.",
         lambda r, k: (r.choice((-1, -2, -3, 4, 5)),), numbers=(10, 99), wrong=((0, "if {a} > 0:"),), bare=0.5),
    Kind("compare", "a b", ("return {a} {x} {b}",), "Return True if {a} is {words} {b}.", near, COMPARE),
    Kind("compare_number", "a", ("return {a} {x} {k}",), "Return True if {a} is {words} {k}.",
         lambda r, k: (r.choice((k, k, k + 1, k - 1)),), COMPARE, (3, 50)),
    Kind("equal", "a b", ("return {a} {x} {b}",), "Return True if {a} {words} {b}.", near,
         {"==": "equals", "!=": "differs from"}, bare=0.2),
    Kind("smaller", "a b", ("return {x}({a}, {b})",), "Return the {words} of {a} and {b}.",
         lambda r, k: tuple(distinct(r, 2)), {"min": "smaller", "max": "larger"}, bare=0.3),
    Kind("aggregate", "a", ("return {x}({a})",), "Return the {words} {a}.", numbers(3, 2, 9), AGGREGATES, bare=0.3),
    Kind("item", "a", ("return {a}[{x}]",), "Return the {words} item of {a}.", numbers(3), ITEMS, bare=0.3),
    Kind("slice", "a", ("return {a}[{x}]",), "Return {words} {a}.", numbers(4), SLICES, bare=0.2),
    Kind("first_items", "a b", ("return {a}[{x}]",), "Return {words} {a}.", lambda r, k: (distinct(r, 4), r.randint(1, 3)),
         {":{b}": "the first {b} of", "{b}:": "what follows the first {b} of", "-{b}:": "the last {b} of"}),
    Kind("case", "a", ("return {a}.{x}()",), "Return {a} in {words}.", text, CASES, bare=0.3),
    Kind("strip", "a", ("return {a}.{x}()",), "Return {a} without spaces {words}.",
         lambda r, k: (" " + r.choice(TEXTS) + " ",),
         {"strip": "at both ends", "lstrip": "at the start", "rstrip": "at the end"}, bare=0.2),
    Kind("affix", "a b", ("return {a}.{x}({b})",), "Return True if {a} {words} {b}.", prefix,
         {"startswith": "starts with", "endswith": "ends with"}),
    Kind("join", "a", ('return "{x}".join({a})',), "Join {a} with {words}.",
         lambda r, k: ([r.choice(TEXTS) for _ in range(r.randint(2, 3))],),
         {",": "commas", "-": "dashes", "+": "plus signs", ":": "colons", "/": "slashes", " ": "spaces"}, bare=0.2),
    Kind("sort", "a", ("return sorted({a}{x})",), "Return {a} sorted, {words} first.", numbers(),
         {"": "smallest", ", reverse=True": "largest"}, bare=0.2),
    Kind("sum_loop", "a", ("{t} = 0", "for {i} in {a}:", "    {t} += {i}", "return {t}"), "Return the sum of all {a}.",
         numbers(3, 2, 6), wrong=((0, "{t} = 1"), (2, "    {t} *= {i}"), (2, "    {t} -= {i}"), (2, "    {t} = {i}"),
                                  (3, "return {i}")), bare=0.2),
    Kind("product_loop", "a", ("{t} = 1", "for {i} in {a}:", "    {t} *= {i}", "return {t}"),
         "Return the product of all {a}.", numbers(3, 2, 6),
         wrong=((0, "{t} = 0"), (2, "    {t} += {i}"), (2, "    {t} = {i}"), (3, "return {i}"))),
    Kind("sum_by_key", "a b", ("{t} = 0", "for {i} in {b}:", "    {t} += {a}[{i}]", "return {t}"),
         "Add up the {a} of all {b}.", table, wrong=((0, "{t} = 1"), (2, "    {t} -= {a}[{i}]"), (2, "    {t} = {a}[{i}]"),
                                                    (3, "return {i}"), (1, "for {i} in {a}:"))),
    Kind("count_if", "a b", ("{t} = 0", "for {i} in {a}:", "    if {i} {x} {b}:", "        {t} += 1", "return {t}"),
         "Count the {a} that are {words} {b}.", lambda r, k: ([r.randint(1, 9) for _ in range(4)], r.randint(3, 6)),
         {">": "greater than", "<": "less than", "==": "equal to"},
         wrong=((0, "{t} = 1"), (3, "        {t} += 2"), (3, "        {t} -= 1"), (4, "return {b}"))),
    Kind("sum_if", "a b", ("{t} = 0", "for {i} in {a}:", "    if {i} {x} {b}:", "        {t} += {i}", "return {t}"),
         "Sum the {a} that are {words} {b}.", member, COMPARE,
         wrong=((0, "{t} = 1"), (3, "        {t} += 1"), (3, "        {t} -= {i}"), (4, "return {b}"))),
    Kind("filter", "a b", ("return [{i} for {i} in {a} if {i} {x} {b}]",), "Return the {a} that are {words} {b}.",
         member, COMPARE),
    Kind("even", "a", ("return [{i} for {i} in {a} if {i} % 2 == {x}]",), "Return the {words} numbers in {a}.",
         numbers(4, 1, 9), {"0": "even", "1": "odd"}, wrong=((0, "return [{i} for {i} in {a} if {i} % 3 == {x}]"),)),
    Kind("map", "a", ("return [{i} {x} {k} for {i} in {a}]",), "{words} each of {a}.", numbers(3, 2, 9),
         {"+": "Add {k} to", "-": "Subtract {k} from", "*": "Multiply by {k}"}, (2, 5)),
    Kind("range", "a", ("return list(range({x}))",), "Numbers {words}.", lambda r, k: (r.randint(3, 6),), RANGES,
         bare=0.3),
    Kind("sum_range", "a", ("{t} = 0", "for {i} in range(1, {a} + 1):", "    {t} += {i}", "return {t}"),
         "Sum the numbers from 1 to {a}.", lambda r, k: (r.randint(3, 7),),
         wrong=((1, "for {i} in range(1, {a}):"), (1, "for {i} in range(2, {a} + 1):"), (0, "{t} = 1"),
                (2, "    {t} -= {i}"), (3, "return {i}"), (1, "for {i} in range({a}):"))),
    Kind("factorial", "a", ("{t} = 1", "for {i} in range(1, {a} + 1):", "    {t} *= {i}", "return {t}"),
         "Return the factorial of {a}.", lambda r, k: (r.randint(3, 5),),
         wrong=((1, "for {i} in range(1, {a}):"), (1, "for {i} in range({a}):"), (0, "{t} = 0"), (2, "    {t} += {i}"),
                (3, "return {i}"))),
    Kind("parity", "a", ("return {a} % 2 == {x}",), "Return True if {a} is {words}.", lambda r, k: (r.randint(1, 12),),
         {"0": "even", "1": "odd"}, wrong=((0, "return {a} % 2 != {x}"),)),
    Kind("divisible", "a b", ("return {a} % {b} == 0",), "Return True if {a} is divisible by {b}.", multiple,
         wrong=((0, "return {a} // {b} == 0"), (0, "return {a} % {b} != 0"), (0, "return {b} % {a} == 0"))),
    Kind("subtract", "a b", ("return {a} - {b}",), "Subtract {b} from {a}.", pair(10, 20, 2, 7),
         wrong=((0, "return {b} - {a}"), (0, "return {a} + {b}"), (0, "return {a} // {b}")), bare=0.2),
    Kind("divide", "a b", ("return {a} // {b}",), "Divide {a} by {b}, rounding down.", pair(10, 20, 2, 7),
         wrong=((0, "return {b} // {a}"), (0, "return {a} - {b}"), (0, "return {a} % {b}"), (0, "return {a} * {b}"))),
    Kind("remainder", "a b", ("return {a} % {b}",), "Return the remainder of {a} divided by {b}.", pair(10, 20, 2, 7),
         wrong=((0, "return {b} % {a}"), (0, "return {a} - {b}"), (0, "return {a} // {b}"))),
    Kind("clamp", "a b c", ("if {a} < {b}:", "    return {b}", "if {a} > {c}:", "    return {c}", "return {a}"),
         "Clamp {a} between {b} and {c}.", lambda r, k: (r.randint(0, 15), 4, r.randint(8, 10)),
         wrong=((0, "if {a} > {b}:"), (1, "    return {c}"), (2, "if {a} < {c}:"), (3, "    return {b}"), (4, "return {b}"),
                (1, "    return {a}"), (3, "    return {a}"))),
    Kind("default", "a", ("if not {a}:", "    return {x}", "return {a}[0]"),
         "Return the first of {a}, or {words} if there are none.", lambda r, k: (r.choice(([], [], distinct(r, 2))),),
         {"0": "0", "1": "1", "-1": "-1", "None": "None"}, wrong=((0, "if {a}:"), (2, "return {a}[-1]"))),
    Kind("distance", "a b", ("return abs({a} - {b})",), "Return the distance from {a} to {b}.", pair(1, 5, 6, 9),
         wrong=((0, "return abs({a} + {b})"), (0, "return {a} - {b}"), (0, "return abs({a} * {b})"))),
    Kind("get_key", "a b", ("return {a}.get({b}, {k})",), "Look up {b} in {a}, default {k}.", lookup, numbers=(0, 5)),
    Kind("set_key", "a b c", ("{a}[{b}] = {c}", "return {a}"), "Store {c} under {b} in {a}.",
         lambda r, k: ({}, r.choice("abcde"), r.randint(1, 9)),
         wrong=((0, "{a}[{c}] = {b}"), (1, "return {c}"), (0, "{a}[{b}] = {b}"))),
    Kind("append", "a b", ("{a}.{x}{b})", "return {a}"), "Add {b} at the {words} of {a}.",
         lambda r, k: (distinct(r, 2), r.randint(1, 9)), {"append(": "end", "insert(0, ": "start"},
         wrong=((1, "return {b}"), (0, "{a}.append({a})"))),
    Kind("any_above", "a b", ("return {x}({i} > {b} for {i} in {a})",), "Return True if {words} {a} are above {b}.",
         lambda r, k: ([r.randint(1, 9) for _ in range(3)], r.randint(3, 7)), {"any": "any of", "all": "all of"},
         wrong=((0, "return {x}({i} < {b} for {i} in {a})"),)),
    Kind("any_below", "a b", ("return {x}({i} < {b} for {i} in {a})",), "Return True if {words} {a} are below {b}.",
         lambda r, k: ([r.randint(1, 9) for _ in range(3)], r.randint(3, 7)), {"any": "any of", "all": "all of"},
         wrong=((0, "return {x}({i} > {b} for {i} in {a})"),)),
    Kind("positive", "a b", ("return {a} > 0 {x} {b} > 0",), "Return True if {words} positive.", pair(-3, 3),
         {"and": "both {a} and {b} are", "or": "{a} or {b} is"},
         wrong=((0, "return {a} > 0 {x} {b} < 0"), (0, "return {a} < 0 {x} {b} > 0"))),
    Kind("repeat", "a b", ("return {a} * {b}",), "Repeat the text {a} {b} times.",
         lambda r, k: (r.choice(TEXTS), r.randint(2, 3)),
         wrong=((0, "return {a} + {b}"), (0, "return {a} * ({b} + 1)"), (0, "return {a}"))),
    Kind("concat", "a b", ('return {a} + "{x}" + {b}',), "Join {a} and {b} with {words} between.",
         lambda r, k: tuple(r.sample(TEXTS, 2)), {" ": "a space", "-": "a dash", "_": "an underscore"},
         wrong=((0, 'return {b} + "{x}" + {a}'), (0, "return {a} + {b}")), bare=0.2),
    Kind("area", "a b", ("return {a} * {b}",), "Return the area of a rectangle with sides {a} and {b}.", pair(2, 9),
         wrong=((0, "return {a} + {b}"), (0, "return {a} * {a}"), (0, "return 2 * ({a} + {b})"))),
    Kind("perimeter", "a b", ("return 2 * ({a} + {b})",), "Return the perimeter of a rectangle with sides {a} and {b}.",
         pair(2, 9), wrong=((0, "return 2 * ({a} * {b})"), (0, "return 2 * ({a} - {b})"), (0, "return {a} + {b}"),
                            (0, "return {a} * {b}"))),
    Kind("power", "a", ("return {a} ** {x}",), "Return the {words} of {a}.", lambda r, k: (r.randint(3, 6),),
         {"2": "square", "3": "cube"}, wrong=((0, "return {a} * {x}"),), bare=0.2),
    Kind("mean", "a", ("return sum({a}) // len({a})",), "Return the mean of {a}, rounded down.", numbers(3, 2, 9),
         wrong=((0, "return sum({a}) * len({a})"), (0, "return len({a}) // sum({a})"), (0, "return max({a}) // len({a})"),
                (0, "return sum({a}) // max({a})"))),
    Kind("spread", "a", ("return max({a}) - min({a})",), "Return the largest of {a} minus the smallest.",
         numbers(3, 2, 9), wrong=((0, "return max({a}) + min({a})"), (0, "return min({a}) - max({a})"),
                                  (0, "return max({a}) - max({a})"), (0, "return sum({a}) - min({a})"))),
    Kind("from_end", "a", ("return {a}[len({a}) - {x}]",), "Return the {words} item of {a} by position.", numbers(4),
         {"1": "last", "2": "next to last"}, wrong=((0, "return {a}[len({a})]"), (0, "return {a}[len({a}) - 3]"))),
    Kind("percent_change", "a b", ("return {a} {x} {a} * {b} // 100",), "Return {a} {words} by {b} percent.",
         lambda r, k: (r.choice((100, 200, 300)), r.choice((10, 20, 25, 50))), {"+": "raised", "-": "lowered"},
         wrong=((0, "return {a} {x} {a} * {b} // 10"), (0, "return {a} {x} {a} + {b} // 100"))),
    Kind("percent_of", "a b", ("return {a} * {b} // 100",), "Return {b} percent of {a}.",
         lambda r, k: (r.choice((100, 200, 300)), r.choice((10, 20, 25, 50))),
         wrong=((0, "return {a} * {b} // 10"), (0, "return {a} + {b} // 100"), (0, "return {a} * {b}"))),
    Kind("contained", "a b", ("return {b} {x} {a}",), "Return True if {b} {words} {a}.",
         lambda r, k: ([3, r.randint(4, 9), 1], r.choice((1, 3, 10, 11))),
         {"in": "is one of", "not in": "is missing from"}),
    Kind("choose_text", "a", ("if {a} > {k}:", '    return "{x}"', 'return "low"'),
         'Return "{x}" if {a} is greater than {k}, else "low".', lambda r, k: (r.choice((k - 1, k, k + 1, k + 2)),),
         {"high": "", "big": "", "over": "", "much": ""}, (3, 9),
         ((0, "if {a} < {k}:"), (0, "if {a} >= {k}:"), (2, 'return "none"')), bare=0.3),
    Kind("choose_number", "a", ("if {a} {x} {k}:", "    return 0", "return 5"),
         "Return 0 if {a} is {words} {k}, else 5.", lambda r, k: (r.choice((k - 1, k, k, k + 1)),), COMPARE, (10, 60),
         ((1, "    return 1"), (2, "return 4"), (2, "return 6"))),
    Kind("count_words", "a", ("return len({a}.split())",), "Return the number of words in {a}.",
         lambda r, k: (" ".join(r.choice(TEXTS) for _ in range(r.randint(2, 3))),),
         wrong=((0, "return len({a})"), (0, "return {a}.split()"), (0, "return len({a}.strip())"))),
    Kind("count_item", "a b", ("return {a}.count({b})",), "Return how often {b} occurs in {a}.",
         lambda r, k: ([1, 2, 2, r.randint(1, 3)], r.choice((1, 2))),
         wrong=((0, "return {a}.index({b})"), (0, "return {b} in {a}"), (0, "return len({a})"))),
    Kind("different", "a", ("return len(set({a}))",), "Count the different {a}.",
         lambda r, k: ([1, 2, 2, r.randint(1, 3)],), wrong=((0, "return len({a})"), (0, "return set({a})"),
                                                             (0, "return sum(set({a}))"))),
    Kind("swap", "a b", ("return {b}, {a}",), "Return {b} and {a}, swapped.", lambda r, k: tuple(distinct(r, 2)),
         wrong=((0, "return {a}, {b}"), (0, "return {b}, {b}"), (0, "return {a}, {a}"))),
    Kind("scaled_sum", "a", ("return sum({i} * {k} for {i} in {a})",), "Return the sum of all {a}, each times {k}.",
         numbers(3, 1, 5), numbers=(2, 5), wrong=((0, "return sum({i} + {k} for {i} in {a})"),
                                                   (0, "return max({i} * {k} for {i} in {a})"))),
    Kind("max_loop", "a",
         ("{t} = {a}[0]", "for {i} in {a}:", "    if {i} {x} {t}:", "        {t} = {i}", "return {t}"),
         "Find the {words} of {a} with a loop.", numbers(4, 1, 9), {">": "largest", "<": "smallest"},
         wrong=((4, "return {i}"), (3, "        {t} += {i}"))),
    Kind("end_mark", "a", ('return {a} + "{x}"',), "Return {a} followed by {words}.", lambda r, k: (r.choice(TEXTS),),
         {"!": "an exclamation mark", "?": "a question mark", ".": "a full stop"}, wrong=((0, 'return "{x}" + {a}'),)),
    Kind("double_text", "a", ("return {a} + {a}[{x}]",), "Return {a} followed by its {words} letter.",
         lambda r, k: (r.choice(TEXTS),), ITEMS),
)  # fmt: skip

#: Kinds that never occur in training: they measure what the model does with functions it was not shown.
HELD_KINDS = frozenset(("end_mark", "contained", "max_loop", "double_text"))
