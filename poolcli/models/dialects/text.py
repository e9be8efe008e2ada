"""The dialect of calls written as text: tags around plain values, so that code needs no escaping."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poolcli.messages import Call, Message, Part, Text, Think
from poolcli.models.dialects import blocks

#: What the model is told. Many models were trained on this form, and those that were not can copy it.
GUIDE = """# Tools

You call a tool by writing, in exactly this form:

{example}

- Values stand between their tags as they are: nothing is quoted or escaped, indentation and line breaks count.
- Say in a sentence what you do, then write one call or several, then stop. The results come in the next message, \
in the order of the calls, as <result tool="{name}">…</result>. Never write a result yourself.
- A reply without a call says that the work is done.

There are these tools and no others:

{tools}"""

_encode = json.JSONEncoder(ensure_ascii=False).encode


def call_text(name: str, args: Mapping[str, Any] | None) -> str:
    """A call as the model is asked to write it; arguments that could not be read are left out."""
    lines = ["<tool_call>", f"<function={name}>"]
    for key, value in (args or {}).items():
        lines += [f"<parameter={key}>", _value(value), "</parameter>"]
    return "\n".join([*lines, "</function>", "</tool_call>"])


def _value(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return _encode(value)
    except (ValueError, RecursionError):  # nested deeper than any parameter of ours
        return ""


def written(message: Message) -> str:
    """A reply as the model is asked to write it; one without calls as it was."""
    said = blocks.prose(message)
    if not message.calls:
        return said
    calls = "\n".join(call_text(call.name, call.args) for call in message.calls)
    return f"{said.strip()}\n\n{calls}" if said.strip() else calls


#: Every known form of a call has one of these; loading the parser costs 15 ms that a plain answer need not pay.
MARKS = "<[{`=("
#: The name of a call that ends before its own name or arguments are certain.
UNFINISHED = "unfinished_call"


def recovered(message: Message, tools: Sequence[Mapping[str, Any]]) -> Message:
    """The reply with the calls that its text or its reasoning holds; the same message without any."""
    thinks = tuple(part for part in message.parts if isinstance(part, Think))
    think = "".join(part.text for part in thinks)
    if not any(mark in text for mark in MARKS for text in (message.text, think)):
        return message
    from poolcli.models.recovery import recover

    found = recover(message.text, tools, think=think)
    if not found.calls and found.cut:
        # It ends within a call: that is no answer, and the model must hear of it.
        return Message(message.role, (*message.parts, Call("call_1", UNFINISHED, None, message.text)))
    if not found.calls:
        return message
    parts: list[Part] = [*thinks]
    if found.text.strip():
        parts.append(Text(found.text))
    for number, call in enumerate(found.calls, 1):
        parts.append(Call(f"call_{number}", call.name, call.args, call.raw if call.args is None else ""))
    return Message(message.role, tuple(parts))


class Written:
    """Calls as text in the model's replies, results as messages of the user."""

    name = "text"
    streamed = True

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], *, system_role: bool = True, reasoning_back: bool = True
    ) -> None:
        self._tools = list(tools)
        self.system_role = system_role
        self.heard: Message | None = None
        self._reasoning_back = reasoning_back
        name, args = blocks.example(tools)
        self.guide = GUIDE.format(example=call_text(name, args), name=name, tools=blocks.described(tools))

    def constants(self) -> Mapping[str, Any]:
        """None: the server need not know that there are tools."""
        return {}

    def render(self, message: Message) -> Iterator[dict[str, Any]]:
        """One message each; results as a message of the user."""
        yield blocks.rendered(message, written, reasoning_back=self._reasoning_back)

    def read(self, message: Message, *, cut: bool = False) -> Message:
        """The calls in the text, in this form or in any other that is known."""
        self.heard = message
        return recovered(message, self._tools)
