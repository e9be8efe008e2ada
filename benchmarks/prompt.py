"""How long the parts of a first request are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

#: Characters that count as one token. Real tokenizers take 3.5 to 4.5 for such text, and each differs; their
#: tables are downloads, which a benchmark that runs offline cannot have. It is an estimate and says so.
CHARACTERS = 4


@dataclass(frozen=True)
class Size:
    """Characters of each part; `repository` is the tree of files, `total` all that a chat template gets to see."""

    system: int
    tools: int
    repository: int
    total: int


def measure(body: bytes) -> Size:
    """The sizes of a chat-completions request."""
    request = json.loads(body)
    texts = [message["content"] for message in request["messages"]]
    tools = len(json.dumps(request.get("tools", []), ensure_ascii=False, separators=(",", ":")))
    section = re.search(r"<repository>.*?</repository>\s*", texts[-1], re.DOTALL)
    return Size(
        system=sum(len(m["content"]) for m in request["messages"] if m["role"] == "system"),
        tools=tools,
        repository=len(section[0]) if section else 0,
        total=sum(map(len, texts)) + tools,
    )
