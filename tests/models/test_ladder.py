"""Stepping down the ladder: servers that cannot do what they are asked, on real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from poolcli.errors import ModelError
from poolcli.messages import Call, Message, Result, system, user
from poolcli.models.base import Notice, Piece, Reply
from poolcli.models.dialects.base import lowest
from poolcli.models.dialects.choose import make
from poolcli.models.dialects.text import call_text
from poolcli.models.endpoint import Endpoint, Limits
from poolcli.models.ladder import LadderModel, open_ladder
from poolcli.models.llama_server import start
from poolcli.models.local import demo_model
from poolcli.models.profile import Profile
from poolcli.tools import contract, registry
from tests.models.misbehaving import SSE, Misbehaving, Play, answer, event, good, misbehaving
from tests.models.random_gguf import random_weights, tokens
from tests.models.test_dialects import TOOLS

QUICK = Limits(connect=5, first=5, idle=5, total=20)
MEASURED = Profile("u", "m", probed=1.0)


def refused(status: int, message: str, type: str = "invalid_request_error") -> bytes:
    return answer(status, {"error": {"code": status, "message": message, "type": type}})


NO_TOOLS = refused(400, "registry.ollama.ai/library/m does not support tools")
NO_SCHEMA = refused(400, "response_format is not supported")


def call(arguments: str, name: str = "read", *, text: str = "", whole: bool = False) -> bytes:
    """A reply with one call in its fields."""
    made = {"index": 0, "id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}
    if whole:
        message = {"role": "assistant", "content": text, "tool_calls": [made]}
        return answer(200, {"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    return SSE + event({"tool_calls": [made]}) + event({}, "tool_calls") + b"data: [DONE]\n\n"


READ = '{"path": "a.py"}'
BROKEN = call('{"path": "a')
AS_TEXT = good(call_text("read", {"path": "a.py"}))
STEP = good('{"thought": "look", "tool": "read", "arguments": {"path": "a.py"}}')


class Talk:
    """A conversation with a server that plays; `ask` goes one turn further in it."""

    def __init__(self, model: LadderModel, server: Misbehaving, told: list[tuple[str, str]]) -> None:
        self.model, self.server, self.told = model, server, told
        self.messages: list[Message] = [system("s"), user("u")]
        self.notices: list[Notice] = []

    async def ask(self) -> Reply:
        pieces = [piece async for piece in self.model.stream(self.messages)]
        *before, reply = [piece for piece in pieces if isinstance(piece, Notice | Reply)]
        self.notices += [piece for piece in before if isinstance(piece, Notice)]
        assert isinstance(reply, Reply)
        self.messages.append(reply.message)
        self.messages += [Message("tool", (Result(c.id, c.name, "1\tx"),)) for c in reply.message.calls]
        if not reply.message.calls:
            self.messages.append(user("go on"))
        return reply

    @property
    def rung(self) -> str:
        return self.model.info.rung

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.server.bodies]

    @property
    def codes(self) -> list[str]:
        return [notice.code for notice in self.notices]


def talk(*plays: Play, turns: int = 1, profile: Profile | None = None, **more: Any) -> Talk:
    """What came of so many turns with a server that plays these."""

    async def run() -> Talk:
        async with misbehaving(*plays) as server:
            told: list[tuple[str, str]] = []
            endpoint = Endpoint(server.base_url, "m", limits=QUICK)
            remember = lambda rung, reason: told.append((rung, reason))  # noqa: E731
            model = open_ladder(endpoint, TOOLS, profile=profile, remember=remember, **more)
            talking = Talk(model, server, told)
            try:
                for _ in range(turns):
                    await talking.ask()
            finally:
                await model.aclose()
            return talking

    return asyncio.run(run())


def assert_append_only(bodies: Sequence[bytes]) -> None:
    for before, after in itertools.pairwise(bodies):
        assert after.startswith(before[:-2])


# Servers without tools.


@pytest.mark.parametrize(
    "play",
    [
        refused(500, "tools param requires --jinja flag", "server_error"),
        refused(400, "registry.ollama.ai/library/phi:3b does not support tools", "api_error"),
        refused(
            400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
        refused(400, "This model does not support function calling"),
        refused(422, "`tools` is not supported by this model"),
        answer(400, {"object": "error", "message": "tool_choice is not supported", "code": 400}),
    ],
    ids=["llama.cpp", "ollama", "vllm", "function calling", "field", "flat error"],
)
def test_a_server_that_refuses_tools_is_asked_anew_in_the_same_breath(play: bytes) -> None:
    found = talk(play, STEP, turns=2)
    first, second, third = found.requests
    assert "tools" in first and "response_format" not in first
    assert "tools" not in second and second["response_format"]["type"] == "json_schema"
    assert "## read\n" in second["messages"][0]["content"]
    assert found.rung == "schema" and found.codes == ["rung"]
    assert found.notices[0].text.startswith("the server's own tool calls do not work here (")
    assert found.notices[0].text.endswith("; going on with replies held to a JSON schema")
    assert [rung for rung, _ in found.told] == ["schema"]
    assert_append_only(found.server.bodies[1:])
    assert (
        third["messages"][2]["content"]
        == '{"thought": "look", "tool": "read", "arguments": {"path": "a.py"}}'
    )


def test_down_to_text_within_one_request() -> None:
    found = talk(NO_TOOLS, NO_SCHEMA, AS_TEXT)
    assert found.rung == "text" and found.codes == ["rung", "rung"]
    assert [rung for rung, _ in found.told] == ["text"]  # nothing came on the one between
    assert found.messages[2].calls[0].args == {"path": "a.py"}
    assert not {"tools", "response_format", "grammar"} & found.requests[-1].keys()


def test_a_schema_that_was_measured_to_be_of_no_use_is_not_tried() -> None:
    assert talk(NO_TOOLS, AS_TEXT, profile=MEASURED).rung == "text"
    found = talk(NO_TOOLS, STEP, profile=Profile("u", "m", grammar=True, probed=1.0))
    assert found.rung == "schema" and "grammar" in found.requests[1]


def test_tools_that_no_grammar_can_be_made_of() -> None:
    """The same parameters would be in a schema, so that is not tried."""
    found = talk(refused(400, "Failed to initialize samplers: failed to parse grammar"), AS_TEXT)
    assert found.rung == "text"


def test_a_server_that_ignores_the_schema() -> None:
    """It fails open: a reply in prose was held to nothing. It is asked for again, in a way that needs no help."""
    found = talk(NO_TOOLS, good("Let me look at the file."), AS_TEXT)
    assert (found.rung, found.codes, len(found.requests)) == ("text", ["rung", "rung"], 3)
    # One whose calls can be read all the same is used.
    found = talk(NO_TOOLS, AS_TEXT, AS_TEXT, turns=2)
    assert (found.rung, len(found.requests)) == ("text", 3)


def test_an_empty_reply_says_nothing_about_the_schema() -> None:
    found = talk(NO_TOOLS, SSE + event({}, "stop") + b"data: [DONE]\n\n", STEP, turns=2)
    assert found.rung == "schema"


# Calls that arrive broken.


def test_streamed_calls_that_are_broken_are_asked_for_whole() -> None:
    found = talk(BROKEN, BROKEN, BROKEN, call(READ, whole=True), turns=4)
    assert [r["stream"] for r in found.requests] == [True, True, True, False, False]
    assert found.rung == "whole" and found.codes == ["rung"]
    assert found.messages[6].calls[0].args == {"path": "a.py"}, "the third was asked for again at once"
    assert "tools" in found.requests[-1]
    assert_append_only(found.server.bodies[:3])
    assert_append_only(found.server.bodies[3:])


def test_a_stream_that_loses_its_calls() -> None:
    lost = SSE + event({"tool_calls": []}) + event({}, "tool_calls") + b"data: [DONE]\n\n"
    assert talk(lost, lost, lost, call(READ, whole=True), turns=3).rung == "whole"


def test_whole_calls_that_are_broken_too() -> None:
    whole = call('{"path": "a', whole=True)
    found = talk(BROKEN, BROKEN, BROKEN, whole, whole, whole, STEP, turns=5)
    assert found.rung == "schema" and [rung for rung, _ in found.told] == ["whole", "schema"]


def test_a_good_reply_in_between_forgives() -> None:
    found = talk(BROKEN, BROKEN, call(READ), BROKEN, BROKEN, call(READ), turns=6)
    assert found.rung == "native" and not found.notices and not found.told


def test_a_reply_that_was_cut_off_is_not_the_servers_fault() -> None:
    made = {"index": 0, "id": "x", "function": {"name": "write", "arguments": '{"path": "a'}}
    cut = SSE + event({"tool_calls": [made]}) + event({}, "length") + b"data: [DONE]\n\n"
    assert talk(cut, turns=5).rung == "native"


def test_calls_that_come_as_text() -> None:
    found = talk(AS_TEXT, turns=5)
    assert all(message.calls for message in found.messages if message.role == "assistant")
    assert found.codes == ["calls-recovered", "rung"], "people are told once, then what is done about it"
    assert [("tools" in request) for request in found.requests] == [True, True, True, False, False]
    assert len(found.requests) == 5, "a reply that could be read is not asked for again"
    assert found.rung == "text" and found.told[0][0] == "text"
    assert found.requests[2]["messages"][2]["tool_calls"][0]["function"]["arguments"] == READ


def test_a_final_answer_between_calls_as_text_is_no_good_reply() -> None:
    """It shows nothing about calls, but it does break the row: three replies have to say the same."""
    assert talk(AS_TEXT, AS_TEXT, good("Done."), AS_TEXT, AS_TEXT, good("Done."), turns=6).rung == "native"


# What the server cannot parse, and what its template refuses.

UNPARSED = refused(500, "The model produced output that does not match the expected peg-native format")


def test_a_reply_that_the_server_cannot_read_is_sampled_once_more() -> None:
    async def run() -> None:
        async with misbehaving(UNPARSED, call(READ), UNPARSED, UNPARSED, STEP) as server:
            model = open_ladder(Endpoint(server.base_url, "m", limits=QUICK), TOOLS)
            talking = Talk(model, server, [])
            with pytest.raises(ModelError) as caught:
                await talking.ask()
            assert caught.value.retryable and talking.rung == "native"
            await talking.ask()
            assert server.bodies[0] == server.bodies[1]
            with pytest.raises(ModelError):
                await talking.ask()
            await talking.ask()
            assert talking.rung == "schema" and talking.codes == ["rung"]
            await model.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "words", ["System role not supported", "Conversation roles must alternate user/assistant"]
)
def test_a_template_without_a_system_role(words: str) -> None:
    found = talk(refused(500, f"Jinja Exception: {words}"), call(READ), turns=2)
    assert [m["role"] for m in found.requests[1]["messages"]] == ["user"]
    assert found.requests[1]["messages"][0]["content"] == "s\n\nu"
    assert found.rung == "native" and found.codes == ["roles"] and found.model.profile.system_role is False
    assert found.told == [("native", found.told[0][1])], "remembered, though the rung is the same"
    assert_append_only(found.server.bodies[1:])


def test_where_no_rung_works_none_is_blamed() -> None:
    """A template that refuses everything is mended by the user; the next run then begins as this one did."""

    async def run() -> None:
        async with misbehaving(refused(500, "Jinja Exception: oh dear")) as server:
            told: list[str] = []
            model = open_ladder(
                Endpoint(server.base_url, "m"), TOOLS, remember=lambda rung, reason: told.append(rung)
            )
            with pytest.raises(ModelError):
                await Talk(model, server, []).ask()
            assert model.info.rung == "text" and told == []
            assert (model.profile.rung, model.profile.system_role) == ("native", True)
            await model.aclose()

    asyncio.run(run())


def test_a_template_without_a_tool_role() -> None:
    play = refused(400, "Only user and assistant roles are supported!")
    found = talk(call(READ), play, call(READ), turns=3)
    assert [m["role"] for m in found.requests[2]["messages"]] == ["system", "user", "assistant", "user"]
    assert found.model.profile.tool_role is False and found.model.profile.system_role is True
    assert found.rung == "native" and found.codes == ["roles"]
    assert_append_only(found.server.bodies[2:])


def test_a_template_that_refuses_everything() -> None:
    with pytest.raises(ModelError, match="alternate") as caught:
        talk(refused(500, "Jinja Exception: Conversation roles must alternate"))
    assert not caught.value.retryable


# The lower rungs.


def test_a_model_that_writes_blocks_of_commands_gets_what_it_can_do() -> None:
    block = good("Let me look.\n```bash\ncat a.py\n```")
    found = talk(NO_TOOLS, block, block, profile=MEASURED, turns=2)
    assert found.rung == "shell" and found.codes == ["rung", "rung"]
    assert found.messages[2].calls == (Call("call_1", "shell", {"command": "cat a.py"}),)
    assert "one fenced block" in found.requests[-1]["messages"][0]["content"]


def test_a_model_that_can_make_calls_may_show_commands_in_its_answer() -> None:
    answer = good("Done. Try it:\n```bash\npython a.py\n```")
    found = talk(NO_TOOLS, AS_TEXT, answer, profile=MEASURED, turns=2)
    assert found.rung == "text" and not found.messages[-2].calls


def test_without_a_shell_there_is_no_shell_rung() -> None:
    async def run() -> None:
        async with misbehaving(NO_TOOLS, good("```bash\nls\n```")) as server:
            model = open_ladder(Endpoint(server.base_url, "m", limits=QUICK), TOOLS[:4], profile=MEASURED)
            talking = Talk(model, server, [])
            await talking.ask()
            assert talking.rung == "text"
            await model.aclose()

    asyncio.run(run())


def test_at_the_bottom_the_error_is_the_error() -> None:
    with pytest.raises(ModelError, match="does not support tools"):
        talk(NO_TOOLS, profile=Profile("u", "m", rung="shell"))


def test_it_begins_where_it_ended_and_never_goes_up() -> None:
    found = talk(AS_TEXT, profile=Profile("u", "m", rung="text"), turns=2)
    assert found.rung == "text" and "tools" not in found.requests[0]
    assert talk(AS_TEXT, rung="text").rung == "text"
    assert talk(AS_TEXT, profile=Profile("u", "m", rung="text"), rung="native").rung == "text"
    assert (
        talk(good("```bash\nls\n```"), profile=Profile("u", "m", rung="text"), rung="shell").rung == "shell"
    )
    assert [lowest(*pair) for pair in (("native", "text"), ("shell", "text"), ("", "whole"), ("x", ""))] == [
        "text", "shell", "whole", "native",
    ]  # fmt: skip


def test_what_was_found_out_stays_when_the_rung_changes() -> None:
    """The model that the server listed, its window, and one connection for all of it."""

    async def run() -> None:
        listed = answer(200, {"data": [{"id": "found", "max_model_len": 4096}]})
        async with misbehaving(listed, NO_TOOLS, STEP) as server:
            model = open_ladder(Endpoint(server.base_url, limits=QUICK), TOOLS)
            info = await model.probe()
            assert (info.name, info.window, info.rung) == ("found", 4096, "native")
            talking = Talk(model, server, [])
            await talking.ask()
            assert json.loads(server.bodies[-1])["model"] == "found"
            assert (model.info.name, model.info.window, model.info.rung) == ("found", 4096, "schema")
            await model.aclose()

    asyncio.run(run())


# The real llama.cpp server with a model that knows nothing: what holds its replies is the constraint alone.

SEEDS = 6
#: Bytes that are no UTF-8 in any order. llama.cpp's grammars let them through, and its parser of replies then
#: refuses them; a model that has learnt anything does not write them.
WILD = re.compile(rb"\\x[89a-f][0-9a-f]")


@pytest.mark.parametrize("constraint", ["schema", "grammar"])
def test_random_weights_under_a_constraint_make_valid_calls(tmp_path: Path, constraint: str) -> None:
    known = Profile("u", "m", rung="schema", schema=constraint == "schema", grammar=True, probed=1.0)
    contracts = {name: tool.contract for name, tool in registry.load().items()}

    async def run() -> list[Message]:
        gguf = random_weights(demo_model(), tmp_path / "random.gguf", seed=1)
        wild = [[number, False] for number, token in enumerate(tokens(gguf)) if WILD.search(token)]
        server = await start(gguf, ctx=4096, threads=1, log=tmp_path / "log")
        replies = []
        try:
            for seed in range(SEEDS):
                sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed}
                extra = {**sampling, "logit_bias": wild}
                model = open_ladder(
                    Endpoint(server.base_url, server.name, server.api_key, extra_body=extra),
                    TOOLS,
                    profile=known,
                )
                try:
                    pieces = [p async for p in model.stream([system("s"), user("hello")])]
                finally:
                    await model.aclose()
                assert model.info.rung == "schema"
                assert not [p for p in pieces if isinstance(p, Notice)]
                assert isinstance(pieces[-1], Reply)
                assert pieces[-1].finish == "stop", pieces[-1]
                message = pieces[-1].message
                if constraint == "grammar" and message.calls:
                    # Goes back byte for byte, so that the server finds it in its cache.
                    written = "".join(p.text for p in pieces if isinstance(p, Piece))
                    (sent,) = make("schema", TOOLS, profile=known).render(message)
                    assert sent["content"] == written
                replies.append(message)
        finally:
            await server.stop()
        return replies

    replies = asyncio.run(run())
    for message in replies:
        if not message.calls:
            assert message.text.strip(), "done, in so many words"
            continue
        (call,) = message.calls
        assert call.args is not None
        contract.check(
            contracts[call.name], call.args
        )  # raises for what is missing, unknown or of a wrong type
    assert len({message.calls[0].name for message in replies if message.calls}) > 1
