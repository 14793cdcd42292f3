"""A worker of a simulation: the real core, and instead of threads and a store, tasks that take virtual time.

May import: its siblings, the worker's core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack

from fastdist._core.codec.frames import FrameKind
from fastdist._core.codec.values import encode_value
from fastdist._core.worker import manual
from fastdist._core.worker.core import WorkerCore
from fastdist._core.worker.inspect import awaits, takes
from fastdist.testing.simulation import scheduler
from fastdist.testing.simulation.kernel import Process
from fastdist.testing.simulation.network import Connection, Kind, Network

if TYPE_CHECKING:
    from fastdist.testing.simulation.monitor import Monitor
    from fastdist.testing.simulation.workloads import Program, Spec

INLINE, INLINE_BYTES = 1, 4096
#: Seconds until finished tasks are reported.
FLUSH_PAUSE = 2e-3
#: Seconds after which a task is reported as started, and after which any task may use the slot of one that waits.
STARTED_AFTER, RELAXED_AFTER = 0.1, 0.02
FETCH_TIMEOUT = 30.0
#: Transitions that a worker remembers: thousands of workers have to fit into one process.
STORY = 64
#: Seconds that reading a value from the disk takes.
DISK_SECONDS = 5e-3


@dataclass
class Machine:
    """Where worker processes run, one after the other.

    Attributes
    ----------
    name : str
    nthreads : int
    resources : dict
    nanny : bool
        Whether somebody tells the scheduler what a worker was executing when it died.
    spilled : float
        The share of values that are on the disk.
    """

    name: str
    nthreads: int = 1
    resources: dict[str, float] = field(default_factory=dict)
    nanny: bool = False
    spilled: float = 0.0
    lives: int = 0
    worker: SimulatedWorker | None = None


class SimulatedWorker:
    """One life of a worker.

    Parameters
    ----------
    machine : Machine
    network : Network
    program : Program
        What its tasks do.
    monitor : Monitor
        Hears of what is executed here.
    ended : callable
        Called when this life is over for another reason than a kill.
    """

    def __init__(
        self,
        machine: Machine,
        network: Network,
        program: Program,
        monitor: Monitor,
        ended: Callable[[Machine], object],
    ) -> None:
        machine.lives += 1
        machine.worker = self
        self.machine = machine
        self.network = network
        self.kernel = network.kernel
        self.program = program
        self.monitor = monitor
        self.ended = ended
        self.process = Process(network.kernel, f"{machine.name}.{machine.lives}")
        self.address = f"sim://{self.process.name}"
        network.listeners[self.address] = self
        self.core: WorkerCore | None = None
        self.store: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        #: Ids of values that are on the disk, and of those that cannot be read any more.
        self.on_disk: dict[int, None] = {}
        self.unreadable: dict[int, None] = {}
        #: What executes: attempt at its start, by task id.
        self.executing: dict[int, int] = {}
        self.executing_keys: dict[int, str] = {}
        self.type_number = 0
        self._flush_planned = False
        self._peers: dict[int, Connection] = {}
        self._requests: dict[int, tuple[int, list[int], Connection]] = {}
        self._asked = 0
        self._scheduler = network.connect(self, scheduler.ADDRESS)
        if self._scheduler is None:
            self.process.after(0.1, self.end)
            return
        self._scheduler.send(
            self,
            "register-worker",
            {
                "address": self.address,
                "name": machine.name,
                "nthreads": machine.nthreads,
                "nanny": machine.nanny,
                "resources": dict(machine.resources),
            },
        )

    @property
    def connection(self) -> Connection:
        """The connection to the scheduler."""
        assert self._scheduler is not None
        return self._scheduler

    # -- coming and going

    def end(self) -> None:
        """Close, because nothing can be done here any more."""
        if self.process.alive:
            self.process.kill()
            self.ended(self.machine)

    def on_closed(self, connection: Connection, reason: str) -> None:
        """The scheduler or another worker is gone."""
        if connection is self._scheduler:
            self.end()
            return
        for number, known in list(self._peers.items()):
            if known is connection:
                del self._peers[number]
        for request, (_, _, used) in list(self._requests.items()):
            if used is connection:
                self._fetched(request, None)

    def on_message(self, connection: Connection, kind: Kind, body: Any) -> None:
        """Something arrived."""
        if kind == "get-data":
            self._serve(connection, body)
        elif kind == "data":
            self._fetched(body["re"], body["values"])
        elif kind == "put-data":
            self._put(connection, body)
        elif kind == "welcome":
            self.core = WorkerCore(
                body["epoch"],
                body["number"],
                slots=self.machine.nthreads,
                resources=dict(self.machine.resources),
                read_option=lambda packed: msgpack.unpackb(packed)["resources"],
                max_peers=3,
                max_bytes=1 << 20,
                story=STORY,
            )
            self.monitor.worker_came(self)
        elif kind == "refused":
            self.end()
        else:
            self._apply(kind, body)

    def _apply(self, kind: Kind, body: bytes) -> None:
        core, now = self._core, self.kernel.now
        if kind == FrameKind.RUN:
            core.on_run(body, now)
        elif kind == FrameKind.FREE:
            for task_id in core.on_free(body, now):
                self._drop(task_id)
        elif kind == FrameKind.RETRACT:
            core.on_retract(body, now)
        else:
            raise AssertionError(f"a worker got {kind!r}")
        self._go_on()

    @property
    def _core(self) -> WorkerCore:
        assert self.core is not None, "a frame came before the welcome"
        return self.core

    def _go_on(self) -> None:
        """Start what can start, fetch what can be fetched, report what has to be reported."""
        core = self._core
        while (task := manual.pop(core)) is not None:
            self._start(task)
        while (request := core.next_fetch()) is not None:
            self._fetch(*request)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self.process.after(self.kernel.random.random() * FLUSH_PAUSE, self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        body = self._core.take_done()
        if body is not None:
            self.connection.send(self, FrameKind.DONE, body)

    # -- executing

    def _start(self, task: dict[str, Any]) -> None:
        task_id, attempt = task["task_id"], task["attempt"]
        spec = self.program.by_canonical[task["key"]]
        self.monitor.execution_started(self, task_id, attempt, spec)
        self.executing[task_id] = attempt
        self.executing_keys[task_id] = spec.key
        inputs = []
        for needed in task["inputs"]:
            if needed not in self.store:
                self.monitor.input_missing(self, spec, needed)
            inputs.append(self.store.get(needed, -1))
        seconds = spec.seconds * (0.5 + self.kernel.random.random())
        if any(needed in self.unreadable for needed in task["inputs"]):
            self.process.after(seconds, self._fail, task_id, spec, b"unreadable", seconds)
            return
        if spec.waits:
            self.process.after(seconds / 3, self._leave, task_id)
            self.process.after(seconds / 3 + RELAXED_AFTER, self._relax)
            self.process.after(seconds * 2 / 3, self._return, task_id)
        if seconds > STARTED_AFTER:
            self.process.after(STARTED_AFTER, self._started, task_id)
        if any(needed in self.on_disk for needed in task["inputs"]):
            seconds += DISK_SECONDS
        self.process.after(seconds, self._finish, task_id, spec, inputs, task["flags"], seconds)

    def _started(self, task_id: int) -> None:
        manual.started(self._core, task_id, self.kernel.now)
        self._flush_soon()

    def _leave(self, task_id: int) -> None:
        manual.left_slot(self._core, task_id, task_id & 1 == 0, self.kernel.now)
        self._go_on()

    def _relax(self) -> None:
        manual.relaxed(self._core, self.kernel.now - RELAXED_AFTER)
        self._go_on()

    def _return(self, task_id: int) -> None:
        manual.took_slot(self._core, task_id, self.kernel.now)
        self._go_on()

    def _finish(self, task_id: int, spec: Spec, inputs: list[int], flags: int, seconds: float) -> None:
        core, now = self._core, self.kernel.now
        outcome = self.monitor.outcome_of(spec)
        if outcome == "raise":
            self._fail(task_id, spec, spec.failure, seconds)
            return
        del self.executing[task_id], self.executing_keys[task_id]
        if outcome == "reschedule":
            manual.rescheduled(core, task_id, seconds, now)
        else:
            value = spec.value(inputs)
            payload = b""
            if flags & INLINE and spec.nbytes <= INLINE_BYTES:
                payload = encode_value(value) or b""
            self._keep(task_id, value, spec.nbytes)
            if not manual.finished(core, task_id, spec.nbytes, self._type_of_results(), seconds, payload, now):
                self._drop(task_id)
            self.monitor.executed += 1
        self._go_on()

    def _fail(self, task_id: int, spec: Spec, failure: bytes, seconds: float) -> None:
        del self.executing[task_id], self.executing_keys[task_id]
        manual.failed(self._core, task_id, failure, seconds, self.kernel.now, spec.verdict)
        self._go_on()

    def _type_of_results(self) -> int:
        if self.type_number == 0:
            self.type_number = self._core.add_type(b"int")
        return self.type_number

    def _keep(self, task_id: int, value: int, nbytes: int) -> None:
        self._drop(task_id)
        self.store[task_id] = value
        self.sizes[task_id] = nbytes
        if self.machine.spilled and self.kernel.random.random() < self.machine.spilled:
            self.on_disk[task_id] = None

    def _drop(self, task_id: int) -> None:
        for table in (self.store, self.sizes, self.on_disk, self.unreadable):
            table.pop(task_id, None)

    # -- data

    def _fetch(self, number: int, task_ids: list[int], nbytes: int) -> None:
        connection = self._peers.get(number)
        if connection is None or not connection.open[0]:
            connection = self.network.connect(self, self._core.addresses[number])
            if connection is not None:
                self._peers[number] = connection
        self._asked += 1
        request = self._asked
        if connection is None:
            self._requests[request] = (number, task_ids, self.connection)
            self.process.after(self.network.weather.latency, self._fetched, request, None)
            return
        self._requests[request] = (number, task_ids, connection)
        connection.send(self, "get-data", {"id": request, "ids": task_ids})
        self.process.after(FETCH_TIMEOUT, self._fetched, request, None)

    def _serve(self, connection: Connection, fields: dict[str, Any]) -> None:
        if any(task_id in self.on_disk for task_id in fields["ids"]) and "read" not in fields:
            self.process.after(DISK_SECONDS, self._serve, connection, {**fields, "read": True})
            return
        values = {
            task_id: (self.store[task_id], self.sizes[task_id])
            for task_id in fields["ids"]
            if task_id in self.store and task_id not in self.unreadable
        }
        connection.send(self, "data", {"re": fields["id"], "values": values})

    def _fetched(self, request: int, values: dict[int, tuple[int, int]] | None) -> None:
        """What came of a request; None if the other worker was not reached."""
        if request not in self._requests:
            return
        number, task_ids, _ = self._requests.pop(request)
        core = self._core
        found: dict[int, tuple[int, int]] = {}
        for task_id, (value, nbytes) in (values or {}).items():
            if awaits(core, task_id):
                self._keep(task_id, value, nbytes)
                found[task_id] = (nbytes, self._type_of_results())
        core.on_fetched(number, task_ids, None if values is None else found, self.kernel.now)
        self._go_on()

    def _put(self, connection: Connection, fields: dict[str, Any]) -> None:
        if self.core is not None:
            for task_id, key, value, nbytes in fields["rows"]:
                if takes(self.core, task_id):
                    self._keep(task_id, value, nbytes)
                    self.core.on_put(task_id, key, nbytes, self._type_of_results(), self.kernel.now)
            self._flush()
            self._go_on()
        connection.send(self, "reply", {"re": fields["id"], "taken": self.core is not None})

    # -- faults

    def pause(self, paused: bool) -> None:
        """Start nothing (any more), and tell the scheduler so."""
        if self.core is None:
            return
        if paused:
            self.core.on_paused()
        else:
            self.core.on_resumed()
        self.connection.send(self, "worker-status", {"running": not paused})
        self._go_on()

    def damage_disk(self) -> None:
        """Nothing that is on the disk can be read any more."""
        self.unreadable.update(self.on_disk)
