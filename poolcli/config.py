"""The configuration: one table of options, five layers, and for each value where it came from.

Defaults < the user's file < the project's file < environment < flags. A project's file comes with a
repository that may be a stranger's: it can name the checks and budgets, never the model endpoint or anything
about safety.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from poolcli import paths, trust
from poolcli.errors import ConfigError

if TYPE_CHECKING:
    from poolcli.policy import Rule
    from poolcli.redact import Redactor

Kind = Literal[
    "text", "whole number", "number", "seconds", "list of words", "table", "commands", "rules", "patterns"
]

#: A configuration file is a page of text; more than this many bytes is something else.
LARGEST = 1_000_000
PROJECT_FILE = ".pool/config.toml"
#: What can be checked, as `[checks]` names the commands for it. `test` is the option `test` in another place.
CHECKS = ("build", "test", "lint", "types", "coverage")
#: What `[policy]` holds, and the modes: as poolcli/policy.py has them, which is read only where there are rules.
VERDICTS, MODES = ("allow", "ask", "deny"), ("ask", "edits", "auto", "plan")
#: What `--sandbox` accepts: as poolcli/sandbox/choose.py has them, which is read only by a run.
SANDBOXES = ("auto", "bubblewrap", "landlock", "seatbelt", "external", "none")
#: Kinds of tools, as `deny` accepts them beside the tools' names.
TOOL_KINDS = ("read", "edit", "move", "search", "execute", "other")


class Option(Struct, frozen=True, eq=False):
    """One setting. Its name is the key in a file; `flag` is '' when the command line does not have it.

    `unset` says in words what the default means; `project` is whether a project's file may set it;
    `endpoint` whether it concerns the model endpoint.
    """

    name: str
    kind: Kind
    default: Any
    flag: str
    help: str
    unset: str = ""
    project: bool = False
    endpoint: bool = False
    secret: bool = False
    minimum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        """The environment variable that sets it; '' for a table, which only a file can hold."""
        return "" if self.kind in ("table", "commands", "rules", "patterns") else f"POOL_{self.name.upper()}"

    @property
    def allowed(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        what = {"text": "text", "list of words": "a list of words"}.get(self.kind, f"a {self.kind}")
        if self.kind == "table":
            what = "a table of text, numbers, true and false, lists and tables"
        if self.kind == "commands":
            what = "a table of commands, with the keys " + ", ".join(CHECKS)
        if self.kind == "patterns":
            what = "a list of regular expressions, none of which matches the empty text"
        if self.kind == "rules":
            what = "a table of lists of rules, with the keys " + ", ".join(VERDICTS)
        if self.kind == "seconds":
            what = 'a number of seconds (or text such as "90s", "10m", "2h")'
        return what if self.minimum is None else f"{what} of at least {self.minimum:g}"


# fmt: off
OPTIONS: tuple[Option, ...] = (
    Option(
        "model", "text", "", "--model",
        "Model name at the server; or `demo`, `scripted:FILE`, `local:FILE.gguf`.",
        "the server's first; without a server `demo`", endpoint=True,
    ),
    Option(
        "base_url", "text", "", "--base-url",
        "OpenAI-compatible server, e.g. `http://127.0.0.1:8080/v1`.", "none", endpoint=True,
    ),
    Option(
        "api_key", "text", "", "",
        "Key for the server. In a file it belongs to that file's `base_url` and is sent nowhere else.",
        "none", secret=True, endpoint=True,
    ),
    Option(
        "allow_insecure", "text", "no", "--allow-insecure",
        "Whether the key may go to another machine unencrypted, by http.", choices=("no", "yes"), endpoint=True,
    ),
    Option(
        "temperature", "number", None, "--temperature",
        "Sampling temperature.", "the family's, else the server's", minimum=0, endpoint=True,
    ),
    Option(
        "top_p", "number", None, "",
        "Share of the likeliest tokens to sample from.", "the family's, else the server's",
        minimum=0, endpoint=True,
    ),
    Option(
        "top_k", "whole number", None, "",
        "How many of the likeliest tokens to sample from; not every server takes it.",
        "the family's, else the server's", minimum=0, endpoint=True,
    ),
    Option(
        "min_p", "number", None, "",
        "Least likelihood of a token beside the likeliest; not every server takes it.",
        "the family's, else the server's", minimum=0, endpoint=True,
    ),
    Option("seed", "whole number", None, "--seed", "Sampling seed.", "none", endpoint=True),
    Option(
        "reasoning", "text", "", "--reasoning",
        "How much the model thinks before it answers.", "the model's own",
        choices=("off", "low", "medium", "high"), endpoint=True,
    ),
    Option(
        "lora", "list of words", (), "",
        "Adapters: `FILE:SCALE` for a server that pool starts, `ID:SCALE` of one that was started with them.",
        "none", endpoint=True,
    ),
    Option(
        "request", "table", {}, "",
        "Further fields of every request, as a table `[request]` of the user's file; never ones that pool sets.",
        "none", endpoint=True,
    ),
    Option(
        "max_reply", "whole number", 0, "",
        "Tokens of one reply at most.", "the server's limit", minimum=0, endpoint=True,
    ),
    Option(
        "first_deadline", "seconds", 600.0, "",
        "Seconds to wait for the first piece of a reply. Unless set, more for a long prompt on a slow server.",
        minimum=1, endpoint=True,
    ),
    Option(
        "idle_deadline", "seconds", 120.0, "",
        "Seconds between two pieces of a reply. Unless set, more on a slow server.", minimum=1, endpoint=True,
    ),
    Option(
        "reply_deadline", "seconds", 3600.0, "",
        "Seconds for one whole reply.", minimum=1, endpoint=True,
    ),
    Option(
        "context", "whole number", 0, "",
        "Context window in tokens: of a server that pool starts, or to be assumed of one that does not say.",
        "the server's; 4096 for the demonstration model, 16384 for other local files",
        minimum=0, endpoint=True,
    ),
    Option(
        "server", "text", "auto", "",
        "Which program serves local models; `auto` takes xllamacpp, else a llama-server on PATH; vllm and ollama "
        "serve models that they know by name.",
        choices=("auto", "xllamacpp", "llama-server", "vllm", "ollama"), endpoint=True,
    ),
    Option(
        "slots", "whole number", 0, "",
        "Conversations at once in a server that pool starts, each with its own context.",
        "2; 1 for the demonstration model", minimum=0, endpoint=True,
    ),
    Option(
        "kv_type", "text", "", "",
        "How the cache of a server that pool starts is stored; q8_0 takes half the memory.", "what fits",
        choices=("f16", "q8_0"), endpoint=True,
    ),
    Option(
        "gpu_layers", "whole number", -1, "",
        "Layers on the GPU, in a server that pool starts.", "what fits", minimum=-1, endpoint=True,
    ),
    Option(
        "threads", "whole number", 0, "",
        "CPU threads of a server that pool starts itself.", "llama.cpp chooses", minimum=0, endpoint=True,
    ),
    Option(
        "idle", "seconds", 600.0, "",
        "Seconds that a server which pool started, and which is shared, waits for another user before it ends.",
        minimum=1, endpoint=True,
    ),
    Option(
        "test", "text", "", "--test",
        "The checks: a command that must exit 0.", "found in the repository", project=True,
    ),
    Option(
        "checks", "commands", {}, "",
        "What else is checked, as a table `[checks]` of commands that must exit 0; its `test` is the key `test`.",
        "none", project=True,
    ),
    Option(
        "checks_timeout", "seconds", 600.0, "--checks-timeout",
        "Seconds for one run of the checks.", project=True, minimum=1,
    ),
    Option(
        "max_turns", "whole number", 50, "--max-turns",
        "Requests to the model at most; 0 for no limit.", project=True, minimum=0,
    ),
    Option(
        "max_tokens", "whole number", 0, "--max-tokens",
        "Tokens at most, prompts and replies together.", "no limit", project=True, minimum=0,
    ),
    Option(
        "max_rounds", "whole number", 5, "--max-rounds",
        "Runs of the checks at most after the model says that it is done; 0 for no limit.",
        project=True, minimum=0,
    ),
    Option(
        "timeout", "seconds", 0.0, "--timeout",
        "Seconds for the whole run.", "no limit", project=True, minimum=0,
    ),
    Option(
        "deny", "list of words", (), "",
        "Tools, or kinds of tools (" + ", ".join(TOOL_KINDS) + "), that must not run.", "none",
    ),
    Option(
        "setup", "table", {}, "",
        "How dependencies are installed, as a table `[setup]`: `run`, `allow_net`, `cache_key`, `keep`, lists all.",
        "as lock files suggest", project=True,
    ),
    Option(
        "redact", "patterns", (), "",
        "Regular expressions of what must not be seen: it is kept out of the log, the screen and the prompt.",
        "known shapes of secrets, and those of your environment",
    ),
    Option(
        "sandbox", "text", "auto", "--sandbox",
        "What commands are confined by. `auto` is bubblewrap; where that does not work, the best there is for a person "
        "at a terminal and a refusal for programs. `external`: the container around pool; `none`: nothing.",
        choices=SANDBOXES,
    ),
    Option(
        "allow_net", "list of words", (), "--allow-net",
        "Hosts that commands may reach, through pool's proxy: `HOST`, `HOST:PORT`, `*.HOST`.", "no network",
    ),
    Option(
        "mode", "text", "", "--mode",
        "What is asked where no rule speaks: edits and commands (`ask`), commands (`edits`), nothing (`auto`); "
        "`plan` changes nothing and runs no command but the checks.",
        "auto in a working sandbox, else edits", choices=MODES,
    ),
    Option(
        "policy", "rules", (), "",
        "What must not run, is asked about, or need not be asked about, as a table `[policy]`; "
        "a project's file can only add to `deny` and `ask`.",
        "none", project=True,
    ),
)
# fmt: on

BY_NAME = {option.name: option for option in OPTIONS}
#: Variables that pool reads or sets elsewhere.
OTHER_VARIABLES = ("POOL_STATE", "POOL_MODELS", "POOL_RUN", "POOL_CALL", "POOL_DEBUG")


# Every command makes this class: without a comparison that nobody needs it costs 0.4 ms of 1.1 less.
class Config(Struct, frozen=True, eq=False):
    """Every setting, checked. The fields are those of OPTIONS; times in seconds, 0 and '' as OPTIONS says."""

    model: str
    base_url: str
    api_key: str
    allow_insecure: str
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    reasoning: str
    lora: tuple[str, ...]
    request: Mapping[str, Any]
    max_reply: int
    first_deadline: float
    idle_deadline: float
    reply_deadline: float
    context: int
    server: str
    slots: int
    kv_type: str
    gpu_layers: int
    threads: int
    idle: float
    test: str
    checks: Mapping[str, str]
    checks_timeout: float
    max_turns: int
    max_tokens: int
    max_rounds: int
    timeout: float
    deny: tuple[str, ...]
    setup: Mapping[str, Any]
    redact: tuple[str, ...]
    sandbox: str
    allow_net: tuple[str, ...]
    mode: str
    policy: tuple[Rule, ...]
    #: Where each value came from: "default", "user file ~/.config/pool/config.toml:3", "POOL_MODEL",
    #: "--model".
    origins: Mapping[str, str]
    #: What the user should know: settings that were ignored, and why. One line each.
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # A traceback or a log must never show the key.
        return f"Config(model={self.model!r}, base_url={self.base_url!r}, …)"


class Layer(Struct, frozen=True):
    """Values of one source, each with its origin, and what is to be said about it."""

    values: Mapping[str, tuple[Any, str]]
    notices: tuple[str, ...] = ()


def load(
    top: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration for the repository at `top` (None: outside of one).

    `flags` maps option names to what the command line gave, None for what it did not; `trust_project` among them is
    whether the project's file counts though nobody has trusted it (poolcli/trust.py). Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    flags = dict(flags or {})
    everything = bool(flags.pop("trust_project", False))
    user = _read_file(paths.config_dir() / "config.toml")
    project = _project(top, everything=everything) if top else Layer({})
    layers = (user, project, _environment(environ), _flags(flags))
    values = {option.name: option.default for option in OPTIONS}
    origins = {option.name: "default" for option in OPTIONS}
    ranks = dict.fromkeys(values, -1)
    for rank, layer in enumerate(layers):
        for name, (value, origin) in layer.values.items():
            # Of the commands each counts by itself: a project that names one keeps the user's others.
            if name in ("checks", "policy"):
                value = {**values[name], **value} if name == "checks" else (*values[name], *value)
            values[name] = value
            origins[name], ranks[name] = origin, rank
    _one_place(values, origins, ranks)
    notices = [line for layer in layers for line in layer.notices]
    config = Config(**values, origins=origins, notices=tuple(notices))
    _check_deny(config)
    _check_hosts(config)
    return _bind_key(config, user)


def _one_place(values: dict[str, Any], origins: dict[str, str], ranks: Mapping[str, int]) -> None:
    """A model that needs no server and a server that was named elsewhere: the later layer says what is meant.

    Without this, `--base-url` would be ignored silently where the user's file names the demonstration model.
    """
    if not (needs_no_server(values["model"]) and values["base_url"]):
        return
    if ranks["model"] != ranks["base_url"]:
        loser = "base_url" if ranks["model"] > ranks["base_url"] else "model"
        values[loser], origins[loser] = "", "default"


def needs_no_server(model: str) -> bool:
    """Whether a model's name means one on this machine; `remote:NAME` never does."""
    model = model.strip().lower()
    return (
        model == "demo"
        or model.startswith(("scripted:", "local:"))
        or (model.endswith(".gguf") and not model.startswith("remote:"))
    )


def _bind_key(config: Config, user: Layer) -> Config:
    """Drop a key from the user's file when the server is another than that file's: keys do not travel."""
    if not config.api_key or config.origins["api_key"] == "POOL_API_KEY":
        return config
    own_url = user.values.get("base_url", ("", ""))[0]
    if config.base_url == own_url:
        return config
    line = (
        f"the key of the {config.origins['api_key']} is not used: it belongs to that file's base_url, "
        f"and the server comes from {config.origins['base_url']}; set POOL_API_KEY for it"
    )
    origins = {**config.origins, "api_key": "default"}
    return replace(config, api_key="", origins=origins, notices=(*config.notices, line))


def _check_deny(config: Config) -> None:
    """A misspelt word in the list of forbidden tools would silently forbid nothing."""
    if not config.deny:
        return
    known = [*TOOL_KINDS, *sorted(path.stem for path in paths.data_dir("tools").glob("*.toml"))]
    for word in config.deny:
        if word not in known:
            where = config.origins["deny"].removeprefix("user file ")
            raise ConfigError(
                f"{where}: `deny` names `{word}`, which is no tool or kind of tool"
                + _did_you_mean(word, known),
                "known: " + ", ".join(dict.fromkeys(known)),
            )


def _check_hosts(config: Config) -> None:
    """A host that is written wrongly would only be found when a command fails."""
    if config.setup:
        from poolcli.recipes import configured

        try:
            configured(config.setup, config.origins["setup"])
        except ValueError as error:
            where = config.origins["setup"].removeprefix("user file ")
            raise ConfigError(f"{where}: `[setup]`: {error}", BY_NAME["setup"].help) from None
    if not config.allow_net:
        return
    from poolcli.network.hosts import allowed

    try:
        allowed(config.allow_net)
    except ValueError as error:
        where = config.origins["allow_net"].removeprefix("user file ")
        raise ConfigError(f"{where}: `allow_net`: {error}", BY_NAME["allow_net"].help) from None


def redactor(config: Config, environ: Mapping[str, str] | None = None) -> Redactor:
    """What takes secrets out of everything in this process: the user's patterns, key and environment."""
    from poolcli import redact

    values = redact.from_environment(os.environ if environ is None else environ, config.api_key)
    return redact.Redactor(values, config.redact)


# Layers


def _flags(flags: Mapping[str, Any]) -> Layer:
    values = {}
    for name, value in flags.items():
        if value is not None:
            option = BY_NAME[name]
            origin = option.flag or name
            if option.kind == "rules":
                value = _rules(value, lambda verdict, text: f"--{verdict}")
            values[name] = (checked(option, value, origin), origin)
    return Layer(values)


def _environment(environ: Mapping[str, str]) -> Layer:
    known = {option.env: option for option in OPTIONS if option.env}
    values, notices = {}, []
    for variable, text in environ.items():
        if not variable.startswith("POOL_") or not text:
            continue
        if option := known.get(variable):
            values[option.name] = (checked(option, _from_text(option, text), variable), variable)
        elif variable not in OTHER_VARIABLES and (near := _did_you_mean(variable, known, 0.8)):
            notices.append(f"the environment variable {variable} means nothing to pool{near}")
    return Layer(values, tuple(notices))


def _from_text(option: Option, text: str) -> object:
    """What the text of an environment variable means; the text itself when it means nothing."""
    try:
        match option.kind:
            case "whole number":
                return int(text)
            case "number":
                return float(text)
            case "list of words":
                return text.replace(",", " ").split()
    except ValueError:
        pass
    return text


def _project(top: Path, *, everything: bool) -> Layer:
    """What a project's file says, as far as a person trusts it and a project may say it."""
    project = trust.look(top, accept=everything)
    notices = (project.why,) if project.why else ()
    if (data := project.files.get("config.toml")) is None:
        return Layer({}, notices)
    layer = _project_only(_values(_decoded(data, PROJECT_FILE), "project file", PROJECT_FILE))
    return Layer(layer.values, (*notices, *layer.notices))


def _read_file(path: Path) -> Layer:
    """The values of the user's TOML file, none when there is no such file. Raises ConfigError with line and key."""
    shown = _short(path)
    text = _text_of(path, shown)
    if text is None:
        return Layer({})
    layer = _values(text, "user file", shown)
    if "api_key" in layer.values and path.stat().st_mode & 0o077:
        return Layer(layer.values, (f"{shown} holds a key and others may read it; chmod 600 {shown}",))
    return layer


def _values(text: str, label: str, shown: str) -> Layer:
    import tomllib

    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{shown}:{line[1]}" if line else shown
        raise ConfigError(f"{where}: not valid TOML: {error}", "see docs/configuration.md") from error
    values: dict[str, tuple[Any, str]] = {}
    for key, value in data.items():
        number = line_of(text, key)
        where = f"{shown}:{number}"
        option = BY_NAME.get(key)
        if option is None:
            _unknown(key, value, where)
        if option.kind == "rules" and _lists(value):
            value = _rules(value, partial(_place, shown, text, number))
        if option.kind == "commands" and isinstance(value, dict):
            _known_checks(value, text, number, shown)
        values[key] = (checked(option, value, where), f"{label} {where}")
    _lift_test(values, shown)
    return Layer(values)


def _lists(value: object) -> bool:
    """Whether a value is the table `[policy]`: lists of rules under known keys."""
    return isinstance(value, dict) and all(
        key in VERDICTS and isinstance(rules, list) and all(isinstance(rule, str) and rule for rule in rules)
        for key, rules in value.items()
    )


def _rules(table: Mapping[Any, Any], where: Callable[[str, str], str]) -> tuple[Rule, ...]:
    """The rules of a table {verdict: texts}; `where` says where (verdict, text) stands. Raises ConfigError."""
    from poolcli import policy

    tools = {path.stem for path in paths.data_dir("tools").glob("*.toml")}
    return tuple(
        policy.rule(verdict, text, where(verdict, text), tools, TOOL_KINDS)
        for verdict, texts in table.items()
        for text in texts
    )


def _place(shown: str, text: str, table: int, verdict: str, rule: str) -> str:
    """Where a rule stands: `file:line`, of the table when the line cannot be told."""
    lines = text.split("\n")
    numbers = range(table, len(lines) + 1)
    begin = next((n for n in numbers if re.match(rf"\s*{verdict}\s*=", lines[n - 1])), table)
    number = next((n for n in numbers if n >= begin and rule in lines[n - 1]), begin)
    return f"{shown}:{number}"


def _lift_test(values: dict[str, tuple[Any, str]], shown: str) -> None:
    """Make `test` of the table `[checks]` the option of that name."""
    table, origin = values.get("checks", ({}, ""))
    if "test" not in table:
        return
    if "test" in values:
        raise ConfigError(f"{shown}: `test` is set twice, by itself and in `[checks]`", "remove one of them")
    values["test"] = (table["test"], origin)
    values["checks"] = ({name: command for name, command in table.items() if name != "test"}, origin)


def _text_of(path: Path, shown: str) -> str | None:
    try:
        # A pipe or a device would block or never end.
        if not path.is_file():
            if path.exists():
                raise ConfigError(f"{shown} is not a regular file", "remove it, or put a TOML file there")
            return None
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{shown} cannot be read: {error.strerror}", "check its permissions") from error
    return _decoded(data, shown)


def _decoded(data: bytes, shown: str) -> str:
    if len(data) > LARGEST:
        raise ConfigError(f"{shown} is larger than {LARGEST} bytes", "a configuration is a page of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown} is not UTF-8 text (byte {error.start})", "TOML files are UTF-8"
        ) from error


def _unknown(key: str, value: object, where: str) -> NoReturn:
    # `[checks] test = …` and the like: what stands inside may be what was meant.
    inside = [k for k in value if k in BY_NAME] if isinstance(value, dict) else []
    near = f"; did you mean `{inside[0]}`, without a table?" if inside else _did_you_mean(key, BY_NAME)
    kind = "table" if isinstance(value, dict) else "key"
    raise ConfigError(f"{where}: unknown {kind} `{key}`{near}", "known keys: " + ", ".join(BY_NAME))


def _known_checks(table: Mapping[str, object], text: str, begin: int, shown: str) -> None:
    """Refuse a key of `[checks]`, which begins at line `begin`, that names no check. Raises ConfigError."""
    for key in table:
        if key not in CHECKS:
            rest = "\n".join(text.split("\n")[begin - 1 :])
            where = f"{shown}:{begin - 1 + line_of(rest, key)}"
            near = _did_you_mean(key, CHECKS)
            raise ConfigError(
                f"{where}: unknown key `{key}` in `[checks]`{near}", "known keys: " + ", ".join(CHECKS)
            )


def _project_only(layer: Layer) -> Layer:
    """What a project's file may say; the rest is ignored and said so."""
    kept, notices = {}, []
    for name, (value, origin) in layer.values.items():
        option = BY_NAME[name]
        if name == "policy":
            kept[name] = (tuple(rule for rule in value if rule.verdict != "allow"), origin)
            if len(kept[name][0]) < len(value):
                notices.append(f"{origin}: `allow` is ignored: a project can never allow anything")
        elif option.project:
            kept[name] = (value, origin)
        else:
            what = "the model endpoint" if option.endpoint else "what concerns safety"
            notices.append(f"{origin}: `{name}` is ignored: a project can never set {what}")
    return Layer(kept, tuple(notices))


# Values


def checked(option: Option, value: object, where: str) -> Any:
    """The value as Config holds it. Raises ConfigError naming `where`, the option and what is allowed."""
    result = _converted(option, value)
    if result is None or (option.minimum is not None and result < option.minimum):
        shown = "this" if option.secret else repr(value)
        raise ConfigError(f"{where}: `{option.name}` must be {option.allowed}, not {shown}", option.help)
    return result


def _converted(option: Option, value: object) -> Any:
    """The value as the option's kind has it; None when it is of another kind. `True` is no number here."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match option.kind:
        case "text":
            fits = isinstance(value, str) and "\0" not in value
            return value if fits and value in (option.choices or (value,)) else None
        case "whole number":
            return value if number and isinstance(value, int) else None
        case "number" | "seconds":
            result = float(value) if isinstance(value, int | float) and number else None
            if option.kind == "seconds" and isinstance(value, str):
                result = _seconds(value)
            return result if result is not None and abs(result) < float("inf") else None
        case "list of words":
            if isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value):
                return tuple(value)
            return None
        case "patterns":
            return tuple(value) if isinstance(value, list | tuple) and all(map(_pattern, value)) else None
        case "commands":
            return value if isinstance(value, dict) and _commands(value) else None
        case "rules":
            return value if isinstance(value, tuple) else None
        case "table":
            return value if isinstance(value, dict) and _plain(value) else None


def _commands(table: Mapping[str, object]) -> bool:
    """Whether all keys are known and all values are commands."""
    return all(
        name in CHECKS and isinstance(command, str) and command.strip() and "\0" not in command
        for name, command in table.items()
    )


def _pattern(value: object) -> bool:
    from poolcli.redact import compiled

    try:
        return isinstance(value, str) and compiled(value) is not None
    except ValueError:
        return False


def _plain(value: object) -> bool:
    """Whether a value can be sent as JSON. Dates cannot, and infinity cannot."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return abs(value) < float("inf")
    return isinstance(value, str | int)


UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh]?)", text)
    return float(found[1]) * UNITS[found[2]] if found else None


# Words for people


def _did_you_mean(word: str, known: Collection[str], likeness: float = 0.6) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, known, 1, likeness)
    return f"; did you mean `{near[0]}`?" if near else ""


def _short(path: Path) -> str:
    """The path with the home folder as `~`."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  pathlib raises where there is no home
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


KEY = r"""\s*\[*\s*["']?([\w-]+)["']?\s*[=.\]]"""
MULTILINE = r'"""|\'\'\''


def line_of(text: str, key: str) -> int:
    """The line (from 1) of a key or table at the top of a valid TOML text; 1 when it cannot be told.

    Only for messages: tomllib does not say where a value stood.
    """
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        found = None if inside else re.match(KEY, line)
        if found and found[1] == key:
            return number
        # Inside a multi-line string nothing is a key.
        for quotes in re.findall(MULTILINE, line):
            inside = "" if inside == quotes else inside or quotes
    return 1
