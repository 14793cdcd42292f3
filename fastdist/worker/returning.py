"""A worker whose connection to the scheduler breaks: it goes on, connects anew, and declares what it has.

What it reports is kept until the scheduler says that it was applied, and sent again over the next connection; then a
declaration of all that it has lets the scheduler heal what was lost on the way. If the scheduler is another one at the
same address, recovered from its journal, data and running tasks get the ids that they have there. May import: layers L0
to L3, and of this folder the store.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastdist._core.codec.frames import FrameKind
from fastdist._core.worker import declaring
from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.errors import CommClosedError
from fastdist.rpc import fields as check
from fastdist.rpc.peer import Handler, Peer, Reply
from fastdist.worker.liveness import start_beat

if TYPE_CHECKING:
    from fastdist.system.beat import Beat
    from fastdist.worker.worker import Worker

logger = logging.getLogger("fastdist.worker")

#: Frames of the scheduler that are kept while its answer to a registration or a declaration is on the way.
MAX_EARLY_FRAMES = 1000
#: Seconds for one attempt to connect, for each answer, and between two attempts; the last pause holds from then on.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)


class SchedulerLink:
    """What a worker sends to its scheduler, over one connection after the other.

    Parameters
    ----------
    worker : Worker
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        #: The same in all registrations of this process, and of no other.
        self.instance = secrets.token_hex(16)
        self.grace = 0.0
        self.returning = False
        self._unapplied: deque[bytes] = deque()
        self._sent = 0
        #: What is reported waits until the scheduler knows what it is about.
        self._held_back = False
        self._waiting: list[bytes] = []
        self._early: list[tuple[int, bytes]] = []
        self._beat: Beat | None = None

    # Sending

    def send_done(self, body: bytes) -> None:
        """Send a DONE frame, now or when there is a connection again; never from two threads at once."""
        self._unapplied.append(body)
        self._sent += 1
        if self._held_back:
            self._waiting.append(body)
        else:
            self._worker.scheduler.send_frame(FrameKind.DONE, body)

    def applied(self, frames: int) -> None:
        """The scheduler has applied so many DONE frames in all."""
        while self._unapplied and self._sent - len(self._unapplied) < frames:
            self._unapplied.popleft()

    def handlers(self) -> dict[str, Handler]:
        """Operations of the scheduler by name."""

        def applied(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            self.applied(check.whole(fields, "frames"))

        async def declare_all(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            await self._declare(peer, fresh=False)

        return {"applied": applied, "declare-all": declare_all}

    async def digest(self) -> list[int]:
        """What a heartbeat says for a comparison: digests of what is held and given, frames received and sent."""
        held = given = received = 0

        def look() -> None:
            nonlocal held, given, received
            body, held, given, received = declaring.digests(self._worker.core)
            if body is not None:
                self.send_done(body)

        await self._between_flushes(look)
        return [held, given, received, self._sent]

    async def _between_flushes(self, call: Callable[[], None]) -> None:
        """Call while no thread is about to send a DONE frame."""
        # The threads that flush have no way to set an event of the loop.
        while not self._worker.execution.between_flushes(call):  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    # The connection

    def registration(self) -> dict[str, Any]:
        """What the scheduler needs to know a worker that returns."""
        core = getattr(self._worker, "core", None)
        number, epoch = (-1, 0) if core is None else (core.number, core.epoch)
        return {"instance": self.instance, "returning": number, "epoch": epoch}

    def keep_frames(self, peer: Peer) -> None:
        """Keep frames of the scheduler until what they are about is known."""

        def keeper(kind: int) -> Callable[[Peer, memoryview], None]:
            def keep(peer: Peer, body: memoryview) -> None:
                if len(self._early) >= MAX_EARLY_FRAMES:
                    raise CommClosedError("the scheduler sends tasks but no answer to the registration")
                self._early.append((kind, bytes(body)))

            return keep

        self._early.clear()
        for kind in (FrameKind.RUN, FrameKind.FREE, FrameKind.RETRACT):
            peer.on_frame[kind] = keeper(kind)

    def take_frames(self, peer: Peer, handlers: Mapping[int, Callable[[Peer, memoryview], None]]) -> None:
        """Apply the frames that were kept; later ones go to the handlers at once."""
        peer.on_frame = dict(handlers)
        early, self._early = self._early, []
        for kind, body in early:
            handlers[kind](peer, memoryview(body))

    def may_return(self, reason: Exception | None) -> bool:
        """Whether a connection that ended for this reason is opened again."""
        in_process = self._worker.scheduler.comm.in_process
        return self.grace > 0 and not in_process and (reason is None or isinstance(reason, OSError))

    async def come_back(self, reason: str) -> None:
        """Connect again until the grace time is over; then the worker closes."""
        if self.returning:
            return
        self.returning = True
        worker = self._worker
        until = time.monotonic() + self.grace
        attempts = 0
        logger.warning("worker %s lost its connection to the scheduler and tries to return: %s", worker.name, reason)
        try:
            while True:
                try:
                    await self._rejoin()
                    if not worker.scheduler.closed:
                        return
                except (OSError, TimeoutError, asyncio.TimeoutError) as error:
                    if time.monotonic() >= until:
                        reason = f"{reason}; it could not return within {self.grace:g} s: {error}"
                        break
                except Exception as error:
                    reason = f"{reason}; the scheduler does not take it back: {error}"
                    break
                await asyncio.sleep(PAUSES[min(attempts, len(PAUSES) - 1)])
                attempts += 1
        finally:
            self.returning = False
        worker.give_up_scheduler(reason)

    async def _rejoin(self) -> None:
        worker = self._worker
        comm = await connect(
            worker.scheduler_address,
            role=Role.WORKER,
            token=worker.token,
            insecure=worker.insecure,
            timeout=min(CONNECT_SECONDS, max(self.grace, 0.1)),
        )
        peer = Peer(comm, worker.scheduler_handlers(), name="the scheduler")
        try:
            self.keep_frames(peer)
            reply = await peer.call(
                "register-worker", timeout=ANSWER_SECONDS, **worker.registration(), **self.registration()
            )
            if not reply.get("resumed") and int(reply["epoch"]) != worker.core.epoch:
                declaring.forget_unstarted(worker.core, time.monotonic())
            declaring.begin_connection(worker.core)
            await self._resume(peer, reply)
        except BaseException:
            peer.abort()
            raise
        await worker.on_returned(reply)

    async def _resume(self, peer: Peer, reply: Reply) -> None:
        """Repeat what was not applied, declare, and take over what the scheduler answers."""
        worker, core = self._worker, self._worker.core
        resumed = bool(reply.get("resumed"))
        if resumed:
            self.applied(int(reply["applied"]))
        by_key = not resumed and int(reply["epoch"]) != core.epoch
        answer, declared = await self._declare(peer, fresh=True, repeat=resumed, by_key=by_key)
        if not resumed:
            epoch, number = int(reply["epoch"]), int(reply["number"])
            if not by_key:
                declaring.renumber(core, number)
                declaring.report_all_away(core, time.monotonic())
            else:
                self._forget_sent()
                with worker.transfer.storing:
                    renamed, dropped = declaring.adopt(
                        core, epoch, number, declared, bytes(answer.buffers[0]), time.monotonic()
                    )
                    worker.store.rename(renamed)
                worker.execution.drop_values(dropped)
        if peer.closed:
            raise CommClosedError("the connection broke again")
        self._open(peer)

    def _open(self, peer: Peer) -> None:
        """From now on this is the connection."""
        worker = self._worker
        worker.scheduler = peer
        peer.on_close = worker.on_scheduler_closed
        self.take_frames(peer, worker.frame_handlers())
        waiting, self._waiting = self._waiting, []
        self._held_back = False
        for body in waiting:
            peer.send_frame(FrameKind.DONE, body)

    def _forget_sent(self) -> None:
        self._unapplied.clear()
        self._waiting.clear()
        self._sent = 0

    async def _declare(
        self, peer: Peer, *, fresh: bool, repeat: bool = False, by_key: bool = False
    ) -> tuple[Any, bytes]:
        """Send a declaration after all that was reported before it; the answer, and the declaration."""
        core = self._worker.core
        declared = b""
        answer: concurrent.futures.Future[Reply] = concurrent.futures.Future()

        def send() -> None:
            nonlocal declared, answer
            self._held_back = self._held_back or fresh
            body, declared = declaring.declare(core, by_key)
            if body is not None:
                self.send_done(body)
            if repeat:
                self._waiting.clear()
                for unapplied in self._unapplied:
                    peer.send_frame(FrameKind.DONE, unapplied)
            elif fresh:
                # The declaration says it all.
                self._forget_sent()
            answer = peer.call_threadsafe("declare", buffers=[declared], fresh=fresh, epoch=core.epoch)

        await self._between_flushes(send)
        return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER_SECONDS), declared

    # Signs of life

    async def send_beats(self, number: int, seconds: float) -> None:
        """Have signs of life sent until this worker closes, or has another connection."""
        worker = self._worker
        self.close_beat()
        beat = await start_beat(
            worker.scheduler_address,
            worker.token,
            worker.insecure,
            epoch=worker.core.epoch,
            number=number,
            seconds=seconds,
        )
        if beat is not None and worker.is_closing:
            beat.close()
        else:
            self._beat = beat

    def close_beat(self) -> None:
        """Send no more signs of life."""
        if self._beat is not None:
            self._beat.close()
            self._beat = None
