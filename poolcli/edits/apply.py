"""Applies edits to several files at once: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace as altered

from poolcli.edits import ranges, whole
from poolcli.edits.names import normal, unsafe
from poolcli.edits.replace import replace_all
from poolcli.edits.results import FileEdit, FileResult, Landed, Refusal, Replacement


def apply(files: Mapping[str, str], edits: Sequence[FileEdit]) -> list[FileResult] | Refusal:
    """What the edits make of the files that they name, each once, in the order of the edits.

    `files` gives the text of a path, and does not hold paths that are no files. Paths must be relative and
    stay inside; that they lead through no link out of the folder is the caller's to see to.
    """
    if not edits:
        return Refusal("malformed", "there is nothing to apply")
    done: dict[str, FileResult] = {}
    for edit in edits:
        for path in (edit.path, *([edit.move_to] if edit.move_to else [])):
            if refusal := unsafe(path):
                return refusal
        edit = altered(edit, path=normal(edit.path), move_to=normal(edit.move_to) if edit.move_to else "")
        refusal = _one(files, edit, done)
        if refusal is not None:
            return refusal if refusal.path else altered(refusal, path=edit.path)
    return list(done.values())


def _one(files: Mapping[str, str], edit: FileEdit, done: dict[str, FileResult]) -> Refusal | None:
    path = edit.path
    earlier = done.get(path)
    before = earlier.text if earlier is not None else files.get(path)
    result = _result(edit, before)
    if isinstance(result, Refusal):
        return result
    if earlier is not None:
        result = altered(
            result,
            moved_from=earlier.moved_from,
            spans=(*earlier.spans, *result.spans),
            steps=(*earlier.steps, *result.steps),
        )
    if not edit.move_to or edit.move_to == path:
        done[path] = result
        return None
    there = done[edit.move_to].text if edit.move_to in done else files.get(edit.move_to)
    if there is not None:
        return Refusal("exists", f"{edit.move_to} exists already; {path} cannot be moved there", path)
    done[path] = FileResult(path, None)
    done[edit.move_to] = altered(result, path=edit.move_to, moved_from=path)
    return None


def _result(edit: FileEdit, before: str | None) -> FileResult | Refusal:
    if edit.action == "create":
        return _created(edit, before)
    if edit.action == "write":
        return _written(edit, before)
    if before is None:
        if edit.action == "update" and len(edit.replacements) == 1 and not edit.replacements[0].old:
            # New text for nothing in a file that is not there makes the file.
            return FileResult(edit.path, edit.replacements[0].new, steps=("whole",))
        return Refusal("missing", f"there is no file {edit.path}; nothing was changed")
    if edit.range is not None:
        return _as_result(edit.path, ranges.apply_range(before, edit.range))
    if edit.action == "delete":
        return _deleted(edit, before)
    if not edit.replacements:
        if edit.move_to:
            return FileResult(edit.path, before)
        return Refusal("no_change", f"the edit changes nothing in {edit.path}")
    return _as_result(edit.path, replace_all(before, edit.replacements, numbered=edit.numbered))


def _as_result(path: str, landed: Landed | Refusal) -> FileResult | Refusal:
    if isinstance(landed, Refusal):
        return landed
    return FileResult(path, landed.text, spans=landed.spans, steps=landed.steps)


def _created(edit: FileEdit, before: str | None) -> FileResult | Refusal:
    if before is None or not before.strip():
        content = whole.fitted(edit.content, None)
        if isinstance(content, Refusal):
            return content
        return FileResult(edit.path, content, steps=("whole",))
    if before == edit.content:
        return Refusal("already_applied", f"{edit.path} is there already, with this content; nothing to do")
    return Refusal("exists", f"{edit.path} exists already; update it, or delete it first")


def _written(edit: FileEdit, before: str | None) -> FileResult | Refusal:
    content = whole.fitted(edit.content, before)
    if isinstance(content, Refusal):
        return content
    if content == before:
        return Refusal("no_change", f"{edit.path} is already so; nothing was changed")
    return FileResult(edit.path, content, steps=("whole",))


def _deleted(edit: FileEdit, before: str) -> FileResult | Refusal:
    if edit.replacements:
        # A diff that deletes a file says what was in it: nothing else may get lost.
        landed = replace_all(before, edit.replacements, numbered=edit.numbered)
        if isinstance(landed, Refusal):
            return landed
        if landed.text.strip():
            return Refusal(
                "stale", f"{edit.path} holds more than the lines that the diff deletes; nothing was changed"
            )
    return FileResult(edit.path, None, steps=("whole",))


__all__ = ["Replacement", "apply"]
