"""Which client code means when it names none: the one of the current context, else the newest default one.

May import: `client.dask_bridge`, `client.options`, `comm.addresses`, `context`; nothing else of fastdist at import
time.
"""

from __future__ import annotations

import itertools
import os
import socket
import weakref
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from fastdist.client.dask_bridge import registration
from fastdist.client.options import parse_seconds
from fastdist.comm.addresses import parse_address
from fastdist.context import client_of, current_worker

if TYPE_CHECKING:
    from fastdist.client.client import Client
    from fastdist.client.lifecycle import Lifecycle

_numbers = itertools.count()
_global_clients: weakref.WeakValueDictionary[int, Lifecycle] = weakref.WeakValueDictionary()
_current_client: ContextVar[Lifecycle | None] = ContextVar("fastdist_current_client", default=None)


def set_global_client(client: Lifecycle) -> None:
    """Make a client the default of this process."""
    client._global_number = next(_numbers)
    _global_clients[client._global_number] = client
    registration.add()
    client._serves_dask = True


def forget_global_client(client: Lifecycle) -> None:
    """Undo `set_global_client`; an older client becomes the default again."""
    if _global_clients.get(client._global_number) is client:
        del _global_clients[client._global_number]
    if client._serves_dask:
        client._serves_dask = False
        registration.remove()


def enter_current(client: Lifecycle) -> Token[Any]:
    """Make a client the current one of this context, until `leave_current` gets the token back."""
    token = _current_client.set(client)
    registration.add()
    return token


def leave_current(token: Token[Any]) -> None:
    """Undo `enter_current`."""
    registration.remove()
    _current_client.reset(token)


def global_client() -> Any:
    """The newest default client that is still open, or None."""
    for number in sorted(_global_clients, reverse=True):
        client = _global_clients.get(number)
        if client is not None and client.status != "closed" and client._pid == os.getpid():
            return client
    return None


def find_client(allow_global: bool = True) -> Any:
    """The client of the current context, else that of the worker, else (if allowed) the default one, or None."""
    client = _current_client.get()
    if client is None:
        worker = current_worker.get()
        if worker is not None:
            return client_of(worker)
        if allow_global:
            client = global_client()
    return client


def default_client(c: Client | None = None) -> Client:
    """The given client, or the default one.

    Raises
    ------
    ValueError
        If there is none.
    """
    client = c if c is not None else find_client()
    if client is None:
        raise ValueError("there is no client yet: make one with fastdist.Client()")
    return client


def get_client(
    address: str | None = None, timeout: float | str | None = None, resolve_address: bool = True
) -> Client:
    """A client: inside of a task that of the worker, else the current one, or one that is connected to `address`.

    Parameters
    ----------
    address : str, optional
        The address of a scheduler.
    timeout : number or str, optional
        For connecting to it.
    resolve_address : bool
        Whether the host in `address` may be a name for that of a known scheduler.

    Raises
    ------
    ValueError
        If no address is given and there is no client.

    Examples
    --------
    >>> def total(n):
    ...     client = get_client()
    ...     return sum(client.gather(client.map(abs, range(n))))
    """
    worker = current_worker.get()
    if worker is not None and _current_client.get() is None:
        if address is None or _is_address_of(worker.scheduler_address, address, resolve_address):
            return client_of(worker, parse_seconds(timeout))
    elif address is None:
        return default_client()
    client = find_client()
    if client is not None and _is_address_of(client.scheduler_address, address, resolve_address):
        return client
    from fastdist.client.client import Client, no_default

    return Client(address, timeout=no_default if timeout is None else timeout)


def _is_address_of(known: str, address: str, resolve: bool) -> bool:
    if known == address:
        return True
    if not resolve or not (known.startswith("tcp://") and address.startswith("tcp://")):
        return False
    left, right = parse_address(known), parse_address(address)
    return left.port == right.port and _ip_of(left.host) == _ip_of(right.host)


def _ip_of(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
