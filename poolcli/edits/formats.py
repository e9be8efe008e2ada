"""Which kind of edit a text is, and what it asks for."""

from __future__ import annotations

import re

from poolcli.edits import blocks, envelope, unified, whole
from poolcli.edits.results import FileEdit, Refusal

_FENCED = re.compile(r"(?ms)^(`{3,}|~{3,})(?:diff|patch|udiff)\b[^\n]*\n(.*?)^\1\s*$")


def recognise(text: str, path: str = "") -> list[FileEdit] | Refusal:
    """The edits that a text asks for, in whichever format; `path` is the file when the text names none.

    A text in none of the formats is refused as malformed.
    """
    if envelope.is_envelope(text):
        return envelope.parse(text)
    if blocks.is_blocks(text):
        return blocks.parse(text, path)
    if unified.is_unified(text):
        fenced = "\n".join(match[2].removesuffix("\n") for match in _FENCED.finditer(text))
        return unified.parse(fenced or text, path)
    found = whole.parse(text, path)
    if found:
        return found
    return Refusal(
        "malformed",
        "this is no edit: give SEARCH/REPLACE blocks, a unified diff, a *** Begin Patch, or a fenced file with its "
        "path on the line above",
    )
