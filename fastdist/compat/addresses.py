"""Parts of addresses under the names that dask.distributed uses. May import: `comm`."""

from __future__ import annotations

import socket

from fastdist.comm.addresses import local_address_for, parse_address, unparse_address


def get_address_host_port(addr: str, strict: bool = False) -> tuple[str, int]:
    """Host and port of an address.

    Raises
    ------
    ValueError
        If it has none, or `strict` and no scheme.

    Examples
    --------
    >>> get_address_host_port("tcp://127.0.0.1:8786")
    ('127.0.0.1', 8786)
    """
    if strict and "://" not in addr:
        raise ValueError(f"{addr!r} has no scheme, such as tcp://")
    parsed = parse_address(addr if "://" in addr else f"tcp://{addr}")
    if parsed.port is None:
        raise ValueError(f"{addr!r} has no port")
    return parsed.host, parsed.port


def get_address_host(addr: str) -> str:
    """The host of an address; of one within this process, that of this machine.

    Examples
    --------
    >>> get_address_host("tcp://127.0.0.1:8786")
    '127.0.0.1'
    """
    if addr.startswith("inproc://"):
        return get_local_address_for("tcp://8.8.8.8:80").partition("://")[2]
    return parse_address(addr if "://" in addr else f"tcp://{addr}", default_port=0).host


def resolve_address(addr: str) -> str:
    """The address with a number in place of the name of its host.

    Raises
    ------
    OSError
        If nobody knows the host.
    """
    if addr.startswith("inproc://"):
        return addr
    parsed = parse_address(addr if "://" in addr else f"tcp://{addr}", default_port=0)
    number = socket.getaddrinfo(parsed.host, parsed.port or None, type=socket.SOCK_STREAM)[0][4][0]
    return unparse_address(parsed.scheme, str(number), parsed.port)


def get_local_address_for(addr: str) -> str:
    """The address of this machine that another one sees: the scheme of `addr` and a host, without a port."""
    parsed = parse_address(addr if "://" in addr else f"tcp://{addr}", default_port=0)
    return f"{parsed.scheme}://{local_address_for(parsed.host, parsed.port or 80)}"
