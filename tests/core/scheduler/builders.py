"""A scheduler core with pretended workers and clients, so that a test reads like a story.

Each `act` hands the core's commands to the pretended workers, which complain about whatever they cannot
follow: a RUN of a task that they have, a RETRACT of one that they have not, a function that never came.
`finish` compares what the workers believe with what the core believes, and has the core check itself.
May import: fastdist._core, and its sibling `frames`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastdist._core.codec.frames import DoneStatus, FrameKind, TaskStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import TO_CLIENT, TO_WORKER, SchedulerCore
from tests.core.scheduler.frames import (
    EPOCH,
    DeclaredRow,
    DoneRow,
    Free,
    Retract,
    Run,
    RunRow,
    State,
    StateRow,
    TaskRow,
    declared_frame,
    done_frame,
    read_free,
    read_retract,
    read_run,
    read_state,
    release_frame,
    tasks_frame,
)

SEEDS = (1, 2)
TYPES = ("int", "str")


def text(key: bytes) -> str:
    """The key of a test's task as the test wrote it."""
    return key[1:].decode()


@dataclass
class FakeWorker:
    """What one worker believes after the frames that it got."""

    number: int
    nthreads: int
    alive: bool = True
    assigned: dict[str, RunRow] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    asked_back: dict[str, tuple[int, int]] = field(default_factory=dict)
    functions: dict[int, bytes] = field(default_factory=dict)
    options: dict[int, bytes] = field(default_factory=dict)
    addresses: dict[int, str] = field(default_factory=dict)
    types_sent: bool = False
    freed: list[int] = field(default_factory=list)

    def run(self, frame: Run) -> None:
        """Take assignments."""
        self.functions.update(frame.functions)
        self.options.update(frame.options)
        self.addresses.update(frame.addresses)
        for row in frame.rows:
            assert row.function in self.functions, f"worker {self.number} never got function {row.function}"
            assert not row.option or row.option in self.options
            for needed in row.inputs:
                assert set(needed.holders) <= {*self.addresses, self.number}
            key = text(row.key)
            assert key not in self.assigned, f"{key} runs on worker {self.number} already"
            assert key not in self.held, f"worker {self.number} holds {key} already"
            self.assigned[key] = row

    def free(self, frame: Free) -> None:
        """Forget tasks, data and functions."""
        for id in frame.ids:
            self.freed.append(id)
            for key in [key for key, row in self.assigned.items() if row.id == id]:
                del self.assigned[key]
                self.asked_back.pop(key, None)
            for key in [key for key, held in self.held.items() if held == id]:
                del self.held[key]
        for number in frame.functions:
            del self.functions[number]

    def retract(self, frame: Retract) -> None:
        """Note what is asked back."""
        for id, attempt in frame.tasks:
            keys = [key for key, row in self.assigned.items() if (row.id, row.attempt) == (id, attempt)]
            assert keys, f"worker {self.number} is asked for a task that it does not have"
            self.asked_back[keys[0]] = (id, attempt)


class FakeClient:
    """One client: submits by key and hears of states by key."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.number = cluster.core.on_client(name)
        self.next_id = 1
        self.submission = 0
        self.open = False
        self.ids: dict[str, int] = {}
        self.rows: list[StateRow] = []
        self.known_functions: set[bytes] = set()

    def row(self, key: str, *needs: str, function: str | None = "inc", option: int = 0, **more: Any) -> TaskRow:
        """A row for `submit_rows`; `needs` are keys that this client has named before."""
        code = None if function is None else function.encode()
        self.ids[key] = self.next_id
        self.next_id += 1
        ids = tuple(self.ids[need] for need in needs)
        return TaskRow(encode_key(key), code, needs=ids, option=option, arguments=key.encode(), **more)

    def submit_rows(self, rows: Sequence[TaskRow], options: Sequence[int] = (), last: bool = True, **how: Any) -> None:
        """Send one TASKS frame with rows made by `row`."""
        if not self.open:
            self.submission += 1
        self.open = not last
        body = tasks_frame(
            self.next_id - len(rows),
            rows,
            last=last,
            submission=self.submission,
            known_functions=self.known_functions,
            **how,
        )
        self.known_functions.update(row.function for row in rows if row.function is not None)
        self.cluster.core.on_tasks(self.number, body, list(options), self.cluster.now)

    def submit(self, key: str, *needs: str, last: bool = True, options: int | None = None, **more: Any) -> None:
        """Submit one task."""
        row = self.row(key, *needs, option=0 if options is None else 1, **more)
        self.submit_rows([row], [] if options is None else [options], last=last)

    def map(self, keys: Sequence[str], **more: Any) -> None:
        """Submit independent tasks in one frame."""
        self.submit_rows([self.row(key, **more) for key in keys])

    def release(self, *keys: str, functions: Sequence[str] = ()) -> None:
        """Let go of futures."""
        body = release_frame([self.ids[key] for key in keys], [name.encode() for name in functions])
        self.known_functions -= {name.encode() for name in functions}
        self.cluster.core.on_release(self.number, body)

    def cancel(self, *keys: str, force: bool = False, payload: bytes = b"cancelled") -> int:
        """Cancel by key."""
        return self.cluster.core.on_cancel(self.number, [encode_key(key) for key in keys], force, payload)

    def heard(self, key: str) -> list[TaskStatus]:
        """The states that the client was told for its last id of a key."""
        return [row.status for row in self.rows if row.id == self.ids[key]]

    def told(self, key: str) -> StateRow:
        """The last row about a key."""
        return [row for row in self.rows if row.id == self.ids[key]][-1]


class Cluster:
    """A core, its pretended workers (by number, from 0 on) and clients."""

    def __init__(self, workers: Sequence[int] = (1,), *, core: SchedulerCore | None = None, **settings: Any) -> None:
        self.core = core or SchedulerCore(EPOCH, SEEDS, settings)
        self.now = 0.0
        self.workers: list[FakeWorker] = []
        self.clients: list[FakeClient] = []
        self.commands: list[Run | Free | Retract | State] = []
        for nthreads in workers:
            self.worker(nthreads)

    def worker(self, nthreads: int = 1, *, nanny: bool = False, **resources: float) -> int:
        """A worker registers; its number."""
        number = self.core.on_worker(f"tcp://10.0.0.{len(self.workers)}:1", nthreads, nanny, resources)
        self.workers.append(FakeWorker(number, nthreads))
        assert number == len(self.workers) - 1
        return number

    def client(self, name: str = "client") -> FakeClient:
        """A client registers."""
        self.clients.append(FakeClient(self, name))
        return self.clients[-1]

    def options(
        self,
        *,
        workers: Sequence[int] | None = None,
        loose: bool = False,
        priority: float = 0.0,
        retries: int = 0,
        **needs: float,
    ) -> int:
        """Register options for the next frame; their number."""
        restricted = workers is not None or bool(needs)
        for_worker = repr(needs).encode() if needs else b""
        described = (workers, loose)
        number = self.core.on_options(-priority, retries, restricted, loose, needs, for_worker, described)
        if restricted:
            chosen = range(len(self.workers)) if workers is None else workers
            self.core.on_candidates(number, list(chosen))
        return number

    # -- time passes

    def act(self) -> list[Run | Free | Retract | State]:
        """Have the core act and the workers and clients hear it."""
        self.commands = [self._read(*command) for command in self.core.act()]
        for command in self.commands:
            if isinstance(command, State):
                self.clients[command.client].rows += command.rows
            else:
                worker = self.workers[command.worker]
                {Run: worker.run, Free: worker.free, Retract: worker.retract}[type(command)](command)
        self.core.validate()
        return self.commands

    @staticmethod
    def _read(target: int, number: int, kind: int, body: bytes) -> Run | Free | Retract | State:
        if target == TO_CLIENT:
            assert kind == FrameKind.STATE
            return read_state(number, body)
        assert target == TO_WORKER
        readers: dict[int, Callable[[int, bytes], Any]] = {
            FrameKind.RUN: read_run,
            FrameKind.FREE: read_free,
            FrameKind.RETRACT: read_retract,
        }
        return readers[kind](number, body)

    def send(self, worker: int, rows: Sequence[DoneRow]) -> None:
        """One DONE frame, as the worker would send it."""
        fake = self.workers[worker]
        new_types = () if fake.types_sent else TYPES
        fake.types_sent = True
        self.core.on_done(worker, done_frame(rows, new_types))

    def done(self, worker: int, *keys: str, nbytes: int = 8, seconds: float = 0.001, payload: bytes = b"") -> None:
        """The worker finishes tasks."""
        rows = []
        for key in keys:
            run = self.workers[worker].assigned.pop(key)
            self.workers[worker].asked_back.pop(key, None)
            self.workers[worker].held[key] = run.id
            rows.append(DoneRow(run.id, run.attempt, nbytes=nbytes, seconds=seconds, payload=payload))
        self.send(worker, rows)

    def failed(self, worker: int, key: str, error: bytes = b"error") -> None:
        """The task raises."""
        run = self.workers[worker].assigned.pop(key)
        self.send(worker, [DoneRow(run.id, run.attempt, DoneStatus.DONE_ERRED, 0, payload=error)])

    def started(self, worker: int, key: str) -> None:
        """The task has been executing for some time."""
        run = self.workers[worker].assigned[key]
        self.send(worker, [DoneRow(run.id, run.attempt, DoneStatus.DONE_STARTED)])

    def gives_back(self, worker: int, *keys: str, status: DoneStatus = DoneStatus.DONE_RETRACTED) -> None:
        """The worker returns tasks unstarted."""
        rows = []
        for key in keys:
            run = self.workers[worker].assigned.pop(key)
            self.workers[worker].asked_back.pop(key, None)
            rows.append(DoneRow(run.id, run.attempt, status))
        self.send(worker, rows)

    def refuses(self, worker: int, key: str) -> None:
        """The worker keeps a task that was asked back."""
        id, attempt = self.workers[worker].asked_back.pop(key)
        self.send(worker, [DoneRow(id, attempt, DoneStatus.DONE_RETRACT_REFUSED)])

    def replica(self, worker: int, key: str, nbytes: int = 8) -> None:
        """The worker now holds the data of a task too."""
        id = self.view(key)["id"]
        self.workers[worker].held[key] = id
        self.send(worker, [DoneRow(id, 0, DoneStatus.DONE_REPLICA, nbytes)])

    def missing(self, reporter: int, key: str, holder: int) -> None:
        """A worker found that another one has not what it should hold."""
        self.workers[holder].held.pop(key, None)
        id = self.view(key)["id"]
        self.send(reporter, [DoneRow(id, 0, DoneStatus.DONE_MISSING, holder)])

    def lose(self, worker: int, *, blamed: bool = True, how: str = "killed") -> None:
        """The worker's process dies."""
        self.workers[worker].alive = False
        self.workers[worker].assigned.clear()
        self.workers[worker].held.clear()
        self.workers[worker].asked_back.clear()
        self.core.on_worker_lost(worker, blamed, how)

    def cut(self, worker: int) -> None:
        """The connection of a worker breaks; its process lives."""
        self.core.on_worker_away(worker)

    def back(self, worker: int, *, executing: Sequence[str] = ()) -> None:
        """A worker that was away declares what it has over a new connection."""
        fake = self.workers[worker]
        fake.functions, fake.options, fake.addresses, fake.asked_back = {}, {}, {}, {}
        self.core.on_declared(fake.number, self.declaration(fake, executing), True, False)
        self.core.on_worker_status(fake.number, True)

    def give_up(self, worker: int) -> None:
        """A worker that is away did not come back in time; it lives and keeps what it has."""
        self.core.on_worker_lost(worker, False, "cut off")
        self.workers[worker].alive = False

    def returns(self, worker: int, *, executing: Sequence[str] = ()) -> int:
        """A worker that was given up is back after all; its new number."""
        old, number = self.workers[worker], self.worker(self.workers[worker].nthreads)
        fake = self.workers[number]
        fake.assigned, fake.held, old.assigned, old.held = old.assigned, old.held, {}, {}
        fake.types_sent = True
        self.core.on_worker_away(number)
        self.back(number, executing=executing)
        return number

    @staticmethod
    def declaration(fake: FakeWorker, executing: Sequence[str] = ()) -> bytes:
        """What a worker has."""
        rows = [DeclaredRow(id, 0, 0, key=encode_key(key)) for key, id in fake.held.items()]
        rows += [
            DeclaredRow(row.id, row.attempt, 1 if key in executing else 2, 0, key=row.key)
            for key, row in fake.assigned.items()
        ]
        return declared_frame(rows, TYPES)

    def pause(self, worker: int) -> None:
        """The worker may not start anything."""
        self.core.on_worker_status(worker, False)

    def resume(self, worker: int) -> None:
        """The worker may start tasks again."""
        self.core.on_worker_status(worker, True)

    # -- what is

    def view(self, key: str) -> dict[str, Any]:
        """The core's view of a task that exists."""
        view = self.core.task_view(encode_key(key))
        assert view is not None, f"{key} is not known"
        return view

    def state(self, key: str) -> str:
        """The state of a task, or "forgotten"."""
        view = self.core.task_view(encode_key(key))
        return "forgotten" if view is None else view["state"]

    def where(self, key: str) -> int:
        """The worker that has the task."""
        return next(worker.number for worker in self.workers if key in worker.assigned)

    def run_row(self, key: str) -> RunRow:
        """The assignment of a task that some worker has."""
        return self.workers[self.where(key)].assigned[key]

    def of_kind(self, kind: type) -> list[Any]:
        """The commands of the last `act` of one kind."""
        return [command for command in self.commands if isinstance(command, kind)]

    def work_off(self, limit: int = 1000) -> None:
        """Let the workers do everything that they get, oldest first, until nothing is left."""
        for _ in range(limit):
            self.act()
            busy = [worker for worker in self.workers if worker.assigned]
            if not busy:
                return
            for worker in busy:
                for key in list(worker.asked_back):
                    self.gives_back(worker.number, key)
                if worker.assigned:
                    self.done(worker.number, next(iter(worker.assigned)))
        raise AssertionError("the workers never come to an end")

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """What happens inside must leave no trace."""
        before = self.core.counts(), self.core.tasks()
        yield
        self.core.validate()
        assert (self.core.counts(), self.core.tasks()) == before

    def finish(self) -> None:
        """Nothing is left to say, and both sides believe the same."""
        self.act()
        assert self.act() == [], "act had something left"
        for worker in self.workers:
            if worker.alive:
                assert sorted(worker.assigned) == sorted(self.core.processing(worker.number))
                assert sorted(worker.held) == sorted(self.core.has_what(worker.number))
