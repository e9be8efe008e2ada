"""Create a file, or replace a whole one."""

from __future__ import annotations

from poolcli.tools import files, marks, recalled, syntax
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.diffs import unified


async def run(ctx: Ctx, path: str, content: str) -> Output:
    """Write `content`; folders are made as needed. A patch of that very file is applied instead."""
    from poolcli.tools import patched

    if (edits := patched.read(path, content, own=True)) is not None:
        if not isinstance(edits, list):
            raise patched.refused(ctx, edits.path or path, edits, "")
        return patched.run(ctx, edits)
    place = files.locate(ctx, path)
    before = _before(place)
    like = before or files.Decoded("")
    marks.refuse(content, like.text, what="content")
    text = content
    # A file of CRLF stays one; else every line of it would count as changed.
    if "\r\n" in like.text and "\r" not in content and like.text.count("\r\n") == like.text.count("\n"):
        text = content.replace("\n", "\r\n")
    if before is not None and text == before.text:
        raise ToolError(f"{place.name} already has exactly this content")
    data = files.encode(text, files.Decoded("", like.codec, like.bom))
    files.store(place, data, ctx.outputs)
    diff = unified(place.name, files.printable(before.text) if before else None, text)
    recalled.landed(ctx.outputs, place.name, text)
    said = wrote_text(place.name, content)
    if wrong := syntax.broken(place.name, before.text if before else None, text):
        said += f"\n{wrong}"
    return Output(said, ({"type": "diff", "path": place.name, "diff": diff},))


def wrote_text(path: str, content: str) -> str:
    """What the model reads after a file was written."""
    count = content.count("\n") + (content != "" and not content.endswith("\n"))
    return f"wrote {path} ({count} {'line' if count == 1 else 'lines'})"


def _before(place: files.Place) -> files.Decoded | None:
    """What the file holds now; None when it does not exist."""
    data = files.load_if_there(place)
    return None if data is None else files.decode(data)
