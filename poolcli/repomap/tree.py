"""The folders of a repository, from its list of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from poolcli.repomap.names import words

#: What a word of the task weighs in a file's own name and in the names of its folders.
_IN_NAME, _IN_FOLDER = 3, 1
#: A path or file name that the task writes out is what it is about.
_NAMED = 12

_PATHS = re.compile(r"[\w./-]*\w\.\w+")
#: Folders that hold what others wrote or what a program made.
_FOREIGN_TEXT = (
    "node_modules vendor third_party thirdparty external deps dist build out target coverage generated fixtures "
    "testdata snapshots __snapshots__ locale locales assets static images img media data migrations"
)
_FOREIGN = frozenset(_FOREIGN_TEXT.split())


class Folder:
    """One folder: `files` are (name, bytes), `score` is the relevance of the best file below it."""

    __slots__ = ("count", "files", "folders", "path", "score", "scores")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[tuple[str, int]] = []
        self.folders: list[Folder] = []
        #: Files below it, at any depth.
        self.count = 0
        self.score = 0
        #: Relevance of its own files, where there is any.
        self.scores: dict[str, int] = {}

    @property
    def foreign(self) -> bool:
        """Whether its name says that the project's own code is not in it."""
        name = self.path.rpartition("/")[2]
        return name.lower() in _FOREIGN or (name.startswith(".") and name not in ("", ".github"))

    @property
    def order(self) -> tuple[int, bool, int, int, str]:
        """What is worth showing first: relevant, own, near the root, small."""
        depth = self.path.count("/")
        return -self.score, self.foreign, depth, self.count, self.path


def build(files: Iterable[tuple[str, int]], task: str) -> Folder:
    """The tree of these files, scored by how much each has to do with the task. Linear in their number."""
    relevance = _relevance(task)
    root = Folder("")
    known = {"": root}
    for path, size in files:
        where, _, name = path.rpartition("/")
        folder = known.get(where)
        if folder is None:
            folder = _open(known, where)
        folder.files.append((name, size))
        score = relevance(path)
        if score:
            folder.scores[name] = score
    # A folder is opened after the one it lies in, so that backwards is from the leaves to the root.
    for folder in reversed(known.values()):
        folder.files.sort()
        folder.count = len(folder.files) + sum(below.count for below in folder.folders)
        folder.score = max([*folder.scores.values(), *(below.score for below in folder.folders), 0])
    return root


def _open(known: dict[str, Folder], path: str) -> Folder:
    missing = []
    while path not in known:
        missing.append(path)
        path = path.rpartition("/")[0]
    for each in reversed(missing):
        folder = known[each] = Folder(each)
        known[each.rpartition("/")[0]].folders.append(folder)
    return known[missing[0]]


def extensions(folder: Folder, most: int = 3) -> list[str]:
    """The commonest endings of the names below a folder; a name without one counts as itself."""
    counter: Counter[str] = Counter()
    waiting = [folder]
    while waiting:
        each = waiting.pop()
        waiting += each.folders
        counter.update(ending(name) for name, _ in each.files)
    # Equal numbers in the order of their names, whatever order the files came in.
    return [name for name, _ in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]]


def ending(name: str) -> str:
    """`.py` of `a.py`; the name itself when there is no ending worth the name."""
    stem, dot, end = name.rpartition(".")
    return f".{end}" if dot and stem and len(end) <= 10 else name


def _relevance(task: str) -> Callable[[str], int]:
    """Gives a path's score: quickly 0 for most."""
    wanted = words(task)
    named = {path.lstrip("./") for path in _PATHS.findall(task)} - {""}
    # `query` is looked for as `quer`, which `queries` begins with as well.
    parts = {word.removesuffix("y") for word in wanted} | {path.lower() for path in named}
    if not parts:
        return lambda path: 0
    possible = re.compile("|".join(map(re.escape, sorted(parts)))).search

    def score(path: str) -> int:
        if not possible(path.lower()):
            return 0
        folder, _, name = path.rpartition("/")
        total = _IN_NAME * len(wanted & words(name)) + _IN_FOLDER * len(wanted & words(folder))
        return total + (_NAMED if path in named or name in named else 0)

    return score
