"""Which of the changed lines the checks did not run: Python and node, whatever runner and however many processes.

`instrumented` gives the command to run instead of the checks' own, in a run of its own (never the one that gives
the verdict); `read` says what came of it. For other languages there is no figure, and that is said.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from poolcli import beneath

#: Bytes read of one file of notes: 100,000 lines of `12 3456`.
MAX_NOTES = 4_000_000

#: Reports of node that are read, one for each process, and bytes of each.
MAX_REPORTS, MAX_REPORT = 200, 50_000_000

_NODE = frozenset((".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"))

#: A line without a word or a number holds nothing that could run: brackets, commas.
_WORD = re.compile(r"\w")


class Coverage(Struct, frozen=True):
    """How much of the changed code ran.

    `total` changed lines hold code, `covered` of them ran, `uncovered` gives the others by path, in order.
    `problem` says which files are not in these figures and why, or why there is none; '' when all are.
    """

    covered: int = 0
    total: int = 0
    uncovered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    problem: str = ""

    @property
    def share(self) -> float | None:
        """The share that ran, 0 to 1; None when there is nothing to run or nothing is known."""
        return self.covered / self.total if self.total else None


def instrumented(command: str, folder: Path, root: Path, changed: Mapping[str, Collection[int]]) -> str:
    """Shell text that runs `command` and notes lines in `folder`, which it makes; '' when no language is known.

    `root` is the checkout that the command runs in; `folder` has to be writable from there, outside of the files
    under test. Raises OSError when it cannot be made.
    """
    import shlex

    python = [str((root / path).resolve()) for path in sorted(changed) if path.endswith(".py")]
    node = any(Path(path).suffix in _NODE for path in changed)
    parts = []
    folder.mkdir(parents=True, exist_ok=True)
    if python:
        tracer = Path(__file__).with_name("line_tracer.py").read_bytes()
        with beneath.Folder(folder) as made:
            made.replace("sitecustomize.py", tracer)
            made.replace("files.txt", "\0".join(python).encode("utf-8", "surrogateescape"))
        parts.append(f'export PYTHONPATH={shlex.quote(str(folder))}"${{PYTHONPATH:+:$PYTHONPATH}}"; ')
    if node:
        parts.append(f"export NODE_V8_COVERAGE={shlex.quote(str(folder / 'v8'))}; ")
    return "".join(parts) + command if parts else ""


def read(folder: Path, root: Path, changed: Mapping[str, Collection[int]]) -> Coverage:
    """What a run of the instrumented command left in `folder`. `root` and `changed` are as they were then.

    The command could write to both: files that it made links, FIFOs or devices count as missing.
    """
    ran: dict[str, set[int]] = {}
    hold: dict[str, set[int]] = {}
    problems: list[str] = []
    python = [path for path in sorted(changed) if path.endswith(".py")]
    node = [path for path in sorted(changed) if Path(path).suffix in _NODE]
    if python:
        problems += _read_python(folder, root, python, ran, hold)
    if node:
        problems += _read_node(folder, root, node, ran, hold)
    others = sorted({Path(path).suffix for path in changed} - _NODE - {".py"})
    if others:
        problems.append(f"not known for {', '.join(others)}")
    covered = total = 0
    uncovered: dict[str, tuple[int, ...]] = {}
    for path in sorted(hold):
        lines = hold[path] & set(changed[path])
        missed = lines - ran.get(path, set())
        total, covered = total + len(lines), covered + len(lines) - len(missed)
        if missed:
            uncovered[path] = tuple(sorted(missed))
    return Coverage(covered, total, uncovered, "; ".join(problems))


def _read_python(
    folder: Path, root: Path, paths: list[str], ran: dict[str, set[int]], hold: dict[str, set[int]]
) -> list[str]:
    executable = _notes(folder, "executable.txt", paths)
    if not executable:
        return [
            "Python: no interpreter noted any lines (started with -I, -E or -S, or by a tool that drops PYTHONPATH?)"
        ]
    if (folder / "displaced.txt").exists():
        return ["Python: another tracer took over, as coverage plugins do before Python 3.12; run without it"]
    hold.update(executable)
    ran.update(lines := _notes(folder, "lines.txt", paths))
    return [] if lines else ["Python: none of the changed files was loaded from the checkout"]


def _notes(folder: Path, name: str, paths: list[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row in _head(folder, name, MAX_NOTES).split(b"\n"):
        words = row.split()
        if len(words) == 2 and all(word.isdigit() and len(word) < 10 for word in words):
            number, line = int(words[0]), int(words[1])
            if number < len(paths):
                found.setdefault(paths[number], set()).add(line)
    return found


def _read_node(
    folder: Path, root: Path, paths: list[str], ran: dict[str, set[int]], hold: dict[str, set[int]]
) -> list[str]:
    from poolcli.verdict.token_mutants import scan

    urls = {(root / path).resolve().as_uri(): path for path in paths}
    texts = {path: _head(root, path, MAX_REPORT).decode("utf-8", "replace") for path in paths}
    loaded, transpiled = False, set()
    for report in _reports(folder):
        mapped = report.get("source-map-cache")
        for script in _dicts(report.get("result")):
            url = str(script.get("url", ""))
            loaded = loaded or url.startswith("file:")
            path = urls.get(url)
            if path is None:
                continue
            if isinstance(mapped, dict) and url in mapped:
                # The places are those of generated code.
                transpiled.add(path)
                continue
            ran.setdefault(path, set()).update(_ran(texts[path], script))
    if not loaded:
        return ["node: no process reported (jest and others load files in a way that node does not count)"]
    for path in paths:
        if path not in transpiled:
            hold[path] = {
                texts[path].count("\n", 0, start) + 1
                for start, _, word, kind in scan(texts[path], "js")
                if _WORD.search(word) and not (kind == "aside" and word.startswith(("//", "/*")))
            }
    return [f"node: {path} was transpiled" for path in sorted(transpiled)]


def _ran(text: str, script: dict[str, Any]) -> set[int]:
    """The lines of which something ran. Inner ranges lie over outer ones; places count UTF-16 units."""
    units = len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
    counts = bytearray(units)
    ranges = [
        (start, end, hits)
        for function in _dicts(script.get("functions"))
        for part in _dicts(function.get("ranges"))
        if isinstance(start := part.get("startOffset"), int)
        and isinstance(end := part.get("endOffset"), int)
        and isinstance(hits := part.get("count"), int)
        and 0 <= start <= end
    ]
    for start, end, hits in sorted(ranges, key=lambda part: (part[0], -part[1])):
        end = min(end, units)
        if start < end:
            counts[start:end] = bytes([hits > 0]) * (end - start)
    lines: set[int] = set()
    place, line = 0, 1
    for character in text:
        if character == "\n":
            line += 1
        elif place < units and counts[place] and _WORD.match(character):
            lines.add(line)
        place += 1 if character <= "\uffff" else 2
    return lines


def _reports(folder: Path) -> Iterator[dict[str, Any]]:
    import msgspec

    names: list[str] = []
    with contextlib.suppress(OSError, beneath.PathRefused), beneath.Folder(folder) as left:
        names = sorted(name for name in left.names("v8") if name.endswith(".json"))
    for name in names[:MAX_REPORTS]:
        try:
            data = msgspec.json.decode(_head(folder, f"v8/{name}", MAX_REPORT))
        except msgspec.DecodeError:
            continue
        if isinstance(data, dict):
            yield data


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _head(folder: Path, path: str, most: int) -> bytes:
    """The first bytes of a file below a folder that a command wrote in; none where it is no regular file."""
    try:
        with beneath.Folder(folder) as opened:
            return opened.head(path, most)
    except (OSError, beneath.PathRefused):
        return b""
