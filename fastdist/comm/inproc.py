"""A connection between two event loops of one process, which may be the same one.

Nothing is encoded: the map and the buffers of a control message arrive as the very objects that were sent.
May import: fastdist.errors, fastdist.comm.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from fastdist.comm.addresses import Address, inproc_prefix
from fastdist.comm.control import byte_view
from fastdist.comm.core import (
    CONTROL,
    BytesLike,
    Comm,
    Limits,
    Listener,
    ListenOptions,
    OnClose,
    OnControl,
    OnFrame,
    counters,
    logger,
    slow_peer_error,
)
from fastdist.comm.handshake import Role
from fastdist.errors import CommClosedError, FrameError, HandshakeError

_listeners: dict[str, InprocListener] = {}
_numbers = itertools.count(1)

# A control message is counted as this many bytes plus those of its bytes-like buffers.
_NOMINAL_BYTES = 256
_FAREWELL = 0
_DELIVERIES_AT_ONCE = 1024


class InprocComm(Comm):
    """One end of a pair; its inbox is filled by the other end and emptied by its own loop."""

    in_process = True

    def __init__(self, local: str, peer: str, role: Role, epoch: int, admin: bool, limits: Limits) -> None:
        self.local_address, self.peer_address = local, peer
        self.role, self.epoch, self.admin = role, epoch, admin
        self.limits = limits
        # Re-entrant, since a finalizer that the garbage collector runs in here may send, too.
        self._lock = threading.RLock()
        self._inbox: deque[tuple[int, Any, Any, int]] = deque()
        self._inbox_bytes = 0
        self._woken = False
        self._open = True
        self._finished = False
        self._reason: Exception | None = None
        self._on_frame: OnFrame | None = None
        self._on_control: OnControl | None = None
        self._on_close: OnClose | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None], int]] = []
        self._other: InprocComm
        self._loop: asyncio.AbstractEventLoop
        self._loop_thread = 0

    def _attach(self, other: InprocComm, loop: asyncio.AbstractEventLoop) -> None:
        self._other = other
        self._loop = loop

    @property
    def closed(self) -> bool:
        return not self._open

    @property
    def queued_bytes(self) -> int:
        return self._other._inbox_bytes

    def start(self, on_frame: OnFrame, on_control: OnControl, on_close: OnClose) -> None:
        if self._on_close is not None:
            raise RuntimeError(f"{self!r} was started before")
        self._loop_thread = threading.get_ident()
        self._on_frame, self._on_control, self._on_close = on_frame, on_control, on_close
        if self._finished:
            self._loop.call_soon(on_close, self._reason)
        else:
            self._wake_up()

    # ---- sending -------------------------------------------------------------------------------------------

    def send(self, kind: int, *parts: BytesLike) -> None:
        body = (
            parts[0]
            if len(parts) == 1 and type(parts[0]) is bytes
            else b"".join([byte_view(p) for p in parts])
        )
        wrong = self.limits.check_length(kind, len(body))
        if wrong or kind == CONTROL:
            raise FrameError(wrong or "control messages are sent by send_control")
        self._put(kind, body, None, len(body))

    def send_control(self, message: dict[str, Any], buffers: Iterable[Any] = ()) -> None:
        held = list(buffers)
        if len(held) >= self.limits.max_buffers:
            raise FrameError(
                f"a control message has {len(held) + 1} buffers; "
                f"the limit is {self.limits.max_buffers} (max_buffers)"
            )
        size = _NOMINAL_BYTES + sum([len(part) for part in held if type(part) in (bytes, bytearray)])
        self._put(CONTROL, message, held, size)

    def _put(self, kind: int, first: Any, second: Any, size: int) -> None:
        if not self._open:
            raise self.closed_error()
        error = self._other._receive(kind, first, second, size)
        if error is not None:
            self.abort(error)
            raise error

    def _receive(self, kind: int, first: Any, second: Any, size: int) -> Exception | None:
        with self._lock:
            if self._finished:
                return CommClosedError(f"{self.local_address} closed the connection")
            if self._inbox_bytes and self._inbox_bytes + size > self.limits.max_queued_bytes:
                error = slow_peer_error(self.local_address, self._inbox_bytes, self.limits)
                self._inbox.clear()
                self._inbox_bytes = 0
                return error
            self._inbox.append((kind, first, second, size))
            self._inbox_bytes += size
        self._wake_up()
        return None

    def _wake_up(self) -> None:
        with self._lock:
            if self._woken or self._on_close is None:
                return
            self._woken = True
        self._in_loop(self._deliver)

    def _in_loop(self, callback: Any, *args: Any) -> None:
        try:
            if threading.get_ident() == self._loop_thread:
                self._loop.call_soon(callback, *args)
            else:
                self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: nobody will ever read here again.
            self._finish(CommClosedError(f"the event loop of {self.local_address} is closed"))

    async def drained(self) -> None:
        if self._open and self.queued_bytes > self.limits.high_water:
            await self._inbox_of_other_below(self.limits.high_water // 2)
        if not self._open:
            raise self.closed_error()

    async def _inbox_of_other_below(self, mark: int) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        other = self._other
        with other._lock:
            if other._finished or other._inbox_bytes <= mark:
                return
            other._waiting.append((loop, waiter, mark))
        await waiter

    # ---- delivery ------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        self._woken = False
        assert self._on_frame is not None and self._on_control is not None
        for _ in range(_DELIVERIES_AT_ONCE):
            if self._finished:
                return
            with self._lock:
                if not self._inbox:
                    break
                kind, first, second, size = self._inbox.popleft()
                self._inbox_bytes -= size
            if kind == _FAREWELL:
                return self._finish(first)
            try:
                if kind == CONTROL:
                    self._on_control(first, second)
                else:
                    self._on_frame(kind, memoryview(first))
            except Exception as error:
                counters["failed-delivery"] += 1
                if not isinstance(error, FrameError):
                    logger.exception(
                        "closing the connection to %s: a frame could not be handled", self.peer_address
                    )
                return self._finish(error)
        self._release_waiters()
        if self._inbox:
            self._wake_up()

    def _release_waiters(self) -> None:
        with self._lock:
            over = self._finished or self._other._finished
            ready = [entry for entry in self._waiting if over or self._inbox_bytes <= entry[2]]
            self._waiting = [entry for entry in self._waiting if entry not in ready]
        for loop, waiter, _ in ready:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, waiter)

    # ---- closing -------------------------------------------------------------------------------------------

    async def close(self, timeout: float | None = None) -> None:
        # What was sent is in the other inbox already, ahead of the farewell.
        self._finish(None)

    def abort(self, reason: Exception | None = None) -> None:
        self._open = False
        if threading.get_ident() == self._loop_thread or self._on_close is None:
            self._finish(reason)
        else:
            self._in_loop(self._finish, reason)

    def _finish(self, reason: Exception | None) -> None:
        if not self._release(reason):
            return
        if self._on_close is not None and not self._loop.is_closed():
            self._loop.call_soon(self._on_close, reason)
        farewell = CommClosedError(f"{self.local_address} closed the connection")
        other = self._other
        with other._lock:
            if other._finished:
                return
            other._inbox.append((_FAREWELL, farewell, None, 0))
        other._wake_up()

    def _release(self, reason: Exception | None) -> bool:
        with self._lock:
            if self._finished:
                return False
            self._finished = True
            self._open = False
            self._reason = reason
            self._inbox.clear()
            self._inbox_bytes = 0
        self._release_waiters()
        self._other._release_waiters()
        return True


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class InprocListener(Listener):
    """A name in this process that can be connected to."""

    def __init__(self, name: str, options: ListenOptions) -> None:
        self.address = self.listen_address = f"inproc://{name}"
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._options = options
        _listeners[name] = self

    def accept(self, role: Role, limits: Limits) -> InprocComm:
        """The connecting end of a new pair; the other end goes to `on_comm`."""
        options = self._options
        if role not in options.roles:
            raise HandshakeError(
                f"{self.address} refused the connection: it takes no connections of this role"
            )
        if self._loop.is_closed():
            raise ConnectionRefusedError(f"cannot connect to {self.address}: its event loop is closed")
        local = f"inproc://{inproc_prefix()}{next(_numbers)}"
        admin = role in options.admin_roles
        near = InprocComm(local, self.address, options.role, options.epoch, admin, limits)
        far = InprocComm(self.address, local, role, options.epoch, admin, options.limits)
        near._attach(far, asyncio.get_running_loop())
        far._attach(near, self._loop)
        self._loop.call_soon_threadsafe(self._hand_over, far)
        return near

    def _hand_over(self, comm: InprocComm) -> None:
        if _listeners.get(self._name) is not self:
            comm.abort()
            return
        try:
            self._options.on_comm(comm)
        except BaseException:
            comm.abort()
            raise

    async def close(self) -> None:
        if _listeners.get(self._name) is self:
            del _listeners[self._name]

    def __repr__(self) -> str:
        return f"<InprocListener {self.address}>"


def connect_inproc(parsed: Address, role: Role, limits: Limits) -> InprocComm:
    """Connect to a name of this process."""
    listener = _listeners.get(parsed.host)
    if listener is None:
        raise ConnectionRefusedError(f"cannot connect to {parsed}: nobody listens there in this process")
    return listener.accept(role, limits)


def listen_inproc(parsed: Address, options: ListenOptions) -> InprocListener:
    """Take connections under a name, or under a fresh one if none is given."""
    name = parsed.host or f"{inproc_prefix()}{next(_numbers)}"
    if name in _listeners:
        raise OSError(f"cannot listen on {parsed}: the name is in use in this process")
    return InprocListener(name, options)
