"""Which client code means when it names none: the one of the current context, else the newest default one.

May import: nothing of fastdist at import time.
"""

from __future__ import annotations

import itertools
import os
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

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


def forget_global_client(client: Lifecycle) -> None:
    """Undo `set_global_client`; an older client becomes the default again."""
    if _global_clients.get(client._global_number) is client:
        del _global_clients[client._global_number]


def global_client() -> Any:
    """The newest default client that is still open, or None."""
    for number in sorted(_global_clients, reverse=True):
        client = _global_clients.get(number)
        if client is not None and client.status != "closed" and client._pid == os.getpid():
            return client
    return None


def find_client(allow_global: bool = True) -> Any:
    """The client of the current context, else (if allowed) the default one, or None."""
    client = _current_client.get()
    if client is None and allow_global:
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


def get_client(address: str | None = None, timeout: float | str | None = None) -> Client:
    """A client: the current one, or one that is connected to `address`.

    Parameters
    ----------
    address : str, optional
        The address of a scheduler.
    timeout : number or str, optional
        For connecting to it.

    Raises
    ------
    ValueError
        If no address is given and there is no client.
    """
    client = find_client()
    if address is None:
        return default_client()
    if client is not None and client.scheduler_address == address:
        return client
    from fastdist.client.client import Client, no_default

    return Client(address, timeout=no_default if timeout is None else timeout)
