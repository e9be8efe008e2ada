"""Take back the last change that a tool made to a file, byte for byte; once more goes one further back."""

from __future__ import annotations

from poolcli.tools import earlier, files
from poolcli.tools.base import Ctx, Output, ToolError
from poolcli.tools.diffs import unified


async def run(ctx: Ctx, path: str) -> Output:
    """Put the file back, or remove it where there was none. Refused when something else changed it since."""
    place = files.locate(ctx, path)
    try:
        with place.folder() as folder:
            kept = earlier.last(ctx.outputs, folder.real(place.path))
            if kept is None:
                raise ToolError(f"there is no edit of {place.name} to take back; read it and edit it")
            now = folder.read(place.path, files.LARGEST) if folder.there(place.path) else None
            if (b"" if now is None else earlier.digest(now)) != kept.after:
                raise ToolError(f"{place.name} was changed since by something else; read it and edit it")
            if kept.before is None:
                folder.remove(kept.path)
            else:
                folder.replace(place.path, kept.before, scratch=ctx.outputs)
    except (OSError, ValueError) as error:
        raise files.unusable(place, error) from error
    earlier.forget(ctx.outputs, kept)
    text = f"took back the last edit of {place.name}" + ("; it is gone" if kept.before is None else "")
    old, new = (files.printable(files.decode(data).text) for data in (now or b"", kept.before or b""))
    return Output(text, ({"type": "diff", "path": place.name, "diff": unified(place.name, old, new)},))
