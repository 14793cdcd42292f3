"""A connection over a TCP socket.

Not asyncio's streams: whoever has something to send writes to the socket in their own thread, and only what
the kernel does not take at once is left to the event loop, which saves a wake-up of the loop per message. The
rule that keeps the order: while anything is queued, everything goes through the queue; the lock covers the
choice and the system call. May import: fastdist.errors, fastdist.comm.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastdist.aliases import names_of
from fastdist.comm.addresses import unparse_address
from fastdist.comm.control import byte_view, encode_control
from fastdist.comm.core import (
    CONTROL,
    MIB,
    BytesLike,
    Comm,
    Limits,
    OnClose,
    OnControl,
    OnFrame,
    counters,
    logger,
    slow_peer_error,
)
from fastdist.comm.frame_reader import HEADER, HEADER_BYTES, FrameReader
from fastdist.comm.handshake import HandshakeResult
from fastdist.comm.lent_reader import AVAILABLE, LentReader
from fastdist.errors import CommClosedError, FrameError
from fastdist.loop import QuickLoop

# Linux refuses more than 1024 pieces in one system call.
_MAX_PIECES = 1000
#: Frames that are sent together are copied together up to so many bytes.
_JOINED_BYTES = 1 << 18
# Up to here a copy is cheaper than another piece.
_SHORT = 64 * 1024
# What one callback of the loop may move, so that one busy connection does not starve the others.
_BUDGET = 4 * MIB
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 10}


def tune_socket(sock: socket.socket, limits: Limits) -> None:
    """Switch off waiting for more data, and have the kernel notice a dead peer."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**_KEEPALIVE, "TCP_USER_TIMEOUT": int(limits.user_timeout * 1000)}
    for name, value in options.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def address_of(name: tuple[Any, ...]) -> str:
    """The address for what `getsockname` or `getpeername` gave; of IPv4 in IPv6, that of IPv4."""
    return unparse_address("tcp", str(name[0]).removeprefix("::ffff:"), int(name[1]))


class TcpComm(Comm):
    """One authenticated TCP connection.

    Parameters
    ----------
    sock : socket
        Connected and non-blocking; the handshake is over. The comm owns it.
    loop : event loop
        The running loop, in whose thread everything is delivered.
    result : HandshakeResult
        What the handshake agreed on.
    limits : Limits
        The bounds.
    """

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, result: HandshakeResult, limits: Limits
    ) -> None:
        self.local_address = address_of(sock.getsockname())
        self.peer_address = address_of(sock.getpeername())
        self.role, self.epoch, self.admin = result.role, result.epoch, result.admin
        self.limits = limits
        self._sock = sock
        self._descriptor = sock.fileno()
        self._loop = loop
        self._loop_thread = threading.get_ident()
        # Re-entrant, since a finalizer that the garbage collector runs in here may send, too.
        self._lock = threading.RLock()
        self._queue: deque[BytesLike] = deque()
        self._queued = 0
        self._sending = False
        self._short = min(_SHORT, limits.max_frame_bytes)
        self._open = True
        self._finished = False
        self._reader: FrameReader | None = None
        # Whoever reads has the turn: the event loop, or a thread that waits for a message. The lock knows whose it
        # is, even if Ctrl-C comes right after it was taken.
        self._turn = threading.RLock()
        self._has_turn: Callable[[], bool] = self._turn._is_owned  # type: ignore[attr-defined]
        self._receiving = False
        # Control messages that another thread read, for the loop.
        self._controls: deque[tuple[dict[str, Any], list[Any]]] = deque()
        self._lent: LentReader | None = None
        self._can_lend = AVAILABLE and isinstance(loop, QuickLoop) and loop.selector.can_pause
        self._on_close: OnClose | None = None
        self._reason: Exception | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def closed(self) -> bool:
        return not self._open

    @property
    def queued_bytes(self) -> int:
        return self._queued

    def start(self, on_frame: OnFrame, on_control: OnControl, on_close: OnClose) -> None:
        if self._on_close is not None:
            raise RuntimeError(f"{self!r} was started before")
        self._on_close = on_close
        if self._finished:
            self._loop.call_soon(on_close, self._reason)
            return
        self._on_control = on_control
        self._reader = FrameReader(self.limits, on_frame, self._take_control)
        self._loop.add_reader(self._descriptor, self._on_readable)

    def detach(self) -> socket.socket:
        if self._on_close is not None or self._finished:
            raise RuntimeError(f"{self!r} was started or closed before")
        self._open, self._finished = False, True
        return self._sock

    # ---- sending -------------------------------------------------------------------------------------------

    def send(self, kind: int, *parts: BytesLike) -> None:
        if kind == CONTROL:
            raise FrameError("control messages are sent by send_control")
        if len(parts) == 1 and len(parts[0]) < self._short and type(parts[0]) is bytes:
            self._send_short(HEADER.pack(kind, 0, len(parts[0])) + parts[0])
        else:
            self._send(kind, [byte_view(part) for part in parts])

    def send_all(self, frames: Sequence[tuple[int, bytes]]) -> None:
        if len(frames) == 1 or any(self.limits.check_length(kind, len(body)) for kind, body in frames):
            return super().send_all(frames)
        pieces: list[BytesLike] = []
        for kind, body in frames:
            pieces += (HEADER.pack(kind, 0, len(body)), body)
        size = sum(map(len, pieces))
        self._send_pieces([b"".join(pieces)] if size <= _JOINED_BYTES else pieces, size)

    def _send_short(self, frame: bytes) -> None:
        """Send a frame with as little ado as possible, if nothing is before it."""
        arm = False
        with self._lock:
            if not self._open or self._queue or self._sending:
                return self._send_pieces([frame], len(frame))
            # What a finalizer or a signal handler sends in here must not get into the middle of this frame.
            self._sending = True
            failure = None
            try:
                try:
                    sent = self._sock.send(frame)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                if sent < len(frame):
                    self._queue.appendleft(memoryview(frame)[sent:])
                    self._queued += len(frame) - sent
            except OSError as error:
                failure = self._broken(error)
                self._open = False
            except BaseException:
                self._give_up_interrupted()
                raise
            finally:
                self._sending = False
            arm = bool(self._queue)
        if failure is not None:
            self._finish_soon(failure)
            raise failure
        if arm:
            self._in_loop(self._arm_writer)

    def send_control(self, message: dict[str, Any], buffers: Iterable[Any] = ()) -> None:
        self._send(CONTROL, encode_control(message, buffers, self.limits))

    def _send(self, kind: int, parts: list[BytesLike]) -> None:
        length = sum([len(part) for part in parts])
        wrong = self.limits.check_length(kind, length)
        if wrong:
            raise FrameError(wrong)
        pieces = [HEADER.pack(kind, 0, length), *[part for part in parts if len(part)]]
        self._send_pieces(pieces, length + HEADER_BYTES)

    def _send_pieces(self, pieces: list[BytesLike], size: int) -> None:
        failure: Exception | None = None
        with self._lock:
            if not self._open:
                raise self.closed_error()
            idle = not self._queue and not self._sending
            if not idle and self._queued + size > self.limits.max_queued_bytes:
                failure = slow_peer_error(self.peer_address, self._queued, self.limits)
            else:
                # In the queue first: a send that a finalizer or a signal handler starts in here
                # goes behind it.
                self._queue.extend(pieces)
                self._queued += size
                if idle:
                    failure = self._transmit()
            if failure is not None:
                self._open = False
            arm = idle and bool(self._queue)
        if failure is not None:
            self._finish_soon(failure)
            raise failure
        if arm:
            self._in_loop(self._arm_writer)

    def _transmit(self) -> CommClosedError | None:
        """One system call for the head of the queue; the reason if the connection proves to be broken."""
        queue = self._queue
        few = len(queue) <= _MAX_PIECES
        pieces = list(queue) if few else [queue[index] for index in range(_MAX_PIECES)]
        try:
            try:
                sent = self._sock.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                return self._broken(error)
            self._drop_sent(sent)
        except BaseException:
            self._give_up_interrupted()
            raise
        return None

    def _give_up_interrupted(self) -> None:
        """Ctrl-C in a send: how much of a frame went out is not known, so nothing may follow it."""
        self._open = False
        self._finish_soon(CommClosedError(f"a send to {self.peer_address} was interrupted in the middle"))

    def _drop_sent(self, sent: int) -> None:
        queue = self._queue
        self._queued -= sent
        while sent:
            first = queue[0]
            if sent < len(first):
                queue[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            queue.popleft()

    def _arm_writer(self) -> None:
        with self._lock:
            if self._queue and not self._finished:
                self._loop.add_writer(self._descriptor, self._on_writable)

    def _on_writable(self) -> None:
        failure: Exception | None = None
        budget = _BUDGET
        with self._lock:
            while self._queue and budget > 0 and failure is None:
                before = self._queued
                failure = self._transmit()
                if self._queued == before:
                    break
                budget -= before - self._queued
            if not self._queue:
                self._loop.remove_writer(self._descriptor)
        if failure is not None:
            self._finish(failure)
        else:
            self._wake()

    async def drained(self) -> None:
        if self._finished:
            raise self.closed_error()
        if self._queued > self.limits.high_water:
            await self._queue_below(self.limits.high_water // 2)
        if self._finished:
            raise self.closed_error()

    async def _queue_below(self, mark: int) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((mark, waiter))
        try:
            await waiter
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not waiter]

    def _wake(self) -> None:
        for mark, waiter in self._waiting:
            if (self._finished or self._queued <= mark) and not waiter.done():
                waiter.set_result(None)

    # ---- reading -------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if not self._turn.acquire(False):
            return self._stand_back()
        try:
            # What another thread read goes before what comes now.
            self._deliver_controls()
            self._receive()
        finally:
            self._turn.release()
        if self._finished:
            self._release_reading()

    def _receive(self) -> bool:
        """Take what has come, and hand it over, in the thread that has the turn; False if that was the last."""
        reader = self._reader
        assert reader is not None
        budget = _BUDGET
        while budget > 0 and not self._finished:
            target = reader.target()
            try:
                received = self._sock.recv_into(target)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError as error:
                return self._end(self._broken(error))
            if not received:
                where = " in the middle of a frame" if reader.pending else ""
                return self._end(CommClosedError(f"{self.peer_address} closed the connection{where}"))
            try:
                reader.advance(received)
            except Exception as error:
                return self._fail_delivery(error)
            if received < len(target):
                return True
            budget -= received
        return not self._finished

    def _end(self, reason: Exception) -> bool:
        self._finish_soon(reason)
        return False

    def _fail_delivery(self, error: Exception) -> bool:
        if isinstance(error, FrameError):
            counters["malformed-frame"] += 1
            logger.warning("closing the connection to %s: %s", self.peer_address, error)
        else:
            counters["failed-delivery"] += 1
            logger.error(
                "closing the connection to %s: a frame could not be handled", self.peer_address, exc_info=error
            )
        return self._end(error)

    def _take_control(self, message: dict[str, Any], buffers: list[Any]) -> None:
        if threading.get_ident() == self._loop_thread:
            self._on_control(message, buffers)
        else:
            self._controls.append((message, buffers))
            self._in_loop(self._deliver_controls)

    def _deliver_controls(self) -> None:
        """(On the loop) Hand over the control messages that another thread read."""
        while self._controls and not self._finished:
            message, buffers = self._controls.popleft()
            try:
                self._on_control(message, buffers)
            except Exception as error:
                self._fail_delivery(error)

    # ---- reading in another thread -------------------------------------------------------------------------

    def read_until(self, done: Callable[[], bool], timeout: float | None) -> None:
        if not self._can_lend or threading.get_ident() == self._loop_thread:
            return
        self._lay_down()
        refused = False
        try:
            refused = not self._turn.acquire(False)
            if not refused:
                self._read_lent(done, timeout)
        finally:
            # Ctrl-C may have come anywhere, even right after the acquire, and may come in here.
            if not refused:
                try:
                    self._give_back()
                except BaseException:
                    self._give_back()
                    raise

    def _read_lent(self, done: Callable[[], bool], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.reader_descriptor() < 0:
            return
        lent, loop = self._lent, self._loop
        assert lent is not None and isinstance(loop, QuickLoop)
        lent.enter()
        loop.lent[threading.get_ident()] = self._lay_down
        self._watch(False)
        # A signal handler that waits for something itself lays the turn down.
        while self._has_turn() and not done() and not self._finished:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            if lent.wait(left) and not self._receive_lent():
                return

    def _receive_lent(self) -> bool:
        self._receiving = True
        try:
            return self._has_turn() and self._receive()
        except BaseException:
            # What came may be half applied: as after any broken connection, the owner has to open another.
            self._give_up_interrupted()
            raise
        finally:
            self._receiving = False

    def _lay_down(self) -> None:
        """What this thread reads, the loop reads from now on: a signal handler in it has to wait for something."""
        if not self._has_turn():
            return
        if self._receiving or threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"what interrupts a thread that reads from {self.peer_address} cannot wait for another message: "
                "have the signal handler or finalizer set a flag instead"
            )
        with self._lock:
            lent, self._lent = self._lent, None
            if lent is not None:
                # Its wait goes on when the handler has returned, and has to end then; nobody else may use it.
                lent.retire()
        self._give_back()

    def _give_back(self) -> None:
        if self._has_turn():
            if self._lent is not None:
                self._lent.leave()
            self._turn.release()
        if isinstance(self._loop, QuickLoop):
            self._loop.lent.pop(threading.get_ident(), None)
        self._watch(True)

    def reader_descriptor(self) -> int:
        if self._lent is None and self._can_lend:
            with self._lock:
                if self._lent is None and not self._finished:
                    self._lent = LentReader(self._descriptor)
        return -1 if self._lent is None else self._lent.wake_descriptor

    def wake_reader(self) -> None:
        with self._lock:
            if self._lent is not None:
                self._lent.wake()

    def _watch(self, reading: bool) -> None:
        """Have the event loop look for what comes, or not."""
        loop = self._loop
        with self._lock:
            if self._finished:
                self._release_reading()
            elif isinstance(loop, QuickLoop):
                if reading:
                    loop.selector.resume_reading(self._descriptor)
                else:
                    loop.selector.pause_reading(self._descriptor)

    def _stand_back(self) -> None:
        """(On the loop) Another thread reads, and the loop was told in vain not to look (a writer was added)."""
        self._watch(False)
        if self._turn.acquire(False):
            self._turn.release()
            self._watch(True)

    def _release_reading(self) -> None:
        """Give the descriptors back; if a thread still reads, it does that when it ends."""
        with self._lock:
            if self._turn.acquire(False):
                try:
                    if self._lent is not None:
                        self._lent.close()
                        self._lent = None
                    self._sock.close()
                finally:
                    self._turn.release()
            else:
                # Not closed under its hands: the number of the descriptor could be another file's at once.
                with contextlib.suppress(OSError):  # the peer was quicker
                    self._sock.shutdown(socket.SHUT_RDWR)

    # ---- closing -------------------------------------------------------------------------------------------

    async def close(self, timeout: float | None = None) -> None:
        with self._lock:
            self._open = False
        try:
            if self._queue and not self._finished:
                self._arm_writer()
                await asyncio.wait_for(
                    self._queue_below(0), self.limits.close_timeout if timeout is None else timeout
                )
        except (asyncio.TimeoutError, TimeoutError):
            counters["unflushed-close"] += 1
        finally:
            self._finish(None)

    def abort(self, reason: Exception | None = None) -> None:
        with self._lock:
            self._open = False
        self._finish_soon(reason)

    def _broken(self, error: OSError) -> CommClosedError:
        return CommClosedError(f"the connection to {self.peer_address} broke: {error.strerror or error}")

    def _in_loop(self, callback: Any, *args: Any) -> None:
        try:
            if threading.get_ident() != self._loop_thread:
                self._loop.call_soon_threadsafe(callback, *args)
                return
        except RuntimeError:
            # The loop was closed under us; nobody will ever send or read here again.
            self._release_socket()
            return
        if self._loop.is_closed():
            self._release_socket()
        else:
            callback(*args)

    def _finish_soon(self, reason: Exception | None) -> None:
        self._in_loop(self._finish, reason)

    def _finish(self, reason: Exception | None) -> None:
        with self._lock:
            if self._finished:
                return
            self._finished = True
        self._reason = reason
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
        self.wake_reader()
        self._release_socket()
        self._wake()
        if self._reader is not None:
            self._reader.stopped = True
        if self._on_close is not None and not self._loop.is_closed():
            self._loop.call_soon(self._on_close, reason)

    def _release_socket(self) -> None:
        with self._lock:
            self._open, self._finished = False, True
            self._queue.clear()
            self._queued = 0
            self._release_reading()

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
