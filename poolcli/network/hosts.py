"""Which hosts may be reached: names read strictly, compared exactly, and the addresses behind them checked.

What cannot be read with certainty is refused, never guessed at: another program would read it differently.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from msgspec import Struct

#: What a name without a port may be reached at: http and https.
PORTS = (80, 443)
#: Characters of a host's name at most (RFC 1035).
LONGEST = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Some libraries read these as an address: 127.1, 0x7f.1, 2130706433, 017700000001.
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Rule(Struct, frozen=True):
    """One entry of the list. `host` is a normal name, with `below` any name that ends in it behind a dot.

    `address` is set for an address that was listed as such; with a port of its own (`pinned`) it may be a private one.
    """

    host: str
    ports: tuple[int, ...]
    below: bool = False
    address: Address | None = None
    pinned: bool = False

    def fits(self, host: str, port: int) -> bool:
        """Whether a normal name, or an address in its normal form, is meant."""
        if port not in self.ports:
            return False
        if self.address is not None:
            return host == str(self.address)
        # Not the name itself: `*.example.org` is not `example.org`.
        return host.endswith(f".{self.host}") if self.below else host == self.host


def allowed(entries: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of a list of `HOST`, `HOST:PORT`, `*.HOST`, `*.HOST:PORT`. Raises ValueError that names the entry."""
    return tuple(map(_rule, entries))


def _rule(entry: str) -> Rule:
    text = entry.strip()
    try:
        host, port = split(text)
        ports = PORTS if port is None else (port,)
        below = host.startswith("*.")
        name = host[2:] if below else host
        address = None if below else literal(name)
        if address is not None:
            return Rule(str(address), ports, address=address, pinned=port is not None)
        name = normal(name)
        if below and "." not in name:
            raise ValueError("a wildcard stands for one part of a name with at least two")
    except ValueError as error:
        raise ValueError(
            f"{entry!r} is no host: {error}; write HOST, HOST:PORT or *.HOST, without a scheme or a path"
        ) from None
    return Rule(name, ports, below=below)


def split(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT` or `[V6]:PORT` in its parts; the host as it was written. Raises ValueError."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\s\[\]:/?#@\\%\x00-\x20\x7f]+)(?::([0-9]{1,5}))?", text)
    if found is None:
        raise ValueError("it is not of the form HOST or HOST:PORT")
    port = int(found[2]) if found[2] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"there is no port {port}")
    return found[1], port


def normal(name: str) -> str:
    """A host's name in lower case, ASCII, without a final dot. Raises ValueError for anything else than a name."""
    text = name
    if not text.isascii():
        # `㏕ⅼ.example` would become other letters on the way: only what is its own normal form is a name.
        import unicodedata

        if unicodedata.normalize("NFKC", text.casefold()) != text.casefold() or "\u3002" in text:
            raise ValueError("it holds characters that stand for others")
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"it cannot be written in ASCII ({error})") from None
    text = text.lower().removesuffix(".")
    if len(text) > LONGEST or not _NAME.fullmatch(text):
        raise ValueError("it is not a host's name")
    if all(_NUMBER.fullmatch(label) for label in text.split(".")) or _NUMBER.fullmatch(
        text.rpartition(".")[2]
    ):
        raise ValueError("it is a number, not a name")
    return text


def literal(text: str) -> Address | None:
    """The address that a text is, in its one plain form (`10.0.0.5`, `[::1]`); None when it is none."""
    try:
        if text.startswith("["):
            return ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def may_dial(rules: Iterable[Rule], address: Address, port: int) -> bool:
    """Whether an address behind an allowed name may be dialled: a public one, or one that is listed with this port."""
    if is_public(address):
        return True
    return any(rule.pinned and rule.address == address and port in rule.ports for rule in rules)


#: Networks that lead back to this machine, into a private network or nowhere, beside those that `ipaddress` knows.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # carrier-grade NAT
            "192.0.0.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "198.18.0.0/15",
            "64:ff9b::/96",  # NAT64: an IPv4 address inside
            "64:ff9b:1::/48",
            "2001::/23",  # Teredo and others: an address inside
            "2002::/16",  # 6to4: an address inside
            "fec0::/10",
            "100::/64",
            "5f00::/16",
        ),
    )
)


def is_public(address: Address) -> bool:
    """Whether an address is one of the open Internet and nothing else."""
    # ::ffff:127.0.0.1 and ::127.0.0.1 are IPv4 in other clothes; no server needs them.
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped is not None or int(address) >> 32 == 0 or address.scope_id
    ):
        return False
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_private
        and not address.is_link_local
        and not address.is_loopback
        and not address.is_unspecified
    )
