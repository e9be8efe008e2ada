"""Which folders with tools stay readable although they lie in a hidden folder (HOME, /tmp …).

Two things lead to one: a place where a known tool manager keeps its programs, and an entry of PATH, with
what its links and its virtual environment lead to. Folders that hold keys and settings never do, and no
folder that holds more than tools: not HOME itself, not ~/.local, not the checkout of another project.

What lies in the checkout may be a stranger's: no link in it is followed, and the Python that its `.venv` names
counts only where one is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: Below HOME: programs, and the libraries they bring. Only folders without credentials: of cargo, for
#: example, not its folder but three inside it.
_KNOWN = (
    ".pyenv",
    ".rbenv",
    ".nodenv",
    ".goenv",
    ".jenv",
    ".asdf",
    ".nvm",
    ".volta",
    ".fnm",
    ".bun/bin",
    ".deno/bin",
    ".cargo/bin",
    ".cargo/registry",
    ".cargo/git",
    ".rustup",
    ".sdkman/candidates",
    ".juliaup",
    ".ghcup",
    ".cabal/bin",
    ".opam",
    ".pixi",
    ".rye",
    ".m2/repository",
    ".local/bin",
    ".local/lib",
    ".local/share/uv",
    ".local/share/pipx",
    ".local/pipx/venvs",
    ".local/share/mise",
    ".local/share/rtx",
    ".local/share/fnm",
    ".local/share/pnpm",
    ".local/share/rye",
    "go/bin",
    "go/pkg/mod",
    "miniconda3",
    "anaconda3",
    "miniforge3",
    "mambaforge",
    "micromamba",
)
#: A path with one of these in it is never shown, whatever leads to it.
_NEVER = frozenset(
    {
        ".ssh",
        ".aws",
        ".azure",
        ".config",
        ".gnupg",
        ".netrc",
        ".kube",
        ".docker",
        ".password-store",
        ".mozilla",
        ".thunderbird",
        ".npmrc",
        ".pypirc",
        ".git-credentials",
        ".git",
        "keyrings",
        "google-chrome",
        "chromium",
        "BraveSoftware",
        "Library",
    }
)
#: Below HOME: hold tools and much else, so only what is inside may be shown.
_BROAD = frozenset({".local", ".local/share", ".local/state", ".cache", ".cargo", ".sdkman", ".m2", "go"})
#: Links of one folder of programs that are followed: more are a package manager's, which is known as a whole.
_LINKS = 200
#: Longest pyvenv.cfg that is read, in bytes.
_LONGEST = 65_536


#: Links on the way to one path, as many as the kernel follows.
_HOPS = 40


def readable(
    environ: Mapping[str, str],
    *,
    home: Path,
    hidden: Iterable[Path],
    checkout: Path | None = None,
    environments: Iterable[str] = (".venv", "venv"),
    private: Iterable[Path] = (),
) -> tuple[Path, ...]:
    """The folders (and single programs) inside `hidden` that commands may read; none inside another.

    `hidden` are real paths; `home` is the user's. `checkout` is the user's: what its own virtual environments
    run on is shown too, the checkout itself never. `environments` names them: those that git does not track.
    `private` are pool's own folders; nothing in them or around them is shown.
    """
    finder = _Finder(
        _real(home),
        tuple(hidden),
        _real(checkout) if checkout else None,
        tuple(_real(path) for path in private),
    )
    for name in _KNOWN:
        finder.add(finder.home / name)
    for place in {sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent)}:
        finder.add(Path(place))
    for entry in environ.get("PATH", "").split(os.pathsep):
        if entry.startswith("/"):
            finder.add_programs(Path(entry))
    for name in (
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "JAVA_HOME",
        "GOROOT",
        "NVM_DIR",
        "PYENV_ROOT",
        "RUSTUP_HOME",
    ):
        if (value := environ.get(name, "")).startswith("/"):
            finder.add(Path(value))
            finder.add_interpreter(Path(value))
    if checkout is not None:
        for name in environments:
            finder.add_interpreter(checkout / name)
    return finder.outermost()


def variables(home: Path) -> dict[str, str]:
    """Variables that lead tools to what they have below the user's HOME, now that HOME is another folder."""
    places = {
        "RUSTUP_HOME": home / ".rustup",
        "PYENV_ROOT": home / ".pyenv",
        "GOMODCACHE": home / "go/pkg/mod",
    }
    return {name: str(place) for name, place in places.items() if place.is_dir()}


class _Finder:
    def __init__(
        self, home: Path, hidden: tuple[Path, ...], checkout: Path | None, private: tuple[Path, ...]
    ) -> None:
        self.home = home
        self._hidden = hidden
        self._private = private
        self._checkout = checkout
        self._found: dict[Path, None] = {}

    def add(self, place: Path) -> None:
        """Show this folder, and what it is a link to."""
        place = Path(os.path.normpath(place))
        if self._by_checkout(place):
            return
        # A path with links in it is made again as it is named, below the real path of what hides it. What is seen
        # there is the same under both names: both may be shown, or neither.
        both = dict.fromkeys((_real(place.parent) / place.name, _real(place)))
        if all(self._may(path) for path in both):
            self._found |= {path: None for path in both if self._is_hidden(path) and os.path.lexists(path)}

    def add_programs(self, folder: Path) -> None:
        """Show a folder of programs, the prefix it belongs to, and what links in it lead to."""
        folder = Path(os.path.normpath(folder))
        if not folder.is_dir():
            return
        if self._by_checkout(folder):
            self.add_interpreter(folder.parent)
            return
        self.add(folder)
        prefix = folder.parent
        if folder.name in ("bin", "sbin", "Scripts") and _is_prefix(prefix):
            self.add(prefix)
            self.add_interpreter(prefix)
        # Folders of the system hold hundreds of links, and none to a tool in somebody's HOME.
        if not str(folder).startswith(("/usr/bin", "/usr/sbin", "/bin", "/sbin")):
            for link in _links(folder):
                if not self._by_checkout(link):
                    self.add(_real(link))

    def add_interpreter(self, environment: Path) -> None:
        """Show the Python that a virtual environment was made from, where it names one that is installed.

        The file may be anybody's: a folder is not shown for being named.
        """
        settings = environment / "pyvenv.cfg"
        with contextlib.suppress(OSError, ValueError):
            if not settings.is_file():  # a pipe would be waited for
                return
            with settings.open(encoding="utf-8") as file:
                lines = file.read(_LONGEST).splitlines()
            for line in lines:
                key, _, value = line.partition("=")
                if key.strip() == "home" and value.strip().startswith("/"):
                    folder = Path(os.path.normpath(value.strip()))
                    # Also where a package manager names a version by a link (cpython-3.12 -> cpython-3.12.4).
                    for prefix in dict.fromkeys((folder.parent, _real(folder).parent)):
                        if _is_python(_real(prefix)):
                            self.add(prefix)

    def outermost(self) -> tuple[Path, ...]:
        """All that was found but what lies inside another of them."""
        found = sorted(self._found, key=lambda path: (len(path.parts), path))
        kept: list[Path] = []
        for path in found:
            if not any(path.is_relative_to(other) for other in kept):
                kept.append(path)
        return tuple(kept)

    def _by_checkout(self, place: Path) -> bool:
        """Whether a path lies in the checkout, or is led on by a link that does."""
        if self._checkout is None:
            return False
        # As text: hundreds of links are asked about, and pathlib would take 20 ms for them.
        inside = f"{self._checkout}/"
        path, rest, hops = "", _names(str(place)), 0
        while rest:
            name = rest.pop()
            path = path.rpartition("/")[0] if name == ".." else f"{path}/{name}"
            if f"{path}/".startswith(inside):
                return True
            try:
                target = os.readlink(path)  # noqa: PTH115
            except OSError:  # no link
                continue
            hops += 1
            if hops > _HOPS:
                return True
            path = "" if target.startswith("/") else path.rpartition("/")[0]
            rest += _names(target)
        return False

    def _may(self, path: Path) -> bool:
        """Whether what lies here can be shown: nothing of the user's is in it but tools."""
        if any(place.is_relative_to(path) for place in (self.home, *self._hidden, *self._private)):
            return False
        if any(path.is_relative_to(place) for place in self._private):
            return False
        # Inside the checkout the worktree is seen; a folder around it would show the user's own files.
        if self._checkout is not None and (
            path.is_relative_to(self._checkout) or self._checkout.is_relative_to(path)
        ):
            return False
        return not self._is_hidden(path) or self._is_tool(path)

    def _is_hidden(self, path: Path) -> bool:
        return any(path.is_relative_to(place) for place in self._hidden)

    def _is_tool(self, path: Path) -> bool:
        if _NEVER & set(path.parts):
            return False
        return not (path.is_relative_to(self.home) and str(path.relative_to(self.home)) in _BROAD)


def _is_prefix(folder: Path) -> bool:
    """Whether a folder is one installation of something, and not a project with a folder `bin`."""
    if (folder / ".git").exists():
        return False
    return (folder / "pyvenv.cfg").exists() or any((folder / name).is_dir() for name in ("lib", "libexec"))


def _names(path: str) -> list[str]:
    """The names in a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _is_python(prefix: Path) -> bool:
    """Whether a Python is installed here: its program, and its standard library. Never a folder with a hidden name."""
    if prefix.name.startswith("."):
        return False
    programs = (path for path in (prefix / "bin").glob("py*") if path.name.startswith(("python", "pypy")))
    library = (path for lib in ("lib", "lib64") for path in (prefix / lib).glob("py*3*/os.py"))
    return any(path.is_file() and os.access(path, os.X_OK) for path in programs) and any(
        path.is_file() for path in library
    )


def _links(folder: Path) -> Iterator[Path]:
    """The links of a folder that lead to files outside of it."""
    real = _real(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        count = 0
        for entry in entries:
            if not entry.is_symlink():
                continue
            count += 1
            if count > _LINKS:
                return
            leads = os.path.join(real, os.readlink(entry.path))  # noqa: PTH115, PTH118 (hundreds of them)
            if os.path.normpath(leads).startswith(f"{real}/"):
                continue
            if os.path.isfile(leads):  # noqa: PTH113
                yield Path(entry.path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
