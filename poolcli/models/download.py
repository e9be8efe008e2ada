"""Fetches a large file over HTTP: resumed where it broke, checked before it has its name, one process at a time.

While it comes, the file is called NAME.part and lies beside where it will be; NAME.part.json says which version of
the remote file it is a part of. What is under the final name is whole and, where a checksum is known, right.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from poolcli.errors import PoolError, UsageError
from poolcli.models.sources import plain

if TYPE_CHECKING:
    import httpx

#: Redirects that are followed for one request; a hub needs one or two to its CDN.
MAX_REDIRECTS = 5
#: Bytes that a disk keeps free beside what is fetched: a full disk breaks more than a download.
MARGIN = 1_000_000_000
#: Bytes after which a download counts as having got on: failures before that are counted anew.
STEP = 1_000_000
#: Bytes hashed at once, and between two looks at the free space when the length is unknown.
PIECE = 1 << 20
LOOK = 64 << 20
#: A sidecar file holds one small object.
MAX_NOTE = 20_000
MAGIC = b"GGUF"

TRY_LATER = "try later, or another mirror"

FreeSpace = Callable[[Path], int]


class Limits(Struct, frozen=True):
    """Seconds to connect, for the head of a reply and between two pieces; attempts in a row; waits between them."""

    connect: float = 20.0
    head: float = 60.0
    idle: float = 60.0
    attempts: int = 6
    wait: float = 1.0  # doubled each time
    longest_wait: float = 60.0  # also of what a server asks for


class Remote(Struct, frozen=True):
    """A file to fetch. `size` (bytes) and `sha256` are what it has to have; 0 and '' when nobody said.

    `headers` may hold a key: they go to the address's own origin and nowhere else.
    """

    url: str
    size: int = 0
    sha256: str = ""
    headers: Mapping[str, str] = {}


class Fetched(Struct, frozen=True):
    """What has come: bytes and their SHA-256."""

    size: int
    sha256: str


class Watcher(Protocol):
    """Who is told how it goes."""

    def begins(self, done: int, total: int) -> None:
        """From here on bytes come over the network; what came before was read from the disk."""

    def at(self, done: int, total: int) -> None:
        """`done` of `total` bytes are here; a total of 0 is unknown. Called often."""

    def says(self, text: str) -> None:
        """Something a person should know: a lost connection, a new start."""


class _Again(Exception):
    """This attempt failed; another may not. `wait` is what the server asked for, in seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def free_space(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not be there yet."""
    near = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    return shutil.disk_usage(near).free


def check_room(folder: Path, needed: int, free: FreeSpace = free_space) -> None:
    """Raise PoolError unless `needed` bytes and a margin are free."""
    there = free(folder)
    if needed + MARGIN > there:
        raise PoolError(
            f"{gb(needed)} are still to be fetched and {gb(MARGIN)} should stay free, "
            f"but the disk of {folder} has {gb(there)}",
            "make room (`pool models rm NAME`), or set POOL_MODELS to a folder on another disk",
        )


def gb(size: float) -> str:
    """Bytes for people: `12.3 GB`, `640 MB`, `12 kB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit * 0.9995:
            return f"{size / unit:.1f} {name}" if size < unit * 99.5 else f"{size / unit:.0f} {name}"
    return f"{size / 1e3:.0f} kB" if size >= 1000 else f"{size:.0f} bytes"


def loopback(url: str) -> bool:
    """Whether an address leads to this machine itself."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def may_follow(source: str, target: str) -> bool:
    """Whether a redirect is followed: to https; to plain http only where the request is already and stays there.

    That is: the same origin, which the user named, or this machine from this machine.
    """
    try:
        if urlsplit(target).scheme == "https":
            return bool(urlsplit(target).hostname)
        same = origin(source) == origin(target) or (loopback(source) and loopback(target))
        return urlsplit(target).scheme == "http" and urlsplit(source).scheme == "http" and same
    except ValueError:  # a port that is no number
        return False


async def probe(remote: Remote, watch: Watcher, *, limits: Limits | None = None) -> Remote:
    """The same with its size and checksum, as far as the server tells them. Fetches no more than a byte.

    Raises PoolError when the file cannot be had.
    """
    # Somebody waits for the answer before anything was begun, so it is soon given up.
    limits, failures = limits or Limits(attempts=3), 0
    while True:
        try:
            async with _open(remote, {"Range": "bytes=0-0"}, limits) as (answer, linked):
                _, total = _range(answer)
                if answer.status_code == 200:
                    total = _length(answer)
                # A hub says with its redirect what the file behind it is.
                sha256 = remote.sha256 or linked if re.fullmatch("[0-9a-f]{64}", linked) else remote.sha256
                return Remote(remote.url, remote.size or total, sha256, remote.headers)
        except _Again as again:
            failures += 1
            hint = "check the address and the network; HTTPS_PROXY names a proxy where one is needed"
            await _pause(again, failures, limits, watch, hint)


async def fetch(
    remote: Remote,
    target: Path,
    watch: Watcher,
    *,
    limits: Limits | None = None,
    free: FreeSpace = free_space,
) -> Fetched:
    """Fetch a file to `target`, going on with what an earlier attempt left there.

    Raises PoolError (a part may stay, and is gone on with next time), UsageError while another process fetches
    the same. When it is cancelled, the part stays.
    """
    limits = limits or Limits()
    with _Part(target) as part:
        await part.adopt(remote, watch)
        watch.begins(part.size, remote.size)
        failures, best = 0, part.size
        while not (remote.size and remote.sha256 and part.size == remote.size):
            try:
                if await _attempt(remote, part, watch, limits, free):
                    break
            except _Again as again:
                failures = 0 if part.size >= best + STEP else failures
                failures += 1
                best = max(best, part.size)
                hint = (
                    "what has come is kept: the same command goes on from there" if part.size else TRY_LATER
                )
                await _pause(again, failures, limits, watch, hint)
        return await part.finish(remote, watch)


async def _pause(again: _Again, failures: int, limits: Limits, watch: Watcher, hint: str) -> None:
    """Wait before the next attempt. Raises PoolError when there have been enough."""
    if failures >= limits.attempts:
        raise PoolError(f"{again}; given up after {failures} attempts", hint) from again
    wait = min(max(limits.wait * 2 ** (failures - 1), again.wait), limits.longest_wait)
    watch.says(f"{again}; again in {wait:.0f} s ({failures} of {limits.attempts - 1})")
    await asyncio.sleep(wait)


async def _attempt(remote: Remote, part: _Part, watch: Watcher, limits: Limits, free: FreeSpace) -> bool:
    """One request and what its reply brings. True when the file is whole; raises _Again when it is not."""
    headers = {}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if not remote.sha256 and part.validator:
            # The server sends everything when the file is another one now. With a known checksum that is not
            # needed, and would hurt: the machines of a CDN do not always agree on an ETag.
            headers["If-Range"] = part.validator
    async with _open(remote, headers, limits) as (answer, _):
        start, total = _range(answer)
        if answer.status_code == 416:
            if part.size and total == part.size:
                return True
            part.restart()
            raise _Again("the server has another file now than the one that was begun")
        if answer.status_code == 206 and (start != part.size or not part.same(answer, remote)):
            part.restart()
            raise _Again("the file is another one now; it is fetched from the beginning")
        if answer.status_code != 206:
            total = _length(answer)
            if part.size:
                part.restart()
                watch.says(
                    "the server cannot go on where it stopped, or the file has changed: from the beginning"
                )
        if remote.size and total and total != remote.size:
            raise PoolError(
                f"{plain(remote.url)} has {total} bytes where {remote.size} were announced",
                "the mirror may be stale: try another, or later",
            )
        total = remote.size or total
        part.describe(answer, remote)
        check_room(part.target.parent, max(0, total - part.size), free)
        await _body(answer, part, total, watch, limits, free)
    if total and part.size < total:
        raise _Again(f"the connection ended at {gb(part.size)} of {gb(total)}")
    return True


async def _body(
    answer: httpx.Response, part: _Part, total: int, watch: Watcher, limits: Limits, free: FreeSpace
) -> None:
    import httpx

    stream, looked = answer.aiter_raw(), part.size
    try:
        while True:
            async with asyncio.timeout(limits.idle):
                piece = await anext(stream, b"")
            if not piece:
                return
            if total and part.size + len(piece) > total:
                url = part.url
                part.drop()
                raise PoolError(f"{url} sends more than the {total} bytes that it announced", TRY_LATER)
            part.write(piece)
            if not total and part.size > looked + LOOK:
                looked = part.size
                check_room(part.target.parent, 0, free)
            watch.at(part.size, total)
    except TimeoutError:
        raise _Again(f"nothing came for {limits.idle:.0f} s at {gb(part.size)}") from None
    except httpx.HTTPError as error:
        where = f"at {gb(part.size)}" + (f" of {gb(total)}" if total else "")
        why = f": {error}" if isinstance(error, httpx.ReadError) and str(error) else ""
        raise _Again(f"the connection broke {where}{why}") from error


def _length(answer: httpx.Response) -> int:
    text = answer.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"\d{1,15}", text) else 0


def _range(answer: httpx.Response) -> tuple[int, int]:
    """First byte and whole length that a Content-Range tells; 0 for what it does not."""
    text = answer.headers.get("content-range", "")
    found = re.fullmatch(r"bytes (?:(\d{1,15})-\d{1,15}|\*)/(?:(\d{1,15})|\*)", text.strip())
    return (int(found[1] or 0), int(found[2] or 0)) if found else (-1, 0)


@asynccontextmanager
async def _open(
    remote: Remote, extra: Mapping[str, str], limits: Limits
) -> AsyncIterator[tuple[httpx.Response, str]]:
    """The reply behind all redirects, and what a redirect called the file's checksum ('' when none did).

    Its status is 200, 206 or 416. Raises _Again for what may pass, PoolError for what will not.
    """
    from poolcli.models.transport import client

    url, linked = remote.url, ""
    import httpx  # after the transport, which knows the cheap way to load it

    try:
        home = origin(url)
    except ValueError:
        home = ("", "", 0)
    if home[0] not in ("http", "https") or not home[1]:
        raise UsageError(f"`{plain(url)}` is no address that can be fetched", "it begins with https://HOST/")
    for _ in range(MAX_REDIRECTS + 1):
        private = remote.headers if origin(url) == home else {}
        async with client({**private, **extra}, connect=limits.connect, proxy=_proxy(url)) as http:
            response: httpx.Response | None = None
            try:
                try:
                    request = http.build_request("GET", url)
                    async with asyncio.timeout(limits.head):
                        response = await http.send(request, stream=True)
                except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                    raise UsageError(f"`{plain(url)}` is no address that can be fetched: {error}") from error
                except (httpx.HTTPError, TimeoutError) as error:
                    host = urlsplit(url).hostname or "the server"
                    why = str(error) or f"no answer within {limits.head:.0f} s"
                    raise _Again(f"{host} cannot be reached: {why}") from error
                linked = linked or response.headers.get("x-linked-etag", "").strip('W/"').lower()
                if response.is_redirect:
                    url = _target(url, response)
                    continue
                _check(response, plain(remote.url))
                yield response, linked
                return
            finally:
                if response is not None:
                    await response.aclose()
    raise PoolError(f"{plain(remote.url)} redirects more than {MAX_REDIRECTS} times", "check the address")


def _target(url: str, response: httpx.Response) -> str:
    try:
        target = str(response.request.url.join(response.headers.get("location", "")))
    except Exception:  # httpx.InvalidURL is no ValueError
        target = ""
    if not may_follow(url, target):
        raise PoolError(
            f"{plain(url)} redirects to {plain(target) or 'nowhere'}, which is not followed",
            "a download is led on only to https; if that is the right place, give its address yourself",
        )
    return target


def _check(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("retry-after", "")
        raise _Again(f"{url} answers {status}", float(wait) if re.fullmatch(r"\d{1,6}", wait) else 0.0)
    if status in (401, 403):
        raise PoolError(
            f"{url} is not given to us (status {status})",
            "a file behind a licence or a login: agree to it at its page, and set HF_TOKEN for a hub's repository",
        )
    if status not in (200, 206, 416):
        raise PoolError(f"{url} cannot be fetched (status {status})", "check the address")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        # What is packed has another length and another checksum; a model does not get smaller by it.
        raise PoolError(f"{url} sends its file packed though it was asked not to", "try another mirror")


def _proxy(url: str) -> str:
    """The proxy that the environment names for an address, '' for none and for this machine.

    Models are never asked through one (transport.py); what comes from the world may need it.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if loopback(url) or proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    return found if not found or "://" in found else f"http://{found}"


class _Note(Struct, frozen=True):
    """What a part is a part of."""

    url: str = ""
    etag: str = ""
    modified: str = ""
    size: int = 0
    sha256: str = ""


class _Part:
    """The unfinished file: held by one process, hashed while it is written."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.size = 0
        self._fd = -1
        self._note = _Note()
        self._note_path = target.with_name(target.name + ".part.json")
        self._hash = hashlib.sha256()

    def __enter__(self) -> _Part:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._fd = os.open(self.path, flags, 0o644)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                raise UsageError(
                    f"another process is fetching {self.target.name} right now",
                    "wait for it; this one can go on afterwards",
                ) from None
            except OSError:  # a file system without locks
                return self
            # Whoever held the lock before may have finished and renamed the file that we hold.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), self.path.stat()):
                    return self
            os.close(self._fd)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0 and os.fstat(self._fd).st_size == 0:
            self._forget()
        self._close()

    @property
    def url(self) -> str:
        """Where it comes from, fit to be shown."""
        return self._note.url

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong ETag, else a date; '' when the server gave neither."""
        return self._note.etag or self._note.modified

    async def adopt(self, remote: Remote, watch: Watcher) -> None:
        """Take over what an earlier attempt left, if it is of the same file; else begin with nothing."""
        import msgspec

        size = os.fstat(self._fd).st_size
        try:
            with self._note_path.open("rb") as file:
                self._note = msgspec.json.decode(file.read(MAX_NOTE), type=_Note)
        except (OSError, msgspec.DecodeError):
            self._note = _Note()
        note = self._note
        if remote.sha256:
            # Whatever it is: if it is wrong, the checksum will tell.
            same = note.sha256 == remote.sha256 or (not note.sha256 and note.url == plain(remote.url))
        else:
            same = note.url == plain(remote.url) and bool(self.validator)
        if not same or (remote.size and size > remote.size):
            if size:
                watch.says(f"the {gb(size)} that are here are of another version; from the beginning")
            self.restart()
            return
        if size > STEP:
            watch.says(f"{gb(size)} are here already")
        while self.size < size:
            piece = os.pread(self._fd, PIECE, self.size)
            if not piece:
                break
            self._hash.update(piece)
            self.size += len(piece)
            watch.at(self.size, remote.size)
            await asyncio.sleep(0)  # so that it can be stopped

    def same(self, answer: httpx.Response, remote: Remote) -> bool:
        """Whether a reply goes on with the file that was begun."""
        etag = _strong(answer)
        return bool(remote.sha256) or not etag or not self._note.etag or etag == self._note.etag

    def describe(self, answer: httpx.Response, remote: Remote) -> None:
        """Write down what this is a part of, before its first byte."""
        if self.size:
            return
        import msgspec

        self._note = _Note(
            url=plain(remote.url),
            etag=_strong(answer),
            modified=answer.headers.get("last-modified", "")[:100],
            size=remote.size or _length(answer),
            sha256=remote.sha256,
        )
        self._note_path.write_bytes(msgspec.json.encode(self._note))

    def write(self, data: bytes) -> None:
        """Append. Raises PoolError for what is no model, and when the disk is full; then what fits is kept."""
        if self.size < len(MAGIC) <= self.size + len(data):
            head = os.pread(self._fd, self.size, 0) + data[: len(MAGIC)]
            if not head.startswith(MAGIC):
                self.drop()
                raise not_a_model(self.target.name, head + data[len(MAGIC) : 60])
        view = memoryview(data)
        while view:
            try:
                count = os.pwrite(self._fd, view, self.size)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise PoolError(
                    f"the disk of {self.target.parent} is full at {gb(self.size)}"
                    + (f" of {gb(self._note.size)}" if self._note.size else ""),
                    "make room, and the same command goes on from there",
                ) from error
            self._hash.update(view[:count])
            self.size += count
            view = view[count:]

    def restart(self) -> None:
        """Throw away what is here."""
        os.ftruncate(self._fd, 0)
        self.size, self._hash, self._note = 0, hashlib.sha256(), _Note()
        with contextlib.suppress(FileNotFoundError):
            self._note_path.unlink()

    def drop(self) -> None:
        """Leave nothing behind."""
        self.restart()
        self._forget()
        self._close()

    async def finish(self, remote: Remote, watch: Watcher) -> Fetched:
        """Check what has come and give it its name. Raises PoolError, the file gone, when it is not right."""
        if self.size < len(MAGIC):
            size = self.size
            self.drop()
            raise PoolError(f"{plain(remote.url)} is no model: it has {size} bytes", "check the address")
        digest = self._hash.hexdigest()
        if remote.sha256 and digest != remote.sha256.lower():
            name = self.target.name
            self.drop()
            raise PoolError(
                f"{name} has the wrong checksum ({digest[:12]}… where {remote.sha256[:12]}… was announced), "
                "so it was deleted",
                "it was damaged or changed on the way: fetch it again, or from another mirror",
            )
        os.fsync(self._fd)
        self.path.replace(self.target)
        with contextlib.suppress(FileNotFoundError):
            self._note_path.unlink()
        fetched = Fetched(self.size, digest)
        self._close()
        watch.at(fetched.size, fetched.size)
        return fetched

    def _forget(self) -> None:
        for path in (self.path, self._note_path):
            with contextlib.suppress(OSError):
                path.unlink()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _strong(answer: httpx.Response) -> str:
    etag = answer.headers.get("etag", "")
    return etag if etag.startswith('"') and len(etag) <= 300 else ""


def not_a_model(name: str, head: bytes) -> PoolError:
    """What to say about a file that does not begin as a GGUF file does."""
    low = head.lstrip().lower()
    if low.startswith((b"<!doctype", b"<html", b"<?xml")):
        return PoolError(f"{name}: a web page came instead of a model", "give the address of the file itself")
    if low.startswith(b"version https://git-lfs"):
        return PoolError(
            f"{name}: only a Git LFS pointer came, not the model", "give the address of the file itself"
        )
    return PoolError(f"{name} is not a GGUF file", "llama.cpp reads only GGUF files")


async def digest(path: Path, watch: Watcher | None = None) -> str:
    """The SHA-256 of a file that is here; it takes some seconds for each GB, and can be stopped."""
    found, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while piece := file.read(PIECE):
            found.update(piece)
            done += len(piece)
            if watch is not None:
                watch.at(done, size)
            await asyncio.sleep(0)
    return found.hexdigest()
