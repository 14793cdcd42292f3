"""Who belongs to the cluster: the workers and clients behind the numbers of the core.

May import: errors, _core, rpc.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastdist.rpc.peer import Peer
from fastdist.scheduler.options import Placing


@dataclass(eq=False)
class WorkerEntry:
    """One registered worker."""

    number: int
    peer: Peer
    address: str
    name: str | int
    host: str
    pid: int
    nthreads: int
    memory_limit: int
    resources: dict[str, float]
    nanny: str | None
    local_directory: str
    versions: dict[str, str]
    #: What the user's functions told at the registration.
    extra: dict[str, Any] = field(default_factory=dict)
    #: The same in all registrations of one process.
    instance: str = ""
    status: str = "running"
    closing: bool = False
    #: Its connection broke, or it has returned and not declared yet what it has.
    away: bool = False
    #: The scheduler was recovered and waits for other workers before it places tasks.
    held: bool = False
    #: Nobody is to start it again.
    retired: bool = False
    #: It is given no more work, and its data goes to others.
    retiring: bool = False
    beat_interval: float = 1.0
    metrics: dict[str, Any] = field(default_factory=dict)
    last_seen: float = field(default_factory=time.time)
    #: DONE frames of it that were applied; how many of them it knows of, and the bytes of the others.
    applied: int = 0
    told_applied: int = 0
    untold_bytes: int = 0
    #: When its digests were the same as here, when they were looked at in vain last, and when it was asked.
    agreed: float = field(default_factory=time.monotonic)
    disagreed: bool = False
    asked: float = 0.0

    @property
    def takes_work(self) -> bool:
        """Whether it may be given tasks and data."""
        return self.status == "running" and not (self.closing or self.retiring or self.held or self.away)

    @property
    def shown_status(self) -> str:
        """Its status in the words of dask."""
        return "closing_gracefully" if self.retiring and self.status != "closing" else self.status

    def identity(self) -> dict[str, Any]:
        """What is shown of it, in plain values."""
        return {
            **self.extra,
            "type": "Worker",
            "id": self.name,
            "name": self.name,
            "address": self.address,
            "host": self.host,
            "pid": self.pid,
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit,
            "resources": dict(self.resources),
            "nanny": self.nanny,
            "local_directory": self.local_directory,
            "status": self.shown_status,
            "metrics": dict(self.metrics),
            "last_seen": self.last_seen,
            "services": {},
        }


@dataclass(eq=False)
class ClientEntry:
    """One registered client."""

    number: int
    peer: Peer
    name: str
    versions: dict[str, str]
    inline_allowed: bool = True
    last_seen: float = field(default_factory=time.time)
    #: Whether it keeps what it sends until it hears that it was applied, to send it again when it returns.
    returns: bool = False
    #: Known from the journal of an earlier life of the scheduler, and not here yet.
    recovered: bool = False
    #: TASKS and RELEASE frames of it that were applied; how many of them it knows of, and the bytes of the others.
    applied: int = 0
    told_applied: int = 0
    untold_bytes: int = 0


class Members:
    """The workers and clients that are connected now, by number and by address or name."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerEntry] = {}
        self.by_address: dict[str, WorkerEntry] = {}
        self.clients: dict[int, ClientEntry] = {}

    def add_worker(self, entry: WorkerEntry) -> None:
        """Remember a worker that the core knows by `entry.number`."""
        self.workers[entry.number] = entry
        self.by_address[entry.address] = entry

    def drop_worker(self, entry: WorkerEntry) -> None:
        """Forget a worker."""
        self.workers.pop(entry.number, None)
        if self.by_address.get(entry.address) is entry:
            del self.by_address[entry.address]

    def named(self, name: str | int) -> WorkerEntry | None:
        """The worker with this name, if there is one."""
        return next((entry for entry in self.workers.values() if str(entry.name) == str(name)), None)

    def select(self, workers: Iterable[str | int] | None) -> list[WorkerEntry]:
        """The workers with these addresses, names or hosts; all for None.

        Raises
        ------
        ValueError
            If one of them is no worker of this cluster; the text lists those that are.
        """
        if workers is None:
            return list(self.workers.values())
        chosen: dict[int, WorkerEntry] = {}
        for wanted in workers:
            found = [
                entry
                for entry in self.workers.values()
                if str(wanted) in (entry.address, str(entry.name), entry.host)
            ]
            if not found:
                known = ", ".join(sorted(entry.address for entry in self.workers.values())) or "none"
                raise ValueError(f"there is no worker {wanted!r}; the workers are: {known}")
            chosen.update((entry.number, entry) for entry in found)
        return list(chosen.values())

    def candidates(self, placing: Placing) -> list[int]:
        """Numbers of the workers that a placing allows."""
        return [entry.number for entry in self.workers.values() if placing.allows(entry.identity())]

    def __iter__(self) -> Iterator[WorkerEntry]:
        return iter(list(self.workers.values()))
