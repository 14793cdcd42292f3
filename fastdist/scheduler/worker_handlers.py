"""The operations that workers and nannies may ask of the scheduler.

May import: the layers below and the other modules of this folder.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from fastdist._core.codec.frames import FrameKind
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import mapping, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.deaths import read_report
from fastdist.scheduler.membership import WorkerEntry
from fastdist.versions import refuse_other_python

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")
_STATUSES = ("running", "paused", "closing")


class WorkerHandlers:
    """What a worker or a nanny may ask.

    Parameters
    ----------
    scheduler : Scheduler
        The server that they act on.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.entries: dict[Peer, WorkerEntry] = {}

    def table(self) -> dict[str, Handler]:
        """Operations of workers by name."""
        return {
            "register-worker": self.register,
            "heartbeat": self.heartbeat,
            "worker-status": self.status,
            "identity": self.identity,
        }

    def nanny_table(self) -> dict[str, Handler]:
        """Operations of nannies by name."""
        return {"worker-exited": self.exited, "identity": self.identity}

    def register(
        self, peer: Peer, fields: dict[str, Any], buffers: list[Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """A worker introduces itself; from now on it is given tasks."""
        members = self.scheduler.members
        address = text(fields, "address", 1024)
        name = fields.get("name") if fields.get("name") is not None else address
        if not isinstance(name, (str, int)):
            raise TypeError(f"the name of a worker must be a str or an int, not {type(name).__name__}")
        if peer in self.entries:
            raise ValueError(f"the worker at {address} has registered on this connection already")
        if address in members.by_address:
            raise ValueError(f"there is a worker at {address} already")
        if members.named(name) is not None:
            raise ValueError(f"name taken, {name}")
        resources = mapping(fields, "resources", default={})
        versions = mapping(fields, "versions", 1_000, default={})
        refuse_other_python(versions, f"the worker at {address}")
        entry = WorkerEntry(
            number=-1,
            peer=peer,
            address=address,
            name=name,
            host=text(fields, "host", 256, default="") or address.rpartition("://")[2].rpartition(":")[0],
            pid=whole(fields, "pid", default=0),
            nthreads=whole(fields, "nthreads", 1, 1 << 16),
            memory_limit=whole(fields, "memory_limit", default=None) or 0,
            resources={key: number(resources, key, 0.0) for key in resources},
            nanny=text(fields, "nanny", 1024, default=None),
            local_directory=text(fields, "local_directory", default="") or "",
            versions=dict(versions),
        )
        entry.number = self.scheduler.core.on_worker(
            address, entry.nthreads, entry.nanny is not None, dict(entry.resources)
        )
        self.entries[peer] = entry
        members.add_worker(entry)
        peer.name = f"worker {name} at {address}"
        peer.on_frame[FrameKind.DONE] = self.take_done
        entry.beat_interval = self.scheduler.heartbeat_interval
        self.scheduler.membership_changed()
        for extension in self.scheduler.extensions.values():
            extension.worker_came(entry)
        logger.info("Register worker %s, name %s, %d threads", address, name, entry.nthreads)
        reply: dict[str, Any] = {
            "epoch": self.scheduler.epoch,
            "number": entry.number,
            "heartbeat_interval": entry.beat_interval,
        }
        payloads: list[Any] = []
        for extension in self.scheduler.extensions.values():
            extension.welcome_worker(entry, reply, payloads)
        return reply, payloads

    def heartbeat(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A sign of life, with figures."""
        entry = self.entry(peer)
        now = time.time()
        interval = self.scheduler.heartbeat_interval
        if not 0.5 * entry.beat_interval <= interval <= 2 * entry.beat_interval:
            entry.beat_interval = interval
            peer.notify("heartbeat-interval", seconds=interval)
        entry.last_seen = now
        entry.metrics = mapping(fields, "metrics", 10_000, default={})

    def status(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A worker pauses, resumes, or is about to close."""
        entry = self.entry(peer)
        status = text(fields, "status", 64)
        if status not in _STATUSES:
            raise ValueError(f"a worker's status is one of {', '.join(_STATUSES)}, not {status!r}")
        entry.status = status
        entry.closing = entry.closing or status == "closing"
        self.scheduler.core.on_worker_status(entry.number, entry.takes_work)
        self.scheduler.wake()

    def exited(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A nanny tells how its worker ended and what it was executing then."""
        report = read_report(fields, self.scheduler.core)
        entry = self.scheduler.members.by_address.get(report.address)
        if entry is not None:
            self.lost(entry.peer, f"its process ended: {report.how}")
            entry.peer.abort(CommClosedError(f"the nanny says that the process ended: {report.how}"))
        self.scheduler.core.on_death_report(report.address, report.executing, report.how, report.details)
        self.scheduler.wake()

    def identity(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """What the cluster is made of."""
        return {"identity": self.scheduler.identity(whole(fields, "n_workers", -1, default=-1))}

    def take_done(self, peer: Peer, body: memoryview) -> None:
        """A DONE frame."""
        self.scheduler.core.on_done(self.entries[peer].number, body, time.monotonic())
        self.scheduler.wake()

    def lost(self, peer: Peer, why: str, *, dead: bool = True) -> None:
        """The connection of a worker is gone, expected or not; only the dead have tasks to blame."""
        entry = self.entries.pop(peer, None)
        if entry is None:
            return
        self.scheduler.members.drop_worker(entry)
        unexpected = dead and not entry.closing
        if unexpected and entry.nanny is not None:
            # Its nanny is about to tell what it was executing.
            self.scheduler.core.on_worker_lost(entry.number, False, why, time.monotonic())
        else:
            self.scheduler.core.on_worker_lost(entry.number, unexpected, why)
        self.scheduler.membership_changed()
        for extension in self.scheduler.extensions.values():
            extension.worker_gone(entry, why)
        level = logging.INFO if entry.closing or self.scheduler.closing else logging.WARNING
        logger.log(level, "Remove worker %s, name %s: %s", entry.address, entry.name, why)

    def entry(self, peer: Peer) -> WorkerEntry:
        """The registered worker behind a connection."""
        try:
            return self.entries[peer]
        except KeyError:
            raise PermissionError("register-worker must come first on this connection") from None
