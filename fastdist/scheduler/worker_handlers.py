"""The operations that workers and nannies may ask of the scheduler.

May import: the layers below and the other modules of this folder.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist._core.codec.frames import FrameKind
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import flag, items, mapping, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.deaths import read_report
from fastdist.scheduler.hosts import LostHosts
from fastdist.scheduler.membership import WorkerEntry
from fastdist.scheduler.returning import Away
from fastdist.versions import refuse_other_python

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")
_STATUSES = ("running", "paused", "closing")
#: A worker that keeps its DONE frames is told how many were applied after so many of them, or bytes.
FRAMES_PER_APPLIED, BYTES_PER_APPLIED = 32, 8 << 20
#: What a heartbeat says for a comparison: digests of what is held and of what was given, frames received and sent.
DIGEST_NUMBERS = 4
#: Seconds after which a worker is asked what it has if its digests could not be compared meanwhile.
PATIENCE = 5.0
#: ... and so much more for each row that it would send.
SECONDS_PER_ROW = 1e-5
LIVENESS = "liveness"


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
        self.grace: float = config.get("scheduler.worker-grace")
        self.away = Away(lambda entry, why, dead: self.lose(entry, why, dead=dead, silent=not dead))
        self.hosts = LostHosts(scheduler)

    def table(self) -> dict[str, Handler]:
        """Operations of workers by name."""
        return {
            "register-worker": self.register,
            "declare": self.declare,
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
        """A worker introduces itself; from now on it is given tasks.

        One that returns is given tasks once it has declared what it has.
        """
        address = text(fields, "address", 1024)
        if peer in self.entries:
            raise ValueError(f"the worker at {address} has registered on this connection already")
        returning = whole(fields, "returning", -1, default=-1)
        entry = self._known(fields, returning)
        if entry is not None:
            return self._take_back(entry, peer)
        entry = self._make_entry(peer, fields, address)
        entry.number = self.scheduler.core.on_worker(
            address, entry.nthreads, entry.nanny is not None, dict(entry.resources)
        )
        if returning >= 0:
            entry.away = True
            self.scheduler.core.on_worker_away(entry.number)
        self.scheduler.members.add_worker(entry)
        self._connect(entry, peer)
        self.scheduler.membership_changed()
        for extension in self.scheduler.extensions.values():
            extension.worker_came(entry)
        logger.info("Register worker %s, name %s, %d threads", address, entry.name, entry.nthreads)
        reply = self._reply(entry)
        payloads: list[Any] = []
        for extension in self.scheduler.extensions.values():
            extension.welcome_worker(entry, reply, payloads)
        return reply, payloads

    def _make_entry(self, peer: Peer, fields: dict[str, Any], address: str) -> WorkerEntry:
        """The entry of a worker that is not known.

        Raises
        ------
        ValueError
            If another worker has its address or name.
        """
        members = self.scheduler.members
        name = fields.get("name") if fields.get("name") is not None else address
        if not isinstance(name, (str, int)):
            raise TypeError(f"the name of a worker must be a str or an int, not {type(name).__name__}")
        for former in (members.by_address.get(address), members.named(name)):
            if former is not None and former.away:
                self.lose(former, f"another process took its place at {address}", dead=former.address == address)
        if address in members.by_address:
            raise ValueError(f"there is a worker at {address} already")
        if members.named(name) is not None:
            raise ValueError(f"name taken, {name}")
        resources = mapping(fields, "resources", default={})
        versions = mapping(fields, "versions", 1_000, default={})
        refuse_other_python(versions, f"the worker at {address}")
        return WorkerEntry(
            number=-1,
            instance=text(fields, "instance", 64, default="") or "",
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
            extra=mapping(fields, "extra", 1_000, default={}),
        )

    def _connect(self, entry: WorkerEntry, peer: Peer) -> None:
        """This is the connection of a worker from now on."""
        entry.peer = peer
        self.entries[peer] = entry
        peer.name = f"worker {entry.name} at {entry.address}"
        peer.on_frame[FrameKind.DONE] = self.take_done
        entry.beat_interval = self.scheduler.heartbeat_interval
        entry.told_applied, entry.untold_bytes = entry.applied, 0

    def _reply(self, entry: WorkerEntry) -> dict[str, Any]:
        return {
            "epoch": self.scheduler.epoch,
            "number": entry.number,
            "heartbeat_interval": entry.beat_interval,
            "grace": self.grace,
            "resumed": False,
        }

    # -- away and back -----------------------------------------------------------------------------------------------

    def _known(self, fields: dict[str, Any], returning: int) -> WorkerEntry | None:
        """The entry of a worker that returns, if it is still known."""
        if returning < 0 or whole(fields, "epoch", default=0) != self.scheduler.epoch:
            return None
        entry = self.scheduler.members.workers.get(returning)
        if entry is None or not entry.instance or entry.instance != fields.get("instance"):
            return None
        return entry

    def _take_back(self, entry: WorkerEntry, peer: Peer) -> tuple[dict[str, Any], list[Any]]:
        """A worker is here again, over another connection; it is about to declare what it has."""
        self.away.remove(entry)
        if not entry.peer.closed:
            # The connection is half-open: its end was noticed at the other side only.
            self._part(entry)
            entry.peer.abort(CommClosedError(f"worker {entry.name} came back on another connection"))
        self._connect(entry, peer)
        logger.info("worker %s, name %s, is back", entry.address, entry.name)
        reply = {**self._reply(entry), "resumed": True, "applied": entry.applied}
        self.scheduler.extensions[LIVENESS].welcome_worker(entry, reply, [])
        return reply, []

    def _part(self, entry: WorkerEntry) -> None:
        """A worker is not connected any more, and is not given up."""
        if self.entries.pop(entry.peer, None) is not None:
            # What an old connection still delivers is dropped: the worker sends it again.
            entry.peer.on_frame[FrameKind.DONE] = ignore_frame
        entry.away = True
        self.scheduler.core.on_worker_away(entry.number)

    def send_away(self, entry: WorkerEntry, why: str) -> None:
        """Break off the connection of a worker; it is given up if it does not come back in time."""
        peer = entry.peer
        self.disconnected(peer, CommClosedError(why))
        peer.abort(CommClosedError(why))

    def disconnected(self, peer: Peer, reason: Exception | None) -> None:
        """The connection of a worker broke, expected or not."""
        entry = self.entries.get(peer)
        if entry is None:
            return
        why = str(reason or "its connection was closed")
        # One that sent what cannot be read would send it again.
        malformed = reason is not None and not isinstance(reason, OSError)
        if malformed or entry.closing or not entry.instance or peer.comm.in_process or self.grace <= 0:
            self.lose(entry, why)
        elif self.scheduler.closing:
            self.lose(entry, why, dead=False)
        else:
            logger.info("worker %s, name %s, is away: %s", entry.address, entry.name, why)
            self._part(entry)
            self.away.add(entry, why, self.grace)
            self.scheduler.wake()

    def declare(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """What a worker has; if its ids are of another life of the scheduler, the answer has those of this one."""
        entry = self.entry(peer)
        core = self.scheduler.core
        fresh = flag(fields, "fresh")
        by_key = whole(fields, "epoch") != self.scheduler.epoch
        if len(buffers) != 1:
            raise ValueError(f"a declaration has one buffer, not {len(buffers)}")
        answer = core.on_declared(entry.number, bytes(buffers[0]), fresh, by_key)
        if fresh:
            entry.away = False
            core.on_worker_status(entry.number, entry.takes_work)
            if self.scheduler.journal is not None:
                self.scheduler.journal.worker_declared(entry)
        entry.agreed, entry.disagreed = time.monotonic(), False
        self.scheduler.wake()
        return {}, [] if answer is None else [answer]

    def _compare(self, entry: WorkerEntry, digest: list[Any], now: float) -> None:
        """A worker has told its digests: have it declare what it has if they are not what they should be."""
        held, given, received, sent = (int(number) for number in digest)
        core = self.scheduler.core
        agrees = core.agrees(entry.number, held, given, received) if sent == entry.applied else None
        if agrees:
            entry.agreed, entry.disagreed = now, False
            return
        # Something may have crossed; what is really wrong is wrong the next time, too.
        wrong = agrees is False and entry.disagreed
        entry.disagreed = agrees is False
        patience = PATIENCE + core.worker_view(entry.number)["held"] * SECONDS_PER_ROW
        in_vain = now - max(entry.agreed, entry.asked) > patience
        if (wrong or in_vain) and not entry.away:
            if wrong:
                logger.warning("worker %s does not have what it should have; it is asked", entry.address)
            entry.asked, entry.disagreed = now, False
            # It must get what it was given before the question.
            self.scheduler.act_now()
            core.on_asked(entry.number)
            entry.peer.notify("declare-all")

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
        if entry.applied != entry.told_applied:
            self._tell_applied(entry)
        digest = items(fields, "digest", int, default=[])
        if len(digest) == DIGEST_NUMBERS:
            self._compare(entry, digest, time.monotonic())

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
            self.lose(entry, f"its process ended: {report.how}")
            entry.peer.abort(CommClosedError(f"the nanny says that the process ended: {report.how}"))
        self.hosts.reported(report.address)
        self.scheduler.core.on_death_report(report.address, report.executing, report.how, report.details)
        self.scheduler.wake()

    def identity(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """What the cluster is made of."""
        return {"identity": self.scheduler.identity(whole(fields, "n_workers", -1, default=-1))}

    def take_done(self, peer: Peer, body: memoryview) -> None:
        """A DONE frame."""
        entry = self.entries[peer]
        self.scheduler.core.on_done(entry.number, body, time.monotonic())
        entry.applied += 1
        entry.untold_bytes += len(body)
        if entry.applied - entry.told_applied >= FRAMES_PER_APPLIED or entry.untold_bytes >= BYTES_PER_APPLIED:
            self._tell_applied(entry)
        self.scheduler.wake()

    def _tell_applied(self, entry: WorkerEntry) -> None:
        if self.scheduler.journal is not None and not self.scheduler.journal.flush():
            # The worker keeps what would be lost with this process.
            return
        entry.told_applied, entry.untold_bytes = entry.applied, 0
        # At its return a worker hears the count, too.
        with contextlib.suppress(CommClosedError):
            entry.peer.notify("applied", frames=entry.applied)

    def lose(self, entry: WorkerEntry, why: str, *, dead: bool = True, silent: bool = False) -> None:
        """A worker is gone, expected or not; only the dead have tasks to blame.

        One that was `silent` for its grace time is dead if its nanny does not answer either.
        """
        if self.scheduler.members.workers.get(entry.number) is not entry:
            return
        self.away.remove(entry)
        self.entries.pop(entry.peer, None)
        self.scheduler.members.drop_worker(entry)
        unexpected = dead and not entry.closing
        if (unexpected or (silent and not entry.closing)) and entry.nanny is not None:
            expected_to_go = entry.retired or entry.retiring or self.scheduler.closing
            executing = [] if expected_to_go else self.scheduler.core.presumed_executing(entry.number)
            # Its nanny is about to tell what it was executing, unless it is gone, too.
            self.scheduler.core.on_worker_lost(entry.number, False, why, time.monotonic())
            self.hosts.watch(entry, executing, silent)
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


def ignore_frame(peer: Peer, body: memoryview) -> None:
    """Drop a frame of a connection that has been replaced."""
