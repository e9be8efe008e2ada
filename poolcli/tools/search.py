"""Search the files of the worktree: with ripgrep where there is one, else with git grep.

The program only says where. It opens files by their paths, which a command that still runs can turn into links
to anywhere; so what a line says is read again beneath the worktree, and a match that is not there is left out.

Files whose names say that they hold secrets are searched only when the path is that very file, which a person is
asked about. What is said of the others is how many there are, never whether they match: that could be asked about
one character after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from poolcli import beneath, git, policy, process, programs
from poolcli.tools import bounds, files
from poolcli.tools.base import Ctx, Output, ToolError

#: Seconds: git grep takes about one for the Linux kernel with a warm cache.
TIMEOUT = 60

#: Bytes of matches that are held to pick from; the model gets the first of them.
HELD = 600_000

#: Matches and characters that come back; below the contract's limit.
MATCHES, CHARACTERS = 100, 11_500

#: Characters of one matching line.
LINE = 240

#: Bytes of files that are read again for one result, together and of one file; lines beyond are named only.
READ_AGAIN, ONE_AGAIN = 100_000_000, 20_000_000

#: git grep holds files in memory whole: kilobytes that it may have, and bytes of the files that are left out
#: when that was too little. Threads take 128 MB of addresses each before they begin.
MEMORY, LARGE = 2_000_000, 100_000_000

#: Bytes of names, when large files are looked for: enough for about a million.
NAMES = 100_000_000

#: No configuration of anybody's is read (its --pre runs a program), and links are not followed.
_RIPGREP = [
    "--no-config",
    "--no-follow",
    "--no-pre",
    "--no-messages",
    "--line-number",
    "--no-heading",
    "--with-filename",
    "--null",
    "--color=never",
    "--hidden",
    "--sort=path",
    "--max-columns=2000",
    "--max-columns-preview",
    "--glob=!.git",
]

#: -P (Perl's regular expressions) knows \d and the like, as models write them; git may be built without.
_GIT_GREP = ["grep", "--untracked", "-nIz", "--no-color", "--no-column", "--no-recurse-submodules"]

_MATCH = re.compile(r"(?P<file>[^\0]+)\0(?P<line>\d+)[\0:](?P<text>.*)")


class _Scope(Struct, frozen=True):
    """Where to search: a path below `place.top` ('' for all of it), names that match `glob` ('' for all)."""

    place: files.Place
    path: str
    glob: str
    #: Put before the names in the result.
    prefix: str = ""
    #: How git is asked about the worktree: options and environment.
    pin: tuple[str, ...] = ()
    index: Mapping[str, str] = {}


async def run(ctx: Ctx, pattern: str, path: str = ".", glob: str = "") -> Output:
    """Lines that match a regular expression, as `file:line: text`."""
    if not pattern:
        raise ToolError("pattern is empty; list shows the files")
    if any("\0" in text for text in (pattern, glob)) or "\n" in pattern:
        raise ToolError("pattern must be one line; search for one line at a time")
    scope = _scope(ctx, path, glob.strip())
    done, secretive = await asyncio.gather(_search(pattern, scope), _secretive(scope))
    matches = [match for match in _matches(done) if match[0] == scope.path or not policy.secretive(match[0])]
    # Both end with more than 1 on an error, also when they found something before it.
    if done.exit_code not in (0, 1) and not matches:
        if done.timed_out:
            raise ToolError(f"the search took longer than {TIMEOUT} seconds; give a path or a glob")
        raise ToolError(
            f"search failed: {_complaint(done.output)}; to find ( [ {{ . * + ? as they are, put \\ before"
        )
    if not matches:
        return Output(_nothing(pattern, path, glob) + secretive)
    return Output(_listed(matches, scope, more=done.truncated) + secretive)


def _scope(ctx: Ctx, path: str, glob: str) -> _Scope:
    place = files.locate_readable(ctx, path or ".")
    # Not a FIFO or a device, which a program that is told to would read for ever; not through links.
    real, _ = files.look(place)
    if place.name.startswith(files.OUTPUT_PREFIX):
        return _Scope(place, real, "", prefix=files.OUTPUT_PREFIX)
    pin, index = ctx.workspace.pinned()
    return _Scope(place, "" if real == "." else real, glob.removeprefix("**/"), pin=pin, index=index)


async def _search(pattern: str, scope: _Scope) -> process.Finished:
    # ripgrep's --glob overrides .gitignore and its types know only names: git takes globs with folders.
    if "/" not in scope.glob and (ripgrep := programs.find("rg", not_in=_tops(scope))):
        return await _process(_ripgrep(ripgrep, pattern, scope), scope)
    dialect, left_out = "-P", list[str]()
    done = await _process(_git_grep(dialect, pattern, scope, left_out), scope)
    if done.exit_code not in (0, 1) and "Perl-compatible" in done.output:
        dialect = "-E"
        done = await _process(_git_grep(dialect, pattern, scope, left_out), scope)
    if done.exit_code not in (0, 1) and "emory" in done.output and not scope.prefix:
        left_out = await _large(scope)
        done = await _process(_git_grep(dialect, pattern, scope, left_out), scope)
    return done


async def _secretive(scope: _Scope) -> str:
    """What is said of the files in this scope whose names say that they hold secrets; '' where there are none."""
    if scope.prefix:
        return ""
    # git looks for the names where it can: there may be a million others.
    names = _pathspecs(scope) if scope.glob else _below(scope.path, policy.SECRETIVE, "icase,")
    below = f"{scope.path}/" if scope.path else ""  # in this very case, too
    found = await _names(scope, names)
    count = sum(name.startswith(below) and policy.secretive(name) for name in found)
    files = "1 file" if count == 1 else f"{count} files"
    return f"\n({files} not searched: the name says that it holds secrets)" if count else ""


async def _names(scope: _Scope, pathspecs: Iterable[str]) -> set[str]:
    asked = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *pathspecs]
    done = await _process([_git(scope), *git.PINS, *scope.pin, *asked], scope, limit=NAMES)
    return set(done.output.split("\0")) - {""}


async def _large(scope: _Scope) -> list[str]:
    """Files that are too large for git grep."""
    found = []
    with scope.place.folder() as folder:
        for name in sorted(await _names(scope, _pathspecs(scope))):
            with contextlib.suppress(OSError, ValueError):
                if folder.status(name).st_size > LARGE:
                    found.append(name)
    return found


async def _process(argv: Sequence[str], scope: _Scope, limit: int = HELD) -> process.Finished:
    env = git.environment(scope.index, *_tops(scope))
    try:
        return await process.run(argv, cwd=scope.place.top, env=env, timeout=TIMEOUT, limit=limit)
    except OSError as error:
        raise ToolError(f"search could not be started: {error.strerror}") from error


def _ripgrep(program: str, pattern: str, scope: _Scope) -> list[str]:
    names = [f"--type-add=asked:{scope.glob}", "--type=asked"] if scope.glob else []
    # A file that was named is searched also where it is ignored; so are the run's outputs.
    return [program, *_RIPGREP, *names, "-e", pattern, "--", scope.path or "."]


def _git_grep(dialect: str, pattern: str, scope: _Scope, left_out: Sequence[str]) -> list[str]:
    options = [*_GIT_GREP, dialect, "-e", pattern, "--"]
    if scope.prefix:
        options.insert(1, "--no-index")
        options.remove("--untracked")
    names = [*_pathspecs(scope), *(f":(exclude,literal){name}" for name in left_out)]
    # Limits of a process are set from within it: there is nothing else that runs before git does.
    limited = ["/bin/sh", "-c", f'ulimit -v {MEMORY} 2>/dev/null; exec "$@"', "sh"]
    return [*limited, _git(scope), *git.PINS, *scope.pin, "--no-pager", *options, *names]


def _tops(scope: _Scope) -> Sequence[Path]:
    return git.tops(scope.pin, scope.place.top)


def _git(scope: _Scope) -> str:
    return programs.find("git", not_in=_tops(scope)) or "git"


def _pathspecs(scope: _Scope) -> Iterator[str]:
    if not scope.glob:
        yield f":(literal){scope.path}" if scope.path else "."
        return
    yield from _below(scope.path, _alternatives(scope.glob))


def _below(path: str, globs: Iterable[str], magic: str = "") -> Iterator[str]:
    """Pathspecs for names below a folder."""
    folder = re.sub(r"([*?\[\]\\])", r"\\\1", path)
    for name in globs:
        deep = name if "/" in name else f"**/{name}"
        yield f":({magic}glob){folder}/{deep}" if folder else f":({magic}glob){deep}"


def _alternatives(glob: str) -> list[str]:
    """`*.{ts,tsx}` as the two patterns that it stands for: git knows no braces."""
    match = re.match(r"([^{}]*)\{([^{}]*)\}(.*)", glob)
    if not match:
        return [glob]
    head, names, tail = match.groups()
    return [head + name + rest for name in names.split(",") for rest in _alternatives(tail)][:32]


def _matches(done: process.Finished) -> Iterator[tuple[str, str, str]]:
    """File, line number and text of each match that is held whole, from the first on."""
    text = done.output
    if done.truncated:
        # Only the beginning: matches from the end would look like the ones that follow it.
        text = text[: len(text) // 2].rpartition("\n")[0]
    for line in text.split("\n"):
        if match := _MATCH.fullmatch(line.rstrip("\r")):
            yield match["file"].removeprefix("./"), match["line"], match["text"]


def _listed(matches: Sequence[tuple[str, str, str]], scope: _Scope, *, more: bool) -> str:
    shown: list[str] = []
    room = bounds.room(CHARACTERS)
    seen = gone = 0
    with scope.place.folder() as folder:
        again = _Again(folder)
        for file, line, said in matches:
            if len(shown) >= MATCHES:
                break
            text = again.line(file, int(line), said)
            if text is None:
                seen, gone = seen + 1, gone + 1
                continue
            piece = f"{scope.prefix}{file}:{line}: {text if len(text) <= LINE else text[:LINE] + '…'}"
            room -= len(piece) + 1
            if room < 0 and shown:
                break
            seen += 1
            shown.append(piece)
    left = len(matches) - seen
    if gone:
        shown.append(f"({gone} matches left out: their files changed during the search)")
    if more:
        shown.append(f"… more than {left} further matches; narrow the pattern, path or glob")
    elif left:
        shown.append(f"… {left} more matches; narrow the pattern, path or glob")
    return "\n".join(shown)


class _Again:
    """Lines of matches, read beneath the folder; one file is held at a time, as matches come file by file."""

    def __init__(self, folder: beneath.Folder) -> None:
        self._folder = folder
        self._name, self._lines = "", list[str]()
        self._left = READ_AGAIN

    def line(self, file: str, number: int, said: str) -> str | None:
        """The line, '…' for one of a file that is too large to read again; None where it is not so."""
        if file != self._name:
            self._name, self._lines = file, []
            try:
                data = self._folder.read(file, min(ONE_AGAIN, self._left))
            except beneath.TooLarge:
                self._lines = [_TOO_LARGE]
            except (OSError, ValueError):
                return None
            else:
                self._left -= len(data)
                self._lines = files.printable(files.decode(data).text).split("\n")
        if self._lines == [_TOO_LARGE]:
            return "(the file is large; read shows the line)"
        if not 0 < number <= len(self._lines):
            return None
        text = self._lines[number - 1].removesuffix("\r")
        # The program cuts long lines, and says so at their end.
        return text if text[:LINE] == said.rstrip("\r")[:LINE] else None


#: In the place of lines that are not held.
_TOO_LARGE = "\0"


def _nothing(pattern: str, path: str, glob: str) -> str:
    where = ("" if path in ("", ".") else f" in {path}") + (f" in files like {glob}" if glob else "")
    return f"no match for {pattern[:200]}{where}"


def _complaint(output: str) -> str:
    """What the program said is wrong, on one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and line.strip() != "^"]
    return (
        " ".join(lines)[:300].removeprefix("fatal: ").removeprefix("rg: ").removeprefix("-e option, ")
        or "no reason given"
    )
