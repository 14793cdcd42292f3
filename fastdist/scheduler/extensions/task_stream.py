"""The task stream: when which task executed where, written down only while a client is there that asked for it.

May import: `_core`, `rpc`, `scheduler.extensions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

from fastdist.errors import CommClosedError
from fastdist.rpc.fields import items, number, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

#: Executions that are remembered; the oldest go first.
MAX_RECORDS = 100_000
#: How long a worker has to send what it has not sent yet.
FLUSH_SECONDS = 5.0
#: Fields of a record as a worker sends it.
FIELDS = ("key", "thread", "status", "nbytes", "typename", "start", "stop")


class TaskStream(Extension):
    """Collects what the workers write down of each execution."""

    name = "task-stream"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._records: deque[list[Any]] = deque(maxlen=MAX_RECORDS)
        #: How many there were in all.
        self.n_records = 0
        self._asked: set[int] = set()

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"start-task-stream": self.start, "get-task-stream": self.get}

    def worker_handlers(self) -> dict[str, Handler]:
        """Operations of workers by name."""
        return {"task-records": self.take}

    def worker_came(self, entry: WorkerEntry) -> None:
        """A worker has registered."""
        if self._asked:
            self._tell(entry, True)

    def client_gone(self, entry: ClientEntry) -> None:
        """Once nobody is left who asked, nothing is written down any more."""
        if entry.number in self._asked:
            self._asked.discard(entry.number)
            if not self._asked:
                self._records.clear()
                for worker in self.scheduler.members:
                    self._tell(worker, False)

    def _tell(self, entry: WorkerEntry, on: bool) -> None:
        # A worker that is gone is dealt with where its connection ends.
        with contextlib.suppress(CommClosedError):
            entry.peer.notify("record-tasks", on=on)

    async def start(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Write down from now on; how many records there were so far."""
        client = self.scheduler._clients.entry(peer)
        if not self._asked:
            for worker in self.scheduler.members:
                self._tell(worker, True)
        self._asked.add(client.number)
        await self._flush()
        return {"index": self.n_records}

    def take(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A worker tells what it executed."""
        entry = self.scheduler._workers.entry(peer)
        for row in items(fields, "rows", (list, tuple), MAX_RECORDS):
            if len(row) != len(FIELDS):
                raise ValueError(f"a record of an execution has the fields {', '.join(FIELDS)}")
            self._records.append([entry.address, *row])
            self.n_records += 1

    async def get(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The records since a number, or those that ended between two times, and of these the last `count`."""
        await self.start(peer, {}, [])
        records = list(self._records)
        since = whole(fields, "index", default=None)
        start = number(fields, "start", default=None)
        stop = number(fields, "stop", default=None)
        count = whole(fields, "count", default=None)
        if since is not None:
            records = records[max(0, since - (self.n_records - len(records))) :]
        # The times of the workers, which may run a little ahead.
        if start is not None:
            records = [record for record in records if record[-1] >= start]
        if stop is not None:
            records = [record for record in records if record[-1] < stop]
        if count is not None:
            records = records[:count] if start is not None and stop is None else records[max(0, len(records) - count) :]
        return {"records": records, "time": time.time()}

    async def _flush(self) -> None:
        """Have the workers send what they have not sent yet."""
        await asyncio.gather(
            *(entry.peer.call("flush-records", timeout=FLUSH_SECONDS) for entry in self.scheduler.members),
            return_exceptions=True,
        )
