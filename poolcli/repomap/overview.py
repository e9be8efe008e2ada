"""What a repository looks like, for the first message: what there is of it, and where the task may be about.

Only names are looked at. A ranked map of symbols can take part of the budget later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from poolcli.repomap.conventions import instructions
from poolcli.repomap.names import shown
from poolcli.repomap.tree import Folder, build, ending, extensions

__all__ = ["instructions", "overview"]

#: Characters per token of paths and code; real tokenizers need fewer tokens than this says.
CHARACTERS = 3.5
#: A repository with no more files than this is listed whole.
SMALL = 60
#: Names shown of one folder: the rest is counted, so that one big folder leaves room for others.
NAMES = 40
#: Files larger than this are shown with their size: reading them whole is a mistake.
LARGE = 100_000

_LANGUAGES = {
    ".py": "Python", ".pyi": "Python", ".js": "JavaScript", ".jsx": "JavaScript", ".mjs": "JavaScript",
    ".cjs": "JavaScript", ".ts": "TypeScript", ".tsx": "TypeScript", ".vue": "Vue", ".svelte": "Svelte",
    ".go": "Go", ".rs": "Rust", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".cxx": "C++",
    ".hpp": "C++", ".hh": "C++", ".cu": "CUDA", ".java": "Java", ".kt": "Kotlin", ".scala": "Scala",
    ".cs": "C#", ".fs": "F#", ".rb": "Ruby", ".php": "PHP", ".swift": "Swift", ".m": "Objective-C",
    ".sh": "Shell", ".bash": "Shell", ".lua": "Lua", ".pl": "Perl", ".pm": "Perl", ".r": "R", ".R": "R",
    ".jl": "Julia", ".ex": "Elixir", ".exs": "Elixir", ".erl": "Erlang", ".hs": "Haskell", ".ml": "OCaml",
    ".clj": "Clojure", ".dart": "Dart", ".zig": "Zig", ".nim": "Nim", ".f90": "Fortran", ".sql": "SQL",
    ".html": "HTML", ".css": "CSS", ".scss": "CSS", ".md": "Markdown", ".rst": "reStructuredText",
    ".ipynb": "notebooks", ".tf": "Terraform", ".proto": "Protocol Buffers", ".S": "assembly", ".asm": "assembly",
}  # fmt: skip
#: Where reading a project begins, in this order; then files that start a program.
_ENTRIES = (
    "README.md", "README.rst", "README.txt", "README", "CONTRIBUTING.md", "pyproject.toml", "setup.py", "setup.cfg",
    "package.json", "Cargo.toml", "go.mod", "pom.xml", "build.gradle", "CMakeLists.txt", "Makefile", "Gemfile",
    "composer.json",
)  # fmt: skip
_MAINS_TEXT = (
    "__main__.py main.py app.py cli.py manage.py main.go main.rs lib.rs main.c main.cpp Main.java "
    "index.js index.ts index.tsx main.js main.ts server.js"
)
_MAINS = frozenset(_MAINS_TEXT.split())
_TESTS = frozenset(("test", "tests", "__tests__", "spec", "specs", "testing"))
_SCRIPTS = re.compile(r"^\[project\.scripts\][ \t]*\n((?:[\w\"'-]+[ \t]*=[^\n]*\n?)+)", re.M)
_SCRIPT = re.compile(r"^[\"']?([\w-]+)[\"']?[ \t]*=[ \t]*[\"']([\w.:]+)[\"']", re.M)


def overview(
    files: Sequence[tuple[str, int]], task: str, *, budget: int, read: Callable[[str], str | None]
) -> str:
    """The repository within `budget` tokens: all its files if they are few, else a condensed tree.

    `files` are (path, bytes). What the task's words point to is opened first; folders that stay closed are
    one line, `dir/ (213 files: .c .h)`. The same files give the same text, in whatever order they come.
    """
    room = int(budget * CHARACTERS)
    if len(files) <= SMALL:
        listing = "\n".join(_file(path, size) for path, size in sorted(files))
        if len(listing) <= room:
            return listing
    root = build(files, task)
    head = _head(root, read)
    text = "\n".join([*head, ""])
    if len(text) > room // 3:  # names matter more
        text = ""
    return (text + _tree(root, room - len(text))).rstrip("\n")


def _head(root: Folder, read: Callable[[str], str | None]) -> list[str]:
    """Lines about the whole: languages, where to begin, where the tests are."""
    endings: Counter[str] = Counter()
    mains: list[str] = []
    tests: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder.path.rpartition("/")[2] in _TESTS:
            tests[folder.path] = folder.count  # whole: what is below belongs to it
        else:
            waiting += [below for below in folder.folders if not below.foreign]
            mains += [f"{folder.path}/{name}".lstrip("/") for name, _ in folder.files if name in _MAINS]
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        waiting += folder.folders
        endings.update(ending(name) for name, _ in folder.files)
    languages: Counter[str] = Counter()
    for end, number in endings.items():
        languages[_LANGUAGES.get(end, "other")] += number
    top = sorted(languages.items(), key=lambda item: (item[0] == "other", -item[1], item[0]))
    lines = [
        f"{root.count} files: " + ", ".join(f"{name} {number}" for name, number in [*top[:4], *top[4:][-1:]])
    ]
    own = {name for name, _ in root.files}
    near = sorted(mains, key=lambda path: (path.count("/"), path))[:4]
    if entries := [name for name in _ENTRIES if name in own][:5] + near:
        lines.append("start at: " + ", ".join(map(shown, entries)))
    if "pyproject.toml" in own and (scripts := _SCRIPTS.search(read("pyproject.toml") or "")):
        found = _SCRIPT.findall(scripts[1])[:4]
        lines.append("commands: " + ", ".join(f"{name} ({shown(target)})" for name, target in found))
    if tests:
        most = sorted(tests.items(), key=lambda item: (item[0].count("/"), -item[1], item[0]))[:4]
        lines.append(
            "tests: " + ", ".join(f"{shown(path + '/')} ({_files(number)})" for path, number in most)
        )
    return lines


def _tree(root: Folder, room: int) -> str:
    """The tree in `room` characters: closed at first, then opened from the most relevant folder on."""
    lines: dict[str, str] = {}
    queue: list[tuple[tuple[int, bool, int, int, str], int, Folder]] = []

    def put(folder: Folder) -> None:
        heappush(queue, (folder.order, len(queue), folder))

    def opened(folder: Folder, room: int) -> dict[str, str] | None:
        """The lines that stand for an open folder, or None when they need more than `room`."""
        new: dict[str, str] = {}
        if folder.files:
            new[folder.path] = _open_line(folder, room)
        shown_below = sorted(folder.folders, key=lambda below: below.order)
        left = room - sum(len(line) + 1 for line in new.values())
        for number, below in enumerate(shown_below):
            line = _closed_line(below)
            rest = shown_below[number:]
            # 48 characters for the line that stands for the rest.
            if len(line) + 1 > left - (48 if len(rest) > 1 else 0):
                if folder is not root:
                    return None
                new["\U0010ffff"] = f"… {len(rest)} more folders ({_files(sum(each.count for each in rest))})"
                break
            new[below.path] = line
            left -= len(line) + 1
        return new if sum(len(line) + 1 for line in new.values()) <= room else None

    first = opened(root, room)
    if first is None:
        return _files(root.count)[: max(room, 0)]
    lines.update(first)
    room -= sum(len(line) + 1 for line in first.values())
    for folder in root.folders:
        if folder.path in first:
            put(folder)
    while queue and room > 8:  # no folder can be opened with less
        folder = heappop(queue)[2]
        saved = len(lines[folder.path]) + 1
        new = opened(folder, room + saved)
        if new is None:
            continue
        del lines[folder.path]
        lines.update(new)
        room += saved - sum(len(line) + 1 for line in new.values())
        for below in folder.folders:
            put(below)
    # A folder comes before what is in it, and both before a neighbour such as `a-b`.
    return "\n".join(line for _, line in sorted(lines.items(), key=lambda item: item[0].replace("/", "\0")))


def _open_line(folder: Folder, room: int) -> str:
    """`dir/ a.py b.py … 12 more`: the folder's own files, the relevant ones for sure."""
    start = shown(folder.path + "/") if folder.path else "./"
    most = NAMES if folder.score or not folder.path else NAMES // 2
    ranked = sorted(
        folder.files, key=lambda file: (-folder.scores.get(file[0], 0), file[0] not in _ENTRIES, file)
    )
    left = min(room, 1200) - len(start) - 16  # at most a few lines of one folder; 16 for `… 12345 more`
    kept: list[tuple[str, int]] = []
    for file in ranked[:most]:
        left -= len(_file(*file)) + 1
        if left < 0:
            break
        kept.append(file)
    names = [_file(*file) for file in sorted(kept)]
    if len(kept) < len(folder.files):
        names.append(f"… {len(folder.files) - len(kept)} more")
    return " ".join([start, *names])


def _closed_line(folder: Folder) -> str:
    """`dir/ (213 files: .c .h)`."""
    kinds = " ".join(shown(end) for end in extensions(folder))
    return f"{shown(folder.path + '/')} ({_files(folder.count)}: {kinds})"


def _file(path: str, size: int) -> str:
    if size <= LARGE:
        return shown(path)
    return f"{shown(path)} ({size / 1e6:.1f} MB)" if size >= 1e6 else f"{shown(path)} ({size // 1000} kB)"


def _files(number: int) -> str:
    return f"{number} file" if number == 1 else f"{number} files"
