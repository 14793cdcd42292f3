"""What a client has to tell the scheduler and the scheduler has not applied yet, in order.

A frame waits (not sent), is kept (sent, and perhaps lost with its connection), and is dropped when the scheduler says
that it was applied. May import: `_core`, `errors`.
"""

from __future__ import annotations

import struct
import threading
from collections import deque

from fastdist._core.codec.frames import FrameKind
from fastdist.errors import MessageError

#: u32 columns, u32 rows, u64 lengths[14], and then the column whose first number is the first client id.
TASKS_HEAD = struct.Struct("<4xI112xQ")

Frame = tuple[int, bytes]


class Outbox:
    """The frames of one client that the scheduler may not have.

    Attributes
    ----------
    lock : Lock
        Held by whoever calls a method below; whoever sends holds it, too, so that the order is kept.
    keeps : bool
        Whether what was sent is kept until it is applied.
    incoming : deque
        What was just submitted. Any thread may append to it without the lock, and whoever gets the lock takes it from
        there: of threads that submit at once, one sends for all, and none waits for it.
    waiting : deque
        What could not be sent yet, the oldest first.
    n_bytes : int
        Of what waits and what is kept.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.keeps = False
        self.incoming: deque[Frame] = deque()
        self.waiting: deque[Frame] = deque()
        self.n_bytes = 0
        self._kept: deque[Frame] = deque()
        self._n_applied = 0
        self._last_tasks: bytes | None = None

    def add(self, kind: int, body: bytes) -> None:
        """A frame that cannot be sent now."""
        self.waiting.append((kind, body))
        self.n_bytes += len(body)

    def pop(self) -> None:
        """The first one that waits is on its way."""
        kind, body = self.waiting.popleft()
        self.n_bytes -= len(body)
        self.sent(kind, body)

    def sent(self, kind: int, body: bytes) -> None:
        """A frame is on its way."""
        if self.keeps:
            self._kept.append((kind, body))
            self.n_bytes += len(body)

    def applied(self, count: int) -> None:
        """The scheduler has applied so many frames of this client in all.

        Raises
        ------
        MessageError
            If it cannot have.
        """
        if not self._n_applied <= count <= self._n_applied + len(self._kept):
            raise MessageError(
                f"the scheduler says that it applied {count} frames of this client; it can be "
                f"{self._n_applied} to {self._n_applied + len(self._kept)}"
            )
        while self._n_applied < count:
            kind, body = self._kept.popleft()
            self.n_bytes -= len(body)
            self._n_applied += 1
            if kind == FrameKind.TASKS:
                self._last_tasks = body[: TASKS_HEAD.size]

    def send_again(self) -> None:
        """The connection is another one: what was sent and not applied waits again."""
        self.waiting.extendleft(reversed(self._kept))
        self._kept.clear()

    def last_id(self) -> int:
        """The highest client id in all TASKS frames so far; 0 if there was none."""
        for frames in (self.incoming, self.waiting, self._kept):
            for kind, body in reversed(frames):
                if kind == FrameKind.TASKS:
                    return last_id_of(body)
        return 0 if self._last_tasks is None else last_id_of(self._last_tasks)


def last_id_of(body: bytes) -> int:
    """The highest client id in a TASKS frame."""
    rows, first = TASKS_HEAD.unpack_from(body)
    return int(first + rows - 1)
