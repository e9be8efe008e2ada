"""Files beneath one folder, opened so that no spelling, link or race leads out of it.

A path that is checked first and opened afterwards can become a link in between. Here nothing is opened by
a path of its own: every open starts at a descriptor of the folder. Where the path holds no link, which is
nearly always, the kernel does it in one call (`openat2`, Linux 5.6). Otherwise the path is walked one name at
a time, each opened without following links, and links are followed by reading them: one that stays inside is
as good as what it leads to, one that leads out is refused by its name.

Two things are as git has them: a name that some filesystem takes for `.git` is git's, and a link is a small
file. Hard links need no rule: a second name of a file outside is made by somebody who could write there, and a
sandbox's mounts do not allow it; `replace` gives the name a new file, so the other name keeps its content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

#: Links followed for one path, as Linux has it.
LINKS = 40

#: Steps of one walk: a path of 4,096 bytes has 2,048 names, and links can make it longer 40 times.
STEPS = 20_000

#: Bytes of a path that the kernel takes.
LONGEST = 4096

#: O_NONBLOCK: opening a FIFO must not wait for its writer. It changes nothing for regular files.
READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: A folder to go on from; O_PATH (Linux) needs no permission to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

#: Times that a name which turned into a link while it was opened is looked at again.
_AGAIN = 8

#: Code points that HFS+ leaves out of names; git's list.
_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])

#: What a shell or a browser would take for something else than a name in this folder.
_NOT_EXPANDED = ("~", "$HOME", "${HOME}", "file:")

#: pool's own folder of a repository: what it says about runs is a person's to write.
OWN = ".pool"


class PathRefused(ValueError):
    """A path that leads out of the folder, or belongs to git or pool; the text is a sentence for the model."""


class NotRegular(OSError):
    """What is there is no regular file; `mode` is its type and permission bits."""

    def __init__(self, mode: int) -> None:
        super().__init__(errno.EINVAL, "not a regular file")
        self.mode = mode


class TooLarge(OSError):
    """A file of more bytes than the caller takes; `size` is how many it has."""

    def __init__(self, size: int) -> None:
        super().__init__(errno.EFBIG, "the file is too large")
        self.size = size


class Folder:
    """A folder held open. Paths are texts as a model wrote them, relative to it; use it in a `with`.

    `seen` is another absolute path by which the folder is known (where a sandbox shows it): absolute paths
    and links below it are taken as below the folder. `walk` does without openat2.

    Every method raises PathRefused for a path that is not for tools, and OSError for what the system says.
    """

    def __init__(self, path: Path, *, seen: str = "", walk: bool = False) -> None:
        self._tops = [os.fspath(path), seen] if seen else [os.fspath(path)]
        self._walks = walk
        self._fd = os.open(path, _FOLDER | os.O_NOFOLLOW)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def real(self, path: str) -> str:
        """The path without links, `..` and doubled slashes; `.` is the folder itself. It need not exist.

        For words and for programs that want a name: by the time it is used it may be another file's.
        """
        names = self._names(path)
        try:
            with self._holder(path, names) as (_, _, real):
                return "/".join(real) or "."
        except (FileNotFoundError, NotADirectoryError):
            return os.path.normpath("/".join(names))

    def status(self, path: str) -> os.stat_result:
        """What is there, links followed."""
        with self._holder(path, self._names(path)) as (fd, name, _):
            return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def there(self, path: str) -> bool:
        """Whether there is anything, a link for itself included."""
        try:
            with self._holder(path, self._names(path), follow=False) as (fd, name, _):
                os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (OSError, ValueError):
            return False
        return True

    def open(self, path: str) -> int:
        """A descriptor for reading a regular file, to be closed. Raises NotRegular for anything else."""
        return _checked(self._open(path, READING))

    def read(self, path: str, most: int) -> bytes:
        """The bytes of a regular file. Raises TooLarge when there are more than `most`."""
        with open(self.open(path), "rb") as file:  # noqa: PTH123 (a descriptor)
            size = os.fstat(file.fileno()).st_size
            data = file.read(most + 1) if size <= most else b""
        if size > most or len(data) > most:
            raise TooLarge(max(size, len(data)))
        return data

    def head(self, path: str, most: int) -> bytes:
        """The first `most` bytes of a regular file. Raises NotRegular for anything else, a link among it."""
        with self._holder(path, self._names(path), follow=False) as (fd, name, _):
            try:
                opened = _unfollowed(fd, name, READING)
            except _BecameLink:
                raise NotRegular(stat.S_IFLNK) from None
        with open(_checked(opened), "rb") as file:
            return file.read(most)

    def names(self, path: str = ".") -> list[str]:
        """The names in a folder, git's and unfinished ones of `replace` left out; not sorted."""
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.listdir(fd)  # noqa: PTH208 (a descriptor)
        finally:
            os.close(fd)
        return [name for name in found if not is_git(name) and not name.startswith(".pool-")]

    def make_parents(self, path: str) -> None:
        """Make the folders that a path needs above it, where they are missing."""
        with self._holder(path, self._names(path), make=True):
            pass

    def replace(self, path: str, data: bytes, *, scratch: Path | None = None) -> None:
        """Put a file of these bytes at the path, at one moment; folders are made as needed.

        Permission bits (not setuid, setgid, sticky) and owner of the file before are kept. A link stays one
        when it leads to a place inside: its target is replaced. The bytes are first written to the folder
        `scratch`, so that a kill leaves nothing here, or beside the file where that is another filesystem.
        Raises NotRegular when something else than a file is there; after any error the old file is whole.
        """
        names = self._names(path)
        if path.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with self._holder(path, names, make=True) as (fd, name, real):
            _refuse_own(path, real)
            try:
                before = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                before = None
            if before is not None and not stat.S_ISREG(before.st_mode):
                raise NotRegular(before.st_mode)
            _put(fd, name, data, before, scratch)

    def remove(self, path: str) -> None:
        """Remove a file; of a link the link itself."""
        with self._holder(path, self._names(path), follow=False) as (fd, name, real):
            _refuse_own(path, real)
            os.unlink(name, dir_fd=fd)

    def rename(self, old: str, new: str) -> None:
        """Give a file, a folder or a link another name; what had that name, if a file, is replaced."""
        with (
            self._holder(old, self._names(old), follow=False) as (fd, name, real),
            self._holder(new, self._names(new), follow=False, make=True) as (new_fd, new_name, new_real),
        ):
            _refuse_own(old, real)
            _refuse_own(new, new_real)
            os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=new_fd)

    def _names(self, path: str) -> list[str]:
        """The names of a path, checked as far as text can be; `..` stays in."""
        if not path or "\0" in path:
            raise PathRefused("the path is empty" if not path else "the path holds a NUL character")
        try:
            if len(os.fsencode(path)) >= LONGEST:
                raise PathRefused("the path is too long")
        except UnicodeEncodeError:
            raise PathRefused("the path holds something that is not a character") from None
        inside = self._inside(path) if path.startswith("/") else path
        if inside is None:
            raise _outside(path)
        names = [name for name in inside.split("/") if name not in ("", ".")]
        if names and "/" in inside and names[0] in _NOT_EXPANDED:
            raise PathRefused(f"{path} is not expanded; give a path relative to the repository root")
        depth = 0
        for name in names:
            depth += -1 if name == ".." else 1
            if depth < 0 or _looks_like_up(name):
                raise _outside(path)
            if is_git(name):
                raise _gits(path)
        return names

    def _inside(self, path: str) -> str | None:
        """An absolute path as one relative to the folder; None when it lies elsewhere."""
        for top in self._tops:
            if path == top or path.startswith(top.rstrip("/") + "/"):
                return path[len(top) :].lstrip("/") or "."
        return None

    def _open(self, path: str, flags: int) -> int:
        names = self._names(path)
        if _openat2 and not self._walks and ".." not in names:
            fd = _direct(self._fd, names, flags)
            if fd is not None:
                return fd
        for _ in range(_AGAIN):
            with self._holder(path, names) as (fd, name, _), contextlib.suppress(_BecameLink):
                return _unfollowed(fd, name, flags)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    @contextlib.contextmanager
    def _holder(
        self, path: str, names: Sequence[str], *, follow: bool = True, make: bool = False
    ) -> Iterator[tuple[int, str, list[str]]]:
        """The folder that holds what a path leads to, opened; the name in it; all names without links.

        The name was no link a moment ago, unless `follow` is off; it need not exist. It is `.` for the folder
        that the path itself leads to when that is the last of the way.
        """
        found = self._hold(names, follow) if _openat2 and not self._walks else None
        fd, name, real = found or self._walk(path, names, follow=follow, make=make)
        try:
            yield fd, name, real
        finally:
            os.close(fd)

    def _hold(self, names: Sequence[str], follow: bool) -> tuple[int, str, list[str]] | None:
        """`_holder` by one call of the kernel; None when the way must be walked."""
        if not names or ".." in names:
            return None
        try:
            fd = _direct(self._fd, names[:-1], _FOLDER)
        except FileNotFoundError:
            return None  # to be made, or to be reported by the walk
        if fd is None:
            return None
        try:
            linked = follow and _target(fd, names[-1]) is not None
        except BaseException:
            os.close(fd)
            raise
        if linked:
            os.close(fd)
            return None
        return fd, names[-1], list(names)

    def _walk(
        self, path: str, names: Sequence[str], *, follow: bool, make: bool
    ) -> tuple[int, str, list[str]]:
        rest, via = list(reversed(names)), path
        done: list[str] = []
        links = steps = 0
        fd = os.dup(self._fd)
        try:
            while rest:
                steps += 1
                if links > LINKS or steps > STEPS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                name = rest.pop()
                if name == "..":
                    if not done:
                        raise _outside(path, via)
                    # Not the kernel's `..`: a folder that was moved meanwhile has another one.
                    rest += reversed(done[:-1])
                    fd, done = _swapped(fd, os.dup(self._fd)), []
                    continue
                if is_git(name):
                    raise _gits(path)
                target = _target(fd, name) if rest or follow else None
                if target is not None:
                    links += 1
                    via = "/".join([*done, name])
                    fd, done = self._enter(path, via, target, rest, fd, done)
                    continue
                if not rest:
                    return fd, name, [*done, name]
                try:
                    below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                except FileNotFoundError:
                    if not make:
                        raise
                    _refuse_own(path, [*done, name])
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=fd)
                    rest.append(name)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR) or _target(fd, name) is None:
                        raise
                    links += 1
                    rest.append(name)  # it has become a link just now
                else:
                    fd = _swapped(fd, below)
                    done.append(name)
            return fd, ".", done
        except BaseException:
            os.close(fd)
            raise

    def _enter(
        self, path: str, via: str, target: str, rest: list[str], fd: int, done: list[str]
    ) -> tuple[int, list[str]]:
        """Put what a link says on the way that is left; gives where that begins."""
        if target.startswith("/"):
            inside = self._inside(target)
            if inside is None:
                raise _outside(path, via)
            target, fd, done = inside, _swapped(fd, os.dup(self._fd)), []
        rest += [name for name in reversed(target.split("/")) if name not in ("", ".")]
        return fd, done


def read_regular(path: Path, most: int, *, links: bool = True) -> bytes:
    """The first `most` bytes of a regular file of the user's own, wherever links lead: never of a FIFO or device.

    Without `links` the path itself may be none, for a file that commands could replace. Raises OSError, NotRegular
    among them.
    """
    with open_regular(path, links=links) as file:
        return file.read(most)


def open_regular(path: Path, *, links: bool = True) -> BinaryIO:
    """A regular file for reading; otherwise as `read_regular`."""
    return open(_checked(os.open(path, READING if links else READING | os.O_NOFOLLOW)), "rb")


def _checked(fd: int) -> int:
    """The descriptor of a regular file. Raises NotRegular, and closes it, for anything else."""
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegular(mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_git(name: str) -> bool:
    """Whether a name is `.git` on some filesystem: in any case, with characters that HFS+ leaves out, with
    the endings, streams and short name that NTFS knows."""
    if len(name) < 4:
        return False
    for part in name.split("\\"):
        if not part.isascii():
            part = part.translate(_IGNORED)
        part = part.lower()
        if part.startswith((".git", "git~1")):
            ending = part.partition(":")[0].rstrip(". ")
            if ending in (".git", "git~1"):
                return True
    return False


def _looks_like_up(name: str) -> bool:
    """Whether a name that is not `..` would be read as one: with a backslash, or in wide letters."""
    if "\\" in name and ".." in name.split("\\"):
        return True
    if name.isascii():
        return False
    import unicodedata

    return unicodedata.normalize("NFKC", name) in (".", "..")


def _refuse_own(path: str, real: Sequence[str]) -> None:
    if real and real[0].translate(_IGNORED).rstrip(". ").lower() == OWN:
        raise PathRefused(f"{path} is pool's own configuration of this repository; a person changes it")


def _outside(path: str, via: str = "") -> PathRefused:
    if via and via != path.rstrip("/"):
        return PathRefused(f"{path} is outside the repository: {via} is a link that leads there")
    if via:
        return PathRefused(f"{path} is a link that leads outside the repository; it is not followed")
    return PathRefused(f"{path} is outside the repository; give a path relative to the repository root")


def _gits(path: str) -> PathRefused:
    return PathRefused(f"{path} belongs to git and cannot be read or changed as a file")


class _BecameLink(Exception):
    """A name that was none is a link now."""


def _unfollowed(fd: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _target(fd, name) is not None:
            raise _BecameLink from None
        raise


def _target(fd: int, name: str) -> str | None:
    """What a link says; None for anything else, also for nothing."""
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _swapped(old: int, new: int) -> int:
    os.close(old)
    return new


def _put(fd: int, name: str, data: bytes, before: os.stat_result | None, scratch: Path | None) -> None:
    """Write the bytes to a new file and give it the name. The name is replaced, never written through."""
    part = f".pool-{secrets.token_hex(6)}.part"
    if scratch is not None:
        elsewhere = os.open(scratch, _FOLDER)
        try:
            _written(elsewhere, part, data, before)
            with _cleared(elsewhere, part):
                os.rename(part, name, src_dir_fd=elsewhere, dst_dir_fd=fd)
            return
        except OSError:
            # EXDEV: another filesystem (an overlay) is mounted here, or the other disk is full. An error
            # beside the file is final.
            pass
        finally:
            os.close(elsewhere)
    _written(fd, part, data, before)
    with _cleared(fd, part):
        os.rename(part, name, src_dir_fd=fd, dst_dir_fd=fd)


@contextlib.contextmanager
def _cleared(fd: int, part: str) -> Iterator[None]:
    """Remove the file if what is done with it fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=fd)
        raise


def _written(folder: int, part: str, data: bytes, before: os.stat_result | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(part, flags, 0o666, dir_fd=folder)
    with _cleared(folder, part), open(fd, "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(data)
        if before is not None:
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, before.st_uid, before.st_gid)
            # Without the bits that let a program act for another: new content did not earn them.
            os.fchmod(fd, before.st_mode & 0o777)


#: openat2's number, the same on all machines named here, and how it resolves: never above the folder, never
#: through a link, of the kernel's own (/proc/self/fd) or of anybody's.
_NUMBER, _RESOLVE = 437, 0x08 | 0x02 | 0x04  # RESOLVE_BENEATH, _NO_MAGICLINKS, _NO_SYMLINKS

_MACHINES = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "loongarch64", "i686", "armv7l")

#: Whether there may be an openat2; switched off by the first call that finds none.
_openat2 = sys.platform == "linux" and os.uname().machine in _MACHINES

#: What says that the way must be walked: a link on it, a race, a kernel or a filter without openat2.
_WALK = frozenset(
    {errno.ELOOP, errno.EXDEV, errno.EAGAIN, errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.E2BIG}
)

_call: Callable[[int, bytes, int], tuple[int, int]] | None = None


def _direct(fd: int, names: Sequence[str], flags: int) -> int | None:
    """Open beneath `fd` what is reached without any link; None when that must be found out by walking."""
    global _openat2, _call
    if _call is None:
        _call = _kernel_call()
    path = os.fsencode("/".join(names) or ".")
    if b"\0" in path:  # ctypes hands on the text up to its first NUL, which is the path of another file
        raise ValueError("a path with a NUL character")
    result, code = _call(fd, path, flags)
    while result < 0 and code == errno.EINTR:
        result, code = _call(fd, path, flags)
    if result >= 0:
        return result
    if code == errno.ENOSYS:
        _openat2 = False
    if code in _WALK:
        return None
    raise OSError(code, os.strerror(code), os.fsdecode(path))


def _kernel_call() -> Callable[[int, bytes, int], tuple[int, int]]:
    """openat2 as a function of folder, path and flags, giving descriptor and error number."""
    import ctypes
    import struct

    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
    get_errno = ctypes.get_errno
    pack = struct.Struct("=QQQ").pack  # struct open_how: flags, mode, resolve

    def openat2(fd: int, path: bytes, flags: int) -> tuple[int, int]:
        result = call(_NUMBER, fd, path, pack(flags, 0, _RESOLVE), 24)
        return (result, 0) if result >= 0 else (-1, get_errno())

    return openat2
