"""Queue: values in order that code anywhere in the cluster puts and gets. May import: `client`, `protocol`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Generator
from typing import Any

from fastdist.client.containers import find_futures
from fastdist.client.coordination.primitive import Primitive, dump, load, seconds

#: Values that are asked for at once.
BATCH_VALUES = 1_000


class Queue(Primitive):
    """Values that are shared by the name of their queue: first in, first out, each to one who gets it.

    They may be futures, or have futures in their lists, tuples, sets and dicts: their tasks are kept as long as they
    are in the queue. The scheduler keeps the values as bytes; of large data, scatter it and put the future.

    Parameters
    ----------
    name : str, optional
        The same name is the same queue; a name of its own by default.
    client : Client, optional
        The client to ask; the one of the task or the current one by default.
    maxsize : int
        How many values there may be, 0 for no such limit; what the first one says who makes it holds.

    Examples
    --------
    >>> queue = Queue("results")
    >>> queue.put(client.submit(sum, [1, 2, 3]))
    >>> queue.get().result()
    6
    """

    kind = "queue"

    def __init__(self, name: str | None = None, client: Any = None, maxsize: int = 0) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize= must be a whole number, not {maxsize!r}")
        super().__init__(name, client)
        self.maxsize = maxsize
        self._closed = False
        self._creation = uuid.uuid4().hex
        self._created: asyncio.Future[None] | None = None
        if self._client is not None:
            self._create_soon()

    def _create_soon(self) -> None:
        # In a coroutine there is no waiting; what is asked next waits for it.
        if self._client.asynchronous:
            self._client._run_errand(self._create)
        else:
            self._call(self._create)

    async def _create(self) -> None:
        """Have the scheduler make it or count this user of it, once."""
        if self._created is None:
            asked = self._ask("queue-create", name=self._name, maxsize=self.maxsize, request=self._creation)
            self._created = asyncio.ensure_future(asked)
        try:
            await asyncio.shield(self._created)
        except BaseException:
            if self._created.done():
                self._created = None
            raise

    async def _ready(self) -> Queue:
        await self._create()
        return self

    def __await__(self) -> Generator[Any, None, Queue]:
        return self._call(self._ready, asynchronous=True).__await__()

    def put(self, value: Any, timeout: Any = None, **kwargs: Any) -> Any:
        """Put a value at the end; wait while the queue is full.

        Parameters
        ----------
        value : object
            A future, or anything that can be pickled.
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.

        Raises
        ------
        TimeoutError
            If there is no room in time.
        SerializationError
            If the value cannot be pickled.
        MemoryError
            If it has no room on the scheduler (the setting `scheduler.max-coordination-bytes`).
        """
        return self._call(self._put, value, dump(value), seconds(timeout), **kwargs)

    async def _put(self, value: Any, payload: list[Any], timeout: float | None) -> None:
        await self._create()
        # The futures in `value` live until the scheduler has noted that the queue wants them.
        keys = [future.key_bytes for future in find_futures(value)]
        request = uuid.uuid4().hex
        try:
            await self._ask(
                "queue-put", timeout=timeout, name=self._name, request=request, keys=keys, buffers=payload
            )
        except asyncio.CancelledError:
            self._later(self._give_back, request)
            raise

    def get(self, timeout: Any = None, batch: bool | int = False, **kwargs: Any) -> Any:
        """Take the first value out; wait until there is one.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.
        batch : bool or int
            True for a list of all values that are there now; a number for a list of so many, which are waited for.

        Returns
        -------
        object
            The value, or a list of values.

        Raises
        ------
        TimeoutError
            If there is none in time.
        NotImplementedError
            If a timeout is given together with a number.
        """
        if not isinstance(batch, int) or batch < 0:
            raise ValueError(f"batch= must be True, False or a number of values, not {batch!r}")
        if batch and batch is not True and timeout is not None:
            raise NotImplementedError(
                "a queue cannot wait for a number of values with a timeout= as well; leave one of them out"
            )
        return self._call(self._get, seconds(timeout), batch, **kwargs)

    async def _get(self, timeout: float | None, batch: bool | int) -> Any:
        await self._create()
        requests: list[str] = []
        try:
            if batch is True:
                return await self._all(requests)
            values = await self._several(requests, timeout, batch or 1)
        except BaseException:
            # What came already, and what may be on its way, goes to somebody else.
            for request in reversed(requests):
                self._later(self._give_back, request)
            requests.clear()
            raise
        finally:
            for request in requests:
                self._later(self._confirm, request)
        return values if batch else values[0]

    async def _all(self, requests: list[str]) -> list[Any]:
        values: list[Any] = []
        more = True
        while more:
            found, more = await self._fetch(requests, BATCH_VALUES, None, False)
            values += found
        return values

    async def _several(self, requests: list[str], timeout: float | None, count: int) -> list[Any]:
        values: list[Any] = []
        while len(values) < count:
            values += (await self._fetch(requests, min(BATCH_VALUES, count - len(values)), timeout, True))[0]
        return values

    async def _fetch(
        self, requests: list[str], limit: int, timeout: float | None, wait: bool
    ) -> tuple[list[Any], bool]:
        request = uuid.uuid4().hex
        requests.append(request)
        reply = await self._ask(
            "queue-get", timeout=timeout, name=self._name, request=request, limit=limit, wait=wait
        )
        return [load(self._client, [buffer]) for buffer in reply.buffers], bool(reply["more"])

    async def _confirm(self, request: str) -> None:
        await self._ask("queue-received", request=request)

    async def _give_back(self, request: str) -> None:
        await self._ask("queue-give-back", name=self._name, request=request)

    def qsize(self, **kwargs: Any) -> Any:
        """How many values there are."""
        return self._call(self._qsize, **kwargs)

    async def _qsize(self) -> int:
        await self._create()
        return int((await self._ask("queue-size", name=self._name))["size"])

    def close(self) -> None:
        """Use it no more, without waiting for the scheduler; with the last user the queue and its values are gone."""
        if not self._closed:
            self._closed = True
            self._tell(self._release)

    async def _release(self) -> None:
        await self._create()
        await self._ask("queue-release", name=self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, None, self.maxsize)
