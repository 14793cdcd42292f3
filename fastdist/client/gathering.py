"""Results to the client: those that came along with their state, and those that have to be fetched.

Fetching goes straight to the workers that hold the results, several at once, each in batches; what a worker
does not have is asked of another holder, and what no reachable worker has comes through the scheduler. May
import: `_core`, `rpc`, `protocol`, `errors`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import TaskStatus
from fastdist.client.actor import Actor
from fastdist.client.containers import SKIPPED
from fastdist.client.current import _current_client
from fastdist.client.future import Future
from fastdist.client.outcomes import Outcomes
from fastdist.client.waiting import block_until_done, until_done
from fastdist.errors import CommClosedError, MessageError
from fastdist.protocol import results
from fastdist.protocol.failures import load_failure
from fastdist.rpc.pool import ConnectionPool

if TYPE_CHECKING:
    from fastdist.client.connection import SchedulerConnection

logger = logging.getLogger("fastdist.client")

#: One request to a worker asks for about this many bytes, and at most so many results.
BATCH_BYTES = 16 << 20
BATCH_RESULTS = 5_000
#: Requests in flight, to all workers together.
MAX_REQUESTS = 50
#: Seconds until the holders of a result that was not where it should be are asked for again.
RETRY_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0)

#: The flags of a get-data reply.
MISSING, FOUND, UNPICKLABLE = 0, 1, 2


@dataclass
class Fetched:
    """A result as it arrived: an object of this process, or bytes; or the error of one that cannot travel."""

    value: Any
    in_process: bool = False
    unpicklable: bool = False

    def load(self) -> Any:
        """The result.

        Raises
        ------
        Exception
            The error of a result that could not be turned into bytes.
        """
        if self.unpicklable:
            raise self.value if isinstance(self.value, BaseException) else load_failure(self.value)
        if not self.in_process:
            return results.loads([self.value])
        return self.value._away() if type(self.value) is Actor else self.value


@dataclass
class Wanted:
    """A result that has to be fetched."""

    client_id: int
    task_id: int = 0
    size: int = 0
    holders: list[str] = field(default_factory=list)


class Gatherer:
    """Collects the results of futures.

    Parameters
    ----------
    table : FutureTable
    outcomes : Outcomes
    connection : SchedulerConnection
    pool : ConnectionPool
        Connections to workers.
    direct : bool
        Whether workers are asked; if not, everything comes through the scheduler.
    """

    def __init__(
        self,
        table: FutureTable,
        outcomes: Outcomes,
        connection: SchedulerConnection,
        pool: ConnectionPool,
        direct: bool = True,
    ):
        self._table = table
        self._outcomes = outcomes
        self._connection = connection
        self._pool = pool
        self._direct = direct

    # -- the steps that both kinds of callers share ----------------------------------------------------------

    def collect(self, futures: list[Future], skip: bool) -> tuple[list[Any], list[int], list[int]]:
        """The results that are here, the positions to be fetched, and those that are not done after all.

        Raises
        ------
        Exception
            The error of the first failed or cancelled future, unless `skip`: then its value is SKIPPED.
        """
        values, missing = self._table.gather(futures)
        fetch: list[int] = []
        undone: list[int] = []
        for position in missing:
            future = futures[position]
            state = future.state
            if state == TaskStatus.STATUS_FINISHED:
                fetch.append(position)
            elif state != TaskStatus.STATUS_PENDING:
                if not skip:
                    self._outcomes.raise_error(future)
                values[position] = SKIPPED
            else:
                undone.append(position)
        return values, fetch, undone

    def gather_blocking(
        self,
        futures: list[Future],
        run: Any,
        skip: bool = False,
        timeout: float | None = None,
        direct: Any = None,
    ) -> list[Any]:
        """The results of the futures, in order; blocks this thread.

        Parameters
        ----------
        run : callable
            Runs a coroutine on the client's loop and waits for it.
        skip : bool
            Leave out what failed (as SKIPPED) instead of raising.
        timeout : float, optional
            Seconds.
        direct : bool, optional
            Whether to ask the workers.
        """
        while True:
            block_until_done(
                self._table, futures, timeout, stop_on_failure=not skip, connection=self._connection
            )
            values, fetch, undone = self.collect(futures, skip)
            if undone:
                continue
            if fetch:
                fetched = run(self.fetch([futures[position] for position in fetch], direct), timeout)
                self._place(values, fetch, fetched, skip)
                if any(each is None for each in fetched):
                    continue
            return values

    async def gather(
        self, futures: list[Future], skip: bool = False, timeout: float | None = None, direct: Any = None
    ) -> list[Any]:
        """`gather_blocking` for coroutines on the client's loop."""
        while True:
            await until_done(self._table, futures, timeout, stop_on_failure=not skip)
            values, fetch, undone = self.collect(futures, skip)
            if undone:
                continue
            if fetch:
                fetched = await asyncio.wait_for(
                    self.fetch([futures[position] for position in fetch], direct), timeout
                )
                self._place(values, fetch, fetched, skip)
                if any(each is None for each in fetched):
                    continue
            return values

    def _place(
        self, values: list[Any], positions: list[int], fetched: Sequence[Fetched | None], skip: bool
    ) -> None:
        # Loaded here, not where it arrived: loading is work, and belongs to whoever wants the result.
        # Futures and actors in results belong to the client that asked.
        token = _current_client.set(self._table.client)
        try:
            for position, each in zip(positions, fetched, strict=True):
                if each is None:
                    continue
                try:
                    values[position] = each.load()
                except Exception:
                    if not skip:
                        raise
                    values[position] = SKIPPED
        finally:
            _current_client.reset(token)

    # -- fetching --------------------------------------------------------------------------------------------

    async def fetch(self, futures: list[Future], direct: bool | None = None) -> list[Fetched | None]:
        """Fetch results of finished tasks; None for those that are finished no more (to be made again)."""
        wanted = {future.id: Wanted(future.id) for future in futures}
        found: dict[int, Fetched] = {}
        by_id = {future.id: future for future in futures}
        if not (self._direct if direct is None else direct):
            await self._fetch_through_scheduler(list(wanted.values()), found)
            return [found.get(future.id) for future in futures]
        for pause in RETRY_PAUSES:
            await self._locate(list(wanted.values()))
            lost = await self._fetch_from_holders(wanted, found)
            unreachable = [wanted[id] for id in wanted if id not in found and id in lost]
            if unreachable:
                await self._fetch_through_scheduler(unreachable, found)
            wanted = {
                id: each
                for id, each in wanted.items()
                if id not in found and by_id[id].state == TaskStatus.STATUS_FINISHED
            }
            if not wanted:
                break
            await asyncio.sleep(pause)
        else:
            keys = ", ".join(repr(by_id[id].key) for id in list(wanted)[:3])
            raise CommClosedError(f"{len(wanted)} results could not be fetched from any worker ({keys}, ...)")
        return [found.get(future.id) for future in futures]

    async def _locate(self, wanted: list[Wanted]) -> None:
        reply = await self._connection.call("who-has", ids=[each.client_id for each in wanted])
        rows = reply.get("tasks")
        if not isinstance(rows, list | tuple) or len(rows) != len(wanted):
            raise MessageError("the reply to 'who-has' does not have one row for each id")
        for each, row in zip(wanted, rows, strict=True):
            # None: the scheduler does not know it any more.
            task_id, size, addresses = row or (0, 0, ())
            each.task_id, each.size, each.holders = task_id, size, list(addresses)

    async def _fetch_from_holders(self, wanted: dict[int, Wanted], found: dict[int, Fetched]) -> set[int]:
        """Ask until each result is found or has no holder left; the ids whose holders did not answer."""
        unreachable: set[int] = set()
        open_requests = asyncio.Semaphore(MAX_REQUESTS)
        while True:
            by_worker: dict[str, list[Wanted]] = {}
            for id, each in wanted.items():
                if id not in found and each.holders:
                    # Spread over the holders of what is held more than once.
                    by_worker.setdefault(each.holders[id % len(each.holders)], []).append(each)
            if not by_worker:
                return unreachable
            await asyncio.gather(
                *(
                    self._fetch_from(address, batch, found, unreachable, open_requests)
                    for address, group in by_worker.items()
                    for batch in batches(group)
                )
            )

    async def _fetch_from(
        self,
        address: str,
        batch: list[Wanted],
        found: dict[int, Fetched],
        unreachable: set[int],
        open_requests: asyncio.Semaphore,
    ) -> None:
        try:
            async with open_requests:
                peer = await self._pool.get(address)
                reply = await peer.call("get-data", task_ids=[each.task_id for each in batch])
        except (OSError, TimeoutError) as error:
            logger.debug("results could not be fetched from %s: %s", address, error)
            unreachable.update(each.client_id for each in batch)
            for each in batch:
                each.holders.remove(address)
            return
        self._take_reply(reply, address, batch, found, peer.comm.in_process)

    def _take_reply(
        self, reply: Any, address: str, batch: list[Wanted], found: dict[int, Fetched], in_process: bool
    ) -> None:
        flags = reply.get("found")
        if not isinstance(flags, list | tuple) or len(flags) != len(batch):
            raise MessageError(f"the reply to 'get-data' of {address} does not have one flag for each id")
        if len(reply.buffers) != sum(flag != MISSING for flag in flags):
            raise MessageError(
                f"the reply to 'get-data' of {address} does not have one payload for each result"
            )
        buffers = iter(reply.buffers)
        for each, flag in zip(batch, flags, strict=True):
            if flag == MISSING:
                each.holders.remove(address)
            else:
                found[each.client_id] = Fetched(next(buffers), in_process, flag == UNPICKLABLE)

    async def _fetch_through_scheduler(self, wanted: list[Wanted], found: dict[int, Fetched]) -> None:
        for batch in batches(wanted):
            reply = await self._connection.call("gather", ids=[each.client_id for each in batch])
            for each in batch:
                each.holders = [self._connection.address]
            self._take_reply(reply, self._connection.address, batch, found, self._connection.in_process)


def batches(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Cut a request into parts of bounded size."""
    batch: list[Wanted] = []
    size = 0
    for each in wanted:
        if batch and (size + each.size > BATCH_BYTES or len(batch) == BATCH_RESULTS):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch
