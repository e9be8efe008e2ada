"""What a hub of models says about a repository: its files, their sizes and checksums, the licence.

Asked through huggingface_hub (the extra `hub`), which knows mirrors (HF_ENDPOINT) and tokens (HF_TOKEN). The
files themselves are fetched by download.py: that library checks no checksum of what it fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct

from poolcli.errors import PoolError, UsageError
from poolcli.models.download import gb, loopback
from poolcli.models.sources import SPLIT, quantisation

#: Seconds for the one question that the hub is asked.
PATIENCE = 30.0
#: Characters of the hub's own words that a message repeats.
MAX_QUOTE = 300
#: Files that a message lists; some repositories have hundreds.
MAX_LISTED = 40
#: What is taken when nothing is asked for: the size that most people can run, at little loss.
USUAL = ("Q4_K_M", "MXFP4")

INSTALL = "pip install 'poolcli[hub]'; or give the URL of the file; or copy it here: `pool models get FILE`"
ELSEWHERE = "set HF_ENDPOINT to a mirror that you can reach, or copy a file here: `pool models get FILE`"

#: Set before the library is loaded, which reads them once. Nothing is told to anybody, nothing looked for.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
}


class HubFile(Struct, frozen=True):
    """A file of a repository: its path there, bytes (0 unknown), SHA-256 ('' for small files without one)."""

    path: str
    size: int = 0
    sha256: str = ""


class Repository(Struct, frozen=True):
    """A repository at one commit. `headers` go with requests to `endpoint`, and hold the token if there is one."""

    name: str
    endpoint: str
    commit: str
    licence: str
    files: tuple[HubFile, ...]
    headers: Mapping[str, str]

    def url(self, path: str) -> str:
        """Where a file of it is fetched from."""
        from urllib.parse import quote

        return f"{self.endpoint}/{self.name}/resolve/{quote(self.commit, safe='')}/{quote(path)}"


class Choice(Struct, frozen=True):
    """The files that make one model (several when it is split) and their quantisation, '' when unknown."""

    files: tuple[HubFile, ...]
    quant: str

    @property
    def name(self) -> str:
        """The path of its first file."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes, all files together; 0 when one is unknown."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0


def look(name: str, revision: str = "") -> Repository:
    """Ask the hub about a repository. Raises UsageError for what is not there, PoolError for a hub out of reach."""
    for key, value in QUIET.items():
        os.environ[key] = value
    try:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    except ImportError:
        raise UsageError("the package huggingface_hub is not installed", INSTALL) from None
    endpoint = str(constants.ENDPOINT).rstrip("/")
    us: dict[str, Any] = {"library_name": "poolcli", "library_version": _version()}
    if not _safe(endpoint):
        us["token"] = False  # a token is not sent in the clear over a network
    try:
        api = huggingface_hub.HfApi(endpoint=endpoint, **us)
        info = api.model_info(name, revision=revision or None, files_metadata=True, timeout=PATIENCE)
        headers = build_hf_headers(**us)
    except (
        Exception
    ) as error:  # its errors are those of its HTTP client, which differs from version to version
        raise _failure(error, name, revision, endpoint) from error
    files = [_file(sibling) for sibling in info.siblings or ()]
    card = info.card_data
    licence = getattr(card, "license", None) or ""
    if licence == "other":  # one that has no SPDX name; some say its own
        licence = getattr(card, "license_name", None) or licence
    return Repository(
        name=name,
        endpoint=endpoint,
        commit=str(info.sha or revision or "main"),
        licence=str(licence)[:60],
        files=tuple(files),
        headers={str(key): str(value) for key, value in headers.items()},
    )


def _version() -> str:
    try:
        return version("poolcli")
    except PackageNotFoundError:
        return "0"


def _safe(endpoint: str) -> bool:
    return endpoint.startswith("https://") or loopback(endpoint)


def _file(sibling: Any) -> HubFile:
    lfs = sibling.lfs or {}
    sha256 = str(lfs.get("sha256") or "").lower()
    size = lfs.get("size") or sibling.size
    return HubFile(
        path=str(sibling.rfilename),
        size=size if isinstance(size, int) and size > 0 else 0,
        sha256=sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else "",
    )


def _failure(error: Exception, name: str, revision: str, endpoint: str) -> PoolError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "HFValidationError" in kinds:
        return UsageError(f"`{name}` is no name of a repository", "it looks like OWNER/NAME")
    if "OfflineModeIsEnabled" in kinds:
        return PoolError(
            "HF_HUB_OFFLINE is set, so nothing can be fetched",
            "unset it, or copy a file here: `pool models get FILE`",
        )
    if "GatedRepoError" in kinds:
        return UsageError(
            f"{name} is given only to those who agreed to its licence",
            f"agree at {endpoint}/{name}, then set HF_TOKEN to a token of yours and try again",
        )
    if "RevisionNotFoundError" in kinds:
        return UsageError(f"{name} has no revision `{revision}`", f"its branches are at {endpoint}/{name}")
    if "RepositoryNotFoundError" in kinds:
        return UsageError(
            f"there is no repository {name} at {endpoint}, or it is private",
            "check the name; for a private one set HF_TOKEN",
        )
    said = re.sub(r"\[Errno -?\d+\] ", "", " ".join(str(error).split()))[:MAX_QUOTE]
    if "HfHubHTTPError" in kinds:
        return PoolError(f"the hub {endpoint} does not answer as a hub does: {said}", ELSEWHERE)
    return PoolError(f"the hub {endpoint} cannot be reached: {said or type(error).__name__}", ELSEWHERE)


def choose(repository: str, files: Sequence[HubFile], wanted: str = "") -> Choice:
    """Which files are meant: a file name, a quantisation, or the usual one. Raises UsageError with what there is."""
    choices = models(files)
    if not choices:
        raise UsageError(
            f"{repository} holds no GGUF file",
            "look for a repository whose name ends in -GGUF; pool reads only GGUF",
        )
    found = _matching(choices, wanted) if wanted else _usual(choices)
    if len(found) == 1:
        return found[0]
    if not found and wanted:
        first = f"{repository} has no file for `{wanted}`"
    else:
        first = f"{repository} holds several models; say which"
    rows = [f"  {_size(choice)}  {choice.name}" for choice in (found or choices)[:MAX_LISTED]]
    more = len(found or choices) - len(rows)
    rows += [f"  … and {more} more"] if more else []
    example = (found or choices)[0]
    suffix = example.quant if len(_matching(choices, example.quant)) == 1 and example.quant else example.name
    raise UsageError("\n".join([f"{first}:", *rows]), f"for example: pool models get {repository}:{suffix}")


def models(files: Sequence[HubFile]) -> list[Choice]:
    """The GGUF models among a repository's files, parts of a split one together. Incomplete ones are left out."""
    groups: dict[tuple[str, int], list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        name = PurePosixPath(file.path).name
        if not name.lower().endswith(".gguf") or re.match(r"(?i)mmproj|.*imatrix", name):
            continue  # what sees pictures, and what quantising was helped by, are no models
        stem = file.path[: -len(".gguf")]
        split = SPLIT.search(stem)
        key = (stem[: split.start()], int(split[2])) if split else (stem, 0)
        groups.setdefault(key, []).append(file)
    return [
        Choice(tuple(group), _quant(group[0].path))
        for (_, parts), group in groups.items()
        if len(group) == (parts or 1)
    ]


def _quant(path: str) -> str:
    """From the file's name, else from its folder's: some repositories have one for each quantisation."""
    return quantisation(path) or quantisation(PurePosixPath(path).parent.name)


def _matching(choices: Sequence[Choice], wanted: str) -> list[Choice]:
    low = wanted.lower()
    exact = [
        choice
        for choice in choices
        if any(low in (file.path.lower(), PurePosixPath(file.path).name.lower()) for file in choice.files)
    ]
    same = [
        choice for choice in choices if choice.quant.lower() == low.replace("-", "_").replace("ud_", "ud-")
    ]
    return _whole(exact or same or [choice for choice in choices if low in choice.name.lower()])


def _usual(choices: Sequence[Choice]) -> list[Choice]:
    for quant in USUAL:
        if found := [choice for choice in choices if choice.quant == quant]:
            return _whole(found)
    return list(choices)


def _whole(choices: Sequence[Choice]) -> list[Choice]:
    """Without the split copy of a model that is there in one file too."""
    whole = {choice.name[: -len(".gguf")].lower() for choice in choices if len(choice.files) == 1}
    return [
        choice
        for choice in choices
        if len(choice.files) == 1 or SPLIT.sub("", choice.name[: -len(".gguf")]).lower() not in whole
    ]


def _size(choice: Choice) -> str:
    return f"{gb(choice.size) if choice.size else '?':>8}"
