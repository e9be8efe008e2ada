"""A whole repair on each rung of the ladder: the real command, and servers that can do no more than that rung."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from poolcli.models.dialects.text import call_text
from tests.e2e.conftest import FIX, Pool

#: The repair that each server's model makes, one call per reply; the last reply is its last word.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("run_tests", {}),
    ("read", {"path": "calc.py"}),
    ("edit", FIX),
    ("run_tests", {}),
)
#: The same edit in the format that some models are trained on.
PATCH = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch\n"
LAST = "add subtracted; it adds now."
#: The same with nothing but a shell.
COMMANDS = (
    "python3 -m unittest -q",
    "cat calc.py",
    "python3 - <<'EOF'\nfrom pathlib import Path\nfile = Path('calc.py')\n"
    "file.write_text(file.read_text().replace('return a - b', 'return a + b'))\nEOF",
)


class Refused(Exception):
    """What the server answers 400 to a request that it cannot serve."""


class Server:
    """Plays the repair for requests of one rung, and answers all others as servers do that cannot serve them."""

    def __init__(self, rung: str, later: int = 0, model: str = "m") -> None:
        """Replies before number `later` are as on the first rung."""
        self.rung = rung
        self.model = model
        self.steps = STEPS
        self.later = later
        self.requests: list[dict[str, Any]] = []
        self.given = 0  # replies that are one step of the repair
        self.last = ""

    def count(self, request: dict[str, Any]) -> dict[str, Any]:
        """The usage of a request: what it shares with the one before, from its beginning on, is cached."""
        prompt = json.dumps([request.get("tools"), request["messages"]])
        pairs = enumerate(zip(prompt, self.last, strict=False))
        same = next((n for n, (new, old) in pairs if new != old), min(len(prompt), len(self.last)))
        self.last = prompt
        tokens = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 8}
        return {**tokens, "prompt_tokens_details": {"cached_tokens": same // 4}}

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The message to answer with; raises Refused."""
        self.requests.append(request)
        if self.rung in ("native", "whole", "as text") or self.given < self.later:
            return self._with_tools(request)
        if "tools" in request:
            raise Refused("this model does not support tools")
        if self.rung == "schema":
            if "response_format" not in request:
                raise Refused("send a response_format")
            return {"content": json.dumps(self._object())}
        if "response_format" in request or "grammar" in request:
            raise Refused("response_format is not supported")
        return {"content": self._text() if self.rung == "text" else self._block()}

    def _with_tools(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.rung == "as text":  # whatever it is sent
            return {"content": self._text()}
        if "tools" not in request:
            raise Refused("send tools")
        step = self._step()
        if step is None:
            return {"content": LAST}
        arguments = json.dumps(step[1])
        if self.rung == "whole" and request["stream"]:
            self.given -= 1
            arguments = arguments[:-1] + ', "'  # its parser of streams loses the end
        call = {"index": 0, "id": f"c{self.given}", "type": "function"}
        return {
            "content": None,
            "tool_calls": [{**call, "function": {"name": step[0], "arguments": arguments}}],
        }

    def _step(self) -> tuple[str, dict[str, Any]] | None:
        self.given += 1
        return self.steps[self.given - 1] if self.given <= len(self.steps) else None

    def _object(self) -> dict[str, Any]:
        step = self._step()
        if step is None:
            return {"thought": "green", "tool": "done", "answer": LAST}
        return {"thought": "next", "tool": step[0], "arguments": step[1]}

    def _text(self) -> str:
        step = self._step()
        return LAST if step is None else f"Next.\n\n{call_text(*step)}"

    def _block(self) -> str:
        self.given += 1
        if self.given > len(COMMANDS) + 1:
            return LAST
        # The first reply is asked for twice: by then the server's model is known to write nothing but blocks.
        return f"Next:\n```bash\n{COMMANDS[max(self.given - 2, 0)]}\n```"


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self._send(200, {"object": "list", "data": [{"id": server.model, "max_model_len": 32768}]})
            else:
                self._send(404, {"error": {"message": "not found"}})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": "not found"}})
                return
            request = json.loads(body)
            try:
                message = server.reply(request)
            except Refused as refusal:
                self._send(400, {"error": {"message": str(refusal), "type": "invalid_request_error"}})
                return
            finish = "tool_calls" if message.get("tool_calls") else "stop"
            usage = server.count(request)
            if not request["stream"]:
                choice = {"message": {"role": "assistant", **message}, "finish_reason": finish}
                self._send(200, {"choices": [choice], "usage": usage})
                return
            pieces = ({"delta": message}, {"delta": {}, "finish_reason": finish})
            events = [json.dumps({"choices": [{"index": 0, **piece}], "usage": usage}) for piece in pieces]
            text = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))
            self._send(200, text.encode(), "text/event-stream")

        def _send(self, status: int, body: Any, kind: str = "application/json") -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(rung: str, later: int = 0, model: str = "m") -> Iterator[tuple[Server, str]]:
    """A server of that rung and its base URL."""
    server = Server(rung, later, model)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def notices(pool: Pool, code: str) -> list[str]:
    return [e["data"]["text"] for e in pool.events() if e["type"] == "notice" and e["data"]["code"] == code]


@pytest.mark.parametrize(
    ("rung", "steps"),
    [
        ("native", []),
        ("whole", ["asking for whole replies"]),
        ("schema", ["held to a JSON schema"]),
        ("text", ["held to a JSON schema", "written as text"]),
        ("as text", ["written as text"]),
        ("shell", ["held to a JSON schema", "written as text", "one block of shell commands"]),
    ],
)
def test_a_repair_is_verified_on_every_rung(pool: Pool, rung: str, steps: list[str]) -> None:
    with serving(rung) as (server, url):
        done = pool("do", "fix the failing test", "--base-url", url, "--model", "m")
    assert done.returncode == 0, done.stderr + done.stdout
    assert pool.result()["status"] == "verified"
    said = notices(pool, "rung")
    assert len(said) == len(steps)
    assert all(step in text for step, text in zip(steps, said, strict=True)), said
    assert bool(notices(pool, "calls-recovered")) == (rung == "as text")
    last = server.requests[-1]
    assert ("tools" in last) == (rung in ("native", "whole"))
    assert last["stream"] == (rung != "whole")
    # Each conversation is the beginning of the next one, but for the steps down.
    sent = [request["messages"] for request in server.requests]
    steps_seen = sum(after[: len(before)] != before for before, after in itertools.pairwise(sent))
    assert steps_seen <= len(steps)
    assert pool.events()[0]["data"]["model"]["rung"] == "native"
    assert notices(pool, "cache-dropped") == notices(pool, "cut-silently") == []


@pytest.mark.parametrize("rung", ["schema", "text"])
def test_a_step_in_the_middle_of_a_run(pool: Pool, rung: str) -> None:
    """That the conversation begins anew, with fewer tokens, is no fault of the server's cache, nor of its window."""
    with serving(rung, later=2) as (server, url):
        done = pool("do", "fix the failing test", "--base-url", url, "--model", "m")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "tools" in server.requests[1] and "tools" not in server.requests[-1]
    assert notices(pool, "cache-dropped") == notices(pool, "cut-silently") == []


def test_the_rung_is_shown_and_kept(pool: Pool) -> None:
    """A person is told once; a run that goes on begins no higher than it ended."""
    with serving("text") as (server, url):
        first = pool("do", "fix the failing test", "--base-url", url, "--model", "m", "--max-turns", "2")
        assert first.returncode == 5, first.stderr
        assert "calls written as text" in first.stderr + first.stdout
        asked = len(server.requests)
        second = pool("resume", "--base-url", url, "--model", "m")
        assert second.returncode == 0, second.stderr + second.stdout
        later = server.requests[asked:]
    resumed = [e for e in pool.events() if e["type"] == "run.resumed"]
    assert resumed[0]["data"]["model"]["rung"] == "text"
    assert not any("tools" in request or "response_format" in request for request in later)
    assert (
        later[0]["messages"][: len(server.requests[asked - 1]["messages"])]
        == server.requests[asked - 1]["messages"]
    )


@pytest.mark.parametrize(
    "step",
    [
        ("apply_patch", {"patch": PATCH}),
        ("apply_patch", {"input": PATCH}),
        ("edit", FIX),
    ],
)
def test_a_model_trained_on_patches_is_offered_them(pool: Pool, step: tuple[str, dict[str, Any]]) -> None:
    """In the place of `edit`, which is understood; a run that goes on offers the same."""
    with serving("native", model="gpt-oss-20b") as (server, url):
        server.steps = (*STEPS[:2], step, STEPS[3])
        first = pool("do", "fix the failing test", "--base-url", url, "--max-turns", "2")
        assert first.returncode == 5, first.stderr
        done = pool("resume", "--base-url", url)
    assert done.returncode == 0, done.stderr + done.stdout
    assert pool.result()["status"] == "verified"
    for request in server.requests:
        offered = [tool["function"]["name"] for tool in request["tools"]]
        assert "apply_patch" in offered and "edit" not in offered
    assert server.requests[0]["tools"] == server.requests[-1]["tools"]
    # Rules and views see an edit of the file.
    edits = [e["data"] for e in pool.events() if e["type"] == "tool.started" and e["data"]["kind"] == "edit"]
    assert [(edit["name"], edit["title"]) for edit in edits] == [("edit", "Edit calc.py")]
