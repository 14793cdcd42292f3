"""A client of a simulation: the real table of futures, batches and outbox, on virtual connections.

What the user does with it - submit, scatter, release, cancel, retry - is drawn by the dice. May import: its siblings,
the client's core and outbox.
"""

from __future__ import annotations

import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastdist._core.client.batch import NO_OPTIONS, TaskBatch
from fastdist._core.client.futures import FutureSlot, FutureTable
from fastdist._core.codec.frames import ColumnReader, FrameKind, TaskStatus
from fastdist.client.outbox import Outbox
from fastdist.client.row_encoding import add_rows
from fastdist.testing.simulation import scheduler
from fastdist.testing.simulation.kernel import Process
from fastdist.testing.simulation.network import Connection, Kind, Network
from fastdist.testing.simulation.scattering import Scatterer
from fastdist.testing.simulation.workloads import Graph, Program

if TYPE_CHECKING:
    from fastdist.testing.simulation.monitor import Monitor

STATE_COLUMNS = 8
PAYLOAD_LIMIT = 1 << 20
#: Seconds between two attempts to open the connection again.
RETURN_PAUSE = 0.05


def _no_fallback(*arguments: Any) -> Any:
    raise AssertionError("the arguments of a simulated task need no pickle")


class SimulatedClient:
    """One client.

    Parameters
    ----------
    name : str
        Unique.
    network : Network
    program : Program
        The tasks that can be submitted.
    monitor : Monitor
        Hears what the scheduler says, and judges it.
    grace : float
        Seconds for which it tries to come back.
    """

    def __init__(self, name: str, network: Network, program: Program, monitor: Monitor, grace: float) -> None:
        self.name = name
        self.network = network
        self.kernel = network.kernel
        self.program = program
        self.monitor = monitor
        self.grace = grace
        self.process = Process(network.kernel, name)
        self.table = FutureTable(FutureSlot, PAYLOAD_LIMIT)
        self.outbox = Outbox()
        self.outbox.keeps = True
        #: What the user keeps: futures by key; and the keys of all ids that are wanted.
        self.futures: dict[str, FutureSlot] = {}
        self.names: dict[int, str] = {}
        self.is_over = False
        self.number = -1
        self.n_returns = 0
        #: To the scheduler, while there is one.
        self.connection: Connection | None = None
        self._waits_for_welcome = False
        self._lock = threading.RLock()
        self._functions: dict[bytes, None] = {}
        self._submissions = 0
        self._calls: dict[int, tuple[str, dict[str, Any], Callable[[dict[str, Any]], object] | None]] = {}
        self._called = 0
        #: Calls that mean nothing on another connection.
        self._once: dict[int, None] = {}
        self._deadline = 0.0
        self._scatterer = Scatterer(self)
        monitor.client_came(self)
        self._connect()

    # -- the connection

    def _connect(self) -> None:
        if self.is_over:
            return
        connection = self.network.connect(self, scheduler.ADDRESS)
        if connection is None:
            self._try_again()
            return
        self.connection = connection
        self._waits_for_welcome = True
        connection.send(self, "register-client", {"name": self.name, "returning": self.number})

    def _try_again(self) -> None:
        if self.kernel.now > self._deadline and self.number >= 0:
            self.give_up()
        else:
            self.process.after(RETURN_PAUSE, self._connect)

    def on_closed(self, connection: Connection, reason: str) -> None:
        """The scheduler cannot be reached, or a worker."""
        self._scatterer.on_closed(connection)
        if connection is not self.connection or self.is_over:
            return
        if not self._waits_for_welcome:
            self._deadline = self.kernel.now + self.grace
        self.connection = None
        for number in self._once:
            self._calls.pop(number, None)
        self._once.clear()
        self._scatterer.lose_scheduler()
        self._try_again()

    def give_up(self) -> None:
        """Nothing comes any more: all futures are cancelled."""
        self.is_over = True
        self._calls.clear()
        self.table.cancel_all()
        self.monitor.client_gone(self)

    def on_message(self, connection: Connection, kind: Kind, body: Any) -> None:
        """Something arrived."""
        if connection is not self.connection or self.is_over:
            if kind == "reply" and not self.is_over:
                self._scatterer.on_reply(connection, body)
            return
        if kind == FrameKind.STATE:
            self._on_state(body)
        elif kind == "reply":
            call = self._calls.pop(body["re"], None)
            self._once.pop(body["re"], None)
            if call is not None and call[2] is not None:
                call[2](body)
        elif kind == "applied":
            self.outbox.applied(body["frames"])
        elif kind == "welcome":
            self._welcome(body)
        elif kind == "refused":
            self.give_up()
        else:
            raise AssertionError(f"a client got {kind!r}")

    def _welcome(self, fields: dict[str, Any]) -> None:
        returned = self.number >= 0
        self.number = fields["number"]
        self._waits_for_welcome = False
        if returned:
            self.n_returns += 1
            self.outbox.applied(fields["applied"])
            self.outbox.send_again()
        last_id = self.outbox.last_id()
        while self.outbox.waiting:
            self._now(*self.outbox.waiting[0])
            self.outbox.pop()
        for number, (op, call, _) in self._calls.items():
            self._now(op, {**call, "id": number})
        if returned:
            self._ask_after_pending(last_id)

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler can be told something now."""
        return self.connection is not None and not self._waits_for_welcome

    def _now(self, kind: Kind, body: Any) -> None:
        assert self.connection is not None
        self.connection.send(self, kind, body)

    def _send(self, kind: int, body: bytes) -> None:
        if self.is_connected:
            self._now(kind, body)
            self.outbox.sent(kind, body)
        else:
            self.outbox.add(kind, body)

    def call(
        self,
        op: str,
        fields: dict[str, Any],
        then: Callable[[dict[str, Any]], object] | None = None,
        again: bool = True,
    ) -> None:
        """Ask the scheduler something; with `again`, it is asked once more after the connection broke."""
        self._called += 1
        self._calls[self._called] = (op, fields, then)
        if not again:
            self._once[self._called] = None
        if self.is_connected:
            self._now(op, {**fields, "id": self._called})

    def _ask_after_pending(self, last_id: int) -> None:
        """What the scheduler does not know any more was cancelled meanwhile."""
        pending = [id for id in self.table.live_ids() if id <= last_id and self._status(id) == 0]

        def compare(answer: dict[str, Any]) -> None:
            unknown = [
                id for id, row in zip(pending, answer["tasks"], strict=True) if row is None and self._status(id) == 0
            ]
            for id in unknown:
                self.monitor.state_heard(self, id, TaskStatus.STATUS_CANCELLED, True)
            # The futures live as long as this list.
            self._cancelled([self.table.future(id) for id in unknown])

        if pending:
            self.call("who-has", {"ids": pending}, compare)

    def _status(self, id: int) -> int:
        future = self.table.future(id)
        return -1 if future is None else future.state

    # -- what the scheduler says

    def _on_state(self, body: bytes) -> None:
        reader = ColumnReader(body, STATE_COLUMNS)
        ids = struct.unpack(f"<{reader.n_rows}Q", reader.column_bytes(0))
        for id, status in zip(ids, reader.column_bytes(1), strict=True):
            self.monitor.state_heard(self, id, status, False)
        self._told_done(self.table.on_state(body))
        for id in ids:
            self.monitor.outcome_heard(self, id)

    def _told_done(self, ids: Sequence[int]) -> None:
        for id in ids:
            self.monitor.waiter_called(self, id)

    def _cancelled(self, futures: Sequence[FutureSlot]) -> None:
        self._told_done(self.table.cancel(futures))

    # -- what the user does

    def submit(self, graph: Graph, frame_bytes: int = 1 << 20) -> None:
        """Submit a graph; the data that it needs is scattered first."""
        if self.is_over:
            return
        if any(key not in self.futures for key in graph.rows.externals):
            self._scatterer.scatter(graph.rows.externals, lambda: self._submit_with_data(graph, frame_bytes))
        else:
            self._submit_with_data(graph, frame_bytes)

    def _submit_with_data(self, graph: Graph, frame_bytes: int) -> None:
        data = [self.futures.get(key) for key in graph.rows.externals]
        gone = (TaskStatus.STATUS_CANCELLED, TaskStatus.STATUS_LOST)
        if self.is_over or any(future is None or future.state in gone for future in data):
            return
        externals = [future.id for future in data if future is not None]
        self._submissions += 1
        batch = TaskBatch(
            self.table, lambda body: self._send(FrameKind.TASKS, body), self._lock, _no_fallback, self._is_new,
            submission=self._submissions, max_bytes=frame_bytes,
        )  # fmt: skip
        function = batch.add_function(b"simulated------%d" % (self._submissions % 3), b"a pickled function")
        rows = graph.rows
        numbers = array("I", [NO_OPTIONS])
        numbers.extend(batch.add_options(packed) for packed in rows.packed)
        made, _ = add_rows(
            batch, rows.keys, rows.arguments, [None] * len(rows.keys), array("I", [function]) * len(rows.keys),
            array("I", [numbers[option] for option in rows.options]), rows.flags, rows.offsets, rows.needs, externals,
        )  # fmt: skip
        for row, future in made.items():
            self.keep(graph.specs[row].key, future)
        batch.finish()

    def keep(self, key: str, future: FutureSlot) -> None:
        """The user keeps this future, and wants to be told when it is done."""
        known = self.futures.get(key)
        if known is not None:
            if known.id == future.id:
                return
            # The old one was cancelled.
            del self.names[known.id]
        self.futures[key] = future
        self.names[future.id] = key
        if self.table.watch(future):
            self.monitor.waiter_set(self, future.id)

    def _is_new(self, digest: bytes) -> bool:
        is_new = digest not in self._functions
        self._functions[digest] = None
        return is_new

    def release(self, keys: Sequence[str], forget_functions: bool = False) -> None:
        """Let go of futures."""
        if self.is_over:
            return
        for key in keys:
            id = self.futures.pop(key).id
            del self.names[id]
            self.monitor.waiter_left(self, id)
            # A task that failed does not keep its inputs: it may find them gone when it is tried again.
            self.monitor.n_losses += self.program.specs[key].scattered
        dropped = b""
        if forget_functions:
            dropped = b"".join(self._functions)
            self._functions.clear()
        body = self.table.release_frame(dropped)
        if body is not None:
            self._send(FrameKind.RELEASE, body)

    def cancel(self, keys: Sequence[str], force: bool) -> None:
        """Cancel tasks and what depends on them."""
        if self.is_over or not keys:
            return
        self.monitor.cancel_asked(self, keys, force)
        for key in keys:
            self.monitor.state_heard(self, self.futures[key].id, TaskStatus.STATUS_CANCELLED, True)
        self._cancelled([self.futures[key] for key in keys])
        self.call("cancel", {"keys": [self.program.specs[key].canonical for key in keys], "force": force})

    def retry(self, keys: Sequence[str]) -> None:
        """Try failed tasks again."""
        if self.is_over:
            return
        failed = [key for key in keys if self.futures[key].state == TaskStatus.STATUS_ERRED]
        futures = [self.futures[key] for key in failed]
        self.table.reset(futures)
        for future in futures:
            self.monitor.state_heard(self, future.id, TaskStatus.STATUS_PENDING, True)
            if self.table.watch(future):
                self.monitor.waiter_set(self, future.id)
        if failed:
            canonical = [self.program.specs[key].canonical for key in failed]
            self.call("retry", {"keys": canonical, "ids": [future.id for future in futures]})

    def say_goodbye(self) -> None:
        """Close."""
        if not self.is_over and self.connection is not None:
            self._now("close-client", {})
            self.connection.close(self)
        self.is_over = True
