"""What a server does with one model, found out by small requests: each probe is one function that yields facts.

Behaviour, not names: a probe believes an answer and no list of abilities. One that cannot tell raises Unknown, or
returns what it has, with the names of the rest in `unknown`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from poolcli.errors import ModelError
from poolcli.messages import Call, Text, Think
from poolcli.models import faults
from poolcli.models.base import Usage
from poolcli.models.connection import Connection, read, within
from poolcli.models.discovery import Facts, Server
from poolcli.models.reply import Assembler
from poolcli.models.sse import Events, TooLong

#: Bytes of a probe's reply: none asks for more than some thousand tokens.
MAX_ANSWER = 8_000_000
#: Tokens that a small answer may take: a model that thinks does so before it answers.
SOME, MANY = 256, 2048
#: Of a prompt that was sent before, this share at least comes from the cache of a server that has one.
MOSTLY = 0.5
#: Fewer tokens than these say nothing about speed: what is fixed in a request outweighs them.
FEWEST_READ, FEWEST_WRITTEN = 64, 8
#: What only a constraint can make a model say.
WORD = "zq7351"

TOOL = {
    "type": "function",
    "function": {
        "name": "probe_add",
        "description": "Adds a number to a list under a label.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "required": ["a", "b"],
        },
    },
}
PLAIN = [{"role": "user", "content": "Reply with the word OK."}]
CALL = [
    {
        "role": "user",
        "content": 'Call the tool probe_add now, with a = 2 and b = "three". Make the call; write nothing else.',
    }
]
CALLS = [
    {
        "role": "user",
        "content": 'Call the tool probe_add twice in this one reply: first with a = 2 and b = "three", then with '
        'a = 5 and b = "six". The calls do not depend on each other. Write nothing else.',
    }
]


Messages = Sequence[Mapping[str, Any]]


class Unknown(Exception):
    """A probe cannot tell. Its words say why."""


class Answer(Struct, frozen=True):
    """One reply to a probe. Times in seconds from sending; `progress` is whether the prefill's was streamed."""

    text: str
    think: str
    #: The field that reasoning came in.
    field: str
    calls: tuple[Call, ...]
    finish: str
    usage: Usage
    timings: Mapping[str, Any]
    first: float
    total: float
    progress: bool = False

    @property
    def cached(self) -> float | None:
        """The share of the prompt that came from the cache; None when nothing is said."""
        if self.usage.cached is None or not self.usage.prompt:
            return None
        return self.usage.cached / self.usage.prompt


class Bench(Struct):
    """One model at one server, under the probes."""

    connection: Connection
    facts: Facts
    server: Server
    #: Seconds for one request.
    seconds: float
    #: What came out so far, for the probes that follow.
    seen: dict[str, Any]

    async def chat(
        self,
        messages: Messages,
        fields: Mapping[str, Any] | None = None,
        *,
        max_tokens: int = SOME,
        stream: bool = False,
    ) -> Answer:
        """Ask the model, with these further `fields` of the request. Raises ModelError."""
        body = {"model": self.facts.model, "temperature": 0, **(fields or {}), "max_tokens": max_tokens}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        url = f"{self.facts.url}/chat/completions"
        assembler, start, first, progress = Assembler(), time.monotonic(), 0.0, False
        data = json.dumps({**body, "messages": list(messages)}).encode()
        async with self.connection.open("POST", url, body=data, seconds=self.seconds) as response:
            async for chunk in self._chunks(response, stream):
                if error := chunk.get("error"):
                    raise faults.in_reply(error, self.connection.endpoint, url)
                progress = progress or "prompt_progress" in chunk
                for _ in assembler.feed(chunk):
                    first = first or time.monotonic() - start
        total = time.monotonic() - start
        if not (assembler.begun or assembler.finish):
            raise ModelError(f"{url} sent no reply")
        message = assembler.message(set())
        think = [part for part in message.parts if isinstance(part, Think)]
        return Answer(
            "".join(part.text for part in message.parts if isinstance(part, Text)),
            "".join(part.text for part in think),
            str(think[0].extra.get("field", "")) if think else "",
            message.calls,
            assembler.finish,
            assembler.tokens(),
            assembler.timings,
            first or total,
            total,
            progress,
        )

    async def _chunks(self, response: Any, stream: bool) -> AsyncIterator[dict[str, Any]]:
        if not (stream and "event-stream" in response.headers.get("content-type", "")):
            yield _object(await read(response, MAX_ANSWER, self.seconds))
            return
        events, size, pieces, piece = Events(), 0, response.aiter_raw(), b"-"
        end = time.monotonic() + self.seconds
        while piece:
            late = f"the reply has not ended within {self.seconds:g} s"
            piece = await within(anext(pieces, b""), end - time.monotonic(), late)
            size += len(piece)
            if size > MAX_ANSWER:
                raise ModelError("the reply is too large")
            try:
                texts = events.feed(piece) if piece else events.close()
            except TooLong:
                raise ModelError("the reply has too long a line") from None
            for text in texts:
                if text == "[DONE]":
                    return
                yield _object(text)

    async def said(
        self, messages: Messages, fields: Mapping[str, Any] | None = None, *, stream: bool = False
    ) -> Answer:
        """Ask, and once more with room for a long thought when the first answer was nothing else."""
        answer = await self.chat(messages, fields, stream=stream)
        if answer.finish == "length" and not answer.text.strip() and not answer.calls:
            answer = await self.chat(messages, fields, stream=stream, max_tokens=MANY)
        return answer

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """The JSON that the server answers with at a path below its root. Raises ModelError."""
        url, data = self.connection.endpoint.root + path, json.dumps(body).encode()
        async with self.connection.open("POST", url, body=data, seconds=self.seconds) as response:
            return json.loads(await read(response, MAX_ANSWER, self.seconds))


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError("the reply is no JSON object")
    return found


async def _accepted(step: Awaitable[Answer]) -> bool:
    """Whether the server takes a request at all. What may pass (a queue, a network) tells nothing."""
    try:
        await step
    except faults.UnreachableError:
        raise
    except ModelError as error:
        # llama.cpp answers 500 when the template raises; the same request without the role has just worked.
        if error.retryable and not isinstance(error, faults.TemplateError) and " 500" not in str(error):
            raise
        return False
    return True


async def answers(bench: Bench) -> dict[str, Any]:
    """Whether the model answers at all. Only this probe's failure ends the probing: its error says why."""
    answer = await bench.chat(PLAIN, max_tokens=SOME)
    bench.seen["plain"] = answer
    return {}


async def roles(bench: Bench) -> dict[str, Any]:
    """Which roles the chat template takes: a system message; a call and its result."""
    system = [{"role": "system", "content": "Be brief."}, *PLAIN]
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "probe_add", "arguments": '{"a": 2, "b": "x"}'},
    }
    tool: Messages = [
        *CALL,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]
    return {
        "system_role": await _accepted(bench.chat(system, max_tokens=1)),
        "tool_role": await _accepted(bench.chat(tool, {"tools": [TOOL]}, max_tokens=1)),
    }


async def calls(bench: Bench) -> dict[str, Any]:
    """On which rung calls arrive: native calls streamed, whole, or not at all."""
    rest = {"rung": "schema" if bench.seen.get("schema") else "text"}
    try:
        whole = await bench.said(CALL, {"tools": [TOOL]})
        streamed = await bench.said(CALL, {"tools": [TOOL]}, stream=True)
    except faults.UnreachableError:
        raise
    except ModelError as error:
        if isinstance(error, faults.ToolsUnsupportedError | faults.UnparsedCallError):
            return rest
        raise
    bench.seen["calls"] = (whole, streamed)
    if _called(streamed):
        return {"rung": "native"}
    if _called(whole):
        return {"rung": "whole"}
    if any("probe_add" in answer.text + answer.think for answer in (whole, streamed)):
        return rest  # the model wrote a call, and the server did not see it
    raise Unknown("the model made no call when it was asked to")


def _called(answer: Answer) -> bool:
    """Whether the call arrived as it was asked for, not in pieces, with other types or under another name."""
    return any(
        call.name == "probe_add" and call.args is not None and call.args.keys() == {"a", "b"}
        for call in answer.calls
    )


async def parallel(bench: Bench) -> dict[str, Any]:
    """Whether several calls in one reply arrive."""
    if bench.seen.get("rung", "native") not in ("native", "whole"):
        raise Unknown("calls are written as text")
    answer = await bench.said(CALLS, {"tools": [TOOL]}, stream=bench.seen.get("rung") != "whole")
    if not answer.calls:
        raise Unknown("the model made no call")
    return {"parallel": len(answer.calls) > 1}


async def reasoning(bench: Bench) -> dict[str, Any]:
    """The field that reasoning comes in, and whether the server takes it back."""
    seen = [bench.seen.get("plain"), *bench.seen.get("calls", ())]
    name = next((answer.field for answer in seen if answer is not None and answer.field), "")
    if not name:
        return {"reasoning": ""}
    again = [*PLAIN, {"role": "assistant", "content": "OK", name: "They want OK."}, PLAIN[0]]
    return {"reasoning": name, "reasoning_back": await _accepted(bench.chat(again, max_tokens=1))}


async def schema(bench: Bench) -> dict[str, Any]:
    """Whether a JSON schema constrains a reply: to a word that no model would say."""
    shape = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [WORD]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": shape}}
    held = await _holds(bench, {"response_format": wanted})
    bench.seen["schema"] = held
    return {"schema": held}


async def grammar(bench: Bench) -> dict[str, Any]:
    """Whether a grammar constrains a reply; asked only where the server is known to have a field for it."""
    if not bench.server.grammar:
        return {"grammar": False}
    rule = f'root ::= "{WORD}"'
    return {"grammar": await _holds(bench, _filled(bench.server.grammar, "$grammar", rule))}


async def _holds(bench: Bench, fields: Mapping[str, Any]) -> bool:
    try:
        answer = await bench.said(PLAIN, fields)
    except faults.UnreachableError:
        raise
    except ModelError as error:
        if isinstance(error, faults.ConstraintUnsupportedError) or not error.retryable:
            return False
        raise
    if answer.finish == "length" and not answer.text.strip():
        raise Unknown("the model thought until the end")
    return WORD in answer.text


def _filled(value: Any, mark: str, text: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, mark, text) for key, item in value.items()}
    return text if value == mark else value


async def tokenize(bench: Bench) -> dict[str, Any]:
    """Whether the server counts tokens, and in which dialect."""
    text = "def add(a, b):\n    return a + b\n"
    for dialect, body in (
        ("llama.cpp", {"content": text}),
        ("vllm", {"model": bench.facts.model, "prompt": text}),
    ):
        try:
            found = await bench.post("/tokenize", body)
        except faults.UnreachableError:
            raise
        except (ModelError, ValueError):
            continue
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if isinstance(tokens, list) and tokens:
            return {"tokenize": dialect}
    return {"tokenize": ""}


async def cache(bench: Bench) -> dict[str, Any]:
    """The same prompt twice: whether the cache is reported, how fast prompts are read, whether progress is shown."""
    prompt = _prompt()
    asked = dict(bench.server.progress)
    cold = await bench.chat(prompt, asked, max_tokens=1, stream=True)
    warm = await bench.chat(prompt, max_tokens=1, stream=True)
    found: dict[str, Any] = {
        "cache_report": (warm.cached or 0.0) >= MOSTLY,
        "progress": bool(asked) and cold.progress,
    }
    if speed := _prefill(cold):
        found["prefill"] = speed
    return found


async def pinning(bench: Bench) -> dict[str, Any]:
    """Whether a conversation pinned to a slot finds its cache again after another one had its turn."""
    pin, slots = bench.server.pin, bench.facts.slots
    if not pin or slots < 2:
        return {"pinning": False}
    mine, other = _prompt(), _prompt()
    await bench.chat(mine, {pin: slots - 1}, max_tokens=1)
    await bench.chat(other, {pin: slots - 2}, max_tokens=1)
    again = await bench.chat(mine, {pin: slots - 1}, max_tokens=1)
    if again.cached is None:
        raise Unknown("the server does not report its cache")
    return {"pinning": again.cached >= MOSTLY}


async def speed(bench: Bench) -> dict[str, Any]:
    """How fast replies are written."""
    counting = [{"role": "user", "content": "Count from 1 to 40, separated by spaces."}]
    answer = await bench.chat(counting, max_tokens=96, stream=True)
    found = _decode(answer)
    if not found:
        raise Unknown("the reply was too short to tell")
    return {"decode": found}


def _prefill(answer: Answer) -> float:
    said, read_tokens = (
        _number(answer.timings.get("prompt_per_second")),
        _number(answer.timings.get("prompt_n")),
    )
    if said and read_tokens >= FEWEST_READ:
        return round(said, 1)
    computed = (answer.usage.prompt or 0) - (answer.usage.cached or 0)
    return round(computed / answer.first, 1) if computed >= FEWEST_READ and answer.first > 0 else 0.0


def _decode(answer: Answer) -> float:
    said, written = (
        _number(answer.timings.get("predicted_per_second")),
        _number(answer.timings.get("predicted_n")),
    )
    if said and written >= FEWEST_WRITTEN:
        return round(said, 1)
    count, seconds = (answer.usage.completion or 0) - 1, answer.total - answer.first
    return round(count / seconds, 1) if count >= FEWEST_WRITTEN and seconds > 0 else 0.0


def _number(value: object) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return float(value) if usable and isinstance(value, int | float) else 0.0


def _prompt() -> list[dict[str, Any]]:
    """A prompt of some hundred tokens that no cache holds yet: its beginning is random."""
    salt = secrets.token_hex(8)
    lines = "\n".join(f"{salt[n % 16]}{n}: item {n * 7 % 97} of shelf {n * 13 % 89}" for n in range(60))
    return [{"role": "user", "content": f"List {salt}.\n{lines}\nReply with the word OK."}]


#: Every probe in order, with what people are told while it runs. `schema` is before `calls`, which falls back on it.
PROBES: tuple[tuple[str, tuple[str, ...], Callable[[Bench], Awaitable[dict[str, Any]]]], ...] = (
    ("system and tool messages", ("system_role", "tool_role"), roles),
    ("JSON schema", ("schema",), schema),
    ("grammar", ("grammar",), grammar),
    ("tool calls, whole and streamed", ("rung",), calls),
    ("several calls at once", ("parallel",), parallel),
    ("reasoning", ("reasoning", "reasoning_back"), reasoning),
    ("counting tokens", ("tokenize",), tokenize),
    ("prefix cache and reading speed", ("cache_report", "progress", "prefill"), cache),
    ("slots", ("pinning",), pinning),
    ("writing speed", ("decode",), speed),
)
