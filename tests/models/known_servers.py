"""Small servers on real sockets that answer in the documented shapes of llama.cpp, vLLM, SGLang, Ollama, LM Studio.

What a server does with a model is set by `Traits`, so that one which says one thing and does another can be had.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

MODEL = "qwen3-coder-30b"


class Traits(Struct):
    """What the server does."""

    kind: str = "llama.cpp"
    version: str = "b6789"
    window: int = 32768
    slots: int = 4
    models: list[str] = field(default_factory=lambda: [MODEL])
    key: str = ""
    #: Whether calls come as calls: in streams and in whole replies.
    streamed: bool = True
    whole: bool = True
    #: The model writes calls as text that the server does not see; or makes none at all.
    writes: bool = False
    idle: bool = False
    refuses_tools: bool = False
    several: bool = True
    system: bool = True
    tool: bool = True
    thinks: str = ""
    takes_thought: bool = True
    schema: bool = True
    grammar: bool = True
    reports_cache: bool = True
    #: Pinned slots lose their cache to other slots (the unified cache of llama.cpp).
    loses_slots: bool = False
    #: Questions that get no answer: paths.
    dumb: list[str] = field(default_factory=list)
    #: Ollama: whether the model is in memory, and how large its context is there.
    loaded: int = 0
    #: Answers 503 to so many requests first.
    loading: int = 0


class Known:
    """Such a server. `asked` has every request: (method, path, body, headers)."""

    def __init__(self, traits: Traits) -> None:
        self.traits = traits
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.url = ""
        self._cached: dict[int, str] = {}

    @property
    def chats(self) -> list[Any]:
        """The bodies of chat completions."""
        return [body for _, path, body, _ in self.asked if path == "/v1/chat/completions"]

    # What the server says of itself

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        traits = self.traits
        if traits.loading > 0:
            traits.loading -= 1
            return 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        if path in traits.dumb:
            return self._unknown(method, path)
        if path == "/v1/chat/completions":
            return self.chat(body)
        if path == "/v1/models":
            return 200, {"object": "list", "data": [self._listed(name) for name in traits.models]}
        return getattr(self, "_" + traits.kind.replace(".", "").replace(" ", ""))(method, path, body)

    def _unknown(self, method: str, path: str) -> tuple[int, Any]:
        if self.traits.kind == "lmstudio":  # it answers 200 to everything
            return 200, {"error": f"Unexpected endpoint or method. ({method} {path})"}
        return 404, {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}

    def _listed(self, name: str) -> dict[str, Any]:
        match self.traits.kind:
            case "llama.cpp":
                return {
                    "id": name,
                    "object": "model",
                    "owned_by": "llamacpp",
                    "meta": {"n_ctx_train": 262144},
                }
            case "vllm":
                window = self.traits.window
                return {"id": name, "owned_by": "vllm", "root": f"/models/{name}", "max_model_len": window}
            case "sglang":
                return {"id": name, "owned_by": "sglang", "root": name, "max_model_len": self.traits.window}
            case "ollama":
                return {"id": name, "object": "model", "created": 1, "owned_by": "library"}
        return {"id": name, "object": "model", "owned_by": "organization_owner"}

    def _llamacpp(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        traits = self.traits
        if path == "/props":
            return 200, {
                "default_generation_settings": {"n_ctx": traits.window, "params": {}},
                "total_slots": traits.slots,
                "model_path": f"/models/{traits.models[0]}.gguf",
                "build_info": traits.version,
            }
        if path == "/tokenize" and "content" in body:
            return 200, {"tokens": [1, 2, 3]}
        return self._unknown(method, path)

    def _vllm(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"version": self.traits.version}
        if path == "/tokenize":
            if "prompt" not in body:
                return 400, {"error": {"message": "prompt: field required", "code": 400}}
            return 200, {"count": 3, "max_model_len": self.traits.window, "tokens": [1, 2, 3]}
        return self._unknown(method, path)

    def _sglang(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/server_info":
            return 200, {
                "model_path": f"/models/{MODEL}",
                "tokenizer_path": f"/models/{MODEL}",
                "version": self.traits.version,
                "context_length": None,
                "internal_states": [{"effective_max_running_requests_per_dp": self.traits.slots}],
            }
        return self._unknown(method, path)

    def _ollama(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        traits = self.traits
        if path == "/api/version":
            return 200, {"version": traits.version}
        if path == "/api/ps":
            entry = {"name": f"{MODEL}:latest", "model": f"{MODEL}:latest", "context_length": traits.loaded}
            return 200, {"models": [entry] if traits.loaded else []}
        if path == "/api/show" and method == "POST":
            return 200, {
                "parameters": 'temperature 0.7\nstop "<|im_end|>"',
                "model_info": {"general.architecture": "qwen3moe", "qwen3moe.context_length": 262144},
                "capabilities": ["completion", "tools"],
                "modified_at": "2026-10-01T00:00:00Z",
            }
        return self._unknown(method, path)

    def _lmstudio(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/v0/models":
            return 200, {
                "data": [
                    {"id": "other", "type": "llm", "state": "not-loaded", "max_context_length": 8192},
                    {
                        "id": MODEL,
                        "type": "llm",
                        "state": "loaded",
                        "quantization": "Q4_K_M",
                        "max_context_length": 262144,
                        "loaded_context_length": self.traits.window,
                    },
                ]
            }
        return self._unknown(method, path)

    # What it does with the model

    def chat(self, body: Any) -> tuple[int, Any]:
        traits = self.traits
        if traits.kind == "ollama" and not traits.loaded:
            traits.loaded = traits.window
        messages = body["messages"]
        if messages[0]["role"] == "system" and not traits.system:
            return 500, {"error": {"message": "Jinja Exception: system role not supported", "code": 500}}
        if any(m["role"] == "tool" for m in messages) and not traits.tool:
            return 400, {
                "error": {"message": "Conversation roles must alternate user/assistant", "code": 400}
            }
        if any(traits.thinks in m for m in messages if traits.thinks) and not traits.takes_thought:
            return 400, {"error": {"message": f"unknown field {traits.thinks}", "code": 400}}
        if body.get("tools") and traits.refuses_tools:
            return 400, {"error": {"message": f"registry/{MODEL} does not support tools", "code": 400}}
        message = self._message(body)
        usage = self._usage(body)
        reply: dict[str, Any] = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            **usage,
        }
        return 200, reply

    def _message(self, body: Any) -> dict[str, Any]:
        traits, last = self.traits, body["messages"][-1]["content"]
        message: dict[str, Any] = {"role": "assistant", "content": "OK"}
        if traits.thinks:
            message[traits.thinks] = "They want OK."
        shape = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if traits.schema and (only := shape.get("properties", {}).get("word", {}).get("enum")):
            message["content"] = json.dumps({"word": only[0]})
        fields = {"llama.cpp": body.get("grammar"), "sglang": body.get("ebnf")}
        fields["vllm"] = body.get("structured_outputs", {}).get("grammar")
        if (rule := fields.get(traits.kind)) and traits.grammar:
            message["content"] = rule.split('"')[1]
        if "probe_add" in last and body.get("tools") and not traits.idle:
            calls = [("three", 2), ("six", 5)][: 2 if "twice" in last and traits.several else 1]
            works = traits.streamed if body.get("stream") else traits.whole
            if works and not traits.writes:
                message["content"] = ""
                message["tool_calls"] = [
                    {
                        "id": f"c{n}",
                        "index": n,
                        "type": "function",
                        "function": {"name": "probe_add", "arguments": json.dumps({"a": a, "b": b})},
                    }
                    for n, (b, a) in enumerate(calls)
                ]
            elif traits.writes:
                message["content"] = '<tool_call>{"name": "probe_add", "arguments": {"a": 2}}</tool_call>'
            else:
                message["content"] = ""
        if "Count from" in last:
            message["content"] = " ".join(map(str, range(1, 41)))
        return message

    def _usage(self, body: Any) -> dict[str, Any]:
        """Tokens of four characters, and those of them that the slot holds."""
        traits, text = self.traits, json.dumps(body["messages"])
        slot = body.get("id_slot", 0)
        old = self._cached.get(slot, "")
        same = next(
            (n for n, (a, b) in enumerate(zip(old, text, strict=False)) if a != b), min(len(old), len(text))
        )
        if traits.loses_slots:
            self._cached.clear()
        self._cached[slot] = text
        prompt, cached = len(text) // 4, same // 4
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": 80}
        usage["prompt_tokens_details"] = {"cached_tokens": cached} if traits.reports_cache else None
        found: dict[str, Any] = {"usage": usage}
        if traits.kind == "llama.cpp":
            found["timings"] = {
                "cache_n": cached,
                "prompt_n": prompt - cached,
                "prompt_per_second": 1200.0,
                "predicted_n": 80,
                "predicted_per_second": 40.0,
            }
        return found


def _stream(reply: Any, progress: bool) -> Iterator[bytes]:
    chunks: list[Any] = []
    if progress:
        chunks.append(
            {"choices": [{"delta": {}}], "prompt_progress": {"total": 9, "cache": 0, "processed": 9}}
        )
    choice = reply["choices"][0]
    chunks.append({"choices": [{"index": 0, "delta": choice["message"]}]})
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append({**reply, "choices": []})
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n".encode()
        time.sleep(0.002)  # so that a clock can measure something
    yield b"data: [DONE]\n\n"


@contextmanager
def serving(traits: Traits | None = None, **more: Any) -> Iterator[Known]:
    """A running server of these traits."""
    known = Known(traits or Traits(**more))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply("GET", None)

        def do_POST(self) -> None:
            self._reply("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, method: str, body: Any) -> None:
            known.asked.append((method, self.path, body, dict(self.headers)))
            if known.traits.key and self.headers.get("Authorization") != f"Bearer {known.traits.key}":
                status, answer = 401, {"error": {"message": "Invalid API Key", "code": 401}}
            else:
                status, answer = known.answer(method, self.path, body)
            self.send_response(status)
            streamed = status == 200 and isinstance(body, dict) and body.get("stream")
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            if streamed:
                asked = bool(body.get("return_progress")) and known.traits.kind == "llama.cpp"
                for piece in _stream(answer, asked):
                    self.wfile.write(piece)
                    self.wfile.flush()
            else:
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
