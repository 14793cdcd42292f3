"""Stops what workers still execute although nobody wants it any more.

A task is stopped only if a cancellation took it from its worker: what another client wants stays assigned. May import:
`_core`, `config`, `errors`, `rpc`; of this folder `extension` and `control`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from fastdist import config
from fastdist._core.scheduler import inspect
from fastdist.errors import CommClosedError
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.control import Control
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: How tasks can be stopped.
WAYS = ("interrupt", "kill")
#: Seconds that a worker has to answer; one that cannot does not get its interpreter from the task.
ANSWER_SECONDS = 2.0
#: Seconds that a process has to close before it gets signals.
CLOSE_SECONDS = 2.0

Assignment = tuple[int, int, int]


class Stopping(Extension):
    """Has workers interrupt tasks, and ends the processes of those that do not listen.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "stopping"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        #: Seconds that a task has to end by itself before its process is killed.
        self.grace: float = config.get("scheduler.kill-grace")
        self._running: set[asyncio.Task[None]] = set()

    def assigned(self) -> set[Assignment]:
        """(worker number, task id, attempt) of all that workers were given: to be asked before a cancellation."""
        return inspect.assignments(self.scheduler.core.model)

    def stop(self, before: set[Assignment], keys: list[bytes], way: str) -> list[str]:
        """Stop what a cancellation took from its workers.

        Parameters
        ----------
        before : set
            What `assigned` gave before the cancellation.
        keys : list of bytes
            Of tasks that were cancelled earlier, and may still execute.
        way : str
            "interrupt" or "kill".

        Returns
        -------
        list of str
            Addresses of workers whose process cannot be killed, because they have no nanny.
        """
        # The workers have to hear that the tasks are not wanted before they are asked to stop them.
        self.scheduler.act_now()
        by_worker: dict[int, list[tuple[int, int]]] = {}
        for worker, task_id, attempt in before - self.assigned():
            by_worker.setdefault(worker, []).append((task_id, attempt))
        alone = []
        for entry in list(self.scheduler.members):
            tasks = by_worker.get(entry.number, [])
            if not tasks and not keys:
                continue
            if way == "kill" and tasks and entry.nanny is None:
                alone.append(entry.address)
            task = asyncio.ensure_future(self._stop(entry, tasks, keys, way))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return alone

    async def _stop(self, entry: WorkerEntry, tasks: list[tuple[int, int]], keys: list[bytes], way: str) -> None:
        """Interrupt tasks of one worker; with "kill", end its process if one of them does not end in time."""
        try:
            executing = await self._ask(entry, tasks, keys, stop=True)
            if way != "kill" or not executing or entry.nanny is None:
                return
            await asyncio.sleep(self.grace)
            executing = await self._ask(entry, executing, [], stop=False)
        except CommClosedError:
            # It is gone, and what it executed with it.
            return
        except (TimeoutError, asyncio.TimeoutError):
            # A task keeps its interpreter to itself.
            if way != "kill" or entry.nanny is None or not tasks:
                return
            executing = tasks
        if executing and not entry.closing:
            logger.warning("worker %s is restarted: %d cancelled tasks do not end", entry.address, len(executing))
            control = cast("Control", self.scheduler.extensions["control"])
            await control.restart_workers([entry.address], timeout=CLOSE_SECONDS)

    async def _ask(
        self, entry: WorkerEntry, tasks: list[tuple[int, int]], keys: list[bytes], *, stop: bool
    ) -> list[tuple[int, int]]:
        reply = await entry.peer.call("stop-tasks", tasks=tasks, keys=keys, stop=stop, timeout=ANSWER_SECONDS)
        return [(int(task_id), int(attempt)) for task_id, attempt in reply["executing"]]

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
