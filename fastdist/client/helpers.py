"""Functions about futures and default clients that need no method of Client. May import: what the client may."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import decode_key
from fastdist.client.containers import find_futures
from fastdist.client.current import default_client, enter_current, leave_current, set_global_client
from fastdist.client.future import Future
from fastdist.client.waiting import raise_if_cancelled

if TYPE_CHECKING:
    from fastdist.client.client import Client

logger = logging.getLogger("fastdist.client")


def futures_of(o: Any, client: Client | None = None) -> list[Future]:
    """The futures in an object.

    Parameters
    ----------
    o : object
        A future, nested lists, tuples, sets and dicts of futures, or dask collections that were persisted.
    client : Client, optional
        With it, futures that are cancelled raise an error.

    Returns
    -------
    list of Future
        Each once, in order.

    Raises
    ------
    FuturesCancelledError
        If a `client` is given and some of the futures are cancelled.

    Examples
    --------
    >>> futures = client.map(abs, [-1, 2])
    >>> futures_of({"a": futures, "b": futures[0]}) == futures
    True
    """
    futures = find_futures(o)
    if client is not None:
        raise_if_cancelled(client, futures)
    return futures


def fire_and_forget(obj: Any) -> None:
    """Have tasks run to their end even if nobody keeps a future of them, and the client is closed.

    The data of the results is let go of as soon as they are there.

    Parameters
    ----------
    obj : Future or collection
        What has to run.

    Examples
    --------
    >>> fire_and_forget(client.submit(print, "done"))
    """
    by_client: dict[Any, list[Future]] = {}
    for future in find_futures(obj):
        by_client.setdefault(future._client(), []).append(future)
    for client, futures in by_client.items():
        client._check_usable()
        client._run_errand(_fire, client, futures)


async def _fire(client: Client, futures: list[Future]) -> None:
    # Until the answer is here, the futures themselves keep the tasks.
    reply = await client._connection.call("fire-and-forget", keys=[future.key_bytes for future in futures])
    unknown = [decode_key(bytes(key)) for key in reply["unknown"]]
    if unknown:
        logger.warning(
            "%d tasks cannot be fired and forgotten: they were released or cancelled before (%r, ...)",
            len(unknown),
            unknown[0],
        )


def ensure_default_client(client: Client) -> None:
    """Make a client the default one if there is none; called where a library is handed a client.

    Parameters
    ----------
    client : Client
        The client.
    """
    try:
        default_client()
    except ValueError:
        set_global_client(client)


@contextlib.contextmanager
def temp_default_client(c: Client | None) -> Iterator[None]:
    """Make a client the one that code in a `with` block means when it names none.

    Parameters
    ----------
    c : Client
        The client.
    """
    token = enter_current(default_client(c))
    try:
        yield
    finally:
        leave_current(token)
