"""How a client begins, ends and waits: connecting, closing, blocking and awaitable calls, forks, exit.

May import: everything up to `rpc`.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import uuid
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from importlib import import_module
from typing import Any

from fastdist import config
from fastdist._core.client.futures import FutureTable
from fastdist.client.cluster import ClusterView
from fastdist.client.connection import SchedulerConnection
from fastdist.client.current import enter_current, forget_global_client, leave_current, set_global_client
from fastdist.client.future import Future
from fastdist.client.gathering import Gatherer
from fastdist.client.notifier import Notifier
from fastdist.client.options import parse_seconds
from fastdist.client.outcomes import Outcomes
from fastdist.client.scattering import Scatterer
from fastdist.client.starting import (
    WorkerHome,
    find_address,
    heartbeat_seconds,
    local_cluster_class,
    refuse_unbuilt,
    seconds_of,
)
from fastdist.comm.handshake import Role
from fastdist.context import blocking, current_task
from fastdist.errors import ClosedClientError, Reason
from fastdist.loop import BorrowedLoop, LoopThread, check_running_loop, loop_thread_for
from fastdist.preloading import PreloadManager
from fastdist.rpc.pool import ConnectionPool
from fastdist.security import check_security

logger = logging.getLogger("fastdist.client")

no_default: Any = type("NoDefault", (), {"__repr__": lambda self: "<no default>"})()

#: What makes tornado's loops of asyncio's; it lives above this layer.
IO_LOOPS = "fastdist.compat.loops"

#: Inline results are kept up to this many bytes; what is over it is gathered from the workers.
INLINE_CACHE_BYTES = 256 << 20
#: Seconds that closing may take at the end of the interpreter.
EXIT_TIMEOUT = 3.0

_open_clients: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


class Lifecycle:
    """The part of Client that connects, closes, and runs coroutines for callers of either kind."""

    _global_number = -1
    _serves_dask = False

    def __init__(
        self,
        address: Any = None,
        loop: Any = None,
        timeout: Any = no_default,
        set_as_default: bool = True,
        scheduler_file: str | None = None,
        security: Any = None,
        asynchronous: bool = False,
        name: str | None = None,
        heartbeat_interval: Any = None,
        serializers: Any = None,
        deserializers: Any = None,
        extensions: Mapping[str, Any] | None = None,
        direct_to_workers: bool | None = None,
        connection_limit: int = 512,
        token_file: str | None = None,
        insecure: bool = False,
        forward_output: bool = False,
        **kwargs: Any,
    ):
        self.status = "newly-created"
        self._pid = os.getpid()
        check_security(security, "Client")
        refuse_unbuilt(
            serializers=serializers,
            deserializers=deserializers,
        )
        config.publish_defaults()
        config.report()
        connect_timeout = config.get("comm.timeouts.connect") if timeout is no_default else timeout
        self._timeout = seconds_of(connect_timeout, "timeout")
        if address is None and scheduler_file is None:
            address = config.get("scheduler-address")
            if address is not None:
                logger.info("the setting scheduler-address names the scheduler: %s", address)
        if kwargs and (address is not None or scheduler_file is not None):
            raise ValueError(
                f"arguments of LocalCluster make no sense together with an address: {sorted(kwargs)}"
            )
        self._start_arg = address
        self._scheduler_file = scheduler_file
        self._token_file = token_file
        self._insecure = insecure
        if not isinstance(forward_output, bool):
            raise TypeError(f"forward_output= must be True or False, not {forward_output!r}")
        self._forward_output = forward_output
        self._cluster_kwargs = kwargs
        self._set_as_default = set_as_default
        self._asynchronous = asynchronous
        direct = config.get("client.direct-to-workers") if direct_to_workers is None else direct_to_workers
        self._direct = direct is not False
        self._connection_limit = connection_limit
        self._heartbeat_interval = heartbeat_seconds(heartbeat_interval)
        name = config.get("client-name") if name is None else name
        self.preloads = PreloadManager.configured(self, "client", None, None)
        self.id = f"Client-{name}-{uuid.uuid4().hex}" if name else f"Client-{uuid.uuid4().hex}"
        self.name = name
        self.cluster: Any = None
        self._owns_cluster = False
        self._context_tokens: list[Any] = []
        self._callbacks: concurrent.futures.ThreadPoolExecutor | None = None
        self._loop_thread: LoopThread | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[Any] | None = None
        self._make_parts()
        self.extensions = {each: make(self) for each, make in (extensions or {}).items()}
        _open_clients.add(self)
        _register_exit()
        if asynchronous:
            self._loop = check_running_loop(loop)
            self._start_soon()
        elif isinstance(address, WorkerHome):
            self._start_for_tasks(address)
        else:
            self._start_blocking(loop)

    def _make_parts(self) -> None:
        self._table = FutureTable(Future, INLINE_CACHE_BYTES)
        self._table.client = self
        self._notifier = Notifier(self._table)
        self._outcomes = Outcomes(self._table)
        self._connection = SchedulerConnection(
            self.id,
            self._table,
            on_done=self._notifier.dispatch,
            on_lost=self._on_lost,
            on_unknown=self._on_unknown,
            heartbeat_interval=self._heartbeat_interval,
            grace=config.get("scheduler.client-grace"),
        )
        self._submitter = self._connection.submitter
        self._view = ClusterView(self._connection)

    # -- life ------------------------------------------------------------------------------------------------

    def _start_soon(self) -> None:
        self._starting = self._loop.create_task(self._start())
        # Whoever awaits the client sees the error; nobody has to.
        self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _start_for_tasks(self, home: WorkerHome) -> None:
        self._loop_thread, self._loop = BorrowedLoop(home.loop), home.loop
        self._submitter.nested = True
        if self._loop_thread.is_current():
            self._start_soon()
        else:
            self._loop_thread.call(self._start_soon_async)

    async def _start_soon_async(self) -> None:
        self._start_soon()

    def _wait_until_started(self) -> None:
        """Block until a client that tasks share is connected; on the loop, where that is not possible, go on."""
        starting, loop_thread = self._starting, self._loop_thread
        if starting is None or loop_thread is None or self.asynchronous:
            return
        if not starting.done():
            loop_thread.call(self._started)
        starting.result()

    def _start_blocking(self, loop: Any = None) -> None:
        self._loop_thread = loop_thread_for(loop)
        self._loop = self._loop_thread.loop
        try:
            if self._start_arg is None and self._scheduler_file is None:
                self.cluster = local_cluster_class()(loop=loop, **self._cluster_kwargs)
                self._owns_cluster = True
            self._loop_thread.run(self._start())
        except BaseException:
            self.close()
            raise

    async def _start(self) -> Any:
        self.status = "connecting"
        try:
            if self._start_arg is None and self._scheduler_file is None and self.cluster is None:
                self.cluster = await local_cluster_class()(asynchronous=True, **self._cluster_kwargs)
                self._owns_cluster = True
            address, token, cluster = await find_address(
                self.cluster or self._start_arg,
                self._scheduler_file,
                self._timeout,
                token_file=self._token_file,
                insecure=self._insecure,
            )
            self.cluster = cluster
            self._pool = ConnectionPool(
                Role.CLIENT, token, insecure=self._insecure, max_connections=self._connection_limit
            )
            self._gatherer = Gatherer(self._table, self._outcomes, self._connection, self._pool, self._direct)
            self._scatterer = Scatterer(self._table, self._connection, self._pool)
            await self._connection.open(address, token, self._insecure, self._timeout)
        except BaseException:
            if self._asynchronous:
                await self._close(0)
            raise
        self.status = "running"
        await self.preloads.start()
        if self._set_as_default:
            set_global_client(self)
        return self

    def close(self, timeout: Any = no_default) -> Any:
        """Release all futures and disconnect; a cluster that this client started is closed, too.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds to wait for what is still being sent.
        """
        if self._pid != os.getpid():
            return _nothing() if self._asynchronous else None
        seconds = 2 * self._timeout if timeout is no_default else parse_seconds(timeout)
        if self.asynchronous:
            return self._close(seconds)
        loop_thread = self._loop_thread
        if loop_thread is None:
            return None
        try:
            if self.status != "closed" and loop_thread.is_alive():
                loop_thread.run(self._close(seconds))
            if self._owns_cluster and self.cluster is not None:
                self.cluster.close(timeout=seconds)
        finally:
            self._forget()
            self._loop_thread = None
            loop_thread.release()
        return None

    async def _close(self, timeout: float | None) -> None:
        if self.status in ("closing", "closed"):
            return
        self.status = "closing"
        await self.preloads.teardown()
        self._forget()
        if self._errands:
            await asyncio.wait(self._errands, timeout=timeout)
        self._outcomes.set_end(Reason.CLIENT_CLOSED)
        self._table.cancel_all()
        self._notifier.dispatch_all()
        try:
            await self._connection.close(timeout or 0)
            if hasattr(self, "_pool"):
                await self._pool.close()
            if self._owns_cluster and self._asynchronous and self.cluster is not None:
                await self.cluster.close(timeout=timeout)
        finally:
            self.status = "closed"
            if self._callbacks is not None:
                self._callbacks.shutdown(wait=False)

    def _forget(self) -> None:
        forget_global_client(self)
        _open_clients.discard(self)

    def shutdown(self) -> Any:
        """Close the cluster that this client is connected to, and the client."""
        return self.sync(self._shutdown) if self.asynchronous else self._shutdown_blocking()

    async def _shutdown(self) -> None:
        self._check_usable()
        if self.cluster is not None:
            await self.cluster.close()
        else:
            await self._connection.call("terminate")
        await self._close(0)

    def _shutdown_blocking(self) -> None:
        self._check_usable()
        if self.cluster is not None:
            self._owns_cluster = True
        else:
            self._run(self._connection.call("terminate"))
        self.close()

    def _on_lost(self, reason: Exception | None) -> None:
        if self.status != "running":
            return
        logger.info("the scheduler at %s is gone: %s", self._connection.address, reason)
        self._outcomes.set_end(Reason.CONNECTION_LOST, None if reason is None else str(reason))
        # What is left is local: nobody waits for the goodbye of a scheduler that is gone.
        self._closing = self._loop.create_task(self._close(0))

    def _on_unknown(self, futures: list[Future]) -> None:
        for future in futures:
            self._outcomes.set_reason(
                future,
                Reason.CONNECTION_LOST.value,
                "the scheduler does not know the task any more: it was cancelled while the connection was broken",
                Reason.CONNECTION_LOST,
            )
        self._notifier.dispatch(self._table.cancel(futures))

    def __enter__(self) -> Any:
        if self._asynchronous:
            raise TypeError("this client is asynchronous: use 'async with' instead of 'with'")
        self._enter()
        return self

    def _enter(self) -> None:
        # One that is not to be the default is none in its block, either.
        self._context_tokens.append(enter_current(self) if self._set_as_default else None)

    def _leave(self) -> None:
        token = self._context_tokens.pop()
        if token is not None:
            leave_current(token)

    def __exit__(self, *exception: object) -> None:
        self._leave()
        self.close()

    async def __aenter__(self) -> Any:
        assert self._starting is not None
        await self._starting
        self._enter()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._leave()
        await self._close(2 * self._timeout)

    def __await__(self) -> Any:
        if not self._asynchronous:
            raise TypeError("this client is not asynchronous: make it with asynchronous=True to await it")
        assert self._starting is not None
        return self._starting.__await__()

    def __del__(self) -> None:
        loop_thread = getattr(self, "_loop_thread", None)
        if loop_thread is not None and self._pid == os.getpid() and self.status not in ("closing", "closed"):
            # A finaliser must not wait.
            loop_thread.call_soon(lambda: loop_thread.loop.create_task(self._close(0)))

    # -- blocking and awaitable ------------------------------------------------------------------------------

    @property
    def asynchronous(self) -> bool:
        """Whether calls are awaited: of an asynchronous client, and on the event loop of any client."""
        return self._asynchronous or (self._loop_thread is not None and self._loop_thread.is_current())

    @property
    def loop(self) -> Any:
        """The event loop that this client lives on, with the interface of tornado's IOLoop.

        `client.loop.asyncio_loop` is asyncio's.
        """
        return import_module(IO_LOOPS).io_loop(self._loop)

    def sync(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: float | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a coroutine function on the client's loop and wait; the awaitable itself where calls are so.

        Raises
        ------
        TimeoutError
            If it takes longer than `callback_timeout`.
        RuntimeError
            If an asynchronous client is asked to block, or in the child of a fork.
        """
        self._check_fork()
        if asynchronous or (asynchronous is None and self.asynchronous):
            return self._on_my_loop(func(*args, **kwargs))
        self._check_may_block()
        return self._run(func(*args, **kwargs), parse_seconds(callback_timeout))

    def _run_errand(self, func: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Have the client's loop run a coroutine function, without waiting; closing waits for it."""

        def start() -> None:
            task = self._loop.create_task(self._errand(func, *args))
            self._errands.add(task)
            task.add_done_callback(self._errands.discard)

        self._loop.call_soon_threadsafe(start)

    async def _errand(self, func: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        try:
            await self._started()
            await func(*args)
        except Exception:
            logger.exception("%s failed", func.__name__.lstrip("_"))

    def _run(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        loop_thread = self._loop_thread
        if loop_thread is None:
            coroutine.close()
            raise ClosedClientError(f"{self!r} is closed: make another Client")
        with blocking():
            return loop_thread.run(coroutine, timeout)

    async def _started(self) -> None:
        if self._starting is not None and not self._starting.done():
            await asyncio.shield(self._starting)

    def _on_my_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is None or running is self._loop:
            return coroutine if current_task.get() is None else _blocking(coroutine)
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _check_may_block(self) -> None:
        if self._asynchronous:
            raise RuntimeError(
                "an asynchronous client cannot block: leave out asynchronous=False and await the call"
            )

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(
                f"this client belongs to process {self._pid}, of which this is a fork; make another here"
            )

    def _check_usable(self) -> None:
        self._check_fork()
        if self.status in ("closing", "closed"):
            end = self._outcomes.end
            why = "before it was connected" if end is None else end.message or end.reason
            raise ClosedClientError(f"{self!r} is closed ({why}): make another Client")


async def _blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with blocking():
        return await coroutine


def open_clients() -> list[Lifecycle]:
    """The clients of this process that are not closed."""
    return [client for client in list(_open_clients) if client._pid == os.getpid()]


async def _nothing() -> None:
    return None


_exit_registered = False


def _register_exit() -> None:
    # At the first client, so that it is called before the loop and whatever was imported earlier go.
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        atexit.register(_close_at_exit)


def _close_at_exit() -> None:
    for client in list(_open_clients):
        if client._pid == os.getpid() and client._loop_thread is not None:
            try:
                client.close(timeout=EXIT_TIMEOUT)
            except Exception:
                logger.debug("closing %r at the end of the interpreter failed", client, exc_info=True)
