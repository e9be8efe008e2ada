"""Which server answers, which models it has and how large their context is: read from what servers say of themselves.

What servers there are and where each says what is data (models/servers.toml); this module reads it, and answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from poolcli import paths
from poolcli.errors import ConfigError

#: Where servers put the context they really run with: vLLM, LM Studio, OpenRouter. (`n_ctx_train` is not it.)
_WINDOWS = ("max_model_len", "loaded_context_length", "context_length", "max_context_length")
#: Names that an entry of a list goes by (`@model`).
_NAMES = ("id", "model", "name", "key")
#: Bytes of a table that a user may write.
MAX_TABLE = 1_000_000
#: The longest version or identity that is kept, in characters.
MAX_WORD = 200
#: More tokens of context, or slots, than this are no number of either.
MAX_COUNT = 1_000_000_000

#: Steps into a JSON answer: keys, positions, "@model" for the model's entry, or a pattern for a key.
Place = tuple[str, ...]


class Question(Struct, frozen=True):
    """One request that a server tells about itself with, and where in the answer which fact stands."""

    path: str
    #: Sent as JSON by POST; "$model" is the model's name. Empty: a GET.
    body: Mapping[str, Any] = field(default_factory=dict)
    #: All of these in the answer mean: it is this server.
    has: tuple[Place, ...] = ()
    version: tuple[Place, ...] = ()
    window: tuple[Place, ...] = ()
    #: The context that the model was made for, whatever it is loaded with.
    largest: tuple[Place, ...] = ()
    slots: tuple[Place, ...] = ()
    #: What tells this model from another one under the same name.
    identity: tuple[Place, ...] = ()
    #: Text of parameters, one a line (Ollama's `num_ctx 8192`).
    parameters: tuple[Place, ...] = ()


class Server(Struct, frozen=True):
    """A kind of server, as models/servers.toml describes it."""

    name: str
    title: str = ""
    start: str = ""
    ports: tuple[int, ...] = ()
    listed: tuple[str, ...] = ()
    ask: tuple[Question, ...] = ()
    sampling: tuple[str, ...] = ()
    grammar: Mapping[str, Any] = field(default_factory=dict)
    pin: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    cached: Mapping[str, Any] = field(default_factory=dict)
    lora: bool = False
    strict: bool = False
    reasoning: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    context: str = ""
    caching: str = ""
    shared: str = ""
    tools: str = ""
    run: bool = False


class Facts(Struct, frozen=True):
    """What a server says of itself and of one model: '' and 0 for what it does not say."""

    url: str
    model: str
    server: str = ""
    version: str = ""
    identity: str = ""
    window: int = 0
    largest: int = 0
    slots: int = 0
    #: Every model that it lists.
    names: tuple[str, ...] = ()


class Catalogue(Struct, frozen=True):
    """The models that a server lists, in its order, and their context in tokens where it says one."""

    names: tuple[str, ...]
    windows: Mapping[str, int]
    #: Who the list says that they belong to: servers put their own name there.
    owner: str = ""


# The table


@functools.cache
def servers() -> tuple[Server, ...]:
    """Every known kind of server, the user's own among them. Raises ConfigError for a broken file of the user's."""
    known = {server.name: server for server in table("servers.toml", "server", Server)}
    return tuple(known.values())


def server_named(name: str) -> Server:
    """The kind of server of that name; one without any abilities for an unknown name."""
    return next((server for server in servers() if server.name == name), Server(name))


def table(file: str, key: str, kind: type[Any], *, first: bool = False) -> list[Any]:
    """The entries of a shipped table and of the user's file of the same name, which come `first` or last.

    Raises ConfigError for a user's file that cannot be used.
    """
    shipped = _entries(paths.data_dir("models") / file, key, kind)
    own_file = paths.config_dir() / "models" / file
    own = _entries(own_file, key, kind) if own_file.is_file() else []
    return own + shipped if first else shipped + own


def _entries(path: Path, key: str, kind: type[Any]) -> list[Any]:
    import tomllib

    import msgspec

    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_TABLE + 1)
        if len(data) > MAX_TABLE:
            raise ValueError(f"larger than {MAX_TABLE} bytes")
        entries = tomllib.loads(data.decode("utf-8")).get(key, [])
        return [msgspec.convert(entry, kind) for entry in msgspec.convert(entries, list[dict[str, Any]])]
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} cannot be used: {error}", "docs/models.md says what stands in it"
        ) from error


# Answers


def catalogue(answer: object) -> Catalogue:
    """The catalogue in an answer of `/v1/models`; empty when it is none."""
    listed = answer.get("data") if isinstance(answer, dict) else None
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    windows: dict[str, int] = {}
    names: list[str] = []
    owner = ""
    for entry in entries:
        name = entry.get("id")
        # Half a surrogate pair is in no text that can be written down or asked for.
        if not (isinstance(name, str) and name and name.encode("utf-8", "ignore").decode() == name):
            continue
        names.append(name)
        owner = owner or _word(entry.get("owned_by"))
        meta = entry.get("meta")
        said = [entry.get(key) for key in _WINDOWS] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
        if window := next((w for w in map(_tokens, said) if w), 0):
            windows[name] = window
    return Catalogue(tuple(names), windows, owner)


def props_window(answer: object) -> int:
    """The context in an answer of llama.cpp's `/props` (that of one slot); 0 when it says none."""
    settings = answer.get("default_generation_settings") if isinstance(answer, dict) else None
    return _tokens(settings.get("n_ctx")) if isinstance(settings, dict) else 0


def pick(answer: object, place: Place, model: str) -> object:
    """What stands at a place of an answer; None when nothing does."""
    for step in place:
        if isinstance(answer, dict):
            answer = answer[step] if step in answer else _matching(answer, step)
        elif isinstance(answer, list) and step == "@model":
            answer = _entry(answer, model)
        elif isinstance(answer, list) and step.isdecimal() and int(step) < len(answer):
            answer = answer[int(step)]
        else:
            return None
    return answer


def _matching(answer: Mapping[str, object], pattern: str) -> object:
    if "*" not in pattern:
        return None
    return next((value for key, value in answer.items() if fnmatchcase(str(key), pattern)), None)


def _entry(entries: list[object], model: str) -> object:
    """The entry of a model; Ollama lists `name:latest` for what goes by `name`."""
    wanted = {model, f"{model}:latest"}
    return next(
        (e for e in entries if isinstance(e, dict) and any(e.get(name) in wanted for name in _NAMES)), None
    )


def recognise(known: Sequence[Server], answers: Mapping[str, object], model: str) -> str:
    """The kind of server behind answers by path: by the owner in its list of models, else by what only it has."""
    owner = catalogue(answers.get("/v1/models")).owner
    if owner:
        for server in known:
            if owner in server.listed:
                return server.name
    for server in known:
        for question in server.ask:
            answer = answers.get(question.path)
            if question.has and all(pick(answer, place, model) is not None for place in question.has):
                return server.name
    return ""


def facts(url: str, model: str, server: Server, answers: Mapping[str, object]) -> Facts:
    """What the answers (by path) of a server of this kind say of a model."""

    def first(name: str) -> list[object]:
        return [
            found
            for question in server.ask
            for place in getattr(question, name)
            if (found := pick(answers.get(question.path), place, model)) is not None
        ]

    listed = catalogue(answers.get("/v1/models"))
    windows = [*map(_tokens, first("window")), *map(_num_ctx, first("parameters"))]
    if not server.name:
        # Nobody we know; what the list says by one of the usual names is then the best there is.
        windows.append(listed.windows.get(model, 0))
    return Facts(
        url,
        model,
        server.name,
        _first_word(first("version")),
        _first_word(first("identity")),
        _first(windows),
        _first(map(_tokens, first("largest"))),
        _first(map(_tokens, first("slots"))),
        listed.names,
    )


def _num_ctx(value: object) -> int:
    """The context in Ollama's text of parameters."""
    if isinstance(value, str):
        for line in value[:MAX_TABLE].splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == "num_ctx" and words[1].isdecimal() and len(words[1]) < 12:
                return int(words[1])
    return 0


def _first(values: Iterable[int]) -> int:
    return next((value for value in values if value), 0)


def _first_word(values: Iterable[object]) -> str:
    return next((word for word in map(_word, values) if word), "")


def _word(value: object) -> str:
    """A short text of a server's, fit to be stored and shown."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[:MAX_WORD] if c.isprintable())


def _tokens(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT else 0
