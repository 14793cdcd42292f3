"""Calls of one client to the actors of one worker, in the order in which they are made.

May import: `rpc`, `errors`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from fastdist.errors import ClosedClientError
from fastdist.rpc.peer import Peer, Reply

if TYPE_CHECKING:
    from fastdist.client.lifecycle import Lifecycle

Answer = concurrent.futures.Future[Reply]

#: Calls that wait for a connection to be opened.
MAX_WAITING_CALLS = 10_000


class ActorChannel:
    """The way of a client to the actors of a worker.

    Parameters
    ----------
    client : Lifecycle
        Its loop and its connections are used.
    address : str
        Of the worker.
    """

    def __init__(self, client: Lifecycle, address: str) -> None:
        self._client = client
        self._address = address
        self._lock = threading.Lock()
        self._peer: Peer | None = None
        self._waiting: deque[tuple[Answer, str, Any, dict[str, Any]]] = deque()
        self._opening: asyncio.Task[None] | None = None

    def call(self, op: str, buffers: Any, **fields: Any) -> Answer:
        """Send a request, after all earlier ones; from any thread, without waiting.

        Raises
        ------
        RuntimeError
            If too many calls wait already.
        """
        with self._lock:
            peer = self._peer
            if peer is not None and not peer.closed and not self._waiting:
                return peer.call_threadsafe(op, buffers=buffers, **fields)
            if len(self._waiting) >= MAX_WAITING_CALLS:
                raise RuntimeError(f"{len(self._waiting)} calls wait for a connection to {self._address}")
            answer: Answer = concurrent.futures.Future()
            self._waiting.append((answer, op, buffers, fields))
            if len(self._waiting) == 1:
                self._client._loop.call_soon_threadsafe(self._start_opening)
            return answer

    def _start_opening(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            await self._client._started()
            peer = await self._client._pool.get(self._address)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            self._peer = peer
            while self._waiting:
                answer, op, buffers, fields = self._waiting.popleft()
                _pass_on(peer.call_threadsafe(op, buffers=buffers, **fields), answer)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            failed = list(self._waiting)
            self._waiting.clear()
        if not isinstance(error, Exception):
            error = ClosedClientError("the client was closed before the call was sent")
        for answer, *_ in failed:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)


def _pass_on(source: Answer, target: Answer) -> None:
    def on_done(done: Answer) -> None:
        if not target.set_running_or_notify_cancel():
            return
        if done.exception() is not None:
            target.set_exception(done.exception())
        else:
            target.set_result(done.result())

    source.add_done_callback(on_done)
