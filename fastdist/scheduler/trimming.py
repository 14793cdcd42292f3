"""Giving memory back to the system after many tasks were released.

The C library keeps what was freed for the next time. May import: system.
"""

from __future__ import annotations

import asyncio

from fastdist.system.memory import give_back_memory

#: So many tasks must be gone before it is worth a look at the whole heap.
MANY_TASKS = 10_000

#: Seconds of quiet before memory is given back.
PAUSE = 0.2


class Trimmer:
    """Gives memory back once when most tasks are gone and the number of tasks rests."""

    def __init__(self) -> None:
        self._peak = 0
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, n_tasks: int, loop: asyncio.AbstractEventLoop | None) -> None:
        """Note how many tasks there are now.

        Parameters
        ----------
        n_tasks : int
            Tasks that the scheduler knows.
        loop : asyncio.AbstractEventLoop or None
            Where to plan the work.
        """
        self._peak = max(self._peak, n_tasks)
        self._seen = n_tasks
        if self._timer is None and loop is not None and self._peak - n_tasks > max(MANY_TASKS, self._peak // 2):
            self._timer = loop.call_later(PAUSE, self._trim, n_tasks, loop)

    def _trim(self, n_tasks: int, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._seen != n_tasks:
            self.watch(self._seen, loop)
            return
        self._peak = n_tasks
        give_back_memory()

    def cancel(self) -> None:
        """Plan nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
