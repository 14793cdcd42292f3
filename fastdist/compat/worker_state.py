"""The tasks of a worker as objects, and what dask calls the state of a worker: each look asks the core.

May import: `_core`, and the other modules of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist._core.worker import inspect, records
from fastdist.compat.names import prefix_name

if TYPE_CHECKING:
    from fastdist.worker.worker import Worker

#: The states of the core in dask's words.
STATES = {
    "RELEASED": "released",
    "WAITING": "waiting",
    "READY": "ready",
    "EXECUTING": "executing",
    "MEMORY": "memory",
    "ERRED": "error",
    "FETCH": "fetch",
    "IN_FLIGHT": "flight",
    "AWAY": "long-running",
}


class TaskState:
    """One task of a worker: one that it executes or holds, or an input that it fetches."""

    __slots__ = ("_id", "_key", "_worker")

    def __init__(self, worker: Worker, id: int, key: bytes) -> None:
        self._worker = worker
        self._id = id
        self._key = key

    def _facts(self) -> dict[str, Any]:
        return records.facts(self._worker.core, self._id) or {}

    @property
    def key(self) -> Any:
        """Its name; its number, for a copy of another worker's result, whose name nobody told."""
        return decode_key(self._key) if self._key else f"<task {self._id:x}>"

    @property
    def prefix(self) -> str:
        """The function's part of the name."""
        return prefix_name(self.key)

    @property
    def state(self) -> str:
        """What it is at the moment; "forgotten" if it is gone."""
        name = self._facts().get("state")
        return "forgotten" if name is None else STATES.get(name, name.lower())

    @property
    def nbytes(self) -> int | None:
        """Size of the result, while it is here."""
        facts = self._facts()
        return facts["nbytes"] if facts.get("state") == "MEMORY" else None

    @property
    def priority(self) -> tuple[float, ...] | None:
        """Smaller goes first."""
        priority = self._facts().get("priority")
        return None if priority is None else tuple(priority)

    @property
    def run_id(self) -> int:
        """Number of its assignment; -1 if it is gone."""
        return int(self._facts().get("attempt", -1))

    @property
    def dependencies(self) -> set[TaskState]:
        """Its inputs, until it has finished."""
        return self._tasks(self._facts().get("inputs", []))

    @property
    def dependents(self) -> set[TaskState]:
        """The tasks here that wait for it."""
        return self._tasks(records.waiters(self._worker.core, self._id))

    waiters = dependents

    @property
    def waiting_for_data(self) -> set[TaskState]:
        """Its inputs that are not here."""
        return {task for task in self.dependencies if task.state != "memory"}

    @property
    def done(self) -> bool:
        """Whether it has finished or failed."""
        return self.state in ("memory", "error", "released", "forgotten")

    @property
    def type(self) -> type | None:
        """The type of the result, while it is here."""
        if self.state != "memory":
            return None
        try:
            return type(self._worker.store.get(self._id))
        except KeyError:
            return None

    def _tasks(self, ids: list[int]) -> set[TaskState]:
        core = self._worker.core
        return {TaskState(self._worker, id, inspect.key_of(core, id) or b"") for id in ids}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskState) and (other._worker, other._id) == (self._worker, self._id)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"


class TasksView(Mapping[Any, TaskState]):
    """Key -> task, of everything that a worker knows by its key. A look walks over all of it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def _all(self) -> dict[bytes, TaskState]:
        return {
            key: TaskState(self._worker, id, key)
            for id, key, _ in records.all_tasks(self._worker.core)
            if key
        }

    def __getitem__(self, key: Any) -> TaskState:
        try:
            return self._all()[encode_key(key)]
        except KeyError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[Any]:
        return iter([decode_key(key) for key in self._all()])

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"


class WorkerState:
    """What dask calls the state machine of a worker, to be looked at."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def _in(self, *states: str) -> set[TaskState]:
        found = set()
        for id, key, name in records.all_tasks(self._worker.core):
            if STATES.get(name, name.lower()) in states:
                found.add(TaskState(self._worker, id, key))
        return found

    @property
    def address(self) -> str:
        """Address of the worker."""
        return self._worker.address

    @property
    def nthreads(self) -> int:
        """How many tasks execute at the same time."""
        return self._worker.nthreads

    @property
    def tasks(self) -> TasksView:
        """Key -> TaskState."""
        return TasksView(self._worker)

    @property
    def data(self) -> Mapping[Any, Any]:
        """Key -> result."""
        return self._worker.data

    @property
    def running(self) -> bool:
        """Whether it starts tasks; not while it is paused."""
        return not self._worker.core.paused

    @property
    def ready(self) -> list[TaskState]:
        """Tasks that could start, best first."""
        return sorted(self._in("ready"), key=lambda task: task.priority or ())

    @property
    def waiting(self) -> set[TaskState]:
        """Tasks that miss inputs."""
        return self._in("waiting")

    @property
    def executing(self) -> set[TaskState]:
        """Tasks that execute."""
        return self._in("executing")

    @property
    def long_running(self) -> set[TaskState]:
        """Tasks that gave their place back and go on."""
        return self._in("long-running")

    @property
    def in_flight_tasks(self) -> set[TaskState]:
        """Inputs that were asked for at other workers."""
        return self._in("flight")

    @property
    def fetch_count(self) -> int:
        """Inputs that will be asked for."""
        return len(self._in("fetch"))

    @property
    def in_flight_tasks_count(self) -> int:
        """How many inputs were asked for at other workers."""
        return len(self.in_flight_tasks)

    @property
    def executing_count(self) -> int:
        """How many tasks execute."""
        return inspect.state_counts(self._worker.core)["executing"]

    @property
    def ready_count(self) -> int:
        """How many tasks could start."""
        return inspect.state_counts(self._worker.core)["ready"]

    @property
    def task_counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        counts: dict[str, int] = {}
        for name, count in inspect.state_counts(self._worker.core).items():
            state = STATES.get(name.upper(), name)
            counts[state] = counts.get(state, 0) + count
        return counts

    @property
    def nbytes(self) -> int:
        """Bytes of all results here."""
        return sum(nbytes for _, _, nbytes in inspect.held(self._worker.core))

    @property
    def total_resources(self) -> dict[str, float]:
        """Amounts that tasks may take."""
        return dict(self._worker.resources)

    @property
    def available_resources(self) -> dict[str, float]:
        """Amounts that no task has taken."""
        known = inspect.resources(self._worker.core)
        return {name: known.get(name, (total, total))[1] for name, total in self._worker.resources.items()}

    def validate_state(self) -> None:
        """Check all invariants; AssertionError names the first that does not hold."""
        inspect.validate(self._worker.core)

    def __repr__(self) -> str:
        return f"<WorkerState {self.address!r}, {self.task_counts}>"
