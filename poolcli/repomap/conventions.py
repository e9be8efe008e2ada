"""The project's own instructions to agents: the nearest AGENTS.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

NAME = "AGENTS.md"
#: About 600 tokens: conventions, not a manual. The model can read the rest.
LIMIT = 2100
#: Other such files that are named, for work in their folders.
OTHERS = 5


def instructions(
    files: Sequence[tuple[str, int]], focus: str, read: Callable[[str], str | None]
) -> tuple[str, str] | None:
    """Path and text of the AGENTS.md nearest to `focus` (the folder where the user started, '' for the root).

    The text is cut after about 600 tokens with a note that says so. None when there is none.
    """
    folder = focus.strip("/")
    while True:
        path = f"{folder}/{NAME}" if folder else NAME
        # Asked for by name, not looked up in `files`: it is often a link to another file.
        text = (read(path) or "").strip()
        if text:
            return path, _bounded(text, path) + _others(files, path)
        if not folder:
            return None
        folder = folder.rpartition("/")[0]


def _bounded(text: str, path: str) -> str:
    if len(text) <= LIMIT:
        return text
    end = text.rfind("\n", LIMIT // 2, LIMIT)
    kept = text[: end if end > 0 else LIMIT].rstrip()
    return f"{kept}\n… {len(text) - len(kept)} more characters in {path}"


def _others(files: Sequence[tuple[str, int]], chosen: str) -> str:
    from poolcli.repomap.names import shown

    below = sorted(path for path, _ in files if path.endswith("/" + NAME) and path != chosen)[:OTHERS]
    return "\n(also: " + ", ".join(map(shown, below)) + ")" if below else ""
