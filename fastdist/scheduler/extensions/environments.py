"""Tell clients of workers that run other versions of what their functions and values travel in.

May import: `rpc`, `versions`; `scheduler.membership`; of this folder `extension`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from fastdist.errors import CommClosedError
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry
from fastdist.versions import differing

#: Kinds of differences of which one client is told.
MAX_TOLD = 100


class Environments(Extension):
    """Compares the versions that clients and workers told when they registered.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "environments"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        #: What each client was told of, by its number.
        self._told: dict[int, set[str]] = {}

    def client_came(self, entry: ClientEntry) -> None:
        """A client has registered."""
        self._told[entry.number] = set()
        for worker in self.scheduler.members:
            self._compare(entry, worker)

    def client_gone(self, entry: ClientEntry) -> None:
        """A client has closed."""
        self._told.pop(entry.number, None)

    def worker_came(self, entry: WorkerEntry) -> None:
        """A worker has registered."""
        for client in list(self.scheduler.members.clients.values()):
            self._compare(client, entry)

    def _compare(self, client: ClientEntry, worker: WorkerEntry) -> None:
        found = differing(client.versions, worker.versions)
        if not found:
            return
        told = self._told.setdefault(client.number, set())
        differences = "; ".join(f"{name} {mine} here, {theirs} there" for name, (mine, theirs) in found.items())
        if differences in told or len(told) >= MAX_TOLD:
            return
        told.add(differences)
        # One that is gone is dealt with where its connection ends.
        with contextlib.suppress(CommClosedError):
            client.peer.notify("versions-differ", address=worker.address, differences=differences)
