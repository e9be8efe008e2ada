"""`pool models` and `pool models use`: which models are within reach, and which one is used from now on."""

from __future__ import annotations

import asyncio
import json as json_codec
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct

from poolcli import config, paths
from poolcli.commands import user_file
from poolcli.config import Config
from poolcli.errors import ModelError, PoolError, UsageError
from poolcli.models.opening import reference_of
from poolcli.models.reference import Demo, LocalFile, Remote, Scripted
from poolcli.sanitize import clean, in_json

if TYPE_CHECKING:
    from poolcli.models.discovery import Facts
    from poolcli.models.profile import Profile

#: Seconds for one server to say what it has; those that are there answer within milliseconds.
PATIENCE = 2.0
#: Names of models that a list shows before it is cut.
SHOWN = 8
#: The longest key that is read from stdin, in characters.
LONGEST_KEY = 10_000


class Reached(Struct, frozen=True):
    """What was found at a place: `title` in words, the `models` there, what is wrong, if anything.

    `used` is whether a run would take it; `lines` say what is known of it. `pid` and `users` are those of a server
    that pool runs.
    """

    place: str
    title: str = ""
    models: tuple[str, ...] = ()
    problem: str = ""
    used: bool = False
    lines: tuple[str, ...] = ()
    pid: int = 0
    users: int = 0


# What is within reach
#: Names of models that a message repeats.
MOST_NAMED = 8


def reachable(*, json: bool = False, out: TextIO | None = None) -> int:
    """Print the models within reach; returns the exit code. Raises ConfigError."""
    out = out or sys.stdout
    settings = config.load(flags={})
    for notice in settings.notices:
        sys.stderr.write(f"warning: {clean(notice, keep_newlines=False)}\n")
    ours = _running()
    seen = {server.place for server in ours}
    others = [server for server in asyncio.run(look(settings)) if server.place not in seen]
    found = [*others, *ours, *_files(settings)]
    if json:
        import msgspec

        out.write(in_json(json_codec.dumps(msgspec.to_builtins(found), ensure_ascii=False, indent=2)) + "\n")
        return 0
    for one in found:
        _show(one, out)
    footer = "Take one: pool models use URL [MODEL], or pool models use NAME (* is in use)"
    out.write("\n" + "\n".join(_wrapped(footer, "", "", out)) + "\n")
    return 0


async def look(settings: Config) -> list[Reached]:
    """The configured server, and those on the usual ports of this machine, all asked at once."""
    from poolcli.models import discovery
    from poolcli.models.endpoint import Endpoint

    asked: dict[str, Endpoint] = {}
    configured = ""
    if settings.base_url:
        endpoint = Endpoint(settings.base_url, settings.model, settings.api_key)
        configured = endpoint.url
        asked[configured] = endpoint
    for server in discovery.servers():
        for port in server.ports:
            url = f"http://127.0.0.1:{port}/v1"
            # Never with the key: who listens there is not known.
            asked.setdefault(url, Endpoint(url))
    used = _used(settings)
    found = await asyncio.gather(
        *(_reach(endpoint, expected=url == configured) for url, endpoint in asked.items())
    )
    return [_marked(one, used and one.place == configured) for one in found if one is not None]


def _marked(found: Reached, used: bool) -> Reached:
    from msgspec.structs import replace

    return replace(found, used=used)


def _used(settings: Config) -> bool:
    """Whether the configured server is what a run would use."""
    try:
        return isinstance(reference_of(settings.model, settings.base_url, settings.server), Remote)
    except PoolError:
        return False


async def _reach(endpoint: object, *, expected: bool) -> Reached | None:
    """What answers at an endpoint; None for nobody, unless somebody was `expected`."""
    from poolcli.models import discovery, faults, probing
    from poolcli.models.connection import Connection
    from poolcli.models.endpoint import Endpoint

    assert isinstance(endpoint, Endpoint)
    connection = Connection(endpoint)
    try:
        async with asyncio.timeout(PATIENCE):
            facts = await probing.ask_facts(connection, "", patience=0.0)
    except TimeoutError:
        return Reached(endpoint.url, problem=f"said nothing for {PATIENCE:g} s") if expected else None
    except faults.LoadingError:
        return Reached(endpoint.url, problem="it still loads its model")
    except ModelError as error:
        if expected or " answered 401" in str(error):
            return Reached(
                endpoint.url, problem="it wants a key" if " answered 401" in str(error) else str(error)
            )
        return None
    finally:
        await connection.aclose()
    title = discovery.server_named(facts.server).title if facts.server else ""
    window = f", {facts.window:,} tokens of context" if facts.window else ""
    return Reached(facts.url, f"{title or 'unknown server'} {facts.version}".strip() + window, facts.names)


def _running() -> list[Reached]:
    """The shared servers that pool runs."""
    from poolcli.models import shared_server

    return [
        Reached(one.state.base_url, one.says, (one.state.name,), pid=one.state.pid, users=one.users)
        for one in shared_server.running()
    ]


def _files(settings: Config) -> list[Reached]:
    """The models that pool would serve itself."""
    from poolcli.models import library, local

    try:
        reference = reference_of(settings.model, settings.base_url, settings.server)
    except PoolError:
        reference = Scripted(Path())
    found = []
    demo = paths.data_dir("models") / local.DEMO_FILE
    if demo.is_file():
        title = "the demonstration model that ships with pool"
        found.append(Reached("demo", title, used=isinstance(reference, Demo), lines=_learnt(demo)))
    entries = library.entries()
    for entry in entries:
        used = isinstance(reference, LocalFile) and reference.path == entry.path
        title = f"{entry.size / 1e9:.1f} GB, served by pool when it is needed"
        problem = "" if entry.whole else f"its file is not whole; pool models get {entry.name}"
        found.append(Reached(entry.name, title, problem=problem, used=used, lines=_learnt(entry.path)))
    if isinstance(reference, LocalFile) and reference.path not in {entry.path for entry in entries}:
        path, there = reference.path, reference.path.is_file()
        title = "served by pool when it is needed"
        problem = "" if there else "there is no such file"
        found.append(Reached(str(path), title, problem=problem, used=True, lines=_learnt(path)))
    return found


def _learnt(file: Path) -> tuple[str, ...]:
    from poolcli.commands import profile_text
    from poolcli.models.opening import stored_local

    profile = stored_local(file)
    return tuple(f"{line.name}: {line.text}" for line in profile_text.learnt(profile)) if profile else ()


def _show(found: Reached, out: TextIO) -> None:
    text = f"{found.place}  {found.title}".strip()
    if found.problem:
        text += f"  ({found.problem})"
    rows = _wrapped(text, "* " if found.used else "  ", "      ", out)
    if found.models and not found.pid:
        more = len(found.models) - SHOWN
        listed = ", ".join(found.models[:SHOWN]) + (f", … ({more} more)" if more > 0 else "")
        rows += _wrapped(listed, "      ", "      ", out)
    for line in found.lines:
        rows += _wrapped(line, "      ", "      ", out)
    out.write("\n".join(rows) + "\n")


def _wrapped(text: str, first: str, rest: str, out: TextIO) -> list[str]:
    text = clean(text, keep_newlines=False)
    if not out.isatty():
        return [first + text]
    width = max(24, shutil.get_terminal_size().columns - 1)
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


# Using one


def use(what: str, model: str = "", *, key_stdin: bool = False, json: bool = False) -> int:
    """Measure a model, keep its profile and write it into the user's configuration; returns the exit code.

    Raises UsageError for what names no model, ModelError when it does not answer.
    """
    if "://" not in what and not _like_an_address(what):
        if key_stdin or model:
            raise UsageError(f"`{what}` is no URL, and only a server has models and a key", "give its URL")
        return _use_local(what)
    url = what if "://" in what else f"http://{what}"
    key = _key() if key_stdin else ""
    user_file.check()
    profile = asyncio.run(_measure(url, model, key))
    from poolcli.models import profiles

    if not profiles.save(profile):
        sys.stderr.write("warning: the profile could not be kept: see `pool doctor` for the state folder\n")
    written = user_file.use_server(url, profile.model, key)
    if json:
        import msgspec

        sys.stdout.write(
            in_json(json_codec.dumps(msgspec.to_builtins(profile), ensure_ascii=False, indent=2)) + "\n"
        )
    else:
        show(profile, sys.stdout)
    _tell(written)
    return 0


def _tell(rows: Sequence[str]) -> None:
    for row in rows:
        sys.stderr.write("\n".join(_wrapped(row, "", "  ", sys.stderr)) + "\n")


def _like_an_address(what: str) -> bool:
    """`localhost:8080` and the like: a host, and a port that is a number."""
    host, _, rest = what.partition(":")
    port = rest.partition("/")[0]
    return bool(host) and port.isdecimal() and not Path(what).exists()


def _use_local(what: str) -> int:
    from poolcli.models import library
    from poolcli.models.catalogue import fetch_hint
    from poolcli.models.llama_server import check_file

    if what == "demo":
        model = "demo"
    elif entry := (None if what.lower().endswith(".gguf") else library.find(what)):
        check_file(entry.path)
        model = f"local:{entry.path}"
    elif what.lower().endswith(".gguf") or Path(what).is_file():
        path = paths.expanded(what.removeprefix("local:"), "model").absolute()
        check_file(path)
        model = f"local:{path}"
    else:
        raise UsageError(
            f"`{what}` is no URL, no .gguf file and no model that is here",
            fetch_hint(what) or "`pool models` shows what is within reach; `pool models get` fetches one",
        )
    _tell(user_file.use_model(model))
    return 0


def _key() -> str:
    """The key from stdin: typed unseen at a terminal, the first line of a pipe elsewhere."""
    if sys.stdin.isatty():
        from getpass import getpass

        key = getpass("key: ")
    else:
        key = sys.stdin.readline(LONGEST_KEY)
    key = key.strip()
    if not key:
        raise UsageError(
            "--key-stdin: there is no key on stdin", "for example: pass show KEY | pool models use URL …"
        )
    return key


async def _measure(url: str, model: str, key: str) -> Profile:
    from poolcli.models import probing
    from poolcli.models.connection import Connection
    from poolcli.models.endpoint import Endpoint

    connection = Connection(Endpoint(url, model, key or user_file.key_for(url)))
    try:
        facts = await probing.ask_facts(connection, model, thorough=not model)
        if not model:
            model = _one_of(facts)
        elif facts.names and not {model, f"{model}:latest"} & set(facts.names):
            # Some servers answer for any name, with the model that they have.
            listed = ", ".join(facts.names[:MOST_NAMED])
            raise UsageError(f"{connection.endpoint.url} does not list `{model}`", f"it lists {listed}")
        with Progress(sys.stderr) as progress:
            return await probing.probe(connection, model, say=progress)
    except PoolError as error:
        if "doctor" in error.hint:
            error.hint = "is the server running, and the URL right?"
        elif "wants a key" in error.hint:
            error.hint += ", or give it with --key-stdin, which stores it"
        raise
    finally:
        await connection.aclose()


def _one_of(facts: Facts) -> str:
    """The model that is meant: the only one, or the one that a person at a terminal chooses."""
    if len(facts.names) < 2:
        return facts.model
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        listed = ", ".join(facts.names[:SHOWN]) + (", …" if len(facts.names) > SHOWN else "")
        raise UsageError(
            f"{facts.url} has {len(facts.names)} models: {listed}", "name one: pool models use URL MODEL"
        )
    return _choose(facts.names)


def _choose(names: Sequence[str]) -> str:
    for number, name in enumerate(names, 1):
        sys.stderr.write(f"{number:4}  {clean(name, keep_newlines=False)}\n")
    sys.stderr.write(f"Which one? [1-{len(names)}] ")
    sys.stderr.flush()
    answer = sys.stdin.readline(LONGEST_KEY).strip()
    if answer in names:
        return answer
    if answer.isdecimal() and 1 <= int(answer[:9]) <= len(names):
        return names[int(answer) - 1]
    raise UsageError("no model was chosen", "name one: pool models use URL MODEL")


class Progress:
    """Says what is being tried: on one line of a terminal that vanishes in the end, on lines elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def __enter__(self) -> Progress:
        return self

    def __call__(self, what: str) -> None:
        """Say it."""
        what = clean(what, keep_newlines=False)
        if not self._terminal:
            self._out.write(f"measuring: {what}\n")
        else:
            width = max(10, shutil.get_terminal_size().columns - 1)
            self._out.write(f"\r\x1b[K{f'measuring: {what} …'[:width]}")
        self._out.flush()

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()


def show(profile: Profile, out: TextIO) -> None:
    """Print a profile as a small table, and what could be better below it."""
    from poolcli.commands import profile_text

    found = profile_text.lines(profile)
    width = max(len(line.name) for line in found) + 2
    for line in found:
        rows = _wrapped(line.text, f"{line.name:<{width}}", " " * width, out)
        out.write("\n".join(rows) + "\n")
    better = [line for line in found if line.advice]
    if better:
        out.write("\nWhat could be better:\n")
    for line in better:
        out.write("\n".join(_wrapped(line.advice, f"- {line.name}: ", "  ", out)) + "\n")
