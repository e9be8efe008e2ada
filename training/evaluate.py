"""pass@1 of a GGUF file on unseen instances, in a short loop of its own against the real llama.cpp server.

Quicker than `benchmarks/demo_model.py`, which goes through `pool do`; tests run in this process. Needs the
extra `local`. A loop's tool results and messages are pool's.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx
import xllamacpp

from poolcli.tools.base import ToolError
from poolcli.tools.edit import edited_text, replace
from poolcli.tools.read import numbered
from poolcli.verdict.evidence import Report
from training.checks import first_message, run_checks, still_failing
from training.family import SPLITS, Instance, make_instance

Message = dict[str, Any]


def tool(name: str, *parameters: str) -> dict[str, Any]:
    """A tool description as the server needs it to read the model's calls."""
    schema = {
        "type": "object",
        "properties": {p: {"type": "string"} for p in parameters},
        "required": list(parameters),
    }
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


TOOLS = [tool("read", "path"), tool("edit", "path", "old", "new"), tool("run_tests")]


def serve(model: Path, context: int = 4096) -> Any:
    """A running server; it ends with the object."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx, parameters.n_parallel, parameters.port = context, 1, 0
    parameters.cpuparams.n_threads = 1
    return xllamacpp.Server(parameters)


class Attempt:
    """One conversation about one instance."""

    def __init__(
        self, client: httpx.Client, instance: Instance, temperature: float = 0.0, seed: int = 0
    ) -> None:
        self.client, self.instance, self.temperature, self.seed = client, instance, temperature, seed
        self.files = dict(instance.files)
        self.edits = 0
        self.problem = ""
        self.messages: list[Message] = [first_message(self.checks(), instance.task)]

    def checks(self) -> Report:
        """pool's report on the present files."""
        return run_checks(self.files, self.instance.module, self.instance.test)

    def call(self, name: str, arguments: dict[str, str]) -> str:
        """One tool's result."""
        path = arguments.get("path", "")
        if name == "run_tests":
            return str(self.checks().text)
        if path not in self.files:
            return f"error: {path} does not exist"
        if name == "read":
            return numbered(self.files[path])
        self.edits += 1
        try:
            done = replace(self.files[path], arguments.get("old", ""), arguments.get("new", ""), path=path)
        except ToolError as error:
            return f"error: {error}"
        self.files[path] = done.text
        return edited_text(path, *done.lines)

    def run(self, turns: int = 16) -> bool:
        """Talk until the model ends or the turns are over. Whether the untouched tests pass then."""
        for turn in range(turns):
            body = {
                "messages": self.messages, "tools": TOOLS, "temperature": self.temperature,
                "seed": self.seed * 100 + turn, "max_tokens": 300, "cache_prompt": True,
            }  # fmt: skip
            response = self.client.post("/v1/chat/completions", json=body)
            if response.status_code != 200:
                self.problem = f"http {response.status_code}"
                break
            choice = response.json()["choices"][0]
            if choice["finish_reason"] == "length":
                self.problem = "length"
                break
            message = choice["message"]
            self.messages.append(message)
            for call in message.get("tool_calls") or ():
                function = call["function"]
                try:
                    said = self.call(function["name"], json.loads(function["arguments"]))
                except Exception as error:  # a module that no longer compiles, for example
                    said = f"error: {error}"
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": said})
            if not message.get("tool_calls"):
                if self.solved() or self.messages[-2]["role"] == "user":
                    break
                self.messages.append(still_failing(self.checks()))
        return self.solved()

    def solved(self) -> bool:
        """Whether all tests pass, unchanged."""
        if self.files[self.instance.test] != self.instance.tests:
            return False
        try:
            return bool(self.checks().ok)
        except Exception:
            return False


def show(attempt: Attempt) -> None:
    """Print a conversation."""
    bugs = [(b.kind, b.mutation, b.bad.strip(), b.good.strip()) for b in attempt.instance.bugs]
    print("=" * 80, bugs, attempt.problem, sep="\n")
    for message in attempt.messages:
        calls = [call["function"]["arguments"] for call in message.get("tool_calls") or ()]
        print(f"[{message['role']}] {message.get('content') or ''}", *calls)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--splits", default=",".join(SPLITS))
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--show", type=int, default=0, help="failures to print per split")
    options = parser.parse_args()
    server = serve(options.model)
    start = time.monotonic()
    with httpx.Client(base_url=server.listening_address, timeout=60) as client:
        for split in options.splits.split(","):
            random = Random(f"evaluate-{split}")
            attempts = [Attempt(client, make_instance(random, split)) for _ in range(options.count)]
            solved = [attempt.run() for attempt in attempts]
            rate = sum(solved) / len(solved)
            error = math.sqrt(rate * (1 - rate) / len(solved))
            at_once = sum(
                ok and a.edits == len(a.instance.bugs) for ok, a in zip(solved, attempts, strict=True)
            )
            problems = dict(Counter(a.problem for a in attempts if a.problem))
            print(
                f"{split:6} pass@1 {rate:.2f} ± {error:.2f} (n = {len(solved)}), "
                f"without a wrong edit {at_once / len(solved):.2f} {problems or ''}",
                flush=True,
            )
            for attempt in [a for ok, a in zip(solved, attempts, strict=True) if not ok][: options.show]:
                show(attempt)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
