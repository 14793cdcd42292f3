"""Requests, replies and one-way messages over one connection (docs/wire.md, Control messages).

A `Peer` owns a started comm. Everything it calls - handlers, frame handlers, `on_close` - runs in the thread
of the event loop that made it; what it sends may be sent from any thread. May import: fastdist.errors,
fastdist.comm.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastdist.comm.core import BytesLike, Comm
from fastdist.errors import CommClosedError, FrameError, RemoteError
from fastdist.rpc.remote_errors import describe_error, rebuild_error

logger = logging.getLogger("fastdist.rpc")

#: `handler(peer, fields, buffers)`; returns None, a dict, or (dict, buffers), or an awaitable of these.
Handler = Callable[["Peer", dict[str, Any], list[Any]], Any]
#: `handler(peer, body)`; the body is valid during the call only.
FrameHandler = Callable[["Peer", memoryview], None]

_MAX_PENDING_CALLS = 100_000
_MAX_RUNNING_HANDLERS = 10_000

#: How often what happened, by a closed set of names; for metrics and tests.
counters: Counter[str] = Counter()


class Reply(dict[str, Any]):
    """The fields of an answer, and its payloads in `buffers`."""

    __slots__ = ("buffers",)

    def __init__(self, fields: Mapping[str, Any], buffers: list[Any]) -> None:
        super().__init__(fields)
        self.buffers = buffers


class Peer:
    """The process at the other end of a connection.

    Parameters
    ----------
    comm : Comm
        A comm that was not started yet; it is started here. Delivery begins with the next turn of the event
        loop, so `on_frame` and `on_close` can still be set.
    handlers : mapping of str to callable
        For each op `handler(peer, fields, buffers)`, plain or `async`. It returns None, the fields of the
        reply, or fields and buffers. An exception becomes an error reply; of a message that wants no answer
        it is logged.
    name : str
        What to call the peer in logs and errors.

    Attributes
    ----------
    on_frame : dict of int to callable
        For each kind of columnar frame `handler(peer, body)`; a frame of another kind closes the connection.
    on_close : callable or None
        Called once with the peer and the reason, None after a `close` or `abort` of this side without a
        reason.

    Examples
    --------
    >>> async def ask(comm):
    ...     peer = Peer(comm, {"ping": lambda peer, fields, buffers: {"pong": fields["n"]}})
    ...     reply = await peer.call("identity", timeout=5)
    ...     return reply["type"]
    """

    def __init__(self, comm: Comm, handlers: Mapping[str, Handler], name: str = "") -> None:
        self.comm = comm
        self.handlers = handlers
        self.name = name or comm.peer_address
        self.on_frame: dict[int, FrameHandler] = {}
        self.on_close: Callable[[Peer, Exception | None], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[str, Any]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closed_reason: Exception | None = None
        self._closed_event = asyncio.Event()
        comm.start(self._take_frame, self._take_control, self._take_close)

    @property
    def address(self) -> str:
        """The address of the other end of the connection."""
        return self.comm.peer_address

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.comm.closed

    @property
    def idle(self) -> bool:
        """Whether no call is unanswered and no handler runs."""
        return not self._pending and not self._running

    # ---- sending -------------------------------------------------------------------------------------------

    async def call(
        self, op: str, *, timeout: float | None = None, buffers: Iterable[Any] = (), **fields: Any
    ) -> Reply:
        """Send a request and wait for its answer.

        Parameters
        ----------
        op : str
            What is asked.
        timeout : float, optional
            Seconds to wait for the answer.
        buffers : iterable
            Opaque payloads.
        **fields
            The fields of the message.

        Returns
        -------
        Reply

        Raises
        ------
        CommClosedError
            If the connection is or becomes closed.
        TimeoutError
            If no answer came in time.
        Exception
            What the handler of the other side raised: the same class if it belongs to `fastdist.errors` or is
            builtin, else `RemoteError`.
        """
        while self.comm.queued_bytes > self.comm.limits.high_water:
            await self.comm.drained()
        future: asyncio.Future[Reply] = self._loop.create_future()
        number = self._request(op, future, fields, buffers)
        timer = (
            None if timeout is None else self._loop.call_later(timeout, self._time_out, number, op, timeout)
        )
        try:
            return await future
        finally:
            self._pending.pop(number, None)
            if timer is not None:
                timer.cancel()

    def call_threadsafe(
        self, op: str, *, buffers: Iterable[Any] = (), **fields: Any
    ) -> concurrent.futures.Future[Reply]:
        """Send a request from any thread; the future gets the answer, or what `call` would raise."""
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        try:
            self._request(op, future, fields, buffers)
        except CommClosedError as error:
            future.set_exception(error)
        return future

    def notify(self, op: str, *, buffers: Iterable[Any] = (), **fields: Any) -> None:
        """Send a message that wants no answer; from any thread.

        Raises
        ------
        CommClosedError
            If the connection is closed.
        """
        fields["op"] = op
        self.comm.send_control(fields, buffers)

    def send_frame(self, kind: int, *parts: BytesLike) -> None:
        """Send a columnar frame; from any thread. Raises as `Comm.send` does."""
        self.comm.send(kind, *parts)

    def _request(self, op: str, future: Any, fields: dict[str, Any], buffers: Iterable[Any]) -> int:
        if len(self._pending) >= _MAX_PENDING_CALLS:
            raise RuntimeError(
                f"{len(self._pending)} calls to {self.name} wait for their answers; that is the limit"
            )
        number = next(self._ids)
        self._pending[number] = (op, future)
        fields["op"] = op
        fields["id"] = number
        try:
            self.comm.send_control(fields, buffers)
        except CommClosedError as error:
            self._pending.pop(number, None)
            raise self._closed_error(op, error) from error
        except BaseException:
            self._pending.pop(number, None)
            raise
        return number

    def _time_out(self, number: int, op: str, timeout: float) -> None:
        entry = self._pending.pop(number, None)
        if entry is not None:
            _fail(
                entry[1],
                TimeoutError(f"timed out waiting for {self.name} to answer {op!r} after {timeout:g} s"),
            )

    # ---- receiving -----------------------------------------------------------------------------------------

    def _take_frame(self, kind: int, body: memoryview) -> None:
        handler = self.on_frame.get(kind)
        if handler is None:
            raise FrameError(
                f"{self.name} sent a frame of kind {kind}, which has no place on this connection"
            )
        handler(self, body)

    def _take_control(self, message: dict[str, Any], buffers: list[Any]) -> None:
        # Inside one process the map is the sender's own object.
        fields = dict(message)
        op = fields.pop("op", None)
        if op == "reply":
            self._take_reply(fields, buffers)
            return
        number = fields.pop("id", None)
        if type(op) is not str or not (number is None or type(number) is int):
            raise FrameError(f"{self.name} sent a message without a proper op and id")
        handler = self.handlers.get(op)
        if handler is None:
            counters["unknown-op"] += 1
            self._answer_error(op, number, NotImplementedError(f"there is no operation {op!r} here"))
            return
        try:
            result = handler(self, fields, buffers)
            if not inspect.isawaitable(result):
                if number is None or self.comm.queued_bytes <= self.comm.limits.high_water:
                    self._answer(op, number, result)
                    return
                result = _given(result)
        except Exception as error:
            self._answer_error(op, number, error)
            return
        if len(self._running) >= _MAX_RUNNING_HANDLERS:
            if inspect.iscoroutine(result):
                result.close()
            raise FrameError(f"{self.name} has {len(self._running)} unanswered requests; that is the limit")
        task = self._loop.create_task(self._finish_handler(op, number, result))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _finish_handler(self, op: str, number: int | None, result: Any) -> None:
        try:
            answer = await result
            # All that wait wake up together; the first to answer may fill the queue again.
            while number is not None and self.comm.queued_bytes > self.comm.limits.high_water:
                await self.comm.drained()
            self._answer(op, number, answer)
        except asyncio.CancelledError:
            if number is not None and not self.closed:
                self._answer_error(op, number, RemoteError(f"the handler of {op!r} was cancelled"))
            raise
        except Exception as error:
            self._answer_error(op, number, error)

    def _answer(self, op: str, number: int | None, result: Any) -> None:
        if number is None:
            return
        fields, buffers = result if type(result) is tuple else (result, ())
        message = dict(fields) if fields else {}
        message["op"] = "reply"
        message["re"] = number
        self._send_answer(message, buffers)

    def _answer_error(self, op: str, number: int | None, error: Exception) -> None:
        if number is None:
            counters["failed-notification"] += 1
            logger.error("the message %r of %s could not be handled", op, self.name, exc_info=error)
            return
        counters["failed-request"] += 1
        logger.debug("the request %r of %s failed", op, self.name, exc_info=error)
        text, error_type = describe_error(error)
        self._send_answer({"op": "reply", "re": number, "error": text, "error_type": error_type}, ())

    def _send_answer(self, message: dict[str, Any], buffers: Iterable[Any]) -> None:
        try:
            self.comm.send_control(message, buffers)
        except CommClosedError:
            counters["unsent-reply"] += 1

    def _take_reply(self, fields: dict[str, Any], buffers: list[Any]) -> None:
        number = fields.pop("re", None)
        if type(number) is not int:
            raise FrameError(f"{self.name} sent a reply without the number of its request")
        entry = self._pending.pop(number, None)
        if entry is None:
            counters["unknown-reply"] += 1
            return
        if "error" in fields:
            _fail(entry[1], rebuild_error(str(fields["error"]), str(fields.get("error_type"))))
        else:
            _succeed(entry[1], Reply(fields, buffers))

    # ---- closing -------------------------------------------------------------------------------------------

    def _closed_error(self, op: str, reason: Exception | None) -> CommClosedError:
        return CommClosedError(
            f"{op!r} was not answered by {self.name}: {reason or 'the connection was closed here'}"
        )

    def _take_close(self, reason: Exception | None) -> None:
        self._closed_reason = reason
        while self._pending:
            _, (op, future) = self._pending.popitem()
            _fail(future, self._closed_error(op, reason))
        for task in self._running:
            task.cancel()
        self._closed_event.set()
        if self.on_close is not None:
            self.on_close(self, reason)

    async def close(self, timeout: float | None = None) -> None:
        """Send what is queued, close the connection, and wait until `on_close` was called and the handlers
        ended.
        """
        await self.comm.close(timeout)
        await self._closed_event.wait()
        ended = [task for task in self._running if task is not asyncio.current_task()]
        await asyncio.gather(*ended, return_exceptions=True)

    def abort(self, reason: Exception | None = None) -> None:
        """Close at once; from any thread."""
        self.comm.abort(reason)

    async def wait_closed(self) -> Exception | None:
        """Wait until the connection is closed; the reason."""
        await self._closed_event.wait()
        return self._closed_reason

    def __repr__(self) -> str:
        return f"<Peer {self.name} {'closed' if self.closed else 'open'}>"


async def _given(answer: Any) -> Any:
    """An answer that is there, for one who awaits it."""
    return answer


def _succeed(future: Any, reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)


def _fail(future: Any, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
