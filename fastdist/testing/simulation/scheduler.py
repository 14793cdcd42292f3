"""The scheduler of a simulation: the real core, and a shell that does what the real one does, on virtual connections.

It never dies: there is nothing yet from which it could be recovered. All that would have to survive is in `core` and in
`entries`, and everything goes through `process`, so that a death is one more fault. May import: its siblings, the
scheduler's shell and core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdist._core.codec.frames import ColumnReader, FrameKind
from fastdist._core.scheduler.core import TO_WORKER, SchedulerCore
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.scheduler.options import Placing, read_options
from fastdist.testing.simulation.announcements import Announcements
from fastdist.testing.simulation.kernel import Process
from fastdist.testing.simulation.network import Connection, Kind, Network

if TYPE_CHECKING:
    from fastdist.testing.simulation.monitor import Monitor

ADDRESS = "scheduler"
EPOCH = 7
SEEDS = (1, 2)
#: Seconds in which what arrives is only read, before the core acts.
PAUSE = 2e-4
#: Seconds without a sign of life after which a worker counts as lost.
BEAT_LIMIT = 5.0
FRAMES_PER_APPLIED = 8
TASKS_COLUMNS, OPTIONS_COLUMN = 14, 13


@dataclass
class Entry:
    """A worker or client that is registered."""

    number: int
    name: str
    connection: Connection
    identity: dict[str, Any]
    applied: int = 0
    has_nanny: bool = False


class SimulatedScheduler:
    """The real core behind virtual connections.

    Parameters
    ----------
    network : Network
    settings : dict
        Of the core.
    monitor : Monitor
        Looks at the core each time that it acted.
    """

    def __init__(self, network: Network, settings: dict[str, float], monitor: Monitor) -> None:
        self.network = network
        self.kernel = network.kernel
        self.process = Process(network.kernel, "scheduler")
        self.core = SchedulerCore(EPOCH, SEEDS, settings)
        self.monitor = monitor
        monitor.scheduler = self
        self.workers: dict[int, Entry] = {}
        self.clients: dict[int, Entry] = {}
        self.entries: dict[Connection, Entry] = {}
        #: Clients whose connection broke.
        self.away: dict[int, Entry] = {}
        self.data = Announcements(self)
        self._names: dict[str, int] = {}
        self._awake = False
        self._tick_at: float | None = None
        network.listeners[ADDRESS] = self
        self._operations: dict[Kind, Callable[[Connection, Any], object]] = {
            FrameKind.TASKS: self._take_tasks,
            FrameKind.RELEASE: self._take_release,
            FrameKind.DONE: self._take_done,
            "register-worker": self._register_worker,
            "worker-status": self._worker_status,
            "register-client": self._register_client,
            "close-client": self._close_client,
            "who-has": self._who_has,
            "cancel": self._cancel,
            "retry": self._retry,
            "scatter": self._scatter,
            "scatter-failed": self._scatter_failed,
        }

    # -- what arrives

    def on_message(self, connection: Connection, kind: Kind, body: Any) -> None:
        """Something arrived."""
        self._operations[kind](connection, body)
        self.wake()

    def on_closed(self, connection: Connection, reason: str) -> None:
        """The connection of a worker or client is gone."""
        entry = self.entries.pop(connection, None)
        if entry is None:
            return
        if self.workers.get(entry.number) is entry:
            self._lose_worker(entry, reason)
        elif self.clients.pop(entry.number, None) is entry:
            self.away[entry.number] = entry
            self.core.on_client_lost(entry.number, self.kernel.now)
        self.wake()

    # -- workers

    def _register_worker(self, connection: Connection, fields: dict[str, Any]) -> None:
        if fields["name"] in self._names:
            connection.send(self, "refused", {})
            return
        number = self.core.on_worker(fields["address"], fields["nthreads"], fields["nanny"], dict(fields["resources"]))
        identity = {key: fields[key] for key in ("address", "name", "resources")} | {"host": fields["name"]}
        entry = Entry(number, fields["name"], connection, identity, has_nanny=fields["nanny"])
        self.workers[number] = self.entries[connection] = entry
        self._names[entry.name] = number
        connection.send(self, "welcome", {"epoch": EPOCH, "number": number})
        self._membership_changed()

    def _worker_status(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries:
            self.core.on_worker_status(self.entries[connection].number, fields["running"])

    def hear_nanny(self, fields: dict[str, Any]) -> None:
        """A nanny tells, over a connection of its own, how its worker ended."""
        for entry in list(self.workers.values()):
            if entry.identity["address"] == fields["address"]:
                self.drop(entry.connection, "the nanny says that it ended")
        self.core.on_death_report(fields["address"], fields["executing"], "signal 9")
        self.wake()

    def _lose_worker(self, entry: Entry, reason: str) -> None:
        del self.workers[entry.number], self._names[entry.name]
        self.monitor.n_losses += 1
        if not entry.has_nanny:
            self.monitor.blamed(self.core.processing(entry.number))
        if entry.has_nanny:
            # Its nanny is about to tell what it was executing, unless it is the network that broke.
            self.core.on_worker_lost(entry.number, False, reason, self.kernel.now)
        else:
            self.core.on_worker_lost(entry.number, True, reason)
        self.data.worker_gone(entry.identity["address"])
        self._membership_changed()

    def drop(self, connection: Connection, reason: str) -> None:
        """Give a connection up from this side."""
        connection.close(self)
        self.on_closed(connection, reason)

    def _membership_changed(self) -> None:
        for number, placing in self.core.restricted_options():
            self.core.on_candidates(number, self._candidates(placing))

    def _candidates(self, placing: Placing) -> list[int]:
        return [entry.number for entry in self.workers.values() if placing.allows(entry.identity)]

    def _take_done(self, connection: Connection, body: bytes) -> None:
        if connection in self.entries:
            self.core.on_done(self.entries[connection].number, body, self.kernel.now)

    # -- clients

    def _register_client(self, connection: Connection, fields: dict[str, Any]) -> None:
        number = fields["returning"]
        if number < 0:
            entry = Entry(self.core.on_client(fields["name"]), fields["name"], connection, {})
        else:
            known = self.away.get(number) or self.clients.get(number)
            if known is not None and number in self.clients:
                # The connection is half-open: only the other side noticed.
                self.drop(known.connection, "the client came back on another connection")
            if known is None or not self.core.on_client_back(number):
                connection.send(self, "refused", {})
                return
            self.away.pop(number, None)
            entry = known
            entry.connection = connection
        self.clients[entry.number] = self.entries[connection] = entry
        connection.send(self, "welcome", {"number": entry.number, "applied": entry.applied})

    def _close_client(self, connection: Connection, fields: dict[str, Any]) -> None:
        entry = self.entries.pop(connection, None)
        if entry is not None:
            del self.clients[entry.number]
            self.core.on_client_closed(entry.number)
            self.data.client_gone(entry.number)

    def _take_tasks(self, connection: Connection, body: bytes) -> None:
        entry = self.entries.get(connection)
        if entry is None:
            return
        packed = ColumnReader(body, TASKS_COLUMNS).column_bytes(OPTIONS_COLUMN)
        options = read_options(self.core, packed, self._candidates)
        self.core.on_tasks(entry.number, body, options, self.kernel.now)
        self._count(entry)

    def _take_release(self, connection: Connection, body: bytes) -> None:
        entry = self.entries.get(connection)
        if entry is not None:
            self.core.on_release(entry.number, body)
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        entry.applied += 1
        if entry.applied % FRAMES_PER_APPLIED == 0:
            entry.connection.send(self, "applied", {"frames": entry.applied})

    def _who_has(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries:
            rows = self.core.who_has(self.entries[connection].number, fields["ids"])
            self._answer(connection, fields, {"tasks": rows})

    def _cancel(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries:
            payload = reason_payload(Reason.CANCELLED, "cancelled by a client")
            self.core.on_cancel(self.entries[connection].number, fields["keys"], fields["force"], payload)
            self._answer(connection, fields, {})

    def _retry(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries:
            self.core.on_retry(fields["keys"], self.entries[connection].number, fields["ids"])
            self._answer(connection, fields, {})

    def _scatter(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries and not self.workers:
            self._answer(connection, fields, {"rows": None})
        elif connection in self.entries:
            client = self.entries[connection].number
            rows = self.core.on_scatter(client, fields["first_id"], fields["keys"])
            self._answer(connection, fields, {"rows": self.data.announce(client, fields["first_id"], rows)})

    def _scatter_failed(self, connection: Connection, fields: dict[str, Any]) -> None:
        if connection in self.entries:
            self.data.failed(self.entries[connection].number, fields["ids"], fields["client_ids"])
            self._answer(connection, fields, {})

    def _answer(self, connection: Connection, fields: dict[str, Any], answer: dict[str, Any]) -> None:
        connection.send(self, "reply", {"re": fields["id"], **answer})

    # -- what is sent

    def wake(self) -> None:
        """Have the core act soon."""
        if not self._awake:
            self._awake = True
            self.process.after(self.kernel.random.random() * PAUSE, self._act)

    def _act(self) -> None:
        self._awake = False
        commands = self.core.act(self.kernel.now)
        for target, number, kind, body in commands:
            entry = (self.workers if target == TO_WORKER else self.clients).get(number)
            if entry is not None:
                entry.connection.send(self, kind, body)
        self.monitor.core_acted(commands)
        self._plan_tick()

    def _plan_tick(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self.process.after(max(0.0, deadline - self.kernel.now), self._tick)

    def _tick(self) -> None:
        self._tick_at = None
        for number in self.core.on_tick(self.kernel.now):
            self.away.pop(number, None)
            self.data.client_gone(number)
        self.wake()
