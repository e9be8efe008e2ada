"""Which model files are here, and where: one folder for each model, with its files and a `model.json`.

A file that was only registered stays where it is; its folder holds nothing but the note of where that is.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from msgspec import Struct

from poolcli import paths
from poolcli.errors import PoolError, UsageError
from poolcli.models.sources import NAME, SPLIT

#: Bytes of a model.json; ours have a few hundred, with a line for each part of a split model.
MAX_NOTE = 200_000
NOTE = "model.json"
#: What a reference to a model may mean beside a name of ours (reference.py).
RESERVED = frozenset({"demo", "scripted", "local", "remote"})


class Stored(Struct, frozen=True):
    """One file: its name in the model's folder, or its whole path when it is registered; bytes; SHA-256 or ''."""

    name: str
    size: int
    sha256: str = ""


class Entry(Struct, frozen=True):
    """A model that is here. `files` is in the order of a split model's parts; llama.cpp is given the first."""

    name: str
    files: tuple[Stored, ...]
    #: `hub:OWNER/NAME`, an address without its secrets, or the path of a registered file.
    source: str
    #: The commit at the hub; '' elsewhere.
    revision: str = ""
    licence: str = ""
    family: str = ""
    quant: str = ""
    #: Only registered: the files are the user's own, and are never deleted.
    reference: bool = False
    #: Seconds since the epoch.
    added: float = 0.0

    @property
    def path(self) -> Path:
        """The file to give to llama.cpp."""
        return self.paths[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files."""
        return tuple(home(self.name) / file.name for file in self.files)  # an absolute name stands alone

    @property
    def size(self) -> int:
        """Bytes, all files together."""
        return sum(file.size for file in self.files)

    @property
    def whole(self) -> bool:
        """Whether every file is there with the size it had."""
        return all(_size(path) == file.size for path, file in zip(self.paths, self.files, strict=True))


class Unfinished(Struct, frozen=True):
    """A download that was begun: the model's name and the bytes that have come."""

    name: str
    done: int


def folder() -> Path:
    """Where models are kept: `$POOL_MODELS`, else `pool/models` in the platform's data folder."""
    if given := os.environ.get("POOL_MODELS"):
        return paths.expanded(given, "POOL_MODELS").absolute()
    # As in paths.state_dir: on Linux platformdirs' answer is one line of the XDG specification.
    if os.name == "posix" and os.uname().sysname == "Linux":
        base = os.environ.get("XDG_DATA_HOME", "")
        data = Path(base) if os.path.isabs(base) else paths.home() / ".local" / "share"  # noqa: PTH117
        return data / "pool" / "models"
    import platformdirs

    return platformdirs.user_data_path("pool", appauthor=False) / "models"


def home(name: str) -> Path:
    """The folder of one model. Raises UsageError for what cannot be a name."""
    return folder() / checked(name)


def checked(name: str) -> str:
    """The name, if a model can be called so. Raises UsageError."""
    if not NAME.fullmatch(name) or name.lower().endswith(".gguf") or name in RESERVED:
        raise UsageError(
            f"a model cannot be called `{name}`",
            "a name has letters, digits, `.`, `_` and `-`, and does not end in .gguf",
        )
    return name


def entries() -> list[Entry]:
    """All models that are here, by name. What is damaged or not ours is left out."""
    found = [load(name) for name in _folders()]
    return [entry for entry in found if entry is not None]


def unfinished() -> list[Unfinished]:
    """Downloads that were begun and not ended, of models that are not here in another version."""
    return [
        Unfinished(name, sum(_size(path) for path in _loose(name)))
        for name in _folders()
        if load(name) is None and _loose(name)
    ]


def load(name: str) -> Entry | None:
    """The model of exactly this name; None when there is none, or its note cannot be read."""
    import msgspec

    try:
        with (home(name) / NOTE).open("rb") as file:
            entry = msgspec.json.decode(file.read(MAX_NOTE), type=Entry)
    except (OSError, msgspec.DecodeError, UsageError):
        return None
    inside = all(os.path.isabs(file.name) if entry.reference else _plain(file.name) for file in entry.files)  # noqa: PTH117
    return entry if entry.name == name and entry.files and inside else None


def find(name: str) -> Entry | None:
    """The model of this name, or the only one whose name begins so. Raises UsageError when there are several."""
    if not NAME.fullmatch(name):
        return None
    if entry := load(name):
        return entry
    found = [entry for entry in entries() if entry.name.startswith(name)]
    if len(found) > 1:
        raise UsageError(
            f"`{name}` could be {', '.join(entry.name for entry in found)}",
            "write as much as tells them apart",
        )
    return found[0] if found else None


def add(entry: Entry) -> Entry:
    """Write down a model whose files are in place; returns it with the time. Raises PoolError."""
    import msgspec

    stamped = msgspec.structs.replace(entry, added=entry.added or time.time())
    note = prepare(entry.name) / NOTE
    draft = note.with_name(f"{NOTE}.{os.getpid()}")
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(stamped), indent=1) + b"\n")
        draft.replace(note)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise PoolError(
            f"{note} cannot be written: {error.strerror}", "look at the folder's rights"
        ) from error
    return stamped


def prepare(name: str) -> Path:
    """The folder of a model, made if need be. Raises PoolError when it cannot be."""
    place = home(name)
    try:
        paths.private_dir(place)
        if place.is_symlink():
            raise PoolError(
                f"{place} is a link, and pool writes through none", "take it away, or another name"
            )
    except OSError as error:
        why = f"the folder {place} cannot be made: {error.strerror}"
        raise PoolError(why, "set POOL_MODELS to a folder of yours") from error
    return place


def register(name: str, path: Path, sha256: str = "", family: str = "", quant: str = "") -> Entry:
    """Add a file that stays where it is, all parts when it is split. Raises UsageError when one is missing."""
    parts = split_parts(path)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UsageError(f"parts of the model are missing: {', '.join(missing[:5])}", "all lie in one folder")
    files = tuple(Stored(str(part), _size(part), sha256 if part == path else "") for part in parts)
    return add(Entry(name, files, source=str(path), reference=True, family=family, quant=quant))


def split_parts(path: Path) -> list[Path]:
    """All parts of the model that a file belongs to; the file alone when it is not split."""
    found = SPLIT.search(path.stem)
    if not found:
        return [path]
    base, count = path.stem[: found.start()], min(int(found[2]), 1000)
    return [path.with_name(f"{base}-{part:05}-of-{found[2]}{path.suffix}") for part in range(1, count + 1)]


def remove(name: str) -> int:
    """Delete what was fetched under this name, finished or not; a registered file stays. Returns bytes freed.

    Raises UsageError while a process fetches it, PoolError when a file cannot be deleted.
    """
    place, entry, freed = home(name), load(name), 0
    if place.is_symlink():
        raise UsageError(f"{place} is a link that pool did not make", "delete it yourself")
    ours = [place / NOTE, *_loose(name)]
    if entry is not None and not entry.reference:
        ours += entry.paths
    for path in ours:
        if path.suffix == ".part" and _held(path):
            raise UsageError(f"{name} is being fetched by another process", "end that first")
    for path in ours:
        try:
            freed += _size(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise PoolError(
                f"{path} cannot be deleted: {error.strerror}", "look at the folder's rights"
            ) from error
    tidy(name)
    return freed


def tidy(name: str) -> None:
    """Take an empty folder away; one that holds something stays."""
    with contextlib.suppress(OSError):
        home(name).rmdir()


def _folders() -> list[str]:
    try:
        with os.scandir(folder()) as found:
            return sorted(
                item.name
                for item in found
                if item.is_dir(follow_symlinks=False) and NAME.fullmatch(item.name)
            )
    except OSError:
        return []


def _loose(name: str) -> list[Path]:
    """What downloads that did not end have left of a model: parts, and whole files that no note speaks of."""
    ends = (".part", ".part.json") if load(name) else (".part", ".part.json", ".gguf")
    try:
        return [path for path in home(name).iterdir() if path.name.endswith(ends)]
    except OSError:
        return []


def _plain(name: str) -> bool:
    return name == Path(name).name and name not in ("", ".", "..")


def _held(path: Path) -> bool:
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.suffix == ".part" else path.stat().st_size
    except OSError:
        return 0
