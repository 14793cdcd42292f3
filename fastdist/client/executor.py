"""ClientExecutor: a cluster behind the interface of `concurrent.futures`. May import: what the client may."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fastdist.client.future import Future
from fastdist.client.options import pack_options, parse_seconds

if TYPE_CHECKING:
    from fastdist.client.client import Client

#: Options of tasks that an executor understands.
OPTIONS = frozenset({"pure", "workers", "resources", "allow_other_workers", "retries"})


class ClientExecutor(concurrent.futures.Executor):
    """Runs calls as tasks of a cluster; made by `Client.get_executor`.

    Parameters
    ----------
    client : Client
        A synchronous client.
    **kwargs
        `pure`, `workers`, `resources`, `allow_other_workers`, `retries`: as of `Client.submit`, for all tasks.

    Raises
    ------
    TypeError
        If an option is none of these.

    Examples
    --------
    >>> with client.get_executor() as executor:
    ...     executor.submit(pow, 2, 5).result()
    32
    """

    def __init__(self, client: Client, **kwargs: Any):
        unknown = sorted(kwargs.keys() - OPTIONS)
        if unknown:
            raise TypeError(f"unsupported arguments to ClientExecutor: {unknown}; there are {sorted(OPTIONS)}")
        self._client = client
        self._kwargs = kwargs
        self._lock = threading.Lock()
        self._shutdown = False
        #: Who waits for which task, by its id in the client.
        self._waiting: dict[int, list[tuple[Future, concurrent.futures.Future[Any]]]] = {}
        self._futures: weakref.WeakSet[concurrent.futures.Future[Any]] = weakref.WeakSet()
        self._deliveries: set[asyncio.Task[None]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Have `fn(*args, **kwargs)` called on a worker; keywords that are options of the executor go to the task.

        Returns
        -------
        concurrent.futures.Future
            Cancelling it cancels the task.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        """
        options = {**self._kwargs, **{name: kwargs.pop(name) for name in OPTIONS & kwargs.keys()}}
        with self._lock:
            self._check_open()
            future = self._start(fn, args, kwargs, options)
            outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
            self._futures.add(outcome)
            self._waiting.setdefault(future.id, []).append((future, outcome))
        outcome.add_done_callback(_Canceller(future))
        self._client._notifier.watch([future], self._on_done)
        return outcome

    def _check_open(self) -> None:
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _start(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Future:
        if not callable(fn):
            raise TypeError("the first argument of submit must be callable")
        self._client._check_usable()
        pure = options.pop("pure", True)
        # Not by Client.submit, whose own keywords the function may have, too.
        return self._client._submitter.submit(
            fn, args, kwargs, key=None, pure=pure, options=pack_options(**options), fifo_timeout=0.1
        )

    # -- outcomes --------------------------------------------------------------------------------------------

    def _on_done(self, ids: list[int]) -> None:
        pairs = []
        with self._lock:
            for id in ids:
                pairs += self._waiting.pop(id, [])
        if pairs:
            self._client._loop.call_soon_threadsafe(self._deliver_soon, pairs)

    def _deliver_soon(self, pairs: list[tuple[Future, concurrent.futures.Future[Any]]]) -> None:
        # What is here already needs no coroutine.
        values, missing = self._client._table.gather([future for future, _ in pairs])
        absent = set(missing)
        for position, (future, outcome) in enumerate(pairs):
            if position in absent:
                task = self._client._loop.create_task(self._deliver(future, outcome))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)
            elif outcome.set_running_or_notify_cancel():
                outcome.set_result(values[position])

    async def _deliver(self, future: Future, outcome: concurrent.futures.Future[Any]) -> None:
        try:
            result = await self._client._result_async(future)
        except concurrent.futures.CancelledError:
            outcome.cancel()
            # Whoever waits in concurrent.futures.wait or as_completed wakes up only now.
            outcome.set_running_or_notify_cancel()
        except BaseException as error:
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if outcome.set_running_or_notify_cancel():
                outcome.set_result(result)

    # -- many ------------------------------------------------------------------------------------------------

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: Any = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """Results of `fn` for each row of the iterables, in order; the tasks start at once.

        Parameters
        ----------
        fn : callable
            The function.
        *iterables : iterable
            Its arguments; the shortest one counts.
        timeout : number or str, optional
            For all results together, from now on.
        chunksize : int
            For compatibility with other executors only: tasks travel in batches anyway.

        Raises
        ------
        TimeoutError
            If a result does not come in time.
        """
        seconds = parse_seconds(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            self._check_open()
            futures = self._client.map(fn, *map(list, iterables), **self._kwargs) if iterables else []
        return self._results(futures, deadline)

    def _results(self, futures: list[Future], deadline: float | None) -> Iterator[Any]:
        futures.reverse()
        try:
            while futures:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                # It is not held while the caller has its result.
                yield futures.pop().result(left)
        finally:
            if futures:
                self._client.cancel(futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait : bool
            Whether to wait for what was submitted; if not, it is cancelled.
        cancel_futures : bool
            Whether to cancel what has not ended, even if `wait` is true.
        """
        with self._lock:
            self._shutdown = True
            outcomes = list(self._futures)
        if cancel_futures or not wait:
            for outcome in outcomes:
                outcome.cancel()
        else:
            concurrent.futures.wait(outcomes)


class _Canceller:
    """Cancels a task when the concurrent future that stands for it is cancelled."""

    __slots__ = ("_future",)

    def __init__(self, future: Future):
        self._future: Future | None = future

    def __call__(self, outcome: concurrent.futures.Future[Any]) -> None:
        # Let go at once: the result may be large, and the outcome outlives it.
        future, self._future = self._future, None
        if outcome.cancelled() and future is not None and not future.done():
            client = future._client()
            if client.status == "running":
                client._run_errand(client._cancel, [future], False, "executor", None)
