"""What the checks said of an untouched base, kept between runs: the same files need not be judged twice.

An entry is named by everything that its result depends on and that can be named: the files (a git tree), the command
and the environment. Files that git ignores are in none of these; what they change is found like a flaky test.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from poolcli.paths import private_dir, write_private
from poolcli.verdict.results import Results

#: Entries that are kept: a person works on a few branches, a campaign on some dozens of bases.
ENTRIES = 64
#: Bytes of one entry: 100,000 tests with an id of 80 characters each. What is larger is not kept.
ENTRY_BYTES = 16_000_000
#: Bytes of all entries.
TOTAL_BYTES = 128_000_000
#: Names of installed packages that are looked at; a node_modules folder of a large project has 3,000.
_NAMES = 20_000
#: Raised when the stored form or the meaning of an outcome changes: old entries are then no longer found.
_FORMAT = "1"


class Baseline(Struct, frozen=True):
    """A kept result: what the tests said, which of them are known to be unsteady, and how long it took (seconds)."""

    results: Results
    flaky: tuple[str, ...] = ()
    seconds: float = 0.0
    exit_code: int | None = None
    #: The report as the model reads it (`evidence.Report`); a status of '' says that there was none.
    status: str = ""
    counts: dict[str, int] | None = None
    text: str = ""


class Baselines:
    """The kept results of one repository, in a folder of its own under the repository's state folder.

    Several processes may use it at once: an entry is replaced whole. Nothing here raises for a disk that is full or
    a file that is damaged: a result that is not kept is found out again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Baseline | None:
        """The result that was kept under `key`, None when there is none."""
        path = self._path(key)
        try:
            if path.stat().st_size > ENTRY_BYTES:
                return None
            kept = msgspec.json.decode(path.read_bytes(), type=Baseline)
        except (OSError, msgspec.DecodeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what is used is not what is oldest
        return kept

    def put(self, key: str, baseline: Baseline) -> bool:
        """Keep a result; says whether it was kept.

        Only one that can be judged is: a run that hung, crashed or said nothing may do better the next time.
        """
        results = baseline.results
        if not results.judged or results.hung:
            return False
        content = msgspec.json.encode(baseline)
        if len(content) > ENTRY_BYTES:
            return False
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            private_dir(self.folder)
            write_private(temporary, content)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        self._shrink(path)
        return True

    def _path(self, key: str) -> Path:
        # Hashed again, so that no key can leave the folder.
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"

    def _shrink(self, newest: Path) -> None:
        """Remove what was used longest ago, and what killed processes left."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    if entry.name != newest.name and ".json" in entry.name:
                        found.append((stat.st_mtime_ns, stat.st_size, entry.path))
        room = TOTAL_BYTES
        with contextlib.suppress(OSError):
            room -= newest.stat().st_size
        for number, (_, size, path) in enumerate(sorted(found, reverse=True), start=2):
            room -= size
            if number > ENTRIES or room < 0:
                with contextlib.suppress(OSError):
                    Path(path).unlink(missing_ok=True)


def key(tree: str, command: str, environment: str) -> str:
    """The name of a result: `tree` is git's hash of the files, uncommitted ones included, `command` runs the checks.

    `environment` is from `fingerprint`.
    """
    return _digest([_FORMAT, tree, command, environment])


def fingerprint(
    programs: Iterable[str] = (), folders: Iterable[Path] = (), variables: Mapping[str, str] | None = None
) -> str:
    """What the environment of a run is, without starting anything.

    `programs` are looked up on the PATH of `variables` (the run's environment): which file it is, its size and time.
    `folders` hold installed packages (`.venv`, `node_modules`): the names and versions in them. The variables that
    interpreters read (PYTHON…, NODE_…) count as they are.
    """
    environment = variables if variables is not None else os.environ
    parts = [platform.system(), platform.machine(), platform.python_version()]
    for program in programs:
        parts += ["program", program, *_program(program, environment.get("PATH"))]
    for folder in folders:
        parts += ["folder", *sorted(_installed(folder))]
    for name in sorted(environment):
        if name.startswith(
            ("PYTHON", "NODE_", "PYTEST_", "GO", "CARGO", "RUST", "JAVA_", "LC_", "LANG", "TZ")
        ):
            parts += [name, environment[name]]
    return _digest(parts)


def _program(program: str, path: str | None) -> list[str]:
    found = shutil.which(program, path=path)
    if found is None:
        return ["missing"]
    real = Path(found).resolve()
    try:
        stat = real.stat()
    except OSError:
        return ["missing"]
    # The name it is found by counts too: that decides which environment an interpreter uses.
    return [found, str(real), str(stat.st_size), str(stat.st_mtime_ns)]


def _installed(folder: Path) -> list[str]:
    """Installed packages with their versions: dist-info folders, the lock file of npm, else names and times."""
    sites = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
    if sites:
        names = [name for site in sites for name in _names(site)]
        return [
            name for name in names if name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth", ".egg"))
        ]
    lock = folder / ".package-lock.json"
    try:
        if lock.stat().st_size <= ENTRY_BYTES:
            return [hashlib.sha256(lock.read_bytes()).hexdigest()]
    except OSError:
        pass
    return _names(folder, times=True)


def _names(folder: Path, *, times: bool = False) -> list[str]:
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if times:
                with contextlib.suppress(OSError):
                    name += f" {entry.stat().st_mtime_ns}"
            found.append(name)
            if len(found) >= _NAMES:
                break
    return found


def _digest(parts: Iterable[str]) -> str:
    # Each part with its length: no two lists of parts read the same.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
