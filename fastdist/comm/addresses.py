"""Addresses such as `tcp://10.0.0.1:8786` and `inproc://name`: taken apart, put together, made concrete.

May import: fastdist.errors.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache

DEFAULT_SCHEME = "tcp"
DEFAULT_SCHEDULER_PORT = 8786
_NOT_BUILT = ("tls", "ws", "wss", "ucx", "ucxx")
_WILDCARDS = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Address:
    """A parsed address.

    Attributes
    ----------
    scheme : str
        `tcp` or `inproc`.
    host : str
        The host, without brackets; of an inproc address all that follows the scheme.
    ports : range
        The ports asked for, in the order to try; empty for inproc. Only listeners take more than one.
    """

    scheme: str
    host: str
    ports: range = range(0)

    @property
    def port(self) -> int:
        """The one port of the address.

        Raises
        ------
        ValueError
            If it names none or a range.
        """
        if len(self.ports) != 1:
            raise ValueError(f"{self} does not name one port")
        return self.ports[0]

    def __str__(self) -> str:
        if self.scheme == "inproc":
            return f"inproc://{self.host}"
        ports = ":".join(str(port) for port in sorted({self.ports[0], self.ports[-1]})) if self.ports else ""
        return f"{self.scheme}://{bracketed(self.host)}" + (f":{ports}" if ports else "")


def bracketed(host: str) -> str:
    """The host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def unparse_address(scheme: str, host: str, port: int | None = None) -> str:
    """Put an address together.

    Examples
    --------
    >>> unparse_address("tcp", "::1", 8786)
    'tcp://[::1]:8786'
    """
    return f"{scheme}://{host if scheme == 'inproc' else bracketed(host)}" + (
        "" if port is None else f":{port}"
    )


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Take an address apart.

    Parameters
    ----------
    text : str
        `[scheme://]host[:port]`, or for a listener `host:first:last`; IPv6 hosts stand in brackets.
    default_port : int, optional
        The port when the text names none.

    Returns
    -------
    Address

    Raises
    ------
    ValueError
        If the text has another form.
    NotImplementedError
        For a scheme that fastdist does not have yet.

    Examples
    --------
    >>> parse_address("example.org:8786").port
    8786
    """
    if not isinstance(text, str):
        raise TypeError(f"an address is a str, not {type(text).__name__}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = DEFAULT_SCHEME, text
    if scheme == "inproc":
        return Address("inproc", rest)
    if scheme in _NOT_BUILT:
        raise NotImplementedError(
            f"addresses of the form {scheme}:// are not supported yet ({text!r}); use tcp://"
        )
    if scheme != "tcp":
        raise ValueError(f"unknown scheme {scheme!r} in the address {text!r}; use tcp:// or inproc://")
    host, ports = _split_host(rest, text)
    if ports:
        return Address(scheme, host, parse_ports(ports))
    return Address(scheme, host, range(0) if default_port is None else range(default_port, default_port + 1))


def _split_host(rest: str, text: str) -> tuple[str, str]:
    if rest.startswith("["):
        host, closing, ports = rest[1:].partition("]")
        if not closing or (ports and not ports.startswith(":")):
            raise ValueError(f"the brackets in the address {text!r} are not closed before the port")
        return host, ports[1:]
    if rest.count(":") > 2:
        raise ValueError(f"put the IPv6 host of {text!r} into brackets: tcp://[host]:port")
    host, _, ports = rest.partition(":")
    if "/" in rest:
        raise ValueError(f"the address {text!r} has a path; scheme://host:port is expected")
    return host, ports


def parse_ports(ports: str | int | None) -> range:
    """The ports that `0`, `8786` or `"9000:9100"` (both ends included) stand for; None and "" stand for any
    free one.

    Raises
    ------
    ValueError
        If it is no port and no range of ports.
    """
    if ports is None or ports == "":
        return range(1)
    first, _, last = str(ports).partition(":")
    try:
        start, end = int(first), int(last or first)
    except ValueError:
        raise ValueError(f"{ports!r} is no port and no range of ports such as 9000:9100") from None
    if not 0 <= start <= end <= 65535:
        raise ValueError(f"the ports {ports!r} are not rising numbers between 0 and 65535")
    return range(start, end + 1)


def interface_address(interface: str) -> str:
    """The IPv4 address of a network interface, its IPv6 address if it has no other.

    Raises
    ------
    ValueError
        If there is no such interface, or it has no address; the text lists those that exist.
    """
    import psutil

    interfaces = psutil.net_if_addrs()
    if interface not in interfaces:
        raise ValueError(
            f"there is no network interface {interface!r}; this machine has {', '.join(sorted(interfaces))}"
        )
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in interfaces[interface]:
            if entry.family == family:
                return str(entry.address).partition("%")[0]
    raise ValueError(f"the network interface {interface!r} has no IP address")


@lru_cache(maxsize=64)
def local_address_for(host: str = "8.8.8.8", port: int = 80) -> str:
    """The address of this machine that `host` would see, loopback if there is no route; nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"


def contact_host(bound_host: str) -> str:
    """The host to tell to others for a listener that is bound to `bound_host`."""
    if bound_host not in _WILDCARDS:
        return bound_host
    return local_address_for()


def resolve_listen_host(host: str | None, interface: str | None) -> str:
    """The host to bind to: the host given, the address of the interface, or all interfaces.

    Raises
    ------
    ValueError
        If both are given.
    """
    if host and interface:
        raise ValueError(f"give a host ({host!r}) or an interface ({interface!r}), not both")
    if interface:
        return interface_address(interface)
    return host or ""


def inproc_prefix() -> str:
    """What the inproc addresses of this process start with."""
    return f"{local_address_for()}/{os.getpid()}/"
