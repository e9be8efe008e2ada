"""Installed packages of the user's checkout, usable in a worktree so that the worktree's code is what runs.

A borrowed folder (`.venv`, `node_modules`) is a real folder of links to the entries of the user's. Being a
folder it is matched by ignore rules like `.venv/`, and removing it removes links, not packages. Commands can
still write through the links. Build output (`target`, `build`) and `.tox` are not borrowed: builds and tox write
there all the time, and would leave the agent's code in the user's folders.

All this is for sandboxes that cannot mount. Under bubblewrap commands see the worktree at the checkout's path and
the folders in it with their writes kept apart (workspace.py); then `active` is all there is to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: Entries of node_modules that tools write: each worktree gets its own.
_OWN = frozenset({".cache", ".vite", ".vitest", ".tmp"})


def borrow(main: Path, root: Path, folders: Iterable[str]) -> None:
    """Make the user's folders of installed packages (paths relative to both tops) usable in the worktree."""
    for folder in folders:
        source, target = main / folder, root / folder
        # Only where the checkout left nothing: a tracked folder of that name is code like any other.
        if source.is_dir() and not os.path.lexists(target) and target.parent.is_dir():
            _mirror(source, target, main, root)


def _mirror(source: Path, target: Path, main: Path, root: Path) -> None:
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name in _OWN:
                continue
            link = target / entry.name
            if entry.name.startswith("@") and entry.is_dir(follow_symlinks=False):
                _mirror(Path(entry.path), link, main, root)  # a scope: packages are one level deeper
            else:
                link.symlink_to(_own_package(entry, main, root) or entry.path)


def _own_package(entry: os.DirEntry[str], main: Path, root: Path) -> Path | None:
    """Where a link of a workspace (node_modules/a -> ../packages/a) leads in the worktree."""
    if not entry.is_symlink():
        return None
    place = Path(os.path.realpath(entry.path))
    mapped = mapped_path(place, main, root)
    return mapped if mapped and "node_modules" not in place.parts else None


def mapped_path(path: Path, main: Path, root: Path) -> Path | None:
    """The worktree's counterpart of a path inside the user's checkout; None when there is none."""
    for top in (main, main.resolve()):
        with contextlib.suppress(ValueError):
            counterpart = root / path.relative_to(top)
            return counterpart if counterpart.exists() else None
    return None


def variables(base: Mapping[str, str], main: Path, root: Path, shim: Path) -> dict[str, str]:
    """PATH, PYTHONPATH and VIRTUAL_ENV for commands in the worktree, where they differ from `base`.

    `shim` is a folder for links, made when an editable install names a package otherwise than its folder.
    """
    result: dict[str, str] = {}
    own = next((root / name for name in (".venv", "venv") if (root / name / "pyvenv.cfg").exists()), None)
    path = [_mapped_entry(entry, main, root) for entry in base.get("PATH", os.defpath).split(os.pathsep)]
    if own is not None:
        result["VIRTUAL_ENV"] = str(own)
        path = [str(own / "bin"), *(entry for entry in path if entry != str(own / "bin"))]
    elif active := base.get("VIRTUAL_ENV"):
        result["VIRTUAL_ENV"] = _mapped_entry(active, main, root)
    result["PATH"] = os.pathsep.join(path)
    given = [
        _mapped_entry(entry, main, root) for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]
    python_path = list(dict.fromkeys([*_editable(_prefixes(base, main, root), main, root, shim), *given]))
    if python_path:
        result["PYTHONPATH"] = os.pathsep.join(python_path)
    return result


def active(base: Mapping[str, str], main: Path, borrowed: Mapping[str, Path]) -> dict[str, str]:
    """PATH and VIRTUAL_ENV for commands that see the worktree at the checkout's own path.

    `borrowed` says where the folders lie that they see there. Nothing has to be mapped: scripts, editable installs and
    links name the path at which the worktree is.
    """
    names = [
        name for name in (".venv", "venv") if name in borrowed and (borrowed[name] / "pyvenv.cfg").exists()
    ]
    if not names:
        return {}
    own = main / names[0]
    path = base.get("PATH", os.defpath).split(os.pathsep)
    rest = [entry for entry in path if entry != str(own / "bin")]
    return {"VIRTUAL_ENV": str(own), "PATH": os.pathsep.join([str(own / "bin"), *rest])}


def _mapped_entry(entry: str, main: Path, root: Path) -> str:
    return str(mapped_path(Path(entry), main, root) or entry) if entry.startswith("/") else entry


def _prefixes(base: Mapping[str, str], main: Path, root: Path) -> list[Path]:
    """Python environments that a command may use: the checkout's, the active one, the one of PATH."""
    prefixes = [main / name for name in (".venv", "venv") if (root / name / "pyvenv.cfg").exists()]
    if active := base.get("VIRTUAL_ENV"):
        prefixes.append(Path(active))
    for name in ("python3", "python"):
        if program := shutil.which(name, path=base.get("PATH", os.defpath)):
            prefixes.append(Path(program).parent.parent)
            break
    return list(dict.fromkeys(prefixes))


def _editable(prefixes: Iterable[Path], main: Path, root: Path, shim: Path) -> Iterator[str]:
    """Folders that put the worktree's code before what editable installs of the user's checkout name."""
    for prefix in prefixes:
        for packages in sorted(prefix.glob("lib/python3*/*-packages")):
            for place, package in _editable_places(packages):
                # A virtual environment inside the checkout is no code of the checkout.
                if place.is_relative_to(prefix):
                    continue
                # A finder names a module of one file without its ending.
                mapped = mapped_path(place, main, root) or mapped_path(Path(f"{place}.py"), main, root)
                if mapped is None:
                    continue
                yield str(_import_root(mapped, package, shim) if package else mapped)


def _editable_places(packages: Path) -> Iterator[tuple[Path, str]]:
    """(path, package) of all that editable installs name; the package is '' for a folder of packages."""
    with contextlib.suppress(OSError), os.scandir(packages) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.endswith((".pth", ".egg-link")):
                yield from ((path, "") for path in _path_lines(packages, Path(entry.path)))
            elif entry.name.startswith(("__editable__", "_editable_impl_")) and entry.name.endswith(".py"):
                yield from _named_packages(_text(Path(entry.path)))


def _path_lines(packages: Path, file: Path) -> Iterator[Path]:
    for line in _text(file).splitlines():
        line = line.strip()
        # site.py runs lines that begin with `import`; all others are folders.
        if line and not line.startswith(("#", "import ", "import\t")):
            yield Path(os.path.normpath(packages / line))


#: 'package': '/path' in the MAPPING of a setuptools finder, and map_module('package', '/path').
_NAMED = re.compile(r"""(['"])([A-Za-z_][\w.]*)\1\s*[:,]\s*(['"])((?:\\.|(?!\3).)*)\3""")


def _named_packages(text: str) -> Iterator[tuple[Path, str]]:
    import ast

    for line in text.splitlines():
        if line.startswith("MAPPING") or "map_module(" in line:
            for match in _NAMED.finditer(line):
                place = Path(ast.literal_eval(match[3] + match[4] + match[3]))
                yield (place.parent if place.name == "__init__.py" else place), match[2]


def _import_root(place: Path, package: str, shim: Path) -> Path:
    """The folder from which `import package` finds `place`."""
    names = package.split(".")
    if (*place.parts[: -len(names)], *names) == (*place.with_suffix("").parts,):
        return Path(*place.parts[: -len(names)])
    shim.mkdir(parents=True, exist_ok=True)
    link = shim / (names[0] + (place.suffix if place.is_file() else ""))
    with contextlib.suppress(FileExistsError):
        link.symlink_to(place)
    return shim


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
