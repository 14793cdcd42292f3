"""Semaphores, and the locks made of them: leases that somebody holds, refreshes and gives back.

A lease ends when it is released, when it was not refreshed in time, and when its client or worker is gone.
May import: `config`, `rpc`, `scheduler.extensions.coordination.coordinator`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastdist import config
from fastdist.rpc.fields import flag, items, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.coordination.coordinator import Coordinator, Line, Owner, name_of, shown
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

logger = logging.getLogger("fastdist.scheduler")

#: Leases in one message.
MAX_LEASES = 100_000


@dataclass
class Lease:
    """The right of one holder; `timeout` is how long it lasts without a refresh."""

    owner: Owner
    timeout: float
    expires: float


@dataclass
class Semaphore:
    """The leases of one name, and who waits for one."""

    max_leases: int
    #: A lock is forgotten as soon as nobody holds it or waits for it.
    is_lock: bool
    leases: dict[str, Lease] = field(default_factory=dict)
    line: Line = field(default_factory=dict)


class Semaphores(Coordinator):
    """Gives leases out, oldest request first."""

    name = "semaphores"
    kind = "semaphore"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.semaphores: dict[bytes, Semaphore] = {}
        self._shortest_check = config.get("scheduler.locks.lease-validation-interval")
        self._check: asyncio.TimerHandle | None = None
        self._check_due = math.inf

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "semaphore-register": self.register,
            "semaphore-acquire": self.acquire,
            "semaphore-release": self.release,
            "semaphore-refresh": self.refresh,
            "semaphore-value": self.value,
            "semaphore-close": self.close_one,
        }

    # -- requests ------------------------------------------------------------------------------------------------------

    def register(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Make a semaphore, or check that one of this name has as many leases."""
        self.entry(peer)
        self._register(name_of(fields), whole(fields, "max_leases", 1), flag(fields, "lock", default=False))

    def _register(self, name: bytes, max_leases: int, is_lock: bool) -> Semaphore:
        semaphore = self.semaphores.get(name)
        if semaphore is None:
            self.check_room(self.semaphores)
            semaphore = self.semaphores[name] = Semaphore(max_leases, is_lock)
            self.write_down(["made", name, max_leases, is_lock])
        elif semaphore.max_leases != max_leases:
            raise ValueError(
                f"Inconsistent max leases: {max_leases}, expected: {semaphore.max_leases} (the semaphore {shown(name)} "
                "exists already; close it first, or use another name)"
            )
        elif not is_lock and semaphore.is_lock:
            semaphore.is_lock = False
            self.write_down(["made", name, max_leases, False])
        return semaphore

    async def acquire(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Take a lease under an id of the client's choice, or wait for one; asking twice is harmless."""
        name, owner, id = name_of(fields), self.owner(peer, fields), text(fields, "lease", 256)
        max_leases, is_lock = whole(fields, "max_leases", 1), flag(fields, "lock", default=False)
        timeout = number(fields, "wait_timeout", 0.0, default=None)
        lasts = number(fields, "lease_timeout", 0.001, default=None)
        if name not in self.semaphores and flag(fields, "registered") and not is_lock:
            raise RuntimeError(f"Semaphore or Lock {shown(name)} not known: it was closed")
        semaphore = self._register(name, max_leases, is_lock)
        lease = Lease(owner, math.inf if lasts is None else lasts, 0.0)
        if id in semaphore.leases:
            return {"acquired": True}
        if not semaphore.line and len(semaphore.leases) < semaphore.max_leases:
            self._grant(name, semaphore, id, lease)
            return {"acquired": True}
        if timeout is not None and timeout <= 0:
            return {"acquired": False}
        try:
            return {"acquired": bool(await self.wait(peer, semaphore.line, id, owner, timeout, lease))}
        finally:
            self._forget_idle(name)

    def release(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Give a lease back, or leave the line."""
        self.entry(peer)
        name, id = name_of(fields), text(fields, "lease", 256)
        semaphore = self.semaphores.get(name)
        if semaphore is None:
            logger.warning("the semaphore %s, a lease of which is given back, is not known: it was closed", shown(name))
            return {"released": False}
        waiter = semaphore.line.pop(id, None)
        if waiter is not None:
            waiter.finish(False)
        released = self._end(name, id)
        if not released and waiter is None:
            logger.warning(
                "a lease of the semaphore %s is given back that had ended already: it was not refreshed in time",
                shown(name),
            )
        return {"released": released}

    def refresh(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Prolong leases, pairs of name and id; the answer has the ids of those that ended and are not given again."""
        self.entry(peer)
        lost = []
        for pair in items(fields, "leases", (list, tuple), MAX_LEASES):
            name, id = name_of(dict(zip(("name", "id"), pair, strict=True))), text({"id": pair[1]}, "id", 256)
            semaphore = self.semaphores.get(name)
            lease = None if semaphore is None else semaphore.leases.get(id)
            if lease is None:
                lost.append(id)
            else:
                lease.expires = time.monotonic() + lease.timeout
        return {"lost": lost}

    def value(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """How many leases are taken."""
        self.entry(peer)
        semaphore = self.semaphores.get(name_of(fields))
        return {"value": 0 if semaphore is None else len(semaphore.leases)}

    def close_one(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Forget a semaphore; those who wait for it hear that."""
        self.entry(peer)
        name = name_of(fields)
        semaphore = self.semaphores.pop(name, None)
        if semaphore is None:
            return
        self.write_down(["gone", name])
        if semaphore.leases or semaphore.line:
            logger.warning(
                "the semaphore %s is closed while %d leases are held and %d requests wait",
                shown(name), len(semaphore.leases), len(semaphore.line),
            )  # fmt: skip
        for waiter in semaphore.line.values():
            waiter.fail(RuntimeError(f"Semaphore or Lock {shown(name)} was closed while this waited for it"))

    # -- leases --------------------------------------------------------------------------------------------------------

    def _grant(self, name: bytes, semaphore: Semaphore, id: str, lease: Lease) -> None:
        self.write_down(fact_of(name, id, lease))
        lease.expires = time.monotonic() + lease.timeout
        semaphore.leases[id] = lease
        if lease.expires < self._check_due:
            self._check_later(lease.expires)

    def _end(self, name: bytes, id: str) -> bool:
        """End a lease and give it to the next in line."""
        semaphore = self.semaphores[name]
        ended = semaphore.leases.pop(id, None) is not None
        if ended:
            self.write_down(["ended", name, id])
        while semaphore.line and len(semaphore.leases) < semaphore.max_leases:
            next_id = next(iter(semaphore.line))
            waiter = semaphore.line.pop(next_id)
            # One that is over, by its timeout, has not been taken out yet.
            if not waiter.future.done():
                self._grant(name, semaphore, next_id, waiter.detail)
                waiter.finish(True)
        self._forget_idle(name)
        return ended

    def _forget_idle(self, name: bytes) -> None:
        semaphore = self.semaphores.get(name)
        if semaphore is not None and semaphore.is_lock and not semaphore.leases and not semaphore.line:
            del self.semaphores[name]
            self.write_down(["gone", name])

    def _end_all(self, ends: Callable[[Lease], bool], why: str, level: int = logging.WARNING) -> None:
        for name, semaphore in list(self.semaphores.items()):
            for id, lease in list(semaphore.leases.items()):
                if ends(lease):
                    logger.log(level, "a lease of the semaphore %s is taken back: %s", shown(name), why)
                    self._end(name, id)

    def client_gone(self, entry: ClientEntry) -> None:
        """Its leases end."""
        why = f"the client {entry.name} is gone"
        self._end_all(lambda lease: lease.owner.client == entry.number, why, logging.INFO)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """The leases of its tasks end."""
        self._end_all(lambda lease: lease.owner.worker == entry.address, f"the worker {entry.address} is gone ({why})")

    # -- the journal ---------------------------------------------------------------------------------------------------

    def apply_fact(self, change: Any) -> None:
        """Make or forget a semaphore, give or end a lease."""
        what, name, *more = change
        if what == "made":
            semaphore = self.semaphores.setdefault(name, Semaphore(*more))
            semaphore.max_leases, semaphore.is_lock = more
        elif what == "gone":
            self.semaphores.pop(name, None)
        elif what == "ended":
            self.semaphores[name].leases.pop(more[0], None)
        else:
            id, client, worker, timeout = more
            # A whole timeout from now on: its holder could not refresh it.
            lease = Lease(Owner(client, worker), timeout, time.monotonic() + timeout)
            self.semaphores[name].leases[id] = lease

    def facts(self) -> Iterator[Any]:
        """Each semaphore, and its leases."""
        for name, semaphore in self.semaphores.items():
            yield ["made", name, semaphore.max_leases, semaphore.is_lock]
            for id, lease in semaphore.leases.items():
                yield fact_of(name, id, lease)

    async def started(self) -> None:
        """Leases of an earlier life end, too, if they are not refreshed."""
        if any(each.leases for each in self.semaphores.values()):
            self._check_leases()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _check_later(self, due: float) -> None:
        if self._check is not None:
            self._check.cancel()
        pause = max(due - time.monotonic(), self._shortest_check)
        self._check_due = due
        self._check = asyncio.get_running_loop().call_later(pause, self._check_leases)

    def _check_leases(self) -> None:
        self._check, self._check_due = None, math.inf
        now = time.monotonic()
        self._end_all(lambda lease: lease.expires <= now, "its holder did not refresh it in time")
        due = min(
            (lease.expires for each in self.semaphores.values() for lease in each.leases.values()), default=math.inf
        )
        if due < self._check_due:
            self._check_later(due)

    async def close(self) -> None:
        """The scheduler closes."""
        if self._check is not None:
            self._check.cancel()


def fact_of(name: bytes, id: str, lease: Lease) -> list[Any]:
    """A lease, as the journal has it."""
    return ["lease", name, id, lease.owner.client, lease.owner.worker, lease.timeout]
