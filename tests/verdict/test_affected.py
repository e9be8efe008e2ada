"""After an edit, the tests that it can have touched come first; no test is ever lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.verdict import imports
from poolcli.verdict.affected import Graph, Order, is_test, order, start_of
from poolcli.verdict.imports import ImportCache, build, resolve
from tests.verdict.projects import write

SHOP = {
    "src/shop/__init__.py": "",
    "src/shop/cart.py": "from . import prices\nfrom .tax import rate\n",
    "src/shop/prices.py": "from shop.tax import rate as r\n",
    "src/shop/tax.py": "import os\n",
    "src/shop/mail/__init__.py": "from .sender import send\n",
    "src/shop/mail/sender.py": "",
    "tests/conftest.py": "import helpers\n",
    "tests/helpers.py": "",
    "tests/test_cart.py": "from shop.cart import total\n",
    "tests/test_tax.py": "import shop.tax\n",
    "tests/test_mail.py": "from unittest import mock\nmock.patch('shop.mail.sender.send')\n",
    "tests/test_unrelated.py": "import json\n",
}
TESTS = (
    "tests/test_cart.py::test_total",
    "tests/test_cart.py::TestCart::test_empty[a::b]",
    "tests/test_mail.py::test_sends",
    "tests/test_tax.py::test_rate",
    "tests/test_unrelated.py::test_it",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    root = write(tmp_path_factory.mktemp("shop"), SHOP)
    return build(root, SHOP)


def test_python_imports_are_followed(shop: Graph) -> None:
    assert shop.imports["src/shop/cart.py"] == (
        "src/shop/__init__.py",
        "src/shop/prices.py",
        "src/shop/tax.py",
    )
    assert set(shop.imports["src/shop/prices.py"]) == {"src/shop/__init__.py", "src/shop/tax.py"}
    assert shop.imports["src/shop/mail/__init__.py"] == ("src/shop/mail/sender.py",)
    assert set(shop.imports["tests/test_cart.py"]) == {
        "src/shop/__init__.py",
        "src/shop/cart.py",
        "tests/conftest.py",
    }
    # A module named in a string, as mock.patch gets it.
    assert "src/shop/mail/sender.py" in shop.imports["tests/test_mail.py"]
    assert shop.imports["tests/conftest.py"] == ("tests/helpers.py",)


def test_failed_first_then_by_name_then_by_import(shop: Graph) -> None:
    got = order(TESTS, ["src/shop/tax.py"], {"tests/test_unrelated.py::test_it"}, shop)
    assert got.failed == ("tests/test_unrelated.py::test_it",)
    assert got.named == ("tests/test_tax.py::test_rate",)
    assert got.reached == TESTS[:2]
    assert got.rest == ("tests/test_mail.py::test_sends",)
    assert got.all == (TESTS[4], TESTS[3], TESTS[0], TESTS[1], TESTS[2])


def test_closer_importers_come_first() -> None:
    graph = Graph(
        {"far.py": ("mid.py",), "mid.py": ("x.py",), "test_far.py": ("far.py",), "test_mid.py": ("mid.py",)}
    )
    got = order(("test_far.py::a", "test_mid.py::b", "test_far.py::c"), ["x.py"], (), graph)
    assert got.reached == ("test_mid.py::b", "test_far.py::a", "test_far.py::c")
    assert graph.distances(["x.py"]) == {
        "x.py": 0,
        "mid.py": 1,
        "far.py": 2,
        "test_mid.py": 2,
        "test_far.py": 3,
    }


def test_circles_end() -> None:
    graph = Graph({"a.py": ("b.py",), "b.py": ("a.py",)})
    assert graph.distances(["a.py"]) == {"a.py": 0, "b.py": 1}


def test_a_conftest_is_imported_by_what_lies_below_it(shop: Graph) -> None:
    assert order(TESTS, ["tests/helpers.py"], (), shop).reached == TESTS


def test_what_was_seen_to_run_the_file_comes_before_what_may() -> None:
    got = order(TESTS, ["src/shop/tax.py"], (), Graph(), covered={TESTS[4]: {"src/shop/tax.py"}})
    assert got.ran == (TESTS[4],) and got.named == (TESTS[3],)


@pytest.mark.parametrize(
    ("test", "changed"),
    [
        ("tests/test_split.py::a", "sqlparse/engine/statement_splitter.py"),
        ("tests/test_split_long.py::a", "pkg/split.py"),
        ("tests/test_engine.py::a", "pkg/engine/__init__.py"),
        ("pkg/cart_test.py::a", "pkg/cart.py"),
        ("tests.test_cart.TestCart.test_a", "shop/cart.py"),
        ("test_cart.TestCart.test_a", "shop/cart.py"),
        ("src/cart.test.ts > cart > adds", "src/cart.ts"),
        ("src/__tests__/cart.js > adds", "src/cart.js"),
        ("spec/cart_spec.rb > adds", "lib/cart.rb"),
        ("com.example.CartTest.adds", "src/main/java/com/example/Cart.java"),
        ("example.com/shop/cart.TestAdd/empty", "cart/add.go"),
        ("tests/test_a.py::b", "tests/test_a.py"),
    ],
)
def test_names_that_belong_together(test: str, changed: str) -> None:
    graph = Graph({"tests/test_cart.py": ()})
    assert order([test, "tests/test_else.py::x"], [changed], (), graph).named == (test,)


@pytest.mark.parametrize(
    ("test", "changed"),
    [
        ("tests/test_cart.py::a", "shop/card.py"),
        ("tests/test_cart.py::a", "shop/tax.py"),
        ("tests/test_cart.py::cart", "contest.py"),
        ("tests/test_a.py::b", "tests/test_b.py"),
        ("com.example.CartTest.adds", "src/main/java/com/example/Order.java"),
        ("example.com/shop/cart.TestAdd", "order/add.go"),
        ("no file at all", "shop/cart.py"),
        ("", "shop/cart.py"),
    ],
)
def test_names_that_do_not(test: str, changed: str) -> None:
    got = order([test], [changed], (), Graph())
    assert got.rest == (test,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("test_a.py", True),
        ("a_test.go", True),
        ("a.spec.ts", True),
        ("ATest.java", True),
        ("app/tests.py", True),
        ("tests/helper.py", True),
        ("contest.py", False),
        ("latest.py", False),
        ("testing/run.py", False),
        ("attest.js", False),
        ("inspect.py", False),
    ],
)
def test_what_a_test_file_is(path: str, expected: bool) -> None:
    assert is_test(path) is expected


NAMES = st.sampled_from(["a", "b", "test_a", "test_b", "a_test", "c/test_d", "c/__init__", "conftest"])
PATHS = NAMES.map(lambda name: name + ".py")


@given(
    st.lists(PATHS.flatmap(lambda path: st.sampled_from([f"{path}::x", f"{path}::X::y[1]", "loose"]))),
    st.lists(PATHS),
    st.sets(PATHS.map(lambda path: f"{path}::x")),
    st.dictionaries(PATHS, st.lists(PATHS, max_size=3).map(tuple)),
    st.floats(0, 10),
    st.floats(0, 10),
)
def test_no_test_is_lost_and_none_runs_twice(
    tests: list[str],
    changed: list[str],
    failed: set[str],
    edges: dict[str, tuple[str, ...]],
    start: float,
    whole: float,
) -> None:
    got = order(tests, changed, failed, Graph(edges))
    assert sorted(got.all) == sorted(set(tests))
    assert set(got.failed) == failed & set(tests)
    staged = [test for stage in got.stages(start=start, whole=whole) for test in stage]
    assert len(staged) == len(set(staged)) and set(staged) <= set(tests)


# --- stages ----------------------------------------------------------------------------------------------------


def test_stages_are_what_failed_and_then_what_is_near() -> None:
    got = Order(failed=("f",), named=("n",), reached=("r",), rest=tuple(f"t{n}" for n in range(20)))
    assert got.stages() == (("f",), ("n", "r"))


def test_a_stage_that_costs_nearly_as_much_as_everything_is_left_out() -> None:
    rest = tuple(f"t{n}" for n in range(20))
    assert Order(named=("n",), reached=rest[:10], rest=rest[10:]).stages() == (("n",),)
    assert Order(failed=rest[:15], rest=rest[15:]).stages() == ()
    # By the clock: one test that takes as long as all others.
    slow = Order(failed=("f",), named=("slow",), rest=rest)
    assert slow.stages() == (("f",), ("slow",))
    assert slow.stages(seconds=dict.fromkeys(rest, 0.1) | {"slow": 2.0, "f": 0.1}) == (("f",),)


def test_where_the_start_is_most_of_it_there_is_little_to_save() -> None:
    got = Order(failed=("f",), named=("n",), rest=tuple(f"t{n}" for n in range(18)))
    seconds = dict.fromkeys(got.all, 0.05)
    assert got.stages(seconds=seconds, start=0.1) == (("f",), ("n",))
    assert got.stages(seconds=seconds, start=1.0) == (("f",),)
    assert got.stages(seconds=seconds, start=9.0) == ()
    # What the whole took beyond that was spent on the tests.
    assert got.stages(seconds=seconds, start=9.0, whole=20.0) == (("f",),)
    assert got.stages(seconds=seconds, start=9.0, whole=100.0) == (("f",), ("n",))


def test_what_a_start_takes() -> None:
    assert start_of(2.0, 1.5, few=True) == 0.5
    assert start_of(2.0, 1.0, few=False) == 0.5
    assert start_of(1.0, 4.0, few=True) == 0.0  # tests that ran at once


# --- reading imports -------------------------------------------------------------------------------------------


def test_scripts_are_followed_by_their_paths(tmp_path: Path) -> None:
    files = {
        "src/cart.ts": "import { rate } from './tax.js'\nexport * from '.';\nimport type {A} from \"lodash\"\n",
        "src/tax.ts": "",
        "src/index.ts": "const x = require('../lib/util');",
        "lib/util/index.js": "",
        "test/cart.test.ts": "jest.mock('../src/tax')\nawait import(`../src/cart`)\nimport './none'\n",
        "test/b.mjs": "import x from '../../outside/of/it.js'\nimport\n  '../src/cart.ts?raw'",
    }
    graph = build(write(tmp_path, files), files)
    assert graph.imports == {
        "src/cart.ts": ("src/tax.ts", "src/index.ts"),
        "src/tax.ts": (),
        "src/index.ts": ("lib/util/index.js",),
        "lib/util/index.js": (),
        "test/cart.test.ts": ("src/tax.ts", "src/cart.ts"),
        "test/b.mjs": ("src/cart.ts",),
    }
    assert set(graph.distances(["lib/util/index.js"])) == {
        "lib/util/index.js",
        "src/index.ts",
        "src/cart.ts",
        "test/cart.test.ts",
        "test/b.mjs",
    }


def test_the_graph_agrees_with_what_python_really_loads(tmp_path: Path) -> None:
    """Every project file that a real import loads is reached in the graph."""
    root = write(tmp_path, SHOP)
    graph = build(root, SHOP)
    for file in ("tests/test_cart.py", "tests/test_tax.py"):
        module = "shop.cart" if "cart" in file else "shop.tax"
        # `rate`, `total` do not exist: what is loaded before the names are looked up is what counts.
        script = (
            f"import sys; sys.path[:0] = ['src']\ntry:\n    import {module}\nexcept ImportError: pass\n"
            "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('shop')), sep='\\n')"
        )
        said = subprocess.run(
            [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
        )
        loaded = {str(Path(line).resolve().relative_to(root.resolve())) for line in said.stdout.split()}
        assert loaded
        assert all(file in graph.distances([each]) for each in loaded), (file, loaded)


def test_files_that_cannot_be_read_import_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"broken.py": "def (", "nul.py": "\0", "deep.py": "(" * 5000, "ok.py": "import broken\n"})
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "big.py").write_text("import ok\n" * (imports.FILE_BYTES // 10 + 1))
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nimport ok # \xe9\n")
    names = [
        "broken.py",
        "nul.py",
        "deep.py",
        "ok.py",
        "link.py",
        "big.py",
        "latin.py",
        "absent.py",
        "read.md",
    ]
    graph = build(tmp_path, names)
    assert graph.imports == {
        "broken.py": (),
        "nul.py": (),
        "deep.py": (),
        "ok.py": ("broken.py",),
        "latin.py": ("ok.py",),
    }


def test_only_what_changed_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "root", SHOP)
    kept = tmp_path / "state" / "imports.json"
    first = build(root, SHOP, ImportCache(kept))
    assert kept.exists()
    read = []
    monkeypatch.setattr(imports, "_python", lambda content: read.append(content) or ["shop.cart"])
    assert build(root, SHOP, ImportCache(kept)) == first and read == []
    (root / "src/shop/tax.py").write_text("import shop.cart\n")
    assert build(root, SHOP, ImportCache(kept)).imports["src/shop/tax.py"] == (
        "src/shop/__init__.py",
        "src/shop/cart.py",
    )
    assert read == [b"import shop.cart\n"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b"\xff"])
def test_a_damaged_cache_is_none(content: bytes, tmp_path: Path) -> None:
    root = write(tmp_path / "root", SHOP)
    kept = tmp_path / "imports.json"
    kept.write_bytes(content)
    assert build(root, SHOP, ImportCache(kept)) == build(root, SHOP)
    assert len(kept.read_bytes()) > len(content)
    (tmp_path / "file").write_text("")
    assert build(root, SHOP, ImportCache(tmp_path / "file" / "x.json")) == build(root, SHOP)


@given(st.dictionaries(PATHS, st.lists(st.text(".:?abc", max_size=8), max_size=4)))
def test_any_import_leads_to_a_file_of_the_project_or_nowhere(raw: dict[str, list[str]]) -> None:
    graph = resolve(raw)
    assert graph.imports.keys() == raw.keys()
    assert all(target in raw and target != file for file, found in graph.imports.items() for target in found)
