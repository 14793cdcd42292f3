"""Local data to the workers: `Client.scatter`. May import: `_core`, `rpc`, `protocol`, `errors`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.keys.canonical import encode_key
from fastdist._core.keys.hash import tokenize
from fastdist.client.future import Future
from fastdist.client.options import parse_workers
from fastdist.errors import ClosedClientError, CommClosedError, MessageError, NondeterministicError
from fastdist.protocol import results
from fastdist.rpc.pool import ConnectionPool

if TYPE_CHECKING:
    from fastdist.client.connection import SchedulerConnection

logger = logging.getLogger("fastdist.client")

LOCK_PAUSE = 0.001
#: One message brings about this many bytes, and at most so many values.
BATCH_BYTES = 64 << 20
BATCH_PIECES = 10_000


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


@dataclass
class Piece:
    """A value on its way to workers."""

    task_id: int
    key: bytes
    payload: Any
    size: int
    #: Where it goes; nowhere if it is there already.
    addresses: list[str]
    there: bool = False


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
        self,
        data: Any,
        workers: Any,
        broadcast: bool | int,
        direct: bool,
        hash: bool,
        timeout: float | None,
    ) -> Any:
        """See `Client.scatter`."""
        if type(broadcast) is not bool and (type(broadcast) is not int or broadcast < 1):
            raise ValueError(f"broadcast= must be true, false or a number of copies, not {broadcast!r}")
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
                new, [values[key] for key in new], futures, parse_workers(workers), broadcast, direct, timeout
            )
        return rebuild([futures[encode_key(key)] for key, _ in pairs])

    async def _place(
        self,
        keys: list[bytes],
        values: list[Any],
        futures: dict[bytes, Future],
        workers: list[Any] | None,
        broadcast: bool | int,
        direct: bool,
        timeout: float | None,
    ) -> None:
        in_process = self._connection.in_process
        payloads = values if in_process else [b"".join(results.dumps(value)) for value in values]
        sizes = [size_of(value) for value in values] if in_process else [len(payload) for payload in payloads]
        # Ids have to arrive in order: none may be given out for what cannot be sent yet.
        lock = self._connection.submitter.lock
        await self._connection.ready("scatter", timeout)
        # A thread that holds it may wait for this very loop: never block on it.
        while not lock.acquire(blocking=False):
            await asyncio.sleep(LOCK_PAUSE)
            await self._connection.ready("scatter", timeout)
        try:
            first_id, made = self._table.add_keys(keys)
            # Sent before another thread can be given an id.
            answer = self._connection.ask(
                "scatter",
                keys=keys,
                sizes=sizes,
                first_client_id=first_id,
                workers=workers,
                broadcast=broadcast,
                patience=timeout,
            )
        finally:
            lock.release()
        futures.update(zip(keys, made, strict=True))
        try:
            rows = (await asyncio.wrap_future(answer)).get("tasks")
            if not isinstance(rows, list | tuple) or len(rows) != len(keys):
                raise MessageError("the reply to 'scatter' does not have one row for each key")
        except BaseException as error:
            await self._tell_lost(error, client_ids=list(range(first_id, first_id + len(keys))))
            raise
        pieces = [
            Piece(task_id, key, payload, size, list(addresses))
            for key, payload, size, (task_id, addresses) in zip(keys, payloads, sizes, rows, strict=True)
        ]
        await self._send(pieces, direct)

    async def _send(self, pieces: list[Piece], direct: bool) -> None:
        """Bring the data to the workers; what arrives at none of its workers is lost, and an error."""
        waiting = [piece for piece in pieces if piece.addresses]
        try:
            reason = ""
            if direct:
                reason = await self._put_directly(waiting)
                waiting = [piece for piece in waiting if not piece.there]
            if waiting:
                reason = await self._put_through_scheduler(waiting)
            waiting = [piece for piece in waiting if not piece.there]
            if waiting:
                raise CommClosedError(f"{len(waiting)} values could not be put on any worker: {reason}")
        except BaseException as error:
            lost = [piece.task_id for piece in pieces if piece.addresses and not piece.there]
            await self._tell_lost(error, task_ids=lost)
            raise

    async def _tell_lost(
        self, error: BaseException, task_ids: Sequence[int] = (), client_ids: Sequence[int] = ()
    ) -> None:
        """Say that announced data does not come: tasks that need it would wait for ever."""
        with contextlib.suppress(CommClosedError, ClosedClientError):
            await self._connection.call(
                "scatter-failed",
                task_ids=list(task_ids),
                client_ids=list(client_ids),
                reason=f"{type(error).__name__}: {error}",
            )

    async def _put_directly(self, pieces: list[Piece]) -> str:
        """Put data on workers; why some of it could not be."""
        by_worker: dict[str, list[Piece]] = {}
        for piece in pieces:
            for address in piece.addresses:
                by_worker.setdefault(address, []).append(piece)
        reasons = await asyncio.gather(*(self._put(address, group) for address, group in by_worker.items()))
        return next((reason for reason in reasons if reason), "")

    async def _put(self, address: str, pieces: list[Piece]) -> str:
        for batch in batches(pieces):
            try:
                peer = await self._pool.get(address)
                await peer.call(
                    "put-data",
                    task_ids=[piece.task_id for piece in batch],
                    keys=[piece.key for piece in batch],
                    buffers=[piece.payload for piece in batch],
                )
            except (OSError, TimeoutError) as error:
                logger.debug("data could not be put on the worker at %s: %s", address, error)
                return str(error)
            for piece in batch:
                piece.there = True
        return ""

    async def _put_through_scheduler(self, pieces: list[Piece]) -> str:
        reason = ""
        for batch in batches(pieces):
            reply = await self._connection.call(
                "put",
                task_ids=[piece.task_id for piece in batch],
                keys=[piece.key for piece in batch],
                addresses=[piece.addresses for piece in batch],
                buffers=[piece.payload for piece in batch],
            )
            reason = reply.get("reason") or reason
            for piece, lost in zip(batch, reply["lost"], strict=True):
                piece.there = not lost
        return reason


def batches(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Cut what is sent into messages of bounded size."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        if batch and (size + piece.size > BATCH_BYTES or len(batch) == BATCH_PIECES):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece.size
    if batch:
        yield batch


def size_of(value: Any) -> int:
    """About how many bytes a value takes that stays in this process."""
    nbytes = getattr(value, "nbytes", None)
    return nbytes if isinstance(nbytes, int) else sys.getsizeof(value, 64)
