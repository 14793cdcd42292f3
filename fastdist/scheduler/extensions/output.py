"""What tasks printed and logged: kept for a while, and passed on to the clients that want to see it.

The lines are opaque bytes here. May import: `errors`, `rpc`, `scheduler.membership`; of this folder `extension`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from fastdist.errors import CommClosedError, MessageError
from fastdist.rpc.fields import flag, items
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

#: What is kept of one task, and of all; the oldest go first.
MAX_TASK_BYTES = 256 << 10
MAX_TOTAL_BYTES = 32 << 20
MAX_TASKS = 100_000
MAX_KEYS_PER_MESSAGE = 100_000


class Output(Extension):
    """The last lines of each task, also of those whose worker is gone.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "output"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        #: By canonical key; the task that wrote last is the last.
        self.kept: OrderedDict[bytes, deque[bytes]] = OrderedDict()
        self.n_bytes = 0
        #: Clients that want to see it, and how many lines each of them did not get because its queue is long.
        self.watchers: dict[ClientEntry, int] = {}

    def worker_handlers(self) -> dict[str, Handler]:
        return {"task-output": self.take}

    def client_handlers(self) -> dict[str, Handler]:
        return {"task-logs": self.give, "forward-output": self.forward}

    def take(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A worker sends lines: for each key one payload."""
        keys = items(fields, "keys", bytes, MAX_KEYS_PER_MESSAGE)
        counts = items(fields, "counts", int, MAX_KEYS_PER_MESSAGE)
        if not len(keys) == len(counts) == len(buffers):
            raise MessageError(f"output of {len(keys)} tasks has {len(buffers)} payloads and {len(counts)} counts")
        payloads = [bytes(payload) for payload in buffers]
        for key, payload in zip(keys, payloads, strict=True):
            self._keep(key, payload)
        for entry in list(self.watchers):
            self._send(entry, keys, sum(counts), payloads)

    def _keep(self, key: bytes, payload: bytes) -> None:
        ring = self.kept.setdefault(key, deque())
        self.kept.move_to_end(key)
        ring.append(payload)
        self.n_bytes += len(payload)
        size = sum(map(len, ring)) if len(ring) > 1 else 0
        while size > MAX_TASK_BYTES and len(ring) > 1:
            size -= len(ring[0])
            self.n_bytes -= len(ring.popleft())
        while len(self.kept) > 1 and (self.n_bytes > MAX_TOTAL_BYTES or len(self.kept) > MAX_TASKS):
            _, oldest = self.kept.popitem(last=False)
            self.n_bytes -= sum(map(len, oldest))

    def _send(self, entry: ClientEntry, keys: list[bytes], count: int, payloads: list[bytes]) -> None:
        comm = entry.peer.comm
        if comm.closed or comm.queued_bytes > comm.limits.high_water:
            self.watchers[entry] += count
            return
        try:
            entry.peer.notify("task-output", keys=keys, dropped=self.watchers[entry], buffers=payloads)
            self.watchers[entry] = 0
        except CommClosedError:
            # It may come back.
            self.watchers[entry] += count

    def give(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        """What is kept of some tasks: how many payloads for each key, and the payloads."""
        kept = [self.kept.get(key, ()) for key in items(fields, "keys", bytes)]
        return {"counts": [len(ring) for ring in kept]}, [payload for ring in kept for payload in ring]

    def forward(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client wants to see what tasks write from now on, or no more."""
        entry = self.scheduler.client_of(peer)
        if flag(fields, "on"):
            self.watchers.setdefault(entry, 0)
        else:
            self.watchers.pop(entry, None)

    def client_gone(self, entry: ClientEntry) -> None:
        self.watchers.pop(entry, None)
