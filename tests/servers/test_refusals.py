"""What servers refuse with: which error it is, what is tried again, which exit code and sentence it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolcli import asking
from poolcli.ending import EXIT_CODES, _outcome_of
from poolcli.errors import Exit, ModelError
from poolcli.messages import Call, Message, Result, user
from poolcli.models.faults import (
    ConstraintUnsupportedError,
    ContextExceededError,
    LoadingError,
    NotFoundError,
    RefusedArgumentsError,
    StalledError,
    TemplateError,
    ToolsUnsupportedError,
    UnparsedCallError,
    UnreachableError,
)
from tests.models.misbehaving import SSE, Play, answer, misbehaving
from tests.servers.harness import FIX, LOADING, OVER, ask, saying


def error(status: int, message: str, **more: object) -> bytes:
    return answer(status, {"error": {"message": message, "code": status, **more}})


def in_stream(status: int, message: str) -> bytes:
    return SSE + b"data: " + json.dumps({"error": {"message": message, "code": status}}).encode() + b"\n\n"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_asked_again_with_the_same_bytes(tmp_path: Path, status: int) -> None:
    asked = ask(tmp_path, error(status, "busy"), error(status, "busy"), saying("fine"))
    assert asked.error is None and asked.same_bytes
    told = asked.notices("retry")
    assert len(told) == 2 and f"answered {status}: busy" in told[0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept(tmp_path: Path, status: int) -> None:
    busy = answer(status, {"error": {"message": "busy"}}, "application/json", "Retry-After: 0.4")
    asked = ask(tmp_path, busy, saying("fine"))
    assert asked.error is None and asked.same_bytes
    assert "trying again in 0.4 s" in asked.notices("retry")[0]  # and not in 0.005 s


def test_a_retry_after_of_days_is_cut(tmp_path: Path) -> None:
    busy = answer(429, {"error": {"message": "busy"}}, "application/json", "Retry-After: 86400")
    asked = ask(tmp_path, busy, saying("fine"))
    assert asked.error is None
    assert f"in {asking.LONGEST_WAIT:g} s" in asked.notices("retry")[0]


def test_429_through_the_command(do) -> None:
    done = do(
        answer(429, {"error": {"message": "slow down"}}, "application/json", "Retry-After: 1"), FIX, OVER
    )
    assert done.code == 0 and done.same_bytes == [1]
    assert "slow down; trying again in 1 s" in done.notices("retry")[0]


#: Each class of fault: a server's bytes, the class, words of the sentence, and whether the same is sent again.
FAULTS: dict[str, tuple[Play, type[ModelError], str, bool]] = {
    "Ollama: no tools": (
        answer(400, {"error": {"message": "registry.ollama.ai/library/gemma3:4b does not support tools"}}),
        ToolsUnsupportedError, "gemma3:4b does not support tools", False,
    ),
    "vLLM: no tools": (
        answer(400, {"object": "error", "type": "BadRequestError", "code": 400, "message":
               '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'}),
        ToolsUnsupportedError, "--enable-auto-tool-choice", False,
    ),
    "llama.cpp: no tools": (
        error(500, "tools param requires --jinja flag", type="server_error"),
        ToolsUnsupportedError, "requires --jinja", False,
    ),
    "LM Studio: no tools": (
        answer(400, {"error": "This model does not support tool use."}),
        ToolsUnsupportedError, "does not support tool use", False,
    ),
    "others: no tools": (error(422, "tools is not supported"), ToolsUnsupportedError, "not supported", False),
    "llama.cpp: grammar": (
        error(400, "Failed to initialize samplers: failed to parse grammar", type="invalid_request_error"),
        ConstraintUnsupportedError, "failed to parse grammar", False,
    ),
    "llama.cpp: grammar with tools": (
        error(400, "Cannot use custom grammar constraints with tools."),
        ConstraintUnsupportedError, "custom grammar", False,
    ),
    "llama.cpp: schema": (
        error(500, 'JSON schema conversion failed:\nUnrecognized schema: {"type":"date"}'),
        ConstraintUnsupportedError, "Unrecognized schema", False,
    ),
    "llama.cpp: schema, newer": (
        error(500, "JSON schema error at #: unrecognized type date"),
        ConstraintUnsupportedError, "unrecognized type", False,
    ),
    "vLLM: schema": (
        error(400, "The provided JSON schema contains features not supported by xgrammar."),
        ConstraintUnsupportedError, "not supported by xgrammar", False,
    ),
    "LM Studio: format": (
        answer(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}),
        ConstraintUnsupportedError, "response_format", False,
    ),
    "llama.cpp: roles": (
        error(500, "\n------------\nWhile executing CallExpression at line 19\nError: Jinja Exception: "
              "Conversation roles must alternate user/assistant/user/assistant/...", type="server_error"),
        TemplateError, "roles must alternate", False,
    ),
    "vLLM: roles": (
        error(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        TemplateError, "roles must alternate", False,
    ),
    "no system role": (error(400, "System role not supported"), TemplateError, "System role", False),
    "system message elsewhere": (
        error(400, "System message must be at the beginning."), TemplateError, "at the beginning", False,
    ),
    "no user query": (error(500, "No user query found in messages."), TemplateError, "No user query", False),
    "LM Studio: template": (
        answer(400, {"error": 'Error rendering prompt with jinja template: "Unknown test: sequence".'}),
        TemplateError, "jinja template", False,
    ),
    "llama.cpp: unread output": (
        error(500, "The model produced output that does not match the expected peg-native format"),
        UnparsedCallError, "does not match the expected", True,
    ),
    "llama.cpp: unread output before": (
        error(500, "Failed to parse input at pos 184: </tool_call> context length exceeded"),
        UnparsedCallError, "at pos 184", True,
    ),
    "Ollama: unread output": (
        error(500, "error parsing tool call: raw='{\"a\":', err=unexpected end of JSON input"),
        UnparsedCallError, "error parsing tool call", True,
    ),
    "unread output in a stream": (
        in_stream(500, "The model produced output that does not match the expected peg-native format"),
        UnparsedCallError, "does not match the expected", True,
    ),
    "llama.cpp: its own arguments": (
        error(500, "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101]"),
        RefusedArgumentsError, "tool call arguments", False,
    ),
    "context": (
        error(400, "request (5405 tokens) exceeds the available context size (2048 tokens), try increasing it",
              type="exceed_context_size_error", n_prompt_tokens=5405, n_ctx=2048),
        ContextExceededError, "longer than the model's context window", False,
    ),
    "loading": (answer(503, LOADING), LoadingError, "is loading its model", True),
    "no such model": (error(404, "model 'm' not found"), ModelError, "model 'm' not found", False),
    "wrong key": (error(401, "Invalid API Key"), ModelError, "Invalid API Key", False),
    "redirect": (
        answer(307, b"", "text/plain", "Location: http://other.invalid/v1/chat/completions"),
        ModelError, "redirects to http://other.invalid", False,
    ),
    "packed": (
        answer(200, b"\x1f\x8b", "text/event-stream", "Content-Encoding: gzip"),
        ModelError, "packs its replies", False,
    ),
    "web page": (answer(200, b"<html>Welcome</html>", "text/html"), ModelError, "a web page", False),
    "wrong content type": (answer(200, b"hello", "text/plain"), ModelError, "sent text/plain", False),
    "bad request": (error(400, "messages: field required"), ModelError, "field required", False),
    "broken": (SSE, ModelError, "ended in the middle of the reply", True),
}  # fmt: skip


async def fault(play: Play) -> ModelError:
    from poolcli.models.endpoint import Endpoint
    from poolcli.models.openai import OpenAIModel

    async with misbehaving(play, facts={"/v1/models": answer(200, {"data": [{"id": "m"}]})}) as server:
        model = OpenAIModel(Endpoint(server.base_url, "m"))
        try:
            with pytest.raises(ModelError) as caught:
                [_ async for _ in model.stream((user("hello"),))]
        finally:
            await model.aclose()
    return caught.value


@pytest.mark.parametrize(("play", "kind", "words", "again"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_class_exit_code_and_sentence(
    play: Play, kind: type[ModelError], words: str, again: bool
) -> None:
    import asyncio

    error = asyncio.run(fault(play))
    assert type(error) is kind or (kind is ModelError and type(error) is NotFoundError)
    assert words in str(error) and error.retryable is again
    assert str(error).isprintable() and error.hint and error.hint.isprintable()
    outcome = _outcome_of(error)
    assert EXIT_CODES[outcome.status] == error.exit_code == Exit.MODEL == 6
    assert words in outcome.why and error.hint in outcome.why


def test_every_class_of_fault_is_in_the_table() -> None:
    from poolcli.models import faults

    ours = {
        kind
        for kind in vars(faults).values()
        if isinstance(kind, type) and issubclass(kind, ModelError) and kind is not ModelError
    }
    shown = {kind for _, kind, _, _ in FAULTS.values()}
    # Shown elsewhere: test_breaks.py; test_openai.py (a refused connection); a 404 is one that is explained.
    assert ours - shown == {StalledError, UnreachableError, NotFoundError}


def test_a_reply_that_the_server_could_not_read_is_sampled_again(tmp_path: Path) -> None:
    unread = FAULTS["llama.cpp: unread output"][0]
    asked = ask(tmp_path, *[unread] * asking.RESAMPLES, saying("fine"))
    assert asked.error is None and asked.same_bytes


def test_but_not_for_ever(tmp_path: Path) -> None:
    asked = ask(tmp_path, FAULTS["llama.cpp: unread output"][0])
    assert isinstance(asked.error, UnparsedCallError)
    assert len(asked.server.bodies) == asking.RESAMPLES + 1 and asked.same_bytes


# llama.cpp parses the arguments of earlier calls, and answers 500 to its own broken ones at every later turn.


def replayed(*plays: Play, arguments: dict | None, raw: str = "") -> tuple[list[dict], ModelError | None]:
    """The arguments that each request holds when a run with such a call goes on, and what it ends with."""
    import asyncio

    from poolcli.models.endpoint import Endpoint
    from poolcli.models.openai import OpenAIModel

    messages = (
        user("hello"),
        Message("assistant", (Call("c1", "shell", arguments, raw),)),
        Message("tool", (Result("c1", "shell", "ok"),)),
    )

    async def run() -> tuple[list[dict], ModelError | None]:
        async with misbehaving(*plays) as server:
            model = OpenAIModel(Endpoint(server.base_url, "m"))
            last: ModelError | None = None
            for _ in plays:
                try:
                    [_ async for _ in model.stream(messages)]
                    last = None
                    break
                except ModelError as error:
                    last = error
                    if not error.retryable:
                        break
            await model.aclose()
            bodies = [json.loads(body)["messages"] for body in server.bodies]
            sent = [
                m["tool_calls"][0]["function"]["arguments"]
                for body in bodies
                for m in body
                if "tool_calls" in m
            ]
            return sent, last

    return asyncio.run(run())


def test_broken_arguments_never_go_back_as_they_were_written() -> None:
    sent, error = replayed(saying("fine"), arguments=None, raw='{"command": "ls')
    assert sent == ["{}"] and error is None


REFUSED = FAULTS["llama.cpp: its own arguments"][0]


def test_arguments_that_a_server_refuses_all_the_same_are_left_out() -> None:
    sent, error = replayed(REFUSED, saying("fine"), arguments={"command": "ls"})
    assert sent == ['{"command": "ls"}', "{}"] and error is None


def test_once_then_it_is_an_error() -> None:
    sent, error = replayed(REFUSED, REFUSED, REFUSED, arguments={"command": "ls"})
    assert sent == ['{"command": "ls"}', "{}"]
    assert isinstance(error, RefusedArgumentsError) and not error.retryable
