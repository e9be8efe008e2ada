"""Finds the JSON document in what may be a file or a whole log, and takes values out of it that may be anything."""

from __future__ import annotations

from typing import Any

import msgspec

#: Places where a document is looked for in a log: a runner prints few lines before it.
_TRIES = 20


def document(text: str, key: str) -> dict[str, Any] | None:
    """The object that has `key`, wherever it stands in the text; None when there is none that is whole."""
    at = -1
    for _ in range(_TRIES):
        at = 0 if at < 0 and text.startswith("{") else text.find("\n{", max(at, 0)) + 1
        if at <= 0 and not text.startswith("{"):
            return None
        end = text.rfind("}", at)
        for piece in (text[at : end + 1], text[at : text.find("\n}\n", at) + 2]):
            if len(piece) > 1 and (value := _decode(piece)) is not None and key in value:
                return value
        if text.find("\n{", at) < 0:
            return None
        at = max(at, 1)
    return None


def _decode(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return value if isinstance(value, dict) else None


def items(value: object, key: str) -> list[dict[str, Any]]:
    """The objects in the list under `key`; empty for anything else."""
    found = value.get(key) if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def string(value: object, key: str) -> str:
    """The text under `key`, '' for anything else."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def strings(value: object, key: str) -> list[str]:
    """The texts in the list under `key`."""
    found = value.get(key) if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
