"""The attributes and methods of dask's Worker and Nanny that ours do not have themselves, on demand.

`Worker.__getattr__` and `Nanny.__getattr__` look here. May import: every layer below.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple

from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker import inspect
from fastdist.comm.addresses import parse_address
from fastdist.compat.loops import io_loop
from fastdist.compat.scheduler_members import host_of
from fastdist.compat.worker_state import WorkerState
from fastdist.security import Security

if TYPE_CHECKING:
    from fastdist.nanny import Nanny
    from fastdist.worker.worker import Worker

#: What belongs to features that do not exist yet.
NOT_BUILT = {
    "transfer_incoming_log": "the log of transfers",
    "transfer_outgoing_log": "the log of transfers",
    "bandwidth": "the measurement of bandwidth",
    "latency": "the measurement of latency",
    "scheduler_delay": "the measurement of latency",
    "monitor": "the system monitor",
    "digests": "digests",
    "digests_total": "digests",
    "counters": "counters",
    "get_profile": "profiles",
    "profile_recent": "profiles",
    "handle_stimulus": "events of the state machine by hand",
    "batched_stream": "the stream to the scheduler",
    "http_server": "the HTTP server",
    "gather_dep": "fetching by hand",
    "find_missing": "fetching by hand",
}


class _Server:
    """What workers and nannies have in common."""

    kind = "Worker"

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        if name in NOT_BUILT:
            raise NotImplementedError(f"{self.kind}.{name} is not available yet: {NOT_BUILT[name]}")
        raise AttributeError(f"{type(self._server).__name__!r} object has no attribute {name!r}")

    @property
    def services(self) -> dict[str, Any]:
        """Its other servers; there are none yet."""
        return {}

    @property
    def service_ports(self) -> dict[str, int]:
        """Their ports."""
        return {}


class PeerCalls:
    """Operations of another server, each a coroutine method: `await worker.rpc(address).identity()`."""

    def __init__(self, worker: Worker, address: str) -> None:
        self._worker = worker
        self.address = address

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def operation(**fields: Any) -> Any:
            peer = self._worker.scheduler
            if self.address != self._worker.scheduler_address:
                peer = await self._worker.peers.get(self.address)
            reply = await peer.call(name.replace("_", "-"), **fields)
            return reply.get(name, reply)

        return operation

    def __repr__(self) -> str:
        return f"<calls of {self.address!r}>"


class WorkerAttributes(_Server):
    """What dask's Worker has and ours has not.

    Parameters
    ----------
    worker : Worker
        The server that is looked at.
    """

    _server: Worker

    @property
    def loop(self) -> Any:
        """The event loop that it lives on, as tornado's IOLoop."""
        loop = getattr(self._server, "event_loop", None)
        if loop is None:
            raise RuntimeError("the worker has no event loop before it is started")
        return io_loop(loop)

    io_loop = loop

    @property
    def state(self) -> WorkerState:
        """Its tasks, and how it is."""
        return WorkerState(self._server)

    @property
    def host(self) -> str:
        """The host in its address."""
        return host_of(self._server.address)

    @property
    def ip(self) -> str:
        """As `host`."""
        return self.host

    @property
    def port(self) -> int:
        """The port in its address; 0 of a worker that is reached within its process only."""
        address = self._server.address
        return 0 if address.startswith("inproc://") else parse_address(address).port

    @property
    def id(self) -> str:
        """What tells it from other workers."""
        return f"{type(self._server).__name__}-{id(self._server):x}"

    @property
    def listen_address(self) -> str:
        """Where it listens."""
        listener = self._server._listener
        return "" if listener is None else listener.address

    @property
    def address_safe(self) -> str:
        """Its address; "not-running" before the start."""
        return self._server.address or "not-running"

    @property
    def heartbeat_interval(self) -> float | None:
        """Seconds between two signs of life; None before the scheduler said it."""
        return self._server._heartbeat_interval

    @property
    def execution_state(self) -> dict[str, Any]:
        """Where code on this worker runs."""
        return {"scheduler": self._server.scheduler_address, "ioloop": self.loop, "worker": self._server}

    @property
    def active_keys(self) -> set[Any]:
        """Keys of the tasks that execute."""
        return {task.key for task in self.state.executing | self.state.long_running}

    @property
    def active_threads(self) -> dict[int, Any]:
        """Id of a thread -> key of the task that it executes."""
        core = self._server.core
        executing = {thread: inspect.key_of(core, task) for task, thread in self._server.execution.executing()}
        return {thread: decode_key(key) for thread, key in executing.items() if key is not None}

    @property
    def executors(self) -> dict[str, Executor]:
        """The executors that tasks may name; those that name none run in threads of the worker itself."""
        return {"offload": self._server._offload, **self._server.further_executors}

    @property
    def client(self) -> Any:
        """The client that its tasks use."""
        from fastdist.context import client_of

        return client_of(self._server)

    @property
    def rpc(self) -> Callable[[str], PeerCalls]:
        """Gives the operations of the scheduler, or of another worker, by its address."""
        return lambda address: PeerCalls(self._server, address)

    @property
    def security(self) -> Security:
        """What it knows about TLS."""
        return Security()

    @property
    def extensions(self) -> dict[str, Any]:
        """Further parts of it; there are none."""
        return {}

    async def heartbeat(self) -> None:
        """Tell the scheduler now how it is."""
        server = self._server
        server.scheduler.notify("heartbeat", metrics={**server.get_metrics(), **await server._added(server.metrics)})

    def get_current_task(self) -> Any:
        """Key of the task that executes here.

        Raises
        ------
        ValueError
            Outside of a task.
        """
        from fastdist.context import get_current_task

        return get_current_task().key

    def keys(self) -> list[Any]:
        """Keys of all results here."""
        return [decode_key(key) for _, key, _ in inspect.held(self._server.core) if key]


class NannyMemoryManager(NamedTuple):
    """The memory that a nanny allows its worker: bytes, the fraction of them above which it is killed, and seconds."""

    memory_limit: int | None
    memory_terminate_fraction: float | None
    memory_monitor_interval: float


class NannyAttributes(_Server):
    """What dask's Nanny has and ours has not.

    Parameters
    ----------
    nanny : Nanny
        The server that is looked at.
    """

    kind = "Nanny"
    _server: Nanny

    @property
    def process(self) -> Any:
        """The process of the worker, with `pid`, or None."""
        return self._server._process

    @property
    def local_directory(self) -> str:
        """Folder of the worker's temporary files."""
        return self._server.worker_dir

    @property
    def memory_manager(self) -> NannyMemoryManager:
        """What it watches of the memory of its worker."""
        thresholds = self._server._thresholds
        return NannyMemoryManager(self._server.memory_limit, thresholds.terminate, self._server._monitor_interval)

    @property
    def scheduler_addr(self) -> str | None:
        """Address of the scheduler."""
        return self._server.scheduler_address

    async def instantiate(self) -> Any:
        """Start the worker process if it does not run; the status afterwards."""
        if not self._server.is_alive():
            await self._server.start()
        return self._server.status


def attribute_of(worker: Worker, name: str) -> Any:
    """An attribute of dask's Worker, for ours."""
    return getattr(WorkerAttributes(worker), name)


def nanny_attribute_of(nanny: Nanny, name: str) -> Any:
    """An attribute of dask's Nanny, for ours."""
    return getattr(NannyAttributes(nanny), name)
