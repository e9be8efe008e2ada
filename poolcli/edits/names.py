"""Names of files as they stand around edits, and which of them are refused."""

from __future__ import annotations

import posixpath
import re

from poolcli.edits.results import Refusal

#: Longest name that is taken for one, in characters.
LONGEST = 250

_LABEL = re.compile(r"(?i)^(?:file|file ?name|file ?path|path|in|edit|update|create|modify)\s*:\s*")
_COMMENT = re.compile(r"^(?:#+|//|/\*|<!--|--|;|%)\s*")
#: Files without a suffix that people edit.
_PLAIN = re.compile(
    r"(?i)^(?:.*/)?(?:makefile|dockerfile|license|readme|gemfile|rakefile|procfile|justfile)$"
)
_NAME = re.compile(r"[\w.@+\-/\\~\[\](){}$=,&!]+")


def name_in(line: str, *, commented: bool = True) -> str:
    """The file name that a line consists of, without what people put around one; "" when it holds none."""
    name = line.strip()
    if commented:
        name = _COMMENT.sub("", name)
        name = re.sub(r"\s*(?:\*/|-->)$", "", name)
    name = name.strip().strip("*").strip()
    name = _LABEL.sub("", name).strip().rstrip(":").strip("*").strip()
    quoted = name[:1] in "`'\"" and len(name) > 2 and name[-1] == name[0]
    if quoted:
        name = name[1:-1].strip()
    if not name or len(name) > LONGEST or not _NAME.fullmatch(name.replace(" ", "") if quoted else name):
        return ""
    if name.endswith((".", ",", "/")) or name.startswith(("...", "```")):
        return ""
    known = (
        "/" in name or re.search(r"[\w\])]\.\w{1,12}$", name) or re.match(r"\.\w", name) or _PLAIN.match(name)
    )
    return name if known and re.search(r"\w", name) else ""


def unsafe(path: str) -> Refusal | None:
    """A refusal for a path that is absolute or leads out of the folder."""
    parts = path.replace("\\", "/").split("/")
    if not path.strip() or "\0" in path:
        return Refusal("unsafe_path", "the edit names no file; give its path in the repository")
    if path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[\\/]", path) or ".." in parts:
        return Refusal(
            "unsafe_path", f"{path} is absolute or leads out of the repository; give its path within", path
        )
    return None


def normal(path: str) -> str:
    """A safe path without detours: `./a//b` is `a/b`."""
    return posixpath.normpath(path)
