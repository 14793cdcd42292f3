"""Progress of some tasks and of all that they need, for those who look at it. May import: `_core`, `rpc`."""

from __future__ import annotations

import itertools
from typing import Any

from fastdist._core.scheduler.progress import TaskWatch
from fastdist.rpc.fields import flag, items, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry

#: Bars of one client at a time.
MAX_WATCHES = 100


class Progress(Extension):
    """Counts what is done, by prefix; looking costs as much as there are tasks in the bar."""

    name = "progress"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._watches: dict[int, dict[int, TaskWatch]] = {}
        self._numbers = itertools.count(1)

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"start-progress": self.start, "get-progress": self.get, "stop-progress": self.stop}

    def client_gone(self, entry: ClientEntry) -> None:
        """What it looked at is of no interest any more."""
        self._watches.pop(entry.number, None)

    def _of(self, peer: Peer) -> dict[int, TaskWatch]:
        return self._watches.setdefault(self.scheduler._clients.entry(peer).number, {})

    def start(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Find the tasks that belong to some keys; the number to look at them by."""
        watches = self._of(peer)
        if len(watches) >= MAX_WATCHES:
            raise ValueError(f"this client looks at {MAX_WATCHES} progress bars already; that is the limit")
        number = next(self._numbers)
        keys = items(fields, "keys", bytes)
        watches[number] = TaskWatch(self.scheduler.core.model, keys, flag(fields, "complete", default=True))
        return {"number": number}

    def get(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """(prefix, tasks, done, failed) of each prefix."""
        watch = self._of(peer).get(whole(fields, "number"))
        if watch is None:
            raise KeyError("there is no such progress bar (any more)")
        return {"counts": watch.counts()}

    def stop(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Nobody looks any more."""
        self._of(peer).pop(whole(fields, "number"), None)
