"""What the reference model knows: tasks, workers and clients as plain objects, counters counted when asked.

No slots, no lists of waiters: where the core keeps a counter, this module counts.
May import: the standard library, fastdist._core.keys (for the prefix of a key).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from fastdist._core.keys.canonical import prefix_of


class State(str, Enum):
    """The states of a task, by the core's names."""

    RELEASED = "released"
    WAITING = "waiting"
    READY = "ready"
    NO_WORKER = "no_worker"
    PROCESSING = "processing"
    MEMORY = "memory"
    ERRED = "erred"
    SCATTERING = "scattering"


NEEDED = (State.WAITING, State.READY, State.NO_WORKER, State.PROCESSING)
CLASS_NANOSECONDS = [int(2000.0 * 2.0 ** (min(number, 160) / 4.0)) for number in range(256)]


def duration_class(seconds: float) -> int:
    """The core books durations in steps of a quarter of an octave."""
    step = 4.0 * math.log2(seconds * 5e5) if seconds > 2e-6 else 0.0
    return int(160 if step > 160 else step + 0.5)


@dataclass(eq=False)
class Prefix:
    """What tasks of one name usually take."""

    unknown: float
    duration: float = -1.0
    nbytes: float = -1.0

    @property
    def duration_class(self) -> int:
        return duration_class(self.unknown if self.duration < 0 else self.duration)


@dataclass(eq=False)
class Options:
    """What a submission asked for."""

    priority: float = 0.0
    retries: int = 0
    loose: bool = False
    needs: dict[str, float] = field(default_factory=dict)
    for_worker: bytes = b""
    candidates: list[Worker] | None = None

    @property
    def restricted(self) -> bool:
        return self.candidates is not None


@dataclass(eq=False)
class Task:
    """One task. `id` is the core's, learned after the event that made the task."""

    key: bytes
    function: bytes | None
    arguments: bytes
    options: Options | None
    rank: int
    prefix: Prefix
    retries: int = 0
    id: int = -1
    state: State = State.RELEASED
    alive: bool = True
    needs: list[Task] = field(default_factory=list)
    dependents: list[Task] = field(default_factory=list)
    wants: list[tuple[Client, int]] = field(default_factory=list)
    holders: list[Worker] = field(default_factory=list)
    attempt: int = 0
    suspicious: int = 0
    inline: bool = False
    ahead: bool = False
    started: bool = False
    asked_back: bool = False
    waits: bool = False
    seceded: bool = False
    worker: Worker | None = None
    booked: int = 0
    nbytes: int = 0
    type: str = ""
    error: bytes | None = None
    kept: int = 0
    due: float | None = None
    deaths: list[dict[str, Any]] = field(default_factory=list)
    avoid: Worker | None = None
    #: It was made without work, because an input was unknown.
    refused: bool = False

    @property
    def waiting_on(self) -> int:
        return sum(needed.state is not State.MEMORY for needed in self.needs)

    @property
    def waiters(self) -> int:
        return sum(dependent.state in NEEDED for dependent in self.dependents)

    @property
    def priority(self) -> float:
        return self.options.priority if self.options else 0.0

    @property
    def failures(self) -> int:
        return self.options.retries - self.retries if self.options else 0

    def attempts(self, allowed_failures: float) -> int:
        """How often it was tried."""
        if not self.attempt:
            return 0
        ended = self.state is State.ERRED and self.suspicious <= allowed_failures
        return self.suspicious + self.failures + (ended or self.state in (State.PROCESSING, State.MEMORY))

    @property
    def is_needed(self) -> bool:
        return self.state in NEEDED

    def want(self, client: Client, id: int) -> None:
        """A client (with id 0: its open submission) wants the task."""
        self.wants.insert(1, (client, id))

    def hold(self, worker: Worker) -> None:
        """A worker holds the data."""
        if worker not in self.holders:
            self.holders.insert(1, worker)


@dataclass(eq=False)
class Worker:
    """One worker; `load` and `rank` are as of the last time that the core looked."""

    number: int
    address: str
    nthreads: int
    supply: dict[str, float]
    alive: bool = True
    running: bool = True
    processing: list[Task] = field(default_factory=list)
    functions: set[bytes] = field(default_factory=set)
    options: set[Options] = field(default_factory=set)
    addresses: set[int] = field(default_factory=set)
    types: list[str] = field(default_factory=list)
    dirty: bool = False
    load: float = 0.0
    rank: float = 0.0
    claim: list[Task] = field(default_factory=list)
    claimed_run: Run | None = None
    runs: list[Task] = field(default_factory=list)
    new_functions: list[bytes] = field(default_factory=list)
    new_options: list[bytes] = field(default_factory=list)
    new_addresses: list[tuple[int, str]] = field(default_factory=list)
    rows: list[tuple] = field(default_factory=list)
    frees: list[Task | int] = field(default_factory=list)
    freed_functions: list[bytes] = field(default_factory=list)
    retracts: list[tuple[Task, int]] = field(default_factory=list)
    #: Ids of tasks that were taken from the worker, and execute there still.
    stopping: set[int] = field(default_factory=set)

    @property
    def occupancy(self) -> int:
        booked = sum(CLASS_NANOSECONDS[task.booked] for task in self.processing if not (task.waits or task.seceded))
        return booked + len(self.stopping) * 1_000_000_000

    @property
    def ahead(self) -> int:
        return sum(task.ahead for task in self.processing)

    @property
    def startable(self) -> int:
        """Tasks that have a thread, or could start."""
        out = sum(task.waits or task.seceded for task in self.processing)
        return len(self.processing) + len(self.stopping) - self.ahead - out

    @property
    def pressing(self) -> int:
        """The same, less what those that wait may hold back."""
        return self.startable - sum(task.waits for task in self.processing)

    def used(self, resource: str) -> float:
        """How much of a resource the tasks of the worker take."""
        return sum(task.options.needs.get(resource, 0.0) for task in self.processing if task.options)

    def fits(self, options: Options) -> bool:
        """Whether the worker has the resources free."""
        needs = options.needs.items()
        return all(self.used(name) + amount <= self.supply.get(name, 0.0) for name, amount in needs)

    def weigh(self) -> None:
        """Look at the load again."""
        busy = self.pressing
        self.load = self.occupancy * 1e-9 / self.nthreads
        self.rank = self.load if busy >= self.nthreads else busy / self.nthreads - 1.0


@dataclass(eq=False)
class Client:
    """One client."""

    number: int
    alive: bool = True
    inline: bool = True
    ids: dict[int, Task] = field(default_factory=dict)
    open_ids: list[int] = field(default_factory=list)
    functions: set[bytes] = field(default_factory=set)
    next_id: int = 0
    submission: int = 0
    last_number: int = 0
    last_time: float = -1e300
    rows: list[tuple[int, int, int, str, bytes]] = field(default_factory=list)


@dataclass(eq=False)
class Run:
    """Root tasks of one frame, by order; workers claim contiguous parts."""

    priority: float
    rank: int
    serial: int
    unclaimed: list[Task]
    returned: list[list[Task]] = field(default_factory=list)


class Universe:
    """All records, and the tables that they share."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.settings = settings
        self.tasks: dict[bytes, Task] = {}
        self.workers: list[Worker] = []
        self.clients: list[Client] = []
        self.options: dict[int, Options] = {}
        self.prefixes: dict[str, Prefix] = {}
        self.functions: set[bytes] = set()
        self.generation = 1 << 31  # nested submissions count down from here
        self.stale = 0
        self.became_ready: list[Task] = []
        self.may_go_ahead: list[Task] = []
        self.assigned: list[Task] = []
        self.no_worker: list[Task] = []
        self.dirty: list[Worker] = []

    def prefix(self, key: bytes) -> Prefix:
        """The prefix of a key."""
        return self.prefixes.setdefault(prefix_of(key), Prefix(self.settings["unknown_duration"]))

    def running(self) -> list[Worker]:
        """The workers that may be given tasks, least loaded first."""
        return sorted((w for w in self.workers if w.running), key=lambda worker: (worker.rank, worker.number))

    def touch(self, worker: Worker) -> None:
        """The worker has something to be told, or to be weighed."""
        if not worker.dirty:
            worker.dirty = True
            self.dirty.append(worker)

    def alive_clients(self) -> Iterator[Client]:
        """Those that have not gone."""
        return (client for client in self.clients if client.alive)
