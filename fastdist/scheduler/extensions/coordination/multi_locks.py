"""Locks on several names at once. May import: `rpc`, `scheduler.extensions.coordination.coordinator`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastdist.rpc.fields import items, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.coordination.coordinator import Coordinator, Line, Owner, checked_name
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

logger = logging.getLogger("fastdist.scheduler")

#: Names of one request.
MAX_NAMES = 1_000


@dataclass
class Holding:
    """What one request has got."""

    owner: Owner
    names: list[bytes]


@dataclass
class Wish:
    """So many of these names are wanted."""

    owner: Owner
    names: list[bytes]
    count: int


class MultiLocks(Coordinator):
    """Gives each request all the names that it needs at once, so that no two can wait for each other.

    An older request that waits keeps its free names from younger ones, so that it is served at last.
    """

    name = "multi-locks"
    kind = "lock on several names"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.taken: dict[bytes, str] = {}
        self.holdings: dict[str, Holding] = {}
        self.line: Line = {}

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"multi-lock-acquire": self.acquire, "multi-lock-release": self.release}

    async def acquire(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Take some of the names under an id of the client's choice, or wait for them; asking twice is harmless."""
        owner, id = self.owner(peer, fields), text(fields, "lease", 256)
        timeout = number(fields, "wait_timeout", 0.0, default=None)
        names = [checked_name(name, "names") for name in items(fields, "names", bytes, MAX_NAMES)]
        wish = Wish(owner, list(dict.fromkeys(names)), whole(fields, "count", 0, len(names)))
        if id in self.holdings:
            return {"acquired": True}
        if self._grant(id, wish, self._claimed()):
            return {"acquired": True}
        if timeout is not None and timeout <= 0:
            return {"acquired": False}
        try:
            return {"acquired": bool(await self.wait(peer, self.line, id, owner, timeout, wish))}
        finally:
            # Whoever leaves the line lets go of the names that it kept from younger requests.
            self._serve()

    def release(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Give back what a request has got, or leave the line."""
        self.entry(peer)
        id = text(fields, "lease", 256)
        waiter = self.line.pop(id, None)
        if waiter is not None:
            waiter.finish(False)
        released = self._end(id)
        self._serve()
        return {"released": released}

    # -- names ---------------------------------------------------------------------------------------------------------

    def _claimed(self) -> set[bytes]:
        return {name for waiter in self.line.values() if not waiter.future.done() for name in waiter.detail.names}

    def _grant(self, id: str, wish: Wish, claimed: set[bytes]) -> bool:
        free = [name for name in wish.names if name not in self.taken and name not in claimed][: wish.count]
        if len(free) < wish.count:
            return False
        self.check_room(self.taken)
        self._hold(id, wish.owner, free)
        self.write_down([id, wish.owner.client, wish.owner.worker, free])
        return True

    def _hold(self, id: str, owner: Owner, names: list[bytes]) -> None:
        self.holdings[id] = Holding(owner, names)
        self.taken.update(dict.fromkeys(names, id))

    def apply_fact(self, change: Any) -> None:
        """Take names, or give them back."""
        id, client, worker, names = change
        if names is None:
            self._end(id)
        else:
            self._hold(id, Owner(client, worker), names)

    def facts(self) -> Iterator[Any]:
        """What each request has got."""
        for id, holding in self.holdings.items():
            yield [id, holding.owner.client, holding.owner.worker, holding.names]

    def _end(self, id: str) -> bool:
        holding = self.holdings.pop(id, None)
        if holding is None:
            return False
        for name in holding.names:
            del self.taken[name]
        self.write_down([id, -1, None, None])
        return True

    def _serve(self) -> None:
        claimed: set[bytes] = set()
        for id, waiter in list(self.line.items()):
            if waiter.future.done():
                continue
            if self._grant(id, waiter.detail, claimed):
                del self.line[id]
                waiter.finish(True)
            else:
                claimed.update(waiter.detail.names)

    def _end_all(self, ends: Callable[[Owner], bool], why: str, level: int = logging.WARNING) -> None:
        ended = [id for id, holding in self.holdings.items() if ends(holding.owner)]
        for id in ended:
            logger.log(level, "a lock on several names is taken back: %s", why)
            self._end(id)
        if ended:
            self._serve()

    def client_gone(self, entry: ClientEntry) -> None:
        """What it has got is free again."""
        why = f"the client {entry.name} is gone"
        self._end_all(lambda owner: owner.client == entry.number, why, logging.INFO)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """What its tasks have got is free again."""
        self._end_all(lambda owner: owner.worker == entry.address, f"the worker {entry.address} is gone ({why})")
