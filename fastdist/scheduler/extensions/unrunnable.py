"""Fails tasks that no worker could run for too long: the setting `scheduler.no-workers-timeout`, off by default.

May import: `_core`, config; of this folder `extension`; `scheduler.options`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from fastdist import config
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.explain import unrunnable
from fastdist._core.scheduler.inspect import facts, key_of, option
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.options import Placing

logger = logging.getLogger("fastdist.scheduler")

#: So many looks until a task has waited for too long, and the longest pause between two.
LOOKS = 5
LONGEST_PAUSE = 5.0
#: Tasks that are looked at at once; those behind them follow.
MAX_TASKS = 100_000


class Unrunnable(Extension):
    """Looks from time to time which tasks no worker can run, and fails those that waited for too long.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "unrunnable"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        #: Seconds; None for ever.
        self.timeout: float | None = config.get("scheduler.no-workers-timeout")
        self._since: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def started(self) -> None:
        """The scheduler listens."""
        if self.timeout is not None:
            self._look()

    async def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        assert self.timeout is not None
        pause = min(LONGEST_PAUSE, max(0.01, self.timeout / LOOKS))
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)
        core, now = self.scheduler.core, time.monotonic()
        ids = unrunnable(core.model, core.queue, MAX_TASKS)
        self._since = {id: self._since.get(id, now) for id in ids}
        late = [id for id, since in self._since.items() if now - since >= self.timeout]
        for id in late:
            key = key_of(core.model, id)
            logger.error("the task %r fails: no worker could run it for %g s", key, self.timeout)
            core.on_scatter_failed([id], self._payload(id, key))
        if late:
            self.scheduler.wake()

    def _payload(self, id: int, key: Any) -> bytes:
        """What the client makes a NoWorkerError or a NoValidWorkerError of."""
        running = any(entry.takes_work for entry in self.scheduler.members)
        options = option(self.scheduler.core.model, facts(self.scheduler.core.model, id)["options"])
        placing: Placing = getattr(options, "described", None) or Placing()
        known = {entry.address for entry in self.scheduler.members}
        named = [name for name in placing.workers if "://" in name or name in known]
        return reason_payload(
            Reason.NO_WORKER,
            f"no worker could run {key!r} for {self.timeout:g} s (scheduler.no-workers-timeout)",
            task=encode_key(key),
            timeout=self.timeout,
            running=running,
            workers=named,
            hosts=[name for name in placing.workers if name not in named],
            resources=dict(placing.resources),
        )
