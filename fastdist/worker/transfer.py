"""Values between workers: fetch inputs, serve data, take data that was put here.

One request to a worker asks for many values; the core says which, from whom and how many at a time. Inside
one process values pass by reference. A value that cannot be serialised is answered with the flag `REFUSED`
and a failure instead of its data; the tasks that need it fail with that. May import: layers L0 to L3, and
the execution of this worker.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker.core import WorkerCore
from fastdist._core.worker.inspect import awaits, key_of, sizes_of, takes
from fastdist.comm.handshake import Role
from fastdist.errors import FastdistError, MessageError, SerializationError
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure
from fastdist.rpc import fields as check
from fastdist.rpc.peer import Peer
from fastdist.rpc.pool import ConnectionPool
from fastdist.worker.execution import Execution
from fastdist.worker.room import Room
from fastdist.worker.store import Store

logger = logging.getLogger("fastdist.worker")

#: Flags of the answer to get-data, one for each task id.
ABSENT, FOUND, REFUSED = 0, 1, 2
#: Values of more bytes than this are pickled and unpickled beside the event loop.
OFFLOAD_BYTES = 64 * 1024
#: Bytes that a worker without a memory limit serves at the same time; other requests wait their turn.
MAX_SERVED_BYTES = 256 * 1024 * 1024
#: Requests for copies at the same time, and the bytes of one.
MAX_COPY_REQUESTS = 4
MAX_COPY_BYTES = 50 * 1024 * 1024
#: Seconds until a worker that does not answer a request for data counts as failed.
FETCH_TIMEOUT = 300.0


@dataclass
class Copy:
    """A result of which a copy is wanted here."""

    task_id: int
    key: bytes
    nbytes: int
    #: Addresses that have not been asked.
    holders: list[str]
    here: bool = False


class Transfer:
    """Moves the values of one worker.

    Parameters
    ----------
    core, execution, store
        Those of the worker.
    pool : ConnectionPool
        Connections to other workers.
    offload : Executor
        Where large values are pickled and unpickled.
    measure : callable
        Bytes that a value takes.
    served_bytes : int
        Bytes that are served at the same time.
    request_bytes : int
        Bytes that one request for copies asks for, unless a single one is larger.
    """

    def __init__(
        self,
        core: WorkerCore,
        execution: Execution,
        store: Store,
        pool: ConnectionPool,
        offload: Executor,
        measure: Callable[[Any], int],
        served_bytes: int = MAX_SERVED_BYTES,
        request_bytes: int = MAX_COPY_BYTES,
    ) -> None:
        self.core = core
        self.execution = execution
        self.store = store
        self.pool = pool
        self._offload = offload
        self._measure = measure
        self._serving = Room(served_bytes)
        self._request_bytes = request_bytes
        self._max_peers = MAX_COPY_REQUESTS
        self._fetches: set[asyncio.Task[None]] = set()
        #: Storing a value and telling the core are one step, in which no task may come or be freed.
        self.storing = threading.Lock()
        self.bytes_fetched = 0
        self.bytes_served = 0

    # Fetching

    def start_fetches(self) -> None:
        """Ask for all inputs that can be asked for now."""
        while (request := self.core.next_fetch()) is not None:
            task = asyncio.get_running_loop().create_task(self._fetch(*request))
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _fetch(self, number: int, task_ids: list[int], nbytes: int) -> None:
        """Ask one worker for some inputs and tell the core what came of it."""
        values: dict[int, Any] | None = None
        try:
            peer = await self.pool.get(self._address_of(number))
            reply = await peer.call("get-data", timeout=FETCH_TIMEOUT, task_ids=task_ids)
            values = await self._values(task_ids, reply["found"], reply.buffers, peer.comm.in_process)
            self.bytes_fetched += nbytes
        except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError, KeyError) as error:
            logger.info("fetching %d inputs from worker %d failed: %s", len(task_ids), number, error)
        with self.storing:
            found = None if values is None else self._store_awaited(values)
            self.core.on_fetched(number, task_ids, found, time.monotonic())
        self.execution.expect_work()
        self.start_fetches()

    def _store_awaited(self, values: dict[int, Any]) -> dict[int, tuple[int, int]]:
        """Store what is still wanted: size and type number of each."""
        return {
            task_id: self._store(task_id, value) for task_id, value in values.items() if awaits(self.core, task_id)
        }

    def _address_of(self, number: int) -> str:
        address = self.core.addresses.get(number)
        if address is None:
            raise MessageError(f"the scheduler named worker {number} and never said its address")
        return address

    async def _values(
        self, task_ids: list[int], flags: list[int], buffers: list[Any], by_reference: bool
    ) -> dict[int, Any]:
        """The values that arrived, by task id."""
        if len(flags) != len(task_ids) or sum(flag != ABSENT for flag in flags) != len(buffers):
            raise MessageError("the answer to get-data does not fit its question")
        arrived = iter(buffers)
        values: dict[int, Any] = {}
        for task_id, flag in zip(task_ids, flags, strict=True):
            if flag == ABSENT:
                continue
            buffer = next(arrived)
            if flag == REFUSED:
                self.core.on_fetch_refused(task_id, bytes(buffer), time.monotonic())
                continue
            try:
                values[task_id] = buffer if by_reference else await self._loads(buffer)
            except Exception as error:
                # Whatever its class raises when it is unpickled here. Another copy would raise it, too.
                self.core.on_fetch_refused(task_id, dump_failure(error), time.monotonic())
        return values

    def _store(self, task_id: int, value: object) -> tuple[int, int]:
        nbytes = self._measure(value)
        self.store.put(task_id, value, nbytes)
        return nbytes, self.execution.number_of(value)

    async def _loads(self, buffer: Any) -> Any:
        if len(buffer) <= OFFLOAD_BYTES:
            return results.loads([buffer])
        return await asyncio.get_running_loop().run_in_executor(self._offload, results.loads, [buffer])

    # Copying

    async def acquire(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Handler: fetch copies of results that other workers hold, because the scheduler wants them here.

        The answer has a flag for each: whether it is here now.
        """
        rows = [
            Copy(task_id, key, nbytes, list(holders))
            for task_id, key, nbytes, holders in zip(
                check.ids(fields, "task_ids"),
                check.items(fields, "keys", bytes),
                check.ids(fields, "sizes"),
                check.items(fields, "holders", (list, tuple)),
                strict=True,
            )
        ]
        open_requests = asyncio.Semaphore(self._max_peers)
        while True:
            by_holder: dict[str, list[Copy]] = {}
            for row in rows:
                if not row.here and row.holders and not self.core.paused:
                    by_holder.setdefault(row.holders.pop(0), []).append(row)
            if not by_holder:
                break
            await asyncio.gather(
                *(
                    self._copy_from(address, batch, open_requests)
                    for address, group in by_holder.items()
                    for batch in self._batches(group)
                )
            )
        # The scheduler hears of the copies before it gets the answer.
        self.execution.flush()
        return {"found": [row.here for row in rows]}

    def _batches(self, rows: list[Copy]) -> Iterator[list[Copy]]:
        batch: list[Copy] = []
        total = 0
        for row in rows:
            if batch and total + row.nbytes > self._request_bytes:
                yield batch
                batch, total = [], 0
            batch.append(row)
            total += row.nbytes
        yield batch

    async def _copy_from(self, address: str, rows: list[Copy], open_requests: asyncio.Semaphore) -> None:
        task_ids = [row.task_id for row in rows]
        try:
            async with open_requests:
                peer = await self.pool.get(address)
                reply = await peer.call("get-data", timeout=FETCH_TIMEOUT, task_ids=task_ids)
                values = await self._values(task_ids, reply["found"], reply.buffers, peer.comm.in_process)
        except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError, KeyError) as error:
            logger.info("copying %d results from %s failed: %s", len(rows), address, error)
            return
        for row in rows:
            if row.task_id not in values:
                continue
            with self.storing:
                if takes(self.core, row.task_id):
                    nbytes, type_number = self._store(row.task_id, values[row.task_id])
                    self.core.on_put(row.task_id, row.key, nbytes, type_number, time.monotonic())
                row.here = row.task_id in self.store

    # Serving

    async def get_data(
        self, peer: Peer, fields: dict[str, Any], buffers: list[Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Handler: the data of some tasks, as far as it is here."""
        task_ids = check.ids(fields, "task_ids")
        nbytes = sizes_of(self.core, task_ids)
        async with self._serving.taken(nbytes):
            # What was asked for before and is still unsent takes memory, too.
            await peer.comm.drained()
            if nbytes <= OFFLOAD_BYTES:
                flags, served = self._collect(task_ids, peer.comm.in_process)
            else:
                loop = asyncio.get_running_loop()
                flags, served = await loop.run_in_executor(
                    self._offload, self._collect, task_ids, peer.comm.in_process
                )
        if not peer.comm.in_process:
            self.bytes_served += sum(map(len, served))
        return {"found": flags}, served

    def _collect(self, task_ids: list[int], by_reference: bool) -> tuple[list[int], list[Any]]:
        flags: list[int] = []
        served: list[Any] = []
        for task_id in task_ids:
            try:
                value = self.store.get(task_id)
                served.append(value if by_reference else _joined(results.dumps(value)))
                flags.append(FOUND)
            except KeyError:
                flags.append(ABSENT)
            except OSError as error:
                logger.error("the spilled result of task %d cannot be read: %s", task_id, error)
                flags.append(ABSENT)
            except SerializationError as error:
                served.append(dump_failure(self._unsendable(task_id, error)))
                flags.append(REFUSED)
        return flags, served

    def _unsendable(self, task_id: int, error: SerializationError) -> SerializationError:
        """The error for a result that cannot leave this worker, with the name of its task."""
        key = key_of(self.core, task_id)
        task = f"task {task_id}" if not key else f"task {decode_key(key)!r}"
        told = SerializationError(f"the {task} finished, but its result cannot be sent: {error}")
        told.__cause__ = error.__cause__
        return told

    async def put_data(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Handler: keep data that a client or the scheduler puts here."""
        if peer.comm.role == Role.WORKER:
            raise PermissionError("workers fetch data; they do not put it on each other")
        task_ids = check.ids(fields, "task_ids")
        keys = check.items(fields, "keys", bytes)
        if not len(task_ids) == len(keys) == len(buffers):
            raise MessageError(
                f"{len(task_ids)} ids, {len(keys)} keys and {len(buffers)} values do not belong together"
            )
        values = buffers if peer.comm.in_process else [await self._loads(buffer) for buffer in buffers]
        sizes = []
        for task_id, key, value in zip(task_ids, keys, values, strict=True):
            with self.storing:
                if takes(self.core, task_id):
                    nbytes, type_number = self._store(task_id, value)
                    self.core.on_put(task_id, key, nbytes, type_number, time.monotonic())
                else:
                    nbytes = self._measure(value)
            sizes.append(nbytes)
        # No task may ever run here that would report this along with its own result.
        self.execution.flush()
        return {"sizes": sizes}

    async def close(self) -> None:
        """Give up what is being fetched."""
        fetches = list(self._fetches)
        for task in fetches:
            task.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)


def _joined(buffers: list[Any]) -> Any:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)
