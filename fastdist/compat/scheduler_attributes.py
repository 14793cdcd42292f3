"""The attributes and methods of dask's Scheduler that ours does not have itself, on demand.

`Scheduler.__getattr__` looks here. May import: every layer below.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler import inspect
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.comm.addresses import parse_address
from fastdist.compat.loops import io_loop
from fastdist.compat.memory import MemoryState
from fastdist.compat.names import group_name, prefix_name
from fastdist.compat.scheduler_client import CallsByClient
from fastdist.compat.scheduler_members import ClientsView, WorkerState, WorkersView, host_of
from fastdist.compat.scheduler_records import SchedulerRecords
from fastdist.compat.scheduler_tasks import (
    TaskGroup,
    TaskPrefix,
    TaskState,
    TasksView,
    tasks_in,
)
from fastdist.status import Status

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

#: What belongs to features that do not exist yet.
NOT_BUILT = {
    "computations": "the list of computations",
    "erred_tasks": "the list of failed tasks",
    "http_server": "the HTTP server",
    "http_application": "the HTTP server",
    "bandwidth": "the measurement of bandwidth",
    "bandwidth_workers": "the measurement of bandwidth",
    "bandwidth_types": "the measurement of bandwidth",
    "digests": "digests",
    "counters": "counters",
    "transition": "moving tasks between states by hand",
    "transitions": "moving tasks between states by hand",
    "adaptive_target": "adaptive scaling",
    "performance_report": "performance reports",
    "get_profile": "profiles",
    "jupyter": "Jupyter servers",
    "set_restrictions": "changing restrictions later",
}


class SchedulerAttributes(SchedulerRecords, CallsByClient):
    """What dask's Scheduler has and ours has not.

    Parameters
    ----------
    scheduler : Scheduler
        The server that is looked at.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __getattr__(self, name: str) -> Any:
        if name in NOT_BUILT:
            raise NotImplementedError(f"Scheduler.{name} is not available yet: {NOT_BUILT[name]}")
        raise AttributeError(f"'Scheduler' object has no attribute {name!r}")

    # -- where it is -----------------------------------------------------------------------------------------

    @property
    def loop(self) -> Any:
        """The event loop that it lives on, as tornado's IOLoop."""
        loop = self._scheduler._loop
        if loop is None:
            raise RuntimeError("the scheduler has no event loop before it is started")
        return io_loop(loop)

    io_loop = loop

    @property
    def listen_address(self) -> str:
        """Where it listens."""
        return self._scheduler.address

    @property
    def address_safe(self) -> str:
        """Its address; "not-running" before the start."""
        return self._scheduler.address if self._scheduler._listener is not None else "not-running"

    @property
    def host(self) -> str:
        """The host in its address."""
        return host_of(self._scheduler.address)

    @property
    def ip(self) -> str:
        """As `host`."""
        return self.host

    @property
    def port(self) -> int:
        """The port in its address; 0 of a scheduler that is reached within its process only."""
        address = self._scheduler.address
        return 0 if address.startswith("inproc://") else parse_address(address).port

    @property
    def listeners(self) -> list[Any]:
        """What accepts its connections."""
        return [listener for listener in self._scheduler.listeners if listener is not None]

    @property
    def listener(self) -> Any:
        """The first of `listeners`."""
        return self._scheduler._listener

    @property
    def thread_id(self) -> int:
        """Id of the thread that asks: a scheduler is used from its own thread only."""
        return threading.get_ident()

    @property
    def time_started(self) -> float:
        """When it was made."""
        return self._scheduler.started

    @property
    def services(self) -> dict[str, Any]:
        """Its other servers; there are none yet."""
        return {}

    @property
    def service_ports(self) -> dict[str, int]:
        """Their ports."""
        return {}

    async def start(self) -> Scheduler:
        """Start it, as `await scheduler` does."""
        return await self._scheduler

    @property
    def allowed_failures(self) -> int:
        """How many workers may die while executing a task before it fails."""
        return int(self._scheduler._core_settings["allowed_failures"])

    # -- tasks -----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> TasksView:
        """Key -> TaskState."""
        return TasksView(self._scheduler)

    @property
    def task_prefixes(self) -> dict[str, TaskPrefix]:
        """Name -> tasks with the same function."""
        names = inspect.prefixes(self._scheduler.core.model)
        return {name or "Other": TaskPrefix(self._scheduler, name or "Other") for name in names}

    @property
    def task_groups(self) -> dict[str, TaskGroup]:
        """Name -> tasks of the same collection; it costs as much as there are tasks."""
        names = dict.fromkeys(group_name(key) for key in self.tasks)
        return {name: TaskGroup(self._scheduler, name) for name in names}

    @property
    def n_tasks(self) -> int:
        """How many tasks are known."""
        return self._scheduler.core.n_tasks()

    @property
    def queued(self) -> list[TaskState]:
        """Tasks that could run, best first."""
        return sorted(tasks_in(self._scheduler, "queued"), key=lambda task: task.priority)

    @property
    def unrunnable(self) -> dict[TaskState, float]:
        """Tasks that no worker may run -> when the scheduler was started: it notes no time for each."""
        return dict.fromkeys(tasks_in(self._scheduler, "no-worker"), self._scheduler.started)

    @property
    def replicated_tasks(self) -> set[TaskState]:
        """Tasks whose result is on more than one worker."""
        return {task for task in tasks_in(self._scheduler, "memory") if len(task.who_has) > 1}

    @property
    def transition_counter(self) -> int:
        """How many transitions there were."""
        return self._scheduler.core.model.n_transitions

    def get_task_status(self, keys: Iterable[Any] | None = None) -> dict[Any, str | None]:
        """Key -> state; None for a key that is not known."""
        tasks = self.tasks
        return {key: tasks[key].state if key in tasks else None for key in keys or ()}

    def get_task_prefix_states(self) -> dict[str, dict[str, int]]:
        """Name of a prefix -> how many of its tasks are in each state."""
        wanted = ("memory", "erred", "released", "processing", "waiting")
        states = {name: prefix.states for name, prefix in self.task_prefixes.items()}
        return {name: {state: counts[state] for state in wanted} for name, counts in states.items()}

    def validate_state(self, allow_overlap: bool = False) -> None:
        """Check every invariant of the core; AssertionError names the first that does not hold."""
        self._scheduler.core.validate()

    def is_rootish(self, ts: TaskState) -> bool:
        """Whether a task belongs to many with few inputs."""
        group = ts.group
        inputs = group.dependencies
        return (
            not (ts.worker_restrictions or ts.host_restrictions or ts.resource_restrictions)
            and len(group) > 2 * self.total_nthreads
            and len(inputs) < 5
            and sum(map(len, inputs)) < 5
        )

    # -- workers ---------------------------------------------------------------------------------------------

    @property
    def workers(self) -> WorkersView:
        """Address -> WorkerState."""
        return WorkersView(self._scheduler)

    @property
    def aliases(self) -> dict[str | int, str]:
        """Name -> address."""
        return {entry.name: entry.address for entry in self._scheduler.members}

    @property
    def host_info(self) -> dict[str, dict[str, Any]]:
        """Host -> what its workers have."""
        hosts: dict[str, dict[str, Any]] = {}
        for worker in self.workers.values():
            host = hosts.setdefault(worker.host, {"addresses": set(), "nthreads": 0, "last-seen": 0.0})
            host["addresses"].add(worker.address)
            host["nthreads"] += worker.nthreads
            host["last-seen"] = max(host["last-seen"], worker.last_seen)
        return hosts

    @property
    def resources(self) -> dict[str, dict[str, float]]:
        """Name of a resource -> address -> amount."""
        amounts: dict[str, dict[str, float]] = defaultdict(dict)
        for worker in self.workers.values():
            for name, amount in worker.resources.items():
                amounts[name][worker.address] = amount
        return dict(amounts)

    @property
    def running(self) -> set[WorkerState]:
        """Workers that take tasks."""
        return {worker for worker in self.workers.values() if worker.status is Status.running}

    @property
    def idle(self) -> dict[str, WorkerState]:
        """Address -> worker with fewer tasks than threads."""
        return {
            worker.address: worker
            for worker in self.workers.values()
            if worker.status is Status.running and len(worker.processing) < worker.nthreads
        }

    @property
    def idle_task_count(self) -> set[WorkerState]:
        """Workers of `idle`."""
        return set(self.idle.values())

    @property
    def saturated(self) -> set[WorkerState]:
        """Workers with more tasks than threads."""
        return {worker for worker in self.running if len(worker.processing) > worker.nthreads}

    @property
    def total_nthreads(self) -> int:
        """Threads of all workers."""
        return sum(entry.nthreads for entry in self._scheduler.members)

    @property
    def total_memory(self) -> int:
        """Memory limits of all workers."""
        return sum(entry.memory_limit for entry in self._scheduler.members)

    @property
    def total_occupancy(self) -> float:
        """Seconds of work that all workers were given."""
        return sum(worker.occupancy for worker in self.workers.values())

    @property
    def memory(self) -> MemoryState:
        """Where the memory of all workers goes."""
        return MemoryState.sum(*(worker.memory for worker in self.workers.values()))

    def workers_list(self, workers: Iterable[str | int] | None) -> list[str]:
        """Addresses of the workers with these addresses, names or hosts; of all for None."""
        return [entry.address for entry in self._scheduler.members.select(workers)]

    def coerce_address(self, addr: Any, resolve: bool = True) -> str:
        """The address of a worker, from its name or its address.

        Raises
        ------
        TypeError
            If it is neither.
        """
        if addr in self.aliases:
            return self.aliases[addr]
        if isinstance(addr, tuple):
            addr = f"tcp://{addr[0]}:{addr[1]}"
        if not isinstance(addr, str):
            raise TypeError(f"addresses should be strings or tuples, got {addr!r}")
        return addr if "://" in addr else f"tcp://{addr}"

    def coerce_hostname(self, host: Any) -> str:
        """The host of a worker with this name, or the host itself."""
        return host_of(self.aliases[host]) if host in self.aliases else str(host)

    def close_worker(self, worker: str) -> None:
        """Ask a worker to close."""
        entry = self._scheduler.members.select([worker])[0]
        entry.peer.notify("close", reason="scheduler-close-worker")

    async def remove_worker(
        self, address: str, *, stimulus_id: str = "", expected: bool = False, close: bool = True
    ) -> str:
        """Forget a worker, and ask it to close; "already-removed" if it is none."""
        entry = self._scheduler.members.by_address.get(self.coerce_address(address))
        if entry is None:
            return "already-removed"
        if close:
            entry.peer.notify("close", reason=stimulus_id or "scheduler-remove-worker")
        entry.closing = entry.closing or expected
        self._scheduler._workers.lose(entry, stimulus_id or "it was removed from the scheduler")
        # What was sent to it may still be on its way; it closes when it reads that.
        if not close:
            await entry.peer.close()
        return "OK"

    async def broadcast(
        self,
        *,
        msg: dict[str, Any],
        workers: Iterable[str] | None = None,
        hosts: Iterable[str] | None = None,
        nanny: bool = False,
        on_error: str = "raise",
    ) -> dict[str, Any]:
        """Call an operation of the workers; address -> answer.

        Parameters
        ----------
        msg : dict
            `op`, and the fields of the operation.
        workers, hosts : list of str, optional
            Which workers; all by default.
        nanny : bool
            Not available: operations of nannies.
        on_error : str
            `raise`, `return` the exception in place of an answer, or `ignore` it.
        """
        if nanny:
            raise NotImplementedError("Scheduler.broadcast(nanny=True) is not available yet")
        if on_error not in ("raise", "return", "return_pickle", "ignore"):
            raise ValueError(f"on_error must be 'raise', 'return', 'return_pickle' or 'ignore', not {on_error!r}")
        entries = self._scheduler.members.select(workers)
        if hosts is not None:
            entries = [entry for entry in entries if host_of(entry.address) in set(hosts)]
        fields = {name: value for name, value in msg.items() if name != "op"}
        answers: dict[str, Any] = {}
        for entry in entries:
            try:
                answers[entry.address] = await entry.peer.call(msg["op"], **fields)
            except Exception as error:
                if on_error == "raise":
                    raise
                if on_error != "ignore":
                    answers[entry.address] = error
        return answers

    # -- clients ---------------------------------------------------------------------------------------------

    @property
    def clients(self) -> ClientsView:
        """Id -> ClientState."""
        return ClientsView(self._scheduler)

    @property
    def client_comms(self) -> dict[str, Any]:
        """Id -> connection of a client."""
        return {entry.name: entry.peer for entry in self._scheduler.members.clients.values()}

    @property
    def stream_comms(self) -> dict[str, Any]:
        """Address -> connection of a worker."""
        return {entry.address: entry.peer for entry in self._scheduler.members}

    def stimulus_cancel(
        self,
        keys: Iterable[Any],
        client: str,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
    ) -> None:
        """Cancel tasks on behalf of a client."""
        state = self.clients[client]
        payload = reason_payload(
            Reason.CANCELLED, msg or f"cancelled by client {client}", cause=reason, by=client
        )
        encoded = [encode_key(key) for key in keys]
        self._scheduler.core.on_cancel(state._number, encoded, force, payload)
        self._scheduler.wake()

    def stimulus_retry(self, keys: Iterable[Any], client: str | None = None) -> tuple[Any, ...]:
        """Try failed tasks again; their keys."""
        wanted = tuple(keys)
        self._scheduler.core.on_retry([encode_key(key) for key in wanted])
        self._scheduler.wake()
        return wanted

    # -- questions -------------------------------------------------------------------------------------------

    def _chosen(self, workers: Iterable[str] | None) -> list[WorkerState]:
        return [WorkerState(self._scheduler, entry) for entry in self._scheduler.members.select(workers)]

    def get_who_has(self, keys: Iterable[Any] | None = None) -> dict[Any, list[str]]:
        """Key -> addresses of the workers that hold its result."""
        tasks = self.tasks
        known = {key: tasks.get(key) for key in (list(tasks) if keys is None else keys)}
        return {
            key: [] if task is None else [worker.address for worker in task.who_has]
            for key, task in known.items()
        }

    def get_has_what(self, workers: Iterable[str] | None = None) -> dict[str, list[Any]]:
        """Address -> keys whose results the worker holds."""
        return {worker.address: [task.key for task in worker.has_what] for worker in self._chosen(workers)}

    def get_processing(self, workers: Iterable[str] | None = None) -> dict[str, list[Any]]:
        """Address -> keys that the worker was given and has not finished."""
        return {worker.address: [task.key for task in worker.processing] for worker in self._chosen(workers)}

    def get_ncores(self, workers: Iterable[str] | None = None) -> dict[str, int]:
        """Address -> threads."""
        return {worker.address: worker.nthreads for worker in self._chosen(workers)}

    def get_ncores_running(self, workers: Iterable[str] | None = None) -> dict[str, int]:
        """Address -> threads, of the workers that take tasks."""
        chosen = self._chosen(workers)
        return {worker.address: worker.nthreads for worker in chosen if worker.status is Status.running}

    def get_nbytes(self, keys: Iterable[Any] | None = None, summary: bool = True) -> dict[Any, int]:
        """Key, or name of a prefix if `summary`, -> bytes of the results."""
        tasks = self.tasks
        chosen = tasks.values() if keys is None else [tasks[key] for key in keys]
        sizes: dict[Any, int] = defaultdict(int)
        for task in chosen:
            if task.nbytes >= 0:
                sizes[prefix_name(task.key) if summary else task.key] += task.nbytes
        return dict(sizes)

    @property
    def is_idle(self) -> bool:
        """Whether no task is on its way."""
        counts = self._scheduler.core.counts()
        return not (counts["processing"] or counts["ready"] or counts["waiting"] or counts["scattering"])

    @property
    def idle_since(self) -> float | None:
        """Monotonic time since when there were no tasks, with an idle_timeout; None if there are some."""
        return self._scheduler._idle_since

    def check_idle(self) -> float | None:
        """Monotonic time since when there were no tasks; None if there are some."""
        return self._scheduler.check_idle()


def attribute_of(scheduler: Scheduler, name: str) -> Any:
    """An attribute of dask's Scheduler, for ours."""
    return getattr(SchedulerAttributes(scheduler), name)
