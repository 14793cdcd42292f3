"""A selector that looks a few times more before it sleeps.

Waking a sleeping process costs more than most of what the scheduler does for a task. While one client waits for one
task, the next message is microseconds away: then it is quicker to keep looking. May import: nothing of fastdist.
"""

from __future__ import annotations

import os
import selectors
import time
from typing import Any


class SpinningSelector(selectors.DefaultSelector):
    """Polls until `spin_until`, and only then waits as any selector does.

    It never spins in a process that may use one core only: whoever it waits for needs that core.

    Examples
    --------
    >>> selector = SpinningSelector()
    >>> selector.spin(0.0001)
    """

    def __init__(self) -> None:
        super().__init__()
        self._spin_until = 0.0
        self.useful = usable_cores() > 1

    def spin(self, seconds: float) -> None:
        """Do not sleep for so many seconds from now on."""
        if self.useful:
            self._spin_until = time.monotonic() + seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """As `selectors.BaseSelector.select`."""
        if self._spin_until and (timeout is None or timeout > 0):
            until, self._spin_until = self._spin_until, 0.0
            while time.monotonic() < until:
                events = super().select(0)
                if events:
                    return events
        return super().select(timeout)


def usable_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
