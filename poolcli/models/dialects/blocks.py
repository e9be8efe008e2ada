"""What the dialects that speak in plain text share: tools described, results marked, examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Message, Result, Think
from poolcli.models.dialects.native import reasoning

Schema = Mapping[str, Any]

#: The field of a Think part that was no server's reasoning but said beside a call ("thought" of a schema).
THOUGHT = "thought"
#: Values in examples, by the name of the parameter.
EXAMPLES = {
    "path": "src/area.py",
    "old": "    return width + height",
    "new": "    return width * height",
    "content": "def area(width, height):\n    return width * height\n",
    "pattern": "def area",
    "command": "git diff --stat",
}
#: The tool that an example calls, the first of these that there is: one with code in it shows most.
SHOWN = ("edit", "write", "read", "shell")


def functions(tools: Sequence[Schema]) -> list[Mapping[str, Any]]:
    """The functions in the schemas."""
    return [tool["function"] for tool in tools]


def names(tools: Sequence[Schema]) -> frozenset[str]:
    """What the tools are called."""
    return frozenset(function["name"] for function in functions(tools))


def properties(function: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The parameters of a function by name."""
    found: Mapping[str, Mapping[str, Any]] = function.get("parameters", {}).get("properties", {})
    return found


def required(function: Mapping[str, Any]) -> Sequence[str]:
    """The names of the parameters that a call must have."""
    found: Sequence[str] = function.get("parameters", {}).get("required", ())
    return found


def described(tools: Sequence[Schema]) -> str:
    """The tools as a list to read: what each does, then a line per parameter."""
    return "\n\n".join("\n".join(_described(function)) for function in functions(tools))


def _described(function: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {function['name']}"
    if description := function.get("description", ""):
        yield description
    needed = required(function)
    for name, spec in properties(function).items():
        kind = " | ".join(map(str, spec["enum"])) if spec.get("enum") else spec.get("type", "string")
        about = f": {spec['description']}" if spec.get("description") else ""
        yield f"- {name} ({kind}{', required' if name in needed else ''}){about}"


def example(tools: Sequence[Schema]) -> tuple[str, dict[str, Any]]:
    """A call to show how calls are written; of a tool that there is."""
    by_name = {function["name"]: function for function in functions(tools)}
    name = next((name for name in SHOWN if name in by_name), next(iter(by_name), "read"))
    function = by_name.get(name, {})
    shown = required(function) or list(properties(function))[:1]
    return name, {key: EXAMPLES.get(key, "…") for key in shown}


def rendered(message: Message, written: Callable[[Message], str], *, reasoning_back: bool) -> dict[str, Any]:
    """The server's message for one of ours: replies as `written`, results in the name of the user."""
    match message.role:
        case "assistant":
            fields = reasoning(message) if reasoning_back else {}
            return {"role": "assistant", "content": written(message), **fields}
        case "tool":
            return {"role": "user", "content": results(message)}
        case role:
            return {"role": role, "content": message.text}


def results(message: Message) -> str:
    """The results in a message, each between marks that its own text cannot close."""
    return "\n".join(_result(part) for part in message.parts if isinstance(part, Result))


def _result(result: Result) -> str:
    tag, number = "result", 1
    # A file that holds the closing mark could otherwise go on in the user's name. The text itself stays as it is:
    # the model copies from it.
    while f"</{tag}>" in result.text:
        number += 1
        tag = f"result-{number}"
    return f"<{tag} tool={json.dumps(result.name, ensure_ascii=False)}>\n{result.text}\n</{tag}>"


def thought(message: Message) -> str:
    """The thoughts of a reply that were no server's reasoning."""
    thinks = (part for part in message.parts if isinstance(part, Think))
    return "".join(think.text for think in thinks if think.extra.get("field") == THOUGHT)


def prose(message: Message) -> str:
    """What a reply says beside its calls, thoughts that were no server's reasoning included."""
    first, text = thought(message), message.text
    return f"{first}\n\n{text}" if first and text else first or text
