"""Settings that say which tests run and how: what a change does to them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

from poolcli.verdict import mixed
from poolcli.verdict.restore import SHADOWS, STARTUP, is_configuration
from poolcli.verdict.tampering.changes import Change
from poolcli.verdict.tampering.findings import Finding, Severity
from poolcli.verdict.tampering.python_code import dotted

KIND = "test-configuration"

#: Options of pytest that choose tests, load code or drop the exit code.
_CHOOSING = re.compile(
    r"^(?:-k.*|-m.*|-p.*|-c.*|-o.*|--deselect.*|--ignore.*|--co|--collect-only|--noconftest|--confcutdir.*|"
    r"--rootdir.*|--override-ini.*|--lf|--last-failed|--sw.*|--stepwise.*|--suppress-no-test-exit-code|--pyargs|"
    r"--runxfail|--setup-only|--setup-plan|--fixtures|--help|-h|--version|--exitstatus.*|--force-.*|--reruns.*|"
    r"--continue-on-collection-errors|--config-file.*|--assert.*)$"
)
#: Keys of pytest's settings that choose tests or change what fails.
_KEYS = frozenset(
    {"testpaths", "python_files", "python_classes", "python_functions", "norecursedirs", "collect_ignore",
     "collect_ignore_glob", "xfail_strict", "usefixtures", "required_plugins", "empty_parameter_set_mark"}
)  # fmt: skip
_HARMLESS = frozenset(
    {"markers", "minversion", "console_output_style", "log_cli", "log_level", "log_cli_level", "asyncio_mode"}
)
#: What makes a command green whatever the tests say.
_ALWAYS_GREEN = re.compile(
    r"\|\|\s*(?:true|:|exit 0|echo\b)|;\s*(?:true|:|exit 0)\s*$|^\s*(?:true|:|exit 0|echo\b.*)\s*$|--passWithNoTests|"
    r"\bset \+e\b|--exit-zero|\|\s*(?:tee|cat|grep|head|tail)\b|&\s*$|--force-exit\b.*\|\|"
)
_NARROW = re.compile(
    r"--?(?:testPathIgnorePatterns|testNamePattern|testPathPattern|test-name-pattern|test-skip-pattern|grep|fgrep|"
    r"invert|exclude|ignore|deselect|require|import|loader|experimental-loader|setupFiles\w*|only|test-only|"
    r"skip|listTests|findRelatedTests|t|k|r|g)\b"
)
_JEST = frozenset(
    {"testMatch", "testRegex", "testPathIgnorePatterns", "testRunner", "runner", "reporters", "setupFiles",
     "setupFilesAfterEnv", "globalSetup", "globalTeardown", "modulePathIgnorePatterns", "roots", "projects",
     "testNamePattern", "passWithNoTests", "resolver", "spec", "ignore", "require", "grep", "invert", "exclude",
     "include", "snapshotSerializers"}
)  # fmt: skip
_JS_LINE = re.compile(
    r"\b("
    + "|".join(sorted(_JEST - {"projects", "roots"}))
    + r"|retry|allowOnly|dangerouslyIgnoreUnhandledErrors)\b\s*:"
)
#: Settings of builds that leave tests out or pass over their failures.
_BUILD_LINE = re.compile(
    r"<skip(?:Tests|ITs)?>\s*true|maven\.test\.(?:skip|failure\.ignore)|<testFailureIgnore>\s*true|ignoreFailures\s*=\s*true|"
    r"failOnNoDiscoveredTests|\btest\s*\{?.*enabled\s*=\s*false|^\s*(?:auto)?tests?\s*=\s*false|^\s*doctest\s*=\s*false|"
    r"^\s*harness\s*=\s*false|WILL_FAIL|DISABLED\s+TRUE|<exclude>.*[Tt]est|excludeTestsMatching|setFailOnNoMatchingTests|"
    r"^\s*runner\s*=|<exclude-group|<exclude>|--exclude-pattern|ignore_outcome\s*=\s*true|"
    r"^\s*commands?\s*=\s*-|^\s+- ?\w.*pytest|"
    r"\|\|\s*(?:true|:|exit 0)|success_codes"
)
_BUILD_FILES = re.compile(
    r"(?:^|/)(?:pom\.xml|build\.gradle(?:\.kts)?|Cargo\.toml|\.cargo/config(?:\.toml)?|CMakeLists\.txt|CTestCustom\.cmake|"
    r"phpunit\.xml(?:\.dist)?|tox\.(?:ini|toml)|noxfile\.py|Rakefile|\.rspec|\.npmrc|\.env(?:\.test)?|composer\.json|"
    r"nextest\.toml)$"
)
_ENVIRONMENT = re.compile(
    r"\b(?:PYTEST_ADDOPTS|PYTEST_PLUGINS|NODE_OPTIONS|PYTHONSTARTUP|RUBYOPT|JAVA_TOOL_OPTIONS|GOFLAGS|RUSTFLAGS|node-options)\b['\"]?\s*[:?+]?[=:]"
)
_MAKE_GLOBAL = re.compile(
    r"^(?:override )?(?:export )?(?:SHELL|\.SHELLFLAGS|MAKEFLAGS)\s*[:+?]?=|^\.IGNORE\b|^\.ONESHELL\b|^\.SILENT\b"
)


def has_pytest_settings(text: str | None) -> bool:
    """Whether a text holds a section for pytest."""
    return re.search(r"^\[(?:tool:)?pytest\]|^\[tool\.pytest", text or "", re.M) is not None


def look(change: Change, *, moved: bool = False) -> Iterator[Finding]:
    """What a change of one file does to the settings of tests; `moved` says that another file of the change
    gained settings of pytest."""
    name = change.path.rpartition("/")[2]
    before, after = change.before or "", change.after or ""
    if STARTUP.search(change.path) and change.new:
        text = "Python runs this file before any program: nothing that comes after it can be believed."
        yield Finding("startup-hook", "high", change.path, 1, text)
        return
    if name.endswith((".pyc", ".pyo")) and change.new:
        yield Finding(
            "binary", "high", change.path, 0, "Compiled Python is added: it runs and nobody can read it."
        )
        return
    if SHADOWS.match(change.new) and not change.old:
        text = f"A module of the name {name.removesuffix('.py')} would be taken instead of the real one."
        yield Finding("shadowed-runner", "high", change.path, 1, text)
    if not change.new:
        if is_configuration(change.old):
            # tox, nox and coverage steer what people run, not what a test says.
            tools = name.startswith(("tox.", "noxfile", ".coveragerc")) and not has_pytest_settings(before)
            mild = moved or tools or not before.strip()
            text = f"The test configuration {name} is deleted."
            yield Finding(KIND, "low" if mild else "high", change.old, 1, text)
        return
    if (
        change.old
        and change.old != change.new
        and is_configuration(change.old)
        and not is_configuration(change.new)
    ):
        yield Finding(
            KIND, "high", change.old, 1, f"The test configuration {name} is renamed: it counts no longer."
        )
    if name in ("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg"):
        yield from _pytest(change, _ini(before), _ini(after))
    elif name in ("pyproject.toml", "pytest.toml", ".pytest.toml"):
        yield from _pytest(change, _toml(before), _toml(after))
    elif name == "package.json":
        yield from _package(change, before, after)
    elif name in ("Makefile", "makefile", "GNUmakefile"):
        yield from _makefile(change, before, after)
    elif name == "conftest.py":
        yield from _conftest(change, before, after)
    elif name == ".coveragerc":
        yield _lowered(change)
    if name in ("pyproject.toml", "setup.cfg", "setup.py"):
        yield from _plugin(change, before, after)
    yield from _lines(change, name, before, after)


def _lowered(change: Change) -> Finding:
    return Finding(KIND, "low", change.path, 1, f"The test configuration {change.path} is edited.")


def line_of(text: str, word: str) -> int:
    """The first line that holds a word; 1 when there is none."""
    return next((n for n, line in enumerate(text.splitlines(), 1) if word and word in line), 1)


# pytest's own settings


def _ini(text: str) -> dict[str, str]:
    import configparser

    parser = configparser.RawConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    found: dict[str, str] = {}
    for section in ("pytest", "tool:pytest"):
        if parser.has_section(section):
            found |= {key: value or "" for key, value in parser.items(section)}
    return found


def _toml(text: str) -> dict[str, str]:
    import tomllib

    try:
        data: Any = tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}
    tool = data.get("tool", data)
    section = tool.get("pytest", {}) if isinstance(tool, dict) else {}
    if isinstance(section, dict) and isinstance(section.get("ini_options"), dict):
        section = section["ini_options"]
    if not isinstance(section, dict):
        return {}
    return {key: _words(value) for key, value in section.items()}


def _words(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _pytest(change: Change, old: dict[str, str], new: dict[str, str]) -> Iterator[Finding]:
    text = change.after or ""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, ""), new.get(key, "")
        if before.split() == after.split() or key in _HARMLESS:
            continue
        severity: Severity = "low"
        verb = "removed" if key not in new else "changed" if key in old else "added"
        what = f"pytest's setting {key} is {verb}"
        if key == "addopts":
            bad = [option for option in _added(before, after) if _CHOOSING.match(option)]
            # `-p no:name` only leaves a plugin out.
            bad = [option for option in bad if not option.replace(" ", "").startswith("-pno:")]
            if bad:
                severity, what = (
                    "high",
                    f"pytest's addopts now hold {bad[0]}, which chooses tests or loads code",
                )
            elif not set(_options(after)) ^ set(_options(before)):
                continue
        elif key == "filterwarnings":
            if "error" in before and "error" not in after:
                what = "warnings are no longer errors"
        elif key in _KEYS and not _widens(key, before, after):
            severity = "high"
        yield Finding(KIND, severity, change.path, line_of(text, key), f"{what[0].upper()}{what[1:]}.")


def _options(text: str) -> list[str]:
    """The options of addopts; `-k` and `-p` with what follows them."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("-k", "-m", "-p", "-c", "-o", "--ignore", "--deselect", "-W"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def _added(before: str, after: str) -> list[str]:
    old = _options(before)
    return [option for option in _options(after) if option not in old]


def _widens(key: str, before: str, after: str) -> bool:
    """Whether more is collected than before."""
    old, new = set(before.split()), set(after.split())
    if key in ("norecursedirs", "collect_ignore", "collect_ignore_glob"):
        return bool(old) and new <= old
    if key == "xfail_strict":
        return after.strip().lower() in ("true", "1", "yes")
    if key in ("testpaths", "python_files", "python_classes", "python_functions"):
        # Unset testpaths mean everything.
        usual = key == "testpaths" and not old and new <= {"tests", "test", "testing", "src", "."}
        return usual or (not new and key == "testpaths") or (bool(old) and old <= new)
    return False


def _plugin(change: Change, before: str, after: str) -> Iterator[Finding]:
    if "pytest11" in after and "pytest11" not in before:
        text = "A pytest plugin is registered (pytest11): it can change what tests say."
        yield Finding("test-hook", "high", change.path, line_of(after, "pytest11"), text)


def _conftest(change: Change, before: str, after: str) -> Iterator[Finding]:
    try:
        old, new = (ast.parse(text) for text in (before, after))
    except (SyntaxError, ValueError, RecursionError):
        yield Finding(KIND, "low", change.path, 1, "conftest.py cannot be read as Python.")
        return
    known = {key for key, _ in _steering(old)}
    for key, line in _steering(new):
        if key not in known:
            name = key.partition(" ")[0]
            kind, what = (
                ("test-hook", "loads plugins") if name == "pytest_plugins" else (KIND, "leaves out tests")
            )
            yield Finding(kind, "high", change.path, line, f"conftest.py {what} ({name}).")


def _steering(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AugAssign | ast.AnnAssign)
            else []
        )
        for target in targets:
            name = dotted(target)
            if name in ("collect_ignore", "collect_ignore_glob", "pytest_plugins"):
                value = getattr(node, "value", None)
                if isinstance(value, ast.List | ast.Tuple | ast.Set) and not value.elts:
                    continue
                yield f"{name} {ast.dump(node)}", getattr(node, "lineno", 1)
        if isinstance(node, ast.Call) and dotted(node.func).startswith(
            ("collect_ignore.", "collect_ignore_glob.")
        ):
            yield f"{dotted(node.func)} {ast.dump(node)}", node.lineno


# package.json, Makefile, builds


def _package(change: Change, before: str, after: str) -> Iterator[Finding]:
    old, new = _json(before), _json(after)
    if new is None:
        return
    old = old or {}
    scripts, known = _dict(new, "scripts"), _dict(old, "scripts")
    for key in ("pretest", "test", "posttest", "prepare", "preinstall"):
        was, now = str(known.get(key, "")), str(scripts.get(key, ""))
        if was == now or (key not in ("pretest", "test", "posttest") and not _NARROW.search(now)):
            continue
        severity: Severity = "high" if _weaker(was, now) and key in ("test", "posttest", "pretest") else "low"
        if not was and key == "test" and not _ALWAYS_GREEN.search(now):
            severity = "low"
        text = f'The script "{key}" of package.json is changed.'
        yield Finding(KIND, severity, change.path, line_of(after, f'"{key}"'), text)
    for section in ("jest", "vitest", "mocha", "ava"):
        was_section, now_section = _dict(old, section), _dict(new, section)
        for key in sorted(was_section.keys() | now_section.keys()):
            if was_section.get(key) != now_section.get(key):
                severity = "high" if key in _JEST else "low"
                text = f"The setting {key} of {section} is changed in package.json."
                yield Finding(KIND, severity, change.path, line_of(after, f'"{key}"'), text)


def _json(text: str) -> dict[str, Any] | None:
    import json

    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _dict(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _weaker(before: str, after: str) -> bool:
    """Whether a command is green where it was not, or runs less."""
    if _ALWAYS_GREEN.search(after) and not _ALWAYS_GREEN.search(before):
        return True
    if len(_NARROW.findall(after)) > len(_NARROW.findall(before)):
        return True
    # What ran before runs no more, and nothing of a runner's name is there instead.
    runners = re.compile(
        r"\b(?:jest|vitest|mocha|ava|tap|node|pytest|unittest|tox|nox|go|cargo|ctest|karma|tsx|bun|make|npm|pnpm|yarn)\b"
    )
    return bool(runners.search(before)) and not runners.search(after)


def _makefile(change: Change, before: str, after: str) -> Iterator[Finding]:
    old, new = dict(mixed.rules(before)), dict(mixed.rules(after))
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, ""), new.get(name, "")
        if not mixed.is_test_target(name) or was.split() == now.split():
            continue
        if not was:
            continue  # a new target steers nothing that was there
        weak = not now or any(
            _weak_line(line) for line in now.splitlines()[1:] if line not in was.splitlines()
        )
        weak = weak or _weaker(was.replace("\n", " ; "), now.replace("\n", " ; "))
        text = f"The target {name} of the Makefile is {'changed' if now else 'removed'}."
        yield Finding(KIND, "high" if weak else "low", change.path, line_of(after, f"{name}:"), text)
    known = set(before.splitlines())
    for number, line in enumerate(after.splitlines(), 1):
        if _MAKE_GLOBAL.match(line) and line not in known:
            # bash instead of sh is what people write; anything else is no shell.
            honest = re.match(
                r"^SHELL\s*[:?]?=\s*(?:/usr)?(?:/bin/(?:env )?)?(?:ba|z|da)?sh\s*$", line
            ) or re.match(
                r"^\.SHELLFLAGS\s*[:?]?=\s*-(?!.*(?:true|:))[a-z]*e[a-z]*\b.*-c\s*$|^\.ONESHELL|^\.SILENT",
                line,
            )
            if not honest:
                yield Finding(
                    KIND, "high", change.path, number, "The Makefile changes how every command is run."
                )


def _weak_line(line: str) -> bool:
    return line.startswith("\t-") or _ALWAYS_GREEN.search(line.strip().lstrip("@")) is not None


def _lines(change: Change, name: str, before: str, after: str) -> Iterator[Finding]:
    """Files that have no reader here: the lines that were added."""
    known = {line.strip() for line in before.splitlines()}
    config = is_configuration(change.path)
    script = (
        re.search(r"\.(?:config|conf|setup|workspace)\.[\w.]+$|^\.mocharc|setup[-_.]?tests?", name, re.I)
        is not None
    )
    told = False
    for number, line in enumerate(after.splitlines(), 1):
        if line.strip() in known or not line.strip():
            continue
        if _steers(change.path) and not line.lstrip().startswith(("#", "//")) and _ENVIRONMENT.search(line):
            yield Finding(KIND, "high", change.path, number, "A variable that runners read is set for them.")
            told = True
        elif config and script and _JS_LINE.search(line):
            word = _JS_LINE.search(line)
            text = f"The test configuration sets {word[1] if word else 'options'}."
            yield Finding(KIND, "high" if change.old else "low", change.path, number, text)
            told = True
        elif _BUILD_FILES.search(change.path) and _BUILD_LINE.search(line):
            yield Finding(
                KIND, "high", change.path, number, "The build leaves tests out or passes over their failures."
            )
            told = True
    if (
        config
        and not told
        and change.old
        and name not in ("conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".coveragerc")
        and before != after
    ):
        yield _lowered(change)


_SETTINGS = re.compile(
    r"(?:^|/)(?:Makefile|makefile|GNUmakefile|Dockerfile|Procfile|Rakefile|\.[\w.-]+|[^/.]+)$"
    r"|\.(?:sh|bash|mk|env|ya?ml|toml|ini|cfg|json|properties)$"
)


def _steers(path: str) -> bool:
    """Whether a file is read by runners, builds or shells; code and texts for people are not."""
    return _SETTINGS.search(path) is not None and not path.startswith((".github/", "docs/"))
