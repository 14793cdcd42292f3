"""A selector with a short way to the system call, that can be told what to do before it sleeps.

An event loop asks it once per turn, so what it costs is paid for every message. May import: nothing of fastdist.
"""

from __future__ import annotations

import os
import select
import selectors
import time
from collections.abc import Callable
from typing import Any

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Ready = list[tuple[selectors.SelectorKey, int]]


class QuickSelector(selectors.DefaultSelector):
    """Waits like any selector, after it did what it was asked to do first.

    Parameters
    ----------
    before_sleep : callable, optional
        Called at the start of each `select` with the timeout; returns the timeout to wait with.

    Attributes
    ----------
    can_pause : bool
        Whether `pause_reading` works here.

    Examples
    --------
    >>> selector = QuickSelector()
    >>> selector.select(0)
    []
    >>> selector.close()
    """

    def __init__(self, before_sleep: Callable[[float | None], float | None] | None = None) -> None:
        super().__init__()
        self.before_sleep = before_sleep
        self._spin_until = 0.0
        self._spins = usable_cores() > 1
        self._keys: dict[int, selectors.SelectorKey] = {}
        # Another handle of the same kernel object, to be asked without a detour.
        self._epoll = select.epoll.fromfd(os.dup(self.fileno())) if hasattr(select, "epoll") else None
        self.can_pause = self._epoll is not None

    def spin(self, seconds: float) -> None:
        """Do not sleep for so many seconds from now on, but keep looking.

        Waking a sleeping process costs more than most of what a scheduler does for a task: if the next message is
        microseconds away, it is quicker to look again. Ignored in a process that may use one core only: whoever it
        waits for needs that core.
        """
        if self._spins:
            self._spin_until = time.monotonic() + seconds

    def select(self, timeout: float | None = None) -> Ready:
        """As `selectors.BaseSelector.select`."""
        if self.before_sleep is not None:
            timeout = self.before_sleep(timeout)
        if self._spin_until and (timeout is None or timeout > 0):
            until, self._spin_until = self._spin_until, 0.0
            while time.monotonic() < until:
                ready = self._ask(0)
                if ready:
                    return ready
        return self._ask(timeout)

    def _ask(self, timeout: float | None) -> Ready:
        if self._epoll is None:
            return super().select(timeout)
        keys = self._keys
        ready: Ready = []
        for descriptor, event in self._epoll.poll(timeout, len(keys) or 1):
            key = keys.get(descriptor)
            if key is None:
                continue
            # An error or a hang-up is for whoever reads and whoever writes.
            mask = (_WRITE if event & ~select.EPOLLIN else 0) | (_READ if event & ~select.EPOLLOUT else 0)
            if mask & key.events:
                ready.append((key, mask & key.events))
        return ready

    # -- registration ------------------------------------------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `selectors.BaseSelector.register`."""
        key = super().register(fileobj, events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As `selectors.BaseSelector.unregister`."""
        key = super().unregister(fileobj)
        self._keys.pop(key.fd, None)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `selectors.BaseSelector.modify`."""
        key = super().modify(fileobj, events, data)
        self._keys[key.fd] = key
        return key

    def close(self) -> None:
        """As `selectors.BaseSelector.close`."""
        self._keys.clear()
        if self._epoll is not None:
            self._epoll.close()
        super().close()

    def pause_reading(self, descriptor: int) -> None:
        """Report no more that a descriptor can be read, until `resume_reading`; from any thread."""
        self._watch(descriptor, 0)

    def resume_reading(self, descriptor: int) -> None:
        """Undo `pause_reading`; from any thread."""
        self._watch(descriptor, select.EPOLLIN)

    def _watch(self, descriptor: int, events: int) -> None:
        key = self._keys.get(descriptor)
        if key is not None and self._epoll is not None:
            writing = select.EPOLLOUT if key.events & _WRITE else 0
            self._epoll.modify(descriptor, events | writing)


def usable_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
