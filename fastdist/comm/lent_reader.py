"""How a thread that waits for a message waits for its socket, in place of the event loop.

May import: nothing of fastdist.
"""

from __future__ import annotations

import os
import select
import threading

#: Whether a system has what this takes.
AVAILABLE = hasattr(os, "eventfd") and hasattr(select, "poll")
#: Seconds of one wait at most: the system call takes no more than some days.
LONGEST_WAIT = 3600.0


class LentReader:
    """Waits for a descriptor, and can be woken.

    Parameters
    ----------
    descriptor : int
        Of the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self.wake_descriptor = -1
        self.wake_descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self.wake_descriptor, select.POLLIN)
        self._thread = 0

    def wait(self, seconds: float | None) -> bool:
        """Wait until the socket can be read or `wake` is called; False if neither happened in time, or in an hour."""
        events = self._poll.poll(None if seconds is None else int(min(seconds, LONGEST_WAIT) * 1000) + 1)
        for descriptor, _ in events:
            if descriptor == self.wake_descriptor:
                os.eventfd_read(descriptor)
        return bool(events)

    def enter(self) -> None:
        """The calling thread is the one to be woken from now on."""
        self._thread = threading.get_ident()

    def leave(self) -> None:
        """Nobody is to be woken."""
        self._thread = 0

    def retire(self) -> None:
        """End the wait that was interrupted in this very thread, when it goes on; nobody enters again."""
        self._thread = 0
        os.eventfd_write(self.wake_descriptor, 1)

    def wake(self) -> None:
        """End the wait of another thread."""
        if self._thread not in (0, threading.get_ident()) and self.wake_descriptor >= 0:
            os.eventfd_write(self.wake_descriptor, 1)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; nobody waits any more."""
        descriptor, self.wake_descriptor = self.wake_descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
