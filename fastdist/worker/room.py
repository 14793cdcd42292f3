"""Room for bytes that are on their way: a semaphore that counts bytes. May import: nothing of fastdist."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Lets coroutines in while what they need fits together; a need larger than all gets the room alone.

    Parameters
    ----------
    nbytes : int
        How much room there is.

    Examples
    --------
    >>> async def serve(room, values):
    ...     async with room.taken(sum(map(len, values))):
    ...         return b"".join(values)
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, nbytes: int) -> AsyncIterator[None]:
        """Wait in line for this much room, and give it back in the end."""
        nbytes = min(nbytes, self.nbytes)
        if self._waiting or self.used + nbytes > self.nbytes:
            await self._wait(nbytes)
        else:
            self.used += nbytes
        try:
            yield
        finally:
            self.used -= nbytes
            self._admit()

    async def _wait(self, nbytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.used -= nbytes
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            nbytes, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self.used + nbytes <= self.nbytes:
                self._waiting.popleft()
                self.used += nbytes
                turn.set_result(None)
            else:
                return
