"""Search the files of the worktree: with ripgrep where there is one, else with git grep."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from poolcli import git, process
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

_RIPGREP = [
    "rg",
    "--no-config",
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
    """Where to search: a path below `root` ('' for all of it), names that match `glob` ('' for all)."""

    root: Path
    path: str
    glob: str
    #: Put before the names in the result.
    prefix: str = ""


async def run(ctx: Ctx, pattern: str, path: str = ".", glob: str = "") -> Output:
    """Lines that match a regular expression, as `file:line: text`."""
    if not pattern:
        raise ToolError("pattern is empty; list shows the files")
    if any("\0" in text for text in (pattern, glob)) or "\n" in pattern:
        raise ToolError("pattern must be one line; search for one line at a time")
    scope = _scope(ctx, path, glob.strip())
    done = await _search(pattern, scope)
    matches = list(_matches(done))
    # Both end with more than 1 on an error, also when they found something before it.
    if done.exit_code not in (0, 1) and not matches:
        if done.timed_out:
            raise ToolError(f"the search took longer than {TIMEOUT} seconds; give a path or a glob")
        raise ToolError(
            f"search failed: {_complaint(done.output)}; to find ( [ {{ . * + ? as they are, put \\ before"
        )
    if not matches:
        return Output(_nothing(pattern, path, glob))
    return Output(_listed(matches, scope.prefix, more=done.truncated))


def _scope(ctx: Ctx, path: str, glob: str) -> _Scope:
    place = files.locate_readable(ctx, path or ".")
    if not place.file.exists():
        # The error names what was probably meant.
        files.open_regular(place)
    if path.startswith(files.OUTPUT_PREFIX):
        return _Scope(ctx.outputs, place.file.name, "", prefix=files.OUTPUT_PREFIX)
    return _Scope(ctx.workspace.root, "" if place.name == "." else place.name, glob.removeprefix("**/"))


async def _search(pattern: str, scope: _Scope) -> process.Finished:
    # ripgrep's --glob overrides .gitignore and its types know only names: git takes globs with folders.
    if "/" not in scope.glob and shutil.which("rg"):
        return await _process(_ripgrep(pattern, scope), scope.root)
    done = await _process(_git_grep("-P", pattern, scope), scope.root)
    if done.exit_code not in (0, 1) and "Perl-compatible" in done.output:
        done = await _process(_git_grep("-E", pattern, scope), scope.root)
    return done


async def _process(argv: Sequence[str], cwd: Path) -> process.Finished:
    try:
        return await process.run(argv, cwd=cwd, env=git.environment(), timeout=TIMEOUT, limit=HELD)
    except OSError as error:
        raise ToolError(f"search could not be started: {error.strerror}") from error


def _ripgrep(pattern: str, scope: _Scope) -> list[str]:
    names = [f"--type-add=asked:{scope.glob}", "--type=asked"] if scope.glob else []
    # A file that was named is searched also where it is ignored; so are the run's outputs.
    return [*_RIPGREP, *names, "-e", pattern, "--", scope.path or "."]


def _git_grep(dialect: str, pattern: str, scope: _Scope) -> list[str]:
    options = [*_GIT_GREP, dialect, "-e", pattern, "--"]
    if scope.prefix:
        options.insert(1, "--no-index")
        options.remove("--untracked")
    return ["git", *git.PINS, "--no-pager", *options, *_pathspecs(scope)]


def _pathspecs(scope: _Scope) -> Iterator[str]:
    if not scope.glob:
        yield f":(literal){scope.path}" if scope.path else "."
        return
    folder = re.sub(r"([*?\[\]\\])", r"\\\1", scope.path)
    for name in _alternatives(scope.glob):
        deep = name if "/" in name else f"**/{name}"
        yield f":(glob){folder}/{deep}" if folder else f":(glob){deep}"


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


def _listed(matches: Sequence[tuple[str, str, str]], prefix: str, *, more: bool) -> str:
    shown: list[str] = []
    room = bounds.room(CHARACTERS)
    for file, line, text in matches[:MATCHES]:
        piece = f"{prefix}{file}:{line}: {text if len(text) <= LINE else text[:LINE] + '…'}"
        room -= len(piece) + 1
        if room < 0 and shown:
            break
        shown.append(piece)
    left = len(matches) - len(shown)
    if more:
        shown.append(f"… more than {left} further matches; narrow the pattern, path or glob")
    elif left:
        shown.append(f"… {left} more matches; narrow the pattern, path or glob")
    return "\n".join(shown)


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
