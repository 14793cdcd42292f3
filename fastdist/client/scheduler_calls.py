"""`client.scheduler`: operations of the scheduler by name, for libraries that ask for them.

May import: what the client may.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle, no_default
from fastdist.client.options import parse_workers


class SchedulerProxy:
    """Operations of a scheduler, each a coroutine method that runs on the client's event loop.

    Examples
    --------
    >>> client.sync(client.scheduler.identity)["type"]
    'Scheduler'
    """

    def __init__(self, client: Lifecycle) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """Where the scheduler is; "" before the client is connected."""
        return str(self._client._connection.address or "")

    addr = address

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def operation(**fields: Any) -> Any:
            reply = await self._call(name.replace("_", "-"), **fields)
            return reply.get(name, reply)

        return operation

    async def _call(self, op: str, **fields: Any) -> Any:
        await self._client._started()
        return await self._client._connection.call(op, **fields)

    async def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """The scheduler and its workers, in plain values."""
        return dict((await self._call("identity", n_workers=n_workers))["identity"])

    async def who_has(self, keys: Any = None) -> dict[Any, list[str]]:
        """Key -> addresses of the workers that hold its result."""
        wanted = None if keys is None else [encode_key(key) for key in keys]
        reply = await self._call("who-has", keys=wanted)
        return {decode_key(bytes(key)): list(addresses) for key, addresses in reply["who_has"]}

    async def has_what(self, workers: Any = None) -> dict[str, list[Any]]:
        """Address -> keys of the results that the worker holds."""
        return await self._keys_by_worker("has-what", "has_what", workers)

    async def processing(self, workers: Any = None) -> dict[str, list[Any]]:
        """Address -> keys of the tasks that the worker was given and has not finished."""
        return await self._keys_by_worker("processing", "processing", workers)

    async def _keys_by_worker(self, op: str, name: str, workers: Any) -> dict[str, list[Any]]:
        held = (await self._call(op, workers=parse_workers(workers)))[name]
        return {address: [decode_key(bytes(key)) for key in keys] for address, keys in held.items()}

    async def ncores(self, workers: Any = None) -> dict[str, int]:
        """Address -> threads."""
        return dict((await self._call("ncores", workers=parse_workers(workers)))["ncores"])

    # What methods of the client do, by the names and arguments of the operations of dask's scheduler.

    async def _by_client(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # On the client's loop, where this runs, its methods give awaitables.
        outcome = getattr(self._client, name)(*args, **kwargs)
        return await outcome if inspect.isawaitable(outcome) else outcome

    def _futures(self, keys: Any) -> list[Future[Any]]:
        return [Future(key, cast(Any, self._client)) for key in keys]

    async def nbytes(self, keys: Any = None, summary: bool = True) -> dict[Any, int]:
        """Key, or name of a prefix if `summary`, -> bytes of the results."""
        return dict(await self._by_client("nbytes", keys, summary))

    async def gather(self, keys: Any) -> dict[str, Any]:
        """`{"status": "OK", "data": {key: value}}`, or `{"status": "error", "keys": [...]}` if some are missing."""
        held = await self.who_has(keys)
        missing = [key for key in keys if not held.get(key)]
        if missing:
            return {"status": "error", "keys": missing}
        values = await self._by_client("gather", self._futures(keys))
        return {"status": "OK", "data": dict(zip(keys, values, strict=True))}

    async def replicate(self, keys: Any, n: int | None = None, workers: Any = None) -> None:
        """Have several workers hold the same results."""
        await self._by_client("replicate", self._futures(keys), n, workers)

    async def get_metadata(self, keys: Any, default: Any = no_default) -> Any:
        """The metadata at a path."""
        return await self._by_client("get_metadata", keys, default)

    async def set_metadata(self, keys: Any, value: Any) -> None:
        """Set the metadata at a path."""
        await self._by_client("set_metadata", keys, value)

    async def log_event(self, topic: Any, msg: Any) -> None:
        """Note an event."""
        await self._by_client("log_event", topic, msg)

    async def events(self, topic: str | None = None) -> Any:
        """The events of a topic, or of all by topic."""
        return await self._by_client("get_events", topic)

    async def logs(self, n: int | None = None) -> Any:
        """The last lines of the scheduler's log."""
        return await self._by_client("get_scheduler_logs", n)

    async def worker_logs(self, n: int | None = None, workers: Any = None, nanny: bool = False) -> Any:
        """The last lines of the logs of workers, or of their nannies."""
        return await self._by_client("get_worker_logs", n, workers, nanny)

    async def benchmark_hardware(self) -> Any:
        """How fast disks, memory and network of the workers are."""
        return await self._by_client("benchmark_hardware")

    async def retire_workers(self, workers: Any = None, close_workers: bool = False, **choice: Any) -> dict[str, Any]:
        """Have workers give their data to others and leave; what each of them was, by address."""
        return dict(await self._by_client("retire_workers", workers, close_workers, **choice))

    async def workers_to_close(self, **choice: Any) -> list[Any]:
        """Workers that the cluster can do without: addresses, or the attribute that is asked for."""
        return list((await self._call("workers-to-close", **choice))["workers"])

    def __repr__(self) -> str:
        return f"<scheduler at {self.address!r}>"


class SchedulerCalls(Lifecycle):
    """The part of Client that gives operations of the scheduler by name."""

    @property
    def scheduler(self) -> SchedulerProxy:
        """Operations of the scheduler, such as `await client.scheduler.who_has(keys=[...])`, and its `address`.

        They run on the client's event loop: elsewhere, use `client.sync(client.scheduler.identity)`.
        """
        return SchedulerProxy(self)
