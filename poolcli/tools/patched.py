"""Edits in the formats of other tools (a patch, a diff, blocks, a fenced file), for one file or several: all or none.

Models that were trained on such a format write it into the arguments that they are given. It is read where a text as
a whole can be nothing else, and never in files that may well hold such a text.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from poolcli.tools import earlier, files, marks, recalled, syntax
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.diffs import unified

if TYPE_CHECKING:
    from poolcli.beneath import Folder
    from poolcli.edits.results import FileEdit, FileResult, Refusal

#: How a text in one of the formats begins.
_PATCH = re.compile(r"\s*\*\*\* (?:Begin Patch|(?:Add|Update|Delete) File: )")
_DIFF = re.compile(r"\s*(?:diff --git |--- \S.*\n\+\+\+ \S|@@ )")
_HEAD = re.compile(r"\s*(?:.*\n){0,3}?<{5,9} *SEARCH\b")
_TAIL = re.compile(r"(?m)^[ \t]*>{5,9} *REPLACE[ \t\r]*\n?(?:[ \t]*[`~]{3,})?\Z")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})[^\n]*\n(?:.*\n)?\1\s*\Z", re.DOTALL)

#: Files that may hold a patch as their text.
_LITERAL = frozenset(
    ("", ".md", ".rst", ".txt", ".adoc", ".patch", ".diff", ".rej", ".orig", ".out", ".snap", ".log")
)


def read(path: str, text: str, *, own: bool = False) -> list[FileEdit] | Refusal | None:
    """The edits that a text as a whole asks for; None when it is in none of the formats.

    With `own` only edits that are also about the file at `path` count: else the text may be meant as its content.
    """
    fenced = _FENCE.fullmatch(text)
    formatted = _PATCH.match(text) or _DIFF.match(text) or (_HEAD.match(text) and _TAIL.search(text.rstrip()))
    if not fenced and not formatted:
        return None
    from poolcli.edits import formats
    from poolcli.edits.results import Refusal

    aimed = bool(path.strip()) and path != "."
    literal = aimed and posixpath.splitext(path)[1].lower() in _LITERAL
    found = formats.recognise(text, path if aimed else "")
    if isinstance(found, Refusal):
        return None if literal or (fenced and not formatted) else found
    if literal:
        named = formats.recognise(text, "")
        if fenced or isinstance(named, Refusal) or not _about(path, named):
            return None
    return found if not own or not aimed or _about(path, found) else None


def _about(path: str, edits: Sequence[FileEdit]) -> bool:
    """Whether one of the edits is about the file: paths may be absolute, so their ends are compared."""
    wanted = "/" + posixpath.normpath(path).lstrip("/")
    return any(wanted.endswith("/" + posixpath.normpath(edit.path).lstrip("/")) for edit in edits)


def paths(args: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that the arguments of `edit` or `write` name besides their `path`."""
    path = str(args.get("path", ""))
    found: list[str] = []
    for name in ("new", "content"):
        edits = read(path, args[name]) if isinstance(args.get(name), str) else None
        for edit in edits if isinstance(edits, list) else ():
            found += [one for one in (edit.path, edit.move_to) if one and one != path]
    return tuple(dict.fromkeys(found))


def run(ctx: Ctx, edits: Sequence[FileEdit]) -> Output:
    """Apply the edits. Raises ToolError, and then no file is changed."""
    from poolcli.edits import apply
    from poolcli.edits.results import Refusal

    edits = [
        replace(edit, path=_real(ctx, edit.path, edit), move_to=_real(ctx, edit.move_to, edit))
        for edit in edits
    ]
    before: dict[str, files.Decoded] = {}
    raw: dict[str, bytes] = {}
    for path in {one for edit in edits for one in (edit.path, edit.move_to) if one}:
        if (data := files.load_if_there(files.locate(ctx, path))) is not None:
            raw[path], before[path] = data, files.decode(data)
    done = apply.apply({path: decoded.text for path, decoded in before.items()}, edits)
    if isinstance(done, Refusal):
        raise refused(ctx, done.path, done, before[done.path].text if done.path in before else "")
    moved = {result.moved_from for result in done if result.moved_from}
    results = [result for result in done if result.text is not None or result.path not in moved]
    changes = [_change(result, before) for result in results]
    _store(ctx, results, changes, raw)
    said, shown = [], []
    for result, data in zip(results, changes, strict=True):
        was = before.get(result.moved_from or result.path)
        said.append(_said(result, was))
        old = files.printable(was.text) if was else None
        now = files.printable(files.decode(data or b"").text)
        shown.append({"type": "diff", "path": result.path, "diff": unified(result.path, old, now)})
        recalled.landed(ctx.outputs, result.path, result.text or "")
    return Output("\n".join(said), tuple(shown))


def _real(ctx: Ctx, path: str, edit: FileEdit) -> str:
    """The one name of a file, relative to the root and without links, so that no file is taken for two."""
    if not path:
        return ""
    place = files.locate(ctx, path)
    try:
        with place.folder() as folder:
            real = folder.real(place.path)
    except FileNotFoundError:
        return place.name
    except (OSError, ValueError) as error:
        raise files.unusable(place, error) from error
    if real != place.name and (edit.move_to or edit.action == "delete"):
        raise ToolError(f"{place.name} is or goes through a link; name the file itself: {real}")
    return real


def _change(result: FileResult, before: Mapping[str, files.Decoded]) -> bytes | None:
    """What the file is to hold; None when it goes."""
    if result.text is None:
        return None
    like = before.get(result.moved_from or result.path) or files.Decoded("")
    marks.refuse(result.text, like.text, what=result.path)
    return files.encode(result.text, like)


def _store(
    ctx: Ctx, results: Sequence[FileResult], changes: Sequence[bytes | None], raw: Mapping[str, bytes]
) -> None:
    """Write all of it; when one cannot be written, what was written before it is put back."""
    back: list[Callable[[], None]] = []
    place = files.locate(ctx, results[0].path)
    with place.folder() as folder:
        try:
            # What goes comes last: only new text can fail for want of room.
            for result, data in sorted(zip(results, changes, strict=True), key=lambda one: one[1] is None):
                place = files.locate(ctx, result.path)
                _put(folder, result, data, raw, ctx, back)
        except BaseException as error:
            for step in reversed(back):
                with contextlib.suppress(OSError, ValueError):
                    step()
            if isinstance(error, OSError | ValueError):
                raise files.unusable(place, error) from error
            raise
    for result, data in zip(results, changes, strict=True):
        if result.moved_from:
            earlier.keep(ctx.outputs, result.moved_from, raw[result.moved_from], None)
        earlier.keep(ctx.outputs, result.path, None if result.moved_from else raw.get(result.path), data)


def _put(
    folder: Folder,
    result: FileResult,
    data: bytes | None,
    raw: Mapping[str, bytes],
    ctx: Ctx,
    back: list[Callable[[], None]],
) -> None:
    path, source = result.path, result.moved_from
    if data is None:
        folder.remove(path)
        back.append(lambda: folder.replace(path, raw[path], scratch=ctx.outputs))
        return
    if source:
        folder.rename(source, path)  # keeps its mode
        back.append(lambda: folder.rename(path, source))
    old = raw[source] if source else raw.get(path)
    if old == data:
        return
    folder.replace(path, data, scratch=ctx.outputs)
    if old is None:
        back.append(lambda: folder.remove(path))
    else:
        back.append(lambda: folder.replace(path, old, scratch=ctx.outputs))


def _said(result: FileResult, was: files.Decoded | None) -> str:
    from poolcli.tools.edit import edited_text, inexact
    from poolcli.tools.write import wrote_text

    if result.text is None:
        return f"deleted {result.path}"
    if result.spans:
        said = edited_text(result.path, *(span.after_first for span in result.spans))
        said += inexact(result.text, result.spans, result.steps)
    elif result.moved_from:
        said = f"wrote {result.path}"
    else:
        said = wrote_text(result.path, result.text)
    if result.moved_from:
        said += f" (it was {result.moved_from})"
    wrong = syntax.broken(result.path, was.text if was else None, result.text)
    return f"{said}\n{wrong}" if wrong else said


#: Refusals after which a model should try something larger when they come again.
_MISSED = frozenset(("not_found", "ambiguous", "no_change", "unclear", "already_applied", "too_costly"))


def refused(ctx: Ctx, name: str, refusal: Refusal, text: str, *old: str) -> ToolError:
    """What to tell the model about an edit of a file with this text that was refused; `old` is what it looked for."""
    shown = recalled.shown(ctx.outputs, name)
    if (
        refusal.kind == "not_found"
        and shown is not None
        and shown != text
        and any(one in shown for one in old)
    ):
        from poolcli.edits import ranges

        recalled.show(ctx.outputs, name, text)
        return ToolError(files.printable(ranges.stale(text, shown).message))
    message = refusal.message
    if name and name not in message:
        message = f"{name}: {message}"
    if refusal.number:
        message += f"\n(this is edit {refusal.number} of the call; none of them was made)"
    if refusal.kind in _MISSED and recalled.miss(ctx.outputs, name):
        function = (
            name.endswith(".py") and "; or leave `old` empty and give one whole function or class as `new`"
        )
        message += (
            f"\nedits of {name} have missed repeatedly: write the whole file with write{function or ''}"
        )
    return ToolError(files.printable(message))
