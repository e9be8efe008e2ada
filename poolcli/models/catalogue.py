"""The short list of coding models that `pool` knows by name: models/catalogue.toml, read when it is asked for."""

from __future__ import annotations

from msgspec import Struct

from poolcli import paths
from poolcli.errors import PoolError


class Known(Struct, frozen=True, forbid_unknown_fields=True):
    """A model of the list. Sizes are approximate; what the hub says when it is fetched is what counts."""

    name: str
    #: `owner/name` at the hub, and which of its files: a quantisation or a file name.
    repository: str
    file: str
    #: GB (10^9 bytes) to fetch, and GB of memory wanted: the weights and some 16k tokens of context.
    size: float
    memory: float
    #: Tokens that the model was made for.
    context: int
    #: SPDX.
    licence: str
    family: str
    #: One line: what it is good for.
    good_for: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Known, ...]


def fetch_hint(name: str) -> str:
    """How a model of the list is fetched; '' for a name that is not on it."""
    return f"fetch it: pool models get {name}" if name in known() else ""


def known() -> dict[str, Known]:
    """The list by name, smallest first. Raises PoolError when the shipped file is damaged."""
    import msgspec

    path = paths.data_dir("models") / "catalogue.toml"
    try:
        models = msgspec.toml.decode(path.read_bytes(), type=_File).model
    except (OSError, msgspec.DecodeError) as error:
        raise PoolError(
            f"the list of models {path} cannot be read: {error}", "install poolcli again"
        ) from error
    return {model.name: model for model in sorted(models, key=lambda model: model.size)}
