"""Whether a repository's `.pool/` may have an effect: only what a person has looked at and trusted, byte for byte.

Trust belongs to this user, this folder and these bytes. It is kept in the user's state folder together with a copy
of the files, so that a change can be shown as one; a changed file is untrusted until it is confirmed. What is used
are the bytes that were compared, never the file read once more. Trust opens little: a project can name its checks
and budgets and forbid things, whoever trusts it (config.Option.project).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from poolcli import paths
from poolcli.errors import PoolError, StoreError

FOLDER = ".pool"
#: A page or two of settings, some prompts and tools: more is something else, and nobody reads it before trusting.
FILES, BYTES, DEPTH = 100, 1_000_000, 4
#: Bytes of a kept record that are read: base64 and names added.
RECORD = 2 * BYTES


class Unusable(PoolError):
    """What is in `.pool/` cannot be read safely; the text says what it is."""


class Kept(Struct, frozen=True):
    """What was trusted: the files with their bytes, and their digest."""

    files: Mapping[str, bytes]
    digest: str


class Project(Struct, frozen=True):
    """A repository's `.pool/` as it counts now. `files` are empty unless it is trusted; `why` is one line for people,
    '' when there is nothing to say."""

    state: Literal["none", "trusted", "new", "changed", "unusable"]
    files: Mapping[str, bytes] = {}
    why: str = ""


def look(top: Path, *, accept: bool = False) -> Project:
    """What of the `.pool/` in the folder `top` may be used. `accept` trusts it for this once. Never fails."""
    try:
        files = read(top)
    except Unusable as error:
        return Project("unusable", why=f"the project's {FOLDER}/ is not used: {error}")
    if not files:
        return Project("none")
    if accept:
        return Project("trusted", files)
    before = kept(top)
    if before is not None and before.digest == digest(files):
        return Project("trusted", files)
    if before is None:
        why = (
            f"the project's {FOLDER}/ is not used yet: nobody has trusted it; `pool trust` shows it and asks"
        )
        return Project("new", why=why)
    why = f"the project's {FOLDER}/ has changed since it was trusted and is not used; `pool trust` shows how"
    return Project("changed", why=why)


# Reading it


def read(top: Path) -> dict[str, bytes]:
    """Names and bytes of all files of `.pool/`. Raises Unusable for links, special files and too much of it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(top / FOLDER, flags)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unusable(f"it is no folder, or cannot be read ({error.strerror})") from None
    files: dict[str, bytes] = {}
    try:
        _collect(folder, "", files, DEPTH)
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from None
    finally:
        os.close(folder)
    return files


def _collect(folder: int, prefix: str, files: dict[str, bytes], depth: int) -> None:
    """Read a folder that is held open: what is renamed or replaced meanwhile cannot lead elsewhere."""
    if depth == 0:
        raise Unusable(f"{_named(prefix)} is too deep")
    with os.scandir(folder) as entries:
        names: list[str] = []
        for entry in entries:
            names.append(entry.name)
            if len(names) + len(files) > FILES:
                raise Unusable(f"it holds more than {FILES} files")
    for name in sorted(names):
        path = prefix + name
        # Without waiting: a pipe blocks whoever opens it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, dir_fd=folder)
        except OSError:
            raise Unusable(f"{_named(path)} is a link, or cannot be read") from None
        try:
            kind = os.fstat(handle).st_mode
            if stat.S_ISDIR(kind):
                _collect(handle, path + "/", files, depth - 1)
            elif stat.S_ISREG(kind):
                room = BYTES - sum(map(len, files.values()))
                files[path] = _bytes(handle, room)
            else:
                raise Unusable(f"{_named(path)} is not a regular file")
        finally:
            os.close(handle)


def _bytes(handle: int, room: int) -> bytes:
    data = bytearray()
    while piece := os.read(handle, 65536):
        data += piece
        if len(data) > room:
            raise Unusable(f"it is larger than {BYTES} bytes")
    return bytes(data)


def _named(path: str) -> str:
    return ascii(f"{FOLDER}/{path}")


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and bytes, each with its length before it, so that no two sets of files give the same."""
    total = hashlib.sha256()
    for name in sorted(files):
        for part in (os.fsencode(name), files[name]):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


# What is trusted


def record(top: Path) -> Path:
    """The file that keeps what was trusted of a folder."""
    real = os.path.realpath(top)
    return paths.state_dir() / "trust" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:32]}.json"


def kept(top: Path) -> Kept | None:
    """What was trusted of the folder; None when nothing was, or its record is damaged."""
    import base64

    try:
        with record(top).open("rb") as file:
            data = json.loads(file.read(RECORD))
        files = {
            os.fsdecode(base64.b64decode(name)): base64.b64decode(content)
            for name, content in data["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    # Computed, not believed: and a record copied to another folder's name is not that folder's.
    if data.get("path") != ascii(os.path.realpath(top)):
        return None
    return Kept(files, digest(files))


def trust(top: Path, files: Mapping[str, bytes]) -> None:
    """Trust these bytes in this folder. Raises StoreError when that cannot be kept."""
    import base64
    import tempfile

    path = record(top)
    body = {
        "path": ascii(os.path.realpath(top)),
        "digest": digest(files),
        "files": {
            base64.b64encode(os.fsencode(name)).decode(): base64.b64encode(content).decode()
            for name, content in files.items()
        },
    }
    try:
        paths.private_dir(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".trust-")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="ascii") as out:
                json.dump(body, out)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"the trust cannot be kept in {path.parent}: {error.strerror}",
            "set POOL_STATE to a folder of yours",
        ) from error


def revoke(top: Path) -> bool:
    """Trust the folder no more; whether it was trusted."""
    with contextlib.suppress(FileNotFoundError):
        record(top).unlink()
        return True
    return False


# For people


def difference(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> Iterator[str]:
    """The change from one set of files to another as rows of a diff: everything, when nothing was before.

    The rows are as they stand in the files; who shows them makes them visible.
    """
    import difflib

    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        what = "added" if old is None else "removed" if new is None else "changed"
        yield f"{FOLDER}/{name} ({what}, {len(new if new is not None else old or b'')} bytes)"
        rows = difflib.unified_diff(_rows(old), _rows(new), lineterm="", n=3)
        yield from list(rows)[2:]  # without the names, which stand above


def _rows(data: bytes | None) -> list[str]:
    # Not splitlines: a form feed or a line separator must not look like the end of a line.
    return (data or b"").decode("utf-8", "backslashreplace").split("\n")
