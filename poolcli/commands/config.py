"""`pool config show`: every value and where it came from. Also the table of docs/configuration.md."""

from __future__ import annotations

import json as json_codec
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from msgspec.structs import replace

from poolcli import config, paths
from poolcli.config import OPTIONS, Config, Option
from poolcli.errors import PoolError, RepositoryError
from poolcli.sanitize import clean, in_json

if TYPE_CHECKING:
    from poolcli.models.discovery import Server
    from poolcli.models.families import Family

HIDDEN = "(hidden)"


def show(*, json: bool = False, flags: Mapping[str, Any] | None = None) -> int:
    """Print the configuration for the working folder; returns the exit code. Raises ConfigError."""
    settings = with_defaults_of_family(config.load(_top(), flags=flags))
    if json:
        values = {option.name: _json_value(option, settings) for option in OPTIONS}
        sys.stdout.write(in_json(json_codec.dumps(values, ensure_ascii=False, indent=2)) + "\n")
    else:
        rows = [(option.name, _text(option, settings), settings.origins[option.name]) for option in OPTIONS]
        rows.append(("(state folder)", str(paths.state_dir()), _state_origin()))
        cleaned = [[clean(cell, keep_newlines=False) for cell in row] for row in rows]
        sys.stdout.write("".join(f"{line}\n" for line in _table(cleaned, sys.stdout)))
    for notice in settings.notices:
        sys.stderr.write(f"warning: {clean(notice, keep_newlines=False)}\n")
    return 0


def with_defaults_of_family(settings: Config) -> Config:
    """The settings with what the model's family adds to requests, as far as the model is known without asking."""
    from poolcli.models import families

    try:
        family, server = _family(settings)
    except PoolError:
        return settings  # it names no model; what tries to use it says so
    added = families.sampling(family, server)
    added = {name: value for name, value in added.items() if getattr(settings, name) is None}
    origins = {**settings.origins, **dict.fromkeys(added, f"family {family.name}")}
    return replace(settings, **added, origins=origins)


def _family(settings: Config) -> tuple[Family, Server]:
    from poolcli.models import families, opening, profiles
    from poolcli.models.discovery import server_named
    from poolcli.models.endpoint import Endpoint
    from poolcli.models.reference import Demo, LocalFile, Remote

    match opening.reference_of(settings.model, settings.base_url, settings.server):
        case Demo():
            return families.Family("pool-demo", sampling=opening.DEMO_SAMPLING), server_named("llama.cpp")
        case LocalFile(path):
            return families.family_of(path.stem), server_named("llama.cpp")
        case opening.Named(name):
            return families.family_of(name), server_named(settings.server)
        case Remote(name, url):
            stored = profiles.load(Endpoint(url).url, name)
            return families.family_of(name), server_named(stored.server if stored else "")
    return families.Family(), server_named("")


def _top() -> Path | None:
    """The repository around the working folder; outside of one there is no project file to read."""
    from poolcli.git import find_repository

    try:
        return find_repository(Path.cwd()).top
    except RepositoryError:
        return None


def _json_value(option: Option, settings: Config) -> dict[str, Any]:
    value = getattr(settings, option.name)
    if option.secret and value:
        value = HIDDEN
    if option.kind == "rules":
        value = [{"rule": str(rule), "origin": rule.where} for rule in value]
    return {"value": value, "origin": settings.origins[option.name]}


def _text(option: Option, settings: Config) -> str:
    value = getattr(settings, option.name)
    if value == option.default and option.unset:
        return f"({option.unset})"
    return HIDDEN if option.secret else display(value)


def display(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return json_codec.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _state_origin() -> str:
    import os

    return "POOL_STATE" if os.environ.get("POOL_STATE") else "default"


def _table(rows: Sequence[Sequence[str]], out: TextIO) -> list[str]:
    """Rows in columns, as wide as the terminal; a long value does not push the origins of the others to the right."""
    first = max(len(key) for key, _, _ in rows)
    second = min(28, max(len(value) for _, value, _ in rows))
    lines = [f"{key:<{first}}  {value:<{second}}  {origin}" for key, value, origin in rows]
    if not out.isatty():
        return lines
    width, indent = max(24, shutil.get_terminal_size().columns - 1), " " * (first + 2)
    wrapped: list[str] = []
    for line in lines:
        # What fits stays a table; what does not is broken between words, below its value.
        wrapped += (
            [line]
            if len(line) <= width
            else textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)
        )
    return wrapped


def reference() -> str:
    """The table of every option, in Markdown, as docs/configuration.md holds it."""
    lines = [
        "| key | flag | environment | default | value | project file |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for option in OPTIONS:
        default = option.unset or f"`{display(option.default)}`"
        flag = f"`{option.flag}`" if option.flag else ""
        env = f"`{option.env}`" if option.env else ""
        lines.append(
            f"| `{option.name}` | {flag} | {env} | {default} "
            f"| {option.help} {_sentence(option.allowed)} | {'yes' if option.project else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


BEGIN = "<!-- options: generated from poolcli/config.py -->\n"
END = "<!-- end of options -->\n"


def document(page: str) -> str:
    """docs/configuration.md with its table made anew. Raises ValueError when the page lacks the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page lacks the markers around its table of options")
    return f"{before}{BEGIN}{reference()}{END}{after}"
