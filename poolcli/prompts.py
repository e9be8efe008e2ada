"""The prompts: Markdown files that ship with pool; a file of the same name in the user's configuration wins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from string import Template

from poolcli import paths
from poolcli.errors import ConfigError


def load(name: str, values: Mapping[str, str] | None = None) -> str:
    """The prompt `name`, `$names` filled in from `values`. Raises ConfigError when it cannot be read."""
    own = paths.config_dir() / "prompts" / f"{name}.md"
    path = own if own.is_file() else paths.data_dir("prompts") / f"{name}.md"
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error}") from error
    return Template(text).safe_substitute(values or {})


def fingerprint(text: str) -> str:
    """Twelve hex digits of SHA-256, to see in a log that a prompt or contract changed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
