"""Which hosts are meant by a list, and which addresses may be dialled."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.network import hosts
from poolcli.network.hosts import allowed, is_public, may_dial, normal, split


def fits(entry: str, host: str, port: int = 443) -> bool:
    return any(rule.fits(normal(host), port) for rule in allowed([entry]))


@pytest.mark.parametrize(
    ("entry", "host", "port", "result"),
    [
        ("pkgs.example", "pkgs.example", 443, True),
        ("pkgs.example", "pkgs.example", 80, True),
        ("pkgs.example", "PkGs.Example.", 443, True),
        ("PKGS.example.", "pkgs.example", 443, True),
        ("pkgs.example", "pkgs.example", 8080, False),
        ("pkgs.example:8080", "pkgs.example", 8080, True),
        ("pkgs.example:8080", "pkgs.example", 443, False),
        ("pkgs.example", "files.pkgs.example", 443, False),
        ("pkgs.example", "notpkgs.example", 443, False),
        ("pkgs.example", "pkgs.example.evil.example", 443, False),
        ("*.pkgs.example", "files.pkgs.example", 443, True),
        ("*.pkgs.example", "a.b.pkgs.example", 443, True),
        ("*.pkgs.example", "pkgs.example", 443, False),
        ("*.pkgs.example", "evilpkgs.example", 443, False),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("localhost:99", "localhost", 99, True),
    ],
)
def test_what_an_entry_means(entry: str, host: str, port: int, result: bool) -> None:
    assert fits(entry, host, port) is result


def test_an_empty_list_allows_nothing() -> None:
    assert allowed([]) == () and not any(rule.fits("pkgs.example", 443) for rule in allowed([]))


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.org",
        "https://pkgs.example",
        "pkgs.example/simple",
        "a b",
        "user@pkgs.example",
        "pkgs.example:0",
        "pkgs.example:99999",
        "pkgs.example:x",
        "pkgs..example",
        "-a.org",
        "a\0b",
        "127.1",
        "0x7f.1",
        "2130706433",
        "1.2.3.4.5",
        "a.1",
        "a.0x7f",
        "*.*.org",
        "a.*.org",
        "pkgs.example%00.evil",
        "[::1",
        "ｐkgs.example",
        "pkgs。example",
        "ⅼocalhost",
        "a" * 64 + ".org",
    ],
)
def test_what_is_no_entry(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        allowed([entry])


@given(st.text(max_size=40))
def test_a_name_is_refused_or_in_one_plain_form(text: str) -> None:
    try:
        name = normal(text)
    except ValueError:
        return
    assert name == normal(name) == normal(name.upper()) == normal(f"{name}.")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") and hosts.literal(name) is None
    # What the system's resolver takes for an address without asking anybody is never a name to us.
    import socket

    with pytest.raises(OSError):
        socket.inet_aton(name)


@given(st.text(alphabet="ab.:[]@/%\0 \t*0129-_é", max_size=20))
def test_splitting_loses_nothing(text: str) -> None:
    try:
        host, port = split(text)
    except ValueError:
        return
    assert text in (host, f"{host}:{text.rpartition(':')[2]}") and (port is None or 0 < port < 65536)
    assert not set(host) & set(" /@\0\t%")


@given(
    st.sampled_from(["pkgs.example", "*.pkgs.example", "a.b"]), st.text(alphabet="pkgsexaml.b*-", max_size=16)
)
def test_only_the_very_name_fits(entry: str, host: str) -> None:
    try:
        name = normal(host)
    except ValueError:
        return
    expected = name == entry if entry[0] != "*" else name.endswith(".pkgs.example")
    assert fits(entry, host) is expected


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.5",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "2002:7f00:1::",
        "2001::1",
        "fec0::1",
        "2001:db8::1",
        "fe80::1%eth0",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    there = ipaddress.ip_address(address)
    assert not is_public(there)
    assert not may_dial(allowed(["name.example", "name.example:80"]), there, 80)


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.0.223", "2606:4700::1111", "2a04:4e42::223"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_private_address_is_dialled_where_it_is_listed_with_its_port() -> None:
    rules = allowed(["10.0.0.5:8080", "10.0.0.6", "[::1]:81"])
    five, six = ipaddress.ip_address("10.0.0.5"), ipaddress.ip_address("10.0.0.6")
    assert may_dial(rules, five, 8080) and not may_dial(rules, five, 80) and not may_dial(rules, six, 80)
    assert may_dial(rules, ipaddress.ip_address("::1"), 81)
