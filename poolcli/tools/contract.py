"""Contracts: what the model is told about a tool and what we may assume of it, loaded from `tools/*.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from poolcli.errors import ConfigError
from poolcli.tools.base import ToolError

#: ACP's words for what a call does; risk follows from them.
KINDS = frozenset(("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other"))

#: Kinds that change nothing, so that such neighbours may run side by side.
READ_ONLY = frozenset(("read", "search", "think"))

#: Flat scalars only: weak models, grammar conversion and training formats all need it.
TYPES = {"string": str, "integer": int, "number": float, "boolean": bool}

#: Characters of one argument in a title: a line of an 80-column terminal holds the title and the outcome.
TITLE_ARG = 60

_WORDS = {"true": True, "false": False}

_ARTICLES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a string",
}


class Param(Struct, frozen=True):
    """One parameter. `default` is what the function takes when it is left out (None when required)."""

    name: str
    type: str
    description: str = ""
    required: bool = False
    default: str | int | float | bool | None = None
    enum: tuple[str, ...] = ()


class Contract(Struct, frozen=True):
    """One tool. `limit` is the most characters that the model gets back."""

    name: str
    kind: str
    title: str
    description: str
    limit: int
    params: tuple[Param, ...] = ()

    @property
    def read_only(self) -> bool:
        """Whether a call changes nothing."""
        return self.kind in READ_ONLY

    @property
    def parallel(self) -> bool:
        """Whether calls may run side by side."""
        return self.read_only


def load(file: Path) -> Contract:
    """The contract in a file. Raises ConfigError naming the file and what is wrong with it."""
    import tomllib

    try:
        data = tomllib.loads(file.read_text("utf-8"))
        return _contract(data)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"tool contract {file} cannot be read: {error}") from error
    except KeyError as error:
        raise ConfigError(f"tool contract {file}: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"tool contract {file}: {error}") from error


def _contract(data: dict[str, Any]) -> Contract:
    params = tuple(_param(name, spec) for name, spec in data.pop("params", {}).items())
    if data["kind"] not in KINDS:
        raise ValueError(f"kind is {data['kind']!r}; there are {', '.join(sorted(KINDS))}")
    return Contract(
        data["name"],
        data["kind"],
        data.get("title", data["name"]),
        data["description"].strip(),
        int(data["limit"]),
        params,
    )


def _param(name: str, spec: Mapping[str, Any]) -> Param:
    if spec["type"] not in TYPES:
        raise ValueError(f"type of {name} is {spec['type']!r}; there are {', '.join(TYPES)}")
    return Param(
        name,
        spec["type"],
        spec.get("description", "").strip(),
        bool(spec.get("required", False)),
        spec.get("default"),
        tuple(spec.get("enum", ())),
    )


def schema(contract: Contract) -> dict[str, Any]:
    """The function schema that a server is sent; equal contracts give equal bytes."""
    properties: dict[str, Any] = {}
    for param in contract.params:
        spec: dict[str, Any] = {"type": param.type}
        if param.description:
            spec["description"] = param.description
        if param.enum:
            spec["enum"] = list(param.enum)
        properties[param.name] = spec
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [param.name for param in contract.params if param.required]:
        parameters["required"] = required
    function = {"name": contract.name, "description": contract.description, "parameters": parameters}
    return {"type": "function", "function": function}


def check(contract: Contract, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, in the contract's order and of its types; what was left out stays left out.

    Forgives what models often do and what cannot be misread ("5" for 5, 5.0 for 5, null for a left-out
    optional). Raises ToolError with a sentence that says what the tool takes.
    """
    known = {param.name for param in contract.params}
    if unknown := [name for name in args if name not in known]:
        raise ToolError(f"{contract.name} has no parameter {_names(unknown)}; {_takes(contract)}")
    given = {name: value for name, value in args.items() if value is not None}
    if missing := [param.name for param in contract.params if param.required and param.name not in given]:
        raise ToolError(f"missing {_names(missing)}; {_takes(contract)}")
    return {p.name: _value(contract.name, p, given[p.name]) for p in contract.params if p.name in given}


def _value(tool: str, param: Param, value: object) -> str | int | float | bool:
    found = _coerced(param.type, value)
    if found is None:
        shown = repr(value) if len(repr(value)) <= TITLE_ARG else repr(value)[:TITLE_ARG] + "…"
        raise ToolError(f"{param.name} of {tool} must be {_ARTICLES[param.type]}, not {shown}")
    if param.enum and found not in param.enum:
        raise ToolError(f"{param.name} of {tool} must be one of {', '.join(param.enum)}, not {found!r}")
    return found


def _coerced(type: str, value: object) -> str | int | float | bool | None:
    """The value as that type; None when it cannot be read as one."""
    if type == "string":
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, str | int | float) else None
    if type == "boolean":
        return value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if isinstance(value, bool):
        return None
    try:
        number = float(value.strip()) if isinstance(value, str) else value
        if not isinstance(number, int | float) or number != number or abs(number) == float("inf"):
            return None
        if type == "number":
            return float(number)
        # Through int() again where it can be: a float does not hold every large integer.
        return int(value) if isinstance(value, int) else int(number) if number == int(number) else None
    except (ValueError, OverflowError):
        return None


def title(contract: Contract, args: Mapping[str, Any]) -> str:
    """One line for people: the contract's title with the arguments filled in, shortened, free of newlines."""
    defaults = {param.name: param.default for param in contract.params}
    return "".join(_filled(contract.title, {**defaults, **args})).strip()


def _filled(template: str, values: Mapping[str, Any]) -> Iterator[str]:
    head, *rest = template.split("{")
    yield head
    for piece in rest:
        name, _, text = piece.partition("}")
        value = values.get(name)
        yield _short("" if value is None else str(value))
        yield text


def _short(text: str) -> str:
    line = " ".join(text[: TITLE_ARG * 4].split())
    return line if len(line) <= TITLE_ARG else line[: TITLE_ARG - 1] + "…"


def _takes(contract: Contract) -> str:
    required = ", ".join(p.name for p in contract.params if p.required)
    optional = ", ".join(p.name for p in contract.params if not p.required)
    if not contract.params:
        return f"{contract.name} takes no parameters"
    if not required:
        return f"{contract.name} takes {optional}, all optional"
    return f"{contract.name} takes {required}" + (f" and optionally {optional}" if optional else "")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name[:TITLE_ARG]}`" for name in names)
