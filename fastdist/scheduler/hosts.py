"""Hosts that are lost: a worker is gone, and its nanny, which would tell why, is gone as well.

A power cut sends no report. So that a task which takes its host down is not tried for ever, what such a worker was
presumably executing is blamed as for any other death. May import: errors, rpc; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, cast

from fastdist.errors import FastdistError
from fastdist.scheduler.deaths import MAX_TASKS
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.rpc.peer import Peer
    from fastdist.scheduler.extensions.nannies import Nannies
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

HOST_LOST = "host lost: neither the worker nor its nanny answers"
#: Seconds in which a nanny that lives tells of a death: a little less than the core holds the tasks back for it.
REPORT_SECONDS = 0.25
#: Seconds for the answer of a nanny whose worker fell silent: the connections to a host without power stay open.
ANSWER_SECONDS = 2.0


class LostHosts:
    """Waits for the nannies of lost workers, and blames tasks where there is no nanny any more.

    Parameters
    ----------
    scheduler : Scheduler
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waits: dict[str, asyncio.Task[None]] = {}

    def watch(self, entry: WorkerEntry, executing: list[tuple[int, int]], silent: bool) -> None:
        """A worker with a nanny is lost without a farewell.

        Parameters
        ----------
        executing : list
            (task id, attempt) of what it presumably was executing.
        silent : bool
            Nobody says that its process ended: it does not answer.
        """
        if executing and not self._nannies.has_left(entry.nanny):
            self.reported(entry.address)
            self._waits[entry.address] = asyncio.ensure_future(self._wait(entry, executing, silent))

    def reported(self, address: str) -> None:
        """The nanny of the worker at this address has told how it ended."""
        wait = self._waits.pop(address, None)
        if wait is not None:
            wait.cancel()

    async def close(self) -> None:
        """Wait for nobody any more."""
        waits = list(self._waits.values())
        self._waits.clear()
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    @property
    def _nannies(self) -> Nannies:
        return cast("Nannies", self._scheduler.extensions["nannies"])

    async def _wait(self, entry: WorkerEntry, executing: list[tuple[int, int]], silent: bool) -> None:
        try:
            await asyncio.sleep(REPORT_SECONDS)
            if not await self._is_there(entry, silent):
                self._blame(entry, executing)
        finally:
            if self._waits.get(entry.address) is asyncio.current_task():
                del self._waits[entry.address]

    async def _is_there(self, entry: WorkerEntry, silent: bool) -> bool:
        """Whether the nanny of a worker lives, or has said goodbye."""
        if self._nannies.has_left(entry.nanny):
            return True
        peer: Peer | None = self._nannies.connected().get(entry.nanny or "")
        if peer is None:
            return False
        if not silent:
            # The end of the process was noticed over the network: the host is there.
            return True
        try:
            await peer.call("identity", timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError) as error:
            logger.debug("the nanny of the lost worker at %s does not answer: %s", entry.address, error)
            return self._nannies.has_left(entry.nanny)
        return True

    def _blame(self, entry: WorkerEntry, executing: list[tuple[int, int]]) -> None:
        core = self._scheduler.core
        logger.warning("the host of worker %s, name %s, is lost with its nanny", entry.address, entry.name)
        keys = [core.key_of_id(id) for id, _ in executing[:MAX_TASKS]]
        details = {"when": time.time(), "executing": [str(key) for key in keys if key is not None]}
        core.on_death_report(entry.address, executing, HOST_LOST, details)
        self._scheduler.wake()
