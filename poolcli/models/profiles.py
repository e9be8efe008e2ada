"""Where profiles are kept: one small JSON file for each model at each server, under the state folder.

A profile only ever makes things better: one that is missing, damaged or from another version of pool counts as
far as it can be read. Keys are never part of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from poolcli import paths
from poolcli.models.dialects.base import RUNGS
from poolcli.models.profile import Profile

#: A profile has some hundred bytes; more than this many is something else.
LARGEST = 64_000


def folder() -> Path:
    """Where profiles are kept."""
    return paths.state_dir() / "models" / "profiles"


def path_of(url: str, model: str) -> Path:
    """The file of one model at one server: named for people, told apart by a hash of both."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[:40] or "model"
    told_apart = hashlib.sha256(f"{url}\0{model}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return folder() / f"{name}-{told_apart}.json"


def load(url: str, model: str) -> Profile | None:
    """The stored profile of a model at a server; None when there is none that can be read."""
    found = _read(path_of(url, model))
    return found if found is not None and (found.url, found.model) == (url, model) else None


def every() -> list[Profile]:
    """All stored profiles, the latest measured first."""
    with contextlib.suppress(OSError):
        found = [_read(path) for path in sorted(folder().glob("*.json"))]
        return sorted((p for p in found if p is not None), key=lambda p: -p.probed)
    return []


def save(profile: Profile) -> bool:
    """Keep a profile; whether that worked. A disk that is full or read-only must not end a run."""
    target = path_of(profile.url, profile.model)
    try:
        paths.private_dir(target.parent)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, ValueError):  # ValueError: a name that is no text
        return False
    return True


def forget(url: str, model: str) -> None:
    """Drop a stored profile."""
    with contextlib.suppress(OSError):
        path_of(url, model).unlink(missing_ok=True)


def _read(path: Path) -> Profile | None:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        found = json.loads(data) if len(data) <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        return None
    return from_json(found)


def from_json(found: object) -> Profile | None:
    """The profile in a JSON object. Unknown fields are skipped, ones of a wrong type have their default."""
    if not isinstance(found, dict):
        return None
    values: dict[str, Any] = {}
    for name, kind in _kinds().items():
        if name in found:
            with contextlib.suppress(msgspec.ValidationError):
                values[name] = msgspec.convert(found[name], kind)
    if not (values.get("url") and values.get("model")):
        return None
    if values.get("rung", RUNGS[0]) not in RUNGS:
        del values["rung"]
    for name in ("window", "largest", "slots", "prefill", "decode", "probed"):
        if not 0 <= values.get(name, 0) < float("inf"):
            del values[name]
    return Profile(**values)


def _kinds() -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(Profile)}
