"""What tasks printed and logged: kept for a while, and passed on to the clients that want to see it.

A client gets to see the tasks that it submitted or wants, and those that tasks submitted. The lines are opaque bytes
here. May import: `_core`, `errors`, `rpc`, `scheduler.membership`; of this folder `extension`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from fastdist._core.scheduler.inspect import find, wanted_by
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
#: Above this queue for a client it gets no output; it is told how much it missed.
MAX_QUEUED_BYTES = 16 << 20
MAX_TASKS = 100_000
MAX_KEYS_PER_MESSAGE = 100_000
#: Times that another client than before submitted something, of which is known who it was.
MAX_TURNS = 10_000
#: Submissions of users count up from here; those that tasks make count down, and are everybody's.
FIRST_SUBMISSION = 1 << 31


class Submitters:
    """Which client made which submission, as far as it is remembered.

    Examples
    --------
    >>> submitters = Submitters()
    >>> submitters.note(FIRST_SUBMISSION + 1, 7)
    >>> submitters.note(FIRST_SUBMISSION + 5, 8)
    >>> submitters.find(FIRST_SUBMISSION + 3), submitters.find(FIRST_SUBMISSION + 5), submitters.find(12)
    (7, 8, None)
    """

    def __init__(self) -> None:
        #: The first submission of each turn, and the client that had it; a turn lasts until the next one.
        self._firsts: list[int] = []
        self._clients: list[int] = []

    def note(self, submission: int, client: int) -> None:
        """A client made a submission, with a higher number than all before."""
        if self._clients and self._clients[-1] == client:
            return
        if len(self._firsts) >= MAX_TURNS:
            half = MAX_TURNS // 2
            del self._firsts[:half], self._clients[:half]
        self._firsts.append(submission)
        self._clients.append(client)

    def find(self, submission: int) -> int | None:
        """The number of the client; None if a task made it, or it is not remembered."""
        place = bisect_right(self._firsts, submission)
        return self._clients[place - 1] if place and submission > FIRST_SUBMISSION else None


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
        self.submitters = Submitters()

    def worker_handlers(self) -> dict[str, Handler]:
        return {"task-output": self.take}

    def client_handlers(self) -> dict[str, Handler]:
        return {"task-logs": self.give, "forward-output": self.forward}

    def take(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A worker sends lines: for each key one payload."""
        keys = items(fields, "keys", bytes, MAX_KEYS_PER_MESSAGE)
        counts = items(fields, "counts", int, MAX_KEYS_PER_MESSAGE)
        submissions = items(fields, "submissions", int, MAX_KEYS_PER_MESSAGE, default=[])
        if not len(keys) == len(counts) == len(buffers) or len(submissions) not in (0, len(keys)):
            raise MessageError(f"output of {len(keys)} tasks has {len(buffers)} payloads and {len(counts)} counts")
        payloads = [bytes(payload) for payload in buffers]
        for key, payload in zip(keys, payloads, strict=True):
            self._keep(key, payload)
        if not self.watchers:
            return
        seen_by = [
            self._who_sees(key, submission)
            for key, submission in zip(keys, submissions or [0] * len(keys), strict=True)
        ]
        for entry in list(self.watchers):
            rows = [row for row, clients in enumerate(seen_by) if clients is None or entry.number in clients]
            if rows:
                total = sum(counts[row] for row in rows)
                self._send(entry, [keys[row] for row in rows], total, [payloads[row] for row in rows])

    def _who_sees(self, key: bytes, submission: int) -> set[int] | None:
        """Numbers of the clients to which a task belongs; None if that cannot be said."""
        submitter = self.submitters.find(submission)
        if submitter is None:
            return None
        model = self.scheduler.core.model
        id = find(model, key)
        return {submitter} if id is None else {submitter, *wanted_by(model, id)}

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
        if comm.closed or comm.queued_bytes > min(MAX_QUEUED_BYTES, comm.limits.high_water):
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
