"""Writes the model of choice into the user's configuration file, whose comments and order stay as they are."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from poolcli import config, paths
from poolcli.errors import ConfigError
from poolcli.models.endpoint import Endpoint

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def file() -> Path:
    """The user's configuration file, there or not."""
    return paths.config_dir() / "config.toml"


def key_for(url: str) -> str:
    """The key for a server: the environment's, else the file's when the file is about the same server."""
    settings = config.load()
    if settings.api_key and settings.origins["api_key"] == "POOL_API_KEY":
        return settings.api_key
    document = _read()
    key = document.get("api_key")
    return str(key) if key and _same(document.get("base_url"), url) else ""


def check() -> None:
    """Raise ConfigError unless the file can be changed: before a minute of measuring, not after."""
    config.load()
    path = file().resolve()
    near = next(folder for folder in path.parents if folder.exists())
    if not os.access(near, os.W_OK | os.X_OK):
        raise ConfigError(f"{path} cannot be written: {near} is not writable", "check its permissions")


def use_server(url: str, model: str, key: str = "") -> list[str]:
    """Write a server and its model, and a key when there is one; returns what was done, a line each.

    A stored key of another server is taken out: it must not be sent to this one. Raises ConfigError.
    """
    document = _read()
    said = []
    if key:
        document["api_key"] = key
        said.append("the key is stored in the file, which only you can read")
    elif os.environ.get("POOL_API_KEY"):
        said.append(
            "the key of POOL_API_KEY is not stored: it has to be set for each run, or use --key-stdin"
        )
    if not key and "api_key" in document and not _same(document.get("base_url"), url):
        del document["api_key"]
        said.append(
            "the stored key was taken out: it belonged to another server; --key-stdin stores a new one"
        )
    if not _same(document.get("base_url"), url):
        document["base_url"] = url
    document["model"] = f"remote:{model}" if _ambiguous(model) else model
    _write(document)
    return [f"{file()} now says: model {model} at {url}", *said, *_hidden("base_url", "model")]


def use_model(model: str) -> list[str]:
    """Write a model that needs no server, and take out a server that the file names, with its key."""
    document = _read()
    said = [
        f"{name} was taken out: {model} needs no server"
        for name in ("base_url", "api_key")
        if document.pop(name, None)
    ]
    document["model"] = model
    _write(document)
    return [f"{file()} now says: model {model}", *said, *_hidden("base_url", "model")]


def _ambiguous(model: str) -> bool:
    """Whether the name of a server's model would be read as something else (reference.py)."""
    return (
        model == "demo"
        or model.lower().endswith(".gguf")
        or model.partition(":")[0] in ("scripted", "local", "remote")
    )


def _same(one: object, url: str) -> bool:
    if not isinstance(one, str) or not one:
        return False
    with contextlib.suppress(ConfigError):
        return Endpoint(one).url == Endpoint(url).url
    return False


def _hidden(*names: str) -> list[str]:
    """What in the environment stands above the file."""
    return [
        f"but {option.env} is set, and counts for more"
        for name in names
        if os.environ.get((option := config.BY_NAME[name]).env)
    ]


def _read() -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = file()
    try:
        with path.open("rb") as handle:
            data = handle.read(config.LARGEST + 1)
        if len(data) > config.LARGEST:
            raise ConfigError(
                f"{path} is larger than {config.LARGEST} bytes", "a configuration is a page of text"
            )
        return tomlkit.parse(data.decode("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, ValueError, TOMLKitError) as error:
        raise ConfigError(f"{path} cannot be used: {error}", "see docs/configuration.md") from error


def _write(document: TOMLDocument) -> None:
    """Put the file in place as a whole. One that holds a key is for its owner alone; a link stays a link."""
    import tomlkit

    path = file().resolve()
    try:
        paths.private_dir(path.parent)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(tomlkit.dumps(document))
            Path(name).chmod(0o600 if "api_key" in document else mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "check its permissions") from error
