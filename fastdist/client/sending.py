"""How frames leave a client: in their order, from any thread, also while the connection is away or slow.

May import: `rpc`, `comm`, `_core`, `errors`, and the outbox.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastdist._core.codec.frames import FrameKind
from fastdist.client.outbox import Frame, Outbox
from fastdist.errors import ClosedClientError, CommClosedError

if TYPE_CHECKING:
    from fastdist.rpc.peer import Peer

#: Above this much that the scheduler has not applied, those who submit wait.
MAX_UNAPPLIED_BYTES = 256 << 20
#: Seconds that what the event loop sends waits for threads that are about to send.
PATIENCE_WITH_SENDERS = 1.0


class Sending:
    """The part of SchedulerConnection that sends frames."""

    if TYPE_CHECKING:
        address: str
        _outbox: Outbox
        _peer: Peer | None
        _loop: asyncio.AbstractEventLoop | None
        _closed_reason: str | None
        _pump: asyncio.Task[None] | None
        _progress: asyncio.Event

    def send_tasks(self, body: bytes) -> None:
        """Send a TASKS frame; from any thread."""
        self.send(FrameKind.TASKS, body)

    def make_room(self) -> None:
        """Wait while the scheduler does not read; on the event loop frames are queued instead."""
        peer, loop = self._peer, self._loop
        if loop is None or self._on_loop():
            return
        if self._outbox.n_bytes > MAX_UNAPPLIED_BYTES:
            asyncio.run_coroutine_threadsafe(self._room(), loop).result()
        if peer is not None and peer.comm.queued_bytes > peer.comm.limits.high_water:
            try:
                asyncio.run_coroutine_threadsafe(peer.comm.drained(), loop).result()
            except CommClosedError as error:
                if not self._outbox.keeps:
                    raise self._closed_error(error) from error

    async def _room(self) -> None:
        while self._outbox.n_bytes > MAX_UNAPPLIED_BYTES and self._closed_reason is None:
            self._progress.clear()
            await self._progress.wait()

    def send(self, kind: int, body: bytes) -> None:
        """Send a frame, or have it wait for the connection; from any thread.

        Raises
        ------
        ClosedClientError
            If the connection is closed for good.
        """
        if self._closed_reason is not None:
            raise self._closed_error(self._closed_reason)
        self._outbox.incoming.append((kind, body))
        self.push()

    def enqueue_tasks(self, body: bytes) -> None:
        """Have a TASKS frame sent by the next `push`, which the caller has to call; raises as `send` does."""
        if self._closed_reason is not None:
            raise self._closed_error(self._closed_reason)
        self._outbox.incoming.append((FrameKind.TASKS, body))

    def push(self) -> None:
        """Send what was submitted, unless another thread is about to do so; raises as `send` does."""
        outbox = self._outbox
        # What comes after the other thread's last look is seen by whoever brought it.
        while outbox.incoming and outbox.lock.acquire(blocking=False):
            try:
                late = self._send_incoming()
            finally:
                outbox.lock.release()
            if late:
                self._pump_soon()

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold the lock of the outbox; what came to it meanwhile is sent then."""
        with self._outbox.lock:
            yield
        # A connection that has just broken is dealt with where it says so.
        with contextlib.suppress(ClosedClientError):
            self.push()

    def _send_incoming(self) -> bool:
        """Send what was submitted; the lock must be held. Whether some of it has to wait."""
        outbox, peer = self._outbox, self._peer
        frames = [outbox.incoming.popleft() for _ in range(len(outbox.incoming))]
        if not frames:
            return False
        if peer is not None and not outbox.waiting:
            comm = peer.comm
            if comm.queued_bytes <= comm.limits.high_water or not self._on_loop():
                for kind, body in frames:
                    outbox.sent(kind, body)
                self._send_now(peer, frames)
                return False
        for kind, body in frames:
            outbox.add(kind, body)
        return True

    def _pump_soon(self) -> None:
        loop = self._loop
        if self._peer is None or loop is None:
            return
        if self._on_loop():
            self._start_pump()
        else:
            loop.call_soon_threadsafe(self._start_pump)

    def _send_before(self) -> None:
        """What threads submitted so far goes before whatever the caller is about to send."""
        outbox = self._outbox
        # A thread that sends is done in a moment, unless a signal handler holds it up.
        if outbox.lock.acquire(timeout=PATIENCE_WITH_SENDERS):
            try:
                late = self._send_incoming()
            except ClosedClientError:
                # The caller is about to see for itself.
                late = False
            finally:
                outbox.lock.release()
            if late:
                self._pump_soon()

    def _closed_error(self, reason: object) -> ClosedClientError:
        return ClosedClientError(f"nothing can be sent to the scheduler at {self.address}: {reason}")

    def _send_now(self, peer: Peer, frames: list[Frame]) -> None:
        try:
            peer.comm.send_all(frames)
        except CommClosedError as error:
            # What is kept is sent again over the next connection.
            if not self._outbox.keeps:
                raise self._closed_error(error) from error

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _start_pump(self) -> None:
        if self._outbox.waiting and (self._pump is None or self._pump.done()):
            self._pump = asyncio.get_running_loop().create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        outbox = self._outbox
        while outbox.waiting and self._peer is not None:
            peer = self._peer
            try:
                await peer.comm.drained()
                with self._holding():
                    # While this waited, the connection may have become another one.
                    if peer is self._peer:
                        peer.send_frame(*outbox.waiting[0])
                        outbox.pop()
            except CommClosedError:
                # on_close tells everybody, or has a new connection opened, which starts this anew.
                return
            self._progress.set()
