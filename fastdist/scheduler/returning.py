"""Workers whose connection broke: whether their process is dead, and how long it may take them to come back.

A process that is gone refuses connections, and its nanny tells so: then its tasks go elsewhere at once. As long as
nobody says that it is dead, it keeps its tasks and data for the grace time. May import: the layers below;
`scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from fastdist.comm.addresses import parse_address
from fastdist.errors import FastdistError
from fastdist.scheduler.membership import WorkerEntry

logger = logging.getLogger("fastdist.scheduler")

#: Seconds for one attempt to reach a worker, and between two attempts.
REACH_SECONDS, PAUSE = 2.0, 0.02


class Away:
    """The workers that are away, and who looks for them.

    Parameters
    ----------
    give_up : callable
        Called with an entry, why, and whether its process is dead, when it is not waited for any longer.
    """

    def __init__(self, give_up: Callable[[WorkerEntry, str, bool], object]) -> None:
        self._give_up = give_up
        self._lookouts: dict[int, asyncio.Task[None]] = {}

    def add(self, entry: WorkerEntry, why: str, grace: float) -> None:
        """Wait for a worker."""
        if entry.number not in self._lookouts:
            self._lookouts[entry.number] = asyncio.ensure_future(self._look_out(entry, why, grace))

    def remove(self, entry: WorkerEntry) -> None:
        """It is back, or lost."""
        task = self._lookouts.pop(entry.number, None)
        if task is not None and task is not _current_task():
            task.cancel()

    async def _look_out(self, entry: WorkerEntry, why: str, grace: float) -> None:
        until = time.monotonic() + grace
        while (left := until - time.monotonic()) > 0:
            if await is_refused(entry.address, left):
                logger.debug("nobody listens at %s any more", entry.address)
                self._give_up(entry, why, True)
                return
            await asyncio.sleep(min(PAUSE, max(left, 0.0)))
        self._give_up(entry, f"it did not come back within {grace:g} s after this: {why}", False)

    async def close(self) -> None:
        """Wait for nobody any more."""
        tasks = list(self._lookouts.values())
        self._lookouts.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def is_refused(address: str, seconds: float) -> bool:
    """Whether the host says that nobody listens at an address.

    While somebody does, or nobody answers, this takes so many seconds at most: until the connection ends.
    """
    try:
        place = parse_address(address)
        opening = asyncio.open_connection(place.host, place.port)
        reader, writer = await asyncio.wait_for(opening, min(REACH_SECONDS, seconds))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError, ValueError):
        await asyncio.sleep(min(PAUSE, seconds))
        return False
    try:
        # The end of the process ends this connection.
        with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(_until_end(reader), seconds)
    finally:
        writer.transport.abort()
    return False


async def _until_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass
