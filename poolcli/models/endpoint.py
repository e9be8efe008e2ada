"""Where a model is served, with which key and under which deadlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from poolcli.errors import ConfigError
from poolcli.models.pace import Limits, Speeds

__all__ = ["Endpoint", "Limits", "Speeds"]

#: What pool sets in every request itself.
OWN_FIELDS = frozenset({"model", "messages", "tools", "stream", "max_tokens"})


class Endpoint(Struct, frozen=True):
    """A model at an OpenAI-compatible server.

    `model` may be '': then the first one that the server lists is used. `key_name` says in messages where the
    key came from. `extra_body` holds further constants of every request. `window` is the context in tokens
    where it is known. `proxy` is used when given; the environment's never is, for it would carry loopback
    traffic elsewhere. `speeds` are those measured in earlier runs; `progress` asks for the progress of a prefill,
    which llama.cpp streams. Raises ConfigError for values that no request can be made of; never repeats a secret.
    """

    base_url: str
    model: str = ""
    api_key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    window: int = 0
    proxy: str = ""
    key_name: str = "POOL_API_KEY"
    limits: Limits = Limits()
    speeds: Speeds = Speeds()
    progress: bool = False

    def __repr__(self) -> str:
        # A traceback or a log must never show the key, and headers and proxy URLs hold others.
        return f"Endpoint({self.base_url!r}, {self.model!r}, …)"

    def __post_init__(self) -> None:
        scheme, _, rest = self.base_url.strip().partition("://")
        host = rest.partition("/")[0]
        if "@" in host:
            # Never repeated: what stands before the @ is a secret.
            raise ConfigError("the base URL holds a name or password", f"use {self.key_name} for the key")
        if scheme not in ("http", "https") or not host or not rest.isprintable() or " " in rest:
            raise ConfigError(
                f"the base URL {self.base_url!r} is not the URL of a server", "try http://127.0.0.1:8080/v1"
            )
        if not _sendable(self.api_key.strip()):
            raise ConfigError(f"the key in {self.key_name} holds characters that no header can carry")
        for name, value in self.headers.items():
            if not (name and _sendable(name) and _sendable(value)):
                raise ConfigError(f"the header {name!r} cannot be sent", "only printable ASCII can")
        if taken := OWN_FIELDS & self.extra_body.keys():
            raise ConfigError(f"extra_body sets {', '.join(sorted(taken))}, which pool sets itself")

    @property
    def url(self) -> str:
        """The base URL that requests are built on: `/v1` when it names no path, no slash at the end."""
        url = self.base_url.strip().rstrip("/").removesuffix("/chat/completions")
        return url if "/" in url.partition("://")[2] else url + "/v1"

    @property
    def root(self) -> str:
        """The URL above `/v1`, where llama.cpp answers about itself."""
        return self.url.removesuffix("/v1")

    @property
    def in_clear(self) -> bool:
        """Whether the key would cross a network that others can read: plain http to another machine."""
        if not self.api_key.strip():
            return False
        import ipaddress
        from urllib.parse import urlsplit

        url = urlsplit(self.base_url.strip())
        host = url.hostname or ""
        try:
            here = ipaddress.ip_address(host).is_loopback
        except ValueError:  # a name: only this one is loopback whoever answers
            here = host == "localhost"
        return url.scheme == "http" and not here

    def request_headers(self) -> dict[str, str]:
        """The headers of every request to this endpoint, the key among them."""
        key = self.api_key.strip()
        return {**({"Authorization": f"Bearer {key}"} if key else {}), **self.headers}


def _sendable(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)
