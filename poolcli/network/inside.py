"""How a command is started behind the forwarder, inside its sandbox."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

#: The forwarder, and the folder that has to be readable in the sandbox for it.
PROGRAM = Path(__file__).resolve().with_name("forwarder.py")
#: Its port on the sandbox's own loopback, where nothing else listens when a command starts.
PORT = 3128


def inside(argv: Sequence[str], socket: Path, *, port: int = PORT) -> list[str]:
    """The process that runs `argv` with the proxy behind `socket` (as the sandbox sees it) as its way out."""
    # The interpreter itself, not a link in an environment: without `site` it needs nothing of that.
    python = getattr(sys, "_base_executable", "") or sys.executable
    return [python, "-I", "-S", str(PROGRAM), str(port), str(socket), "--", *argv]


#: For commands without a network: what would try for minutes gives up at once.
OFFLINE = {
    "PIP_RETRIES": "0",
    "npm_config_fetch_retries": "0",
    "CARGO_NET_RETRY": "0",
    "UV_HTTP_RETRIES": "0",
}

#: How programs say that they found no network: resolvers, the kernel, node, git and curl, cargo, go.
_NO_NETWORK = (
    r"(?i)temporary failure in name resolution|name or service not known|could not resolve (?:host|hostname|proxy)"
    r"|network is unreachable|\bENOTFOUND\b|\bEAI_AGAIN\b|\bENETUNREACH\b|failed to lookup address"
    r"|getaddrinfo failed|no such host|dial (?:tcp|udp)\b.{0,80}(?:unreachable|refused|lookup)"
    r"|unable to resolve host|no address associated with hostname"
)
#: Characters of the end of an output in which such words are looked for.
_LOOKED_AT = 20_000


def hint(output: str, *, proxy: bool) -> str:
    """A line for the model when a command failed for want of a network; '' when it did not."""
    if not re.search(_NO_NETWORK, output[-_LOOKED_AT:]):
        return ""
    if proxy:
        return "(network: only hosts that the user allowed, by the proxy in HTTPS_PROXY; nothing else can be reached)"
    return (
        "(the network is off in this sandbox; work with what is installed, do not try other ways to reach it)"
    )
