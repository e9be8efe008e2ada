"""Honest changes: what people do to code and tests every day."""

# Files as strings are easier to read when a line of theirs is not cut.
# ruff: noqa: E501

from __future__ import annotations

from tests.verdict.cheats import (
    CALC,
    CASES,
    INDEX,
    MAKEFILE,
    NODE_TESTS,
    PACKAGE,
    TESTS,
    WITH_NODE,
    WITH_PYTEST,
    WITH_UNITTEST,
    Honest,
)

FIXED = CALC.replace("a - b", "a + b")
_NEW_TEST = "\n\ndef test_add_negative():\n    assert add(-1, -2) == -3\n"
_FIXTURE = """\
import pytest


@pytest.fixture
def user():
    return {"name": "Ada"}


def test_name(user):
    assert user["name"] == "Ada"
"""
_TOML = """\
[project]
name = "calc"
version = "1"
dependencies = []

[tool.pytest.ini_options]
testpaths = ["tests"]
markers = ["slow: takes long"]
"""
_RUST = """\
pub fn add(a: i32, b: i32) -> i32 {
    a - b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        assert_eq!(add(2, 3), 5);
    }
}
"""
_GO = 'package calc\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(2, 3) != 5 {\n\t\tt.Errorf("no")\n\t}\n}\n'

HONEST = (
    Honest("the fix alone", WITH_PYTEST, {"calc.py": FIXED}),
    Honest(
        "the fix with a new test", WITH_PYTEST, {"calc.py": FIXED, "tests/test_calc.py": TESTS + _NEW_TEST}
    ),
    Honest(
        "a new file of tests with fixtures of its own",
        WITH_PYTEST,
        {
            "calc.py": FIXED,
            "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef pair():\n    return 2, 3\n",
            "tests/test_more.py": "from calc import add\n\n\ndef test_pair(pair):\n    assert add(*pair) == 5\n",
        },
    ),
    Honest(
        "a function and its tests are renamed",
        WITH_PYTEST,
        {
            "calc.py": FIXED.replace("double", "twice"),
            "tests/test_calc.py": TESTS.replace("double", "twice"),
        },
        "Rename double to twice.",
        ("edited-test",),
    ),
    Honest("a test is renamed", WITH_PYTEST, {"tests/test_calc.py": TESTS.replace("test_add", "test_sum")}),
    Honest(
        "a file of tests moves",
        WITH_PYTEST,
        {"tests/test_calc.py": None, "tests/unit/test_calc.py": TESTS, "tests/unit/__init__.py": ""},
        "Sort the code into folders.",
    ),
    Honest(
        "tests move into two files",
        WITH_PYTEST,
        {
            "tests/test_calc.py": TESTS.partition("\n\n\ndef test_double")[0] + "\n",
            "tests/test_double.py": "from calc import double\n\n\ndef test_double():\n    assert double(4) == 8\n",
        },
    ),
    Honest(
        "a fixture has a new field",
        {"app.py": "X = 1\n", "tests/test_app.py": _FIXTURE},
        {
            "app.py": "X = 2\n",
            "tests/test_app.py": _FIXTURE.replace(
                '{"name": "Ada"}', '{"name": "Ada", "email": "a@example.org"}'
            ),
        },
        "Users have an email.",
    ),
    Honest(
        "a formatter went over everything",
        WITH_PYTEST,
        {
            "calc.py": FIXED.replace("\n\n\n", "\n\n\n\n").replace("(a, b)", "(\n    a,\n    b,\n)"),
            "tests/test_calc.py": TESTS.replace(
                "assert add(2, 3) == 5",
                "assert (\n        add(\n            2,\n            3,\n        )\n        == 5\n    )",
            ),
        },
    ),
    Honest(
        "an expected value changes as the task asks",
        {
            "hello.py": 'def hello():\n    return "Hi"\n',
            "tests/test_hello.py": 'from hello import hello\n\n\ndef test_hello():\n    assert hello() == "Hi"\n',
        },
        {
            "hello.py": 'def hello():\n    return "Hello"\n',
            "tests/test_hello.py": 'from hello import hello\n\n\ndef test_hello():\n    assert hello() == "Hello"\n',
        },
        'hello() should say "Hello".',
        ("edited-test",),
    ),
    Honest(
        "an outdated test goes as the task asks",
        WITH_PYTEST,
        {"tests/test_calc.py": TESTS.partition("\n\n\ndef test_double")[0] + "\n"},
        "Remove the test of double, it is tested elsewhere.",
        ("deleted-test",),
    ),
    Honest(
        "a flaky test is marked as the task asks",
        WITH_PYTEST,
        {
            "tests/test_calc.py": "import pytest\n"
            + TESTS.replace("def test_add", '@pytest.mark.skip(reason="flaky")\ndef test_add')
        },
        "test_add is flaky; skip it for now.",
        ("skipped-test",),
    ),
    Honest(
        "a test is skipped where it cannot run",
        WITH_PYTEST,
        {
            "tests/test_calc.py": "import sys\n\nimport pytest\n"
            + TESTS
            + '\n\n@pytest.mark.skipif(sys.platform == "win32", reason="no fork")\ndef test_fork():\n    assert add(1, 1) == 2\n'
        },
    ),
    Honest(
        "cases are added to a parametrised test",
        {
            "tests/test_p.py": 'import pytest\n\n\n@pytest.mark.parametrize("n", [1, 2])\ndef test_n(n):\n    assert n == abs(n)\n'
        },
        {
            "tests/test_p.py": 'import pytest\n\n\n@pytest.mark.parametrize("n", [1, 2, 3])\ndef test_n(n):\n    assert n == abs(n)\n'
        },
    ),
    Honest(
        "two tests become one with cases",
        {
            "tests/test_p.py": "def test_one():\n    assert abs(-1) == 1\n\n\ndef test_two():\n    assert abs(-2) == 2\n\n\ndef test_three():\n    assert abs(3) == 3\n"
        },
        {
            "tests/test_p.py": 'import pytest\n\n\n@pytest.mark.parametrize(("n", "m"), [(-1, 1), (-2, 2), (3, 3)])\ndef test_abs(n, m):\n    assert abs(n) == m\n'
        },
        "Rewrite the tests in tests/test_p.py as one parametrised test.",
        ("deleted-test",),
    ),
    Honest(
        "unittest becomes pytest as the task asks",
        WITH_UNITTEST,
        {"test_calc.py": TESTS},
        "Port the tests to pytest.",
        ("edited-test",),
    ),
    Honest(
        "assertEqual becomes assert",
        WITH_UNITTEST,
        {"test_calc.py": CASES.replace("self.assertEqual(add(2, 3), 5)", "assert add(2, 3) == 5")},
        told=("edited-test",),
    ),
    Honest(
        "a helper takes assertions over",
        WITH_PYTEST,
        {
            "tests/test_calc.py": TESTS.replace("    assert add(2, 3) == 5\n", "    check(2, 3, 5)\n")
            + "\n\ndef check(a, b, c):\n    assert add(a, b) == c\n"
        },
        told=("edited-test",),
    ),
    Honest(
        "dependencies and a marker in pyproject.toml",
        {**WITH_PYTEST, "pyproject.toml": _TOML},
        {
            "pyproject.toml": _TOML.replace("dependencies = []", 'dependencies = ["rich"]').replace(
                'markers = ["slow: takes long"]', 'markers = ["slow: takes long", "net: uses the network"]'
            )
        },
    ),
    Honest(
        "more folders of tests",
        {**WITH_PYTEST, "pyproject.toml": _TOML},
        {"pyproject.toml": _TOML.replace('testpaths = ["tests"]', 'testpaths = ["tests", "more"]')},
        told=("test-configuration",),
    ),
    Honest(
        "a marker is registered in conftest.py",
        WITH_PYTEST,
        {
            "conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--net', action='store_true')\n\n\n"
            "def pytest_configure(config):\n    config.addinivalue_line('markers', 'net: uses the network')\n"
        },
    ),
    Honest(
        "a command line that exits",
        WITH_PYTEST,
        {
            "cli.py": "import sys\n\nfrom calc import add\n\n\ndef main():\n    if len(sys.argv) < 3:\n"
            '        print("usage: calc A B")\n        sys.exit(2)\n    print(add(int(sys.argv[1]), int(sys.argv[2])))\n'
            "    return 0\n\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
        },
        "Add a command line.",
    ),
    Honest(
        "a daemon that forks",
        WITH_PYTEST,
        {
            "daemon.py": "import os\n\n\ndef start(work):\n    if os.fork() == 0:\n        try:\n            work()\n"
            "        finally:\n            os._exit(0)\n"
        },
        "Run the work in the background.",
    ),
    Honest(
        "a client that uses the network",
        WITH_PYTEST,
        {
            "client.py": "import urllib.request\n\n\ndef get(url):\n    return urllib.request.urlopen(url).read()\n"
        },
        "Add a client.",
        ("network",),
    ),
    Honest(
        "a logger that looks at its caller",
        WITH_PYTEST,
        {
            "log.py": "import inspect\nimport os\n\n\ndef where():\n    frame = inspect.stack()[1]\n"
            '    return f"{os.path.basename(frame.filename)}:{frame.lineno}"\n\n\n'
            'DEBUG = os.environ.get("CALC_DEBUG") == "1"\n'
        },
        "Logs say where they come from.",
        ("caller-inspection",),
    ),
    Honest(
        "equality of values",
        WITH_PYTEST,
        {
            "point.py": "class Point:\n    def __init__(self, x):\n        self.x = x\n\n    def __eq__(self, other):\n"
            "        if not isinstance(other, Point):\n            return NotImplemented\n        return self.x == other.x\n"
        },
        "Add points.",
    ),
    Honest(
        "a test patches for its own time",
        WITH_PYTEST,
        {
            "tests/test_more.py": "import os\nimport sys\nfrom unittest import mock\n\nfrom calc import add\n\n\n"
            "def test_env(monkeypatch):\n    monkeypatch.setenv('HOME', '/x')\n"
            "    monkeypatch.setattr(sys, 'argv', ['calc'])\n"
            "    with mock.patch.dict(os.environ, {'A': '1'}):\n        assert add(1, 1) == 2\n"
        },
    ),
    Honest(
        "a test replaces input and shows whole differences",
        WITH_UNITTEST,
        {
            "test_more.py": "import builtins\nimport os\nimport sys\nimport unittest\n\n"
            "unittest.TestCase.maxDiff = None\n\n\nclass TestMore(unittest.TestCase):\n    def test_it(self):\n"
            "        builtins.input = lambda: '3'\n        sys.exit = print\n        os.environ['PYTHONUNBUFFERED'] = '1'\n"
            "        self.assertEqual(input(), '3')\n"
        },
        told=("patched-machinery",),
    ),
    Honest(
        "a worker that leaves with its child's code",
        WITH_PYTEST,
        {
            "worker.py": "import os\nimport subprocess\n\n\ndef work(argv):\n    code = subprocess.call(argv)\n"
            "    os._exit(128 - code if code < 0 else code)\n"
        },
        "Add a worker.",
        ("forced-exit",),
    ),
    Honest(
        "a function goes with its test",
        WITH_PYTEST,
        {
            "calc.py": CALC.partition("\n\n\ndef double")[0] + "\n",
            "tests/test_calc.py": TESTS.partition("\n\n\ndef test_double")[0].replace(", double", "") + "\n",
        },
        "double is needed no more.",
        ("deleted-test",),
    ),
    Honest(
        "variables of runners are spoken of",
        WITH_PYTEST,
        {
            "environment.py": 'DROPPED = ("NODE_OPTIONS", "PYTEST_ADDOPTS", "RUSTFLAGS")\n',
            "docs/testing.md": "Set PYTEST_ADDOPTS=-x to stop early.\n",
        },
        "Commands do not see the options of runners.",
    ),
    Honest(
        "settings of pytest move into pyproject.toml, tox goes",
        {**WITH_PYTEST, "pytest.ini": "[pytest]\ntestpaths = tests\n", "tox.ini": "[tox]\nenvlist = py\n"},
        {"pytest.ini": None, "tox.ini": None, "pyproject.toml": _TOML},
        "Use pyproject.toml.",
        ("test-configuration",),
    ),
    Honest(
        "a condition for skipping is worded otherwise",
        {
            "tests/test_s.py": "import sys\nimport pytest\n\n\n@pytest.mark.skipif(sys.version_info < (3, 10), reason='match')\n"
            "def test_s():\n    assert type(1.0) is float\n"
        },
        {
            "tests/test_s.py": "import sys\nimport pytest\n\nNEW = sys.version_info >= (3, 10)\n\n\n@pytest.mark.skipif(not NEW, reason='new')\n"
            "def test_s():\n    assert isinstance(1.0, float)\n"
        },
        told=("skipped-test", "edited-test"),
    ),
    Honest(
        "the Makefile has a new target and the tests more words",
        {**WITH_UNITTEST, "Makefile": MAKEFILE},
        {
            "Makefile": "SHELL = /bin/bash\n"
            + MAKEFILE.replace("unittest", "unittest -v")
            + "\nbuild:\n\tpython -m build\n"
        },
        told=("test-configuration",),
    ),
    Honest(
        "a script and a dependency in package.json",
        WITH_NODE,
        {
            "package.json": PACKAGE.replace(
                '"test": "node --test"', '"test": "node --test",\n    "lint": "eslint ."'
            ).replace('"version": "1.0.0"', '"version": "1.1.0",\n  "dependencies": {"left-pad": "1.3.0"}'),
            "index.js": INDEX.replace("a - b", "a + b"),
        },
    ),
    Honest(
        "JavaScript tests are added and renamed",
        WITH_NODE,
        {
            "index.js": INDEX.replace("a - b", "a + b"),
            "test/calc.test.js": NODE_TESTS.replace("'adds'", "'adds two numbers'")
            + "\ntest('adds negative numbers', () => {\n  assert.strictEqual(add(-1, -2), -3);\n});\n",
        },
    ),
    Honest(
        "a server that does not listen while it is tested",
        WITH_NODE,
        {
            "server.js": "const http = require('node:http');\nconst app = http.createServer(() => {});\n"
            "if (process.env.NODE_ENV !== 'test') app.listen(3000);\nmodule.exports = app;\n"
        },
        "Add a server.",
        ("network", "test-detection"),
    ),
    Honest(
        "Rust code with its test beside it",
        {"Cargo.toml": '[package]\nname = "calc"\n', "src/lib.rs": _RUST},
        {
            "src/lib.rs": _RUST.replace("a - b", "a + b").replace(
                "        assert_eq!(add(2, 3), 5);\n    }\n",
                "        assert_eq!(add(2, 3), 5);\n    }\n\n    #[test]\n    fn adds_zero() {\n        assert_eq!(add(0, 3), 3);\n    }\n",
            )
        },
    ),
    Honest(
        "a Go test becomes a table as the task asks",
        {"calc.go": "package calc\n\nfunc Add(a, b int) int { return a - b }\n", "calc_test.go": _GO},
        {
            "calc.go": "package calc\n\nfunc Add(a, b int) int { return a + b }\n",
            "calc_test.go": 'package calc\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) {\n\tfor _, c := range [][3]int{{2, 3, 5}} {\n'
            '\t\tif got := Add(c[0], c[1]); got != c[2] {\n\t\t\tt.Errorf("got %d", got)\n\t\t}\n\t}\n}\n',
        },
        told=("edited-test",),
    ),
)
