from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from poolcli.errors import ConfigError, ModelError
from poolcli.messages import Call, Message, Result, Text, Think, system, user
from poolcli.models.base import Piece, Reply, Usage
from poolcli.models.dialects.native import Native
from poolcli.models.openai import ContextExceededError, Endpoint, Limits, OpenAIModel
from poolcli.models.rules import Conversation, Violation
from poolcli.models.script import FAULTS, load, parse
from poolcli.models.scripted import ScriptedServer, open_scripted
from poolcli.models.wire import Wire

TOOLS = [{"type": "function", "function": {"name": "edit", "parameters": {}}}]
START = (system("s"), user("fix it"))
QUICK = Limits(connect=5, first=0.2, idle=0.2, total=5)

REPAIR = '''
model = "actor"
window = 4096

[[reply]]
think = "The sign is wrong: it subtracts where it should add."
text = "I change – the sign."

[[reply.call]]
name = "edit"
[reply.call.args]
path = "calc.py"
old = """
def add(a, b):
    return a - b
"""
new = """
def add(a, b):
    return a + b
"""

[[reply]]
calls = [{name = "run_tests"}, {name = "read", args = {path = "a.py", offset = 3}, id = "mine"}]

[[reply]]
text = "Done."
usage = {prompt = 100, completion = 5, cached = 90}
finish = "length"
'''


async def ask(model: OpenAIModel, messages: Sequence[Message]) -> Reply:
    async for piece in model.stream(messages):
        if isinstance(piece, Reply):
            return piece
    raise AssertionError("no reply")


def answered(message: Message) -> list[Message]:
    return [Message("tool", (Result(call.id, call.name, "ok"),)) for call in message.calls]


async def play(script: str, rounds: int, **more: Any) -> tuple[list[Reply | ModelError], ScriptedServer]:
    """Talk to a script as the loop does: one request per round, the same bytes again after a fault."""
    found: list[Reply | ModelError] = []
    async with ScriptedServer(parse(script)) as server:
        model = OpenAIModel(Endpoint(server.base_url, "m", limits=QUICK, **more), TOOLS)
        messages = list(START)
        for _ in range(rounds):
            try:
                reply = await ask(model, messages)
            except ModelError as error:
                found.append(error)
                continue
            found.append(reply)
            messages += [reply.message, *answered(reply.message)]
            if not reply.message.calls:
                messages.append(user("go on"))
        await model.aclose()
    return found, server


def test_a_script_is_played(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(REPAIR)

    async def run() -> tuple[list[Piece], list[Reply]]:
        model = await open_scripted(path, TOOLS)
        messages, pieces, replies = list(START), [], []
        for _ in range(3):
            *some, reply = [piece async for piece in model.stream(messages)]
            assert isinstance(reply, Reply)
            pieces += some
            replies.append(reply)
            messages += [reply.message, *answered(reply.message)]
        assert (model.info.name, model.info.window) == ("actor", 4096)
        assert model.server.violations == []
        assert model.server.last_request["tools"] == TOOLS
        await model.aclose()
        return pieces, replies

    pieces, (first, second, third) = asyncio.run(run())
    assert first.message.parts == (
        Think("The sign is wrong: it subtracts where it should add.", {"field": "reasoning_content"}),
        Text("I change – the sign."),
        Call("call_1_1", "edit", {
            "path": "calc.py",
            "old": "def add(a, b):\n    return a - b\n",
            "new": "def add(a, b):\n    return a + b\n",
        }),
    )  # fmt: skip
    assert len(pieces) > 3  # streamed, not sent at once
    assert second.message.calls == (
        Call("call_2_1", "run_tests", {}),
        Call("mine", "read", {"path": "a.py", "offset": 3}),
    )
    assert [r.finish for r in (first, second, third)] == ["tool_calls", "tool_calls", "length"]
    assert first.usage.cached == 0
    # All but the last `]}` of the first request is known at the second, four bytes to the token.
    assert (
        first.usage.prompt is not None
        and first.usage.prompt - 1 <= (second.usage.cached or 0) <= first.usage.prompt
    )
    assert third.usage == Usage(100, 5, 90)


@pytest.mark.parametrize("fault", [*FAULTS, "http:500", "http:503"])
def test_after_a_fault_the_same_bytes_get_the_next_reply(fault: str) -> None:
    script = f'[[reply]]\ntext = "{"one two " * 20}"\nfault = "{fault}"\n[[reply]]\ntext = "fine"\n'
    (error, reply), server = asyncio.run(play(script, 2))
    assert isinstance(error, ModelError)
    assert error.retryable is (fault not in ("html", "context"))
    assert isinstance(error, ContextExceededError) is (fault == "context")
    assert isinstance(reply, Reply) and reply.message.text == "fine"
    assert server.violations == []
    assert (server.log.served, server.log.faults) == (1, 1)


def test_http_faults_carry_words_and_a_wait() -> None:
    script = '[[reply]]\nfault = "http:429"\nmessage = "busy"\nretry_after = 3\n'
    (error,), _ = asyncio.run(play(script, 1))
    assert isinstance(error, ModelError) and "429: busy" in str(error) and error.retry_after == 3


def test_the_same_request_gets_the_same_reply_again() -> None:
    """A client that was killed before it saved a reply asks again when it resumes."""

    async def run() -> list[str]:
        async with ScriptedServer(parse('[[reply]]\ntext = "one"\n[[reply]]\ntext = "two"')) as server:
            replies = []
            for messages in (START, START, (*START, Message("assistant", (Text("one"),)), user("and"))):
                model = OpenAIModel(Endpoint(server.base_url, "m"), TOOLS)  # a process of its own
                replies.append((await ask(model, messages)).message.text)
                await model.aclose()
            assert server.violations == []
            return replies

    assert asyncio.run(run()) == ["one", "one", "two"]


@pytest.mark.parametrize(("resume", "text"), [("false", "one"), ("true", "three")])
def test_a_resumed_conversation_starts_where_the_script_says(resume: str, text: str) -> None:
    script = f"resume = {resume}\n" + "".join(
        f'[[reply]]\ntext = "{name}"\n{more}' for name, more in
        [("one", ""), ("x", 'fault = "reset"\n'), ("two", ""), ("three", "")]
    )  # fmt: skip
    said = [Message("assistant", (Text(name),)) for name in ("one", "two")]

    async def run() -> str:
        async with ScriptedServer(parse(script)) as server:
            model = OpenAIModel(Endpoint(server.base_url, "m"))
            reply = await ask(model, (*START, said[0], user("a"), said[1], user("b")))
            await model.aclose()
            return reply.message.text

    assert asyncio.run(run()) == text


def test_a_script_that_has_run_out_says_so() -> None:
    (_, error), server = asyncio.run(play('[[reply]]\ntext = "one"', 2))
    assert isinstance(error, ModelError) and not error.retryable
    assert "no reply for this request: all 1 were given" in str(error)
    assert server.violations == []


def test_a_conversation_longer_than_the_window_is_refused() -> None:
    (error,), _ = asyncio.run(play('window = 10\n[[reply]]\ntext = "one"', 1))
    assert isinstance(error, ContextExceededError) and error.window == 10 and error.prompt > 10


def test_a_key_is_asked_for() -> None:
    script = 'key = "k"\n[[reply]]\ntext = "one"'
    (error,), _ = asyncio.run(play(script, 1))
    assert "401" in str(error)
    (reply,), _ = asyncio.run(play(script, 1, api_key="k"))
    assert isinstance(reply, Reply)


def test_broken_arguments_can_be_scripted() -> None:
    script = '[[reply]]\ncalls = [{name = "edit", raw = \'{"path": \'}]\n[[reply]]\ntext = "oh"'
    (first, second), server = asyncio.run(play(script, 2))
    assert isinstance(first, Reply) and first.message.calls == (Call("call_1_1", "edit", None, '{"path": '),)
    assert isinstance(second, Reply)  # which means that no broken arguments were sent back
    assert server.violations == []


# Rules: what a request must be.

Messages = list[dict[str, Any]]


def request(messages: Messages, **more: Any) -> bytes:
    return json.dumps({"stream": True, **more, "messages": messages}, separators=(",", ":")).encode()


S, U, A = ({"role": role, "content": role} for role in ("system", "user", "assistant"))
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
AC = {**A, "tool_calls": [CALL]}
T = {"role": "tool", "tool_call_id": "c", "content": "ok"}


@pytest.mark.parametrize(
    "messages",
    [[S, U], [U], [S, U, A, U], [S, U, AC, T], [S, U, AC, T, A, U], [U, AC, T, AC, T],
     [U, {**A, "tool_calls": [CALL, {**CALL, "id": "d"}]}, {**T, "tool_call_id": "d"}, T]],
)  # fmt: skip
def test_conversations_in_order(messages: Messages) -> None:
    Conversation().accept(request(messages))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "nothing is asked"),
        ([S], "nothing is asked"),
        ([S, U, A], "nothing is asked"),
        ([U, S], "system cannot follow user"),
        ([S, S, U], "system cannot follow system"),
        ([S, U, U], "user cannot follow user"),
        ([S, A, U], "assistant cannot follow system"),
        ([S, U, A, A, U], "assistant cannot follow assistant"),
        ([S, U, AC, T, U], "user cannot follow tool"),
        ([S, U, AC], "calls without a result: c"),
        ([S, U, AC, U], "user before the results of c"),
        ([S, U, AC, T, T], "which is no call that waits"),
        ([S, U, T], "which is no call that waits"),
        ([S, U, {**A, "tool_calls": [CALL, CALL]}, T], "without an id of its own"),
        (
            [S, U, {**A, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}, T],
            "not a JSON object",
        ),
        (
            [S, U, {**A, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}, T],
            "not a JSON object",
        ),
        ([S, {"role": "developer", "content": "x"}], "none of system, user, assistant, tool"),
        ([S, {"role": "user", "content": None}], "not a string"),
    ],
)
def test_conversations_out_of_order(messages: Messages, words: str) -> None:
    with pytest.raises(Violation, match=words):
        Conversation().accept(request(messages))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (request([{"role": "system", "content": "other"}, U, A, U]), "messages differ at byte"),
        (request([S, U, A, U], temperature=1), "constants or tools differ at byte"),
        (request([S, U, A, U], tools=TOOLS), "constants or tools differ at byte"),
        (request([S]), "does not begin with the one before"),
        (b'{"stream":true}', "does not end with its messages"),
        (request([S, U])[:-2] + b",{]}", "not JSON"),
        (request([S, U])[:-2] + b',"x"]}', "not an object"),
    ],
)
def test_a_request_begins_with_the_one_before(second: bytes, words: str) -> None:
    conversation = Conversation()
    conversation.accept(request([S, U]))
    with pytest.raises(Violation, match=words):
        conversation.accept(second)
    # A bad request changes nothing: the good one is still what the next has to begin with.
    assert conversation.accept(request([S, U, A, U])) == len(request([S, U])) - 2


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]]}",
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{}]}',
        request([S, U]).replace(b"true", b"null"),
    ],
)
def test_a_first_request_that_is_none(body: bytes) -> None:
    with pytest.raises(Violation):
        Conversation().accept(body)


def test_a_violation_answers_400_and_is_recorded() -> None:
    async def run() -> ScriptedServer:
        async with ScriptedServer(parse('[[reply]]\ntext = "one"\n[[reply]]\ntext = "two"')) as server:
            for text in ("a", "b"):
                model = OpenAIModel(Endpoint(server.base_url, "m"))
                if text == "a":
                    await ask(model, (user(text),))
                    continue
                with pytest.raises(ModelError, match="messages differ at byte") as caught:
                    await ask(model, (user(text),))
                assert not caught.value.retryable
                await model.aclose()
            return server

    server = asyncio.run(run())
    assert len(server.violations) == 1 and server.log.served == 1


# Script files.


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[[reply]\n", "not TOML.*line 1", ""),
        ("", "holds no reply", r"\[\[reply\]\]"),
        ("reply = 3", "reply must be a list", ""),
        ("reply = [3]", "reply 1: is not a table", "text, think"),
        ('colour = "red"\n[[reply]]', "unknown key 'colour'", "model, window"),
        ('[[reply]]\n[[reply]]\ntxt = "x"', "reply 2: unknown key 'txt'", "text, think"),
        ("[[reply]]\ntext = 3", "reply 1: text must be a string", ""),
        ("[[reply]]\ndelay = true", "reply 1: delay must be a number", ""),
        ('window = "x"\n[[reply]]', "window must be a whole number", ""),
        ('[[reply]]\nfault = "boom"', "reply 1: unknown fault 'boom'", "reset, drop.*http:300"),
        ('[[reply]]\nfault = "http:99"', "unknown fault", ""),
        ("[[reply]]\ncalls = [{}]", "reply 1, call 1: has no name", ""),
        ('[[reply]]\ncalls = [{name = "f", arg = {}}]', "reply 1, call 1: unknown key 'arg'", "name, args"),
        ('[[reply]]\ncalls = [{name = "f", args = {}, raw = ""}]', "both args and raw", ""),
        ('[[reply]]\ncalls = [{name = "f", args = {a = 2026-01-01}}]', "a value that JSON has not", ""),
        (
            "[[reply]]\nusage = {tokens = 3}",
            "reply 1, usage: unknown key 'tokens'",
            "prompt, completion, cached",
        ),
    ],
)
def test_a_bad_script_names_the_place_and_what_is_allowed(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.toml: .*{message}") as caught:
        load(path)
    assert re.search(hint, caught.value.hint)


def test_a_script_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        asyncio.run(open_scripted(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_the_documented_example_and_faults_are_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scripted-model.md").read_text()
    script = parse(page.split("```toml\n")[1].split("```")[0])
    assert len(script.replies) >= 3 and any(reply.fault for reply in script.replies)
    for fault, meaning in FAULTS.items():
        assert f"| `{fault}` | {meaning} |" in page


# On its own, for other programs.


def fetch(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as reply:
        return json.loads(reply.read() or b"null")


@pytest.fixture
def standalone(tmp_path: Path) -> Any:
    processes: list[subprocess.Popen[str]] = []

    def start(script: str) -> tuple[str, subprocess.Popen[str]]:
        path = tmp_path / "script.toml"
        path.write_text(script)
        process = subprocess.Popen(
            [sys.executable, "-m", "poolcli.models.scripted", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_standalone(standalone: Callable[[str], tuple[str, subprocess.Popen[str]]]) -> None:
    url, process = standalone('window = 5000\n[[reply]]\ntext = "one"')
    root = url.removesuffix("/v1")
    assert fetch(f"{root}/health") == {"status": "ok"}
    assert fetch(f"{url}/models")["data"][0]["id"] == "scripted"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(f"{root}/nothing")

    async def run() -> Reply:
        model = OpenAIModel(Endpoint(url), TOOLS)
        assert (await model.probe()).window == 5000
        reply = await ask(model, START)
        await model.aclose()
        return reply

    for _ in range(2):
        assert asyncio.run(run()).message.text == "one"
        log = fetch(f"{root}/_log")
        assert (log["served"], log["left"], log["violations"]) == (1, 0, [])
        assert fetch(f"{root}/_last")["messages"][1]["content"] == "fix it"
        assert log["sizes"] == [len(json.dumps(fetch(f"{root}/_last"), separators=(",", ":")))]
        fetch(f"{root}/_reset", b"")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_standalone_with_a_bad_script(standalone: Callable[[str], tuple[str, subprocess.Popen[str]]]) -> None:
    line, process = standalone("[[reply]]\ntxt = 1")
    assert line == "" and process.wait(10) == 2
    assert process.stderr is not None
    assert "unknown key 'txt'" in process.stderr.read()


def bodies(*conversations: Sequence[Message]) -> list[bytes]:
    return [Wire({"stream": True, "tools": TOOLS}, Native(TOOLS).render).body("m", c) for c in conversations]


ANSWERED = (*START, Message("assistant", (Text("Done."),)), user("No."))


def test_a_shorter_conversation_is_a_new_one_where_the_script_expects_it() -> None:
    first, second, shorter = bodies(START, ANSWERED, (START[0], user("so far")))
    conversation = Conversation(compaction=True)
    assert conversation.accept(first) == 0
    assert conversation.accept(second) == len(first) - 2
    known = conversation.accept(shorter)
    assert shorter.startswith(second[:known]) and known < len(first)
    assert (conversation.restarts, conversation.state.count) == (1, 2)
    (grown,) = bodies((START[0], user("so far"), *ANSWERED[2:]))
    assert conversation.accept(grown) == len(shorter) - 2  # append-only again
    assert conversation.restarts == 1


def test_what_begins_anew_keeps_the_rules() -> None:
    first, second = bodies(START, ANSWERED)
    (shorter, other) = bodies((START[0], user("so far")), (system("t"), user("so far")))
    strict = Conversation()
    strict.accept(second)
    with pytest.raises(Violation, match="does not begin with the one before"):
        strict.accept(shorter)
    for bad in (
        other,  # another system message
        shorter.replace(b'"stream":true', b'"stream":true,"seed":1'),
        shorter.replace(b'"role":"user"', b'"role":"assistant"'),
    ):
        conversation = Conversation(compaction=True)
        conversation.accept(first)
        conversation.accept(second)
        with pytest.raises(Violation):
            conversation.accept(bad)
        assert conversation.restarts == 0
