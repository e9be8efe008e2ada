"""Task sentences. The model learns that the wording does not matter: many are random words."""

# ruff: noqa: E501 (a table)

from __future__ import annotations

from random import Random

FIXED = (
    "fix the bug", "Fix the bug.", "Fix the failing test.", "Fix the failing tests.", "fix the tests", "make the tests pass",
    "The tests fail. Fix the code.", "Make the tests pass.", "A test is failing, please fix it.", "fix it", "fix",
    "Repair the failing test.", "Make it green.", "Fix the bug in {m}.", "The tests in {t} fail. Fix {m}.",
    "Please repair {m}.", "{m} has a bug. Fix it.", "Make {t} pass.", "`{f}` in {m} is wrong. Fix it.", "Fix `{f}`.",
    "`{f}` returns a wrong result. Fix it.", "Repair the function {f} in {m}.", "fix {f}", "why does {f} fail?",
    "{f} gives the wrong answer, find out why and correct it", "Find the bugs and fix them.", "Make python3 -m unittest pass.",
    "There are bugs in {m}. Find and fix all of them.", "Get the test suite back to green, please.",
)  # fmt: skip
_COMMON = """
the a an is are was be it this that of in on to for with and or but not no please can you could should
would there bug bugs error wrong result test tests code function value line file module fix repair
correct make pass fail green red find out why look at see what when all some one two both customers users
report says since yesterday release shows too much little many few order total price sum number list
returns expected instead got should calculate problem issue ticket urgent today before after the we I my
our they never always sometimes broken again new old change only small carefully without touching
anything else thanks hello hi need want help me clean up work works
"""
COMMON = tuple(_COMMON.split())


def sentence(random: Random, module: str, test: str, function: str) -> str:
    """One task: a usual sentence, or a heap of words that may name the file or the function."""
    if random.random() < 0.5:
        return random.choice(FIXED).format(m=module, t=test, f=function)
    words = [random.choice(COMMON) for _ in range(random.choice((2, 4, 6, 9, 14, 22)))]
    if random.random() < 0.4:
        words.insert(
            random.randrange(len(words) + 1),
            random.choice((module, test, function, f"`{function}`", f"{function}()")),
        )
    text = " ".join(words)
    if random.random() < 0.5:
        text = text[0].upper() + text[1:] + random.choice((".", ".", "!", "?"))
    return text
