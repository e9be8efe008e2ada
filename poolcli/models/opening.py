"""From the configured model reference to a model that answers, on what is known of its server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from poolcli import paths
from poolcli.config import Config
from poolcli.errors import ConfigError, ModelError, UsageError
from poolcli.messages import Message
from poolcli.models.base import Model, ModelInfo, Notice, Piece, Reply
from poolcli.models.reference import Demo, LocalFile, Reference, Remote, Scripted, parse

if TYPE_CHECKING:
    from poolcli.models.connection import Connection
    from poolcli.models.discovery import Facts, Server
    from poolcli.models.endpoint import Endpoint
    from poolcli.models.local import Speak
    from poolcli.models.profile import Profile
    from poolcli.models.slots import Lease

Schemas = Sequence[Mapping[str, Any]]
#: The tools' schemas for a model: one with a small window gets fewer.
Tools = Callable[[ModelInfo], Schemas]

#: How the demonstration model is sampled unless a person says otherwise. Greedy it solved 110 of 120 unseen
#: instances, at temperature 0.5 it solved 108 of the same: no difference, and this is repeatable.
DEMO_SAMPLING = {"temperature": 0.0}
#: Servers whose models have names, no files.
BY_NAME = ("vllm", "ollama")
#: The settings that are fields of a request by the same name.
SAMPLING = ("temperature", "seed", "top_p", "top_k", "min_p")


async def open_reference(config: Config, tools: Tools | Schemas, *, log: Path, rung: str = "native") -> Model:
    """The configured model, its server started or asked. `tools` is asked once its name and window are known.

    `log` is for a server that pool starts; `rung` is that of a run which goes on: no better one is tried then.
    Raises UsageError for a reference that names nothing, ModelError for a server that does not answer.
    """
    if not callable(tools):
        schemas = tools
        return await open_reference(config, lambda info: schemas, log=log, rung=rung)
    match reference_of(config.model, config.base_url, config.server):
        case Scripted(file):
            from poolcli.models.script import load
            from poolcli.models.scripted import open_scripted

            script = load(file)
            return await open_scripted(file, tools(ModelInfo(script.model, "", script.window)))
        case Demo():
            from poolcli.models.local import demo_model

            return await _local(demo_model(), config, tools, log, rung)
        case LocalFile(path):
            return await _local(path, config, tools, log, rung)
        case Named(name):
            return await _named(name, config, tools, rung)
        case Remote(name, url):
            return await _remote(name, url, config, tools, rung)


class Named(Struct, frozen=True):
    """A model that vllm or ollama knows by name, in a server that pool starts or finds."""

    name: str


def reference_of(model: str, base_url: str, server: str = "auto") -> Reference | Named:
    """What a reference means, fetched models and those of other programs among it. Raises UsageError."""
    try:
        return parse(model, base_url)
    except UsageError:
        if base_url:
            raise
        if server in BY_NAME:
            return Named(model.strip())
        from poolcli.models import library

        entry = library.find(model.strip())
        if entry is not None:
            return LocalFile(entry.path)
        from poolcli.models.catalogue import fetch_hint

        if hint := fetch_hint(model.strip()):
            what = f"the model `{model.strip()}` is not on this machine yet"
            raise UsageError(what, f"{hint}; or give --base-url for a server that has it") from None
        raise


# Models in a server that pool starts


async def _local(gguf: Path, config: Config, tools: Tools, log: Path, rung: str) -> Model:
    from poolcli.models import local
    from poolcli.models.discovery import server_named

    server = server_named("llama.cpp")
    profile = _local_profile(str(gguf.absolute()), server)
    return await local.open_local(
        gguf,
        (),
        log=log,
        ctx=config.context,
        threads=config.threads,
        engine=config.server,
        slots=config.slots,
        kv_type=config.kv_type,
        gpu_layers=config.gpu_layers,
        lora=adapter_files(config.lora, config.origins["lora"]),
        extra_body=request_fields(config, gguf.stem, server, demo=local.is_demo(gguf)),
        idle=config.idle,
        limits=_limits(config),
        speak=_speaker(tools, profile, rung),
    )


async def _named(name: str, config: Config, tools: Tools, rung: str) -> Model:
    from poolcli.models import local
    from poolcli.models.discovery import server_named

    server = server_named(config.server)
    return await local.open_named(
        name,
        (),
        engine=config.server,
        ctx=config.context,
        slots=config.slots,
        extra_body=request_fields(config, name, server),
        idle=config.idle,
        limits=_limits(config),
        speak=_speaker(tools, _local_profile(name, server), rung),
    )


def _local_profile(name: str, server: Server) -> Profile:
    """The profile of a model that pool serves itself, kept under its file: ports come and go."""
    from poolcli.models import profiles
    from poolcli.models.families import family_of
    from poolcli.models.profile import Profile

    llama = server.name == "llama.cpp"
    new = Profile(
        f"local:{server.name}",
        name,
        server=server.name,
        identity=_content(name) if llama else "",
        family=family_of(name).name,
        schema=llama,
        grammar=llama,
        tokenize="llama.cpp" if llama else "",
        cache_report=llama,
        progress=llama,
    )
    stored = profiles.load(new.url, name)
    return stored if stored is not None and stored.identity == new.identity else new


def stored_local(gguf: Path) -> Profile | None:
    """What earlier runs have learnt of a model file; None when that is nothing, or of another content."""
    from poolcli.models import profiles
    from poolcli.models.discovery import server_named

    profile = _local_profile(str(gguf.absolute()), server_named("llama.cpp"))
    return profile if profiles.load(profile.url, profile.model) == profile else None


def _content(file: str) -> str:
    """What changes with the content of a file: its size and time."""
    try:
        about = Path(file).stat()
    except OSError:
        return ""
    return f"{about.st_size} bytes of {about.st_mtime_ns}"


def _speaker(tools: Tools, profile: Profile, rung: str) -> Speak:
    """How a model at a server of ours is spoken to; the same tools after every restart."""
    from poolcli.models.endpoint import Speeds

    chosen: list[Schemas] = []

    def speak(endpoint: Endpoint) -> Opened:
        if not chosen:
            chosen.append(tools(_offered_to(profile.model, endpoint.url, endpoint.window)))
        endpoint = replace(
            endpoint,
            progress=profile.progress,
            speeds=endpoint.speeds
            if endpoint.speeds != Speeds()
            else Speeds(profile.prefill, profile.decode),
        )
        return Opened(endpoint, chosen[0], profile, rung=rung)

    return speak


# Models at a server that somebody else runs


async def _remote(name: str, url: str, config: Config, tools: Tools, rung: str) -> Model:
    from poolcli.models.connection import Connection
    from poolcli.models.endpoint import Endpoint
    from poolcli.models.faults import LoadingError

    plain = Endpoint(url, name, config.api_key, window=config.context, limits=_limits(config))
    if plain.in_clear and config.allow_insecure != "yes":
        raise ConfigError(
            f"the key would go to {url} unencrypted, for anybody on the way to read",
            "use https, or a tunnel to this machine; --allow-insecure if the network between is yours",
        )
    connection = Connection(plain)
    try:
        found = await _known(connection, name)
    except LoadingError:
        found = None  # asked again with the first request, which shows how it goes on
    finally:
        await connection.aclose()
    if found is None:
        return await _unknown(plain, config, tools, rung)
    return _opened(plain, found, config, tools, rung)


class Known(Struct, frozen=True):
    """What is known of a model at a server when a run begins; `stored` is whether there was a profile."""

    facts: Facts
    profile: Profile
    stored: bool = False
    notices: tuple[str, ...] = ()


async def _known(connection: Connection, name: str) -> Known:
    """What the server says now, and the stored profile, made anew where the server is another than it was."""
    from poolcli.models import probing, profiles
    from poolcli.models.profile import Profile

    url = connection.endpoint.url
    stored = profiles.load(url, name) if name else None
    facts = await probing.ask_facts(connection, name, server=stored.server if stored else "", patience=0.0)
    notices = []
    if not name and len(facts.names) > 1:
        notices.append(f"no model was named: {facts.model} is used, the first of {len(facts.names)} at {url}")
    if name and facts.names and name not in facts.names and f"{name}:latest" not in facts.names:
        listed = ", ".join(facts.names[:4]) + (", …" if len(facts.names) > 4 else "")
        notices.append(f"{url} does not list the model {name}; it lists {listed}, and may answer with that")
    stored = stored or profiles.load(url, facts.model)
    if stored is None:
        return Known(facts, probing.profile_of(facts), notices=tuple(notices))
    difference = probing.changed(stored, facts)
    profile = probing.profile_of(facts, stored)
    if difference:
        # What was learnt about the other one may be wrong for this one.
        profile = probing.profile_of(facts, Profile(url, facts.model))
        if stored.probed:
            profile, outcome = await _again(connection, profile)
            notices.append(f"the server changed {difference}; {outcome}")
    if profile != stored:
        profiles.save(profile)
    return Known(facts, profile, True, tuple(notices))


async def _again(connection: Connection, profile: Profile) -> tuple[Profile, str]:
    """The profile measured anew, and what to say of that. Raises UnreachableError only."""
    from poolcli.models import probing
    from poolcli.models.faults import UnreachableError

    try:
        return await probing.probe(connection, profile.model), "its profile was measured again"
    except UnreachableError:
        raise
    except ModelError as error:
        return profile, f"its profile could not be measured again: {error}"


def _opened(plain: Endpoint, known: Known, config: Config, tools: Tools, rung: str) -> Model:
    from poolcli.models.discovery import server_named
    from poolcli.models.endpoint import Speeds
    from poolcli.models.families import family_of
    from poolcli.models.slots import lease

    facts, profile, notices = known.facts, known.profile, list(known.notices)
    server = server_named(profile.server)
    window = profile.window
    if window and config.context > window:
        notices.append(
            f"`context` is {config.context}, but the server has {window} tokens: that is what is used"
        )
    window = min(config.context, window) if config.context and window else config.context or window
    if files := adapter_files(config.lora, config.origins["lora"]):
        text = f"`lora` ({config.origins['lora']}): the file {files[0][0]} cannot be sent to {plain.url}"
        raise ConfigError(text, "start that server with --lora FILE, and write ID:SCALE here")
    fields = request_fields(config, facts.model, server)
    if profile.cache_report:
        fields = {**server.cached, **fields}
    slot = lease(plain.url, profile.slots) if profile.pinning and server.pin not in ("", *fields) else None
    if slot is not None:
        fields[server.pin] = slot.number
    if config.reasoning and not (server.reasoning or family_of(facts.model).reasoning):
        told = f"how {facts.model} is told how much to think is not known"
        notices.append(f"{told}: --reasoning {config.reasoning} may do nothing")
    endpoint = replace(
        plain,
        model=facts.model,
        window=window,
        extra_body=fields,
        progress=profile.progress,
        speeds=Speeds(profile.prefill, profile.decode),
    )
    info = _offered_to(facts.model, plain.url, window)
    return Opened(endpoint, tools(info), profile, rung=rung, notice="; ".join(notices), slot=slot)


async def _unknown(plain: Endpoint, config: Config, tools: Tools, rung: str) -> Model:
    """A model at a server that says nothing of itself yet: it still loads."""
    from poolcli.models import profiles
    from poolcli.models.discovery import server_named
    from poolcli.models.profile import Profile

    stored = profiles.load(plain.url, plain.model) if plain.model else None
    profile = stored or Profile(plain.url, plain.model)
    fields = request_fields(config, plain.model, server_named(profile.server))
    schemas = tools(_offered_to(plain.model, plain.url, plain.window or profile.window))
    endpoint = replace(plain, extra_body=fields, progress=profile.progress)
    opened = Opened(endpoint, schemas, profile, rung=rung)
    try:
        await opened.probe()
    except BaseException:
        await opened.aclose()
        raise
    return opened


def _offered_to(model: str, url: str, window: int) -> ModelInfo:
    """What the choice of tools depends on."""
    from poolcli.models.families import family_of

    return ModelInfo(model, url, window, edits=family_of(model).edits)


class Opened:
    """A model at a server on the ladder; what is learnt of it is kept, and its slot given back, in the end."""

    def __init__(
        self,
        endpoint: Endpoint,
        schemas: Schemas,
        profile: Profile,
        *,
        rung: str = "native",
        notice: str = "",
        slot: Lease | None = None,
    ) -> None:
        """`notice` is for people."""
        from poolcli.models.ladder import open_ladder

        self._model = open_ladder(endpoint, schemas, profile=profile, remember=self._remember, rung=rung)
        self._notice = notice
        self._slot = slot
        self._speeds = (profile.prefill, profile.decode)

    @property
    def info(self) -> ModelInfo:
        """Which model and where."""
        from poolcli.models.discovery import server_named

        info = self._model.info
        strict = server_named(self._model.profile.server).strict
        return replace(
            info, strict=strict, notice="; ".join(text for text in (self._notice, info.notice) if text)
        )

    @property
    def profile(self) -> Profile:
        """What is known of the model, with what this run has found out."""
        prefill, decode = self._speeds
        profile = self._model.profile
        return replace(profile, model=profile.model or self.info.name, prefill=prefill, decode=decode)

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 0
    ) -> AsyncGenerator[Piece | Notice | Reply, None]:
        """See `Model.stream`."""
        async with aclosing(self._model.stream(messages, max_tokens=max_tokens)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reply) and (speeds := piece.extra.get("speeds")):
                    self._speeds = (round(speeds["prefill"], 1), round(speeds["decode"], 1))
                yield piece

    async def probe(self) -> ModelInfo:
        """Ask the server for its model and window where they are not known yet."""
        await self._model.probe()
        return self.info

    async def aclose(self) -> None:
        """Close connections, keep the speeds that were measured, give the slot back."""
        try:
            await self._model.aclose()
            if self._speeds != (0.0, 0.0):
                self._remember()
        finally:
            if self._slot is not None:
                self._slot.release()

    def _remember(self, *_: str) -> None:
        """Keep what is known, for the next run to begin with."""
        from poolcli.models import profiles

        if self.profile.model:
            profiles.save(self.profile)


# Requests


def request_fields(config: Config, model: str, server: Server, *, demo: bool = False) -> dict[str, Any]:
    """The further fields of every request: sampling, reasoning, adapters, the user's own; the user's own win.

    Raises ConfigError for fields that pool sets itself, and for adapters that are not `ID:SCALE`.
    """
    from poolcli.models import families

    family = families.family_of(model)
    fields: dict[str, Any] = dict(DEMO_SAMPLING if demo else families.sampling(family, server))
    fields |= families.reasoning(config.reasoning, family, server)
    fields |= {name: value for name in SAMPLING if (value := getattr(config, name)) is not None}
    adapters = [
        found for text in config.lora if isinstance((found := _adapter(text, config.origins["lora"]))[0], int)
    ]
    if adapters:
        if not server.lora:
            raise ConfigError(
                f"`lora` ({config.origins['lora']}): {server.title or 'this server'} takes no adapters in a request",
                "llama.cpp does: start it with --lora FILE",
            )
        fields["lora"] = [{"id": id, "scale": scale} for id, scale in adapters]
    return _merged(fields, _own(config))


def _own(config: Config) -> Mapping[str, Any]:
    from poolcli.models.endpoint import OWN_FIELDS

    if taken := OWN_FIELDS & config.request.keys():
        raise ConfigError(
            f"{config.origins['request']}: `request` sets {', '.join(sorted(taken))}, which pool sets itself",
            "model, max_reply and the tools have settings of their own",
        )
    return config.request


def _merged(fields: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second one's values before the first one's, table by table."""
    merged = dict(fields)
    for name, value in own.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def adapter_files(adapters: Sequence[str], origin: str) -> list[tuple[Path, float]]:
    """The adapters that a server of ours is started with, each with its scale. Raises ConfigError."""
    found = [_adapter(text, origin) for text in adapters]
    return [(what, scale) for what, scale in found if isinstance(what, Path)]


def _adapter(text: str, origin: str) -> tuple[int | Path, float]:
    """An adapter and its scale: the number of one that the server has, or a file."""
    what, _, scale = text.rpartition(":")
    try:
        value = float(scale)
        if not what or not abs(value) < float("inf"):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{origin}: `lora` names {text!r}, which is neither ID:SCALE nor FILE:SCALE",
            'for example: lora = ["0:0.5"]',
        ) from None
    return (int(what[:9]) if what.isdecimal() else paths.expanded(what, origin)), value


def _limits(config: Config) -> Any:
    from poolcli.models.endpoint import Limits

    return Limits(first=config.first_deadline, idle=config.idle_deadline, total=config.reply_deadline)
