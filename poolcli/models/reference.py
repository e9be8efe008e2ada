"""What a model reference means: `demo`, `scripted:FILE`, a GGUF file, or a model at a server. Pure: reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from poolcli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scripted:
    """Replies read from a file, played by the shipped scripted server."""

    file: Path


@dataclass(frozen=True, slots=True)
class Demo:
    """The demonstration model that ships with pool."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A GGUF file, served by a llama.cpp server that pool starts."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remote:
    """A model at an OpenAI-compatible server; `model` is '' when the server is to say which one it serves."""

    model: str
    base_url: str


Reference = Scripted | Demo | LocalFile | Remote

FORMS = "accepted: demo, scripted:FILE, local:FILE.gguf, FILE.gguf, or a model name together with --base-url URL"


def parse(model: str, base_url: str = "") -> Reference:
    """The meaning of a model reference and a base URL, each '' when not configured. Nothing at all is the demo.

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
    if model == "demo" or not (model or base_url):
        return Demo()
    if model.lower().endswith(".gguf"):
        if base_url:
            # Guessing would be wrong silently: llama.cpp answers for any model name.
            raise UsageError(
                f"`{model}` could be a file here or a model at {base_url}",
                f"write local:{model} for the file, or remote:{model} for the model at that server",
            )
        return LocalFile(Path(model).expanduser())
    return _remote(model, base_url)


def _file(text: str, scheme: str, example: str) -> Path:
    if not text:
        raise UsageError(f"`{scheme}:` names no file", f"for example: --model {scheme}:{example}")
    return Path(text).expanduser()


def _remote(model: str, base_url: str) -> Remote:
    if not base_url:
        raise UsageError(
            f"the model `{model}` needs a server to ask",
            f"give --base-url (or POOL_BASE_URL), e.g. http://127.0.0.1:8080/v1; {FORMS}",
        )
    return Remote(model, normal_url(base_url))


def normal_url(base_url: str) -> str:
    """The base URL as requests are built on it: no trailing slash, `/v1` when it had no path at all.

    Raises UsageError for what is not an http(s) URL of a server, or carries a password, query or fragment.
    """
    text = base_url.strip()
    example = "for example http://127.0.0.1:8080/v1"
    if "://" not in text:
        raise UsageError(f"the base URL `{text}` does not begin with http:// or https://", f"try http://{text}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"the base URL `{text}` is not a URL: {error}", example) from error
    if parts.username is not None or parts.password is not None:
        # Never repeated: what stands before the @ is a secret.
        raise UsageError("the base URL holds a user name or password", "put the key into POOL_API_KEY")
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() or not c.isprintable() for c in text):
        raise UsageError(f"the base URL `{text}` is not an http:// or https:// URL of a server", example)
    if parts.query or parts.fragment:
        raise UsageError(f"the base URL `{text}` has a query or fragment", example)
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", "", ""))
