"""List the files of a folder as git knows them: tracked and new ones, without the ignored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

from poolcli import git, process, programs
from poolcli.tools import files
from poolcli.tools.base import Ctx, Files, Output, ToolError

#: Levels that are opened when none are asked for.
DEPTH = 2

#: Entries and characters that come back; below the contract's limit.
ENTRIES, CHARACTERS = 200, 7_500

TIMEOUT = 60

#: Bytes of names: enough for about a million files.
HELD = 100_000_000


async def run(ctx: Ctx, path: str = ".", depth: int = DEPTH) -> Output:
    """Files below a folder, one a line; below `depth` levels only folders with their number of files."""
    place = files.locate(ctx, path or ".")
    real, is_folder = files.look(place)
    if not is_folder:
        return Output(place.name)
    folder = "" if real == "." else real
    names = await _files(ctx.workspace, folder)
    if not names:
        return Output(f"no files in {place.name} (ignored files are not listed)")
    with place.folder() as top:
        return Output(_shown(names, folder, max(depth, 1), top.there))


async def _files(space: Files, folder: str) -> list[str]:
    """Files below a folder, in the order of their names."""
    asked = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    pin, index = space.pinned()
    tops = git.tops(pin, space.root)
    program = programs.find("git", not_in=tops) or "git"
    argv = [program, *git.PINS, *pin, *asked, "--", f":(literal){folder}" if folder else "."]
    try:
        done = await process.run(
            argv, cwd=space.root, env=git.environment(index, *tops), timeout=TIMEOUT, limit=HELD
        )
    except OSError as error:
        raise ToolError(f"list could not be started: {error.strerror}") from error
    if done.exit_code != 0:
        raise ToolError(f"list failed: {done.output.strip()[:300]}")
    # A nested repository that is not a submodule is listed as one name that ends in a slash.
    return sorted({name.rstrip("/") for name in done.output.split("\0") if name})


def _shown(names: Sequence[str], folder: str, depth: int, there: Callable[[str], bool]) -> str:
    entries = condensed(names, folder, depth)
    while len(entries) > ENTRIES and depth > 1:
        depth -= 1
        entries = condensed(names, folder, depth)
    shown: list[str] = []
    room = CHARACTERS
    gone = 0
    for entry in entries[:ENTRIES]:
        # git knows files that were removed, and follows a folder that becomes a link while it looks.
        if not there(entry.rpartition("/ (")[0] or entry):
            gone += 1
            continue
        if not entry.isprintable() and "\n" in entry:
            entry = json.dumps(entry, ensure_ascii=False)  # one name, one line
        room -= len(entry) + 1
        if room < 0 and shown:
            break
        shown.append(entry)
    if left := len(entries) - len(shown) - gone:
        shown.append(f"… {left} more; list one of the folders, or search")
    return "\n".join(shown) or "(no files that are there)"


def condensed(names: Sequence[str], folder: str, depth: int) -> list[str]:
    """`names`, which lie below `folder` ('' for the root); deeper than `depth` levels folders with counts."""
    level = depth + (folder.count("/") + 1 if folder else 0)
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split("/", level)
        # The last of level + 1 parts is all that lies deeper.
        counts["/".join(parts[:level]) + "/" if len(parts) > level else name] += 1
    return [
        f"{entry} ({_files_word(count)})" if entry.endswith("/") else entry for entry, count in counts.items()
    ]


def _files_word(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"
