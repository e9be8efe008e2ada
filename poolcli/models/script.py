"""Script files: the replies that a scripted model gives, as TOML. The format is docs/scripted-model.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from poolcli.errors import ConfigError

#: Each fault and what the server does for it.
FAULTS: dict[str, str] = {
    "reset": "half of the reply, then the connection is reset",
    "drop": "half of the reply, then the connection is closed",
    "truncate": "half of the reply, then a proper end without finish_reason and [DONE]",
    "stall": "half of the reply, then nothing, with the connection left open",
    "hang": "nothing at all, with the connection left open",
    "garbage": "half of the reply, then an event that is not JSON",
    "error": "half of the reply, then an error object as an event",
    "empty": "a stream without any event",
    "html": "a web page",
    "context": "400, as llama.cpp answers when the messages do not fit",
}
_HTTP = re.compile("http:[345][0-9][0-9]")
#: Tokens of context where a script names none.
WINDOW = 131_072


class ScriptCall(Struct, frozen=True):
    """One call of a reply; `arguments` is the text that the server sends, JSON or not."""

    name: str
    arguments: str
    id: str = ""


class ScriptReply(Struct, frozen=True):
    """One reply. The server makes up `usage` and `finish` when not given; `delay` is seconds per piece."""

    text: str = ""
    think: str = ""
    calls: tuple[ScriptCall, ...] = ()
    finish: str = ""
    usage: Mapping[str, int] | None = None
    delay: float = 0.0
    #: One of FAULTS, or `http:STATUS`; '' for a good reply.
    fault: str = ""
    #: For `http:STATUS`: the error's words, and Retry-After in seconds.
    message: str = "scripted fault"
    retry_after: float = 0.0


class Script(Struct, frozen=True):
    """A whole script. `key` is the API key that the server asks for, '' for none."""

    name: str
    replies: tuple[ScriptReply, ...]
    model: str = "scripted"
    window: int = WINDOW
    key: str = ""
    #: The first request may go on with a conversation: as many replies as it holds are skipped.
    resume: bool = False
    #: A request may begin anew, as it does after the conversation was made shorter.
    compaction: bool = False


_TOP: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "window": (int,),
    "key": (str,),
    "resume": (bool,),
    "compaction": (bool,),
    "reply": (list,),
}
_REPLY: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "think": (str,),
    "calls": (list,),
    "call": (list,),
    "finish": (str,),
    "usage": (dict,),
    "delay": (int, float),
    "fault": (str,),
    "message": (str,),
    "retry_after": (int, float),
}
_CALL: dict[str, tuple[type, ...]] = {"name": (str,), "args": (dict,), "raw": (str,), "id": (str,)}
_USAGE: dict[str, tuple[type, ...]] = {"prompt": (int,), "completion": (int,), "cached": (int,)}
_TYPES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def load(path: Path) -> Script:
    """The script in a file. Raises ConfigError that names the file, the place and what is allowed there."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "a script is a TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start})", "a script is a TOML file") from error


def parse(text: str, name: str = "script") -> Script:
    """The script behind a TOML text; see `load`."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from error
    _check(data, _TOP, name)
    entries = data.pop("reply", [])
    if not entries:
        raise ConfigError(f"{name}: holds no reply", "a script is a list of [[reply]] tables")
    replies = tuple(_reply(entry, f"{name}: reply {n}") for n, entry in enumerate(entries, 1))
    return Script(name, replies, **data)


def _reply(entry: object, where: str) -> ScriptReply:
    _check(entry, _REPLY, where)
    assert isinstance(entry, dict)
    given = [*entry.pop("calls", []), *entry.pop("call", [])]
    calls = tuple(_call(call, f"{where}, call {n}") for n, call in enumerate(given, 1))
    if (usage := entry.get("usage")) is not None:
        _check(usage, _USAGE, f"{where}, usage")
    fault = entry.get("fault", "")
    if fault and fault not in FAULTS and not _HTTP.fullmatch(fault):
        allowed = f"allowed: {', '.join(FAULTS)}, http:300 to http:599"
        raise ConfigError(f"{where}: unknown fault {fault!r}", allowed)
    return ScriptReply(calls=calls, **entry)


def _call(entry: object, where: str) -> ScriptCall:
    _check(entry, _CALL, where)
    assert isinstance(entry, dict)
    if "name" not in entry:
        raise ConfigError(f"{where}: has no name")
    if "args" in entry and "raw" in entry:
        raise ConfigError(f"{where}: has both args and raw", "raw is for arguments that are no JSON object")
    try:
        arguments = entry["raw"] if "raw" in entry else json.dumps(entry.get("args", {}), ensure_ascii=False)
    except TypeError as error:  # TOML's dates and times
        raise ConfigError(f"{where}: args hold a value that JSON has not: {error}") from error
    return ScriptCall(entry["name"], arguments, entry.get("id", ""))


def _check(entry: object, allowed: Mapping[str, tuple[type, ...]], where: str) -> None:
    """Raise for what is no table, for a key that is not allowed and for a value of the wrong type."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: is not a table", f"allowed keys: {', '.join(allowed)}")
    for key, value in entry.items():
        if key not in allowed:
            raise ConfigError(f"{where}: unknown key {key!r}", f"allowed: {', '.join(allowed)}")
        if not _fits(value, allowed[key]):
            raise ConfigError(f"{where}: {key} must be {_TYPES[allowed[key][-1]]}")


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
