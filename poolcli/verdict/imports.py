"""Who imports whom in a project, read from its files without running them: Python by its syntax, JavaScript by text.

What a file imports is kept under the hash of its content, so that after an edit only that file is read anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from poolcli import beneath
from poolcli.paths import private_dir, write_private
from poolcli.verdict.affected import Graph

#: Files that are read at all, and bytes of one: what is larger was not written by hand.
FILES, FILE_BYTES = 20_000, 1_000_000
#: Entries of the kept file: some versions of each file of a large project.
KEPT = 60_000
_CACHE_BYTES = 32_000_000

_SCRIPTS = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".vue", ".svelte")
#: `from "./x"`, `import "./x"`, `import("./x")`, `require("./x")`, `jest.mock("./x")`: only paths are followed.
_SPECIFIER = re.compile(
    r"""(?:\bfrom|\bimport|\b(?:require|import|mock|unmock|doMock|requireActual|importActual|resolve)\s*\()\s*
        (['"`])(\.{1,2}(?:/[^'"`\n]{0,300})?)\1""",
    re.VERBOSE,
)
#: A string that may name a module: what `mock.patch` and `import_module` get.
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){1,8}")
#: Characters of such a string.
_LONGEST_NAME = 200
#: Folders that are put on the path by convention.
_SOURCES = ("", "src", "lib", "python")


class ImportCache:
    """What files import, by the hash of their content; without a path it is kept in memory only.

    Nothing here raises for a file that is damaged or cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, list[str]] = {}
        self._used: dict[str, list[str]] = {}
        if path is not None:
            try:
                if path.stat().st_size <= _CACHE_BYTES:
                    self._known = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
            except (OSError, msgspec.DecodeError):
                self._known = {}
        self._stored = len(self._known)

    def get(self, suffix: str, content: bytes) -> list[str]:
        """What a file with this content imports, in the form that `resolve` reads."""
        key = hashlib.blake2b(content, digest_size=16, person=suffix.encode()[:16]).hexdigest()
        found = self._used.get(key) or self._known.get(key)
        if found is None:
            found = _python(content) if suffix == ".py" else _script(content)
        self._used[key] = found
        return found

    def save(self) -> None:
        """Write what is new; the versions that were asked for last survive when there are too many."""
        together = self._used | {key: value for key, value in self._known.items() if key not in self._used}
        if self._path is None or len(together) == self._stored:
            return
        kept = dict(list(together.items())[:KEPT])
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            private_dir(self._path.parent)
            write_private(temporary, msgspec.json.encode(kept))
            temporary.replace(self._path)
            self._stored = len(together)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def build(root: Path, files: Iterable[str], cache: ImportCache | None = None) -> Graph:
    """The graph of these files (paths relative to `root`, as git lists them). Unreadable ones import nothing."""
    cache = cache or ImportCache()
    chosen = [file for file in files if file.endswith((".py", *_SCRIPTS))][:FILES]
    raw: dict[str, list[str]] = {}
    with contextlib.suppress(OSError), beneath.Folder(root.resolve()) as folder:
        for file in chosen:
            try:
                # Of regular files only: a link may lead out of the project, a pipe never ends.
                content = folder.head(file, FILE_BYTES + 1)
            except (OSError, beneath.PathRefused):
                continue
            if len(content) <= FILE_BYTES:
                raw[file] = cache.get(".py" if file.endswith(".py") else ".js", content)
    cache.save()
    return resolve(raw)


def resolve(raw: Mapping[str, Iterable[str]]) -> Graph:
    """From what files say that they import to the files that are meant. Pure.

    Of Python an import is `.`s, a module, and after a colon a name; a string that may be a module begins with `?`.
    """
    modules = _modules(raw)
    known = frozenset(raw)
    conftests = {str(PurePosixPath(file).parent): file for file in raw if file.endswith("conftest.py")}
    imports = {}
    for file, said in raw.items():
        found: dict[str, None] = {}
        if file.endswith(".py"):
            for each in said:
                found.update(dict.fromkeys(_python_files(file, each, modules, known)))
            for parent in PurePosixPath(file).parents:
                if (conftest := conftests.get(str(parent))) and conftest != file:
                    found[conftest] = None  # pytest imports it for every test below it
        else:
            for each in said:
                if target := _script_file(file, each, known):
                    found[target] = None
        found.pop(file, None)
        imports[file] = tuple(found)
    return Graph(imports)


def _python(content: bytes) -> list[str]:
    import ast

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # a broken file fails in every test that imports it; who imports it is known all the same
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.update((f"{module}:{alias.name}", None) for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and len(node.value) < _LONGEST_NAME
            and _DOTTED.fullmatch(node.value)
        ):
            found["?" + node.value] = None
    return list(found)


def _script(content: bytes) -> list[str]:
    text = content.decode("utf-8", "replace")
    return list(dict.fromkeys(match[2] for match in _SPECIFIER.finditer(text)))


def _modules(files: Iterable[str]) -> dict[str, str]:
    """Dotted name to file, for every folder that may be on the path: convention, and where a package begins."""
    files = [file for file in files if file.endswith(".py")]
    packages = {str(PurePosixPath(file).parent) for file in files if file.endswith("__init__.py")}
    modules: dict[str, str] = {}
    for file in files:
        path = PurePosixPath(file)
        top = path.parent
        while str(top) in packages:
            top = top.parent
        for root in {*_SOURCES, str(top)}:
            with contextlib.suppress(ValueError):
                inside = path.relative_to(root or ".").with_suffix("").parts
                name = ".".join(inside[:-1] if inside[-1] == "__init__" else inside)
                # Two files of one name: the one nearer to the root is what the root's own code means.
                if name and (name not in modules or len(file) < len(modules[name])):
                    modules[name] = file
    return modules


def _python_files(file: str, said: str, modules: Mapping[str, str], known: frozenset[str]) -> list[str]:
    """The files that an import runs: the module and the packages around it."""
    guess = said.startswith("?")
    module, _, name = said.removeprefix("?").partition(":")
    level = len(module) - len(module.lstrip("."))
    if level:
        folder = PurePosixPath(file).parent
        for _ in range(level - 1):
            folder = folder.parent
        return _relative(folder, [part for part in module.lstrip(".").split(".") if part], name, known)
    parts = module.split(".")
    found = [modules[each] for end in range(1, len(parts) + 1) if (each := ".".join(parts[:end])) in modules]
    if name and (submodule := modules.get(f"{module}.{name}")):
        found.append(submodule)
    beside = str(PurePosixPath(file).parent / f"{parts[0]}.py")
    if not found and len(parts) == 1 and not guess and beside in known:
        found.append(beside)  # a script imports what lies beside it
    return found


def _relative(folder: PurePosixPath, parts: list[str], name: str, known: frozenset[str]) -> list[str]:
    found = [str(folder / "__init__.py")]
    for part in (*parts, name):
        found += [str(folder / f"{part}.py"), str(folder / part / "__init__.py")]
        folder = folder / part
    return [each for each in found if each in known]


def _script_file(file: str, specifier: str, known: frozenset[str]) -> str:
    """The file that a relative path means: as it stands, with a suffix, an index; `.js` may be written for `.ts`."""
    joined = os.path.normpath(f"{PurePosixPath(file).parent}/{specifier.partition('?')[0]}")
    bare = re.sub(r"\.[mc]?jsx?$", "", joined)
    for candidate in (
        joined,
        *(joined + suffix for suffix in _SCRIPTS),
        *(bare + suffix for suffix in _SCRIPTS if bare != joined),
        *(f"{joined}/index{suffix}" for suffix in _SCRIPTS),
    ):
        if candidate in known:
            return candidate
    return ""
