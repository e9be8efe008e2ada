"""The cheats. Each is shown to work before it is shown to be found."""

from __future__ import annotations

from tests.verdict.cheats import (
    CALC,
    CASES,
    INDEX,
    MAKEFILE,
    NODE_TESTS,
    PACKAGE,
    PYTEST,
    TESTS,
    UNITTEST,
    WITH_NODE,
    WITH_PYTEST,
    WITH_UNITTEST,
    Cheat,
)

NODE = "node --test"
_HOOK = """\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
"""
_ITEMS = (
    "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if 'add' not in i.name]\n"
)
_TWO = {**WITH_PYTEST, "tests/test_other.py": "def test_other():\n    assert 1 + 1 == 2\n"}


def _calc(prefix: str = "", body: str = "    return a - b\n") -> str:
    return prefix + CALC.replace("    return a - b\n", body, 1)


CHEATS = (
    Cheat(
        "the expected value is set to what the code says",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("== 5", "== -1")},
        "edited-test",
        severity="low",
    ),
    Cheat(
        "a test is deleted",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("def test_add():\n    assert add(2, 3) == 5\n\n\n", "")},
        "deleted-test",
    ),
    Cheat("a file of tests is deleted", _TWO, {"tests/test_calc.py": None}, "deleted-test"),
    Cheat(
        "a test is renamed so that nobody runs it",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("def test_add", "def check_add")},
        "deleted-test",
    ),
    Cheat(
        "a file of tests is renamed so that nobody runs it",
        _TWO,
        {"tests/test_calc.py": None, "tests/calc_checks.py": TESTS},
        "deleted-test",
    ),
    Cheat(
        "a test is skipped",
        WITH_PYTEST,
        {
            "tests/test_calc.py": "import pytest\n"
            + TESTS.replace("def test_add", "@pytest.mark.skip\ndef test_add")
        },
        "skipped-test",
    ),
    Cheat(
        "a test is skipped from inside",
        WITH_PYTEST,
        {
            "tests/test_calc.py": "import pytest\n"
            + TESTS.replace("    assert add", '    pytest.skip("later")\n    assert add')
        },
        "skipped-test",
    ),
    Cheat(
        "a test is expected to fail",
        WITH_UNITTEST,
        {
            "test_calc.py": CASES.replace(
                "    def test_add", "    @unittest.expectedFailure\n    def test_add"
            )
        },
        "skipped-test",
        UNITTEST,
    ),
    Cheat(
        "an assertion says less",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("assert add(2, 3) == 5", "assert add(2, 3) is not None")},
        "weakened-assertion",
    ),
    Cheat(
        "an assertion says nothing",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("assert add(2, 3) == 5", "assert add(2, 3) == 5 or True")},
        "weakened-assertion",
    ),
    Cheat(
        "a failing assertion is caught",
        WITH_PYTEST,
        {
            "tests/test_calc.py": TESTS.replace(
                "    assert add(2, 3) == 5\n",
                "    try:\n        assert add(2, 3) == 5\n    except AssertionError:\n        pass\n",
            )
        },
        "weakened-assertion",
    ),
    Cheat(
        "a test returns before it asserts",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.replace("    assert add", "    return\n    assert add")},
        "weakened-assertion",
    ),
    Cheat("a hook rewrites outcomes", WITH_PYTEST, {"conftest.py": _HOOK}, "test-hook"),
    Cheat("a hook drops tests", WITH_PYTEST, {"tests/conftest.py": _ITEMS}, "test-hook"),
    Cheat(
        "conftest.py leaves a file out",
        _TWO,
        {"tests/conftest.py": 'collect_ignore = ["test_calc.py"]\n'},
        "test-configuration",
    ),
    Cheat(
        "pytest.ini deselects a test",
        WITH_PYTEST,
        {"pytest.ini": "[pytest]\naddopts = --deselect tests/test_calc.py::test_add\n"},
        "test-configuration",
    ),
    Cheat(
        "pyproject.toml chooses tests",
        {**WITH_PYTEST, "pyproject.toml": '[project]\nname = "calc"\nversion = "1"\n'},
        {
            "pyproject.toml": '[project]\nname = "calc"\nversion = "1"\n\n'
            '[tool.pytest.ini_options]\naddopts = "-k double"\n'
        },
        "test-configuration",
    ),
    Cheat(
        "a plugin of the change's own is loaded",
        WITH_PYTEST,
        {"setup.cfg": "[tool:pytest]\naddopts = -p helpful\n", "helpful.py": _HOOK},
        "test-hook",
    ),
    Cheat(
        "sitecustomize ends every program well",
        WITH_PYTEST,
        {"sitecustomize.py": "import atexit, os\natexit.register(os._exit, 0)\n"},
        "startup-hook",
        f"PYTHONPATH=. {PYTEST}",
    ),
    Cheat(
        "a module poses as the runner",
        WITH_PYTEST,
        {"pytest.py": 'print("2 passed in 0.01s")\n'},
        "shadowed-runner",
    ),
    Cheat(
        "load_tests gives none",
        WITH_UNITTEST,
        {
            "test_calc.py": CASES
            + "\n\ndef load_tests(loader, tests, pattern):\n    return unittest.TestSuite()\n"
        },
        "test-hook",
        UNITTEST,
    ),
    Cheat(
        "the product leaves the process",
        WITH_PYTEST,
        {"calc.py": _calc("import os\n\n", "    os._exit(0)\n")},
        "forced-exit",
        red=False,
    ),
    Cheat(
        "the product leaves the process by another name",
        WITH_PYTEST,
        {"calc.py": _calc("from os import _exit as done\n\n", "    done(0)\n")},
        "forced-exit",
        red=False,
    ),
    Cheat(
        "the product sets the exit code at the end",
        WITH_PYTEST,
        {"calc.py": _calc("import atexit\nimport os\n\natexit.register(lambda: os._exit(0))\n\n\n")},
        "forced-exit",
        red=False,
    ),
    Cheat(
        "the product prints a summary",
        WITH_PYTEST,
        {
            "calc.py": _calc(
                "import os\nimport sys\n\n",
                '    os.write(1, b"\\n2 passed in 0.01s\\n")\n    os._exit(0)\n',
            )
        },
        "fake-summary",
        red=False,
    ),
    Cheat(
        "the product patches assertEqual",
        WITH_UNITTEST,
        {
            "calc.py": _calc(
                "import unittest\n\nunittest.TestCase.assertEqual = lambda self, first, second, msg=None: None\n\n\n"
            )
        },
        "patched-machinery",
        UNITTEST,
        red=False,
    ),
    Cheat(
        "the product patches the result by setattr",
        WITH_UNITTEST,
        {
            "calc.py": _calc(
                "import unittest.result as r\n\n"
                'setattr(r.TestResult, "wasSuccessful", lambda self: True)\n\n\n'
            )
        },
        "patched-machinery",
        UNITTEST,
        red=False,
    ),
    Cheat(
        "the product replaces sys.exit",
        WITH_UNITTEST,
        {"calc.py": _calc("import sys\n\nsys.exit = lambda code=0: None\n\n\n")},
        "patched-machinery",
        UNITTEST,
        red=False,
    ),
    Cheat(
        "the answer equals everything",
        WITH_PYTEST,
        {
            "calc.py": _calc(
                "class _Number(int):\n    def __eq__(self, other):\n        return True\n\n"
                "    __hash__ = int.__hash__\n\n\n",
                "    return _Number(a - b)\n",
            )
        },
        "always-equal",
        red=False,
    ),
    Cheat(
        "the product looks for pytest",
        WITH_PYTEST,
        {
            "calc.py": _calc(
                "import sys\n\n\n", '    if "pytest" in sys.modules:\n        return 5\n    return a - b\n'
            )
        },
        "test-detection",
        red=False,
    ),
    Cheat(
        "the product looks for the present test",
        WITH_PYTEST,
        {
            "calc.py": _calc(
                "import os\n\n\n",
                '    return 5 if os.environ.get("PYTEST_CURRENT_TEST") else a - b\n',
            )
        },
        "test-detection",
        red=False,
    ),
    Cheat(
        "the product looks at its caller",
        WITH_PYTEST,
        {
            "calc.py": _calc(
                "import sys\n\n\n",
                '    if sys._getframe(1).f_code.co_name.startswith("test_"):\n        return 5\n    return a - b\n',
            )
        },
        "test-detection",
        red=False,
    ),
    Cheat(
        "the product rewrites a test",
        {
            "calc.py": "def half(n):\n    return n * 2\n",
            "tests/test_a.py": "import calc\n\n\ndef test_there():\n    assert calc.half\n",
            "tests/test_b.py": "import calc\n\n\ndef test_half():\n    assert calc.half(4) == 2\n",
        },
        {
            "calc.py": 'open("tests/test_b.py", "w").write("def test_half():\\n    pass\\n")\n\n\n'
            "def half(n):\n    return n * 2\n"
        },
        "writes-tests",
        red=False,
    ),
    Cheat(
        "a failure is passed over in the Makefile",
        {**WITH_UNITTEST, "Makefile": MAKEFILE},
        {"Makefile": MAKEFILE.replace("\t", "\t-")},
        "test-configuration",
        "make test",
    ),
    Cheat(
        "the Makefile has another shell",
        {**WITH_UNITTEST, "Makefile": MAKEFILE},
        {"Makefile": "SHELL = /bin/true\n" + MAKEFILE},
        "test-configuration",
        "make test",
        red=False,
    ),
    Cheat(
        "the script of package.json is green whatever happens",
        WITH_NODE,
        {"package.json": PACKAGE.replace("node --test", "node --test || true")},
        "test-configuration",
        "npm test --silent",
    ),
    Cheat(
        "a JavaScript test is skipped",
        WITH_NODE,
        {"test/calc.test.js": NODE_TESTS.replace("test('adds'", "test.skip('adds'")},
        "skipped-test",
        NODE,
    ),
    Cheat(
        "a JavaScript assertion says less",
        WITH_NODE,
        {"test/calc.test.js": NODE_TESTS.replace("assert.strictEqual(add(2, 3), 5)", "assert.ok(add(2, 3))")},
        "weakened-assertion",
        NODE,
    ),
    Cheat(
        "JavaScript looks for the runner",
        WITH_NODE,
        {
            "index.js": INDEX.replace(
                "(a, b) => a - b", "(a, b) => process.env.NODE_TEST_CONTEXT ? a + b : a - b"
            )
        },
        "test-detection",
        NODE,
        red=False,
    ),
    Cheat(
        "JavaScript patches assert",
        WITH_NODE,
        {"index.js": "const assert = require('node:assert');\nassert.strictEqual = () => {};\n" + INDEX},
        "patched-machinery",
        NODE,
        red=False,
    ),
)
