"""The client's connection to its scheduler: frames both ways, releases in batches, what its end means.

Everything here runs on the client's event loop, except `send`, which any thread may call. May import: `rpc`,
`comm`, `_core`, `errors`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import FrameKind
from fastdist.client.submission import Submitter
from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import ClosedClientError, CommClosedError
from fastdist.rpc.peer import Peer, Reply

logger = logging.getLogger("fastdist.client")

#: Releases are looked for this often while there are some, and ever more rarely while there are none.
SHORTEST_RELEASE_PAUSE = 0.01
LONGEST_RELEASE_PAUSE = 0.16


class SchedulerConnection:
    """The stream of TASKS, RELEASE and STATE frames and the requests beside it.

    Parameters
    ----------
    client_id : str
        The name of this client in the cluster.
    table : FutureTable
    on_done : callable
        Called with the watched ids that are done.
    on_lost : callable
        Called with the reason when the connection broke.
    heartbeat_interval : float
        Seconds between two signs of life.
    """

    def __init__(
        self,
        client_id: str,
        table: FutureTable,
        *,
        on_done: Callable[[list[int]], None],
        on_lost: Callable[[Exception | None], None],
        heartbeat_interval: float,
    ):
        self.address = ""
        self.submitter = Submitter(table, self.send_tasks, self.make_room, self.release_now)
        self.info: dict[str, Any] = {}
        self._client_id = client_id
        self._table = table
        self._on_done = on_done
        self._on_lost = on_lost
        self._heartbeat_interval = heartbeat_interval
        self._peer: Peer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queue_lock = threading.Lock()
        self._pump: asyncio.Task[None] | None = None
        self._closed_reason: str | None = None
        self._release_pause = SHORTEST_RELEASE_PAUSE
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def is_open(self) -> bool:
        """Whether the scheduler can be talked to."""
        return self._peer is not None and not self._peer.closed

    @property
    def in_process(self) -> bool:
        """Whether the scheduler lives in this very process."""
        return self._peer is not None and self._peer.comm.in_process

    async def open(self, address: str, token: Token | None, insecure: bool, timeout: float) -> None:
        """Connect, register, and send what was submitted before.

        Parameters
        ----------
        address : str
            Where the scheduler listens.
        token : Token or None
            The shared secret; None only with `insecure`.
        insecure : bool
            Go without a token.
        timeout : float
            Seconds.

        Raises
        ------
        OSError, TimeoutError
            As of `fastdist.comm.connect`.
        """
        self.address = address
        self._loop = asyncio.get_running_loop()
        comm = await connect(
            address, role=Role.CLIENT, token=token, insecure=insecure, timeout=timeout, retry=True
        )
        handlers = {"close": self._on_close_request, "no-worker-fits": on_no_worker_fits}
        peer = Peer(comm, handlers, f"the scheduler at {self.address}")
        peer.on_frame[FrameKind.STATE] = self._on_state
        peer.on_close = self._on_close
        try:
            reply = await peer.call(
                "register-client", timeout=timeout, client=self._client_id, versions=versions()
            )
        except BaseException:
            peer.on_close = None
            peer.abort()
            raise
        self.info = dict(reply)
        with self._queue_lock:
            self._peer = peer
        self._start_pump()
        self._release_soon()
        self._beat_later()

    # -- sending ---------------------------------------------------------------------------------------------

    def send_tasks(self, body: bytes) -> None:
        """Send a TASKS frame; from any thread."""
        self.send(FrameKind.TASKS, body)

    def make_room(self) -> None:
        """Wait while the scheduler does not read; on the event loop frames are queued instead."""
        peer, loop = self._peer, self._loop
        if peer is None or loop is None or self._on_loop():
            return
        if peer.comm.queued_bytes > peer.comm.limits.high_water:
            try:
                asyncio.run_coroutine_threadsafe(peer.comm.drained(), loop).result()
            except CommClosedError as error:
                raise self._closed_error(error) from error

    def send(self, kind: int, body: bytes) -> None:
        """Send a frame; from any thread.

        Raises
        ------
        ClosedClientError
            If the connection is closed.
        """
        if self._closed_reason is not None:
            raise self._closed_error(self._closed_reason)
        peer = self._peer
        if peer is not None and not self._queue:
            comm = peer.comm
            if comm.queued_bytes <= comm.limits.high_water or not self._on_loop():
                self._send_now(peer, kind, body)
                return
        with self._queue_lock:
            self._queue.append((kind, body))
        loop = self._loop
        if self._peer is not None and loop is not None:
            if self._on_loop():
                self._start_pump()
            else:
                loop.call_soon_threadsafe(self._start_pump)

    def _closed_error(self, reason: object) -> ClosedClientError:
        return ClosedClientError(f"nothing can be sent to the scheduler at {self.address}: {reason}")

    def _send_now(self, peer: Peer, kind: int, body: bytes) -> None:
        try:
            peer.send_frame(kind, body)
        except CommClosedError as error:
            raise self._closed_error(error) from error

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _start_pump(self) -> None:
        if self._queue and (self._pump is None or self._pump.done()):
            self._pump = asyncio.get_running_loop().create_task(self._send_queued())

    async def _send_queued(self) -> None:
        while self._queue and self._peer is not None:
            try:
                await self._peer.comm.drained()
                with self._queue_lock:
                    kind, body = self._queue[0]
                    self._peer.send_frame(kind, body)
                    self._queue.popleft()
            except CommClosedError:
                # on_close has told everybody already.
                return

    async def call(self, op: str, *, timeout: float | None = None, buffers: Any = (), **fields: Any) -> Reply:
        """Ask the scheduler something, after all that was submitted before.

        Raises
        ------
        ClosedClientError
            If the connection is closed.
        Exception
            As of `Peer.call`.
        """
        if self._closed_reason is not None or self._peer is None:
            reason = self._closed_reason or "it is not connected yet"
            raise ClosedClientError(f"{op!r} cannot be asked of the scheduler at {self.address}: {reason}")
        if self._pump is not None and not self._pump.done():
            await asyncio.shield(self._pump)
        return await self._peer.call(op, timeout=timeout, buffers=buffers, **fields)

    # -- releases and signs of life --------------------------------------------------------------------------

    def release_now(self, wait: bool = True) -> bool:
        """Send the releases that piled up; False if there were none, or a submission is under way and `wait` false."""
        if not self._table.n_released and not self.submitter.sent_functions.has_dropped:
            return False
        if not self.is_open or not self.submitter.lock.acquire(blocking=wait):
            return False
        try:
            body = self._table.release_frame(self.submitter.sent_functions.take_dropped())
            if body is not None:
                self.send(FrameKind.RELEASE, body)
            return body is not None
        finally:
            self.submitter.lock.release()

    def _release_soon(self) -> None:
        try:
            # Without waiting: whoever holds the lock may be pickling something large.
            if self.release_now(wait=False):
                self._release_pause = SHORTEST_RELEASE_PAUSE
            else:
                self._release_pause = min(2 * self._release_pause, LONGEST_RELEASE_PAUSE)
        except ClosedClientError:
            return
        self._timers["release"] = asyncio.get_running_loop().call_later(
            self._release_pause, self._release_soon
        )

    def _beat_later(self) -> None:
        self._timers["heartbeat"] = asyncio.get_running_loop().call_later(
            self._heartbeat_interval, self._beat
        )

    def _beat(self) -> None:
        peer = self._peer
        if peer is not None and not peer.closed:
            try:
                peer.notify("heartbeat", metrics={})
            except CommClosedError:
                return
            self._beat_later()

    # -- what arrives ----------------------------------------------------------------------------------------

    def _on_state(self, peer: Peer, body: memoryview) -> None:
        done = self._table.on_state(body)
        if done:
            self._on_done(done)

    def _on_close_request(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        peer.abort(CommClosedError(f"the scheduler closed: {fields.get('reason', 'no reason given')}"))

    def _on_close(self, peer: Peer, reason: Exception | None) -> None:
        self._stop_timers()
        if self._closed_reason is None:
            self._closed_reason = f"the connection was lost ({reason})"
            self._on_lost(reason)

    def _stop_timers(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()

    async def close(self, timeout: float) -> None:
        """Say goodbye, so that the scheduler releases everything of this client, and close."""
        self._closed_reason = self._closed_reason or "the client is closed"
        self._stop_timers()
        if self._pump is not None:
            self._pump.cancel()
        peer, self._peer = self._peer, None
        if peer is not None and not peer.closed:
            try:
                peer.notify("close-client")
            except CommClosedError:
                return
            await peer.close(timeout)


def on_no_worker_fits(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
    """Warn that tasks wait for a worker that is not there; one may come, so they are left pending."""
    wishes = []
    if fields.get("workers"):
        wishes.append(f"workers={fields['workers']!r}")
    if fields.get("resources"):
        wishes.append(f"resources={fields['resources']!r}")
    offers = [
        f"{address} (name {name!r}, resources {resources or 'none'})"
        for address, name, resources in fields.get("offers") or ()
    ]
    more = int(fields.get("n_workers") or 0) - len(offers)
    logger.warning(
        "no worker fits %s: these tasks wait until one comes. The workers are: %s",
        " and ".join(wishes),
        ", ".join(offers) + (f" and {more} more" if more > 0 else "") or "none",
    )


def versions() -> dict[str, str]:
    """What the scheduler compares with its own versions."""
    import platform

    import msgpack

    return {"python": platform.python_version(), "msgpack": ".".join(map(str, msgpack.version))}
