"""Files as tools see them: found without escape, opened without hanging, never half written."""

from __future__ import annotations

import codecs
import os
import secrets
import stat
from pathlib import Path

from msgspec import Struct

from poolcli.tools.base import Ctx, ToolError

#: How `read` and `search` name the files of `ctx.outputs`.
OUTPUT_PREFIX = "@output/"

#: Bytes looked at to tell text from binary, as git does.
SNIFFED = 8000

#: Largest file that is edited or replaced: everything of it is held in memory a few times.
LARGEST = 20_000_000

#: O_NONBLOCK: opening a FIFO must not wait for its writer. It changes nothing for regular files.
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Place(Struct, frozen=True):
    """A file: where it is, and its name as the model should write it."""

    file: Path
    name: str


class Decoded(Struct, frozen=True):
    """The text of a file and how to get its bytes back: `encode` of the same text gives the same bytes.

    Bytes that are not valid in the encoding are surrogates in `text`; `valid` is False then.
    """

    text: str
    codec: str = "utf-8"
    bom: bytes = b""
    valid: bool = True


def locate(ctx: Ctx, path: str) -> Place:
    """The file behind a path of the worktree. Raises ToolError for one outside of it."""
    if path.startswith("@output"):
        raise ToolError(f"{path} can only be read; to change a file give its path in the repository")
    try:
        file = ctx.workspace.resolve(path)
    except ValueError as error:
        raise ToolError(str(error)) from error
    return Place(file, _name(ctx, path, file))


def locate_readable(ctx: Ctx, path: str) -> Place:
    """As `locate`, and the run's own files as `@output/NAME`."""
    if not path.startswith(OUTPUT_PREFIX):
        return locate(ctx, path)
    name = path.removeprefix(OUTPUT_PREFIX)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ToolError(f"{path} is not a name of an output; they look like {OUTPUT_PREFIX}shell-1.txt")
    return Place(ctx.outputs / name, path)


def _name(ctx: Ctx, path: str, file: Path) -> str:
    if os.path.isabs(path):  # noqa: PTH117
        root = os.path.realpath(ctx.workspace.root)
        return os.path.relpath(file, root) if str(file).startswith(root) else path
    return os.path.normpath(path)


def open_regular(place: Place) -> int:
    """A descriptor for reading the file, to be closed. Raises ToolError saying what is there instead."""
    # The run's outputs are flat files that only pool writes; a link there was put by something else.
    flags = OPEN | (os.O_NOFOLLOW if place.name.startswith(OUTPUT_PREFIX) else 0)
    try:
        fd = os.open(place.file, flags)
    except OSError as error:
        raise ToolError(_why_not(place, error)) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise ToolError(f"{place.name} is a folder; list shows what is in it")
    raise ToolError(f"{place.name} is not a regular file ({_sort(mode)})")


def load(place: Place) -> bytes:
    """The bytes of a file that is to be changed. Raises ToolError if it is missing, special or too large."""
    fd = open_regular(place)
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor)
        size = os.fstat(fd).st_size
        if size > LARGEST:
            raise ToolError(f"{place.name} is too large to edit ({size:,} bytes); use shell")
        data = file.read(LARGEST + 1)
    if is_binary(data):
        raise ToolError(f"{place.name} is a binary file ({size:,} bytes); only text can be edited")
    return data


def is_binary(data: bytes) -> bool:
    """Whether bytes are no text: a NUL near the beginning, unless a byte order mark says UTF-16."""
    return b"\0" in data[:SNIFFED] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def decode(data: bytes) -> Decoded:
    """Bytes as text, without loss."""
    bom, codec = next(((bom, codec) for bom, codec in _BOMS if data.startswith(bom)), (b"", "utf-8"))
    body = data[len(bom) :]
    try:
        return Decoded(body.decode(codec), codec, bom)
    except UnicodeDecodeError:
        if codec == "utf-8":
            return Decoded(body.decode("utf-8", "surrogateescape"), "utf-8", bom, valid=False)
        # Damaged UTF-16 has no lossless text form in Python; as UTF-8 with escapes every byte is kept.
        return Decoded(data.decode("utf-8", "surrogateescape"), "utf-8", b"", valid=False)


def encode(text: str, like: Decoded) -> bytes:
    """Text as bytes in the encoding of another file's text. Raises ToolError when it cannot be written so."""
    try:
        # Only text that came out of bytes may turn back into them: a lone surrogate of the model is refused.
        return like.bom + text.encode(like.codec, "strict" if like.valid else "surrogateescape")
    except UnicodeEncodeError as error:
        bad = error.object[error.start : error.start + 1]
        raise ToolError(f"the text holds {bad!a}, which is not a character; leave it out") from error


def printable(text: str) -> str:
    """Text with the bytes that could not be decoded shown as replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not text.isascii() else text


def store(place: Place, data: bytes, scratch: Path) -> None:
    """Put `data` in the place of the file, at one moment, keeping its mode and owner.

    A link was resolved when the file was located, so it stays a link. A second hard link to the old file
    keeps the old bytes on purpose: it may lie outside of the worktree. Raises ToolError; the old file is
    whole then.
    """
    try:
        before = os.stat(place.file)  # noqa: PTH116
    except FileNotFoundError:
        before = None
    # The new bytes are first written beside the run, so that a kill leaves nothing in the worktree.
    for folder in (scratch, place.file.parent):
        part = folder / f".pool-{secrets.token_hex(6)}.part"
        try:
            _write_new(part, data, before)
            part.replace(place.file)
            return
        except OSError as error:
            part.unlink(missing_ok=True)
            # EXDEV: another filesystem (an overlay) is mounted here. An error in its own folder is final.
            if folder is not scratch:
                raise ToolError(f"{place.name} cannot be written: {error.strerror}") from error


def _write_new(part: Path, data: bytes, before: os.stat_result | None) -> None:
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(fd, "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(data)
        if before is not None:
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                _try_chown(fd, before)
            os.fchmod(fd, stat.S_IMODE(before.st_mode))


def _try_chown(fd: int, before: os.stat_result) -> None:
    import contextlib

    with contextlib.suppress(PermissionError):
        os.fchown(fd, before.st_uid, before.st_gid)


def _why_not(place: Place, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no file {place.name}{_near(place)}"
        case NotADirectoryError():
            return f"there is no file {place.name}: a part of the path is a file"
        case PermissionError():
            return f"{place.name} may not be read (permission denied)"
    # ENXIO: a socket; ELOOP: a link where none may be, or one that leads to itself.
    return f"{place.name} cannot be opened: {error.strerror}"


def _near(place: Place) -> str:
    """Names that may have been meant: in the same folder, else in the nearest folder above that exists."""
    import difflib

    folder, name = place.file.parent, place.file.name
    if place.name.startswith(OUTPUT_PREFIX):
        prefix = OUTPUT_PREFIX
    else:
        prefix = "" if os.path.dirname(place.name) == "" else os.path.dirname(place.name) + "/"  # noqa: PTH120
    if not folder.is_dir():
        return f"; there is no folder {os.path.dirname(place.name)} either; search or list finds files"  # noqa: PTH120
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".pool-") and e.name != ".git")
    close = difflib.get_close_matches(name, names[:5000], n=3, cutoff=0.5)
    if not close:
        return "; list shows what there is"
    return f"; did you mean {', '.join(prefix + c for c in close)}?"


def _sort(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
