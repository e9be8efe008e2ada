"""The dialect of constrained replies: each is one JSON object that names a tool and its arguments, or says done."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Call, Message, Part, Text, Think
from poolcli.models.dialects import blocks
from poolcli.models.dialects.native import arguments

#: In the place of a tool's name: no call, the work is done.
DONE = "done"

GUIDE = """# Replies

Each reply is one JSON object and nothing else. It either calls one tool:

{example}

or says that the work is done:

{done}

In strings a line break is written \\n, a quotation mark \\". The result of a call comes in the next message, as \
<result tool="{name}">…</result>.

# Tools

{tools}"""

#: The tool in an object that was cut off.
_NAMED = re.compile(r'"tool"\s*:\s*"([^"\\]{1,100})"')

# With spaces, as models write them, so that the reply comes back as the tokens it was.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def constraint(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of a reply: one alternative per tool, so that arguments fit the tool they stand beside.

    Only what every converter to grammars knows: objects, plain types and lists of words. Keys come in the order
    in which they are to be written.
    """
    choices = [_object(thought=_STRING, tool=_word(f["name"]), arguments=_arguments(f)) for f in _of(tools)]
    return {"anyOf": [*choices, _object(thought=_STRING, tool=_word(DONE), answer=_STRING)]}


_STRING = {"type": "string"}
_of = blocks.functions


def _word(word: str) -> dict[str, Any]:
    return {"type": "string", "enum": [word]}


def _object(**fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        name: {key: spec[key] for key in ("type", "enum") if key in spec}
        for name, spec in blocks.properties(function).items()
    }
    return {**_object(**kept), "required": list(blocks.required(function))}


def step(message: Message) -> str:
    """A reply as the object that it was, or would have been."""
    thought, text = blocks.thought(message), message.text
    if message.calls:
        # Text beside a call is from a higher rung; several calls as well.
        said = thought or text
        return "\n".join(_step(said if not n else "", call) for n, call in enumerate(message.calls))
    if not text:  # a reply that was empty, or cut off before it said anything
        return ""
    return _encode({"thought": thought, "tool": DONE, "answer": text})


def _step(thought: str, call: Call) -> str:
    head = _encode({"thought": thought, "tool": call.name})[:-1]
    return f'{head}, "arguments": {arguments(call)}}}'


def parse(text: str, tools: frozenset[str]) -> tuple[Part, ...] | None:
    """The parts of a reply that is such an object; None when it is none."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # NaN and 1e999 cannot be sent back
    except (ValueError, RecursionError):
        return _cut(text, tools)
    if not isinstance(found, dict):
        return None
    name, args = found.get("tool"), found.get("arguments", {})
    thought, answer = _said(found, "thought"), _said(found, "answer")
    thinks = (Think(thought, {"field": blocks.THOUGHT}),) if thought else ()
    if name == DONE:
        # It did say that it is done; a reply without text would count as empty.
        return (*thinks, Text(answer)) if answer.strip() else (Text(thought.strip() or "Done."),)
    if name not in tools:
        return None
    whole = isinstance(args, dict)
    return (*thinks, Call("call_1", name, args if whole else None, "" if whole else text))


def _said(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _cut(text: str, tools: frozenset[str]) -> tuple[Part, ...] | None:
    """The parts of an object that does not end: a call without arguments, or a thought that leads nowhere yet."""
    if not text.lstrip().startswith("{") or text.rstrip().endswith("}"):
        return None
    named = _NAMED.search(text)
    if named and named[1] in tools:
        return (Call("call_1", named[1], None, text),)
    if named:
        return None
    return (Think(text, {"field": blocks.THOUGHT}),)


class Constrained:
    """Replies that a JSON schema constrains, or with `grammar` llama.cpp's own form of grammar."""

    name = "schema"
    streamed = True

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        grammar: bool = False,
        system_role: bool = True,
        reasoning_back: bool = True,
    ) -> None:
        self._tools = list(tools)
        self._names = blocks.names(tools)
        self._grammar = grammar
        self.system_role = system_role
        self.heard: Message | None = None
        self._reasoning_back = reasoning_back
        name, args = blocks.example(tools)
        shown = {"thought": "why this is the next step", "tool": name, "arguments": args}
        done = {"thought": "the checks pass", "tool": DONE, "answer": "what was wrong and what you changed"}
        self.guide = GUIDE.format(
            example=_encode(shown), done=_encode(done), name=name, tools=blocks.described(tools)
        )

    def constants(self) -> Mapping[str, Any]:
        """What constrains each reply."""
        if self._grammar:
            from poolcli.models.dialects.grammar import grammar

            return {"grammar": grammar(self._tools)}
        named = {"name": "step", "strict": True, "schema": constraint(self._tools)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """One message each; a reply as the object it was, results as a message of the user."""
        yield blocks.rendered(message, step, reasoning_back=self._reasoning_back)

    def read(self, message: Message, *, cut: bool = False) -> Message:
        """The call in the object; where the server constrained nothing, those in any known form."""
        self.heard = message
        parts = parse(message.text, self._names)
        if parts is None:
            from poolcli.models.dialects.text import recovered

            return recovered(message, self._tools)
        thinks = tuple(part for part in message.parts if isinstance(part, Think))
        return Message(message.role, (*thinks, *parts))
