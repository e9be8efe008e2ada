"""`pool models get`, `list` and `rm`: model files on this machine.

Nothing is fetched unless this command was typed. At a terminal it asks before what is large; elsewhere the
command itself is the request, since a question to nobody would hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from msgspec import Struct

from poolcli import config
from poolcli.commands import progress
from poolcli.commands.progress import Shown
from poolcli.errors import Exit, PoolError, UsageError
from poolcli.models import catalogue, library, sources
from poolcli.models.catalogue import Known
from poolcli.models.download import (
    FreeSpace,
    Remote,
    Watcher,
    check_room,
    digest,
    fetch,
    free_space,
    gb,
    probe,
)
from poolcli.models.library import Entry, Stored
from poolcli.sanitize import clean, in_json

T = TypeVar("T")

#: Bytes from which on a person at a terminal is asked.
LARGE = 1_000_000_000


class Wanted(Struct, frozen=True):
    """A model that can be fetched: its name here, its files with what they are called here, where it is from."""

    name: str
    files: tuple[tuple[str, Remote], ...]
    source: str
    revision: str = ""
    licence: str = ""
    family: str = ""
    quant: str = ""

    @property
    def size(self) -> int:
        """Bytes, all files together; 0 when that is not known."""
        sizes = [remote.size for _, remote in self.files]
        return sum(sizes) if all(sizes) else 0


# get --------------------------------------------------------------------------------------------------------------


def get(
    what: str, *, file: str = "", revision: str = "", yes: bool = False, sha256: str = "", name: str = ""
) -> int:
    """Fetch a model, or register a file that is here. Returns the exit code; raises PoolError.

    `file` says which of a repository, as a quantisation or a file name; `revision` is a branch, tag or commit;
    `sha256` is a checksum that the file has to have; `name` is what it is to be called here.
    """
    if sha256 and not (len(sha256) == 64 and set(sha256.lower()) <= set("0123456789abcdef")):
        raise UsageError("a SHA-256 has 64 hexadecimal digits", "it is printed by: sha256sum FILE")
    if what.strip() == "demo":
        raise UsageError("the demonstration model comes with pool", "use it: pool do --model demo")
    known = catalogue.known()
    source = sources.parse(what, known)
    if isinstance(source, sources.Local | sources.Web):
        for option, value in (("--file", file), ("--revision", revision)):
            if value:
                raise UsageError(f"{option} goes with a repository of a hub", "leave it out")
    watch, begun = progress.choose(sys.stderr), ""
    try:
        match source:
            case sources.Local(path):
                return _register(path, name, sha256.lower())
            case sources.Web(url):
                wanted = _run(_from_web(url, name, sha256.lower(), watch))
            case sources.Listed(listed):
                wanted = _from_hub(
                    known[listed].repository, file, revision, name, sha256.lower(), known[listed]
                )
            case sources.Hub(repository, chosen):
                wanted = _from_hub(repository, file or chosen, revision, name, sha256.lower())
        begun = wanted.name
        return _get(wanted, watch, yes=yes)
    except _Stopped as stopped:
        watch.close()
        kept = sum(item.done for item in library.unfinished() if item.name == begun)
        _tell(f"stopped; {gb(kept)} are kept" if kept else "stopped; nothing had come yet")
        if kept:
            _tell(f"  the same command goes on from there: pool models get {shlex.quote(what)}")
        return int(stopped.exit_code)
    finally:
        watch.close()


def _from_hub(
    repository: str, file: str, revision: str, name: str, sha256: str, listed: Known | None = None
) -> Wanted:
    from poolcli.models import hub

    found = hub.look(repository, revision)
    choice = hub.choose(repository, found.files, file or (listed.file if listed else ""))
    if sha256:
        if len(choice.files) > 1:
            raise UsageError(
                "--sha256 is of one file, and this model has several", "the hub's own are checked"
            )
        if choice.files[0].sha256 not in ("", sha256):
            raise UsageError(
                f"the hub has {choice.name} with another checksum: {choice.files[0].sha256}",
                "it is another version: name its commit with --revision",
            )
    if listed and choice.quant.lower() in ("", listed.file.lower()):
        ours = listed.name
    else:
        ours = sources.model_name(listed.name if listed else choice.name, choice.quant)
    files = [
        (
            sources.file_name(item.path),
            Remote(found.url(item.path), item.size, sha256 or item.sha256, found.headers),
        )
        for item in choice.files
    ]
    return Wanted(
        name=library.checked(name or ours),
        files=tuple(files),
        source=f"hub:{repository}/{choice.name}",
        revision=found.commit,
        licence=found.licence or (listed.licence if listed else ""),
        family=listed.family if listed else "",
        quant=choice.quant,
    )


async def _from_web(url: str, name: str, sha256: str, watch: Watcher) -> Wanted:
    shown = sources.plain(url)
    file = sources.file_name(shown)
    remote = await probe(Remote(url, sha256=sha256), watch)
    if shown.startswith("http://") and not remote.sha256:
        _note("plain http and no checksum: nothing would show a change on the way; --sha256 HEX states one")
    quant = sources.quantisation(file)
    return Wanted(
        library.checked(name or sources.model_name(file, quant)), ((file, remote),), source=shown, quant=quant
    )


def _get(wanted: Wanted, watch: Shown, *, yes: bool, free: FreeSpace = free_space) -> int:
    """Say what will come, ask where that is right, fetch it, write it down."""
    before = library.load(wanted.name)
    if before is not None and before.source != wanted.source:
        raise UsageError(
            f"there is another model called {wanted.name} (from {before.source})",
            f"give this one another name: --name NAME; or delete that one: pool models rm {wanted.name}",
        )
    if before is not None and _same(before, wanted):
        _say(f"{wanted.name} is here already: {_place(before.path)}")
        return _next_steps(before)
    place = library.home(wanted.name)
    have = {file: _here(place / file, remote, before) for file, remote in wanted.files}
    missing = sum(max(0, remote.size - have[file]) for file, remote in wanted.files)
    there = free(place)
    parts = [
        f"{gb(wanted.size) if wanted.size else 'a file of unknown size'} to {_place(place)}",
        f"licence {wanted.licence or 'not stated'}; {gb(there)} free",
    ]
    if begun := sum(have.values()):
        parts.insert(1, f"{gb(begun)} of it here")
    _tell(f"{wanted.name}: {', '.join(parts)}")
    check_room(place, missing, free)
    large = missing >= LARGE or not wanted.size
    if large and not yes and _terminal() and not _confirmed("Fetch it?", default=True):
        _tell("nothing was fetched")
        return 0
    library.prepare(wanted.name)
    stored = _run(_fetch_all(wanted, place, have, watch))
    quant = _look_inside(wanted, place, stored)
    entry = library.add(
        Entry(
            name=wanted.name,
            files=stored,
            source=wanted.source,
            revision=wanted.revision,
            licence=clean(wanted.licence, keep_newlines=False),
            family=wanted.family,
            quant=wanted.quant or quant,
        )
    )
    for old in before.files if before else ():
        if old.name not in {file.name for file in stored}:
            (place / old.name).unlink(missing_ok=True)  # of the version that this one replaces
    watch.close()
    _say(f"{entry.name} is here: {_place(entry.path)}")
    return _next_steps(entry)


def _same(before: Entry, wanted: Wanted) -> bool:
    """Whether what is here is what would be fetched."""
    ours = {file.name: file for file in before.files}
    return before.whole and all(
        file in ours
        and (not remote.size or ours[file].size == remote.size)
        and (not remote.sha256 or ours[file].sha256 == remote.sha256)
        for file, remote in wanted.files
    )


def _here(target: Path, remote: Remote, before: Entry | None) -> int:
    """Bytes of a file that need not be fetched: of a begun one, or all when it is here as it should be."""
    old = next((file for file in before.files if file.name == target.name), None) if before else None
    with contextlib.suppress(OSError):
        if old and remote.sha256 and old.sha256 == remote.sha256 and target.stat().st_size == old.size:
            return old.size
    with contextlib.suppress(OSError):
        # An earlier part of a split model that was whole before the others came, checked when it is used.
        if before is None and remote.sha256 and target.stat().st_size == remote.size > 0:
            return remote.size
    with contextlib.suppress(OSError):
        return min(target.with_name(f"{target.name}.part").stat().st_size, remote.size or sys.maxsize)
    return 0


class _Offset:
    """Shows one file of several as a piece of the whole."""

    def __init__(self, watch: Watcher, before: int, total: int) -> None:
        self._watch, self._before, self._total = watch, before, total

    def begins(self, done: int, total: int) -> None:
        self._watch.begins(self._before + done, self._total or total)

    def at(self, done: int, total: int) -> None:
        self._watch.at(self._before + done, self._total or total)

    def says(self, text: str) -> None:
        self._watch.says(text)


async def _fetch_all(
    wanted: Wanted, place: Path, have: Mapping[str, int], watch: Watcher
) -> tuple[Stored, ...]:
    stored: list[Stored] = []
    try:
        for file, remote in wanted.files:
            done = sum(item.size for item in stored)
            target, shown = place / file, _Offset(watch, done, wanted.size)
            if remote.sha256 and remote.size and have[file] == remote.size and target.is_file():
                # Nobody wrote down that it was checked, or that was long ago: look again.
                if await digest(target, shown) == remote.sha256:
                    stored.append(Stored(file, remote.size, remote.sha256))
                    continue
                watch.says(f"{file} is damaged and is fetched again")
            fetched = await fetch(remote, target, shown)
            stored.append(Stored(file, fetched.size, fetched.sha256))
    except BaseException:
        library.tidy(wanted.name)
        raise
    return tuple(stored)


def _look_inside(wanted: Wanted, place: Path, stored: tuple[Stored, ...]) -> str:
    """The quantisation that the file itself states. Raises PoolError, the file gone, for one that is cut off."""
    from poolcli.models import gguf

    path = place / stored[0].name
    try:
        return gguf.read(path).quantisation
    except UsageError as error:
        if all(remote.sha256 for _, remote in wanted.files):
            _note(f"{error}; it is what its source says, so it is kept")  # a newer format, perhaps
            return ""
        path.unlink(missing_ok=True)
        library.tidy(wanted.name)
        raise PoolError(f"{error}; it was deleted", error.hint) from error


def _register(path: Path, name: str, sha256: str) -> int:
    """Note where a file is. It is neither copied nor moved: models are large, and it is the user's."""
    from poolcli.models.llama_server import check_file

    path = library.split_parts(path)[0]
    check_file(path)
    if sha256 and _run(digest(path)) != sha256:
        raise UsageError(f"{path} has another checksum", "it is damaged, or not the file that was meant")
    ours = library.checked(name or sources.model_name(path.name))
    before = library.load(ours)
    if before is not None and before.source != str(path):
        raise UsageError(
            f"there is another model called {ours} (from {before.source})",
            f"give this one another name: --name NAME; or delete that one: pool models rm {ours}",
        )
    entry = library.register(ours, path, sha256, quant=sources.quantisation(path.name) or _quant(path))
    _say(f"{entry.name} is registered: {_place(entry.path)} ({gb(entry.size)}; the file stays where it is)")
    return _next_steps(entry)


def _quant(path: Path) -> str:
    from poolcli.models import gguf

    try:
        return gguf.read(path).quantisation
    except UsageError as error:
        _note(str(error))
        return ""


# list -------------------------------------------------------------------------------------------------------------


def list_files(*, json: bool = False) -> int:
    """Print the models that are here, and the list of those that can be fetched. Returns the exit code."""
    from poolcli.models.hardware import available_memory

    memory = available_memory()
    known = catalogue.known()
    here = library.entries()
    if json:
        return _as_json(here, list(known.values()), memory)
    out = _Table(sys.stdout)
    if here:
        out.title(f"Models here ({_place(library.folder())})")
    for entry in here:
        out.row([(entry.name, 26), (gb(entry.size), 9), (_weights(entry), 9), (entry.licence or "-", 10)])
        state = "" if entry.whole else "missing or changed: " if entry.reference else "incomplete: "
        out.detail(f"{state}{_place(entry.path)}{' (registered)' if entry.reference else ''}")
    for begun in library.unfinished():
        out.row([(begun.name, 26), (gb(begun.done), 9), ("begun", 9)])
        out.detail("not finished; `pool models get` goes on with it, `pool models rm` deletes it")
    if not here:
        out.detail(f"no models here yet ({_place(library.folder())})")
    out.title("Models to fetch: pool models get NAME")
    out.head([("  name", 20), ("size", 8), ("memory", 7), ("context", 7), ("licence", 10)])
    have = {entry.name for entry in here}
    for model in known.values():
        fits = memory >= model.memory * 1e9
        mark = "✓" if fits else " "
        out.row(
            [
                (f"{mark} {model.name}", 20),
                (f"~{model.size:g} GB", 8),
                (f"~{model.memory:g} GB", 7),
                (f"{model.context // 1024}k", 7),
                (model.licence, 10),
            ],
            good=fits,
        )
        out.detail(model.good_for + (" (here)" if model.name in have else ""))
    if memory:
        out.note(f"✓ fits into the {gb(memory)} of memory that are free now, not counting a GPU's own.")
    return 0


def _weights(entry: Entry) -> str:
    """The quantisation, from the file itself when its name does not tell."""
    from poolcli.models import gguf

    if entry.quant or not entry.whole:
        return entry.quant or "-"
    try:
        return gguf.read(entry.path).quantisation or "-"
    except UsageError:
        return "-"


def _as_json(here: list[Entry], known: list[Known], memory: int) -> int:
    import msgspec

    models = [
        {
            "name": entry.name,
            "path": str(entry.path),
            "files": [str(path) for path in entry.paths],
            "size": entry.size,
            "quantisation": entry.quant,
            "licence": entry.licence,
            "family": entry.family,
            "source": entry.source,
            "revision": entry.revision,
            "sha256": [file.sha256 for file in entry.files],
            "registered": entry.reference,
            "whole": entry.whole,
            "added": entry.added,
        }
        for entry in here
    ]
    begun = [{"name": item.name, "done": item.done} for item in library.unfinished()]
    listed = [{**msgspec.to_builtins(model), "fits": memory >= model.memory * 1e9} for model in known]
    found = {
        "folder": str(library.folder()),
        "memory": memory,
        "models": models,
        "unfinished": begun,
        "catalogue": listed,
    }
    sys.stdout.write(in_json(msgspec.json.format(msgspec.json.encode(found), indent=2).decode()) + "\n")
    return 0


# rm ---------------------------------------------------------------------------------------------------------------


def rm(name: str, *, yes: bool = False) -> int:
    """Delete a fetched model, or forget a registered file, which stays. Returns the exit code; raises PoolError."""
    entry = library.load(name)
    begun = next((item for item in library.unfinished() if item.name == name), None)
    if entry is None and begun is None:
        near = [item.name for item in library.entries() if item.name.startswith(name)]
        raise UsageError(
            f"there is no model called `{name}` here",
            f"did you mean {', '.join(near)}?" if near else "`pool models list` shows them",
        )
    if entry is not None and entry.reference:
        library.remove(name)
        _say(f"{name} is forgotten; its file stays: {_place(entry.path)}")
        return 0
    size = entry.size if entry else begun.done if begun else 0
    if not yes:
        if not _terminal():
            raise UsageError(f"{gb(size)} would be deleted, and nobody can be asked", "say so with --yes")
        if not _confirmed(f"Delete {name} ({gb(size)})?", default=False):
            _tell("nothing was deleted")
            return 0
    _say(f"{name} is deleted; {gb(library.remove(name))} are free again")
    return 0


# Talking ----------------------------------------------------------------------------------------------------------


class _Stopped(PoolError):
    """A signal ended the work."""

    def __init__(self, exit_code: Exit) -> None:
        super().__init__("stopped")
        self.exit_code = exit_code


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. Raises _Stopped when a signal comes first, after the work has put things in order."""

    async def main() -> T:
        told = False

        def terminate() -> None:
            nonlocal told
            told = True
            task.cancel()

        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await task
        except asyncio.CancelledError:
            if told:
                raise _Stopped(Exit.TERMINATED) from None
            raise

    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        raise _Stopped(Exit.INTERRUPTED) from None


def _terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed(question: str, *, default: bool) -> bool:
    sys.stderr.write(f"{clean(question, keep_newlines=False)} [{'Y/n' if default else 'y/N'}] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:  # the end of the input is no answer
        return False
    word = answer.strip().lower()
    return default if not word else word in ("y", "yes")


def _next_steps(entry: Entry) -> int:
    """Say what to type now; returns 0."""
    _say(f'  pool do "fix the failing test" --model {_reference(entry)}')
    _say(f"  pool models use {entry.name}")
    return 0


def _reference(entry: Entry) -> str:
    """What `--model` has to be: the name, but where a server is configured that would be asked for it."""
    with contextlib.suppress(PoolError):
        if config.load().base_url:
            return shlex.quote(f"local:{entry.path}")
    return entry.name


def _say(text: str) -> None:
    _write(sys.stdout, text)


def _tell(text: str) -> None:
    _write(sys.stderr, text)


def _write(out: TextIO, text: str) -> None:
    """One line; at a terminal several, broken between words."""
    from poolcli.views.output import fit, is_unicode, size

    lines = [clean(text, keep_newlines=False)]
    if out.isatty():
        import textwrap

        indent = " " * (len(text) - len(text.lstrip()) + 2)
        lines = textwrap.wrap(
            lines[0],
            size(out)[0] - 1,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    whole = "".join(f"{line}\n" for line in lines)
    out.write(whole if is_unicode(out) else fit(whole, out))
    out.flush()


def _note(text: str) -> None:
    _tell(f"note: {text}")


def _place(path: Path) -> str:
    from poolcli.views.phrases import place

    return place(path)


class _Table:
    """Rows with a line of detail below each at a terminal; elsewhere one line for each row, easy to search."""

    def __init__(self, out: TextIO) -> None:
        from poolcli.views.output import fit, is_unicode, size

        self._out = out
        self._wide = not out.isatty()
        self._width = 10_000 if self._wide else size(out)[0] - 1
        self._colour = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._fit = (lambda text: text) if is_unicode(out) else (lambda text: fit(text, out))
        self._held = ""
        self._any = False

    def title(self, text: str) -> None:
        """A heading, an empty line before all but the first."""
        self._flush()
        self._write(("\n" if self._any else "") + self._painted(text, "1"))

    def head(self, cells: Sequence[tuple[str, int]]) -> None:
        """Names of the columns."""
        self._write(self._painted(self._line(cells), "2"))

    def row(self, cells: Sequence[tuple[str, int]], *, good: bool = False) -> None:
        """One row; what is too long for its column moves the rest."""
        self._flush()
        line = self._line(cells)
        self._held = self._painted(line, "32") if good else line

    def detail(self, text: str) -> None:
        """What is to be said to the row before."""
        import textwrap

        held, self._held = self._held, ""
        if self._wide:
            self._write(f"{held}  {text}" if held else text)
            return
        lines = textwrap.wrap(
            clean(text, keep_newlines=False), max(20, self._width - 4), break_on_hyphens=False
        ) or [""]
        if held:
            self._write(held)
        for line in lines:
            self._write(self._painted(f"    {line}" if held else line, "2"))

    def note(self, text: str) -> None:
        """A last word."""
        self._flush()
        self.detail(text)

    def _line(self, cells: Sequence[tuple[str, int]]) -> str:
        return " ".join(f"{clean(text, keep_newlines=False):<{width}}" for text, width in cells).rstrip()

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, ""
            self._write(held)

    def _write(self, text: str) -> None:
        self._any = True
        self._out.write(self._fit(text) + "\n")
