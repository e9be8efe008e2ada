"""The dialect of chat completions with tools: calls and results in fields of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Call, Message, Result, Think

#: Names under which servers report reasoning; it goes back under the one it came by (`Think.extra["field"]`).
REASONING = ("reasoning_content", "reasoning")

# With spaces, as models write them: templates that print the string as it is then repeat the cached tokens.
_encode_arguments = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def arguments(call: Call) -> str:
    """The call's arguments as sent back; `{}` for ones that were no JSON object.

    Servers parse what they are sent: llama.cpp answers 500 to its own broken arguments at every later turn.
    """
    if call.args is None:
        return "{}"
    try:
        return _encode_arguments(call.args)
    except (ValueError, RecursionError):  # NaN or infinity, or nested too deep: no JSON that others can read
        return "{}"


def reasoning(message: Message) -> dict[str, str]:
    """The fields in which a reply's reasoning goes back."""
    fields: dict[str, str] = {}
    for part in message.parts:
        if isinstance(part, Think) and (name := part.extra.get("field")) in REASONING:
            fields[name] = fields.get(name, "") + part.text
    return fields


class Native:
    """Tools and calls in the server's own fields; `streamed` is whether replies come in pieces.

    Without a `tool_role` in the template, calls and results go back as text. `reasoning_back` is whether the
    server takes reasoning back.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        streamed: bool = True,
        system_role: bool = True,
        tool_role: bool = True,
        reasoning_back: bool = True,
    ) -> None:
        self._tools = list(tools)
        self.streamed = streamed
        self.system_role = system_role
        self.heard: Message | None = None
        self._tool_role = tool_role
        self._reasoning_back = reasoning_back

    @property
    def name(self) -> str:
        """The rung of the ladder."""
        return "native" if self.streamed else "whole"

    @property
    def guide(self) -> str:
        """None: the server writes the tools into the prompt."""
        return ""

    def constants(self) -> Mapping[str, Any]:
        """The tools, when there are any."""
        return {"tools": self._tools} if self._tools else {}

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """One message each, but one per result for results."""
        match message.role:
            case "assistant":
                yield self._assistant(message)
            case "tool" if self._tool_role:
                for part in message.parts:
                    if isinstance(part, Result):
                        yield {"role": "tool", "tool_call_id": part.id, "content": part.text}
            case "tool":
                from poolcli.models.dialects.blocks import results

                yield {"role": "user", "content": results(message)}
            case role:
                yield {"role": role, "content": message.text}

    def _assistant(self, message: Message) -> dict[str, Any]:
        # Never null: templates of many models add to the content or search in it.
        body: dict[str, Any] = {"role": "assistant", "content": message.text}
        if self._reasoning_back:
            body.update(reasoning(message))
        if message.calls and not self._tool_role:
            from poolcli.models.dialects.text import written

            body["content"] = written(message)
        elif message.calls:
            body["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": arguments(c)}}
                for c in message.calls
            ]
        return body

    def read(self, message: Message, *, cut: bool = False) -> Message:
        """Calls that came in their fields, else those that the model wrote into its text or reasoning."""
        self.heard = message
        if message.calls or not self._tools:
            return message
        from poolcli.models.dialects.text import recovered

        return recovered(message, self._tools)
