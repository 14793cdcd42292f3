"""Restarts workers that do not report any more: the setting `scheduler.worker-ttl`, off by default.

Workers that are stopped or cut off are noticed much earlier by their signs of life (`liveness`), which a worker sends
also while a task holds the GIL. Reports come from its event loop: this is for a worker that lives but is stuck. May
import: of this folder `control`, `events`, `extension`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

from fastdist.scheduler.extensions.control import Control
from fastdist.scheduler.extensions.events import Events
from fastdist.scheduler.extensions.extension import Extension

logger = logging.getLogger("fastdist.scheduler")

#: So many looks until a worker has been silent for too long.
LOOKS = 4


class Silence(Extension):
    """Looks when the workers reported last, and restarts those of which that is long ago.

    Parameters
    ----------
    scheduler : Scheduler
        With `worker_ttl`: seconds, or None for never.
    """

    name = "silence"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._restarts: set[asyncio.Task[Any]] = set()

    async def started(self) -> None:
        """The scheduler listens."""
        self._look_later()

    def _look_later(self) -> None:
        ttl = self.scheduler.worker_ttl
        if ttl:
            self._due = time.monotonic() + ttl / LOOKS
            self._timer = asyncio.get_running_loop().call_later(ttl / LOOKS, self.look)

    def look(self) -> None:
        """Restart the workers that have been silent for too long."""
        late = time.monotonic() - self._due
        self._look_later()
        ttl = self.scheduler.worker_ttl
        if not ttl or late > ttl / LOOKS:
            # If this scheduler itself was stopped or starved, the reports are still to be read.
            return
        now = time.time()
        for entry in self.scheduler.members:
            silent = now - entry.last_seen
            if silent > ttl and not entry.closing:
                logger.warning("worker %s did not report for %.1f s and is restarted", entry.address, silent)
                event = {"action": "worker-ttl-timed-out", "last-seen": entry.last_seen}
                cast(Events, self.scheduler.extensions["events"]).log_event([entry.address, "scheduler"], event)
                self._restart(entry.address)

    def _restart(self, address: str) -> None:
        control = cast(Control, self.scheduler.extensions["control"])
        task = asyncio.get_running_loop().create_task(control.restart_workers([address]))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._restarts:
            task.cancel()
