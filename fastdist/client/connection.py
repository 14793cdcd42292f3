"""The client's connection to its scheduler: frames both ways, releases in batches, what its end means.

Everything here runs on the client's event loop, except what `sending` has, which any thread may call. A connection that
breaks is opened anew within the grace time; what the scheduler has not applied is sent again then. May import: `rpc`,
`comm`, `_core`, `errors`, and the other modules of this folder.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import FrameKind, TaskStatus
from fastdist.client.future import Future
from fastdist.client.outbox import Outbox
from fastdist.client.sending import Sending
from fastdist.client.submission import Submitter
from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import ClosedClientError, CommClosedError, MessageError
from fastdist.rpc.fields import whole
from fastdist.rpc.peer import Handler, Peer, Reply
from fastdist.versions import running_versions

logger = logging.getLogger("fastdist.client")

#: Releases are looked for this often while there are some, and ever more rarely while there are none.
SHORTEST_RELEASE_PAUSE = 0.01
LONGEST_RELEASE_PAUSE = 0.16
#: Pauses between attempts to come back.
SHORTEST_RETURN_PAUSE = 0.02
LONGEST_RETURN_PAUSE = 1.0
#: Tasks that are asked after at once.
IDS_PER_QUESTION = 10_000
#: What may be asked a second time if the connection broke before the answer came.
REPEATABLE = frozenset(
    {
        "identity", "ncores", "who-has", "has-what", "processing", "gather", "cancel", "retry", "scatter-failed",
        "set-metadata", "get-metadata", "publish-get", "publish-list", "publish-delete", "fire-and-forget",
        "get-events", "subscribe-topic", "unsubscribe-topic", "get-logs", "get-worker-logs",
        "attempts", "event-wait", "event-set", "event-clear", "event-is-set",
        "multi-lock-acquire", "multi-lock-release",
        "queue-create", "queue-put", "queue-get", "queue-received", "queue-give-back", "queue-size",
        "semaphore-register", "semaphore-acquire", "semaphore-release", "semaphore-refresh", "semaphore-value",
        "semaphore-close",
        "variable-set", "variable-get", "variable-received", "variable-delete",
    }
)  # fmt: skip


class SchedulerConnection(Sending):
    """The stream of TASKS, RELEASE and STATE frames and the requests beside it.

    Parameters
    ----------
    client_id : str
        The name of this client in the cluster.
    table : FutureTable
    on_done : callable
        Called with the watched ids that are done.
    on_lost : callable
        Called with the reason when the connection broke for good.
    on_unknown : callable
        Called with pending futures that the scheduler does not know any more.
    heartbeat_interval : float
        Seconds between two signs of life.
    grace : float
        Seconds during which a broken connection is opened anew.
    """

    def __init__(
        self,
        client_id: str,
        table: FutureTable,
        *,
        on_done: Callable[[list[int]], None],
        on_lost: Callable[[Exception | None], None],
        on_unknown: Callable[[list[Future]], None],
        heartbeat_interval: float,
        grace: float,
    ):
        self.address = ""
        self.submitter = Submitter(
            table, self.send_tasks, self.make_room, self.release_now, enqueue=self.enqueue_tasks, push=self.push
        )
        self.info: dict[str, Any] = {}
        #: What the scheduler may ask or tell; parts of the client add theirs before it connects.
        self.handlers: dict[str, Handler] = {
            "close": self._on_close_request,
            "applied": self._on_applied,
        }
        #: Called on the loop when another life of the scheduler is there: what it does not know is told again.
        self.on_recovered: list[Callable[[], None]] = []
        self._client_id = client_id
        self._table = table
        self._on_done = on_done
        self._on_lost = on_lost
        self._on_unknown = on_unknown
        self._heartbeat_interval = heartbeat_interval
        self._grace = grace
        self._peer: Peer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._secret: tuple[Token | None, bool] = (None, False)
        self._outbox = Outbox()
        # Both are set while there is no reason to wait.
        self._connected = asyncio.Event()
        self._progress = asyncio.Event()
        self._return_task: asyncio.Task[None] | None = None
        self._number = -1
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
        self._secret = (token, insecure)
        peer, reply = await self._register(timeout)
        self.info = dict(reply)
        self._number = int(reply.get("number", -1))
        if peer.closed:
            raise CommClosedError(f"the scheduler at {address} closed the connection at once")
        with self._holding():
            # Inside one process no connection breaks but by the end of one side.
            self._outbox.keeps = self._number >= 0 and self._grace > 0 and not peer.comm.in_process
        self._use(peer)

    async def _register(self, timeout: float, **fields: Any) -> tuple[Peer, Reply]:
        token, insecure = self._secret
        comm = await connect(
            self.address, role=Role.CLIENT, token=token, insecure=insecure, timeout=timeout, retry=True
        )
        peer = Peer(comm, self.handlers, f"the scheduler at {self.address}")
        peer.on_frame[FrameKind.STATE] = self._on_state
        peer.on_close = self._on_close
        returns = self._grace > 0 and not comm.in_process
        try:
            return peer, await peer.call(
                "register-client",
                timeout=timeout,
                client=self._client_id,
                versions=running_versions(),
                returns=returns,
                **fields,
            )
        except BaseException:
            peer.on_close = None
            peer.abort()
            raise

    def _use(self, peer: Peer) -> None:
        with self._holding():
            self._peer = peer
        self._connected.set()
        self._start_pump()
        self._release_pause = SHORTEST_RELEASE_PAUSE
        self._release_soon()
        self._beat_later()

    # -- questions -------------------------------------------------------------------------------------------

    async def call(self, op: str, *, timeout: float | None = None, buffers: Any = (), **fields: Any) -> Reply:
        """Ask the scheduler something, after all that was submitted before.

        While the connection is broken and may come back, this waits.

        Raises
        ------
        ClosedClientError
            If the connection is closed.
        Exception
            As of `Peer.call`.
        """
        while True:
            await self.ready(op, timeout)
            peer = self._peer
            if peer is None:
                continue
            try:
                return await peer.call(op, timeout=timeout, buffers=buffers, **dict(fields))
            except CommClosedError:
                if not self._outbox.keeps or op not in REPEATABLE:
                    raise
                # When it has returned, it is known whether there will be another connection.
                await peer.wait_closed()
                await asyncio.sleep(0)

    def ask(self, op: str, **fields: Any) -> concurrent.futures.Future[Reply]:
        """Ask the scheduler something right now; the future gets what `call` would return or raise.

        Raises
        ------
        CommClosedError
            If there is no connection.
        """
        self._send_before()
        if self._peer is None:
            raise CommClosedError(f"{op!r} cannot be asked of the scheduler at {self.address}: there is no connection")
        return self._peer.call_threadsafe(op, **fields)

    def tell(self, op: str, **fields: Any) -> None:
        """Send the scheduler a message that wants no answer, at once.

        Raises
        ------
        CommClosedError
            If there is no connection.
        """
        self._send_before()
        if self._peer is None:
            raise CommClosedError(f"{op!r} cannot be told to the scheduler at {self.address}: there is no connection")
        self._peer.notify(op, **fields)

    async def ready(self, op: str, timeout: float | None = None) -> None:
        """Wait until the scheduler can be asked, and all that was submitted before is sent.

        Raises
        ------
        ClosedClientError
            If the connection is closed for good.
        TimeoutError
            If it does not come back in time.
        """
        if self._return_task is not None and not self._connected.is_set():
            try:
                await asyncio.wait_for(self._connected.wait(), timeout)
            except (asyncio.TimeoutError, TimeoutError):
                raise TimeoutError(
                    f"{op!r} cannot be asked of the scheduler at {self.address}: the connection broke, and did not "
                    f"come back within {timeout:g} s"
                ) from None
        if self._closed_reason is not None or not self._connected.is_set():
            reason = self._closed_reason or "it is not connected yet"
            raise ClosedClientError(f"{op!r} cannot be asked of the scheduler at {self.address}: {reason}")
        self._send_before()
        if self._pump is not None and not self._pump.done():
            await asyncio.shield(self._pump)

    # -- releases and signs of life --------------------------------------------------------------------------

    def release_now(self, wait: bool = True) -> bool:
        """Send the releases that piled up; False if there were none, or a submission is under way and `wait` false."""
        if not self._table.n_released and not self.submitter.sent_functions.has_dropped:
            return False
        # While the connection is away, the frame waits for it; before the first one there is nothing to release.
        if (self._number < 0 and not self.is_open) or self._closed_reason is not None:
            return False
        if not self.submitter.lock.acquire(blocking=wait):
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

    def read_until(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Read from the scheduler in this thread, as `Comm.read_until` does."""
        peer = self._peer
        if peer is not None:
            peer.comm.read_until(done, timeout)

    def wake_reader(self) -> None:
        """Have the thread that is in `read_until` look again whether it is done."""
        peer = self._peer
        if peer is not None:
            peer.comm.wake_reader()

    def _on_state(self, peer: Peer, body: memoryview) -> None:
        done = self._table.on_state(body)
        if not done:
            return
        if self._on_loop():
            self._on_done(done)
        elif self._loop is not None:
            # Read by a thread that waits: those who watch expect to hear of it on the loop.
            self._loop.call_soon_threadsafe(self._on_done, done)

    def _on_applied(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        with self._holding():
            if peer is self._peer:
                self._outbox.applied(whole(fields, "frames"))
        self._progress.set()

    def _on_close_request(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        self._grace = 0.0
        peer.abort(CommClosedError(f"the scheduler closed: {fields.get('reason', 'no reason given')}"))

    def _on_close(self, peer: Peer, reason: Exception | None) -> None:
        if self._closed_reason is not None or peer is not self._peer:
            return
        self._stop_timers()
        # What this side refused to read would come again.
        if self._outbox.keeps and self._grace > 0 and (reason is None or isinstance(reason, OSError)):
            with self._holding():
                self._peer = None
            self._connected.clear()
            logger.warning("the connection to the scheduler at %s broke (%s): trying again", self.address, reason)
            self._return_task = asyncio.get_running_loop().create_task(self._return(reason))
        else:
            self._end(reason)

    def _end(self, reason: Exception | None) -> None:
        self._closed_reason = f"the connection was lost ({reason})"
        self._connected.set()
        self._progress.set()
        self._on_lost(reason)

    # -- coming back -----------------------------------------------------------------------------------------

    async def _return(self, reason: Exception | None) -> None:
        """Open the connection anew, or end everything when the grace time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        pause = SHORTEST_RETURN_PAUSE
        while (left := deadline - loop.time()) > 0:
            try:
                peer, reply = await self._register(left, returning=self._number)
                if not peer.closed:
                    self._continue(peer, reply)
                    break
            except (OSError, TimeoutError, asyncio.TimeoutError) as error:
                logger.debug("the scheduler at %s cannot be reached: %s", self.address, error)
            except Exception as error:
                self._end(error)
                return
            await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
            pause = min(2 * pause, LONGEST_RETURN_PAUSE)
        else:
            self._end(
                CommClosedError(
                    f"{reason or 'the connection was closed'}; the scheduler at {self.address} could not be reached "
                    f"again within {self._grace:g} s (the setting scheduler.client-grace)"
                )
            )
            return
        try:
            await self._ask_after_pending(peer)
        except (CommClosedError, ClosedClientError) as error:
            # It broke again: after the next return this is done again.
            logger.debug("pending tasks could not be asked after: %s", error)

    def _continue(self, peer: Peer, reply: Reply) -> None:
        # Another epoch is another life of the same scheduler: it knows this client's number from its journal.
        recovered = reply.get("epoch") != self.info.get("epoch")
        self.info["epoch"] = reply.get("epoch")
        try:
            with self._holding():
                self._outbox.applied(whole(reply, "applied"))
                self._outbox.send_again()
        except MessageError as error:
            peer.abort(error)
            raise
        logger.info("the connection to the scheduler at %s is back", self.address)
        self._use(peer)
        for declare in self.on_recovered if recovered else ():
            declare()
        self._progress.set()

    async def _ask_after_pending(self, peer: Peer) -> None:
        """What the scheduler does not know any more was cancelled while the client was away."""
        with self._holding():
            last_id = self._outbox.last_id()
        if self._pump is not None and not self._pump.done():
            await asyncio.shield(self._pump)
        futures = (self._table.future(id) for id in self._table.live_ids() if id <= last_id)
        known = [each for each in futures if each is not None]
        pending = [each for each in known if each.state == TaskStatus.STATUS_PENDING]
        # Ctrl-C may have broken the connection between the news of these and those who watch for it.
        self._on_done([each.id for each in known if each.state != TaskStatus.STATUS_PENDING])
        for start in range(0, len(pending), IDS_PER_QUESTION):
            asked = pending[start : start + IDS_PER_QUESTION]
            reply = await peer.call("who-has", ids=[future.id for future in asked])
            unknown = [
                future
                for future, row in zip(asked, reply["tasks"], strict=True)
                if row is None and future.state == TaskStatus.STATUS_PENDING
            ]
            if unknown:
                self._on_unknown(unknown)

    def _stop_timers(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()

    async def close(self, timeout: float) -> None:
        """Say goodbye, so that the scheduler releases everything of this client, and close."""
        self._closed_reason = self._closed_reason or "the client is closed"
        self._stop_timers()
        if self._pump is not None:
            self._pump.cancel()
        self._connected.set()
        self._progress.set()
        if self._return_task is not None:
            self._return_task.cancel()
            await asyncio.gather(self._return_task, return_exceptions=True)
        self._send_before()
        peer, self._peer = self._peer, None
        if peer is not None and not peer.closed:
            try:
                peer.notify("close-client")
            except CommClosedError:
                return
            await peer.close(timeout)
