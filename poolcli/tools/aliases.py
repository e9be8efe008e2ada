"""Calls of editing tools that a model was trained on, as calls of the tools that there are.

Only names that can mean nothing else, and only where what they carry fits; anything else stays as it is and is
answered with what there is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

#: Tools that take one text with a patch.
_PATCHES = frozenset(("apply_patch", "applypatch", "apply_diff", "patch"))

#: Names of other tools for the arguments of ours.
_ARGUMENTS = {
    "edit": {
        "path": ("file_path", "filepath", "filename", "file"),
        "old": ("old_string", "old_str", "old_text", "search"),
        "new": ("new_string", "new_str", "new_text", "replace", "patch", "diff", "input"),
        "all": ("replace_all",),
    },
    "write": {
        "path": ("file_path", "filepath", "filename", "file"),
        "content": ("file_text", "text", "contents"),
    },
}

#: Other names of our tools.
_TOOLS = {
    "str_replace": "edit",
    "replace_in_file": "edit",
    "edit_file": "edit",
    "create_file": "write",
    "write_file": "write",
    "write_to_file": "write",
}


def meant(name: str, args: Mapping[str, Any], tools: Container[str]) -> tuple[str, Mapping[str, Any]]:
    """The tool of `tools` and its arguments that a call means; the call itself when that is not known."""
    if name in _PATCHES and "edit" in tools and (name not in tools or name == "apply_patch"):
        texts = [value for key, value in args.items() if key != "path" and isinstance(value, str)]
        if len(texts) != 1:
            return name, args
        path = str(args.get("path") or "")
        # Offered or not, a patch is an edit: rules on paths and answers to questions are about its files.
        if name in tools and not _is_patch(texts[0], path):
            return name, {"patch": texts[0]}
        return "edit", _patch(texts[0], path)
    tool = name if name in tools else _TOOLS.get(name, "")
    if tool not in _ARGUMENTS or tool not in tools:
        return name, args
    named = dict(args)
    for own, others in _ARGUMENTS[tool].items():
        given = [other for other in others if other in named]
        if own not in named and len(given) == 1:
            named[own] = named.pop(given[0])
    if tool == "edit" and "old" not in named and isinstance(named.get("new"), str):
        from poolcli.tools import patched

        if patched.read(str(named.get("path") or ""), named["new"]) is not None:
            named = {**_patch(named["new"], str(named.get("path") or "")), **named}
    if not {"path", "new" if tool == "edit" else "content"} <= named.keys():
        return name, args
    return tool, named


def _is_patch(text: str, path: str) -> bool:
    from poolcli.tools import patched

    return patched.read(path, text) is not None


def _patch(text: str, path: str) -> dict[str, Any]:
    """The arguments of `edit` for a patch."""
    from poolcli.tools import patched

    edits = patched.read(path, text)
    first = edits[0].path if isinstance(edits, list) and not path else path
    return {"path": first or ".", "old": "", "new": text}
