"""`client.scheduler`: operations of the scheduler by name, for libraries that ask for them.

May import: what the client may.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.lifecycle import Lifecycle
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
