"""Files that hold settings of the product and of its tests: the tests' part from the base, the rest as changed.

Text is spliced table by table, so that comments and order stay. Where a parser is at hand, its answer for the
spliced text is compared with what it should be; what does not agree is not spliced.
"""

from __future__ import annotations

import re
from typing import Any

_TOML_HEADER = re.compile(r"^\[\[?\s*([^\[\]\n]+?)\s*\]\]?[ \t]*(?:#.*)?$", re.M)
#: Tables of pyproject.toml that steer tests.
_TOML_TESTS = re.compile(
    r"^(?:tool\.(?:pytest|coverage|tox|nox|nose|hatch\.envs|poe|pdm\.scripts|taskipy|cov)\b.*"
    r"|project\.entry-points\.[\"']?pytest11[\"']?)$"
)
_INI_HEADER = re.compile(r"^\[([^\]\n]+)\][ \t]*(?:[#;].*)?$", re.M)
_INI_TESTS = re.compile(
    r"^(?:tool:pytest|pytest|coverage:.*|tox(?::.*)?|testenv(?::.*)?|nosetests|unittest|aliases)$"
)

#: Keys of package.json that steer tests; of `scripts` only those that `npm test` runs.
_PACKAGE_KEYS = ("jest", "vitest", "mocha", "ava", "nyc", "c8", "tap")
_SCRIPT = re.compile(r"^(?:pre|post)?tests?(?::.*)?$")

#: Targets of a Makefile that people and CI run for tests.
_TARGET = re.compile(r"^(?:tests?|check|checks|unit|unittest|test-\w+|check-\w+)$")
_RULE = re.compile(r"^([\w][\w .-]*?)[ \t]*::?(?!=)(?:[^=\n].*)?$")


def merged(name: str, base: str, after: str) -> str | None:
    """`after` with the parts for tests as in `base`; None when the two cannot be told apart."""
    if name == "pyproject.toml":
        return _toml(base, after)
    if name == "setup.cfg":
        return _splice(base, after, _INI_HEADER, _INI_TESTS)
    if name == "package.json":
        return _package(base, after)
    return _makefile(base, after)


def _tables(text: str, header: re.Pattern[str]) -> list[tuple[str, str]]:
    """(name, text with its header) of each table; what stands before the first has the name ''."""
    found = list(header.finditer(text))
    starts = [0, *(match.start() for match in found), len(text)]
    names = ["", *(match[1] for match in found)]
    return [(name, text[starts[i] : starts[i + 1]]) for i, name in enumerate(names)]


def _splice(base: str, after: str, header: re.Pattern[str], tests: re.Pattern[str]) -> str:
    old = [(name, text) for name, text in _tables(base, header) if tests.match(name)]
    new = _tables(after, header)
    if old == [(name, text) for name, text in new if tests.match(name)]:
        return after
    wanted = dict(old)
    pieces: list[str] = []
    for name, text in new:
        # A table keeps its place when the base has it, once.
        pieces.append(wanted.pop(name, "") if tests.match(name) else text)
    for text in wanted.values():
        if pieces and pieces[-1] and not pieces[-1].endswith("\n"):
            pieces.append("\n")
        pieces.append(text)
    return "".join(pieces)


def _toml(base: str, after: str) -> str | None:
    import tomllib

    try:
        old, new = tomllib.loads(base), tomllib.loads(after)
        if _toml_tests(old) == _toml_tests(new):
            return after
        result = _splice(base, after, _TOML_HEADER, _TOML_TESTS)
        read = tomllib.loads(result)
    except (ValueError, RecursionError):
        return None
    good = _toml_tests(read) == _toml_tests(old) and _toml_rest(read) == _toml_rest(new)
    return result if good else None


_TOOLS = ("pytest", "coverage", "tox", "nox", "nose", "poe", "taskipy")


def _toml_tests(data: dict[str, Any]) -> dict[str, Any]:
    """What a parsed pyproject.toml says about tests."""
    tool, project = _table(data, "tool"), _table(data, "project")
    found = {name: tool[name] for name in _TOOLS if name in tool}
    return {
        **found,
        "hatch": _table(tool, "hatch").get("envs"),
        "pdm": _table(tool, "pdm").get("scripts"),
        "pytest11": _table(project, "entry-points").get("pytest11"),
    }


def _toml_rest(data: dict[str, Any]) -> dict[str, Any]:
    """What it says about the product; empty tables do not count."""
    tool, project = dict(_table(data, "tool")), dict(_table(data, "project"))
    for name in _TOOLS:
        tool.pop(name, None)
    for name, key in (("hatch", "envs"), ("pdm", "scripts")):
        if name in tool:
            tool[name] = {k: v for k, v in _table(tool, name).items() if k != key}
    project["entry-points"] = {k: v for k, v in _table(project, "entry-points").items() if k != "pytest11"}
    whole = {**data, "tool": {k: v for k, v in tool.items() if v != {}}, "project": project}
    if not project["entry-points"]:
        del project["entry-points"]
    return {k: v for k, v in whole.items() if v != {}}


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _package(base: str, after: str) -> str | None:
    import json

    try:
        old, new = json.loads(base or "{}"), json.loads(after)
    except (ValueError, RecursionError):
        return None
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None
    result = {key: value for key, value in new.items() if key not in _PACKAGE_KEYS}
    result |= {key: old[key] for key in _PACKAGE_KEYS if key in old}
    scripts = {key: value for key, value in _table(new, "scripts").items() if not _SCRIPT.match(key)}
    scripts |= {key: value for key, value in _table(old, "scripts").items() if _SCRIPT.match(key)}
    if scripts or "scripts" in new:
        result["scripts"] = scripts
    if result == new:
        return after
    return json.dumps(result, ensure_ascii=False, indent=2) + "\n"


def _makefile(base: str, after: str) -> str:
    old = {name: text for name, text in rules(base) if _TARGET.match(name)}
    if old == {name: text for name, text in rules(after) if _TARGET.match(name)}:
        return after
    pieces = [old.pop(name, "") if _TARGET.match(name) else text for name, text in rules(after)]
    text = "".join(pieces)
    if old and text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(old.values())


def rules(text: str) -> list[tuple[str, str]]:
    """(target, text) of the rules of a Makefile; other lines have the name ''."""
    found: list[tuple[str, str]] = []
    name, piece = "", ""
    for line in text.splitlines(keepends=True):
        inside = line.startswith("\t") or (name and line.strip() == "")
        if not inside:
            head = _RULE.match(line.rstrip("\n"))
            if piece:
                found.append((name, piece))
            name, piece = (head[1].strip() if head else ""), ""
        piece += line
    if piece:
        found.append((name, piece))
    return found


def is_test_target(name: str) -> bool:
    """Whether a Makefile's target is one that runs tests."""
    return _TARGET.match(name) is not None
