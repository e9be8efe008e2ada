"""node --test, jest, vitest and mocha: behind a package manager's script, or started directly.

Tests are named `file > suite > test`. Every runner here matches names by regular expression against the suites and
the test joined by blanks, older versions of node against the test alone: the expression is open at the front, so
that both are met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from poolcli.verdict.recipes.shell import Way, alternatives, inserted, quoted

#: What separates the parts of a test's name.
SEPARATOR = " > "
_FILE = re.compile(r"\.[cm]?[jt]sx?$")

#: `node --test`, behind whatever loaders and flags; its own options have to stand before the files.
NODE = r"(?<![\w./-])node(?: +--?[\w-]+(?:[= ][^\s-][^\s]*)?)*? +--test(?![\w-])"
RUNNERS = (
    ("node-test", re.compile(NODE)),
    ("vitest", re.compile(r"(?<![\w./-])vitest(?![\w./-])")),
    ("jest", re.compile(r"(?<![\w./-])(?:jest|react-scripts +test)(?![\w./-])")),
    ("mocha", re.compile(r"(?<![\w./-])_?mocha(?![\w./-])")),
)
_OTHER_SCRIPT = re.compile(r"^(?:npm|pnpm|yarn|bun) +(?:run(?:-script)? +)?([\w:.-]+)(?: +--silent)?$")
#: How options reach a script. npm keeps what stands before `--` for itself.
_PASSES = {
    "npm": "npm run {} --silent --",
    "pnpm": "pnpm run {}",
    "yarn": "yarn run {}",
    "bun": "bun run {}",
}
#: A script's programs are found here; a package manager would put it on the path.
_PATH = 'export PATH="$PWD/node_modules/.bin:$PATH" && '

#: Files that only one runner reads.
CONFIGURED = (
    ("vitest", re.compile(r"^vitest\.config\.[cm]?[jt]s$")),
    ("jest", re.compile(r"^jest\.config\.(?:[cm]?[jt]s|json)$")),
    ("mocha", re.compile(r"^\.mocharc\.(?:[cm]?js|json|ya?ml)$")),
)
DIRECT = {
    "vitest": "npx --no-install vitest run",
    "jest": "npx --no-install jest",
    "mocha": "npx --no-install mocha",
}


class Script(Struct, frozen=True):
    """What a script `test` starts in the end: `direct` is the command that takes the runner's options."""

    runner: str
    direct: str


def package(text: str) -> dict[str, object]:
    """A package.json; {} when it is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def script_text(data: dict[str, object], name: str = "test") -> str:
    """A script of the package; '' when it has none, or the placeholder that npm writes into every new package."""
    scripts = data.get("scripts")
    text = scripts.get(name) if isinstance(scripts, dict) else None
    real = isinstance(text, str) and text.strip() and "no test specified" not in text
    return text.strip() if real and isinstance(text, str) else ""


def understood(data: dict[str, object], manager: str, name: str = "test", depth: int = 0) -> Script:
    """Which runner the script comes down to, and how to give it options; runner `script` when that is unclear."""
    text = script_text(data, name)
    parts = [part.strip() for part in re.split(r"&&", text)]
    found: list[tuple[int, str]] = []
    for number, part in enumerate(parts):
        names = [runner for runner, pattern in RUNNERS if pattern.search(part)]
        if _OTHER_SCRIPT.match(part) and depth < 3:  # scripts that name each other end somewhere
            other = _OTHER_SCRIPT.match(part)
            inner = understood(data, manager, other[1], depth + 1) if other else Script("script", "")
            if inner.runner != "script":
                if len(parts) == 1:
                    return inner
                names = [f"via {other[1]}" if other else ""]
        found += [(number, runner) for runner in names[:1]]
    # Two runners in one script: the report of one would pass for that of both.
    if len(found) != 1 or re.search(r"[;|\n&]", text.replace("&&", "")):
        return Script("script", "")
    number, runner = found[0]
    if runner.startswith("via "):
        return understood(data, manager, runner[4:], depth + 1) if number == 0 else Script("script", "")
    if runner == "node-test" or number < len(parts) - 1:
        before = f"{manager} run pre{name} && " if script_text(data, f"pre{name}") else ""
        return Script(runner, _PATH + before + " && ".join(parts[: number + 1]))
    pattern = "npm test --silent --" if manager == "npm" and name == "test" else _PASSES[manager].format(name)
    return Script(runner, pattern)


def _node_report(command: str, report: str) -> str:
    spec = "--test-reporter=spec --test-reporter-destination=stdout"
    junit = f"--test-reporter=junit --test-reporter-destination={report}"
    return inserted(command, NODE, f"{spec} {junit}")


def _jest_report(command: str, report: str) -> str:
    # Interactive by default in projects made with create-react-app.
    calm = " --watchAll=false" if "react-scripts" in command else ""
    return f"{command}{calm} --json --outputFile={report}"


def _vitest_report(command: str, report: str) -> str:
    return f"{command} --run --reporter=default --reporter=junit --outputFile.junit={report}"


def _mocha_report(command: str, report: str) -> str:
    # mocha has one reporter at a time: what failed then stands in the report only.
    return f"{command} --reporter xunit --reporter-option output={report}"


def _split(tests: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The files, and the names of tests inside of files, each in parts."""
    files, names = [], []
    whole = set()
    for test in tests:
        parts = test.split(SEPARATOR)
        if _FILE.search(parts[0]):
            files.append(parts.pop(0))
            if not parts:
                whole.add(files[-1])
        if parts:
            names.append(parts)
    if whole:
        # A name pattern would hold for the files that are wanted as a whole, too.
        return sorted(set(files)), []
    return sorted(set(files)), names


def _named(option: str) -> Callable[[str, Sequence[str]], str]:
    def select(command: str, tests: Sequence[str]) -> str:
        files, names = _split(tests)
        words = [command, *map(quoted, files)]
        if names:
            words.append(f"{option} {quoted(alternatives([' '.join(name) for name in names]) + '$')}")
        return " ".join(words)

    return select


def _node_select(command: str, tests: Sequence[str]) -> str:
    files, names = _split(tests)
    if names:
        # Node 20 looks at a test's own name only, later ones at all its suites' names before it. A test in a test
        # runs only when both match: so every part is named, and the rest of a suite may run with it.
        parts = sorted({part for name in names for part in name})
        command = inserted(command, NODE, f"--test-name-pattern={quoted(f'(^| ){alternatives(parts)}$')}")
    found = re.search(NODE + r"((?: +--?[\w-]+(?:=(?:'[^']*'|\S+))?)*)", command)
    if not files or found is None:
        return command
    # The files replace those that the script names.
    return " ".join([command[: found.end()], *map(quoted, files)])


WAYS = {
    "node-test": Way(_node_report, _node_select),
    "jest": Way(_jest_report, _named("-t")),
    "vitest": Way(_vitest_report, _named("-t")),
    "mocha": Way(_mocha_report, _named("-g")),
}
