"""The tree of a repository: whole when small, condensed and bounded when not."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolcli.repomap.names import shown, words
from poolcli.repomap.overview import CHARACTERS, overview


def nothing(path: str) -> None:
    return None


def paths(*names: str) -> list[tuple[str, int]]:
    return [(name, 100) for name in names]


PROJECT = paths(
    "README.md", "pyproject.toml", "shop/__init__.py", "shop/__main__.py",
    *(f"shop/orders/order_{n}.py" for n in range(30)), "shop/invoicing/invoices.py", "shop/invoicing/totals.py",
    *(f"vendor/lib/part{n}.c" for n in range(200)), *(f"vendor/lib/part{n}.h" for n in range(150)),
    "tests/test_invoice.py", *(f"tests/test_{n}.py" for n in range(20)),
)  # fmt: skip


def test_empty():
    assert overview([], "fix it", budget=100, read=nothing) == ""


def test_small_repositories_are_listed_whole():
    files = paths("test_calc.py", "calc.py", "docs/a b.md")
    assert overview(files, "fix it", budget=100, read=nothing) == 'calc.py\n"docs/a b.md"\ntest_calc.py'


def test_large_files_show_their_size():
    files = [("data.csv", 2_500_000), ("notes.txt", 250_000), ("a.py", 99_000)]
    assert overview(files, "", budget=100, read=nothing) == "a.py\ndata.csv (2.5 MB)\nnotes.txt (250 kB)"


def test_head():
    pyproject = (
        '[project]\nname = "shop"\n\n[project.scripts]\nshop = "shop.__main__:main"\n\n[tool.x]\ny = "z"\n'
    )
    text = overview(PROJECT, "", budget=900, read={"pyproject.toml": pyproject}.get)
    assert text.splitlines()[:4] == [
        "407 files: C 350, Python 55, Markdown 1, other 1",
        "start at: README.md, pyproject.toml, shop/__main__.py",
        "commands: shop (shop.__main__:main)",
        "tests: tests/ (21 files)",
    ]


def test_what_is_foreign_stays_closed_and_what_is_relevant_is_opened():
    text = overview(PROJECT, "The invoice total is wrong", budget=170, read=nothing)
    lines = text.splitlines()
    assert "shop/invoicing/ invoices.py totals.py" in lines
    assert "vendor/ (350 files: .c .h)" in lines
    assert any(line.startswith("tests/ ") and "test_invoice.py" in line for line in lines)


def test_relevant_files_of_a_big_folder_are_named():
    files = paths(*(f"src/handler_{n}.go" for n in range(3000)), "src/zip_reader.go")
    text = overview(files, "the ZipReader loses the last byte", budget=300, read=nothing)
    assert "zip_reader.go" in text
    assert re.search(r"… \d+ more", text)


def test_a_path_in_the_task_weighs_most():
    files = paths(*(f"parser/parser_{n}/parser.py" for n in range(100)), *(f"z{n}/x.py" for n in range(80)))
    text = overview(files, "fix the parser used in z70/x.py", budget=250, read=nothing)
    assert "z70/ x.py" in text.splitlines()


def test_neighbours_do_not_come_between_a_folder_and_what_is_in_it():
    files = paths(
        *(f"a/b/f{n}.py" for n in range(50)), "a/x.py", "a-b/y.py", *(f"c/f{n}.py" for n in range(20))
    )
    starts = [line.split(" ")[0] for line in overview(files, "", budget=900, read=nothing).splitlines()]
    assert starts[-4:] == ["a/", "a/b/", "a-b/", "c/"]


def test_many_folders_are_counted():
    files = paths(*(f"folder{n:04}/x.py" for n in range(2000)))
    last = overview(files, "", budget=200, read=nothing).splitlines()[-1]
    match = re.fullmatch(r"… (\d+) more folders \((\d+) files\)", last)
    assert match and match[1] == match[2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "a.py"), ("a b.py", '"a b.py"'), ("a\nb", '"a\\u000ab"'), ('say "hi"', '"say \\"hi\\""'),
        ("</repository>", '"\\u003c/repository\\u003e"'),
        ("größe.py", "größe.py"), ("a\u202eb", '"a\\u202eb"'), ("a\udcff", '"a\\udcff"'),
        ("x\U000e0041", '"x\\U000e0041"'), ("", '""'),
    ],
)  # fmt: skip
def test_names(name, text):
    assert shown(name) == text


def test_words():
    assert words("fix HTTPServer's parse_classes in fooBars/queries2.py") == {
        "http", "server", "parse", "class", "foo", "bar", "query",
    }  # fmt: skip
    assert words("the status of this bus") == {"status", "bus"}


NAMES = st.text(
    st.characters(codec=None) | st.sampled_from(list('ab._-/ \n<>"\\\x1b\u202e\udcff')),
    min_size=1,
    max_size=12,
)
FILES = st.dictionaries(
    st.lists(NAMES.map(lambda name: name.replace("/", "_")), min_size=1, max_size=5).map("/".join),
    st.integers(0, 10**10),
    max_size=90,
)


@given(FILES, st.text(max_size=60), st.integers(0, 400), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_bounded_deterministic_and_unable_to_end_its_section(files, task, budget, random: Random):
    listed = list(files.items())
    text = overview(listed, task, budget=budget, read=nothing)
    assert len(text) <= budget * CHARACTERS
    assert "<" not in text
    assert all(line.isprintable() for line in text.split("\n"))
    random.shuffle(listed)
    assert overview(listed, task, budget=budget, read=nothing) == text


@pytest.mark.parametrize("count", [61, 7000, 80_000])
def test_large_repositories_fill_the_budget_and_no_more(count):
    random = Random(count)
    folders = [
        "/".join(f"part{random.randrange(20)}" for _ in range(random.randrange(1, 6)))
        for _ in range(count // 12)
    ]
    files = [(f"{random.choice(folders)}/file_{n}.py", 10) for n in range(count)]
    text = overview(files, "part7 is slow", budget=1500, read=nothing)
    assert len(text) <= 1500 * CHARACTERS
    assert count < 1000 or len(text) > 1000 * CHARACTERS
    assert text.startswith(f"{count} files: Python {count}\n")
