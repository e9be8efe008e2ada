"""How a project's dependencies are installed: as its configuration says, else as its lock files suggest.

A recipe is shown to a person before anything of it runs, and runs in a sandbox that reaches its hosts alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

#: Reads a file of the project by its path; None when there is none.
Read = Callable[[str], str | None]

#: Extras and dependency groups that tests need, by what people call them.
_FOR_TESTS = ("test", "tests", "testing", "dev")
#: Variables by which people name a registry of their own.
_REGISTRIES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "GOPROXY",
)


class Recipe(Struct, frozen=True):
    """What installs a project's dependencies.

    `run` are shell commands, run in the worktree one after the other; `hosts` what they may reach; `keys` files whose
    content decides whether they have to run again; `keeps` folders of the worktree that they make and that later
    runs use; `why` says where it comes from; `variables` are the user's registries.
    """

    run: tuple[str, ...]
    hosts: tuple[str, ...]
    keys: tuple[str, ...]
    keeps: tuple[str, ...]
    why: str
    variables: tuple[tuple[str, str], ...] = ()
    #: Programs whose own registries it has to reach besides; `registries.hosts` asks them.
    installers: tuple[str, ...] = ()


def configured(table: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe of a table `[setup]`. Raises ValueError that says what is wrong with it."""
    from poolcli.network.hosts import allowed

    known = ("run", "allow_net", "cache_key", "keep")
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"unknown key `{name}` (known: {', '.join(known)})")
        if not isinstance(value, list) or not all(
            isinstance(v, str) and v.strip() and "\0" not in v for v in value
        ):
            raise ValueError(f"`{name}` must be a list of words")
    if not table.get("run"):
        raise ValueError("`run` must name the commands")
    allowed(table.get("allow_net", ()))
    keeps = tuple(name.strip("/") for name in table.get("keep", (".venv", "node_modules")))
    for path in (*keeps, *table.get("cache_key", ())):
        if path.startswith(("/", "~")) or ".." in path.split("/") or path in ("", ".", ".git"):
            raise ValueError(f"{path!r} is no path within the project")
    return Recipe(
        tuple(table["run"]),
        tuple(table.get("allow_net", ())),
        tuple(table.get("cache_key", ())),
        keeps,
        origin,
    )


def propose(
    names: Collection[str], read: Read, *, have: Callable[[str], bool], environ: Mapping[str, str]
) -> Recipe | None:
    """A recipe for what is found at the top of a project; None when nothing is. `have` says what is installed."""
    there = set(names)
    found = [part for part in (_python(there, read, have), _node(there), _rust(there), _go(there)) if part]
    if not found:
        return None
    variables, hosts = _registries(environ)
    return Recipe(
        _all(part.run for part in found),
        _all([*(part.hosts for part in found), hosts]),
        _all(part.keys for part in found),
        _all(part.keeps for part in found),
        ", ".join(part.why for part in found),
        variables,
        _all(part.installers for part in found),
    )


def _all(parts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for part in parts for item in part))


def _python(there: set[str], read: Read, have: Callable[[str], bool]) -> Recipe | None:
    if "uv.lock" in there and have("uv"):
        return Recipe(
            ("uv sync --frozen",),
            (),
            ("uv.lock", "pyproject.toml"),
            (".venv",),
            "found uv.lock",
            installers=("pip",),
        )
    lists = sorted(n for n in there if n.startswith("requirements") and n.endswith(".txt"))
    package = bool(there & {"pyproject.toml", "setup.py"}) and _builds(there, read)
    if not (lists or package):
        return None
    install = [f"-r {name}" for name in lists if _is_plain(name)]
    if package:
        extras = _extras(read("pyproject.toml") or "")
        install.append(f"-e '.[{','.join(extras)}]'" if extras else "-e .")
    run = ("python3 -m venv .venv", f".venv/bin/python -m pip install {' '.join(install)}")
    keys = tuple(n for n in (*lists, "pyproject.toml", "setup.py", "setup.cfg") if n in there)
    return Recipe(run, (), keys, (".venv",), f"found {keys[0]}", installers=("pip",))


def _is_plain(name: str) -> bool:
    """Whether a file's name may stand in a command as it is."""
    return all(c.isalnum() or c in "-_." for c in name)


def _builds(there: set[str], read: Read) -> bool:
    if "setup.py" in there:
        return True
    text = read("pyproject.toml") or ""
    return "[project]" in text or "[build-system]" in text or "[tool.poetry]" in text


def _extras(text: str) -> list[str]:
    import tomllib

    try:
        found = tomllib.loads(text).get("project", {}).get("optional-dependencies", {})
    except (tomllib.TOMLDecodeError, AttributeError):
        return []
    return [name for name in _FOR_TESTS if isinstance(found, dict) and name in found]


def _node(there: set[str]) -> Recipe | None:
    for lock, command in (
        ("package-lock.json", "npm ci"),
        ("npm-shrinkwrap.json", "npm ci"),
        ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
        ("yarn.lock", "yarn install --frozen-lockfile"),
        ("package.json", "npm install"),
    ):
        if lock in there:
            keys = tuple(dict.fromkeys((lock, "package.json")))
            installer = command.partition(" ")[0]
            return Recipe((command,), (), keys, ("node_modules",), f"found {lock}", installers=(installer,))
    return None


def _rust(there: set[str]) -> Recipe | None:
    if "Cargo.toml" not in there:
        return None
    locked = " --locked" if "Cargo.lock" in there else ""
    keys = ("Cargo.lock", "Cargo.toml")
    return Recipe((f"cargo fetch{locked}",), (), keys, (), "found Cargo.toml", installers=("cargo",))


def _go(there: set[str]) -> Recipe | None:
    if "go.mod" not in there:
        return None
    return Recipe(("go mod download",), (), ("go.sum", "go.mod"), (), "found go.mod", installers=("go",))


def _registries(environ: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The user's own registries, and their hosts. One with a password in it stays out: commands would see it."""
    variables, hosts = [], []
    for name in _REGISTRIES:
        value = environ.get(name, "")
        url = urlsplit(value.split(",")[0].split()[0]) if value.strip() else None
        if url is None or not url.hostname or url.password or url.username:
            continue
        default = 443 if url.scheme == "https" else 80
        try:
            port = url.port or default
        except ValueError:
            continue
        variables.append((name, value))
        hosts.append(url.hostname if port == default else f"{url.hostname}:{port}")
    return tuple(variables), tuple(dict.fromkeys(hosts))


def fingerprint(recipe: Recipe, read: Read, machine: Sequence[str]) -> str:
    """What a finished setup is kept under: it changes with the recipe, the key files, and the `machine` (its
    interpreter, its processor)."""
    digest = hashlib.sha256()
    for item in (*recipe.run, "", *recipe.keeps, "", *machine, ""):
        digest.update(item.encode("utf-8", "surrogateescape") + b"\0")
    for path in recipe.keys:
        content = read(path)
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(
            b"-" if content is None else hashlib.sha256(content.encode("utf-8", "surrogateescape")).digest()
        )
    return digest.hexdigest()[:24]


def shown(recipe: Recipe) -> str:
    """The recipe for a person who is asked about it, each part on one line; the caller cleans it for the terminal."""
    lines = [f"setup ({recipe.why}):", *(f"  run    {command}" for command in recipe.run)]
    lines += [f"  reach  {', '.join(recipe.hosts) or 'nothing'}"]
    lines += [f"  with   {name}={value}" for name, value in recipe.variables]
    lines += [f"  keep   {', '.join(recipe.keeps)}"] if recipe.keeps else []
    # A line break in a command must not make a line that looks like pool's own.
    return "".join(line.replace("\n", "\\n").replace("\r", "\\r") + "\n" for line in lines)
