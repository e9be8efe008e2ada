"""The same constraint as `schema.constraint` in llama.cpp's own notation (GBNF), for servers that take only that.

There is one way to write each reply, the one in which it is sent back: fixed spaces, an escape only where JSON needs
one. What the model wrote is then found in its cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from poolcli.models.dialects import blocks

#: Values of the plain types, without any space before or after.
VALUES = r"""string ::= "\"" char* "\""
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u00" ("0" [0-7bef] | "1" [0-9a-f]))
integer ::= "0" | "-"? [1-9] [0-9]{0,15}
number ::= integer ("." [0-9]{1,16})?
boolean ::= "true" | "false"
"""


def grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """The grammar of one reply."""
    functions = blocks.functions(tools)
    root = " | ".join([*(f"step{n}" for n in range(len(functions))), "done"])
    steps = [f"step{n} ::= {_step(function)}" for n, function in enumerate(functions)]
    done = _sequence(_head("done"), _literal(', "answer": '), "string", _literal("}"))
    return "\n".join([f"root ::= {root}", *steps, f"done ::= {done}", VALUES])


def _sequence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _head(tool: str) -> str:
    return _sequence(_literal('{"thought": '), "string", _literal(', "tool": ' + json.dumps(tool)))


def _step(function: Mapping[str, Any]) -> str:
    needed, specs = blocks.required(function), blocks.properties(function)
    must = [_pair(name, specs[name]) for name in specs if name in needed]
    may = [_pair(name, specs[name]) for name in specs if name not in needed]
    comma = _literal(", ")
    if must:
        pairs = _sequence(f" {comma} ".join(must), *(f"({comma} {pair})?" for pair in may))
    else:
        # Whichever comes first has no comma before it.
        choices = [
            _sequence(pair, *(f"({comma} {later})?" for later in may[n + 1 :])) for n, pair in enumerate(may)
        ]
        pairs = f"({' | '.join(choices)})?" if choices else ""
    return _sequence(_head(function["name"]), _literal(', "arguments": {'), pairs, _literal("}}"))


def _pair(name: str, spec: Mapping[str, Any]) -> str:
    return f"{_literal(json.dumps(name) + ': ')} {_kind(spec)}"


def _kind(spec: Mapping[str, Any]) -> str:
    if words := spec.get("enum"):
        return f"({' | '.join(_literal(json.dumps(word)) for word in words)})"
    kind = spec.get("type", "string")
    return kind if kind in ("string", "integer", "number", "boolean") else "string"


def _literal(text: str) -> str:
    """Text that has to be written as it is. Escaped as JSON is, which names of tools and parameters need at most."""
    return json.dumps(text)
