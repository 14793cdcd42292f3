"""The tasks of a scheduler as objects: each look asks the core.

A view holds the id of its task and nothing else. Two views of a task are equal; when the task is gone, its state is
"forgotten" and its other attributes raise KeyError. May import: `_core`, and the other modules of this folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler import inspect
from fastdist.compat.names import group_name, prefix_name

if TYPE_CHECKING:
    from fastdist.compat.scheduler_members import ClientState, WorkerState
    from fastdist.scheduler.options import Placing
    from fastdist.scheduler.scheduler import Scheduler

#: By the number of the core's states.
STATES = ("released", "waiting", "queued", "no-worker", "processing", "memory", "erred", "waiting")
FORGOTTEN = "forgotten"
ALL_STATES = ("released", "waiting", "no-worker", "queued", "processing", "memory", "erred", FORGOTTEN)


def numbers_of(*states: str) -> tuple[int, ...]:
    """The core's numbers of these states."""
    return tuple(number for number, state in enumerate(STATES) if state in states)


class TaskState:
    """One task of a scheduler.

    A task that was sent to a worker ahead of its inputs counts as "waiting" until the last of them is there.
    """

    __slots__ = ("_id", "_key", "_scheduler")

    def __init__(self, scheduler: Scheduler, id: int) -> None:
        self._scheduler = scheduler
        self._id = id
        self._key = inspect.key_of(scheduler.core.model, id)

    @property
    def key(self) -> Any:
        """Its name."""
        return self._key

    @property
    def state(self) -> str:
        """What it is at the moment."""
        number, ahead, _ = inspect.state_of(self._scheduler.core.model, self._id)
        if number < 0:
            return FORGOTTEN
        return "waiting" if ahead else STATES[number]

    def _facts(self) -> dict[str, Any]:
        return inspect.facts(self._scheduler.core.model, self._id)

    def _tasks(self, ids: list[int]) -> set[TaskState]:
        return {TaskState(self._scheduler, id) for id in ids}

    # -- the graph -------------------------------------------------------------------------------------------

    @property
    def dependencies(self) -> set[TaskState]:
        """Its inputs."""
        return self._tasks(inspect.dependencies(self._scheduler.core.model, self._id))

    @property
    def dependents(self) -> set[TaskState]:
        """The tasks that it is an input of."""
        return self._tasks(inspect.dependents(self._scheduler.core.model, self._id))

    @property
    def waiting_on(self) -> set[TaskState]:
        """Its inputs that are not in memory, while it waits."""
        if self.state not in ("waiting", "processing"):
            return set()
        return {each for each in self.dependencies if each.state != "memory"}

    @property
    def waiters(self) -> set[TaskState]:
        """The tasks that still have to read its result."""
        model = self._scheduler.core.model
        return self._tasks([id for id in inspect.dependents(model, self._id) if inspect.is_needy(model, id)])

    @property
    def who_wants(self) -> set[ClientState]:
        """The clients with a future of it."""
        from fastdist.compat.scheduler_members import ClientState

        numbers = inspect.wanted_by(self._scheduler.core.model, self._id)
        return {ClientState(self._scheduler, number) for number in numbers}

    # -- where it is -----------------------------------------------------------------------------------------

    @property
    def who_has(self) -> set[WorkerState]:
        """The workers that hold its result."""
        numbers = inspect.holders(self._scheduler.core.model, self._id)
        return {worker for worker in map(self._worker, numbers) if worker is not None}

    @property
    def processing_on(self) -> WorkerState | None:
        """The worker that it was given to."""
        number = self._facts()["worker"]
        return None if number is None or self.state != "processing" else self._worker(number)

    def _worker(self, number: int) -> WorkerState | None:
        from fastdist.compat.scheduler_members import WorkerState

        entry = self._scheduler.members.workers.get(number)
        return None if entry is None else WorkerState(self._scheduler, entry)

    # -- figures ---------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Size of the result; -1 while there is none."""
        return int(self._facts()["nbytes"])

    @property
    def type(self) -> str | None:
        """Name of the type of the result."""
        name = self._facts()["type"]
        return name.removeprefix("builtins.") if name else None

    @property
    def retries(self) -> int:
        """How often it may still fail."""
        return int(self._facts()["retries"])

    @property
    def suspicious(self) -> int:
        """How many workers died while they executed it."""
        return int(self._facts()["suspicious"])

    @property
    def run_id(self) -> int:
        """Number of its last assignment."""
        return int(self._facts()["attempt"])

    @property
    def priority(self) -> tuple[float, int, int]:
        """What goes first: the user's priority (negated), then the submission, then the place in it."""
        facts = self._facts()
        return self._option("priority", 0.0), int(facts["submission"]), int(facts["order"])

    def _option(self, name: str, default: Any) -> Any:
        options = inspect.option(self._scheduler.core.model, self._facts()["options"])
        return default if options is None else getattr(options, name)

    @property
    def has_work(self) -> bool:
        """Whether there is a function that computes it; not of scattered data."""
        return not self._facts()["is_data"]

    @property
    def actor(self) -> bool:
        """Whether the result stays on its worker, to be asked there."""
        return bool(self._facts()["actor"])

    @property
    def run_spec(self) -> OpaqueWork | None:
        """What computes it, which the scheduler does not open; None for scattered data."""
        facts = self._facts()
        return None if facts["is_data"] else OpaqueWork(self.key, facts["argument_bytes"])

    @property
    def exception(self) -> bytes | None:
        """The pickled error of a failed task; the scheduler does not open it."""
        return inspect.error_of(self._scheduler.core.model, self._id) or None

    # -- what was asked for ----------------------------------------------------------------------------------

    @property
    def worker_restrictions(self) -> set[str]:
        """Addresses of the workers that it was restricted to."""
        return self._restrictions()[0]

    @property
    def host_restrictions(self) -> set[str]:
        """Hosts, and names of workers that are not there, that it was restricted to."""
        return self._restrictions()[1]

    def _restrictions(self) -> tuple[set[str], set[str]]:
        placing = self._option("described", None)
        members = self._scheduler.members
        addresses, others = set(), set()
        for wanted in placing.workers if placing is not None else ():
            entry = members.by_address.get(wanted) or members.named(wanted)
            if entry is not None or "://" in wanted:
                addresses.add(wanted if entry is None else entry.address)
            else:
                others.add(wanted)
        return addresses, others

    @property
    def placing(self) -> Placing | None:
        """Which workers it may run on; None if it was not said."""
        placing: Placing | None = self._option("described", None)
        return placing

    @property
    def loose_restrictions(self) -> bool:
        """Whether it may run elsewhere while none of these workers is there."""
        return bool(self._option("loose", False))

    @property
    def resource_restrictions(self) -> dict[str, float]:
        """Resources that it takes while it runs."""
        placing = self._option("described", None)
        return {} if placing is None else dict(placing.resources)

    @property
    def annotations(self) -> dict[str, Any]:
        """What it was submitted with."""
        placing = self._option("described", None)
        given = {
            "priority": -self._option("priority", 0.0),
            "retries": self._option("retries", 0),
            "workers": list(placing.workers) if placing is not None else [],
            "resources": dict(placing.resources) if placing is not None else {},
            "allow_other_workers": self.loose_restrictions,
        }
        return {name: value for name, value in given.items() if value}

    # -- names -----------------------------------------------------------------------------------------------

    @property
    def group_key(self) -> str:
        """Name of its group."""
        return group_name(self.key)

    @property
    def prefix_key(self) -> str:
        """Name of its prefix."""
        return prefix_name(self.key)

    @property
    def group(self) -> TaskGroup:
        """The tasks of the same collection."""
        return TaskGroup(self._scheduler, self.group_key)

    @property
    def prefix(self) -> TaskPrefix:
        """The tasks with the same function."""
        return TaskPrefix(self._scheduler, self.prefix_key)

    def get_nbytes(self) -> int:
        """Size of the result, 1000 while there is none."""
        return self.nbytes if self.nbytes >= 0 else 1000

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskState) and (other._scheduler, other._id) == (self._scheduler, self._id)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"


class OpaqueWork:
    """What a task calls, which only workers open.

    Parameters
    ----------
    key : key
        Of the task.
    nbytes : int
        Size of the pickled arguments.
    """

    __slots__ = ("key", "nbytes")

    def __init__(self, key: Any, nbytes: int) -> None:
        self.key = key
        self.nbytes = nbytes

    def __repr__(self) -> str:
        return f"<OpaqueWork of {self.key!r}, arguments: {self.nbytes} bytes>"


class TasksView(Mapping[Any, TaskState]):
    """Key -> task, of everything that a scheduler knows."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __getitem__(self, key: Any) -> TaskState:
        id = self._find(key)
        if id is None:
            raise KeyError(key)
        return TaskState(self._scheduler, id)

    def _find(self, key: Any) -> int | None:
        return inspect.find(self._scheduler.core.model, encode_key(key))

    def __contains__(self, key: object) -> bool:
        try:
            return self._find(key) is not None
        except (TypeError, ValueError):
            return False

    def __iter__(self) -> Iterator[Any]:
        model = self._scheduler.core.model
        return iter([inspect.key_of(model, id) for id in inspect.tasks_in(model)])

    def __len__(self) -> int:
        return self._scheduler.core.n_tasks()

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"


def tasks_in(scheduler: Scheduler, *states: str) -> list[TaskState]:
    """The tasks in these states."""
    numbers = numbers_of(*states, *(("processing",) if "waiting" in states else ()))
    found = [TaskState(scheduler, id) for id in inspect.tasks_in(scheduler.core.model, numbers)]
    return [task for task in found if task.state in states]


class _Collection:
    """What prefixes and groups have in common."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler = scheduler
        self.name = name

    def _belongs(self, key: Any) -> bool:
        raise NotImplementedError

    def _members(self) -> list[TaskState]:
        tasks = TasksView(self._scheduler).values()
        return [task for task in tasks if self._belongs(task.key)]

    @property
    def states(self) -> dict[str, int]:
        """How many of the tasks are in each state."""
        counted = Counter(task.state for task in self._members())
        return {state: counted[state] for state in ALL_STATES}

    @property
    def nbytes_total(self) -> int:
        """Bytes of all results."""
        return sum(max(0, task.nbytes) for task in self._members())

    @property
    def types(self) -> set[str]:
        """Names of the types of the results."""
        return {task.type for task in self._members() if task.type is not None}

    @property
    def done(self) -> bool:
        """Whether none of the tasks is on its way."""
        return not any(
            task.state in ("waiting", "queued", "no-worker", "processing") for task in self._members()
        )

    def __len__(self) -> int:
        return len(self._members())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Collection)
            and type(other) is type(self)
            and (other._scheduler, other.name) == (self._scheduler, self.name)
        )

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.name))

    def __repr__(self) -> str:
        states = ", ".join(f"{state}: {count}" for state, count in self.states.items() if count)
        return f"<{self.name}: {states}>"


class TaskPrefix(_Collection):
    """The tasks that share a function's name."""

    def _belongs(self, key: Any) -> bool:
        return prefix_name(key) == self.name

    @property
    def groups(self) -> list[TaskGroup]:
        """The groups of its tasks."""
        names = dict.fromkeys(task.group_key for task in self._members())
        return [TaskGroup(self._scheduler, name) for name in names]

    @property
    def duration_average(self) -> float:
        """Seconds that one of its tasks takes; -1 while that is not known."""
        known = inspect.prefixes(self._scheduler.core.model).get("" if self.name == "Other" else self.name)
        return -1.0 if known is None or known[1] < 0 else known[1]

    @property
    def suspicious(self) -> int:
        """Deaths of workers while they executed one of its tasks."""
        return sum(task.suspicious for task in self._members())

    @property
    def active_states(self) -> dict[str, int]:
        """As `states`."""
        return self.states


class TaskGroup(_Collection):
    """The tasks of one collection."""

    def _belongs(self, key: Any) -> bool:
        return group_name(key) == self.name

    @property
    def prefix(self) -> TaskPrefix:
        """The prefix of its tasks."""
        return TaskPrefix(self._scheduler, prefix_name(self.name))

    @property
    def dependencies(self) -> set[TaskGroup]:
        """Groups with inputs of its tasks."""
        names = {each.group_key for task in self._members() for each in task.dependencies}
        return {TaskGroup(self._scheduler, name) for name in names - {self.name}}
