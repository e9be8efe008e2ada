"""How much of its prompts the real llama.cpp server reads twice, by its own `timings.cache_n`.

    python -m benchmarks.prefix_cache [--turns 50] [--model FILE.gguf]

Each row is so many conversations of append-only turns, taken in turn, in a server that pool starts (two slots, the
settings of `llama_worker.py`). `over optimum` is tokens computed over the tokens that there are, each once: 1.00 is
what no server can be better than. The last row begins the conversation anew at each turn: what a clock at the
top of the prompt costs.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from poolcli.messages import Message, system, user
from poolcli.models import local
from poolcli.models.base import Reply
from poolcli.models.cache_watch import CacheWatch
from poolcli.models.llama_server import LocalServer, start
from poolcli.models.openai import Endpoint, OpenAIModel

#: Tokens of a reply: enough to be a turn, few enough that the prompt is what takes the time.
REPLY = 8
#: Characters of a message: 50 turns of them fit into the demonstration model's 4,096 tokens.
MESSAGE = 100


def model(server: LocalServer, slot: int | None) -> OpenAIModel:
    """A client of its own, pinned to a slot or not."""
    fields: dict[str, object] = {"temperature": 0, "cache_prompt": True}
    if slot is not None:
        fields["id_slot"] = slot
    return OpenAIModel(Endpoint(server.base_url, server.name, server.api_key, extra_body=fields))


async def turn(client: OpenAIModel, messages: list[Message], watch: CacheWatch) -> None:
    """Ask once; the reply becomes part of the conversation."""
    async for piece in client.stream(messages, max_tokens=REPLY):
        if isinstance(piece, Reply):
            watch.feed(piece.usage)
            messages.append(piece.message)


def said(conversation: int, number: int) -> str:
    """What a user says; all conversations begin alike, as all runs of pool in a repository do."""
    text = f"{number} " + (f"conversation {conversation} " if number > 1 else "")
    return (text + "the failing test calls total with prices and expects their sum " * 3)[:MESSAGE]


async def converse(
    server: LocalServer, slots: Sequence[int | None], turns: int, *, clock: bool = False
) -> list[CacheWatch]:
    """As many conversations as `slots`, taken in turn."""
    clients = [model(server, slot) for slot in slots]
    conversations = [[system("You are pool.")] for _ in slots]
    watches = [CacheWatch() for _ in slots]
    for number in range(1, turns + 1):
        for index, client in enumerate(clients):
            if clock and number > 1:
                conversations[index][1] = user(f"{number} o'clock " + said(index, 1))
            conversations[index].append(user(said(index, number)))
            await turn(client, conversations[index], watches[index])
    for client in clients:
        await client.aclose()
    return watches


async def measure(gguf: Path, turns: int) -> None:
    """Print the table, a fresh server for each row."""
    rows: list[tuple[str, tuple[int | None, ...], bool]] = [
        ("one conversation", (None,), False),
        ("two, each in a slot of its own, as pool does", (0, 1), False),
        ("two, the server chooses the slots", (None, None), False),
        ("one, a clock in its first message", (None,), True),
    ]
    print(f"{'conversations':46} {'prompt':>8} {'computed':>9} {'cached':>7} {'over optimum':>13}")
    for name, slots, clock in rows:
        with tempfile.TemporaryDirectory() as folder:
            server = await start(gguf, ctx=4096, slots=2, threads=1, log=Path(folder, "log"))
            try:
                watches = await converse(server, slots, turns, clock=clock)
            finally:
                await server.stop()
        prompt, cached = sum(w.prompt for w in watches), sum(w.cached for w in watches)
        optimum = sum(w.fresh + w.repeated for w in watches) / max(sum(w.fresh for w in watches), 1)
        print(f"{name:46} {prompt:8} {prompt - cached:9} {cached / prompt:7.1%} {optimum:13.3f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    asyncio.run(measure(options.model or local.demo_model(), options.turns))


if __name__ == "__main__":
    main()
