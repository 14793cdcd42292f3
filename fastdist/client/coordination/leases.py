"""Keeps leases alive while their semaphores do: one message a client, now and then. May import: `client`, `errors`."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from fastdist.errors import ClosedClientError, CommClosedError

if TYPE_CHECKING:
    from fastdist.client.coordination.semaphore import Semaphore

logger = logging.getLogger("fastdist.client")

#: A lease is refreshed so many times before it would end.
REFRESHES = 5


class LeaseKeeper:
    """Refreshes the leases that are held through one client; lives on that client's event loop.

    Semaphores are not kept alive: the leases of one that is gone end by themselves.
    """

    def __init__(self, client: Any) -> None:
        self._client = weakref.ref(client)
        self._semaphores: weakref.WeakSet[Semaphore] = weakref.WeakSet()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def watch(self, semaphore: Semaphore) -> None:
        """Keep the leases of a semaphore alive, of which it has some now."""
        self._semaphores.add(semaphore)
        if self._timer is None:
            self._later()

    def _held(self) -> list[Semaphore]:
        for semaphore in list(self._semaphores):
            if not semaphore._leases:
                self._semaphores.discard(semaphore)
        return [each for each in self._semaphores if each._lease_timeout is not None and each.refresh_leases]

    def _later(self) -> None:
        pauses = [each._lease_timeout for each in self._semaphores if each._lease_timeout is not None]
        if pauses:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(pauses) / REFRESHES, self._refresh_soon)

    def _refresh_soon(self) -> None:
        self._timer = None
        client, held = self._client(), self._held()
        if client is None or client.status != "running" or not self._semaphores:
            return
        if held and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._refresh(client, held))
        self._later()

    async def _refresh(self, client: Any, semaphores: list[Semaphore]) -> None:
        leases = {
            lease: each for each in semaphores for lease in list(each._leases) if lease not in each._ended
        }
        pairs = [[semaphore._name, lease] for lease, semaphore in leases.items()]
        try:
            reply = await client._connection.call("semaphore-refresh", leases=pairs)
        except (ClosedClientError, CommClosedError) as error:
            logger.debug("leases are not refreshed any more: %s", error)
            return
        for lease in reply["lost"]:
            # What was released while the question was under way is none.
            if lease in leases[lease]._leases:
                leases[lease]._lost(lease)


_keepers: weakref.WeakKeyDictionary[Any, LeaseKeeper] = weakref.WeakKeyDictionary()


def keeper_of(client: Any) -> LeaseKeeper:
    """The keeper of a client; made at the first lease."""
    keeper = _keepers.get(client)
    if keeper is None:
        keeper = _keepers[client] = LeaseKeeper(client)
    return keeper
