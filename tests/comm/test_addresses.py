"""Addresses taken apart and put together."""

from __future__ import annotations

import socket

import pytest

from fastdist.comm.addresses import (
    contact_host,
    interface_address,
    parse_address,
    parse_ports,
    resolve_listen_host,
    unparse_address,
)


@pytest.mark.parametrize(
    ("text", "host", "ports"),
    [
        ("tcp://10.0.0.1:8786", "10.0.0.1", range(8786, 8787)),
        ("10.0.0.1:8786", "10.0.0.1", range(8786, 8787)),
        ("tcp://[::1]:80", "::1", range(80, 81)),
        ("tcp://:0", "", range(1)),
        ("tcp://host:9000:9002", "host", range(9000, 9003)),
        ("tcp://[::1]:9000:9002", "::1", range(9000, 9003)),
    ],
)
def test_an_address_is_taken_apart(text: str, host: str, ports: range) -> None:
    parsed = parse_address(text)
    assert (parsed.scheme, parsed.host, parsed.ports) == ("tcp", host, ports)
    assert parse_address(str(parsed)) == parsed


def test_the_default_port_fills_in() -> None:
    assert parse_address("tcp://host", default_port=8786).port == 8786
    assert parse_address("tcp://host:1", default_port=8786).port == 1
    with pytest.raises(ValueError, match="does not name one port"):
        _ = parse_address("tcp://host").port


def test_inproc_keeps_its_whole_name() -> None:
    parsed = parse_address("inproc://10.0.0.1/12/3")
    assert (parsed.scheme, parsed.host, str(parsed)) == ("inproc", "10.0.0.1/12/3", "inproc://10.0.0.1/12/3")


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss", "ucx"])
def test_a_scheme_that_is_not_built_is_named(scheme: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{scheme}://"):
        parse_address(f"{scheme}://host:1")


@pytest.mark.parametrize(
    "text",
    [
        "http://host:1",
        "tcp://host:port",
        "tcp://host:70000",
        "tcp://host:2:1",
        "tcp://::1:80",
        "tcp://[::1:80",
        "tcp://host:1/x",
        "tcp://host:-1",
    ],
)
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


def test_an_address_must_be_a_text() -> None:
    with pytest.raises(TypeError, match="not int"):
        parse_address(8786)  # type: ignore[arg-type]


def test_an_ipv6_host_is_put_into_brackets() -> None:
    assert unparse_address("tcp", "::1", 1) == "tcp://[::1]:1"
    assert unparse_address("tcp", "host") == "tcp://host"


def test_ports_may_be_numbers_texts_and_ranges() -> None:
    assert parse_ports(None) == parse_ports(0) == parse_ports("") == range(1)
    assert parse_ports("9000:9001") == range(9000, 9002)


def test_the_loopback_interface_has_an_address() -> None:
    import psutil

    loopback = next(
        name
        for name, entries in psutil.net_if_addrs().items()
        if any(entry.family == socket.AF_INET and entry.address == "127.0.0.1" for entry in entries)
    )
    assert interface_address(loopback) == "127.0.0.1"
    assert resolve_listen_host(None, loopback) == "127.0.0.1"
    assert resolve_listen_host("host", None) == "host"
    with pytest.raises(ValueError, match="not both"):
        resolve_listen_host("host", loopback)


def test_an_unknown_interface_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no network interface 'nonesuch'; this machine has .*lo"):
        interface_address("nonesuch")


def test_a_wildcard_is_told_to_others_as_a_real_address() -> None:
    assert contact_host("127.0.0.1") == "127.0.0.1"
    assert contact_host("0.0.0.0") not in ("0.0.0.0", "")
