"""What dask's Scheduler does with data and workers itself, and ours through a client that lives for one call.

The scheduler of this library opens no payload; code of a user that runs in its process may. May import: every layer
below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdist.compat.scheduler_tasks import TasksView
    from fastdist.scheduler.scheduler import Scheduler


class CallsByClient:
    """The part of the further attributes of a scheduler that a client can do."""

    _scheduler: Scheduler

    if TYPE_CHECKING:

        @property
        def tasks(self) -> TasksView: ...

        def client_desires_keys(self, keys: Iterable[Any], client: str) -> None: ...

    def _client(self) -> Any:
        """A client of this scheduler on its own event loop, for `async with`."""
        from fastdist.client.client import Client
        from fastdist.client.starting import WorkerHome

        scheduler = self._scheduler
        if scheduler._loop is None:
            raise RuntimeError("the scheduler has no event loop before it is started")
        home = WorkerHome(scheduler.address, scheduler._loop, scheduler.token, scheduler.insecure)
        return Client(home, asynchronous=True, set_as_default=False, name="scheduler", insecure=scheduler.insecure)

    async def gather(self, keys: Iterable[Any], serializers: Any = None) -> dict[str, Any]:
        """Fetch results: `{"status": "OK", "data": {key: value}}`, or `{"status": "error", "keys": [...]}`.

        Parameters
        ----------
        keys : iterable
            The tasks; those that are not in memory are an error.
        serializers
            None: others are not available.
        """
        if serializers is not None:
            raise NotImplementedError("Scheduler.gather(serializers=) is not available yet")
        wanted = list(keys)
        states = {key: self.tasks[key].state if key in self.tasks else None for key in wanted}
        missing = [key for key, state in states.items() if state != "memory"]
        if missing:
            return {"status": "error", "keys": missing}
        from fastdist.client.future import Future

        async with self._client() as client:
            return {"status": "OK", "data": await client.gather({key: Future(key, client) for key in wanted})}

    async def scatter(
        self,
        data: Mapping[Any, Any],
        workers: Iterable[str] | None = None,
        client: str = "scheduler-scatter",
        broadcast: bool | int = False,
        timeout: float = 2,
    ) -> list[Any]:
        """Put values on workers by their keys; they stay until `client_releases_keys` of that client's name.

        Parameters
        ----------
        data : mapping
            Key -> value.
        workers : list of str, optional
            Where to.
        client : str
            A name of one's own; not that of a connected client.
        broadcast : bool or int
            Whether all workers, or how many, get a copy.
        timeout : float
            Seconds to wait for the first worker.
        """
        async with self._client() as own:
            futures = await own.scatter(dict(data), workers=workers, broadcast=broadcast, timeout=timeout, direct=False)
            self.client_desires_keys(list(futures), client)
            return list(futures)

    async def get_worker_logs(
        self, n: int | None = None, workers: Iterable[str] | None = None, nanny: bool = False
    ) -> dict[str, Any]:
        """The last log lines of workers, or of their nannies; see `Client.get_worker_logs`."""
        async with self._client() as client:
            return dict(await client.get_worker_logs(n=n, workers=workers, nanny=nanny))

    async def benchmark_hardware(self) -> dict[str, dict[str, float]]:
        """How fast disks, memory and network of the workers are; see `Client.benchmark_hardware`."""
        async with self._client() as client:
            return dict(await client.benchmark_hardware())

    async def proxy(self, msg: Mapping[str, Any], worker: str, serializers: Any = None) -> Any:
        """Call an operation of one worker.

        Parameters
        ----------
        msg : mapping
            `op`, and the fields of the operation.
        worker : str
            Address or name.
        serializers
            None: others are not available.
        """
        if serializers is not None:
            raise NotImplementedError("Scheduler.proxy(serializers=) is not available yet")
        (entry,) = self._scheduler.members.select([worker])
        return await entry.peer.call(msg["op"], **{name: value for name, value in msg.items() if name != "op"})
