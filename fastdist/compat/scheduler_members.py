"""The workers and clients of a scheduler as objects: each look asks the scheduler and its core.

May import: `_core`, `scheduler`, and the other modules of this folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastdist._core.scheduler import inspect
from fastdist.comm.addresses import parse_address
from fastdist.compat.memory import MemoryState
from fastdist.compat.scheduler_tasks import TaskState
from fastdist.scheduler.membership import WorkerEntry
from fastdist.status import Status

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler


class WorkerState:
    """One worker, as its scheduler sees it."""

    __slots__ = ("__weakref__", "_entry", "_scheduler")

    def __init__(self, scheduler: Scheduler, entry: WorkerEntry) -> None:
        self._scheduler = scheduler
        self._entry = entry

    # -- who it is -------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where its data is."""
        return self._entry.address

    @property
    def name(self) -> str | int:
        """Its name; its address if it was given none."""
        return self._entry.name

    @property
    def host(self) -> str:
        """The host in its address."""
        return host_of(self._entry.address) or self._entry.host

    @property
    def pid(self) -> int:
        """Id of its process."""
        return self._entry.pid

    @property
    def nthreads(self) -> int:
        """How many tasks it executes at the same time."""
        return self._entry.nthreads

    @property
    def memory_limit(self) -> int:
        """Bytes that it may use; 0 for no limit."""
        return self._entry.memory_limit

    @property
    def local_directory(self) -> str:
        """Where its temporary files are."""
        return self._entry.local_directory

    @property
    def nanny(self) -> str | None:
        """The nanny that watches it."""
        return self._entry.nanny

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that it uses."""
        return dict(self._entry.versions)

    @property
    def services(self) -> dict[str, int]:
        """Ports of its other servers; it has none yet."""
        return {}

    @property
    def extra(self) -> dict[str, Any]:
        """What its `startup_information` told."""
        return dict(self._entry.extra)

    @property
    def server_id(self) -> str:
        """What tells it from a later worker at the same address."""
        return f"{type(self).__name__}-{self._scheduler.epoch:x}-{self._entry.number}"

    @property
    def status(self) -> Status:
        """What it does at the moment."""
        if self._scheduler.members.workers.get(self._entry.number) is not self._entry:
            return Status.closed
        if self._entry.closing:
            return Status.closing
        return Status[self._entry.status] if self._entry.status in Status.__members__ else Status.undefined

    @property
    def metrics(self) -> dict[str, Any]:
        """What its last heartbeat told."""
        return dict(self._entry.metrics)

    @property
    def last_seen(self) -> float:
        """Time of its last sign of life."""
        return self._entry.last_seen

    # -- its tasks -------------------------------------------------------------------------------------------

    @property
    def has_what(self) -> dict[TaskState, None]:
        """The results that it holds."""
        ids = inspect.held_by(self._scheduler.core.model, self._entry.number)
        return dict.fromkeys(TaskState(self._scheduler, id) for id in ids)

    def _given(self) -> list[tuple[int, bool, bool]]:
        return inspect.given_to(self._scheduler.core.model, self._entry.number)

    @property
    def processing(self) -> set[TaskState]:
        """The tasks that it was given, whose inputs are there."""
        return {TaskState(self._scheduler, id) for id, waits, _ in self._given() if not waits}

    @property
    def long_running(self) -> set[TaskState]:
        """The tasks that execute without one of its threads: they seceded, or wait for others."""
        return {TaskState(self._scheduler, id) for id, _, away in self._given() if away}

    @property
    def task_prefix_count(self) -> dict[str, int]:
        """Name of a prefix -> how many of `processing` have it."""
        return dict(Counter(task.prefix_key for task in self.processing))

    @property
    def needs_what(self) -> dict[TaskState, int]:
        """Inputs that are not here, of tasks that it was given -> how many of these need it."""
        here = self.has_what
        missing: Counter[TaskState] = Counter()
        for task in self.processing:
            missing.update(each for each in task.dependencies if each not in here)
        return dict(missing)

    @property
    def actors(self) -> set[TaskState]:
        """Actors that live here."""
        return {task for task in self.has_what if task.actor}

    @property
    def executing(self) -> dict[TaskState, float]:
        """Not available: the scheduler is not told for how long tasks have been executing."""
        raise NotImplementedError("WorkerState.executing is not available; ask Client.call_stack or the worker itself")

    # -- figures ---------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Of the results that it holds."""
        return inspect.worker_record(self._scheduler.core.model, self._entry.number).nbytes

    @property
    def occupancy(self) -> float:
        """Seconds of work that it was given, by the averages of earlier tasks."""
        record = inspect.worker_record(self._scheduler.core.model, self._entry.number)
        return record.occupancy * 1e-9

    @property
    def resources(self) -> dict[str, float]:
        """Amounts that tasks may take."""
        return dict(self._entry.resources)

    @property
    def used_resources(self) -> dict[str, float]:
        """Amounts that tasks have taken."""
        booked = inspect.resources_of(self._scheduler.core.model, self._entry.number)
        return {name: booked.get(name, (0.0, 0.0))[1] for name in self._entry.resources}

    @property
    def memory(self) -> MemoryState:
        """Where its memory goes, by its last heartbeat; what is unmanaged counts as old."""
        metrics = self._entry.metrics
        process = int(metrics.get("memory") or 0)
        managed = min(self.nbytes, process)
        spilled = int(metrics.get("spilled_bytes") or 0)
        managed = max(0, managed - spilled)
        return MemoryState(process=process, managed=managed, spilled=spilled, unmanaged_old=process - managed)

    def clean(self) -> WorkerState:
        """A view of it: nothing has to be left out of one."""
        return WorkerState(self._scheduler, self._entry)

    def identity(self) -> dict[str, Any]:
        """What is shown of it, in plain values."""
        return self._entry.identity()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkerState) and other._entry is self._entry

    def __hash__(self) -> int:
        return id(self._entry)

    def __repr__(self) -> str:
        name = f", name: {self.name}" if self.name != self.address else ""
        return (
            f"<WorkerState {self.address!r}{name}, status: {self.status.name}, "
            f"memory: {len(self.has_what)}, processing: {len(self.processing)}>"
        )


class ClientState:
    """One client, as its scheduler sees it."""

    __slots__ = ("_number", "_scheduler")

    def __init__(self, scheduler: Scheduler, number: int) -> None:
        self._scheduler = scheduler
        self._number = number

    @property
    def client_key(self) -> str:
        """Its id."""
        return inspect.client_record(self._scheduler.core.model, self._number).name

    @property
    def wants_what(self) -> set[TaskState]:
        """The tasks that it has futures of."""
        ids = inspect.wanted_from(self._scheduler.core.model, self._number)
        return {TaskState(self._scheduler, id) for id in ids}

    @property
    def last_seen(self) -> float:
        """Time of its last sign of life; 0 if it is gone."""
        entry = self._scheduler.members.clients.get(self._number)
        return 0.0 if entry is None else entry.last_seen

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that it uses."""
        entry = self._scheduler.members.clients.get(self._number)
        return {} if entry is None else dict(entry.versions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientState) and (other._scheduler, other._number) == (
            self._scheduler,
            self._number,
        )

    def __hash__(self) -> int:
        return hash(self._number)

    def __repr__(self) -> str:
        return f"<Client {self.client_key!r}>"

    def __str__(self) -> str:
        return self.client_key


class WorkersView(Mapping[str, WorkerState]):
    """Address -> worker, of those that are registered; sorted by address."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __getitem__(self, address: str) -> WorkerState:
        return WorkerState(self._scheduler, self._scheduler.members.by_address[address])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._scheduler.members.by_address))

    def __len__(self) -> int:
        return len(self._scheduler.members.by_address)

    def __repr__(self) -> str:
        return f"<WorkersView {dict(self)}>"


class ClientsView(Mapping[str, ClientState]):
    """Id -> client, of those that are connected."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def _numbers(self) -> dict[str, int]:
        return {entry.name: number for number, entry in self._scheduler.members.clients.items()}

    def __getitem__(self, name: str) -> ClientState:
        return ClientState(self._scheduler, self._numbers()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers())

    def __len__(self) -> int:
        return len(self._scheduler.members.clients)


def host_of(address: str) -> str:
    """The host of an address; "" if it has none."""
    scheme, _, rest = address.partition("://")
    if scheme == "inproc":
        return rest.partition("/")[0]
    return parse_address(address).host
