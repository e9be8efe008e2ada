"""Which models a server has and how large their context is: read from what servers say of themselves."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

#: Where servers put the context they really run with: vLLM, LM Studio, OpenRouter. (`n_ctx_train` is not it.)
_WINDOWS = ("max_model_len", "loaded_context_length", "context_length", "max_context_length")


class Catalogue(Struct, frozen=True):
    """The models that a server lists, in its order, and their context in tokens where it says one."""

    names: tuple[str, ...]
    windows: Mapping[str, int]


def catalogue(answer: object) -> Catalogue:
    """The catalogue in an answer of `/v1/models`; empty when it is none."""
    listed = answer.get("data") if isinstance(answer, dict) else None
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    windows: dict[str, int] = {}
    names: list[str] = []
    for entry in entries:
        name = entry.get("id")
        if not (isinstance(name, str) and name):
            continue
        names.append(name)
        meta = entry.get("meta")
        said = [entry.get(key) for key in _WINDOWS] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
        if window := next((w for w in map(_tokens, said) if w), 0):
            windows[name] = window
    return Catalogue(tuple(names), windows)


def props_window(answer: object) -> int:
    """The context in an answer of llama.cpp's `/props` (that of one slot); 0 when it says none."""
    settings = answer.get("default_generation_settings") if isinstance(answer, dict) else None
    return _tokens(settings.get("n_ctx")) if isinstance(settings, dict) else 0


def _tokens(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
