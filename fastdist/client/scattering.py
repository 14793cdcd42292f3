"""Local data to the workers: `Client.scatter`. May import: `_core`, `rpc`, `protocol`, `errors`."""

from __future__ import annotations

import asyncio
import queue
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.keys.canonical import encode_key
from fastdist._core.keys.hash import tokenize
from fastdist.client.future import Future
from fastdist.client.options import parse_workers
from fastdist.errors import MessageError, NondeterministicError
from fastdist.protocol import results
from fastdist.rpc.pool import ConnectionPool

if TYPE_CHECKING:
    from fastdist.client.connection import SchedulerConnection

LOCK_PAUSE = 0.001


def unpack_data(
    data: Any, make_name: Callable[[Any], str]
) -> tuple[list[tuple[Any, Any]], Callable[[list[Future]], Any]]:
    """Pairs of key and value, and what makes the answer of their futures.

    Lists, tuples, sets, frozensets, dicts and named tuples are taken apart; anything else is one value.

    Raises
    ------
    TypeError
        For iterators and queues.
    """
    if isinstance(data, Iterator | queue.Queue):
        raise TypeError(f"scatter takes data that is there, not {type(data).__name__}: make a list of it")
    kind = type(data)
    if kind is dict:
        return list(data.items()), lambda futures: dict(zip(data, futures, strict=True))
    if kind is range:
        kind = list
    if kind in (list, tuple, set, frozenset):
        return [(make_name(value), value) for value in data], kind
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return [(make_name(value), value) for value in data], lambda futures: kind(*futures)
    return [(make_name(data), data)], lambda futures: futures[0]


def make_name(value: Any, hash: bool) -> str:
    """The key of a scattered value: the same for equal values if `hash` is true."""
    name = type(value).__name__
    if hash:
        try:
            return f"{name}-{tokenize(value)}"
        except NondeterministicError:
            pass
    return f"{name}-{uuid.uuid4().hex}"


class Scatterer:
    """Places data on workers.

    Parameters
    ----------
    table : FutureTable
    connection : SchedulerConnection
    pool : ConnectionPool
        Connections to workers.
    """

    def __init__(self, table: FutureTable, connection: SchedulerConnection, pool: ConnectionPool):
        self._table = table
        self._connection = connection
        self._pool = pool

    async def scatter(
        self, data: Any, workers: Any, broadcast: bool | int, hash: bool, timeout: float | None
    ) -> Any:
        """See `Client.scatter`."""
        pairs, rebuild = unpack_data(data, lambda value: make_name(value, hash))
        values = {encode_key(key): value for key, value in pairs}
        futures: dict[bytes, Future] = {}
        new: list[bytes] = []
        for key in values:
            known = self._table.future(self._table.find_key(key))
            if known is None:
                new.append(key)
            else:
                futures[key] = known
        if new:
            await self._place(
                new, [values[key] for key in new], futures, parse_workers(workers), broadcast, timeout
            )
        return rebuild([futures[encode_key(key)] for key, _ in pairs])

    async def _place(
        self,
        keys: list[bytes],
        values: list[Any],
        futures: dict[bytes, Future],
        workers: list[Any] | None,
        broadcast: bool | int,
        timeout: float | None,
    ) -> None:
        in_process = self._connection.in_process
        payloads = values if in_process else [b"".join(results.dumps(value)) for value in values]
        sizes = [size_of(value) for value in values] if in_process else [len(payload) for payload in payloads]
        # Ids have to arrive in order: none may be given out for what cannot be sent yet.
        await self._connection.ready("scatter", timeout)
        lock = self._connection.submitter.lock
        # A thread that holds it may wait for this very loop: never block on it.
        while not lock.acquire(blocking=False):  # noqa: ASYNC110
            await asyncio.sleep(LOCK_PAUSE)
        try:
            first_id, made = self._table.add_keys(keys)
        finally:
            lock.release()
        futures.update(zip(keys, made, strict=True))
        reply = await self._connection.call(
            "scatter",
            keys=keys,
            sizes=sizes,
            first_client_id=first_id,
            workers=workers,
            broadcast=broadcast,
            timeout=timeout,
        )
        rows = reply.get("tasks")
        if not isinstance(rows, list | tuple) or len(rows) != len(keys):
            raise MessageError("the reply to 'scatter' does not have one row for each key")
        by_worker: dict[str, list[tuple[int, bytes, Any]]] = {}
        for key, payload, (task_id, addresses) in zip(keys, payloads, rows, strict=True):
            for address in addresses:
                by_worker.setdefault(address, []).append((task_id, key, payload))
        await asyncio.gather(*(self._put(address, rows) for address, rows in by_worker.items()))

    async def _put(self, address: str, rows: list[tuple[int, bytes, Any]]) -> None:
        peer = await self._pool.get(address)
        await peer.call(
            "put-data",
            task_ids=[row[0] for row in rows],
            keys=[row[1] for row in rows],
            buffers=[row[2] for row in rows],
        )


def size_of(value: Any) -> int:
    """About how many bytes a value takes that stays in this process."""
    nbytes = getattr(value, "nbytes", None)
    return nbytes if isinstance(nbytes, int) else sys.getsizeof(value, 64)
