"""What `pool models get` is asked for: a name of our list, a hub's repository, a URL or a file. Pure but for one look.

Also the names: what a file name says about its quantisation, and what a model is called here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from msgspec import Struct

from poolcli.errors import UsageError

#: Characters of a name; file systems allow 255 bytes for a folder, screens much less.
MAX_NAME = 80
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")

FORMS = "a name of `pool models list`, OWNER/NAME[:QUANT] of a hub, a URL, or the path of a .gguf file"

#: A part of a split model: `x-00002-of-00003.gguf`.
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})$")
#: What quantisations are called in file names: Q4_K_M, IQ2_XXS, TQ1_0, UD-Q4_K_XL, MXFP4, BF16.
QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q[1-8]_[A-Z0-9]{1,3}(?:_[A-Z]{1,3})?|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)

#: Pages of a model's repository that people copy from a browser rather than its name.
HUB_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(.+)")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class Listed(Struct, frozen=True):
    """A model of our own list (models/catalogue.toml)."""

    name: str


class Hub(Struct, frozen=True):
    """A repository of a hub; `wanted` is a quantisation or a file of it, '' for the usual one."""

    repository: str
    wanted: str = ""


class Web(Struct, frozen=True):
    """A file at an address."""

    url: str


class Local(Struct, frozen=True):
    """A file that is here already."""

    path: Path


Source = Listed | Hub | Web | Local


def parse(what: str, listed: Collection[str]) -> Source:
    """What is meant. `listed` are the names of our list. Raises UsageError, with what comes near."""
    what = what.strip()
    if what in listed:
        return Listed(what)
    if page := HUB_PAGE.fullmatch(what):
        path = page[1].split("?")[0].split("#")[0].strip("/")
        if REPOSITORY.fullmatch(path.partition(":")[0].removesuffix("/tree/main")):
            what = path.removesuffix("/tree/main")
        elif not what.startswith("http"):
            what = f"https://{what}"
    if re.match(r"https?://", what, re.IGNORECASE):
        return Web(_direct(what))
    if "://" in what:
        raise UsageError(f"`{plain(what)}` is no address that can be fetched", "http and https can")
    path = Path(os.path.expanduser(what))  # noqa: PTH111  pathlib raises for `~` and a name that nobody has
    if (what.lower().endswith(".gguf") and ":" not in what) or what.startswith(("/", "./", "../", "~")):
        if not path.is_file():
            raise UsageError(f"there is no file {what}", f"`get` takes {FORMS}")
        return Local(path.absolute())
    repository, _, wanted = what.partition(":")
    if REPOSITORY.fullmatch(repository):
        return Hub(repository, wanted)
    import difflib

    near = difflib.get_close_matches(what.lower(), listed, n=3, cutoff=0.5)
    near += sorted(name for name in listed if what and what.lower() in name and name not in near)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise UsageError(f"there is no model `{what}` in the list", f"{hint}`get` takes {FORMS}")


def _direct(url: str) -> str:
    """The address of the file itself: a hub's page about a file has `blob` where the file has `resolve`."""
    parts = urlsplit(url)
    path = parts.path
    if path.lower().endswith(".gguf"):
        path = path.replace("/blob/", "/resolve/", 1)
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def plain(url: str) -> str:
    """An address fit to be shown and kept: without a password, a signature or a fragment."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.split("?")[0].rpartition("@")[2]


def file_name(path: str) -> str:
    """The last part of a foreign path as a file name of ours: plain characters only, ending in `.gguf`.

    Raises UsageError when nothing is left of it.
    """
    stem = PurePosixPath(unquote(path)).name
    stem = re.sub(r"\.gguf$", "", stem, flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).lstrip(".-")[:120].rstrip("-")
    if not stem:
        raise UsageError("the address does not name a file", "it should end in the name of a .gguf file")
    return f"{stem}.gguf"


def model_name(text: str, quant: str = "") -> str:
    """What a model is called here, from a file's or a repository's name: lower case, without its packaging."""
    stem = PurePosixPath(text).name
    stem = re.sub(r"[-_.]?gguf$", "", stem, flags=re.IGNORECASE)
    stem = SPLIT.sub("", stem)
    if quant and quant.lower() not in stem.lower():
        stem = f"{stem}-{quant}"
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")[:MAX_NAME].rstrip("._-") or "model"


def quantisation(name: str) -> str:
    """The quantisation that a file name tells, in capitals; '' when it tells none."""
    found = QUANT.findall(SPLIT.sub("", re.sub(r"\.gguf$", "", PurePosixPath(name).name, flags=re.I)))
    return str(found[-1]).upper() if found else ""
