"""Waiting: for all of some futures, for the first, for one after the other. May import: `_core`, `errors`."""

from __future__ import annotations

import _thread
import asyncio
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastdist._core.client.futures import FutureTable, Waiter
from fastdist.client.actor import find_calls, split_calls
from fastdist.client.containers import find_futures
from fastdist.client.current import default_client
from fastdist.client.future import Future
from fastdist.client.options import parse_seconds
from fastdist.client.ready_queue import ReadyQueue
from fastdist.context import blocking
from fastdist.errors import CancelledFuturesGroup, FuturesCancelledError
from fastdist.loop import asyncio_loop_of

if TYPE_CHECKING:
    from fastdist.client.client import Client
    from fastdist.client.connection import SchedulerConnection


class DoneAndNotDoneFutures(NamedTuple):
    """What `wait` returns."""

    done: set[Any]
    not_done: set[Any]


def block_until_done(
    table: FutureTable,
    futures: Sequence[Future],
    timeout: float | None = None,
    stop_on_failure: bool = False,
    *,
    connection: SchedulerConnection,
) -> None:
    """Block this thread until all futures are done, or one failed if that is enough. Ctrl-C ends the wait.

    As long as no other thread does, this one reads from the connection itself: that saves a change of threads.

    Raises
    ------
    TimeoutError
        If that takes longer than `timeout` seconds.
    """
    # A raw lock has the shortest way from one thread to another.
    lock = _thread.allocate_lock()
    lock.acquire()

    def notify() -> None:
        # Called again if Ctrl-C came in here.
        if lock.locked():
            lock.release()
        connection.wake_reader()

    waiter = Waiter(table, futures, notify, stop_on_failure)
    if waiter.start():
        return
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with blocking():
            connection.read_until(lambda: not lock.locked(), timeout)
            left = -1 if deadline is None else min(max(deadline - time.monotonic(), 0), _thread.TIMEOUT_MAX)
            came = lock.acquire(True, left)
        if not came:
            raise timed_out(futures, timeout)
    finally:
        waiter.stop()


async def until_done(
    table: FutureTable, futures: Sequence[Future], timeout: float | None = None, stop_on_failure: bool = False
) -> None:
    """`block_until_done` for coroutines."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    waiter = Waiter(table, futures, lambda: loop.call_soon_threadsafe(settle, finished), stop_on_failure)
    if waiter.start():
        return
    try:
        with blocking():
            await asyncio.wait_for(finished, timeout)
    except (asyncio.TimeoutError, TimeoutError):
        raise timed_out(futures, timeout) from None
    finally:
        waiter.stop()


async def until_first_done(client: Client, futures: Sequence[Future], timeout: float | None = None) -> None:
    """Wait until one of the futures is done.

    Raises
    ------
    TimeoutError
        If that takes longer than `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    finished = loop.create_future()

    def on_done(ids: list[int]) -> None:
        loop.call_soon_threadsafe(settle, finished)

    client._notifier.watch(futures, on_done)
    try:
        with blocking():
            await asyncio.wait_for(finished, timeout)
    except (asyncio.TimeoutError, TimeoutError):
        raise timed_out(futures, timeout) from None
    finally:
        client._notifier.unwatch(futures, on_done)


def settle(finished: asyncio.Future[None]) -> None:
    """End a wait, unless it has ended."""
    if not finished.done():
        finished.set_result(None)


def timed_out(futures: Sequence[Future], timeout: float | None) -> TimeoutError:
    """The error for futures that were not done in time."""
    waiting = [future for future in futures if not future.done()]
    keys = ", ".join(str(future.key) for future in waiting[:3])
    more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    return TimeoutError(
        f"timed out after {timeout:g} s: {len(waiting)} of {len(futures)} tasks are not done ({keys}{more})"
    )


def wait(fs: Any, timeout: float | str | None = None, return_when: str = "ALL_COMPLETED") -> Any:
    """Wait until futures are done.

    Parameters
    ----------
    fs : Future or collection
        Futures, at any depth of lists, tuples, sets and dicts, and what methods of actors give.
    timeout : number or str, optional
        Seconds, or a text such as "2s".
    return_when : str
        `ALL_COMPLETED` or `FIRST_COMPLETED`.

    Returns
    -------
    DoneAndNotDoneFutures
        Two sets, `done` and `not_done`. With an asynchronous client: an awaitable of it.

    Raises
    ------
    TimeoutError
        If it takes longer.
    FuturesCancelledError
        If a future is cancelled.

    Examples
    --------
    >>> done, not_done = wait(client.map(abs, [-1, 2]))
    """
    if return_when not in ("ALL_COMPLETED", "FIRST_COMPLETED"):
        raise NotImplementedError(
            f"return_when= can be 'ALL_COMPLETED' or 'FIRST_COMPLETED', not {return_when!r}"
        )
    seconds = parse_seconds(timeout)
    futures = find_futures(fs)
    client = futures[0]._client() if futures else default_client()
    calls = find_calls(fs)
    if calls:
        from fastdist.client.actor_waiting import wait_with_calls

        return client.sync(wait_with_calls, client, futures, calls, seconds, return_when)
    return client.sync(_wait, client, futures, seconds, return_when)


async def _wait(client: Client, futures: list[Future], timeout: float | None, return_when: str) -> Any:
    if return_when == "ALL_COMPLETED":
        await until_done(client._table, futures, timeout)
    elif futures and not any(future.done() for future in futures):
        await until_first_done(client, futures, timeout)
    done = {future for future in futures if future.done()}
    raise_if_cancelled(client, done)
    return DoneAndNotDoneFutures(done, set(futures) - done)


def raise_if_cancelled(client: Client, futures: Iterable[Future]) -> None:
    """Raise FuturesCancelledError if any of the futures is cancelled."""
    groups: dict[str, list[Any]] = {}
    for future in futures:
        if future.cancelled():
            error = client._outcomes.cancelled_error(future)
            groups.setdefault(error.reason, []).append(error)
    if groups:
        raise FuturesCancelledError(
            [CancelledFuturesGroup(errors, reason) for reason, errors in groups.items()]
        )


class as_completed:
    """Iterate over futures as they are done.

    Parameters
    ----------
    futures : iterable of Future
        What to wait for; more can be added on the way. A future that is given twice comes twice.
    loop : tornado IOLoop or asyncio event loop, optional
        The loop that the clients of the futures live on: those of others are refused. Needed for nothing.
    with_results : bool
        Give pairs of future and result.
    raise_errors : bool
        With results: whether the exception of a task is raised. If not, its result is a tuple of type,
        exception and traceback.
    timeout : number or str, optional
        Seconds from now on, or a text such as "1 minute"; then TimeoutError is raised.

    Examples
    --------
    >>> for future in as_completed(client.map(abs, [-1, 2])):
    ...     print(future.result())
    """

    def __init__(
        self,
        futures: Iterable[Future] | None = None,
        loop: Any = None,
        with_results: bool = False,
        raise_errors: bool = True,
        *,
        timeout: float | str | None = None,
    ):
        #: The event loop that the clients of all futures have to live on; None for any.
        self.loop = loop
        self._only_loop = None if loop is None else asyncio_loop_of(loop)
        self.with_results = with_results
        self.raise_errors = raise_errors
        self.futures: dict[Any, int] = defaultdict(int)
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._ready: list[Future] = []
        self._next_ready = 0
        # By client, since each counts its ids from 1.
        self._by_id: dict[Client, dict[int, list[Future]]] = {}
        self._sinks: dict[Client, Callable[[list[int]], None]] = {}
        self._wakers: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()
        self._timeout = parse_seconds(timeout)
        self._deadline = None if self._timeout is None else _now() + self._timeout
        if futures is not None:
            self.update(futures)

    # -- adding ----------------------------------------------------------------------------------------------

    def add(self, future: Future) -> None:
        """Wait for one more future."""
        self.update((future,))

    def update(self, futures: Iterable[Future]) -> None:
        """Wait for more futures.

        Raises
        ------
        TypeError
            If one of them is no Future.
        """
        added: dict[Client, list[Future]] = {}
        calls, futures = split_calls(futures)
        for future in futures:
            if type(future) is not Future:
                raise TypeError(f"as_completed takes futures, not {type(future).__name__}")
            if self._only_loop is not None and future._client()._loop is not self._only_loop:
                raise ValueError(f"the client of {future!r} does not live on the event loop given as loop=")
        for call in calls:
            with self.lock:
                self.futures[call] += 1
            call.add_done_callback(self._on_call_done)
        with self.lock:
            for future in futures:
                self.futures[future] += 1
                client = future._client()
                self._by_id.setdefault(client, {}).setdefault(future.id, []).append(future)
                added.setdefault(client, []).append(future)
        for client, watched in added.items():
            sink = self._sinks.setdefault(client, functools.partial(self._on_done, client))
            client._notifier.watch(watched, sink)

    def _on_call_done(self, call: Any) -> None:
        with self._changed:
            if call not in self.futures:  # forgotten by `clear`
                return
            self._ready.append(call)
        self._tell()

    def _on_done(self, client: Client, ids: list[int]) -> None:
        with self._changed:
            waiting = self._by_id.get(client, {})
            for id in ids:
                self._ready += waiting.pop(id, ())
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            wakers, self._wakers = self._wakers, set()
        for loop, finished in wakers:
            loop.call_soon_threadsafe(settle, finished)

    # -- looking ---------------------------------------------------------------------------------------------

    @property
    def queue(self) -> ReadyQueue:
        """What is done and was not yielded yet; for libraries that empty it, under `lock`."""
        return ReadyQueue(self)

    @property
    def thread_condition(self) -> threading.Condition:
        """Notified when something is done."""
        return self._changed

    def count(self) -> int:
        """How many futures are still to come."""
        with self.lock:
            return sum(self.futures.values())

    def is_empty(self) -> bool:
        """Whether no future is still to come."""
        return not self.count()

    def has_ready(self) -> bool:
        """Whether the next future is done already."""
        return self._next_ready < len(self._ready)

    def clear(self) -> None:
        """Forget all futures."""
        with self.lock:
            self.futures.clear()
            self._by_id.clear()
            self._ready = []
            self._next_ready = 0

    # -- iterating -------------------------------------------------------------------------------------------

    def _take(self) -> Future | None:
        """The next future that is done; the lock must be held."""
        if self._next_ready == len(self._ready):
            return None
        future = self._ready[self._next_ready]
        self._next_ready += 1
        if 2 * self._next_ready > len(self._ready):
            del self._ready[: self._next_ready]
            self._next_ready = 0
        self.futures[future] -= 1
        if not self.futures[future]:
            del self.futures[future]
        return future

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        remaining = self._deadline - _now()
        if remaining <= 0:
            raise TimeoutError(
                f"as_completed timed out after {self._timeout:g} s; {len(self.futures)} are not done"
            )
        return remaining

    def __iter__(self) -> as_completed:
        return self

    def __aiter__(self) -> as_completed:
        return self

    def _next_future(self) -> Future:
        while True:
            with self._changed:
                future = self._take()
                if future is not None:
                    return future
                if not self.futures:
                    raise StopIteration
            # Not while the lock is held: taking the slot again may last.
            with blocking(), self._changed:
                if self.futures and not self.has_ready():
                    self._changed.wait(self._remaining())

    def __next__(self) -> Any:
        future = self._next_future()
        return self._with_result(future) if self.with_results else future

    next = __next__

    async def __anext__(self) -> Any:
        while True:
            with self.lock:
                future = self._take()
                if future is None:
                    if not self.futures:
                        raise StopAsyncIteration
                    loop = asyncio.get_running_loop()
                    finished = loop.create_future()
                    self._wakers.add((loop, finished))
            if future is not None:
                return await self._with_result_async(future) if self.with_results else future
            try:
                with blocking():
                    await asyncio.wait_for(finished, self._remaining())
            except (asyncio.TimeoutError, TimeoutError):
                self._remaining()

    def next_batch(self, block: bool = True) -> list[Any]:
        """All futures that are done by now, at least one if `block` is true."""
        batch = [next(self)] if block else []
        while True:
            with self.lock:
                future = self._take()
            if future is None:
                return batch
            batch.append(self._with_result(future) if self.with_results else future)

    def batches(self) -> Batches:
        """Iterate, also with `async for`, over lists of all that is done by then."""
        return Batches(self)

    async def _next_batch_async(self) -> list[Any]:
        batch = [await self.__anext__()]
        while True:
            with self.lock:
                future = self._take()
            if future is None:
                return batch
            batch.append(await self._with_result_async(future) if self.with_results else future)

    def _with_result(self, future: Future) -> tuple[Future, Any]:
        try:
            return future, future.result()
        except BaseException as error:
            return future, self._failed(future, error)

    async def _with_result_async(self, future: Future) -> tuple[Future, Any]:
        try:
            return future, await future
        except BaseException as error:
            return future, self._failed(future, error)

    def _failed(self, future: Future, error: BaseException) -> Any:
        if self.raise_errors or not future.done() or future.status == "finished":
            raise error
        return type(error), error, error.__traceback__


class Batches:
    """What `as_completed.batches` gives."""

    def __init__(self, sequence: as_completed):
        self._sequence = sequence

    def __iter__(self) -> Batches:
        return self

    def __aiter__(self) -> Batches:
        return self

    def __next__(self) -> list[Any]:
        return self._sequence.next_batch(block=True)

    async def __anext__(self) -> list[Any]:
        return await self._sequence._next_batch_async()


def _now() -> float:
    return time.monotonic()
