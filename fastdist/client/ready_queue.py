"""The queue of `as_completed`, as libraries empty it. Imports nothing of fastdist."""

from __future__ import annotations

import queue
from typing import Any


class ReadyQueue:
    """What is done and was not yielded yet, with the methods of `queue.Queue` that never wait.

    Its lock is that of the `as_completed`, which callers hold already: it is not taken here.

    Parameters
    ----------
    iterator : as_completed
        Whose queue it is.
    """

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def empty(self) -> bool:
        """Whether nothing is there."""
        return not self.qsize()

    def qsize(self) -> int:
        """How many are there."""
        return len(self._iterator._ready) - int(self._iterator._next_ready)

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        """Take the next one out.

        Raises
        ------
        queue.Empty
            If there is none.
        NotImplementedError
            If it shall wait for one: that is what iterating does.
        """
        if self.empty():
            if block or timeout:
                raise NotImplementedError("the queue of as_completed does not wait: iterate over as_completed instead")
            raise queue.Empty
        future = self._iterator._ready[self._iterator._next_ready]
        self._iterator._next_ready += 1
        return future

    get_nowait = get
