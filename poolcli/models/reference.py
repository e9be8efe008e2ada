"""What a model reference means: `demo`, `scripted:FILE`, a GGUF file, or a model at a server. Pure."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from poolcli import paths
from poolcli.errors import UsageError


class Scripted(Struct, frozen=True):
    """Replies read from a file, played by the shipped scripted server."""

    file: Path


class Demo(Struct, frozen=True):
    """The demonstration model that ships with pool."""


class LocalFile(Struct, frozen=True):
    """A GGUF file, served by a llama.cpp server that pool starts."""

    path: Path


class Remote(Struct, frozen=True):
    """A model at an OpenAI-compatible server; `model` is '' for the first one that the server lists."""

    model: str
    base_url: str


Reference = Scripted | Demo | LocalFile | Remote

FORMS = "accepted: demo, scripted:FILE, local:FILE.gguf, FILE.gguf, or a model name with --base-url URL"


def parse(model: str, base_url: str = "") -> Reference:
    """The meaning of a model reference and a base URL, each '' when not configured. Both '' is the demo.

    `remote:NAME` takes NAME literally, for a server whose model is called `demo` or `x.gguf`.
    Raises UsageError for what names no model, or could name two.
    """
    model = model.strip()
    scheme, colon, rest = model.partition(":")
    match scheme if colon else "":
        case "scripted":
            return Scripted(_file(rest, "scripted", "replies.jsonl"))
        case "local":
            return LocalFile(_file(rest, "local", "model.gguf"))
        case "remote":
            return _remote(rest, base_url)
    if base_url and (model == "demo" or model.lower().endswith(".gguf")):
        # Guessing would be wrong silently: llama.cpp answers for any model name.
        here = "leave --base-url out" if model == "demo" else f"write local:{model} for the one here"
        raise UsageError(
            f"`{model}` could be a model here or one at {base_url}",
            f"{here}, or write remote:{model} for the model at that server",
        )
    if model == "demo" or not (model or base_url):
        return Demo()
    if model.lower().endswith(".gguf"):
        return LocalFile(paths.expanded(model, "model"))
    return _remote(model, base_url)


def _file(text: str, scheme: str, example: str) -> Path:
    if not text:
        raise UsageError(f"`{scheme}:` names no file", f"for example: --model {scheme}:{example}")
    return paths.expanded(text, "model")


def _remote(model: str, base_url: str) -> Remote:
    if not base_url:
        raise UsageError(
            f"the model `{model}` needs a server to ask",
            f"give --base-url (or POOL_BASE_URL), e.g. http://127.0.0.1:8080/v1; {FORMS}",
        )
    return Remote(model, base_url)
