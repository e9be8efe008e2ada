"""Files as tools see them: found without escape, opened without hanging, never half written."""

from __future__ import annotations

import codecs
import os
import shlex
import stat
from pathlib import Path

from msgspec import Struct

from poolcli import beneath
from poolcli.tools import earlier
from poolcli.tools.base import Ctx, ToolError

#: How `read` and `search` name the files of `ctx.outputs`.
OUTPUT_PREFIX = "@output/"

#: Bytes looked at to tell text from binary, as git does.
SNIFFED = 8000

#: Largest file that is edited or replaced: everything of it is held in memory a few times.
LARGEST = 20_000_000

#: Largest file that is looked through: reading takes about a tenth of a second, a file with holes is endless.
READABLE = 200_000_000

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Place(Struct, frozen=True):
    """A file: its path below the folder `top`, which is the worktree or the run's outputs, and its name as the
    model should write it. Nothing is known yet of what is there."""

    top: Path
    path: str
    name: str
    #: Where commands see the worktree: absolute paths below it mean files of the worktree.
    seen: str = ""

    def folder(self) -> beneath.Folder:
        """The folder, opened, to be closed. Raises ToolError when it is gone."""
        try:
            return beneath.Folder(self.top, seen=self.seen)
        except OSError as error:
            raise ToolError(f"{self.name} cannot be used: its folder is gone ({error.strerror})") from error


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
    root = ctx.workspace.root
    seen = str(ctx.workspace.seen)
    for top in (str(root), seen):
        if top and (path == top or path.startswith(f"{top}/")):
            return Place(root, path, os.path.normpath(path[len(top) :].lstrip("/") or "."), seen)
    return Place(root, path, os.path.normpath(path) if path else path, seen)


def locate_readable(ctx: Ctx, path: str) -> Place:
    """As `locate`, and the run's own files as `@output/NAME`."""
    if not path.startswith(OUTPUT_PREFIX):
        return locate(ctx, path)
    name = path.removeprefix(OUTPUT_PREFIX)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ToolError(f"{path} is not a name of an output; they look like {OUTPUT_PREFIX}shell-1.txt")
    return Place(ctx.outputs, name, path)


def look(place: Place) -> tuple[str, bool]:
    """The path below the folder without links, and whether a folder is there. Raises ToolError for anything
    that is neither a folder nor a regular file: no program should open it."""
    try:
        with place.folder() as folder:
            mode = folder.status(place.path).st_mode
            real = folder.real(place.path)
    except (OSError, ValueError) as error:
        raise unusable(place, error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise unusable(place, beneath.NotRegular(mode))
    return real, stat.S_ISDIR(mode)


def open_regular(place: Place) -> int:
    """A descriptor for reading the file, to be closed. Raises ToolError saying what is there instead."""
    try:
        with place.folder() as folder:
            fd = folder.open(place.path)
    except (OSError, ValueError) as error:
        raise unusable(place, error) from error
    if (size := os.fstat(fd).st_size) > READABLE:
        os.close(fd)
        raise ToolError(
            f"{place.name} is very large ({size:,} bytes); read a part of it with shell: "
            f"head -c 10000 {shlex.quote(place.name)}, or tail, or sed -n '1,100p;100q'"
        )
    return fd


def load(place: Place) -> bytes:
    """The bytes of a file that is to be changed. Raises ToolError if it is missing, special or too large."""
    data = load_if_there(place)
    if data is None:
        raise unusable(place, FileNotFoundError())
    return data


def load_if_there(place: Place) -> bytes | None:
    """As `load`; None when there is no file yet."""
    try:
        with place.folder() as folder:
            data = folder.read(place.path, LARGEST)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise unusable(place, error) from error
    if is_binary(data):
        raise ToolError(f"{place.name} is a binary file ({len(data):,} bytes); only text can be edited")
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
    """Put `data` in the place of the file, at one moment, keeping its mode and owner; folders are made.

    The bytes are first written to `scratch`; what was there is remembered for `undo`. Raises ToolError; the old file
    is whole then.
    """
    try:
        with place.folder() as folder:
            before = _before(folder, place.path)
            folder.replace(place.path, data, scratch=scratch)
            earlier.keep(scratch, folder.real(place.path), before, data)
    except (beneath.NotRegular, IsADirectoryError, ValueError) as error:
        raise unusable(place, error) from error
    except NotADirectoryError as error:
        raise ToolError(f"{place.name} cannot be written: a part of the path is a file") from error
    except OSError as error:
        raise ToolError(f"{place.name} cannot be written: {error.strerror}") from error


def _before(folder: beneath.Folder, path: str) -> bytes | None:
    try:
        return folder.read(path, LARGEST)
    except FileNotFoundError:
        return None


def unusable(place: Place, error: OSError | ValueError) -> ToolError:
    """What to tell the model about a file that could not be opened."""
    match error:
        case beneath.NotRegular():
            if stat.S_ISDIR(error.mode):
                return ToolError(f"{place.name} is a folder; list shows what is in it")
            return ToolError(f"{place.name} is not a regular file ({_sort(error.mode)})")
        case beneath.TooLarge():
            return ToolError(f"{place.name} is too large to edit ({error.size:,} bytes); use shell")
        case FileNotFoundError():
            return ToolError(f"there is no file {place.name}{_near(place)}")
        case NotADirectoryError():
            return ToolError(f"there is no file {place.name}: a part of the path is a file")
        case IsADirectoryError():
            return ToolError(f"{place.name} is a folder; give the path of a file in it")
        case PermissionError():
            return ToolError(f"{place.name} may not be read (permission denied)")
        case OSError():
            # ENXIO: a socket; ELOOP: a link that leads to itself.
            return ToolError(f"{place.name} cannot be opened: {error.strerror}")
    return ToolError(str(error))


def _near(place: Place) -> str:
    """Names that may have been meant: in the same folder, else in the nearest folder above that exists."""
    import difflib

    above, _, name = place.path.rpartition("/")
    prefix = place.name.removesuffix(name)
    try:
        with place.folder() as folder:
            names = sorted(folder.names(above or "."))
    except (OSError, ValueError):
        return f"; there is no folder {prefix.rstrip('/')} either; search or list finds files"
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
